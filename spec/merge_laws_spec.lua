-- Laws that hold for every merging method, over the list that the library gives, and each method against the
-- plain code in double of spec.merge_references.
local distac = require "distac"
local facts = require "spec.merge_facts"
local helper = require "spec.helper"
local references = require "spec.merge_references"
local near, raises, same = helper.near, helper.raises, helper.same

-- Shapes about the sizes in which work is cut: steps of 256 elements, pieces of 16384.
local SHAPES = {
    { "a", { 255 } }, { "b", { 33, 31 } }, { "c", {} }, { "d", { 3, 2, 5 } }, { "e", { 257 } },
    { "f", { 4, 256 } }, { "t.layers.0.w", { 16385 } }, { "t.layers.1.w", { 16383 } },
    { "t.layers.2.w", { 2, 8192 } },
}
local SMALL = { SHAPES[1], SHAPES[2], SHAPES[3], SHAPES[4], SHAPES[5],
    { "t.layers.0.w", { 7, 9 } }, { "t.layers.1.w", { 513 } } }

-- `count` task vectors. coarse: multiples of 1/64, so that magnitudes repeat, sums cancel, and 16 bits hold them.
local function vectors(shapes, count, coarse, stream)
    local rng, list = distac.rng(11, stream or 1), {}
    for t = 1, count do
        local tensors = {}
        for _, item in ipairs(shapes) do
            local n, values = 1, {}
            for _, size in ipairs(item[2]) do
                n = n * size
            end
            for i = 1, n do
                local v = rng:normal()
                values[i] = coarse and math.floor(v * 16 + 0.5) / 64 or v * (0.1 + t)
            end
            tensors[item[1]] = distac.tensor(values):reshape(item[2])
        end
        list[t] = distac.taskvector(distac.checkpoint(tensors))
    end
    return list
end

local function flat(t)
    return t:reshape { t:numel() }:table()
end

local function model_of(shapes, taus)
    local model = {}
    for e, item in ipairs(shapes) do
        local entry = { name = item[1], shape = item[2], taus = {} }
        for t, tau in ipairs(taus) do
            entry.taus[t] = flat(tau[item[1]])
        end
        model[e] = entry
    end
    return model
end

local function same_checkpoints(a, b)
    assert.same(a:names(), b:names())
    for _, name in ipairs(a:names()) do
        same(a[name], b[name])
    end
end

local FINE, COARSE = vectors(SMALL, 3), vectors(SMALL, 3, true)
local LARGE = vectors(SHAPES, 3, true, 2)

local function case_text(name, case)
    return tostring(distac.merge[name](case)):gsub("^MergeOperator ", "")
end

describe("TIES tensor by tensor", function()
    -- More elements than are looked at in memory at once: the threshold is found digit by digit.
    local N = 150000
    local function kept_of(values, keep)
        local tau = distac.taskvector(distac.checkpoint { w = distac.tensor(values) })
        return distac.merge.ties { dialect = "mergekit", keep = keep }:delta({ tau }).w:table()
    end

    local function check(values, keep)
        local order, wanted = {}, {}
        for i = 1, N do
            order[i], wanted[i] = i, 0
        end
        table.sort(order, function(a, b)
            local x, y = math.abs(values[a]), math.abs(values[b])
            return x > y or x == y and a < b
        end)
        for k = 1, math.floor(keep * N) do
            wanted[order[k]] = values[order[k]]
        end
        near(kept_of(values, keep), wanted, 1e-7)
    end

    it("keeps exactly the share of a large tensor", function()
        local rng, values = distac.rng(3, 1), {}
        for i = 1, N do
            values[i] = rng:normal()
        end
        check(values, 0.2)
        check(values, 0.999)
    end)

    it("keeps the first of equal magnitudes", function()
        local values = {}
        for i = 1, N do
            values[i] = i % 3 - 1 -- two thirds are 1 or -1
        end
        check(values, 0.5)
        check(values, 0.9)
        for i = 1, N do
            values[i] = 0.3
        end
        check(values, 0.25) -- one value fills every digit
    end)
end)

