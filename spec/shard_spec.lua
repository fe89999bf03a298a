-- Merges written as folders of several files, and straight into transformers' names: the same tensors as in one
-- file under the canonical names, for every kind of method; what is there stays until the new one is whole.
local distac = require "distac"
local helper = require "spec.helper"
local json = require "distac.json"
local provenance = require "distac.provenance"
local tiny = require "spec.tiny"
local raises = helper.raises

local root

local function run(...) return tiny.run({ ... }, root) end
local function at(name) return root .. "/" .. name end

local function done(...)
    local status, out, err = run(...)
    assert.equal(0, status, err)
    return out
end

local function refused(status, piece, ...) tiny.refused(root, status, piece, { ... }) end

local function same(a, b)
    assert.same(a:names(), b:names())
    for _, name in ipairs(a:names()) do helper.same(a[name], b[name]) end
end

-- Wide enough that parts of tensors and transposed ones begin and end within the pieces of a merge.
local function encoder(seed)
    local vit = distac.vit { image = 8, patch = 4, width = 160, layers = 2, heads = 2, mlp = 210, dim = 136,
        activation = "gelu" }
    vit:init(seed)
    return vit:checkpoint()
end

local function methods()
    return {
        distac.merge.task_arithmetic { lambda = 0.3 }, distac.merge.ties { lambda = 0.7 },
        distac.merge.ties { lambda = 0.7, scale = { { "*.bias", 0 }, { "*proj*", 0.5 } } },
        distac.merge.tsvm { lambda = 0.4 }, distac.merge.dare { p = 0.5 },
        distac.merge.elementwise(function(tau, out, n)
            local a, b = tau[1], tau[2]
            for i = 1, n do out[i] = 0.25 * a[i] + 0.5 * b[i] end
        end, { chunk = 1000 }),
        distac.merge.custom(function(_, taus) return taus[1] * 0.25 + taus[2] end),
    }
end

