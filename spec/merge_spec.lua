-- Merge methods on small examples that were worked by hand: what each makes of given task vectors.
local distac = require "distac"
local facts = require "spec.merge_facts"
local helper = require "spec.helper"
local near, raises = helper.near, helper.raises
local vectors, F3 = facts.vectors, facts.F3
local BASE = distac.checkpoint { w = distac.ones { 2, 3 } }

local function delta(operator, taus)
    return operator:delta(taus or F3).w
end

describe("merge operators", function()
    it("have the worked norms", function()
        near(F3[1]:norm(), 5.500909, 1e-6)
        near(F3[2]:norm(), 5.690343, 1e-6)
        near(F3[3]:norm(), 4.622770, 1e-6)
    end)

    it("average", function()
        near(delta(distac.merge.average {}), { { -0.3, -1 / 3, -2.5 / 3 }, { 0.2 / 3, 0.1 / 3, 0 } }, 1e-6)
    end)

    it("add", function()
        near(delta(distac.merge.task_arithmetic {}), { { -0.9, -1, -2.5 }, { 0.2, 0.1, 0 } }, 1e-6)
        local merged = distac.merge.task_arithmetic { lambda = 0.3 } (BASE, F3)
        near(merged.w - 1, { { -0.27, -0.3, -0.75 }, { 0.06, 0.03, 0 } }, 1e-6)
        assert.equal("checkpoint", distac.type(merged))
    end)

    it("trim, elect and merge", function()
        near(delta(distac.merge.ties { keep = 0.5 }), { { -2, -4, -2.25 }, { 0, 0, -5 } }, 1e-6)
    end)

    it("trim, elect and merge in the dialects", function()
        local function ties(p)
            return delta(distac.merge.ties(p))
        end
        near(ties { keep = 0.5, combine = "sum" }, { { -2, -4, -4.5 }, { 0, 0, -5 } }, 1e-6)
        near(ties { keep = 0.5, dialect = "authors" }, { { -2, -4, -2.25 }, { -0.6, 0, -5 } }, 1e-6)
        near(ties { keep = 0.5, dialect = "authors", combine = "sum" },
            { { -2, -4, -4.5 }, { -0.6, 0, -5 } }, 1e-6)
        near(ties { keep = 0.5, dialect = "authors", combine = "max" }, { { -2, -4, -3 }, { -0.6, 0, -5 } }, 1e-6)
        near(ties { keep = 0.5, dialect = "distac" }, { { -2, -4, -2.25 }, { 0, 0, 2.5 } }, 1e-6)
        near(ties { keep = 0.25, dialect = "distac", frozen_zeros = 6 },
            { { -2, -4, -2.25 }, { 0, 0, 2.5 } }, 1e-6)
        -- one tensor only: the same scope; tied votes are positive
        near(ties { keep = 0.5, dialect = "mergekit" }, { { -2, -4, -2.25 }, { 0, 0, 2.5 } }, 1e-6)
        near(ties { keep = 0.16, dialect = "mergekit" }, { { 0, 0, 0 }, { 0, 0, 0 } }, 0) -- int(0.16 * 6) elements
        -- by count the last element has two positive votes of three
        near(ties { keep = 0.5, elect = "count" }, { { -2, -4, -2.25 }, { 0, 0, 2.5 } }, 1e-6)
        raises("EINVAL", { "frozen_zeros", "distac" }, ties, { frozen_zeros = 3 })
    end)

    it("take a dialect's name where they agree; the authors' tsvm averages text_projection", function()
        for _, dialect in ipairs { "paper", "authors", "mergekit" } do
            near(delta(distac.merge.average { dialect = dialect }), delta(distac.merge.average {}), 0)
            local sum = delta(distac.merge.task_arithmetic { dialect = dialect })
            near(sum, delta(distac.merge.task_arithmetic {}), 0)
        end
        near(delta(distac.merge.consensus_ta { dialect = "authors" }), delta(distac.merge.consensus_ta {}), 0)
        raises("EINVAL", { "dialect", "mergekit" }, distac.merge.tsvm, { dialect = "mergekit" })
        local function projections(dialect)
            local function model(x)
                local t = distac.tensor(x)
                return distac.taskvector(distac.checkpoint { ["a.text_projection"] = t, ["b.weight"] = t })
            end
            local got = distac.merge.tsvm { dialect = dialect }:delta {
                model { { 3, 0 }, { 0, 1 } }, model { { 0, 1.41421356 }, { 0, 1.41421356 } } }
            return got["a.text_projection"], got["b.weight"]
        end
        local matrix = { { 2.77163860, 0.76536686 }, { -1.14805030, 1.84775907 } }
        local text, weight = projections "paper"
        near(text, matrix, 1e-6)
        near(weight, matrix, 1e-6)
        text, weight = projections "authors"
        near(text, { { 1.5, 0.70710678 }, { 0, 1.20710678 } }, 1e-6)
        near(weight, matrix, 1e-6)
    end)

    it("mask for one task", function()
        local function masked(p)
            return delta(distac.merge.tall_mask(p))
        end
        near(masked { tall = 0.6, task = 1 }, { { 0, -1, -2.5 }, { 0.2, 0, 0 } }, 1e-6)
        near(masked { tall = 0.6, task = 2 }, { { -0.9, 0, -2.5 }, { 0.2, 0.1, 0 } }, 1e-6)
        near(masked { tall = 0.6, task = 3 }, { { 0, -1, 0 }, { 0.2, 0, 0 } }, 1e-6)
        near(masked { tall = 0.4, task = 3 }, { { 0, -1, -2.5 }, { 0.2, 0, 0 } }, 1e-6)
        near(masked { tall = 1, task = 1 }, { { 0, 0, -2.5 }, { 0.2, 0, 0 } }, 1e-6)
        near(masked { tall = 1, task = 2 }, { { -0.9, 0, -2.5 }, { 0.2, 0.1, 0 } }, 1e-6)
        raises("EINVAL", { "task is 4", "3 models" }, masked, { task = 4 })
    end)

    it("interpolate on the sphere", function()
        local function pair(name, p, a, b)
            return delta(distac.merge[name](p), vectors(a, b))
        end
        for _, c in ipairs { { "slerp", { of = "vectors" } }, { "nuslerp", {} } } do
            near(pair(c[1], c[2], { 1, 0 }, { 0, 2 }), { 0.70710678, 1.41421356 }, 1e-7)
            near(pair(c[1], c[2], { 3, 4 }, { 4, 3 }), { 3.53553391, 3.53553391 }, 1e-7)
            near(pair(c[1], c[2], { 1, 2 }, { 2, 4 }), { 1.5, 3 }, 1e-7) -- one direction: straight
        end
        near(pair("slerp", { of = "vectors", t = 0.75 }, { 1, 0 }, { 0, 1 }), { 0.38268343, 0.92387953 }, 1e-7)
        near(pair("nuslerp", { weights = { 1, 3 } }, { 1, 0 }, { 0, 1 }), { 0.38268343, 0.92387953 }, 1e-7)
        raises("EINVAL", { "slerp", "3 models", "takes 2" }, delta, distac.merge.slerp { of = "vectors" })
        raises("EINVAL", { "nuslerp", "3 models" }, delta, distac.merge.nuslerp {})
        raises("EINVAL", { "of = vectors" }, delta, distac.merge.slerp {}, vectors({ 1, 0 }, { 0, 1 }))
        -- Whole models are interpolated themselves, wherever the base lies.
        local function model(x)
            return distac.checkpoint { w = distac.tensor(x) }
        end
        local path = helper.path "slerp.safetensors"
        distac.merge.slerp {}:files(model { 5, -7 }, { model { 1, 0 }, model { 0, 2 } }, path)
        near(distac.load(path).w, { 0.70710678, 1.41421356 }, 1e-6)
        local base = model { 5, -7 }
        local taus = { model { 1, 0 } - base, model { 0, 2 } - base }
        near(distac.merge.slerp {}(base, taus).w, { 0.70710678, 1.41421356 }, 1e-6)
        near(distac.merge.slerp { scale = { { "w", 0.5 } } }(base, taus).w, { 2.85355339, -2.79289322 }, 1e-6)
        near(distac.merge.slerp { except = { "w" } }(base, taus).w, { 5, -7 }, 0)
    end)

    it("draw the mean to the base", function()
        local function stock(...)
            return delta(distac.merge.model_stock {}, vectors(...))
        end
        near(stock({ 1, 0 }, { 0.5, 0.8660254037844386 }), { 0.5, 0.28867513 }, 1e-7) -- 60 degrees: t = 2/3
        near(stock({ 1, 0 }, { 0, 3 }), { 0, 0 }, 1e-7)
        near(stock({ 1, 2 }, { 1, 2 }), { 1, 2 }, 1e-7)
        near(stock({ 1, 2 }, { -1, -2 }), { 0, 0 }, 0)
        near(stock({ 1, 1 }, { 1, 1 }, { 1, 1 }), { 1, 1 }, 1e-7)
    end)

    it("scale by depth", function()
        local tensors, names = { other = distac.ones { 2 } }, {}
        for l = 0, 11 do
            names[l] = "visual.transformer.resblocks." .. l .. ".mlp.c_fc.weight"
            tensors[names[l]] = distac.ones { 2 }
        end
        tensors["transformer.resblocks.0.w"] = distac.ones { 2 }
        tensors["transformer.resblocks.4.w"] = distac.ones { 2 }
        tensors["one.h.0.w"] = distac.ones { 1 }
        local tau = distac.taskvector(distac.checkpoint(tensors))
        local got = distac.merge.lines { a = 0.3, b = 0.5 }:delta { tau }
        for l = 0, 11 do
            near(got[names[l]], { 0.3 + 0.5 * l / 11, 0.3 + 0.5 * l / 11 }, 1e-7)
        end
        near(got[names[1]], { 0.345455, 0.345455 }, 1e-6)
        near(got["transformer.resblocks.4.w"], { 0.8, 0.8 }, 1e-7) -- a tower of its own
        near(got["one.h.0.w"], { 0.3 }, 1e-7)
        near(got.other, { 0.3, 0.3 }, 1e-7)
        near(distac.merge.lines { b = 0.5 }:delta { tau, tau }.other, { 1, 1 }, 1e-7) -- a = 1/T
        -- The same as rules, for any other method.
        local rules = distac.merge.by_depth(tau, { a = 0.3, b = 0.5 })
        local ruled = distac.merge.task_arithmetic { scale = rules }:delta { tau, tau }
        local twice = distac.merge.lines { a = 0.3, b = 0.5 }:delta { tau, tau }
        for _, name in ipairs(tau:names()) do
            helper.same(ruled[name], twice[name])
        end
        near(distac.merge.ties { keep = 1, scale = rules }:delta { tau, tau }[names[11]], { 0.8, 0.8 }, 1e-7)
        raises("EINVAL", { "a is -0.5" }, function() distac.merge.lines { a = -0.5 }:delta { tau } end)
    end)

    it("drop at random", function()
        local n, ones = 40000, distac.taskvector(distac.checkpoint { w = distac.ones { 40000 },
            v = distac.ones { 40000 } })
        local function dropped(p)
            p.rescale = "no"
            return distac.merge.dare(p):delta { ones }
        end
        for _, p in ipairs { 0.1, 0.5, 0.9 } do
            local five_sigma = 5 * math.sqrt(n * p * (1 - p))
            near(dropped { p = p }.w:sum():item(), n * (1 - p), five_sigma / (n * (1 - p)))
            near(distac.merge.dare { p = p }:delta { ones }.w:max():item(), 1 / (1 - p), 1e-6)
        end
        -- Two masks that know nothing of each other agree in half of the places.
        local function agree(a, b)
            near((a - b):abs():sum():item() / n, 0.5, 5 / math.sqrt(n))
        end
        local first = dropped { p = 0.5 }
        helper.same(first.w, dropped { p = 0.5 }.w)
        agree(first.w, first.v)
        agree(first.w, dropped { p = 0.5, seed = 1 }.w)
        local both = distac.merge.dare { p = 0.5, rescale = "no" }:delta { 0 * ones, ones }
        agree(first.w, both.w)
        -- The mask is part of the format of a recipe: it stays what it is.
        near(first.w:narrow(1, 1, 16), { 1, 0, 1, 1, 1, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1 }, 0)
    end)

    it("leave breadcrumbs", function()
        local function row(p, ...)
            return delta(distac.merge.breadcrumbs(p), vectors(...))
        end
        local r = { 1, -9, 2, -3, 4, 0.5, -6, 7, -8, 5 }
        near(row({ beta = 0.3, gamma = 0.1 }, r), { 0, 0, 0, 0, 0, 0, -6, 7, -8, 0 }, 0)
        near(row({ beta = 0.3, gamma = 0.1 }, { r, { 10, 9, 8, 7, 6, 5, 4, 3, 2, 1 } }),
            { { 0, 0, 0, 0, 0, 0, -6, 7, -8, 0 }, { 0, 9, 8, 7, 0, 0, 0, 0, 0, 0 } }, 0) -- each row by itself
        near(row({ beta = 0.5, gamma = 0 }, { 1, 1, 1, 1 }), { 1, 1, 0, 0 }, 0) -- equal ones: the first
        near(row({ beta = 1, gamma = 0.5 }, { 1, 4, 3, 2 }), { 1, 0, 0, 2 }, 0)
    end)

    it("compete", function()
        local a, b = { 0.5, -0.2, 0.1, 0.4, -0.3, 0.05, 0.25, -0.15, 0.35, -0.45 },
            { 0.3, 0.1, -0.2, 0.6, 0.15, -0.05, -0.1, 0.2, 0.45, -0.25 }
        near(delta(distac.merge.pcb { ratio = 0.3 }, vectors(a, b)),
            { 0.45, 0, 0, 0.45, 0, 0, 0, 0, 0.45, -0.45 }, 1e-6)
        near(delta(distac.merge.pcb { ratio = 0.3, clip = 0 }, vectors(a, b)),
            { 0.5, 0, 0, 0.6, 0, 0, 0, 0, 0.45, -0.45 }, 1e-6)
    end)

    it("drop by rank", function()
        local ramp = {}
        for i = 1, 40000 do
            ramp[i] = i
        end
        local della = distac.merge.della
        local kept = delta(della { density = 0.5, epsilon = 0.3, rescale = "no" }, vectors(ramp)):table()
        for quarter = 0, 3 do -- the mean probability of each quarter
            local count = 0
            for i = quarter * 10000 + 1, quarter * 10000 + 10000 do
                count = count + (kept[i] ~= 0 and 1 or 0)
            end
            near(count / 10000, 0.2 + 0.6 * (quarter + 0.5) / 4, 0.025)
        end
        raises("EINVAL", { "density 0.9", "epsilon 0.2" }, delta, della { density = 0.9, epsilon = 0.2 })
    end)

    it("weigh the models", function()
        near(delta(distac.merge.average { weights = { 1, 0, 0 } }), F3[1].w, 1e-6)
        near(delta(distac.merge.average { weights = { 2, 1, 1 } }),
            { { 0.025, 0.25, -1.375 }, { 0.175, 0, 1 } }, 1e-6)
        near(delta(distac.merge.task_arithmetic { weights = { 1, 1, 0 } }),
            { { -1, 3, -4.5 }, { 0.8, 0.1, -1 } }, 1e-6)
        raises("EINVAL", { "weights sum to 0" }, delta, distac.merge.average { weights = { 1, -1, 0 } })
    end)

    it("agree on masks", function()
        near(delta(distac.merge.consensus_ta { tall = 0.6, k = 2 }), { { 0, -1, -2.5 }, { 0.2, 0, 0 } }, 1e-6)
        near(delta(distac.merge.consensus_ta { tall = 0.6, k = 1 }), { { -0.9, -1, -2.5 }, { 0.2, 0.1, 0 } }, 1e-6)
        near(delta(distac.merge.consensus_ta { tall = 0.6, k = 3 }), { { 0, 0, 0 }, { 0.2, 0, 0 } }, 1e-6)
        -- a list has one number per model
        near(delta(distac.merge.consensus_ta { tall = { 0.4, 0.4, 0.4 }, k = 3 }),
            { { 0, -1, -2.5 }, { 0.2, 0, 0 } }, 1e-6)
        near(delta(distac.merge.consensus_ta { tall = { 0.6, 0.4, 1 }, k = 3 }),
            { { 0, -1, 0 }, { 0, 0, 0 } }, 1e-6)
        near(delta(distac.merge.consensus_ta { tall = 1, k = 2 }), { { 0, 0, -2.5 }, { 0.2, 0, 0 } }, 1e-6)
        raises("EINVAL", {}, delta, distac.merge.consensus_ta { tall = { 0.6, 0.4 }, k = 2 })
    end)

    it("decompose", function()
        local r = math.sqrt(2)
        near(delta(distac.merge.tsvm {}, vectors({ { 3, 0 }, { 0, 1 } }, { { 0, r }, { 0, r } })),
            { { 2.77163860, 0.76536686 }, { -1.14805030, 1.84775907 } }, 1e-6)
        near(delta(distac.merge.tsvm {}, vectors({ { 2, 1, 0 }, { 0, 1, 1 } }, { { 0, 1, -1 }, { 1, 0, 3 } })),
            { { 1.62850785, 1.45516602, -1.02781683 }, { 1.08008542, -0.18832331, 3.04545104 } }, 1e-6)
        near(delta(distac.merge.tsvm {}), { { 0, 0, 0 }, { 0, 0, 0 } }, 0) -- fewer rows than models
    end)

    it("work in the order of nothing", function()
        local turned = { F3[3], F3[1], F3[2] }
        for _, method in ipairs(facts.methods()) do
            if not facts.of(method.name).ordered then
                local operator = distac.merge[method.name] {}
                near(delta(operator, turned), delta(operator), 1e-6)
            end
        end
    end)
end)

