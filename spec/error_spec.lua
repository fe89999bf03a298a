local distac = require "distac"
local helper = require "spec.helper"
local raises = helper.raises

describe("errors", function()
    it("are objects with a code, a message and the caller's line", function()
        local err = raises("EINVAL", "distac.adamw", function() distac.adamw { learning_rate = 1 } end)
        assert.equal('distac.adamw: unknown option "learning_rate"; did you mean "lr"?', err.message)
        assert.is_true(distac.errors.is(err))
        assert.truthy(err.where:match("error_spec.lua:%d+$"), err.where)
        local here = debug.getinfo(1, "l").currentline
        local _, second = pcall(function() distac.tensor() end)
        assert.truthy(second.where:find(":" .. (here + 1), 1, true), second.where)
        assert.equal(second.where .. ": " .. second.message, tostring(second))
    end)

    it("of the core are the same objects", function()
        local err = raises("ESHAPE", {}, function() return distac.ones { 2 } + distac.ones { 3 } end)
        assert.is_true(distac.errors.is(err))
        assert.truthy(err.where:match("error_spec.lua:%d+$"), err.where)
        assert.equal(err.where .. ": " .. err.message, tostring(err))
        raises("EIO", "nowhere", distac.load, "/nowhere/at/all.safetensors")
    end)

    it("are known from other values", function()
        assert.is_false(distac.errors.is("text"))
        assert.is_false(distac.errors.is({}))
        assert.is_false(distac.errors.is(nil))
    end)

    it("name the option that was meant", function()
        local cases = {
            { distac.configure, { thread = 2 }, "threads" },
            { distac.vit, { patches = 2 }, "patch" },
            { distac.plot, { tittle = "x" }, "title" },
            { distac.finetune_step, { optimiser = 1 }, "optimizer" },
            { distac.loss.focal, { gama = 1 }, "gamma" },
            { distac.loss.kd, { temp = 1 }, "temperature" },
        }
        for _, case in ipairs(cases) do
            raises("EINVAL", string.format("did you mean %q?", case[3]), case[1], case[2])
        end
        local err = raises("EINVAL", "zzzzzz", distac.loss.focal, { zzzzzz = 1 })
        assert.is_nil(err.message:find("did you mean", 1, true))
        assert.truthy(err.message:find("gamma", 1, true))
        raises("EINVAL", "by name", distac.adamw, { 0.1 })
    end)

    it("say what came and what was wanted", function()
        raises("EINVAL", { "distac.load", "path", "a string", "nothing" }, distac.load)
        raises("EINVAL", { "seed", "not below 0", "-1" }, distac.rng, -1)
        raises("EINVAL", { "distac.rng", "seed", "whole number", "nan" }, distac.rng, 0 / 0)
        raises("EINVAL", { "Rng:below", "n", "number 0" }, function() distac.rng(1):below(0) end)
        raises("EINVAL", { "distac.configure", "kernels", "avx3", "avx2" }, distac.configure, { kernels = "avx3" })
        raises("EINVAL", { "memory", "512MB", '"lots"' }, distac.configure, { memory = "lots" })
        raises("EINVAL", { "Plot:line", "style", "dotted" }, function()
            distac.plot {}:line { x = { 1 }, y = { 1 }, style = "dotted" }
        end)
        raises("ESHAPE", { "x has 2", "y 1" }, function() distac.plot {}:line { x = { 1, 2 }, y = { 1 } } end)
    end)

    it("leave the context as it was", function()
        distac.configure { threads = 1, memory = "1GiB" }
        assert.equal(1024 ^ 3, distac.context_info().memory_limit)
        raises("ENOMEM", {}, distac.zeros, { 1024, 1024, 1024 })
        pcall(distac.configure, { threads = 2, device = "cuda:99" })
        assert.equal(1, distac.context_info().threads)
        assert.equal("cpu", distac.context_info().device)
        distac.configure { memory = 0, threads = 0 }
        assert.equal(0, distac.context_info().memory_limit)
    end)

    it("come from a cancel until it is cleared", function()
        distac.cancel()
        assert.is_true(distac.cancelled())
        distac.cancel_clear()
        assert.is_false(distac.cancelled())
        assert.equal(3, distac.ones({ 3 }):sum():item())
    end)
end)

describe("nearest", function()
    it("finds the name that was meant", function()
        local list = { "lr", "beta1", "beta2", "weight_decay", "temperature" }
        assert.equal("weight_decay", distac.nearest("wieght_decay", list))
        assert.equal("weight_decay", distac.nearest("wd", list))
        assert.equal("lr", distac.nearest("learning_rate", list))
        assert.equal("temperature", distac.nearest("temp", list))
        assert.equal("beta1", distac.nearest("beta", list))
        assert.is_nil(distac.nearest("zzzz", list))
        assert.is_nil(distac.nearest("x", {}))
        assert.is_nil(distac.nearest(3, list))
    end)
end)

describe("the small things", function()
    it("draw the same numbers from the same seed", function()
        local a, b = distac.rng(7, 1), distac.rng(7, 1)
        for _ = 1, 20 do
            local u = a:uniform()
            assert.equal(u, b:uniform())
            assert.is_true(u >= 0 and u < 1)
        end
        assert.equal(a:normal(), b:normal())
        local k = a:below(10)
        assert.is_true(k >= 0 and k < 10 and k == math.floor(k))
        assert.not_equal(distac.rng(7, 2):uniform(), distac.rng(7, 1):uniform())
    end)

    it("handle files", function()
        local path = helper.path "folder/deep"
        distac.fs.make(path)
        assert.equal("folder", distac.fs.kind(path))
        distac.fs.write(path .. "/a\1.txt", "one\0two")
        assert.equal("file", distac.fs.kind(path .. "/a\1.txt"))
        assert.equal("one\0two", distac.fs.read(path .. "/a\1.txt"))
        assert.equal(7, distac.fs.bytes(path .. "/a\1.txt"))
        assert.same({ "a\1.txt" }, distac.fs.list(path))
        assert.equal(path, distac.fs.absolute(path))
        distac.fs.remove(path .. "/a\1.txt")
        assert.is_nil(distac.fs.kind(path .. "/a\1.txt"))
        assert.is_nil(distac.fs.bytes(path))
        raises("EIO", "gone", distac.fs.read, path .. "/gone")
        raises("EIO", "gone", distac.fs.list, path .. "/gone")
    end)

    it("hash", function()
        assert.equal("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", distac.hash.text "abc")
        assert.not_equal(distac.hash.text "a", distac.hash.text "a\0")
        local path = helper.path "abc"
        distac.fs.write(path, "abc")
        assert.equal(distac.hash.text "abc", distac.hash.file(path))
    end)

    it("tell about the engine", function()
        assert.truthy(distac.version:match("^%d+%.%d+%.%d+"))
        assert.equal("cpu", distac.devices()[1].name)
        assert.is_true(distac.context_info().threads >= 1)
        local a = distac.clock()
        assert.is_true(distac.clock() >= a)
        for event in distac.events() do
            assert.equal("string", type(event.what))
        end
        assert.equal("folder", distac.fs.kind(distac.paths.recipes) or "folder")
    end)
end)