describe("a merge into several files", function()
    local base, models = nil, {}
    setup(function()
        root = tiny.folder()
        for i, name in ipairs { "base", "a", "b" } do
            distac.save(at(name .. ".safetensors"), encoder(i))
            distac.save(at(name .. "-hf.safetensors"), encoder(i), { layout = "hf" })
        end
        base = distac.load(at "base.safetensors")
        models = { distac.load(at "a.safetensors"), distac.load(at "b.safetensors") }
        for i, name in ipairs { "p-base", "p-a", "p-b" } do
            distac.save(at(name .. ".safetensors"), distac.checkpoint({
                matrix = distac.randn { 60, 50, seed = i }, vector = distac.randn { 70, seed = i + 3 },
                count = distac.tensor({ 3, 4 }, { dtype = "i64" }), small = distac.randn { 3, seed = i + 9 },
                other = distac.randn({ 40, 30 }, { seed = i + 6 }):to "f16",
            }, { author = "us" }))
        end
    end)
    teardown(function() tiny.remove(root) end)

    it("has the tensors of the merge into one, under any names, for every kind of method", function()
        for i, op in ipairs(methods()) do
            local one = at "one.safetensors"
            op:files(base, models, one)
            local want = distac.load(one)
            local ways = { { layout = "hf" }, { shard = "200kB" }, { shard = 150000, layout = "hf" },
                { layout = "open_clip", shard = "1MiB" } }
            for k, way in ipairs(ways) do
                local path = at(way.shard and "several" or "several.safetensors")
                op:files(base, models, path, way)
                local got = distac.load(way.shard and path .. "/model.safetensors.index.json" or path,
                    { layout = "file" })
                local label = string.format("%s, way %d", op:name(), k)
                assert.equal(way.layout or "open_clip", got:layout(), label)
                if way.layout == "hf" then
                    assert.equal("pt", got:metadata "format")
                    same(want:convert "hf", got)
                else
                    same(want, got)
                end
                tiny.remove(path)
            end
            -- Models under transformers' names give the same.
            if i <= 4 then
                local hf = {}
                for k, name in ipairs { "a", "b" } do hf[k] = distac.load(at(name .. "-hf.safetensors"),
                    { layout = "file" }) end
                local path = at "from.safetensors"
                op:files(distac.load(at "base-hf.safetensors", { layout = "file" }), hf, path, { layout = "hf" })
                same(want:convert "hf", distac.load(path, { layout = "file" }))
            end
        end
        assert.same({}, (function()
            local left = {}
            for _, name in ipairs(distac.fs.list(root)) do
                if name:find("distac-tmp", 1, true) or name:find("canonical", 1,
                    true) then left[#left + 1] = name end
            end
            return left
        end)())
    end)

    it("is cut at the size that is asked for, with an index that says so", function()
        local words = { "--base", "p-base.safetensors", "--method", "task_arithmetic", "p-a.safetensors",
            "p-b.safetensors" }
        local merge = function(...)
            local all = { "merge", "-o", ... }
            for _, word in ipairs(words) do all[#all + 1] = word end
            return done((table.unpack or unpack)(all))
        end
        merge("p-one.safetensors")
        local want, most = distac.load(at "p-one.safetensors"), 0
        for _, size in ipairs { "1", "300B", "2.5kB", "3KiB", "14680", "1GB" } do
            local out = json.decode(merge("parts", "--force", "--json", "--shard", size))
            local files = distac.fs.list(at "parts")
            assert.equal(#files, #out.files)
            most = math.max(most, #files)
            local index = json.decode(tiny.read(at "parts/model.safetensors.index.json"))
            assert.equal(60 * 50 * 4 + 70 * 4 + 2 * 8 + 3 * 4 + 1200 * 2, index.metadata.total_size)
            local limit = require("distac.context").bytes("", "", size)
            for _, file in ipairs(files) do
                if file:find("%.safetensors$") then
                    local part, bytes = distac.load(at("parts/" .. file)), 0
                    for _, name in ipairs(part:names()) do
                        assert.equal(file, index.weight_map[name])
                        local t = part[name]
                        bytes = bytes + t:numel() * ({ f32 = 4, f16 = 2, i64 = 8 })[t:dtype()]
                    end
                    assert.truthy(bytes <= limit or #part:names() == 1, file)
                    assert.equal("us", part:metadata "author")
                end
            end
            same(want, distac.load(at "parts"))
            same(want, distac.load(at "parts/model.safetensors.index.json"))
            assert.equal(want:fingerprint(), distac.load(at "parts"):fingerprint())
        end
        assert.equal(6, most) -- a file for each tensor, and the index
        assert.equal(2, #distac.fs.list(at "parts"))
    end)

    it("is made again bit for bit from what it says of itself", function()
        for _, more in ipairs { {}, { "--to", "hf" }, { "--dtype", "bf16" } } do
            local words = { "merge", "--base", "base-hf.safetensors", "--method", "ties", "-o", "again", "--shard",
                "300kB", "--force", "--seed", "3", "a.safetensors", "b-hf.safetensors" }
            for _, word in ipairs(more) do words[#words + 1] = word end
            done((table.unpack or unpack)(words))
            local record = assert(provenance.read(distac.load(at "again", { layout = "file" }):metadata()))
            assert.equal(300000, record.shard)
            assert.equal(distac.load(at "b-hf.safetensors", { layout = "file" }):fingerprint(),
                record.models[2].fingerprint)
            local before = distac.fs.list(root)
            for _, name in ipairs { "again", "again/", "again/model.safetensors.index.json" } do
                local text = done("merge", "--replay", name)
                assert.truthy(text:find("the files are the same bit for bit", 1, true), text)
            end
            assert.same(before, distac.fs.list(root))
            done("merge", "--replay", "again", "-o", "copy")
            for _, name in ipairs(distac.fs.list(at "again")) do
                assert.equal(tiny.read(at("again/" .. name)), tiny.read(at("copy/" .. name)))
            end
            tiny.remove(at "copy")
        end
        refused(2, "--shard and --replay do not go together", "merge", "--replay", "again", "--shard", "1GB")
        -- One number of the output is another: the merge is not what is there.
        local file = at "again/model-00001-of-00003.safetensors"
        local text = tiny.read(file)
        tiny.write(file, text:sub(1, -2) .. string.char((text:byte(-1) + 1) % 256))
        refused(1, "is not what its recipe gives", "merge", "--replay", "again")
    end)

    it("has the base's configuration, or one made of the tensors", function()
        distac.fs.make(at "folder")
        distac.save(at "folder/model.safetensors", distac.load(at "p-base.safetensors"))
        distac.fs.write(at "folder/config.json", '{"model_type": "mine", "torch_dtype": "float32"}')
        done("merge", "--base", "folder", "--method", "average", "-o", "configured", "--shard", "1GB",
            "p-a.safetensors")
        assert.same({ "config.json", "model.safetensors" }, distac.fs.list(at "configured"))
        assert.equal('{"model_type": "mine", "torch_dtype": "float32"}', tiny.read(at "configured/config.json"))
        done("merge", "--base", "folder", "--method", "average", "-o", "configured", "--shard", "1kB", "--dtype",
            "f16", "--force", "p-a.safetensors")
        assert.equal("float16", json.decode(tiny.read(at "configured/config.json")).torch_dtype)
        assert.is_nil(distac.fs.kind(at "configured/model.safetensors"))
        done("merge", "--replay", "configured")
        distac.save(at "told.safetensors", encoder(1), { metadata = { ["vit.activation"] = "gelu",
            ["vit.heads"] = "2" } })
        done("merge", "--base", "told.safetensors", "--method", "average", "-o", "told", "--to", "hf", "--shard",
            "1GB", "a.safetensors")
        assert.same({ "config.json", "model.safetensors" }, distac.fs.list(at "told"))
        assert.equal(160, json.decode(tiny.read(at "told/config.json")).hidden_size)
        assert.equal("gelu", distac.load(at "told"):metadata "vit.activation")
    end)

    it("replaces a model's folder alone, and only when forced", function()
        local function words(out, ...)
            return "merge", "--base", "p-base.safetensors", "--method", "average", "-o", out, "p-a.safetensors",
                ...
        end
        done(words("there", "--shard", "1kB"))
        refused(2, "--force replaces it", words("there", "--shard", "1kB"))
        refused(2, "writes a folder", words("x.safetensors", "--shard", "1kB"))
        refused(2, "name it 'x'", words("x.safetensors.index.json", "--shard", "1kB"))
        distac.fs.write(at "plain", "")
        refused(2, "is a file", words("plain", "--shard", "1kB"))
        distac.fs.write(at "there/notes.txt", "keep")
        refused(2, "'notes.txt', which is no part of a model", words("there", "--shard", "1kB", "--force"))
        raises("EIO", "'notes.txt', which is no part of a model", function()
            distac.save(at "there", distac.load(at "p-a.safetensors"), { shard = "1kB" })
        end)
        distac.fs.remove(at "there/notes.txt")
        -- The older one may be an input: it is read from what is gone by name.
        local before = distac.load(at "there"):fingerprint()
        done("merge", "--base", "p-base.safetensors", "--method", "average", "-o", "there", "--shard", "2kB",
            "--force", "there")
        assert.equal(before, distac.load(at "there"):fingerprint())
    end)

    it("is no scaled mean", function()
        refused(2, "--lambda: average is the mean of the models and takes no factor", "merge", "--base",
            "p-base.safetensors", "--method", "average", "--lambda", "0.5", "-o", "x.safetensors",
            "p-a.safetensors")
    end)

    it("says what is wrong with a size", function()
        for _, size in ipairs { "0", "5 potatoes", "-1", "GB" } do
            refused(2, "--shard: wanted a size like 512MB or 5GiB, got '" .. size .. "'", "merge", "--base",
                "p-base.safetensors", "--method", "average", "-o", "x", "--shard=" .. size, "p-a.safetensors")
        end
        raises("EINVAL", "shard", function() distac.save(at "x", distac.load(at "p-a.safetensors"),
            { shard = {} }) end)
    end)
end)
