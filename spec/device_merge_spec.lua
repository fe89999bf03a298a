-- Checkpoints on a device, and merges of task vectors that lie there, beside the same in host memory: the same
-- bits. Skipped, with the reason, where there is no device; the lane cuda-emulated of spec/run.sh has one.
local distac = require "distac"
local helper = require "spec.helper"
local raises = helper.raises

local function on_device(name, body)
    it(name, function()
        local why = helper.no_device()
        if why then return pending(why) end
        body()
    end)
end

-- Both have the same tensors, types and bits, one on the device.
local function agree(there, here, what)
    assert.same(here:names(), there:names())
    for _, name in ipairs(here:names()) do
        local x, y = there[name], here[name]
        assert.equal("cuda:0", x:device(), what .. " " .. name)
        assert.equal("cpu", y:device(), what .. " " .. name)
        assert.equal(y:dtype(), x:dtype(), what .. " " .. name)
        assert.is_true(x:to "cpu":equal(y), what .. " " .. name)
    end
end

local SHAPES = { tall = { 90, 7 }, wide = { 9, 64 }, one = { 1 }, vector = { 17 }, thin = { 2, 9 }, long = { 20001 },
    none = { 0, 3 } }

-- A base and `count` models of type `kind` around it. Some numbers are zero, some are the same in several models.
local function problem(count, kind, base_kind)
    local base = {}
    local function randn(shape, seed) return distac.randn(shape, { seed = seed, dtype = base_kind or "f32" }) end
    for name, shape in pairs(SHAPES) do base[name] = randn(shape, #name) end
    base.zero, base.block = distac.zeros { 12, 12 }, randn({ 8, 8 }, 77)
    base["h.0.w"], base["h.1.w"] = randn({ 33 }, 1), randn({ 33 }, 2)
    base = distac.checkpoint(base)
    local models = {}
    for t = 1, count do
        local own = {}
        for i, name in ipairs(base:names()) do
            local x = base[name]
            local change = distac.randn(x:shape(), { seed = 1000 * t + i, dtype = x:dtype() }) * (0.1 * t)
            own[name] = (name == "zero" and x or x + change):to(kind)
        end
        own.block = (base.block + (t % 2 == 0 and -0.5 or 0.5)):to(kind)
        models[t] = distac.checkpoint(own)
    end
    return base, models
end

local function all(list, f)
    local out = {}
    for i, v in ipairs(list) do out[i] = f(v) end
    return out
end
local function to_cuda(ck) return ck:to "cuda" end

describe("checkpoints on a device", function()
    on_device("go there and come back, and stay what they are", function()
        local base, models = problem(1, "f32")
        local there = base:to "cuda"
        agree(there, base, "base")
        collectgarbage() collectgarbage()
        local before = distac.context_info().memory_used
        local again = there:to "cuda"
        assert.equal(before, distac.context_info().memory_used) -- shared
        agree(again, base, "again")
        raises("EINVAL", "TaskVector to scale", function() return 2 * there end)
        local tau = models[1] - base
        agree(0.5 * tau:to "cuda", 0.5 * tau, "a task vector is still one")
        agree(tau:to "cuda":to "cpu":to "cuda", tau, "and back")
        local whole = distac.checkpoint { x = distac.ones { 3 }, steps = distac.tensor({ 1, 2 }, { dtype = "i64" }) }
        assert.equal("cuda:0", whole:to "cuda".x:device())
        assert.equal("cpu", whole:to "cuda".steps:device())
        raises("EINVAL", 'device: "gpu"', base.to, base, "gpu")
    end)

    on_device("are added up and scaled where they lie, with the host's bits, in every type", function()
        for _, kind in ipairs { "f32", "f16", "bf16", "f64" } do
            local base, models = problem(1, kind, kind == "f64" and "f64" or "f32")
            local far, model = base:to "cuda", models[1]:to "cuda"
            local tau, there = models[1] - base, model - far
            agree(there, tau, kind .. " minus")
            agree(1 / 3 * there, 1 / 3 * tau, kind .. " times")
            agree(far + there, base + tau, kind .. " plus")
            agree(there + there, tau + tau, kind .. " twice")
        end
    end)

    on_device("meet host memory in host memory", function()
        local base, models = problem(1, "f32")
        local tau = models[1]:to "cuda" - base
        assert.equal("cpu", tau.tall:device())
        assert.is_true(tau.tall:equal((models[1] - base).tall))
    end)

    on_device("are saved, told apart, measured and put into models as others are", function()
        local vit = distac.vit { image = 8, patch = 4, channels = 3, width = 32, layers = 2, heads = 2, dim = 16, seed = 1 }
        local here = vit:checkpoint()
        local there, path = here:to "cuda", os.tmpname()
        assert.equal(here:fingerprint(), there:fingerprint())
        assert.equal(here:norm(), there:norm())
        distac.save(path, there)
        agree(distac.load(path):to "cuda", here, "saved")
        distac.save(path, there, { layout = "hf", dtype = "f16" })
        assert.equal("hf", distac.load(path, { layout = "file" }):layout())
        os.remove(path)
        local other = distac.vit(there)
        assert.is_true(other:params():to "cpu":equal(vit:params():to "cpu"))
        assert.equal("cpu", other:checkpoint()[here:names()[1]]:device())
    end)
end)

describe("merges of task vectors on a device", function()
    local cases = {
        { "average" }, { "average", { weights = { 1, 2, 0.3 } } },
        { "task_arithmetic" }, { "task_arithmetic", { weights = { 1, -2, 0.3 } } },
        { "task_arithmetic", { scale = { { "tall", 0.3 } }, except = { "vector" } } },
        { "ties" }, { "ties", { keep = 0 } }, { "ties", { keep = 1 } }, { "ties", { keep = { 0.1, 0.2, 0.5 } } },
        { "ties", { dialect = "authors", keep = 0.7 } }, { "ties", { dialect = "distac" } },
        { "ties", { dialect = "distac", frozen_zeros = 100000 } }, { "ties", { dialect = "mergekit" } },
        { "ties", { elect = "count", combine = "max" } }, { "ties", { elect = "count", keep = 1 } },
        { "ties", { combine = "sum", weights = { 1, -2, 0.5 } } }, { "ties", { combine = "max", weights = { 1, -2, 0.5 } } },
        { "ties", { scale = { { "long", 0.25 } } } },
        { "consensus_ta" }, { "consensus_ta", { k = 0 } }, { "consensus_ta", { k = 3, tall = 0 } },
        { "consensus_ta", { k = 1, multitask = "ties", tall = 0.3 } },
        { "tall_mask", { task = 2 } }, { "tall_mask", { task = 3, multitask = "ties" } },
        { "lines" }, { "dare" }, { "breadcrumbs" }, { "iso_c" },
    }
    local function text(case)
        return case[1] .. " " .. distac.json.encode(case[2] or {})
    end

    on_device("give the bits of the host, whatever the method, its parameters and the types", function()
        for i, kinds in ipairs { { "f32", "f32" }, { "f64", "f64" }, { "f16", "f32" } } do
            local base, models = problem(3, kinds[1], kinds[2])
            local taus = all(models, function(m) return m - base end)
            local far, there = base:to "cuda", all(taus, to_cuda)
            for k = 1, #cases, i == 1 and 1 or 5 do
                local case = cases[k]
                local op = distac.merge[case[1]](case[2] or {})
                agree(op:delta(there), op:delta(taus), text(case) .. " " .. kinds[1])
                if k < 10 then
                    agree(op:with { lambda = 0.3 }(far, there), op:with { lambda = 0.3 }(base, taus), text(case))
                end
            end
        end
    end)

    on_device("take task vectors in several types, and one alone", function()
        local base, models = problem(2, "f32")
        local taus = all(models, function(m) return m - base end)
        local mixed = {}
        for _, name in ipairs(base:names()) do mixed[name] = taus[2][name]:to(#name % 2 == 0 and "f64" or "bf16") end
        taus[2] = distac.taskvector(distac.checkpoint(mixed))
        for _, method in ipairs { "average", "ties", "consensus_ta" } do
            local op = distac.merge[method] {}
            agree(op:delta(all(taus, to_cuda)), op:delta(taus), method)
            agree(op:delta { taus[1]:to "cuda" }, op:delta { taus[1] }, method .. " of one")
        end
    end)

    on_device("find thresholds among equal magnitudes, tiny ones and huge ones", function()
        local values = {}
        for i = 1, 3000 do values[i] = (i % 7 - 3) * 2 ^ (i % 5 == 0 and -140 or i % 3 == 0 and 120 or 0) end
        local one = distac.taskvector(distac.checkpoint { a = distac.tensor(values), b = distac.ones { 500 } })
        local two = distac.taskvector(distac.checkpoint { a = -distac.tensor(values), b = distac.ones { 500 } * 3 })
        for _, keep in ipairs { 1 / 3500, 0.05, 0.2, 0.5, 0.9, 0.999 } do
            for _, dialect in ipairs { "paper", "authors", "distac" } do
                local op = distac.merge.ties { keep = keep, dialect = dialect }
                agree(op:delta { one:to "cuda", two:to "cuda" }, op:delta { one, two }, dialect .. " " .. keep)
            end
        end
    end)

    on_device("are the same from run to run", function()
        local base, models = problem(4, "f32")
        local taus = all(models, function(m) return m:to "cuda" - base:to "cuda" end)
        for _, method in ipairs { "ties", "tsvm" } do
            local op = distac.merge[method] {}
            local first, second = op:delta(taus), op:delta(taus)
            for _, name in ipairs(base:names()) do assert.is_true(first[name]:equal(second[name]), name) end
        end
    end)

    on_device("by whole matrices stay near the host's", function()
        local base, models = problem(3, "f32")
        local taus = all(models, function(m) return m - base end)
        local op = distac.merge.tsvm {}
        local here, there = op:delta(taus), op:delta(all(taus, to_cuda))
        for _, name in ipairs(base:names()) do
            assert.equal("cuda:0", there[name]:device())
            local gap = (there[name]:to "cpu" - here[name]):norm():item()
            assert.is_true(gap <= 2e-5 * here[name]:norm():item(), name .. " " .. gap)
        end
    end)

    on_device("refuse what is not finite, and what becomes so, with the host's words", function()
        for _, method in ipairs { "average", "ties", "consensus_ta", "tsvm", "dare" } do
            local base, models = problem(3, "f32")
            local taus = all(models, function(m) return m - base end)
            taus[2]["tall"][{ 3, 4 }] = 0 / 0
            local op = distac.merge[method] {}
            local ok, here = pcall(op.delta, op, taus)
            assert.is_false(ok)
            raises("ENUMERIC", here.message, op.delta, op, all(taus, to_cuda))
            assert.truthy(here.message:find('"tall"', 1, true))
        end
        local huge = distac.taskvector(distac.checkpoint { w = distac.full({ 300 }, 3e38) })
        local op = distac.merge.task_arithmetic {}
        raises("ENUMERIC", '"w"', op.delta, op, { huge:to "cuda", huge:to "cuda" })
        raises("EINVAL", "weights sum to", function()
            distac.merge.average { weights = { 1, -1 } }:delta { huge:to "cuda", huge:to "cuda" }
        end)
        raises("ESHAPE", "do not fit", op.delta, op,
            { huge:to "cuda", distac.taskvector(distac.checkpoint { w = distac.ones { 3 } }):to "cuda" })
    end)

    on_device("lie in host memory if one of the task vectors does", function()
        local base, models = problem(2, "f32")
        local taus = all(models, function(m) return m - base end)
        local op = distac.merge.ties {}
        local mixed = op:delta { taus[1]:to "cuda", taus[2] }
        for _, name in ipairs(base:names()) do
            assert.equal("cpu", mixed[name]:device())
            assert.is_true(mixed[name]:equal(op:delta(taus)[name]))
        end
    end)

    on_device("give all memory back, and go on after there was none left", function()
        local base, models = problem(3, "f32")
        local taus = all(models, function(m) return m:to "cuda" - base:to "cuda" end)
        models = nil -- luacheck: ignore
        local op, wanted = distac.merge.ties {}, nil
        local function used()
            collectgarbage() collectgarbage()
            return distac.context_info().memory_used
        end
        wanted = op:delta(taus)
        local before = used()
        for _, method in ipairs { "average", "ties", "consensus_ta" } do distac.merge[method] {}:delta(taus) end
        assert.equal(before, used())
        distac.configure { memory = before + 100000 }
        raises("ENOMEM", "limit", op.delta, op, taus)
        distac.configure { memory = 0 }
        assert.equal(before, used())
        for _, name in ipairs(base:names()) do assert.is_true(op:delta(taus)[name]:equal(wanted[name])) end
    end)
end)
