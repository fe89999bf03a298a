local distac = require "distac"
local raw = require "distac.raw"
local helper = require "spec.helper"
local driven = require "spec.driven_problem"
local near = helper.near
local F64, t64, encoder, head_of, problem, input =
    driven.F64, driven.t64, driven.encoder, driven.head_of, driven.problem, driven.input

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
        local _, notes = distac.merge.fisher { dialect = "mergelm", batch = 3, samples = 7 } (p.base, p.taus,
            input(p))
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