describe("every method", function()
    for _, method in ipairs(facts.methods()) do
        local name = method.name
        local fact = facts.of(name)

        if references[name] then
            for _, case in ipairs(fact.cases or { {} }) do
                it("is its reference in double: " .. case_text(name, case), function()
                    local operator = distac.merge[name](case)
                    for _, taus in ipairs { FINE, COARSE } do
                        taus = facts.some(name, taus)
                        local got = operator:delta(taus)
                        local wanted = references[name](model_of(SMALL, taus), operator:params())
                        for e, item in ipairs(SMALL) do
                            near(flat(got[item[1]]), wanted[e], 1e-6)
                        end
                    end
                end)
            end

            local shapes, all = fact.small and SMALL or SHAPES, fact.small and COARSE or LARGE
            it("is its reference about the sizes of steps and pieces: " .. name, function()
                local operator = distac.merge[name](facts.given(name))
                local taus = facts.some(name, all)
                local got = operator:delta(taus)
                local wanted = references[name](model_of(shapes, taus), operator:params())
                for e, item in ipairs(shapes) do
                    near(flat(got[item[1]]), wanted[e], 1e-6)
                end
            end)
        end

        if fact.identity then
            it("gives one model back: " .. name, function()
                local operator = distac.merge[name](fact.identity)
                for _, taus in ipairs { FINE, COARSE } do
                    local got = operator:delta { taus[2] }
                    for _, item in ipairs(SMALL) do
                        near(flat(got[item[1]]), flat(taus[2][item[1]]), 1e-6)
                    end
                end
            end)
        end

        if not fact.apart then
            it("makes nothing of zeros: " .. name, function()
                local zeros = {}
                for t, tau in ipairs(facts.some(name, FINE)) do
                    zeros[t] = 0 * tau
                end
                local got = distac.merge[name](facts.given(name)):delta(zeros)
                for _, item in ipairs(SMALL) do
                    near(got[item[1]]:abs():max():item(), 0, 0)
                end
            end)

            it("gives the same bits for any number of threads: " .. name, function()
                local operator = distac.merge[name](facts.given(name))
                -- Methods on whole matrices need no large ones: their pieces of work are columns.
                local taus, first = facts.some(name, references[name] and LARGE or FINE), nil
                for threads = 1, 4 do
                    distac.configure { threads = threads }
                    local got = operator:delta(taus)
                    first = first or got
                    same_checkpoints(got, first)
                end
                distac.configure { threads = 2 }
            end)

            it("reads every type of storage: " .. name, function()
                local operator = distac.merge[name](facts.given(name))
                local taus = facts.some(name, COARSE)
                local wanted = operator:delta(taus)
                local base = 0 * taus[1]
                for _, dtype in ipairs { "f32", "f16", "bf16" } do
                    local models, stored = {}, helper.path "laws_base.safetensors"
                    for t, tau in ipairs(taus) do
                        local path = helper.path("laws_" .. t .. ".safetensors")
                        distac.save(path, tau, { dtype = dtype })
                        models[t] = distac.load(path)
                    end
                    distac.save(stored, base, { dtype = dtype })
                    local out = helper.path "laws_out.safetensors"
                    operator:files(distac.load(stored), models, out, { dtype = "f32" })
                    same_checkpoints(distac.load(out), wanted)
                end
            end)
        end

        it("refuses what its parameters do not allow: " .. name, function()
            for _, p in ipairs(method.params) do
                if p.choices then
                    raises("EINVAL", { name, p.name, p.choices[1], "nonsense" }, distac.merge[name],
                        { [p.name] = "nonsense" })
                else
                    for _, bad in ipairs { p.min - 1, p.max * 2 + 1, 0 / 0 } do
                        raises("EINVAL", { name, p.name, "from" }, distac.merge[name], { [p.name] = bad })
                    end
                    raises("EINVAL", { name, p.name }, distac.merge[name], { [p.name] = "many" })
                end
            end
        end)
    end
end)
