local distac = require "distac"
local raw = require "distac.raw"
local helper = require "spec.helper"
local near, same, raises = helper.near, helper.same, helper.raises

local F64 = { dtype = "f64" }
local function t64(rows) return distac.tensor(rows, F64) end

-- A fresh tiny encoder with every tensor nudged, so that no bias is zero.
local CONFIG = { image = 6, patch = 3, channels = 2, width = 8, layers = 2, heads = 2, mlp = 12, dim = 5,
    activation = "gelu" }
local function encoder(seed, dtype)
    local config = { seed = seed, dtype = dtype or "f64" }
    for key, value in pairs(CONFIG) do config[key] = value end
    local m = distac.vit(config)
    m:params():copy(m:params() + 0.05 * distac.randn({ m:numel() }, { seed = seed, dtype = dtype or "f64" }))
    return m
end

local function pictures(n, seed)
    return distac.dataset.tensors((100 + 60 * distac.randn({ n, 2, 6, 6 }, { seed = seed })):maximum(0):minimum(255)
        :to "u8")
end

local function head_of(classes, seed, dtype)
    return distac.head(2 * distac.randn({ classes, 5 }, { seed = seed, dtype = dtype or "f64" }))
end

-- A base, task vectors of a few models near it, and what the methods look at.
local function problem(dtype, count)
    local base = encoder(1, dtype)
    local p = { model = base, base = base:checkpoint(), taus = {}, data = {} }
    for i = 1, count or 2 do
        local other = encoder(10 + i, dtype)
        p.taus[i] = 0.3 * (other:checkpoint() - p.base)
        p.data[i] = { dataset = pictures(7 + i, 20 + i), head = head_of(2 + i, 30 + i, dtype) }
    end
    return p
end

local function input(p, more)
    local out = { data = p.data, model = p.model }
    for key, value in pairs(more or {}) do out[key] = value end
    return out
end

local function same_checkpoint(a, b, tol)
    for _, name in ipairs(b:names()) do near(a:tensor(name), b:tensor(name), tol) end
end

