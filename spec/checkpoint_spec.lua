local distac = require "distac"
local helper = require "spec.helper"
local near, raises = helper.near, helper.raises

local function models()
    local base = distac.checkpoint({
        ["b.weight"] = distac.tensor { { 1, 2 }, { 3, 4 } }, ["a.bias"] = distac.tensor { 0.5, -0.5 },
        count = distac.tensor({ 7 }, { dtype = "i64" }),
    }, { ["vit.heads"] = "2" })
    local model = distac.checkpoint {
        ["b.weight"] = distac.tensor { { 1.5, 2 }, { 3, 3 } }, ["a.bias"] = distac.tensor { 0.5, 1.5 },
        count = distac.tensor({ 9 }, { dtype = "i64" }),
    }
    return base, model
end

describe("Checkpoint", function()
    it("holds named tensors, sorted", function()
        local base = models()
        assert.same({ "a.bias", "b.weight", "count" }, base:names())
        assert.equal(3, #base)
        assert.is_true(base:has "count")
        assert.is_false(base:has "nothing")
        near(base["a.bias"], { 0.5, -0.5 }, 0)
        assert.same({ ["vit.heads"] = "2" }, base:metadata())
        assert.equal("2", base:metadata "vit.heads")
        assert.equal("", base:path())
        raises("ENOTFOUND", { "b.wieght", 'did you mean "b.weight"?' }, function() return base["b.wieght"] end)
        assert.truthy(tostring(base):find("3 tensors", 1, true))
    end)

    it("refuses what is no tensor", function()
        raises("EINVAL", { "distac.checkpoint", "w", "Tensor" }, distac.checkpoint, { w = 3 })
        raises("EINVAL", "name", distac.checkpoint, { distac.ones { 1 } })
        raises("EINVAL", "metadata.n", distac.checkpoint, {}, { n = {} })
    end)

    it("comes back from a file as it was", function()
        local path = helper.path "round.safetensors"
        local tensors = {}
        for _, dtype in ipairs { "f64", "f32", "f16", "bf16", "i64", "i32", "i16", "i8", "u8", "bool" } do
            tensors["t." .. dtype] = distac.tensor({ { 0, 1, 1 }, { 1, 0, 1 } }, { dtype = dtype })
        end
        tensors.scalar = distac.tensor(2.5)
        distac.save(path, tensors, { metadata = { author = "me", note = "two\nlines \"quoted\"" } })
        local ck = distac.load(path)
        assert.equal(path, ck:path())
        assert.same({ author = "me", note = "two\nlines \"quoted\"" }, ck:metadata())
        assert.equal(11, #ck:names())
        for name, t in pairs(tensors) do
            helper.same(ck[name], t)
        end
        assert.is_true(ck.scalar:readonly())
        raises("ESTATE", {}, function() ck.scalar:fill(1) end)
        raises("ESTATE", {}, function() ck.scalar = distac.ones { 1 } end)
    end)

    it("writes the same bytes for the same content", function()
        local base = models()
        distac.save(helper.path "one.safetensors", base)
        distac.save(helper.path "two.safetensors", distac.load(helper.path "one.safetensors"))
        local hash = distac.hash.file
        assert.equal(hash(helper.path "one.safetensors"), hash(helper.path "two.safetensors"))
    end)

    it("adds metadata and converts while saving", function()
        local base = models()
        local path = helper.path "half.safetensors"
        distac.save(path, base, { metadata = { seed = 3 }, dtype = "f16" })
        local ck = distac.load(path)
        assert.same({ seed = "3", ["vit.heads"] = "2" }, ck:metadata())
        assert.equal("f16", ck["a.bias"]:dtype())
        assert.equal("i64", ck.count:dtype())
        assert.is_nil(base:metadata "seed")
    end)

    it("refuses files that are none", function()
        raises("EIO", "nowhere.safetensors", distac.load, helper.path "nowhere.safetensors")
        local path = helper.path "bad.safetensors"
        distac.fs.write(path, "not a header at all")
        raises("EFORMAT", "bad.safetensors", distac.load, path)
        raises("EINVAL", { "distac.load", "path" }, distac.load, 3)
        raises("EINVAL", { "distac.save", "checkpoint" }, distac.save, path, 3)
        raises("EIO", {}, distac.save, helper.path "no/such/folder/x.safetensors", (models()))
    end)
end)

describe("TaskVector", function()
    it("is the difference of two models", function()
        local base, model = models()
        local tau = model - base
        assert.equal("taskvector", distac.type(tau))
        assert.same({ "a.bias", "b.weight" }, tau:names())
        near(tau["b.weight"], { { 0.5, 0 }, { 0, -1 } }, 0)
        near(tau:norm(), math.sqrt(0.25 + 1 + 4), 1e-12)
        local norms = tau:norms()
        near(norms["a.bias"], 2, 1e-12)
        near(norms["b.weight"], math.sqrt(1.25), 1e-12)
        near(distac.taskvector(model, base):norm(), tau:norm(), 0)
        assert.truthy(tostring(tau):find("TaskVector", 1, true))
    end)

    it("has the arithmetic of vectors", function()
        local base, model = models()
        local tau = model - base
        near((0.5 * tau)["a.bias"], { 0, 1 }, 0)
        near((tau * 2)["a.bias"], { 0, 4 }, 0)
        near((tau / 4)["a.bias"], { 0, 0.5 }, 0)
        near((-tau)["a.bias"], { 0, -2 }, 0)
        near((tau + tau)["b.weight"], { { 1, 0 }, { 0, -2 } }, 0)
        near((tau - 0.5 * tau)["a.bias"], { 0, 1 }, 0)
        assert.equal("taskvector", distac.type(tau + tau))
    end)

    it("makes a model of a base", function()
        local base, model = models()
        local tau = model - base
        local sum = base + tau
        assert.equal("checkpoint", distac.type(sum))
        near(sum["b.weight"], model["b.weight"]:table(), 0)
        assert.equal(7, sum.count:item())
        assert.equal("2", sum:metadata "vit.heads")
        near((tau + base)["a.bias"], { 0.5, 1.5 }, 0)
        near((base - tau)["a.bias"], { 0.5, -2.5 }, 0)
    end)

    it("refuses sums without meaning", function()
        local base, model = models()
        local tau = model - base
        raises("EINVAL", "two Checkpoints", function() return base + model end)
        raises("EINVAL", "TaskVector", function() return 2 * base end)
        raises("EINVAL", "base - tau", function() return tau - base end)
        raises("EINVAL", { "Checkpoint +", "number 1" }, function() return tau + 1 end)
        raises("EINVAL", "number and a TaskVector", function() return tau * tau end)
    end)

    it("tells all misfits at once", function()
        local base = models()
        local other = distac.checkpoint {
            ["b.weigth"] = distac.zeros { 2, 2 }, ["a.bias"] = distac.zeros { 3 },
        }
        local ok, err = pcall(function() return other - base end)
        assert.is_false(ok)
        assert.truthy(err.message:find("b.weigth", 1, true))
        assert.truthy(err.message:find("a.bias", 1, true))
    end)

    it("leaves no memory behind", function()
        local base, model = models()
        helper.no_leak(function()
            local tau = model - base
            return base + 0.3 * tau, tau:norms()
        end)
    end)
    it("have a fingerprint of what they hold, not of how it is stored", function()
        local a = distac.checkpoint { w = distac.tensor { 1, 2, 3 }, v = distac.zeros { 2, 2 } }
        local path = helper.path "fingerprint.safetensors"
        distac.save(path, a, { metadata = { note = "metadata does not matter" } })
        local print = a:fingerprint()
        assert.equal(32, #print)
        assert.is_nil(print:find("[^0-9a-f]"))
        assert.equal(print, distac.load(path):fingerprint())
        local others = {
            { w = distac.tensor { 1, 2, 4 }, v = distac.zeros { 2, 2 } }, { w = distac.tensor { 1, 2, 3 } },
            { x = distac.tensor { 1, 2, 3 }, v = distac.zeros { 2, 2 } },
            { w = distac.tensor { 1, 2, 3 }, v = distac.zeros { 4, 1 } },
            { w = distac.tensor({ 1, 2, 3 }, { dtype = "f64" }), v = distac.zeros { 2, 2 } },
        }
        local seen = { [print] = true }
        for _, other in ipairs(others) do
            local one = distac.checkpoint(other):fingerprint()
            assert.is_nil(seen[one])
            seen[one] = true
        end
        -- Longer than a block, on any number of threads.
        local long = distac.checkpoint { w = distac.tensor.randn({ 1000, 700 }, { seed = 5 }) }
        local one = long:fingerprint()
        distac.configure { threads = 1 }
        assert.equal(one, long:fingerprint())
        distac.configure { threads = 0 }
    end)
end)
