-- The command line on small files: merging, refused outputs, JSON, norms, inspect, convert, eval, training.
local distac = require "distac"
local json = require "distac.json"
local tiny = require "spec.tiny"

local root

local function run(...) return tiny.run({ ... }, root) end

-- A file of three tensors whose values are given by a function of the index.
local function model(name, value, extra)
    local tensors = {
        matrix = distac.tensor { { value(1), value(2), value(3) }, { value(4), value(5), value(6) } },
        vector = distac.tensor { value(7), value(8) },
        count = distac.tensor({ 3, 4 }, { dtype = "i64" }),
    }
    for key, tensor in pairs(extra or {}) do tensors[key] = tensor end
    distac.save(root .. "/" .. name, distac.checkpoint(tensors))
end

local function values(name)
    local ck = distac.load(root .. "/" .. name)
    local out = ck.matrix:table()
    return { out[1][1], out[1][2], out[1][3], out[2][1], out[2][2], out[2][3], ck.vector:table()[1],
             ck.vector:table()[2] }
end

local function near(list, expected)
    for i, v in ipairs(expected) do
        if not (math.abs(list[i] - v) <= 1e-6) then
            error(string.format("element %d is %.9g, wanted %.9g", i, list[i], v), 2)
        end
    end
end

-- A mistake in the command: status 2, nothing on stdout, nothing created, the text says why.
local function refused(piece, ...)
    local before = distac.fs.list(root)
    local status, out, err = run(...)
    assert.equal(2, status, err)
    assert.equal("", out)
    assert.truthy(err:find(piece, 1, true), err .. " lacks " .. piece)
    assert.same(before, distac.fs.list(root))
end

local BASE, A, B = "base.safetensors", "a.safetensors", "b.safetensors"

