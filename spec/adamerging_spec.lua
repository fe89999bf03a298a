local distac = require "distac"
local raw = require "distac.raw"
local helper = require "spec.helper"
local driven = require "spec.driven_problem"
local near, same, raises = helper.near, helper.same, helper.raises
local F64, t64, encoder, problem, input, same_checkpoint =
    driven.F64, driven.t64, driven.encoder, driven.problem, driven.input, driven.same_checkpoint

describe("adamerging", function()
    -- The sum over the tasks of batches * mean entropy of base + sum lambda tau, on all images.
    local function objective(p, lambdas)
        local model = encoder(1)
        local flats = {}
        for i, tau in ipairs(p.taus) do
            flats[i] = model:with(p.base + tau):params() - p.model:params()
        end
        raw.vit_combine(model, p.model:params(), flats, lambdas)
        local sum, grads = 0, model:params() * 0
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
            for _, at in ipairs { { 1, 1 }, { 2, columns }, { 1, math.ceil(columns / 2) },
                { 2, math.ceil(columns / 3) } } do
                local function moved(h)
                    local rows = lambdas:table()
                    rows[at[1]][at[2]] = rows[at[1]][at[2]] + h
                    return (objective(p, t64(rows)))
                end
                near((moved(1e-4) - moved(-1e-4)) / 2e-4, g[at[1]][at[2]],
                    1e-6 * math.max(1, gradient:norm():item()))
            end
            assert.is_true(gradient:norm():item() > 1e-4)
        end)
    end

    it("starts where it is told and lowers the entropy", function()
        local p = problem()
        for _, kind in ipairs { "task", "layer" } do
            local op = distac.merge.adamerging { coefficients = kind, iterations = 40, lr = 2e-2, batch = 8,
                batches = 1 }
            local merged, notes = op(p.base, p.taus, input(p))
            assert.equal(40, #notes.losses)
            local first, last = 0, 0
            for k = 1, 5 do first, last = first + notes.losses[k], last + notes.losses[41 - k] end
            assert.is_true(last < first, kind)
            local l = notes.coefficients:table()
            assert.equal(kind == "task" and 1 or 32, #l[1])
            local name = "visual.proj"
            local at = 1
            for i, candidate in ipairs(p.model:names()) do at = kind == "layer" and candidate == name and i
                or at end
            near(merged:tensor(name), p.base:tensor(name) + l[1][at] * p.taus[1]:tensor(name) + l[2][at]
                * p.taus[2]:tensor(name), 1e-10)
            assert.is_true(math.abs(l[1][at] - 0.3) > 1e-3)
        end
        local start = distac.merge.adamerging { iterations = 0, init = { 0.2, 0.4 } } (p.base, p.taus, input(p))
        same_checkpoint(start, p.base + 0.2 * p.taus[1] + 0.4 * p.taus[2], 1e-12)
    end)

    it("steps as Adam does, twice the mean entropy of a batch of two", function()
        local p = problem()
        local _, notes = distac.merge.adamerging { coefficients = "task", iterations = 1, batch = 100, batches = 1,
            lr = 0.01 }(
            p.base, p.taus, input(p))
        local start, gradient = objective(p, distac.full({ 2, 1 }, 0.3, F64))
        near(notes.losses[1], start, 1e-9)
        near(notes.coefficients, 0.3 - 0.01 * gradient:sign(), 1e-6) -- the first step of Adam
        local _, twice = distac.merge.adamerging { coefficients = "task", iterations = 1, batch = 50,
            batches = 2 } (p.base, p.taus,
            input(p))
        near(twice.losses[1], 2 * start, 1e-9)
    end)

    it("clamps", function()
        local p = problem()
        local _, notes = distac.merge.adamerging { iterations = 3, init = -0.5, batch = 4 } (p.base, p.taus,
            input(p))
        near(notes.coefficients:norm():item(), 0, 0)
        _, notes = distac.merge.adamerging { iterations = 3, init = -0.5, batch = 4, clamp = "no" } (p.base,
            p.taus, input(p))
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
                kept = { tensors = {}, info = { step = info.step,
                    losses = { (table.unpack or unpack)(info.losses) } } }
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
        local taus = { t64 { 1, 2, -3, 0.5, -0.1, 4 }, t64 { -2, 1, -1.5, 0.3, 0.2, -5 },
            t64 { 0.1, -4, 2, -0.6, 0, 1 } }
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
        local ties = distac.merge.adamerging { iterations = 0, init = 1, vectors = "ties" } (p.base, p.taus,
            input(p))
        assert.is_true((ties - p.base):norm() < 0.9 * (plain - p.base):norm())
    end)
end)
