-- Merge operators as objects: the list of methods, parameters, operators of the user's own, files, rules by
-- pattern, plans.
local distac = require "distac"
local facts = require "spec.merge_facts"
local helper = require "spec.helper"
local near, raises = helper.near, helper.raises
local vectors, F3 = facts.vectors, facts.F3
local BASE = distac.checkpoint { w = distac.ones { 2, 3 } }

describe("the list of methods", function()
    it("tells names, texts and parameters", function()
        local names = {}
        for i, method in ipairs(distac.merge.methods()) do
            names[i] = method.name
            assert.is_true(#method.text > 10)
            local seen = {}
            for _, p in ipairs(method.params) do
                local known = { [p.default] = true }
                for _, word in ipairs(p.choices or {}) do
                    known[word] = false
                end
                assert.is_true(p.choices and known[p.default] == false
                    or not p.choices and p.default >= p.min and p.default <= p.max, method.name .. "." .. p.name)
                seen[p.name] = true
            end
            assert.is_true(seen.lambda, method.name .. " has a lambda")
        end
        for _, name in ipairs { "average", "task_arithmetic", "ties", "consensus_ta", "tsvm" } do
            assert.truthy((" " .. table.concat(names, " ") .. " "):find(" " .. name .. " ", 1, true), name)
        end
    end)

    it("has the defaults of the contract", function()
        local ties, consensus = distac.merge.ties {}:params(), distac.merge.consensus_ta {}:params()
        near(ties.keep, 0.2, 0)
        near(ties.lambda, 1, 0)
        near(consensus.tall, 0.4, 0)
        near(consensus.k, 2, 0)
    end)

    it("names the nearest", function()
        raises("ENOTFOUND", { "tise", 'did you mean "ties"?' }, function() return distac.merge.tise {} end)
        raises("ENOTFOUND", { "distac.merge.ties", "kep", 'did you mean "keep"?' }, distac.merge.ties,
            { kep = 0.2 })
        raises("EINVAL", { "distac.merge.ties", "keep", "from 0 to 1", "number 2" }, distac.merge.ties,
            { keep = 2 })
        raises("EINVAL", { "keep", "number" }, distac.merge.ties, { keep = "0.2" })
        raises("EINVAL", { "frozen_zeros", "a number" }, distac.merge.ties, { frozen_zeros = { 0, 3 } })
    end)
end)

describe("operators as objects", function()
    it("say what they are", function()
        local op = distac.merge.ties { keep = 0.3 }
        assert.equal("ties", op:name())
        near(op:params().keep, 0.3, 0)
        assert.truthy(tostring(op):find("keep = 0.3", 1, true))
        local other = op:with { lambda = 0.5 }
        near(other:params().keep, 0.3, 0)
        near(other:params().lambda, 0.5, 0)
        near(op:params().lambda, 1, 0)
    end)

    it("are called with a base and task vectors", function()
        local op = distac.merge.task_arithmetic {}
        raises("EINVAL", { "base", "Checkpoint" }, op, 1, F3)
        raises("EINVAL", { "base", "TaskVector" }, op, F3[1], F3)
        raises("EINVAL", { "at least one" }, op, BASE, {})
        raises("EINVAL", { "task vectors[1]", "subtract the base" }, op, BASE, { BASE })
        raises("EINVAL", { "task vectors[2]" }, op, BASE, { F3[1], 3 })
    end)

    it("refuse what is not finite, naming it", function()
        local bad = vectors { { 1, 2, 0 / 0 }, { 1, 1, 1 } }
        for _, method in ipairs(facts.methods()) do
            local taus = facts.some(method.name, { F3[1], bad[1], F3[2] })
            raises("ENUMERIC", "w", function() distac.merge[method.name](facts.given(method.name)):delta(taus) end)
        end
    end)

    it("may be the user's own", function()
        local seen = {}
        local largest = distac.merge.custom(function(base, taus, name)
            seen[#seen + 1] = name
            assert.same({ 2, 3 }, base:shape())
            local out = taus[1]
            for i = 2, #taus do
                out = out:maximum(taus[i])
            end
            return out
        end, { name = "largest", lambda = 0.5 })
        local merged = largest(BASE, F3)
        near(merged.w, { { 1.5, 2, 2 }, { 1.25, 1.1, 3 } }, 1e-6)
        assert.same({ "w" }, seen)
        assert.equal("largest", largest:name())
        raises("EINVAL", { "largest", "w", "number 3" },
            distac.merge.custom(function() return 3 end, { name = "largest" }), BASE, F3)
        raises("ESHAPE", { "[2,3]", "[1]" }, distac.merge.custom(function() return distac.ones { 1 } end), BASE,
            F3)
        raises("ENUMERIC", "w", distac.merge.custom(function(_, taus) return taus[1] / 0 end), BASE, F3)
        raises("EINVAL", "function", distac.merge.custom, "ties")
    end)

    it("merge files as they merge tensors", function()
        local function save(name, ck)
            distac.save(helper.path(name), ck)
            return distac.load(helper.path(name))
        end
        local base = save("merge_base.safetensors",
            { w = distac.ones { 2, 3 }, n = distac.tensor({ 5 }, { dtype = "i64" }) })
        local models = {}
        for i, tau in ipairs(F3) do
            models[i] = save("merge_" .. i .. ".safetensors",
                { w = tau.w + 1, n = distac.tensor({ i }, { dtype = "i64" }) })
        end
        local function taus()
            local list = {}
            for i, m in ipairs(models) do
                list[i] = m - base
            end
            return list
        end
        local ops = { distac.merge.custom(function(_, t) return t[1] + t[2] + t[3] end, { lambda = 0.5 }) }
        for _, method in ipairs(facts.methods()) do
            local given = facts.given(method.name)
            given.lambda = method.name ~= "average" and 0.5 or nil
            ops[#ops + 1] = distac.merge[method.name](given)
        end
        for _, op in ipairs(ops) do
            local path = helper.path("merged_" .. op:name() .. ".safetensors")
            op:files(base, facts.some(op:name(), models), path, { metadata = { method = op:name() } })
            local merged = distac.load(path)
            near(merged.w, op(base, facts.some(op:name(), taus())).w, 1e-6)
            assert.equal(5, merged.n:item())
            assert.equal(op:name(), merged:metadata "method")
        end
        raises("EINVAL", "path", function() ops[2]:files(base, models) end)
    end)

    it("leave out and weigh tensors by pattern", function()
        local function tau(x)
            return distac.taskvector(distac.checkpoint { ["a.w"] = distac.tensor { x, 1 },
                ["b.w"] = distac.tensor { x, x }, c = distac.tensor { 9 } })
        end
        local base = distac.checkpoint { ["a.w"] = distac.zeros { 2 }, ["b.w"] = distac.zeros { 2 },
            c = distac.tensor { 5 } }
        local taus = { tau(2), tau(4) }
        local merged = distac.merge.task_arithmetic { only = "*.w", scale = { { "b*", 0.5 } } } (base, taus)
        near(merged["a.w"], { 6, 2 }, 0)
        near(merged["b.w"], { 3, 3 }, 0)
        near(merged.c, { 5 }, 0)
        -- What is left out counts for nothing: not for the thresholds of TIES, and it may be absent.
        local ties = distac.merge.ties { keep = 0.5, except = { "c", "b.?" } }
        near(ties(base, taus)["a.w"], { 3, 0 }, 0)
        local path = helper.path "only.safetensors"
        ties:files(base, { distac.checkpoint { ["a.w"] = distac.tensor { 2, 1 } } }, path)
        near(distac.load(path)["a.w"], { 2, 0 }, 0)
        near(distac.load(path).c, { 5 }, 0)
        raises("ENOTFOUND", "no tensor matches", function()
            distac.merge.average { except = "visual.*" } (base, taus)
        end)
        raises("EINVAL", "scale[1]", function() distac.merge.average { scale = { "a" } } end)
    end)

    it("tell beforehand what they will do", function()
        local base = distac.checkpoint { w = distac.ones { 4, 4 }, b = distac.zeros { 4 } }
        local model = distac.checkpoint { w = distac.zeros { 4, 4 }, b = distac.ones { 4 } }
        local plan = distac.merge.ties { except = "b" }:plan(base, { model, model }, { dtype = "bf16" })
        assert.equal(2, plan.tensors)
        assert.equal(1, plan.merged)
        assert.equal(16, plan.elements)
        assert.equal(40, plan.output_bytes)
        assert.equal(64 * 3 + 16, plan.input_bytes)
        assert.equal(2, plan.looks)
        assert.equal(0, plan.whole)
        assert.equal("whole matrices", distac.merge.tsvm {}:plan(base, { model }).bottleneck)
        raises("ENOTFOUND", "missing", function()
            distac.merge.average {}:plan(base, { distac.checkpoint { w = distac.ones { 4, 4 } } })
        end)
    end)

    it("give the same bits from floats as they lie and from doubles, which are read into rows", function()
        for _, name in ipairs { "ties", "consensus_ta" } do
            for _, n in ipairs { 5, 256, 2051, 1100003 } do
                local as_they_lie, in_rows = {}, {}
                for t = 1, 5 do
                    local x = distac.tensor.randn({ n }, { seed = t })
                    as_they_lie[t] = distac.taskvector(distac.checkpoint { w = x })
                    in_rows[t] = distac.taskvector(distac.checkpoint { w = x:to "f64" })
                end
                local a = distac.merge[name] {}:delta(as_they_lie):tensor "w"
                local b = distac.merge[name] {}:delta(in_rows):tensor "w"
                assert.equal(0, (a - b):norm():table())
                assert.is_true(a:norm():table() > 0)
            end
            local bad = distac.taskvector(distac.checkpoint { w = distac.tensor { 1, 2, 3, 4, 5, 0 / 0, 7, 8 } })
            raises("ENUMERIC", "element 5", function() distac.merge[name] {}:delta { bad, bad } end)
        end
    end)

    it("leave no memory behind", function()
        helper.no_leak(function()
            for _, method in ipairs(facts.methods()) do
                distac.merge[method.name](facts.given(method.name))(BASE, facts.some(method.name, F3))
            end
        end)
    end)
end)