describe("the list of methods", function()
    it("tells which look at images", function()
        local found = {}
        for _, method in ipairs(distac.merge.methods()) do
            if method.data then found[#found + 1] = method.name end
        end
        assert.same({ "fisher", "regmean", "adamerging" }, found)
        assert.is_nil(distac.merge.methods()[1].data)
    end)

    it("is strict", function()
        raises("ENOTFOUND", { "distac.merge.fisher", "sampels", 'did you mean "samples"?' }, distac.merge.fisher,
            { sampels = 3 })
        raises("EINVAL", { "samples", "whole number" }, distac.merge.fisher, { samples = 1.5 })
        raises("EINVAL", { "images", "tset" }, distac.merge.adamerging, { images = "tset" })
        raises("EINVAL", { "share" }, distac.merge.fisher, { share = 2 })
        raises("EINVAL", { "only" }, distac.merge.fisher, { only = 3 })
    end)

    it("asks for data", function()
        local p = problem()
        local op = distac.merge.fisher {}
        raises("EINVAL", { "distac.merge.fisher", "looks at images", "data = {" }, op, p.base, p.taus)
        raises("EINVAL", { "data", "2 entries", "got 1" }, op, p.base, p.taus, { data = { p.data[1] } })
        raises("EINVAL", { "data[2]", "head is missing" }, op, p.base, p.taus,
            input(p, { data = { p.data[1], { dataset = p.data[2].dataset } } }))
        raises("EDTYPE", { "data[1]", "head", "wanted f32" }, op, p.base, p.taus, { data = p.data })
        raises("EINVAL", { "task vectors[1]" }, op, p.base, { p.base }, input(p))
        raises("ENOTFOUND", { "task vectors[1]", "visual.class_embedding", "more" }, op, p.base,
            { distac.taskvector(distac.checkpoint { w = distac.ones { 2 } }) }, input(p, { data = { p.data[1] } }))
        raises("EUNSUPPORTED", { "fisher", "recipe" }, op.files, op, p.base, {}, helper.path "never.safetensors")
    end)

    it("says what it is", function()
        local op = distac.merge.regmean { samples = 8 }
        assert.equal("regmean", op:name())
        near(op:params().off_diagonal, 0.9, 0)
        near(op:with({ off_diagonal = 0.5 }):params().samples, 8, 0)
        assert.truthy(tostring(op):find("samples = 8", 1, true))
    end)
end)

describe("laws of methods that look at images:", function()
    local small = { fisher = { samples = 5 }, regmean = { samples = 5, layers = "all" } }

    it("one model gives itself", function()
        local p = problem("f64", 1)
        for name, params in pairs(small) do
            same_checkpoint(distac.merge[name](params)(p.base, p.taus, input(p)), p.base + p.taus[1], 1e-9)
        end
        local alone = distac.merge.adamerging { iterations = 0, init = 1 } (p.base, p.taus, input(p))
        same_checkpoint(alone, p.base + p.taus[1], 1e-12)
    end)

    it("equal models give themselves", function()
        local p = problem()
        p.taus[2] = p.taus[1]
        for name, params in pairs(small) do
            same_checkpoint(distac.merge[name](params)(p.base, p.taus, input(p)), p.base + p.taus[1], 1e-9)
        end
    end)

    it("zero vectors add nothing", function()
        local p = problem()
        p.taus[1], p.taus[2] = 0 * p.taus[1], 0 * p.taus[2]
        small.adamerging = { iterations = 2, batch = 3 }
        for name, params in pairs(small) do
            same_checkpoint(distac.merge[name](params)(p.base, p.taus, input(p)), p.base, 1e-12)
        end
        small.adamerging = nil
    end)

    it("tensors outside of the encoder are averaged, rules hold", function()
        local p = problem()
        local function with(ck, value)
            local all = { extra = distac.full({ 2 }, value) }
            for _, name in ipairs(ck:names()) do all[name] = ck:tensor(name) end
            return distac.checkpoint(all, ck:metadata())
        end
        p.base = with(p.base, 1)
        for i = 1, 2 do p.taus[i] = distac.taskvector(with(p.taus[i], i)) end
        for name, params in pairs(small) do
            near(distac.merge[name](params)(p.base, p.taus, input(p)).extra, { 2.5, 2.5 }, 1e-6)
        end
        near(distac.merge.fisher { samples = 2, weights = { 3, 1 } } (p.base, p.taus, input(p)).extra, { 2.25, 2.25 },
            1e-6)
        local start = distac.merge.adamerging { iterations = 1, batch = 2, except = "*.mlp.*", scale = { { "visual.proj", 2 } } }
        local merged, notes = start(p.base, p.taus, input(p))
        near(merged.extra, { 1.9, 1.9 }, 1e-6)
        local name = "visual.transformer.resblocks.0.mlp.c_fc.weight"
        near(merged[name], p.base[name], 0)
        local at
        for i, candidate in ipairs(p.model:names()) do at = candidate == "visual.proj" and i or at end
        local l = notes.coefficients:table()
        near(merged["visual.proj"], p.base["visual.proj"] + 2 * l[1][at] * p.taus[1]["visual.proj"]
            + 2 * l[2][at] * p.taus[2]["visual.proj"], 1e-6)
        raises("ENOTFOUND", "no tensor matches", distac.merge.fisher { samples = 1, except = "nothing*" }, p.base, p.taus,
            input(p))
    end)

    it("the same bits on any number of threads, and again", function()
        local p = problem("f32")
        local ops = { distac.merge.fisher { samples = 4 }, distac.merge.regmean { samples = 6 },
            distac.merge.adamerging { iterations = 3, batch = 3 } }
        for _, op in ipairs(ops) do
            local first = op(p.base, p.taus, input(p))
            local threads = distac.context_info().threads
            raw.context_set_threads(distac.context(), 3)
            local second = op(p.base, p.taus, input(p))
            raw.context_set_threads(distac.context(), threads)
            for _, name in ipairs(first:names()) do same(first:tensor(name), second:tensor(name)) end
        end
    end)

    it("no memory stays behind", function()
        local p = problem("f32")
        helper.no_leak(function()
            distac.merge.fisher { samples = 2 } (p.base, p.taus, input(p))
            distac.merge.regmean { samples = 2 } (p.base, p.taus, input(p))
            distac.merge.adamerging { iterations = 1, batch = 2, vectors = "ties" } (p.base, p.taus, input(p))
        end)
    end)
end)

describe("fisher", function()
    it("has the worked numbers", function()
        local thetas, diagonals = { t64 { 1, 2 }, t64 { 3, 0 } }, { t64 { 4, 1 }, t64 { 1, 3 } }
        local function merged(coefficients)
            local over, under = distac.zeros({ 2 }, F64), distac.zeros({ 2 }, F64)
            for i = 1, 2 do
                raw.fisher_add(diagonals[i], 1, 1e-6, coefficients[i], thetas[i], over, under)
            end
            return over / under
        end
        near(merged { 0.5, 0.5 }, { 1.40000024, 0.50000025 }, 1e-8)
        local a, b = 1 / (math.sqrt(17) + 1e-6), 1 / (math.sqrt(10) + 1e-6)
        near(a / (a + b), 0.43405785, 1e-7)
        near(merged { a / (a + b), b / (a + b) }, { 1.49165926, 0.40720604 }, 1e-7)
    end)

    -- Sum over classes and images of p(y|x) (d log p(y|x) / d theta)^2 as it is written.
    local function reference(model, head, images)
        local sum = distac.zeros({ model:numel() }, F64)
        for i = 1, images:shape()[1] do
            local features = model:forward(images:narrow(1, i, 1))
            local p = head:logits(features):softmax()
            for y, weight in ipairs(p:table()[1]) do
                local chosen = distac.zeros(p:shape(), F64)
                raw.tensor_fill(raw.tensor_narrow(chosen, 1, y - 1, 1), 1)
                local g = model:backward(head:backward(features, chosen - p))
                sum = sum + weight * (g * g)
            end
        end
        return sum
    end

    it("is the expectation over the classes, exactly", function()
        local model, head = encoder(3), head_of(6, 4)
        local images = distac.randn({ 3, 2, 6, 6 }, { seed = 9, dtype = "f64" })
        local got = distac.zeros({ model:numel() }, F64)
        assert.equal(15, raw.fisher(model, head, images, 1, got)) -- a pass less than classes
        local want = reference(model, head, images)
        assert.is_true(want:norm():item() > 1e-3)
        near((got - want):norm():item() / want:norm():item(), 0, 1e-10)
        raw.fisher(model, head, images, 1, got) -- adds
        near((got - 2 * want):norm():item() / want:norm():item(), 0, 1e-10)
        local part = distac.zeros({ model:numel() }, F64)
        local passes = raw.fisher(model, head, images, 0.9, part)
        assert.is_true(passes < 15 and passes >= 3)
        assert.is_true((part - want):norm():item() / want:norm():item() < 0.3)
        assert.is_true(part:norm():item() < want:norm():item())
    end)

    it("is MergeLM's where asked, a gradient per batch", function()
        local p = problem("f64", 1)
        local model, head = encoder(3), head_of(6, 4)
        local images = distac.randn({ 3, 2, 6, 6 }, { seed = 9, dtype = "f64" })
        local features = model:forward(images)
        local prob = head:logits(features):softmax()
        local roots = prob ^ 0.5
        local g = model:backward(head:backward(features, roots - prob * roots:sum(2, true)))
        local got = distac.zeros({ model:numel() }, F64)
        assert.equal(1, raw.fisher(model, head, images, 0, got))
        near((got - g * g):norm():item() / (g * g):norm():item(), 0, 1e-12)
        local _, notes = distac.merge.fisher { dialect = "mergelm", batch = 3, samples = 7 } (p.base, p.taus, input(p))
        assert.equal(3, notes.passes[1])
    end)

    it("survives a certain model", function()
        local model = encoder(3)
        local sure = distac.head(1e5 * distac.randn({ 3, 5 }, { seed = 1, dtype = "f64" }))
        local got = distac.zeros({ model:numel() }, F64)
        assert.equal(0, raw.fisher(model, sure, distac.randn({ 1, 2, 6, 6 }, { seed = 9, dtype = "f64" }), 1, got))
        near(got:norm():item(), 0, 0)
    end)

    it("merges by it", function()
        local p = problem()
        local op = distac.merge.fisher { samples = 100, floor = 1e-6, weights = { 2, 1 }, normalize = "norm" }
        local merged = op(p.base, p.taus, input(p))
        local over, under = 0, 0
        for i = 1, 2 do
            local source = p.model:with(p.base + p.taus[i])
            local images = p.data[i].dataset:images():to "f64"
            local f = reference(source, p.data[i].head, images) / (7 + i)
            local c = (3 - i) / (f:norm():item() + 1e-6)
            over, under = c * (f + 1e-6) * source:params() + over, c * (f + 1e-6) + under
        end
        local want = p.model:named(over / under)
        for name, value in pairs(want) do near(merged:tensor(name), value, 1e-9) end
    end)
end)

-- What enters the linear layers for images [B,2,6,6], and the features: the definition, in plain operations.
local function inputs_of(model, images, all)
    local c, seen = model:config(), {}
    local function par(name) return model:param("visual." .. name) end
    local function norm(x, name)
        local m = x:mean(2, true)
        local d = x - m
        return d / ((d * d):mean(2, true) + 1e-5) ^ 0.5 * par(name .. ".weight") + par(name .. ".bias")
    end
    local function see(k, x) seen[k] = (seen[k] or 0) + distac.matmul(x:transpose(1, 2), x) end
    local function cols(x, first, n) return x:narrow(2, first, n) end
    local out = {}
    for b = 1, images:shape()[1] do
        local rows, grid = {}, c.image / c.patch
        for gy = 0, grid - 1 do
            for gx = 0, grid - 1 do
                rows[#rows + 1] = images:narrow(1, b, 1):narrow(3, gy * c.patch + 1, c.patch):narrow(4, gx * c.patch + 1,
                    c.patch):to "f64":reshape(1, c.channels * c.patch * c.patch)
            end
        end
        local patches = distac.cat(rows, 1)
        see(0, patches)
        local conv = par "conv1.weight":reshape(c.width, c.channels * c.patch * c.patch)
        local x = distac.cat({ par "class_embedding":reshape(1, c.width), distac.matmul(patches, conv:transpose(1, 2)) }, 1)
        x = norm(x + par "positional_embedding", "ln_pre")
        for layer = 0, c.layers - 1 do
            local name, at = "transformer.resblocks." .. layer .. ".", 1 + 4 * layer
            local function linear(y, weight, bias)
                return distac.matmul(y, par(name .. weight):transpose(1, 2)) + par(name .. bias)
            end
            local y = norm(x, name .. "ln_1")
            see(at, y)
            local qkv, mixed, d = linear(y, "attn.in_proj_weight", "attn.in_proj_bias"), {}, c.width / c.heads
            for h = 0, c.heads - 1 do
                local q, k, v = cols(qkv, h * d + 1, d), cols(qkv, c.width + h * d + 1, d), cols(qkv, 2 * c.width + h * d + 1, d)
                mixed[#mixed + 1] = distac.matmul((distac.matmul(q, k:transpose(1, 2)) / math.sqrt(d)):softmax(), v)
            end
            local joined = distac.cat(mixed, 2)
            if layer == c.layers - 1 and not all then
                joined, x = joined:narrow(1, 1, 1), x:narrow(1, 1, 1)
            end
            see(at + 1, joined)
            x = x + linear(joined, "attn.out_proj.weight", "attn.out_proj.bias")
            y = norm(x, name .. "ln_2")
            see(at + 2, y)
            local hidden = linear(y, "mlp.c_fc.weight", "mlp.c_fc.bias"):gelu()
            see(at + 3, hidden)
            x = x + linear(hidden, "mlp.c_proj.weight", "mlp.c_proj.bias")
        end
        local pooled = norm(x:narrow(1, 1, 1), "ln_post")
        see(1 + 4 * c.layers, pooled)
        out[b] = distac.matmul(pooled, par "proj")
    end
    return seen, distac.cat(out, 1)
end

describe("regmean", function()
    local G = { t64 { { 2, 1 }, { 1, 2 } }, t64 { { 1, 0 }, { 0, 3 } } }
    local W = { t64 { { 1, 0 }, { 0, 1 }, { 1, 1 } }, t64 { { 0, 2 }, { 1, 0 }, { 0, 1 } } }

    local function solve(a, grams)
        local sum, product = distac.zeros({ 2, 2 }, F64), distac.zeros({ 3, 2 }, F64)
        for i = 1, 2 do raw.regmean_add(grams[i], 1, a, W[i], sum, product) end
        return product, raw.regmean_solve(sum, W[1] + W[2], 2, product)
    end

    it("has the worked numbers", function()
        local got, epsilon = solve(1, G)
        near(got, { { .21428571, 1.35714286 }, { .57142857, .28571429 }, { .64285714, 1.07142857 } }, 1e-8)
        near(epsilon, 0, 0)
        near((solve(0.9, G)), { { .26708950, 1.33192389 }, { .54263566, .30232558 }, { .64763918, 1.06342495 } }, 1e-8)
    end)

    it("tends to the mean where there were no inputs", function()
        local nothing = distac.zeros({ 2, 2 }, F64)
        local got, epsilon = solve(1, { nothing, nothing })
        assert.is_true(epsilon > 0)
        near(got, (W[1] + W[2]) / 2, 1e-12)
        local half = t64 { { 1, 0 }, { 0, 0 } }
        got, epsilon = solve(1, { half, 3 * half })
        assert.is_true(epsilon > 0)
        near(got, { { 0.25, 1 }, { 0.75, 0.5 }, { 0.25, 1 } }, 1e-6)
        raises("ENUMERIC", "sum", solve, 1, { 0 / 0 * half, half })
    end)

    for _, all in ipairs { false, true } do
        it("sums up what enters the layers, " .. (all and "all tokens" or "tokens that are read"), function()
            local model = encoder(5)
            local images = distac.randn({ 3, 2, 6, 6 }, { seed = 2, dtype = "f64" })
            local want, features = inputs_of(model, images, all)
            near(model:features(images), features, 1e-10) -- the reference is the model
            local flag, grams, rows = all and 1 or 0, {}, {}
            assert.equal(10, tonumber(raw.vit_linear_count(model)))
            for k = 0, 9 do
                local info = raw.vit_get_linear(model, k, flag)
                grams[k + 1] = distac.zeros({ info.inputs, info.inputs }, F64)
                rows[k] = info.rows
                assert.equal(info.param, raw.vit_linear_param(model, k))
            end
            raw.vit_grams(model, images, flag, 0, grams)
            for k = 0, 9 do near(grams[k + 1], want[k], 1e-9) end
            assert.same({ 4, 5, 5, 5, 5, 5, all and 5 or 1, all and 5 or 1, all and 5 or 1, 1 },
                { rows[0], rows[1], rows[2], rows[3], rows[4], rows[5], rows[6], rows[7], rows[8], rows[9] })
            local two = { distac.zeros({ 8, 8 }, F64), distac.zeros({ 8, 8 }, F64) }
            raw.vit_grams(model, images, flag, 2, two)
            same(two[2], grams[4])
            raises("EINVAL", "layers 9 to 10", raw.vit_grams, model, images, flag, 9, two)
            raises("ESHAPE", "gram", raw.vit_grams, model, images, flag, 3, two)
        end)
    end

    it("merges by least squares", function()
        local p = problem()
        for _, memory in ipairs { 2, 0 } do -- all layers at once, and one after the other
            local op = distac.merge.regmean { samples = 100, layers = "all", memory = memory }
            local merged, notes = op(p.base, p.taus, input(p))
            assert.equal(memory == 0 and 10 or 1, notes.groups)
            local sums, products = {}, {}
            for i = 1, 2 do
                local source = p.model:with(p.base + p.taus[i])
                local ds = p.data[i].dataset
                local grams = inputs_of(source, ds:images():to "f64")
                for k = 0, 9 do
                    local info = raw.vit_get_linear(p.model, k, 0)
                    local g = grams[k] / ((7 + i) * info.rows)
                    g = 0.9 * g + 0.1 * g * distac.eye(info.inputs, F64)
                    local w = p.taus[i]:tensor(p.model:names()[info.param + 1]):to "f64"
                    w = k == 9 and w:transpose(1, 2) or w:reshape(-1, info.inputs)
                    sums[k], products[k] = g + (sums[k] or 0), distac.matmul(w:to "f64", g) + (products[k] or 0)
                end
            end
            for k = 0, 9 do
                local name = p.model:names()[raw.vit_linear_param(p.model, k) + 1]
                local d = (merged:tensor(name) - p.base:tensor(name))
                d = k == 9 and d:transpose(1, 2) or d:reshape(-1, sums[k]:shape()[1])
                near(distac.matmul(d:to "f64", sums[k]), products[k], 1e-8)
            end
            local name = "visual.transformer.resblocks.1.mlp.c_fc.bias"
            near(merged:tensor(name), p.base:tensor(name) + 0.5 * (p.taus[1]:tensor(name) + p.taus[2]:tensor(name)), 1e-12)
        end
    end)
end)

describe("adamerging", function()
    -- The sum over the tasks of batches * mean entropy of base + sum lambda tau, on all images.
    local function objective(p, lambdas)
        local model = encoder(1)
        local flats = {}
        for i, tau in ipairs(p.taus) do
            flats[i] = model:with(p.base + tau):params() - p.model:params()
        end
        raw.vit_combine(model, p.model:params(), flats, lambdas)
        local sum, grads = 0, distac.zeros({ model:numel() }, F64)
        for _, d in ipairs(p.data) do
            local f = model:forward(d.dataset:images():to "f64")
            local z = d.head:logits(f)
            local dz = z:clone()
            sum = sum + raw.loss_entropy(z, dz)
            model:backward(d.head:backward(f, dz), grads)
        end
        local out = distac.zeros(lambdas:shape(), F64)
        raw.vit_combine_gradient(model, grads, flats, out)
        return sum, out
    end

    it("has the entropy and its gradient", function()
        local z = t64 { { 2, 0.5, -1 }, { 0.1, 0.2, 3 }, { 1e4, 0, 0 } }
        local dz = distac.zeros({ 3, 3 }, F64)
        local value = raw.loss_entropy(z, dz)
        near(value, distac.metrics(z).entropy, 1e-12)
        local g = dz:table()
        for i = 1, 3 do
            for k = 1, 3 do
                local function at(h)
                    local rows = z:table()
                    rows[i][k] = rows[i][k] + h
                    return raw.loss_entropy(t64(rows), nil)
                end
                near((at(1e-5) - at(-1e-5)) / 2e-5, g[i][k], 1e-9)
            end
        end
        raises("ESHAPE", "dlogits", raw.loss_entropy, z, distac.zeros({ 3, 2 }, F64))
    end)

    for _, columns in ipairs { 1, 32 } do
        it("has the gradient of the coefficients, " .. columns .. " per task", function()
            local p = problem()
            assert.equal(32, #p.model:names())
            local lambdas = 0.3 + 0.1 * distac.randn({ 2, columns }, { seed = 7, dtype = "f64" })
            local _, gradient = objective(p, lambdas)
            local g = gradient:table()
            for _, at in ipairs { { 1, 1 }, { 2, columns }, { 1, math.ceil(columns / 2) }, { 2, math.ceil(columns / 3) } } do
                local function moved(h)
                    local rows = lambdas:table()
                    rows[at[1]][at[2]] = rows[at[1]][at[2]] + h
                    return (objective(p, t64(rows)))
                end
                near((moved(1e-4) - moved(-1e-4)) / 2e-4, g[at[1]][at[2]], 1e-6 * math.max(1, gradient:norm():item()))
            end
            assert.is_true(gradient:norm():item() > 1e-4)
        end)
    end

    it("starts where it is told and lowers the entropy", function()
        local p = problem()
        for _, kind in ipairs { "task", "layer" } do
            local op = distac.merge.adamerging { coefficients = kind, iterations = 40, lr = 2e-2, batch = 8, batches = 1 }
            local merged, notes = op(p.base, p.taus, input(p))
            assert.equal(40, #notes.losses)
            local first, last = 0, 0
            for k = 1, 5 do first, last = first + notes.losses[k], last + notes.losses[41 - k] end
            assert.is_true(last < first, kind)
            local l = notes.coefficients:table()
            assert.equal(kind == "task" and 1 or 32, #l[1])
            local name = "visual.proj"
            local at = 1
            for i, candidate in ipairs(p.model:names()) do at = kind == "layer" and candidate == name and i or at end
            near(merged:tensor(name), p.base:tensor(name) + l[1][at] * p.taus[1]:tensor(name) + l[2][at]
                * p.taus[2]:tensor(name), 1e-10)
            assert.is_true(math.abs(l[1][at] - 0.3) > 1e-3)
        end
        local start = distac.merge.adamerging { iterations = 0, init = { 0.2, 0.4 } } (p.base, p.taus, input(p))
        same_checkpoint(start, p.base + 0.2 * p.taus[1] + 0.4 * p.taus[2], 1e-12)
    end)

    it("steps as Adam does, twice the mean entropy of a batch of two", function()
        local p = problem()
        local _, notes = distac.merge.adamerging { coefficients = "task", iterations = 1, batch = 100, batches = 1, lr = 0.01 }(
            p.base, p.taus, input(p))
        local start, gradient = objective(p, distac.full({ 2, 1 }, 0.3, F64))
        near(notes.losses[1], start, 1e-9)
        near(notes.coefficients, 0.3 - 0.01 * gradient:sign(), 1e-6) -- the first step of Adam
        local _, twice = distac.merge.adamerging { coefficients = "task", iterations = 1, batch = 50, batches = 2 } (p.base, p.taus,
            input(p))
        near(twice.losses[1], 2 * start, 1e-9)
    end)

    it("clamps", function()
        local p = problem()
        local _, notes = distac.merge.adamerging { iterations = 3, init = -0.5, batch = 4 } (p.base, p.taus, input(p))
        near(notes.coefficients:norm():item(), 0, 0)
        _, notes = distac.merge.adamerging { iterations = 3, init = -0.5, batch = 4, clamp = "no" } (p.base, p.taus, input(p))
        assert.is_true(notes.coefficients:norm():item() > 1)
    end)

    it("goes on where it was interrupted, to the same bits", function()
        local p = problem("f32")
        local op = distac.merge.adamerging { iterations = 6, batch = 4 }
        local whole = op(p.base, p.taus, input(p))
        local kept
        local saved = {
            load = function()
                if kept then return kept.tensors, kept.info end
            end,
            save = function(tensors, info)
                kept = { tensors = {}, info = { step = info.step, losses = { (table.unpack or unpack)(info.losses) } } }
                for name, t in pairs(tensors) do kept.tensors[name] = t:clone() end
            end,
        }
        raises("ECANCELED", {}, op, p.base, p.taus, input(p, { saved = saved,
            progress = function(done) if done == 2 then distac.cancel() end end }))
        distac.cancel_clear()
        assert.equal(2, kept.info.step)
        local rest = op(p.base, p.taus, input(p, { saved = saved }))
        for _, name in ipairs(whole:names()) do same(whole:tensor(name), rest:tensor(name)) end
    end)

    it("takes vectors as TIES leaves them", function()
        local taus = { t64 { 1, 2, -3, 0.5, -0.1, 4 }, t64 { -2, 1, -1.5, 0.3, 0.2, -5 }, t64 { 0.1, -4, 2, -0.6, 0, 1 } }
        raw.ties_vectors(taus, 0.5)
        near(taus[1], { 0, 0, -3, 0, 0, 0 }, 0)
        near(taus[2], { -2, 0, -1.5, 0, 0, -5 }, 0)
        near(taus[3], { 0, -4, 0, 0, 0, 0 }, 0)
        local wide = {}
        for i = 1, 3 do wide[i] = distac.randn({ 5000 }, { seed = 60 + i }) end
        local vectors = {}
        for i, t in ipairs(wide) do vectors[i] = distac.taskvector(distac.checkpoint { w = t:clone() }) end
        local want = distac.merge.ties { keep = 0.3 }:delta(vectors).w
        raw.ties_vectors(wide, 0.3)
        local sum, count = 0, 0
        for _, t in ipairs(wide) do sum, count = t + sum, t:abs():gt(0) + count end
        near(sum / count:maximum(1), want, 1e-6) -- TIES itself is the mean of what is left
        raises("EINVAL", "keep", raw.ties_vectors, wide, 2)
        raises("ENUMERIC", "task vector 1", raw.ties_vectors, { wide[1], wide[2] / 0 }, 0.3)
        local p = problem()
        local plain = distac.merge.adamerging { iterations = 0, init = 1 } (p.base, p.taus, input(p))
        local ties = distac.merge.adamerging { iterations = 0, init = 1, vectors = "ties" } (p.base, p.taus, input(p))
        assert.is_true((ties - p.base):norm() < 0.9 * (plain - p.base):norm())
    end)
end)

describe("recipes and the command line", function()
    local tiny = require "spec.tiny"
    local root

    setup(function() root = tiny.suite({ "bars", "stripes" }, 8) end)
    teardown(function() tiny.remove(root) end)

    local function recipe(name, merge)
        return tiny.recipe(root, function(text)
            return (text:gsub('"tiny"', '"' .. name .. '"', 1):gsub("condition = {.-\n    },\n", "")
                :gsub("curves = 10,", ""):gsub('merge  = {.-}', function() return "merge = " .. merge end, 1))
        end)
    end

    local function results(path, more)
        local words = { "run", path, "--out", root .. "/out", "--quiet" }
        for _, word in ipairs(more or {}) do words[#words + 1] = word end
        local status, _, err = tiny.run(words, root)
        assert.equal(0, status, err)
        return distac.json.decode(tiny.read(root .. "/out/results.json"))
    end

    local METHODS = [[{ distac.merge.fisher { samples = 4 }, "regmean",
        distac.merge.adamerging { iterations = 5, batch = 4, images = "test" }, "average" }]]

    it("take the tasks' images and heads", function()
        local r = results(recipe("driven", METHODS))
        assert.equal(4, #r.merges)
        for i, name in ipairs { "fisher", "regmean", "adamerging", "average" } do
            local merge = r.merges[i]
            assert.equal(name, merge.method)
            assert.equal(1, merge.lambda)
            assert.is_true(merge.mean_accuracy > 0.3, name)
            local written = distac.load(root .. "/out/merged-" .. name .. ".safetensors")
            assert.is_true((written - distac.load(root .. "/base.safetensors")):norm() > 0.01)
        end
        assert.equal(2, #r.merges[3].coefficients)
        assert.is_true(math.abs(r.merges[3].coefficients[1] - 0.3) < 0.02)
        assert.is_nil(r.merges[1].coefficients)
    end)

    it("do nothing twice, and notice other images and other settings", function()
        local function stages()
            local n = 0
            for _, name in ipairs(distac.fs.list(root .. "/out/stages")) do
                local text = name:match "%.json$" and tiny.read(root .. "/out/stages/" .. name)
                if text and text:find('"stage": "merge"', 1, true) then n = n + 1 end
                assert.is_nil(name:match "partial")
            end
            return n
        end
        local before = stages()
        assert.equal(4, before)
        results(recipe("driven", METHODS))
        assert.equal(before, stages())
        results(recipe("driven", '{ distac.merge.fisher { samples = 4, images = "validation" } }'))
        assert.equal(before + 1, stages())
        results(recipe("driven", '{ distac.merge.adamerging { iterations = 5, batch = 4 } }')) -- train, the default
        assert.equal(before + 2, stages())
        results(recipe("driven", '{ distac.merge.adamerging { iterations = 5, batch = 4 } }'), { "--set", "seed=0" })
        assert.equal(before + 2, stages())
    end)

    it("say what is wrong before any work", function()
        local path = recipe("driven", '{ distac.merge.fisher { samples = 1.5 }, distac.merge.adamerging { images = "tset" } }')
        local status, _, err = tiny.run({ "run", path, "--out", root .. "/out" }, root)
        assert.is_true(status ~= 0)
        assert.truthy(err:find("samples", 1, true), err)
        assert.truthy(err:find("tset", 1, true), err)
    end)

    it("distac merge refuses with the way to go", function()
        local base = root .. "/base.safetensors"
        local out = root .. "/never.safetensors"
        local status, _, err = tiny.run({ "merge", "--base", base, "--method", "regmean", "-o", out, base }, root)
        assert.equal(2, status)
        assert.truthy(err:find('merge = { "regmean" }', 1, true), err)
        assert.equal(0, distac.fs.kind(out) or 0)
        local _, text = tiny.run({ "merge", "--help" }, root)
        assert.truthy(text:find("in recipes and scripts only", 1, true), text)
    end)
end)