describe("nuslerp between models", function()
    it("is the same in memory and from files, whatever has an angle of its own", function()
        local root = require("spec.tiny").folder()
        local names = { "base", "a", "b" }
        local ck = {}
        for i, name in ipairs(names) do
            local path = root .. "/" .. name .. ".safetensors"
            distac.save(path, distac.checkpoint { w = distac.randn { 5, 300, seed = i },
                v = distac.randn { 9, seed = 5 + i } })
            ck[name] = distac.load(path)
        end
        for _, angle in ipairs { "tensor", "row", "column" } do
            local op = distac.merge.nuslerp { of = "models", angle = angle, weights = { 1, 2 }, lambda = 0.5,
                except = "v" }
            op:files(ck.base, { ck.a, ck.b }, root .. "/out.safetensors")
            local stored, held = distac.load(root .. "/out.safetensors"),
                op(ck.base, { ck.a - ck.base, ck.b - ck.base })
            assert.truthy((stored.w - held.w):abs():max():item() <= 1e-6)
            assert.truthy((stored.w - ck.base.w):norm():item() > 1)
            assert.equal(0, (held.v - ck.base.v):norm():item())
            -- One row or column: interpolated by hand.
            local function part(t)
                return angle == "row" and t:narrow(1, 2, 1) or angle == "column" and t:narrow(2, 7, 1) or t
            end
            local x, y, b = part(ck.a.w), part(ck.b.w), part(ck.base.w)
            local c = (x * y):sum():item() / (x:norm():item() * y:norm():item())
            local theta, t = math.acos(c), 2 / 3
            local want = x * (math.sin((1 - t) * theta) / math.sin(theta))
                + y * (math.sin(t * theta) / math.sin(theta))
            assert.truthy((b + (want - b) * 0.5 - part(held.w)):abs():max():item() <= 1e-5)
        end
        require("spec.tiny").remove(root)
    end)

    it("wants models", function()
        local tau = distac.taskvector(distac.checkpoint { w = distac.randn { 3, seed = 1 } })
        raises("EINVAL", { "nuslerp: task vectors alone do not tell the models" }, function()
            distac.merge.nuslerp({ of = "models" }):delta { tau, tau }
        end)
    end)
end)
