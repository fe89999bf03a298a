-- What a merged file says of itself: the record, inspect, and the merge made again from it.
local distac = require "distac"
local json = require "distac.json"
local provenance = require "distac.provenance"
local tiny = require "spec.tiny"

local root

local function run(...) return tiny.run({ ... }, root) end

local function model(name, seed, metadata)
    distac.save(root .. "/" .. name, distac.checkpoint({
        matrix = distac.randn { 6, 5, seed = seed }, vector = distac.randn { 7, seed = seed + 1 },
        count = distac.tensor({ 3, 4 }, { dtype = "i64" }),
    }, metadata))
end

local BASE, A, B = "base.safetensors", "a.safetensors", "b.safetensors"

local function has(text, ...)
    for _, piece in ipairs { ... } do
        assert.truthy(text:find(piece, 1, true), text .. " lacks " .. piece)
    end
end

describe("provenance", function()
    setup(function()
        root = tiny.folder()
        distac.fs.make(root .. "/there")
        model(BASE, 1, { author = "us", ["distac.stage"] = "of another merge" })
        model(A, 3)
        model(B, 5)
    end)
    teardown(function() tiny.remove(root) end)

    local function merge(out, ...)
        local words = { "merge", "--force", "--base", BASE, "-o", out, ... }
        words[#words + 1], words[#words + 2] = A, B
        local status, _, err = run((table.unpack or unpack)(words))
        assert.equal(0, status, err)
    end

    it("stands in the output: method, all parameters, inputs with fingerprints", function()
        merge("m.safetensors", "--method", "ties", "--keep", "0.5", "--scale", "mat*=0.5", "--except", "vector",
            "--dtype", "f16", "--seed", "7")
        local metadata = distac.load(root .. "/m.safetensors"):metadata()
        assert.equal("us", metadata.author)
        assert.is_nil(metadata["distac.stage"])
        local record = assert(provenance.read(metadata))
        assert.equal("ties", record.method)
        assert.equal(0.5, record.params.keep)
        assert.is_number(record.params.lambda)
        assert.same({ "vector" }, record.params.except)
        assert.same({ { "mat*", 0.5 } }, record.params.scale)
        assert.equal("f16", record.dtype)
        assert.equal(7, record.seed)
        assert.equal(distac.version, record.engine)
        assert.equal(BASE, record.base.path)
        assert.equal(distac.load(root .. "/" .. BASE):fingerprint(), record.base.fingerprint)
        assert.equal(distac.load(root .. "/" .. B):fingerprint(), record.models[2].fingerprint)
    end)

    it("has the fingerprints of files that are larger than what a merge reads at once", function()
        for i, name in ipairs { "w-base.safetensors", "w-a.safetensors", "w-b.safetensors" } do
            distac.save(root .. "/" .. name, distac.checkpoint {
                left = distac.randn({ 530, 1000 }, { seed = i }), bias = distac.randn({ 1000 }, { seed = i + 3 }),
                half = distac.randn({ 611, 997 }, { seed = i + 6 }):to "bf16",
                more = distac.randn({ i == 1 and 3 or 5 }, { seed = 1 }):to "i64", -- the merge does not look at it
            })
        end
        local want = {}
        for i, name in ipairs { "w-base", "w-a", "w-b" } do
            want[i] = distac.load(root .. "/" .. name .. ".safetensors"):fingerprint()
        end
        for _, words in ipairs { { "average", "--threads", "1" }, { "average", "--except", "left" },
            { "ties", "--threads", "3" }, { "tsvm" }, { "model_stock", "--shard", "1MB" } } do
            local all = { "merge", "--force", "--base", "w-base.safetensors", "-o", "w", "w-a.safetensors",
                "w-b.safetensors", "--method" }
            for _, word in ipairs(words) do all[#all + 1] = word end
            local status, _, err = run((table.unpack or unpack)(all))
            assert.equal(0, status, err)
            local record = assert(provenance.read(distac.load(root .. "/w"):metadata()))
            assert.same(want, { record.base.fingerprint, record.models[1].fingerprint,
                record.models[2].fingerprint })
            tiny.remove(root .. "/w")
        end
    end)

    it("is shown by inspect", function()
        merge("m.safetensors", "--method", "ties", "--keep", "0.5", "--scale", "mat*=0.5")
        local status, out, err = run("inspect", "m.safetensors")
        assert.equal(0, status, err)
        has(out, "merged by ties of 2 models", "keep         0.5", "scale        mat*=0.5",
            distac.load(root .. "/" .. BASE):fingerprint() .. "  " .. BASE,
            "model 2      " .. distac.load(root .. "/" .. B):fingerprint() .. "  " .. B, "author = us",
            "fingerprint " .. distac.load(root .. "/m.safetensors"):fingerprint())
        assert.is_nil(out:find("distac.merge", 1, true))
        status, out = run("inspect", "--json", "m.safetensors")
        assert.equal(0, status)
        assert.equal("ties", json.decode(out).merge.method)
    end)

    it("of a run's model shows the recipe", function()
        local lines = {}
        local told = provenance.describe({
            ["distac.recipe"] = json.encode { suite = "mini8", merge = { { ties = { keep = 0.2 } } } },
            ["distac.base"] = "b", ["distac.models"] = '["x","y"]', ["distac.lambda"] = "0.3",
            ["distac.engine"] = "1", ["distac.seed"] = "2",
        }, lines)
        has(table.concat(lines, "\n"), "distac 1, seed 2, lambda 0.3", '"suite": "mini8"', '"keep": 0.2',
            "base         b", "model 2      y")
        assert.truthy(told["distac.recipe"])
        assert.same({}, provenance.describe({ author = "us", ["distac.recipe"] = "{" }, {}))
    end)

    it("makes every method's file again, bit for bit", function()
        local seen = {}
        for _, method in ipairs(distac.merge.methods()) do
            local status, _, err = run("merge", "--force", "--base", BASE, "-o", "m.safetensors", "--method",
                method.name, "--only", "matrix", method.name == "average" and "--quiet" or "--lambda=0.25", A, B)
            if status == 0 then -- methods that need more than two files say so
                seen[method.name] = true
                local text
                status, text, err = run("merge", "--replay", "m.safetensors", "-o", "again.safetensors")
                assert.equal(0, status, err)
                has(text, "the same bit for bit")
                assert.equal(tiny.read(root .. "/m.safetensors"), tiny.read(root .. "/again.safetensors"))
                distac.fs.remove(root .. "/again.safetensors")
            end
        end
        for _, name in ipairs { "average", "task_arithmetic", "ties", "consensus_ta", "tsvm" } do
            assert.truthy(seen[name], name)
        end
    end)

    it("is made again with a method of the user's own, if its file is the same", function()
        local text = [[local distac = require "distac"
return function(p)
    return distac.merge.elementwise(function(tau, out, n)
        local a, b = tau[1], tau[2]
        for i = 1, n do out[i] = p.w[1] * a[i] + p.w[2] * b[i] end
    end, { name = "weighted" })
end
]]
        distac.fs.write(root .. "/own.lua", text)
        local status, _, err = run("merge", "--force", "--base", BASE, "--method", "own.lua", "--w", "0.25,0.5",
            "--lambda", "0.5", "--except", "vector", "-o", "m.safetensors", A, B)
        assert.equal(0, status, err)
        local b, a, c, m = distac.load(root .. "/" .. BASE), distac.load(root .. "/" .. A),
            distac.load(root .. "/" .. B), distac.load(root .. "/m.safetensors")
        local far = m.matrix - (b.matrix + ((a.matrix - b.matrix) * 0.25 + (c.matrix - b.matrix) * 0.5) * 0.5)
        assert.truthy(far:norm():item() <= 1e-5)
        assert.same(b.vector:table(), m.vector:table())
        assert.equal("weighted", provenance.read(m:metadata()).method)
        status, _, err = run("merge", "--replay", "m.safetensors")
        assert.equal(0, status, err)
        distac.fs.write(root .. "/own.lua", text .. " ")
        status, _, err = run("merge", "--replay", "m.safetensors")
        assert.equal(1, status)
        has(err, "own.lua is another method")
        for piece, bad in pairs { ["returned the number 3"] = "return 3", ["own.lua:1:"] = "return (",
            ["boom"] = "error 'boom'" } do
            distac.fs.write(root .. "/own.lua", bad)
            status, _, err = run("merge", "--base", BASE, "--method", "own.lua", "-o", "x.safetensors", A)
            assert.truthy(status == 2 or status == 1)
            has(err, piece)
            assert.is_nil(distac.fs.kind(root .. "/x.safetensors"))
        end
        distac.fs.write(root .. "/own.lua", "return require('distac').merge.elementwise(function() end)")
        status, _, err = run("merge", "--base", BASE, "--method", "own.lua", "--w", "3", "-o", "x.safetensors", A)
        assert.equal(2, status)
        has(err, "unknown option '--w'")
    end)

    it("without an output compares and keeps nothing", function()
        merge("m.safetensors", "--method", "consensus_ta", "--tall", "0.4,0.6", "--k", "1", "--dtype", "bf16")
        local before = distac.fs.list(root)
        local status, text, err = run("merge", "--replay", "m.safetensors")
        assert.equal(0, status, err)
        has(text, "the same bit for bit")
        assert.same(before, distac.fs.list(root))
    end)

    it("says which input is another or gone, all of them, before work", function()
        merge("m.safetensors", "--method", "average")
        local a, b = tiny.read(root .. "/" .. A), tiny.read(root .. "/" .. B)
        model(A, 11)
        distac.fs.remove(root .. "/" .. B)
        local status, out, err = run("merge", "--replay", "m.safetensors", "-o", "again.safetensors")
        distac.fs.write(root .. "/" .. A, a)
        distac.fs.write(root .. "/" .. B, b)
        assert.equal(1, status)
        assert.equal("", out)
        has(err, "model 1 'a.safetensors' is another", "model 2 'b.safetensors' is not there", "--models DIR")
        assert.is_nil(err:find("the base"))
        assert.is_nil(distac.fs.kind(root .. "/again.safetensors"))
    end)

    it("finds inputs that have moved", function()
        merge("m.safetensors", "--method", "average")
        distac.fs.rename(root .. "/" .. A, root .. "/there/" .. A)
        local lost = run("merge", "--replay", "m.safetensors")
        local status, text, err = run("merge", "--replay", "m.safetensors", "--models", "there")
        distac.fs.rename(root .. "/there/" .. A, root .. "/" .. A)
        assert.equal(1, lost)
        assert.equal(0, status, err)
        has(text, "the same bit for bit")
        assert.same({ "D/x/y/a", "D/y/a", "D/a", "x/y/a", "f/x/y/a" }, provenance.candidates("x/y/a", "f/m", "D"))
    end)

    it("tells a file that is not what its recipe gives", function()
        merge("m.safetensors", "--method", "average")
        local ck = distac.load(root .. "/m.safetensors")
        distac.save(root .. "/forged.safetensors", distac.checkpoint({
            matrix = ck.matrix * 2, vector = ck.vector, count = ck.count }, ck:metadata()))
        local status, _, err = run("merge", "--replay", "forged.safetensors")
        assert.equal(1, status)
        has(err, "is not what its recipe gives")
        assert.is_nil(distac.fs.kind(root .. "/forged.safetensors.replay"))
    end)

    it("refuses a file without a record and options that fight with it", function()
        local status, _, err = run("merge", "--replay", A)
        assert.equal(1, status)
        has(err, "has no distac.merge")
        status, _, err = run("merge", "--replay", A, "--method", "ties")
        assert.equal(2, status)
        has(err, "--method and --replay do not go together")
        status, _, err = run("merge", "--models", "there", "--base", BASE)
        assert.equal(2, status)
        has(err, "belongs to --replay")
        for _, text in ipairs { "{", "3",
            '{"method":"ties","params":{},"models":[],"base":{"path":"x","fingerprint":"y"}}',
            '{"method":"ties","params":{},"models":[{"path":"x"}],"base":{"path":"x","fingerprint":"y"}}' } do
            local record, why = provenance.read { ["distac.merge"] = text }
            assert.is_nil(record)
            has(why, "distac.merge in its metadata")
        end
    end)
end)