describe("distac", function()
    setup(function()
        root = tiny.folder()
        model(BASE, function(i) return i / 10 end)
        model(A, function(i) return i / 10 + (i % 2 == 0 and 1 or -0.5) end)
        model(B, function(i) return i / 10 + i / 100 end)
    end)
    teardown(function() tiny.remove(root) end)

    it("tells what a merge would do and does not do it", function()
        local status, out = run("merge", "--json", "--base", BASE, "--method", "average", "-o", "dry.safetensors",
            "--dry-run", A, B)
        assert.equal(0, status)
        assert.is_truthy(out:find('"output_bytes": %d+'))
        assert.is_nil(io.open(root .. "/dry.safetensors"))
    end)

    it("merges files", function()
        assert.equal(0, (run("merge", "--base", BASE, "--method", "task_arithmetic", "--lambda", "0.5",
            "-o", "sum.safetensors", A, B)))
        local expected = {}
        for i = 1, 8 do expected[i] = i / 10 + 0.5 * ((i % 2 == 0 and 1 or -0.5) + i / 100) end
        near(values "sum.safetensors", expected)
        assert.same({ 3, 4 }, distac.load(root .. "/sum.safetensors").count:table())
        assert.equal(0, (run("merge", "--base=base.safetensors", "--method=average", "--output",
            "mean.safetensors", A, B)))
        for i = 1, 8 do expected[i] = i / 10 + ((i % 2 == 0 and 1 or -0.5) + i / 100) / 2 end
        near(values "mean.safetensors", expected)
    end)

    it("says in the output what it was made of", function()
        run("merge", "--base", BASE, "--method", "ties", "--keep", "0.5", "-o", "m.safetensors",
            A, B)
        local metadata = distac.load(root .. "/m.safetensors"):metadata()
        local method = json.decode(metadata["distac.method"])
        assert.equal("ties", method.name)
        assert.equal(0.5, method.params.keep)
        assert.equal(distac.load(root .. "/base.safetensors"):fingerprint(), metadata["distac.base"])
    end)

    it("takes a list where a parameter allows one", function()
        local status, _, err = run("merge", "--base", BASE, "--method", "consensus_ta", "--tall",
            "0.4,0.6", "--k", "1", "-o", "c.safetensors", A, B)
        assert.equal(0, status, err)
        refused("one per model (2), got 3", "merge", "--base", BASE, "--method", "consensus_ta", "--tall",
            "1,2,3", "-o", "x.safetensors", A, B)
    end)

    it("prints JSON and nothing else with --json", function()
        local status, out = run("merge", "--json", "--base", BASE, "--method", "average", "-o",
            "j.safetensors", A)
        assert.equal(0, status)
        assert.equal("average", json.decode(out).method)
    end)

    it("refuses outputs that exist or are inputs, unless forced", function()
        model("there.safetensors", function() return 1 end)
        local before = tiny.read(root .. "/there.safetensors")
        refused("exists", "merge", "--base", BASE, "--method", "average", "-o", "there.safetensors", A)
        refused("is an input", "merge", "--base", BASE, "--method", "average", "-o", "./a.safetensors", A)
        assert.equal(before, tiny.read(root .. "/there.safetensors"))
        assert.equal(0, (run("merge", "--force", "--base", BASE, "--method", "average", "-o",
            "there.safetensors", A)))
        near(values "there.safetensors", values(A))
    end)

    it("writes the type that is asked for", function()
        assert.equal(0, (run("merge", "--dtype", "bf16", "--base", BASE, "--method", "average", "-o",
            "half.safetensors", A)))
        assert.equal("bf16", distac.load(root .. "/half.safetensors").matrix:dtype())
        assert.equal(0, (run("merge", "--dtype", "bfloat16", "--base", BASE, "--method", "average", "-o",
            "long_name.safetensors", A)))
        assert.equal("bf16", distac.load(root .. "/long_name.safetensors").matrix:dtype())
        refused("wanted f32, f16 or bf16, got 'int8'", "merge", "--dtype", "int8", "--base", BASE,
            "--method", "average", "-o", "x.safetensors", A)
    end)

    it("refuses mistakes in the command with the nearest valid choice", function()
        refused("unknown method 'tise'; did you mean 'ties'?", "merge", "--base", BASE, "--method", "tise",
            "-o", "x.safetensors", "a.safetensors")
        refused("did you mean '--keep'?", "merge", "--base", BASE, "--method", "ties", "--kep", "0.1", "-o",
            "x.safetensors", "a.safetensors")
        refused("--keep: wanted a number from 0 to 1, got '7'", "merge", "--base", BASE, "--method",
            "ties", "--keep", "7", "-o", "x.safetensors", "a.safetensors")
        refused("there is no file 'none.safetensors'", "merge", "--base", BASE, "--method", "ties", "-o",
            "x.safetensors", "none.safetensors")
        refused("--base is missing", "merge", "--method", "ties", "-o", "x.safetensors", A)
        refused("-o OUT is missing", "merge", "--base", BASE, "--method", "ties", A)
        refused("there is no folder 'nowhere'", "merge", "--base", BASE, "--method", "ties", "-o",
            "nowhere/x.safetensors", A)
        refused("no model", "merge", "--base", BASE, "--method", "ties", "-o", "x.safetensors")
        refused("needs a value", "norms", A, "--base")
        refused("did you mean '--layers'?", "norms", "--base", BASE, "--layer", A)
        refused("did you mean 'merge'?", "merg")
        refused("--threads: wanted a whole number, got 'two'", "version", "--threads", "two")
        refused("tpu", "version", "--device", "tpu")
        refused("wanted one recipe", "run")
        refused("cannot be read", "run", "none.lua")
        tiny.write(root .. "/mine.lua", "return 1")
        refused("did you mean 'mine.lua'?", "plan", "mime.lua")
        distac.fs.remove(root .. "/mine.lua")
        refused("did you mean 'low_confidence'?", "run", "lowconfidence")
        refused("unknown option '--bas'; did you mean '--base'?", "merge", "--bas", "base.safetensors")
        refused("did you mean '--force'?", "merge", "--focre", "--base", BASE)
        refused("k is 1.5", "merge", "--base", BASE, "--method", "consensus_ta", "--k", "1.5", "-o",
            "x.safetensors", "a.safetensors", "b.safetensors")
        refused("name it x.safetensors", "merge", "--base", BASE, "--method", "average", "-o", "x.pt",
            "a.safetensors")
        refused("unexpected 'now'", "version", "now")
        -- An option in a value's place, what does not suit the models, and settings in the command's words.
        refused("--keep needs a value", "merge", "--base", BASE, "--method", "ties", "--keep", "-o",
            "x.safetensors", A)
        refused("--method needs a value, and '-o' is an option", "merge", "--base", BASE, "--method", "-o",
            "x.safetensors", A)
        refused('no tensor matches the pattern "none*"', "merge", "--base", BASE, "--method", "ties", "--only",
            "none*",
            "-o", "x.safetensors", A)
        refused("--except: wanted patterns", "merge", "--base", BASE, "--method", "ties", "--except", "", "-o",
            "x.safetensors", A)
        refused("slerp: 1 models; it takes 2", "merge", "--base", BASE, "--method", "slerp", "-o", "x.safetensors",
            A)
        refused("--memory: wanted a size", "version", "--memory", "1XB")
        refused("--device: no such device", "version", "--device", "tpu")
        refused("wanted PATH=VALUE", "run", "none.lua", "--set", "steps")
    end)

    it("fails with status 1 and leaves nothing where the files do not fit", function()
        local before = distac.fs.list(root)
        tiny.write(root .. "/broken.safetensors", "no tensors here")
        local status, _, err = run("merge", "--base", BASE, "--method", "average", "-o", "x.safetensors",
            "broken.safetensors")
        assert.equal(1, status)
        assert.truthy(err:find("broken.safetensors", 1, true))
        model("more.safetensors", function(i) return i end, { other = distac.tensor { 1 } })
        status, _, err = run("merge", "--base", BASE, "--method", "average", "-o", "x.safetensors",
            "more.safetensors")
        assert.equal(1, status)
        assert.truthy(err:find("other", 1, true))
        model("nan.safetensors", function(i) return i == 3 and 0 / 0 or i end)
        status, _, err = run("merge", "--base", BASE, "--method", "average", "-o", "x.safetensors",
            "nan.safetensors")
        assert.equal(1, status)
        assert.truthy(err:find('nan.safetensors: tensor "matrix", element 2 is nan', 1, true), err)
        status, _, err = run("norms", "--base", BASE, "a.safetensors", "nan.safetensors")
        assert.equal(1, status)
        assert.truthy(err:find('nan.safetensors: tensor "matrix", element 2 is nan', 1, true), err)
        for _, name in ipairs { "broken", "more", "nan" } do
            distac.fs.remove(root .. "/" .. name .. ".safetensors")
        end
        assert.same(before, distac.fs.list(root))
    end)

    it("tells norms and the kappa that each would need", function()
        local status, out = run("norms", "--json", "--layers", "--base", BASE, A, B)
        assert.equal(0, status)
        local list = json.decode(out).models
        local a = math.sqrt(4 * 1 + 4 * 0.25)
        local b = 0
        for i = 1, 8 do b = b + (i / 100) ^ 2 end
        b = math.sqrt(b)
        near({ list[1].norm, list[2].norm, list[1].kappa, list[2].kappa }, { a, b, b / a, a / b })
        near({ list[1].layers.vector }, { math.sqrt(1.25) })
        status, out = run("norms", "--base", BASE, A)
        assert.equal(0, status)
        assert.truthy(out:find(A, 1, true))
    end)

    it("inspects files and folders", function()
        model("odd.safetensors", function(i) return i == 2 and 1 / 0 or i end)
        local status, out = run("inspect", "--json", "odd.safetensors")
        assert.equal(0, status)
        local file = json.decode(out)
        assert.equal(1, file.nonfinite)
        assert.equal(10, file.parameters)
        assert.equal("matrix", file.tensors[2].name)
        assert.same({ 2, 3 }, { file.tensors[2].shape[1], file.tensors[2].shape[2] })
        assert.equal("i64", file.tensors[1].dtype)
        status, out = run("inspect", ".")
        assert.equal(0, status)
        assert.truthy(out:find("odd.safetensors: 3 tensors", 1, true))
        assert.truthy(out:find("NOT FINITE", 1, true))
        assert.truthy(out:find("1 not finite, the first at element 1\n", 1, true), out)
        distac.fs.remove(root .. "/odd.safetensors")
    end)

    it("converts types", function()
        assert.equal(0, (run("convert", A, "a16.safetensors", "--dtype", "f16")))
        local ck = distac.load(root .. "/a16.safetensors")
        assert.equal("f16", ck.matrix:dtype())
        assert.equal("i64", ck.count:dtype())
        refused("exists", "convert", A, "a16.safetensors")
    end)

    it("tells versions, and help without an engine's work", function()
        local status, out = run("version", "--json")
        assert.equal(0, status)
        assert.equal(distac.version, json.decode(out).version)
        status, out = run "help"
        assert.equal(0, status)
        for _, name in ipairs { "run", "plan", "merge", "condition", "eval", "norms", "inspect", "convert" } do
            assert.truthy(out:find("\n  " .. name .. " ", 1, true), name)
            local code, text = run(name, "--help")
            assert.equal(0, code)
            assert.truthy(text:find("usage: distac " .. name, 1, true))
        end
    end)
end)

