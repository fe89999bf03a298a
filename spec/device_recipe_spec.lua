-- A whole recipe with --device cuda beside the same on the CPU. Skipped where there is no CUDA device.
local distac = require "distac"
local json = require "distac.json"
local tiny = require "spec.tiny"

local function cuda()
    for _, device in ipairs(distac.devices()) do
        if device.name:match "^cuda" then return device end
    end
end

describe("a recipe on a CUDA device", function()
    local root

    setup(function()
        if not cuda() then return end
        root = tiny.suite({ "alpha", "beta" }, 4)
        tiny.recipe(root)
    end)
    teardown(function() if root then tiny.remove(root) end end)

    local function run(device, out)
        local status, text, err = tiny.run({ "run", "tiny.lua", "--device", device, "--out", out, "--json" }, root)
        assert(status == 0, err)
        return json.decode(text)
    end

    it("gives the CPU's results, and its own again", function()
        if not cuda() then return pending "no CUDA device" end
        local cpu, there, again = run("cpu", "on_cpu"), run("cuda", "on_cuda"), run("cuda", "on_cuda_again")
        assert.equal("cuda:0", there.device)
        for task, norm in pairs(cpu.individual.norm) do
            assert(math.abs(there.individual.norm[task] - norm) <= 1e-2 * norm)
            assert.equal(there.individual.norm[task], again.individual.norm[task])
        end
        for i, merge in ipairs(cpu.merges) do
            local other = there.merges[i]
            assert.equal(merge.method, other.method)
            assert(math.abs(merge.mean_accuracy - other.mean_accuracy) <= 0.15, merge.method)
            assert.equal(other.mean_accuracy, again.merges[i].mean_accuracy)
        end
    end)
end)
