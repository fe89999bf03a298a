-- The engine against PyTorch: forward, every gradient, ten fine-tuning steps, ten distillation steps of a tiny
-- ViT. spec/golden/make_golden.py made the files (in float64). float32 is held to 1e-5, float64 to 1e-9, relative
-- to each tensor's norm.
local distac = require "distac"

local function slurp(path)
    local all, ck = {}, distac.load(path)
    for _, name in ipairs(ck:names()) do all[name] = ck[name] end
    return all, ck:metadata()
end

-- |got - want| / |want|; NaN anywhere gives NaN, which no comparison below accepts
local function distance(got, want)
    local a, b = got:to("f64"), want:to("f64")
    local scale = b:norm():item()
    return (a - b):norm():item() / (scale > 0 and scale or 1)
end

-- The key bias has no effect on the output (softmax does not see a constant), so its gradient is rounding noise,
-- and Adam makes steps of any sign from noise: the middle third of in_proj_bias says nothing after an update.
local function without_key_bias(part)
    local rest = {}
    for name, tensor in pairs(part) do
        if name:find("in_proj_bias", 1, true) then
            local third = tensor:numel() / 3
            rest[name .. " (query)"] = tensor:narrow(1, 1, third)
            rest[name .. " (value)"] = tensor:narrow(1, 2 * third + 1, third)
        else
            rest[name] = tensor
        end
    end
    return rest
end

local function named(all, prefix)
    local part = {}
    for name, tensor in pairs(all) do
        local rest = name:match("^" .. prefix .. "%.(visual%..*)$")
        if rest then part[rest] = tensor end
    end
    return part
end

local function worst(got, want)
    local largest, where, count = 0, "nothing compared", 0
    for name, tensor in pairs(want) do
        local d = distance(got[name], tensor)
        count = count + 1
        if not (d <= largest) then largest, where = d, name end
    end
    assert.is_true(count > 10)
    return largest, where
end

local function expect(got, want, limit, what)
    local d, where = worst(got, want)
    assert(d <= limit, string.format("%s: %s is off by %.3g (limit %.3g)", what, where, d, limit))
end

for _, activation in ipairs { "gelu", "quick_gelu" } do
    for _, case in ipairs { { dtype = "f32", limit = 1e-5 }, { dtype = "f64", limit = 1e-9 } } do
        describe("PyTorch parity, " .. activation .. ", " .. case.dtype, function()
            local all, meta = slurp("spec/golden/vit_" .. activation .. ".safetensors")
            local settings = {}
            for key, text in pairs(meta) do settings[key] = tonumber(text) or text end
            local images, labels = all.images:to(case.dtype), all.labels
            local head = distac.head(all.head:to(case.dtype))
            local base = distac.checkpoint(named(all, "base"),
                { ["vit.activation"] = activation, ["vit.heads"] = meta["vit.heads"] })
            local tau = distac.checkpoint(named(all, "tau"))
            local function model() return distac.vit(base, { dtype = case.dtype }) end
            local function shifted(kappa)
                local part = {}
                for _, name in ipairs(base:names()) do part[name] = base[name] + kappa * tau[name] end
                return model():with(distac.checkpoint(part))
            end
            local function weights(m)
                local ck, part = m:checkpoint(), {}
                for _, name in ipairs(ck:names()) do part[name] = ck[name] end
                return part
            end
            local loss = distac.loss.cross_entropy { label_smoothing = settings.label_smoothing }

            it("computes features and logits", function()
                local features = model():features(images)
                assert.is_true(distance(features, all.features) <= case.limit)
                assert.is_true(distance(head:logits(features), all.logits) <= case.limit)
            end)

            it("computes every gradient", function()
                local m = model()
                local features = m:forward(images)
                local value, dlogits = loss(head:logits(features), labels)
                assert.is_true(math.abs(value - all.loss:item()) <= case.limit * all.loss:item())
                local grads = distac.zeros({ m:params():numel() }, { dtype = case.dtype })
                m:backward(head:backward(features, dlogits), grads)
                -- the flat gradient has the layout of the flat parameters: name it through a model of its own
                local holder = model()
                holder:params():copy(grads)
                expect(weights(holder), named(all, "grad"), case.limit, "gradient")
            end)

            it("takes ten fine-tuning steps", function()
                local m = model()
                local step = distac.finetune_step {
                    model = m, head = head, loss = loss,
                    optimizer = distac.adamw { lr = settings.lr, weight_decay = settings.weight_decay,
                    clip = settings.clip },
                }
                local losses, norms = all["train.losses"]:table(), all["train.grad_norms"]:table()
                for k = 0, settings.steps - 1 do
                    local lr = distac.schedule.cosine(settings.lr, k, settings.warmup, settings.steps)
                    local value, stats = step(images, labels, lr)
                    assert.is_true(math.abs(value - losses[k + 1]) <= case.limit * losses[k + 1])
                    assert.is_true(math.abs(stats.grad_norm - norms[k + 1]) <= 3 * case.limit * norms[k + 1])
                end
                expect(without_key_bias(weights(m)), without_key_bias(named(all, "train")), case.limit,
                    "weights after ten steps")
            end)

            for _, pair in ipairs { { "norm", "kappa", 10, 10 }, { "confidence", 1, 1, 10 } } do
                it("takes ten distillation steps, case " .. pair[1], function()
                    local kappa = pair[2] == "kappa" and settings.kappa or pair[2]
                    local teacher, student = shifted(1), shifted(kappa)
                    local step = distac.kd_step {
                        teacher = teacher, student = student, head = head, beta = settings.beta,
                        temperature = { teacher = pair[3], student = pair[4] },
                        optimizer = distac.adamw { lr = settings.lr, clip = settings.clip },
                    }
                    local losses = all["kd_" .. pair[1] .. ".losses"]:table()
                    -- the anchor pulls the key bias back from its noise, which the gradient's norm then sees
                    local limit = math.max(case.limit, 1e-6)
                    local largest = 0
                    for k = 1, #losses do largest = math.max(largest, losses[k]) end
                    for k = 0, settings.steps - 1 do
                        local lr = distac.schedule.cosine(settings.lr, k, settings.warmup, settings.steps)
                        local value = step(images, { lr = lr })
                        assert.is_true(math.abs(value - losses[k + 1]) <= 3 * limit * largest)
                    end
                    expect(without_key_bias(weights(student)), without_key_bias(named(all, "kd_" .. pair[1])),
                        limit, "weights after ten steps")
                end)
            end
        end)
    end
end

describe("the comparison itself", function()
    it("fails on NaN and on a wrong value", function()
        local want = distac.tensor { 1, 2, 3 }
        assert.is_false(distance(distac.tensor { 1, 0 / 0, 3 }, want) <= 1)
        assert.is_false(distance(distac.tensor { 1, 2, 3.001 }, want) <= 1e-5)
        assert.is_true(distance(distac.tensor { 1, 2, 3 }, want) <= 0)
    end)
end)
