-- Merging with functions of the user's own: over chunks of elements and per tensor, in memory and from file to
-- file.
local distac = require "distac"
local raw = require "distac.raw"
local helper = require "spec.helper"

local raises = helper.raises

-- A base and models of several types and shapes, on disk.
local function models(count, dtype)
    local function tensors(seed)
        return {
            big = distac.randn { 150, 101, seed = seed }:to(dtype or "f32"),
            half = distac.randn { 33, seed = seed + 1 }:to "f16",
            wide = distac.randn { 7, 3, seed = seed + 2 }:to "f64",
            none = distac.zeros { 0, 4 }, one = distac.randn { 1, seed = seed + 3 },
            count = distac.tensor({ 3, seed }, { dtype = "i64" }),
        }
    end
    local list = {}
    for i = 0, count do
        local path = helper.path("own_" .. i .. ".safetensors")
        distac.save(path, distac.checkpoint(tensors(10 * i + 1), { which = tostring(i) }))
        list[i] = distac.load(path)
    end
    return list[0], list
end

local function sum(tau, out, n)
    for i = 1, n do
        local s = 0
        for k = 1, #tau do
            s = s + tau[k][i]
        end
        out[i] = s
    end
end

local function bytes(path)
    return distac.fs.read(path)
end

describe("a user's operator", function()
    local out, other = helper.path("own_out.safetensors"), helper.path("own_other.safetensors")

    it("over chunks writes the very file that the engine's own writes", function()
        local base, list = models(3)
        local rules = { lambda = 0.3, scale = { { "big", 0.5 } }, except = "one" }
        for _, dtype in ipairs { false, "f32", "bf16" } do
            distac.merge.task_arithmetic(rules):files(base, list, other, { dtype = dtype or nil })
            for _, chunk in ipairs { 0, 1, 7, 4096, 100000 } do
                if chunk ~= 1 or not dtype then
                    local op = distac.merge.elementwise(sum,
                        { lambda = 0.3, chunk = chunk, scale = { { "big", 0.5 } }, except = "one" })
                    op:files(base, list, out, { dtype = dtype or nil })
                    assert.truthy(bytes(out) == bytes(other), tostring(dtype) .. ", chunk " .. chunk)
                end
            end
        end
        assert.equal("0", distac.load(out):metadata "which")
    end)

    it("has the same bits on any number of threads", function()
        local base, list = models(2)
        local op = distac.merge.elementwise(sum)
        op:files(base, list, out)
        local there = bytes(out)
        for _, threads in ipairs { 1, 3, 16 } do
            distac.configure { threads = threads }
            local b, l = models(2)
            distac.merge.elementwise(sum):files(b, l, out)
            assert.truthy(there == bytes(out), threads)
        end
        distac.configure { threads = 0 }
    end)

    it("over chunks gives directions in memory, with or without the base", function()
        local base, list = models(3)
        local taus = {}
        for i, m in ipairs(list) do
            taus[i] = m - base
        end
        local mine = distac.merge.elementwise(sum, { scale = { { "wide", 2 } } }):delta(taus)
        local theirs = distac.merge.task_arithmetic({ scale = { { "wide", 2 } } }):delta(taus)
        assert.equal(theirs:fingerprint(), mine:fingerprint())
        assert.equal("taskvector", distac.type(mine))
        local seen = {}
        local zero = distac.merge.elementwise(function(tau, d, n, b, where)
            seen[where.name] = math.max(seen[where.name] or 0, where.first + n - 1)
            for i = 1, n do
                d[i] = b[i] - tau[1][i] * 0
            end
        end)
        local merged = zero:delta(taus, base)
        assert.truthy((merged.big - base.big):norm():item() == 0)
        assert.same({ big = 15150, half = 33, wide = 21, one = 1 }, seen)
        local model = distac.merge.elementwise(sum, { lambda = 0 })(base, taus)
        assert.truthy((model.big - base.big):norm():item() == 0)
    end)

    it("per tensor streams from files with the shapes it has in memory", function()
        local base, list = models(3)
        local names = {}
        local op = distac.merge.custom(function(b, taus, name)
            names[#names + 1] = name
            assert.same(base:tensor(name):shape(), b:shape())
            return taus[1] + taus[2] + taus[3]
        end, { lambda = 0.25, except = "half", scale = { { "big", 0.5 } } })
        op:files(base, list, out, { dtype = "f32", metadata = { by = "me" } })
        table.sort(names)
        assert.same({ "big", "one", "wide" }, names)
        local got = distac.load(out)
        assert.equal("me", got:metadata "by")
        local taus = {}
        for i, m in ipairs(list) do
            taus[i] = m - base
        end
        local want = op(base, taus)
        for _, name in ipairs { "big", "half", "wide", "one" } do
            local far = (got:tensor(name) - want:tensor(name):to "f32"):norm():item()
            assert.truthy(far <= 1e-5, name .. " " .. far)
        end
        assert.same(base.count:table(), got.count:table())
        assert.same({ 0, 4 }, got.none:shape())
    end)

    it("over pieces of tensors writes the very file that the engine's own writes", function()
        local base, list = models(3)
        local rules = { lambda = 0.3, scale = { { "big", 0.5 } }, except = "one" }
        distac.merge.task_arithmetic(rules):files(base, list, other)
        local kept
        local function filling(b, taus, name, o)
            assert.equal("f64", b:dtype())
            assert.truthy(base:tensor(name):numel() >= o:numel() and #o:shape() == 1)
            kept = taus[1]
            local n, total = o:numel(), taus[1] + taus[2] + taus[3]
            for i = 1, n do
                o[i] = total[i]
            end
            return o
        end
        local function returning(_, taus) return taus[1] + taus[2] + taus[3] end
        for _, case in ipairs { { filling, 4096 }, { returning, 100 }, { returning, 0 } } do
            local op = distac.merge.custom(case[1], { lambda = 0.3, scale = rules.scale, except = "one",
                chunk = case[2] })
            op:files(base, list, out)
            assert.truthy(bytes(out) == bytes(other))
        end
        assert.truthy(kept:numel() > 0 and kept[1]) -- it may lie where others are now, but it lies
        local taus = {}
        for i, m in ipairs(list) do
            taus[i] = m - base
        end
        assert.equal(distac.merge.task_arithmetic {}:delta(taus):fingerprint(),
            distac.merge.custom(returning, { chunk = 1000 }):delta(taus):fingerprint())
        raises("ESHAPE", "big", function()
            local two = distac.merge.custom(function() return distac.ones { 2 } end, { chunk = 64, only = "big" })
            two:files(base, list, out)
        end)
        raises("EINVAL", { "chunk", "-1" }, distac.merge.custom, returning, { chunk = -1 })
    end)

    it("leaves the older file and nothing else when it fails", function()
        local base, list = models(2)
        distac.fs.write(out, "older")
        local folder = out:match("^(.*)/")
        local before = distac.fs.list(folder)
        local function fails(code, words, op)
            raises(code, words, function() op:files(base, list, out) end)
            assert.equal("older", bytes(out))
            assert.same(before, distac.fs.list(folder))
        end
        local count = 0
        fails("ENUMERIC", { "result for", "big", "nan" }, distac.merge.elementwise(function(_, o, n)
            for i = 1, n do o[i] = 0 / 0 end
        end, { only = "big" }))
        assert.has_error(function()
            distac.merge.elementwise(function(_, _, n)
                count = count + n
                if count > 9000 then error("enough") end
            end, { only = "big", chunk = 100 }):files(base, list, out)
        end)
        assert.equal("older", bytes(out))
        assert.same(before, distac.fs.list(folder))
        fails("ESHAPE", "big", distac.merge.custom(function() return distac.ones { 2 } end, { only = "big" }))
        fails("EINVAL", "number 3", distac.merge.custom(function() return 3 end))
        fails("ENOTFOUND", "no tensor matches", distac.merge.elementwise(sum, { only = "bgi" }))
        raises("EINVAL", "function", distac.merge.elementwise, "sum")
    end)

    it("sees no input that is not finite", function()
        local base = models(1)
        local bad = distac.checkpoint { big = base.big:clone(), half = base.half, wide = base.wide,
            none = base.none, one = base.one, count = base.count }
        bad.big[150][101] = 0 / 0
        local first = distac.merge.custom(function(_, t) return t[1] end)
        for _, op in ipairs { distac.merge.elementwise(sum), first } do
            raises("ENUMERIC", { "big", "15149" }, function() op:files(base, { bad }, out) end)
        end
    end)

    it("is asked for everything on the way through the raw binding, too", function()
        local base, list = models(1)
        local handle = raw.merge_create(distac.context(), "average")
        local stream = raw.merge_stream_files(handle, base, list, out, -1, nil, 16)
        raises("ESTATE", "no chunk", raw.merge_stream_read, stream, 0, 3)
        raises("ESTATE", "the end", raw.merge_stream_commit, stream)
        local chunk = raw.merge_stream_next(stream)
        raises("ESHAPE", "1 values for a chunk of " .. string.format("%.0f", chunk.count), raw.merge_stream_write,
            stream, { 1 })
        raises("EINVAL", "row 9", raw.merge_stream_read, stream, 9, chunk.count)
        raises("EINVAL", "row 9", raw.merge_stream_view, stream, 9)
        assert.equal(chunk.count, raw.merge_stream_view(stream, 0):numel())
        raises("ESTATE", "no tensor", raw.merge_stream_tau, stream, 0)
        raises("ESTATE", "no tensor", raw.merge_stream_put, stream, distac.ones { 1 })
        raises("ESTATE", "to a file", raw.merge_stream_result, stream)
        raw.release(stream)
        raises("EINVAL", "chunk is -2", raw.merge_stream_files, handle, base, list, out, -1, nil, -2)
        local whole = raw.merge_stream_taus(handle, { list[1] - base }, nil, -1)
        raw.merge_stream_next(whole)
        raises("ESTATE", "no result yet", raw.merge_stream_next, whole)
        raises("EINVAL", "task vector 1 of 1", raw.merge_stream_tau, whole, 1)
        raw.release(whole)
    end)
end)
