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

describe("merging on a device", function()
    -- Matrices whose singular values reach from 1 down by `reach` in all, the same for one seed.
    local function matrix(m, n, seed, reach)
        local u, s, vt = distac.randn({ m, n }, { seed = seed, dtype = "f64" }):svd()
        local r, values = math.min(m, n), {}
        for i = 1, r do values[i] = reach ^ (-(i - 1) / math.max(r - 1, 1)) end
        s = distac.tensor(values, { dtype = "f64" })
        return (u * s):matmul(vt):to "f32"
    end
    local function models(reach)
        local base, taus = {}, {}
        local shapes = { tall = { 90, 70 }, wide = { 40, 64 }, square = { 66, 66 }, small = { 2, 9 } }
        for name, s in pairs(shapes) do base[name] = distac.randn(s, { seed = #name }) end
        base.vector, base.zero, base.same = distac.randn({ 17 }, { seed = 9 }), distac.zeros { 12, 12 }, distac.ones { 12, 10 }
        base = distac.checkpoint(base)
        for t = 1, 3 do
            local own = { vector = distac.randn({ 17 }, { seed = t }), zero = base.zero, same = base.same * 3 }
            for name, s in pairs(shapes) do own[name] = base[name] + matrix(s[1], s[2], 10 * t + #name, reach) end
            taus[t] = distac.checkpoint(own) - base
        end
        return base, taus
    end
    local function merged(device_name, method, reach)
        distac.configure { device = device_name }
        local base, taus = models(reach)
        return distac.merge[method] { lambda = 0.6 }(base, taus)
    end
    after_each(function() distac.configure { device = os.getenv "DISTAC_TEST_DEVICE" or "cpu" } end)

    on_device("gives what the CPU gives, whatever the spectra", function()
        for _, reach in ipairs { 3, 1e3, 1e7 } do
            local here, there = merged("cpu", "tsvm", reach), merged("cuda", "tsvm", reach)
            for _, name in ipairs(here:names()) do
                local size = here[name]:norm():item()
                local gap = (here[name] - there[name]):norm():item()
                assert.is_true(gap <= 2e-5 * size, string.format("%s, reach %g: %g of %g", name, reach, gap, size))
            end
            local again = merged("cuda", "tsvm", reach)
            for _, name in ipairs(here:names()) do assert.is_true(again[name]:equal(there[name]), name) end
        end
    end)

    on_device("gives the same bits for methods that go element by element", function()
        for _, method in ipairs { "average", "task_arithmetic", "ties", "consensus_ta" } do
            local here, there = merged("cpu", method, 10), merged("cuda", method, 10)
            for _, name in ipairs(here:names()) do assert.is_true(here[name]:equal(there[name]), method .. " " .. name) end
        end
    end)

    on_device("refuses what is not finite by name", function()
        distac.configure { device = "cuda" }
        local base, taus = models(3)
        taus[2]["tall"][{ 3, 4 }] = 0 / 0
        raises("ENUMERIC", '"tall"', function() return distac.merge.tsvm {}(base, taus) end)
    end)
end)
