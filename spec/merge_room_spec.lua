-- Methods that hold whole tensors say before they read anything that the memory limit is too small, and which one
-- would do: that one does.
local distac = require "distac"
local helper = require "spec.helper"
local tiny = require "spec.tiny"

local SHAPES = { { 300, 700 }, { 700, 300 }, { 48, 9000 } }
local NARROWER = { 48, 1200 } -- for a method whose work grows with the cube of the inputs
-- { method, parameters [, rank of the task vectors] }
local CASES = {
    { "tsvm" }, { "tsvm", { precision = "exact" } }, { "iso_c" }, { "iso_cts" }, { "knots", nil, 3 },
    { "wudi", { steps = 2 } }, { "wudi", { solve = "closed" } }, { "breadcrumbs" }, { "della" },
}

describe("too little memory", function()
    local root
    setup(function() root = tiny.folder() end)
    teardown(function()
        distac.configure { memory = 0 }
        tiny.remove(root)
    end)

    local function models_of(shape, rank)
        local list = {}
        for i = 0, 3 do
            local w = rank and distac.randn { shape[1], rank,
                seed = i }:matmul(distac.randn { rank, shape[2], seed = 9 + i })
                or distac.randn { shape[1], shape[2], seed = i }
            local path = root .. "/m" .. i .. ".safetensors"
            distac.save(path, distac.checkpoint { w = i == 0 and 0 * w or w, v = distac.randn { 1000, seed = i } })
            list[i] = distac.load(path)
        end
        return list
    end

    for _, widest in ipairs(SHAPES) do
        for _, case in ipairs(CASES) do
            local operator = distac.merge[case[1]](case[2])
            local shape = case[1] == "wudi" and widest[2] > NARROWER[2] and NARROWER or widest
            it(string.format("is told for [%d,%d] by %s", shape[1], shape[2], tostring(operator)), function()
                local models, out = models_of(shape, case[3]), root .. "/out.safetensors"
                local function merge(limit)
                    collectgarbage()
                    collectgarbage()
                    distac.configure { memory = limit }
                    local fine, err = pcall(operator.files, operator, models[0],
                        { models[1], models[2], models[3] }, out)
                    distac.configure { memory = 0 }
                    return fine, err
                end
                local fine, err = merge "17MiB"
                assert.is_false(fine)
                assert.equal("ENOMEM", err.code)
                local shape_text = string.format("[%d,%d]", shape[1], shape[2])
                for _, piece in ipairs { 'tensor "w" ' .. shape_text .. ": " .. case[1] .. " wants",
                    "limit is 17.0 MiB" } do
                    assert.truthy(err.message:find(piece, 1, true), err.message)
                end
                local least = tonumber(err.message:match(
                    "(%d+)MiB is the least that would do %(%-%-memory %1MiB%)"))
                assert.truthy(least, err.message)
                assert.is_nil(distac.fs.kind(out))
                fine, err = merge(string.format("%.0fMiB", least - 1))
                assert.is_false(fine)
                assert.truthy(err.message:find("is the least that would do", 1, true), err.message)
                distac.reset_peak()
                fine, err = merge(string.format("%.0fMiB", least))
                assert.truthy(fine, tostring(err))
                distac.fs.remove(out)
                -- The promise is not padded: most of it is held.
                assert.truthy(distac.context_info().memory_peak > 0.8 * least * 1048576 - 1048576,
                    string.format("%.1f of %.0f MiB", distac.context_info().memory_peak / 1048576, least))
            end)
        end
    end

    it("for task vectors counts the results", function()
        local taus = {}
        for i = 1, 2 do
            taus[i] = distac.taskvector(distac.checkpoint { w = distac.randn { 300, 300, seed = i } })
        end
        collectgarbage()
        distac.configure { memory = distac.context_info().memory_used + 1048576 }
        local fine, err = pcall(distac.merge.iso_c().delta, distac.merge.iso_c(), taus)
        distac.configure { memory = 0 }
        assert.is_false(fine)
        assert.truthy(err.message:find('tensor "w" [300,300]: iso_c wants', 1, true), err.message)
    end)

    it("of methods that go element by element has one size", function()
        models_of({ 3, 4 })
        for _, memory in ipairs { "3MiB", "17MiB" } do
            local status, _, err = tiny.run({ "merge", "--base", "m0.safetensors", "--method", "task_arithmetic",
                "--memory",
                memory, "-o", "plain.safetensors", "m1.safetensors", "m2.safetensors" }, root)
            assert.equal(memory == "3MiB" and 1 or 0, status, err)
            if memory == "3MiB" then
                assert.truthy(err:find("task_arithmetic wants 16.0 MiB, whatever the models; the memory limit is "
                    .. "3.0 MiB, 17MiB is the least that would do (--memory 17MiB)", 1, true), err)
                assert.is_nil(distac.fs.kind(root .. "/plain.safetensors"))
            end
        end
    end)

    it("of KnOTS is told when the rank is known", function()
        local models = models_of({ 250, 3000 })
        distac.configure { memory = "50MiB" }
        local fine, err = pcall(distac.merge.knots().files, distac.merge.knots(), models[0],
            { models[1], models[2], models[3] }, root .. "/out.safetensors")
        distac.configure { memory = 0 }
        assert.is_false(fine)
        assert.truthy(err.message:find("of rank 250, and", 1, true), err.message)
        helper.raises("ENOMEM", "knots", error, err)
    end)
end)