describe("distac with models", function()
    setup(function()
        root = tiny.suite({ "alpha", "beta" }, 12)
        tiny.recipe(root)
        local suite = require("distac.recipe").load(root .. "/tiny.lua").suite
        distac.save(root .. "/head.safetensors", { weight = suite:head("alpha"):weight() })
    end)
    teardown(function() tiny.remove(root) end)

    it("fine-tunes, evaluates and conditions on flat unlabelled images", function()
        local status, out, err = run("finetune", "--base", BASE, "--head", "head.safetensors", "--data",
            "data/alpha/train", "--steps", "40", "--batch", "8", "--lr", "3e-3", "-o", "ft.safetensors", "--json")
        assert.equal(0, status, err)
        assert.is_true(json.decode(out).norm > 0)
        status, out = run("eval", "--data", "data/alpha/test", "--head", "head.safetensors", "--json",
            "ft.safetensors", BASE)
        assert.equal(0, status)
        local list = json.decode(out).models
        assert.equal(18, list[1].count)
        assert.is_true(list[1].accuracy >= 0 and list[1].entropy > 0 and list[1].ece >= 0)
        distac.fs.make(root .. "/flat")
        os.execute(string.format("cd %s && for c in 0 1 2; do for f in data/alpha/train/class$c/*.png; do "
            .. "cp $f flat/$c-$(basename $f); done; done", tiny.quote(root)))
        status, out, err = run("condition", "--base", BASE, "--head", "head.safetensors", "--images",
            "flat", "--kappa", "0.5", "--t-teacher", "10", "--t-student", "10", "--steps", "10", "--batch", "8",
            "--lr", "1e-3", "-o", "conditioned.safetensors", "--json", "ft.safetensors")
        assert.equal(0, status, err)
        local r = json.decode(out)
        assert.equal(36, r.images)
        assert.is_true(r.norm < 0.9 * r.norm_before)
        assert.is_nil(distac.fs.kind(root .. "/conditioned.safetensors.partial.safetensors"))
        refused("there is no folder", "condition", "--base", BASE, "--head", "head.safetensors",
            "--images", "none", "-o", "y.safetensors", "ft.safetensors")
        distac.save(root .. "/five.safetensors", { weight = distac.ones { 5, 16 } })
        local mismatch = "has 5 classes, 'data/alpha/test' has 3 class folders"
        refused(mismatch, "eval", "--head", "five.safetensors", "--data", "data/alpha/test", "ft.safetensors")
        refused(mismatch, "finetune", "--base", BASE, "--head", "five.safetensors", "--data",
            "data/alpha/test", "-o", "z.safetensors")
        local sick = {}
        for _, name in ipairs(distac.load(root .. "/ft.safetensors"):names()) do
            sick[name] = distac.load(root .. "/ft.safetensors")[name]:clone()
        end
        sick["visual.proj"][{ 1, 3 }] = 0 / 0
        distac.save(root .. "/sick.safetensors", sick)
        status, _, err = run("condition", "--base", BASE, "--head", "head.safetensors", "--images",
            "flat", "-o", "y.safetensors", "sick.safetensors")
        assert.equal(1, status)
        assert.truthy(err:find('sick.safetensors: tensor "visual.proj", element 2 is nan', 1, true), err)
        refused("--t-student", "condition", "--base", BASE, "--head", "head.safetensors", "--images",
            "flat", "--t-student", "0", "-o", "y.safetensors", "ft.safetensors")
    end)

    it("evaluates a recipe's suite", function()
        local status, out, err = run("eval", "--suite", "tiny.lua", "--split", "validation", "--json", BASE)
        assert.equal(0, status, err)
        local m = json.decode(out).models[1]
        assert.equal(18, m.tasks.alpha.count)
        assert.is_true(math.abs((m.tasks.alpha.accuracy + m.tasks.beta.accuracy) / 2 - m.mean_accuracy) < 1e-12)
        refused("did you mean 'mini8'?", "eval", "--suite", "mini9", BASE)
        refused("did you mean 'alpha'?", "eval", "--suite", "tiny.lua", "--tasks", "alhpa", BASE)
        refused("give --suite S or --data DIR", "eval", BASE)
    end)
end)
