local distac = require "distac"
local raw = require "distac.raw"
local helper = require "spec.helper"
local driven = require "spec.driven_problem"
local near, same, raises = helper.near, helper.same, helper.raises
local F64, t64, encoder, problem, input = driven.F64, driven.t64, driven.encoder, driven.problem, driven.input

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
                rows[#rows + 1] = images:narrow(1, b, 1):narrow(3, gy * c.patch + 1, c.patch):narrow(4,
                    gx * c.patch + 1,
                    c.patch):to "f64":reshape(1, c.channels * c.patch * c.patch)
            end
        end
        local patches = distac.cat(rows, 1)
        see(0, patches)
        local conv = par "conv1.weight":reshape(c.width, c.channels * c.patch * c.patch)
        local x = distac.cat({ par "class_embedding":reshape(1, c.width),
            distac.matmul(patches, conv:transpose(1, 2)) }, 1)
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
                local q, k, v = cols(qkv, h * d + 1, d), cols(qkv, c.width + h * d + 1, d),
                    cols(qkv, 2 * c.width + h * d + 1, d)
                mixed[#mixed + 1] = distac.matmul((distac.matmul(q, k:transpose(1, 2)) / math.sqrt(d)):softmax(),
                    v)
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
        near((solve(0.9, G)), { { .26708950, 1.33192389 }, { .54263566, .30232558 }, { .64763918, 1.06342495 } },
            1e-8)
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
            local mean = 0.5 * (p.taus[1]:tensor(name) + p.taus[2]:tensor(name))
            near(merged:tensor(name), p.base:tensor(name) + mean, 1e-12)
        end
    end)
end)
