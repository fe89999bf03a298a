local distac = require "distac"
local helper = require "spec.helper"
local near, raises = helper.near, helper.raises

describe("Model", function()
    local tiny = helper.tiny()
    local model, images, head = tiny.model, tiny.images, tiny.head

    it("reads its architecture from the tensors", function()
        assert.same({ image = 4, patch = 2, channels = 3, width = 4, layers = 2, heads = 2, mlp = 16, dim = 3,
            activation = "quick_gelu" }, model:config())
        assert.equal(588, model:numel())
        assert.equal("f64", model:dtype())
        assert.equal(32, #model:names())
        assert.truthy(tostring(model):find("588 parameters", 1, true))
    end)

    it("never guesses the activation", function()
        raises("EINVAL", "activation", distac.vit, tiny.base, { heads = 2 })
        raises("EINVAL", { "quickgelu", 'did you mean "quick_gelu"?' }, distac.vit, tiny.base,
            { activation = "quickgelu" })
    end)

    it("gives the worked features and logits", function()
        local features = model:features(images)
        near(features, { { -0.6339853634, -1.1720998794, -1.5515761754 },
            { -0.5649039328, -1.1348187449, -1.5511411636 } }, 1e-9)
        near(head:logits(features), { { -5.6255967402, 6.4180101738, -5.9790916704 },
            { -5.5174915388, 6.3845778358, -6.0267463810 } }, 1e-9)
        local gelu = helper.tiny { activation = "gelu" }
        near(head:logits(gelu.model:features(images))[1], { -5.6243640026, 6.4176580220, -5.9796876687 }, 1e-9)
        near(model:forward(images), features, 1e-14)
    end)

    it("takes images of another type", function()
        near(model:features(images:to "f32"), model:features(images), 1e-6)
        local single = distac.vit(tiny.base, { activation = "quick_gelu", heads = 2 })
        assert.equal("f32", single:dtype())
        near(single:features(images), model:features(images), 1e-5)
    end)

    local function gradient()
        local features = model:forward(images)
        local loss, dlogits = distac.loss.cross_entropy {} (head:logits(features), tiny.labels)
        return loss, model:backward(head:backward(features, dlogits))
    end

    it("gives the worked gradients", function()
        local loss, grads = gradient()
        near(loss, 6.205672538939, 1e-9)
        near(grads:norm():item(), 2.091231382492, 1e-9)
        local g = model:named(grads)
        near(g["visual.conv1.weight"]:norm():item(), 0.0119086173, 1e-9)
        near(g["visual.class_embedding"]:norm():item(), 0.7884815025, 1e-9)
        near(g["visual.proj"]:norm():item(), 1.7589062721, 1e-9)
        near(g["visual.transformer.resblocks.0.attn.in_proj_weight"]:norm():item(), 0.0302945242, 1e-9)
        near(g["visual.transformer.resblocks.1.mlp.c_fc.weight"]:norm():item(), 0.0626845642, 1e-9)
        near(g["visual.ln_post.bias"]:norm():item(), 0.0275818336, 1e-9)
        near(g["visual.transformer.resblocks.0.ln_1.weight"]:norm():item(), 0.0031184559, 1e-9)
        near(g["visual.conv1.weight"][{ 1, 1, 1, 1 }], -0.0016145809, 1e-9)
        near(g["visual.proj"][{ 1, 1 }], 0.2880644315, 1e-9)
        near(g["visual.class_embedding"][1], 0.6378449412, 1e-9)
    end)

    it("agrees with finite differences in every parameter", function()
        local _, grads = gradient()
        local params, loss = model:params(), distac.loss.cross_entropy {}
        local g = grads:table()
        local step = 1e-5
        for i = 1, #params do
            local x = params[i]
            local function at(v)
                params[i] = v
                return (loss(head:logits(model:features(images)), tiny.labels))
            end
            local slope = (at(x + step) - at(x - step)) / (2 * step)
            params[i] = x
            near(g[i], slope, 1e-6)
        end
    end)

    it("adds to a gradient that is given", function()
        local features = model:forward(images)
        local d = distac.ones({ 2, 3 }, { dtype = "f64" })
        local once = model:backward(d)
        model:forward(images)
        local twice = model:backward(d, once:clone())
        near(twice, once * 2, 1e-12)
        assert.same({ 2, 3 }, features:shape())
    end)

    it("takes other weights without changing", function()
        local before = model:params():clone()
        local tau = distac.taskvector(helper.tiny_checkpoint(0.05, 0.53, math.cos))
        near(tau:norm(), 0.857662939, 1e-8)
        local other = model:with(tiny.base + tau)
        helper.same(model:params(), before)
        near((other:params() - before):norm():item(), 0.857662939, 1e-8)
        local copy = model:clone()
        copy:params():fill(0)
        helper.same(model:params(), before)
        raises("EINVAL", { "Model:with", "TaskVector" }, function() return model:with(tau) end)
        raises("EINVAL", { "Model:with", "Checkpoint" }, function() return model:with(3) end)
    end)

    it("goes to a file and back", function()
        local path = helper.path "tiny.safetensors"
        distac.save(path, model)
        local again = distac.vit(distac.load(path), { dtype = "f64" })
        assert.same(model:config(), again:config())
        helper.same(again:params(), model:params())
        local copy = model:checkpoint()
        copy["visual.proj"]:fill(0)
        assert.is_true(model:param("visual.proj"):norm():item() > 0)
        raises("ENOTFOUND", { "visual.prj", 'did you mean "visual.proj"?' },
            function() return model:param "visual.prj" end)
    end)

    it("is made fresh from sizes", function()
        local sizes = { image = 8, patch = 4, channels = 1, width = 16, layers = 2, heads = 2, dim = 8, seed = 5 }
        local a, b = distac.vit(sizes), distac.vit(sizes)
        helper.same(a:params(), b:params())
        assert.is_false(a:params():equal(distac.vit(sizes):init(6):params()))
        assert.equal(64, a:config().mlp)
        near(a:param("visual.ln_pre.weight"), distac.ones { 16 }, 0)
        assert.is_true(a:workspace(8, true) > a:workspace(8))
        raises("EINVAL", { "distac.vit", "layer", 'did you mean "layers"?' }, distac.vit, { layer = 2 })
        raises("EINVAL", { "distac.vit", "missing" }, distac.vit, { image = 8 })
        sizes.patch = 3
        raises("EINVAL", "patch", distac.vit, sizes)
    end)

    it("computes activations again where memory is short, with the same bits", function()
        local made = distac.vit { image = 28, patch = 7, channels = 1, width = 32, layers = 4, heads = 4, dim = 8 }
        local x, d = distac.randn({ 20, 1, 28, 28 }, { seed = 2 }), distac.randn({ 20, 8 }, { seed = 3 })
        assert.is_false(made:recompute())
        local all = made:workspace(20, true)
        local features = made:forward(x)
        local grads = made:backward(d)
        assert.equal(made, made:recompute(true))
        assert.is_true(made:recompute())
        assert.is_true(made:clone():recompute())
        assert.is_true(made:workspace(20, true) < all / 2)
        helper.same(made:forward(x), features)
        helper.same(made:backward(d), grads)
        assert.is_false(made:recompute(false):recompute())
        assert.equal(all, made:workspace(20, true))
        raises("EINVAL", { "Model:recompute", "true or false", "1" }, function() made:recompute(1) end)
    end)

    it("refuses what does not fit", function()
        raises("ESHAPE", "4", function() return model:features(distac.zeros { 2, 3, 5, 5 }) end)
        raises("EINVAL", { "Model:features", "images" }, function() return model:features {} end)
        raises("ESTATE", {}, function() model:clone():backward(distac.zeros({ 2, 3 }, { dtype = "f64" })) end)
        local bad = distac.checkpoint { ["visual.proj"] = distac.zeros { 4, 3 } }
        raises("ENOTFOUND", "visual.", function() model:clone():load(bad) end)
        raises("EINVAL", { "distac.head", "weight" }, distac.head, 3)
        raises("EINVAL", "normalise", distac.head, distac.ones { 2, 3 }, { normalise = false })
    end)

    it("leaves no memory behind", function()
        helper.no_leak(function()
            local m = model:clone()
            local f = m:forward(images)
            return m:backward(f)
        end)
    end)
end)

describe("Head", function()
    it("normalises features, or not", function()
        local w = distac.tensor({ { 2, 0 }, { 0, 1 } }, { dtype = "f64" })
        local f = distac.tensor({ { 3, 4 } }, { dtype = "f64" })
        near(distac.head(w):logits(f), { { 1.2, 0.8 } }, 1e-15)
        near(distac.head(w, { normalize = false }):logits(f), { { 6, 4 } }, 1e-15)
        assert.equal(2, distac.head(w):classes())
    end)

    it("has gradients that agree with finite differences", function()
        local w = distac.randn({ 4, 3 }, { seed = 1, dtype = "f64" })
        local f = distac.randn({ 2, 3 }, { seed = 2, dtype = "f64" })
        local d = distac.randn({ 2, 4 }, { seed = 3, dtype = "f64" })
        for _, normalize in ipairs { true, false } do
            local dw = distac.zeros({ 4, 3 }, { dtype = "f64" })
            local df = distac.head(w, { normalize = normalize }):backward(f, d, dw)
            local function value(weight, features)
                return (distac.head(weight, { normalize = normalize }):logits(features) * d):sum():item()
            end
            local function slope(t, i, j, f_of)
                local up, down = t:clone(), t:clone()
                up[{ i, j }], down[{ i, j }] = t[{ i, j }] + 1e-6, t[{ i, j }] - 1e-6
                return (f_of(up) - f_of(down)) / 2e-6
            end
            for j = 1, 3 do
                for i = 1, 2 do
                    near(df[{ i, j }], slope(f, i, j, function(x) return value(w, x) end), 1e-7)
                end
                for i = 1, 4 do
                    near(dw[{ i, j }], slope(w, i, j, function(x) return value(x, f) end), 1e-7)
                end
            end
        end
    end)
end)
