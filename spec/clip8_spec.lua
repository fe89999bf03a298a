-- The suite clip8 on two small data sets in their own formats and a tiny CLIP: the paper's numbers, mistakes told
-- before any work, a run that is killed and continued, sources from files, joint training, steps that fit memory.
local distac = require "distac"
local json = require "distac.json"
local data = require "spec.clip_data"
local tiny = require "spec.tiny"

local root

local function words(...)
    local list = { "--set", "suite=clip8", "--set", "data.root=data", "--set", "data.model=clip/model.safetensors",
                   "--set", "data.tasks=mnist,eurosat" }
    for i, word in ipairs { ... } do table.insert(list, i, word) end
    return list
end

local function run(...) return tiny.run(words(...), root) end

local function few(...)
    return run("run", "low_confidence", "--set", "finetune.steps=24", "--set", "finetune.batch=8", "--set",
        "finetune.lr=1e-3", "--set", "condition.steps=12", "--set", "condition.batch=8", ...)
end

local function results(folder) return json.decode(tiny.read(root .. "/" .. folder .. "/results.json")) end

local function models(folder)
    local out, n = {}, 0
    for _, part in ipairs { folder, folder .. "/stages" } do
        for _, name in ipairs(distac.fs.list(root .. "/" .. part)) do
            if name:find "%.safetensors$" then
                out[name], n = tiny.read(root .. "/" .. part .. "/" .. name), n + 1
            end
        end
    end
    return out, n
end

local function heads(names)
    local out = {}
    for i, name in ipairs(names) do out[name] = distac.tensor.randn({ 10, 16 }, { seed = i }) * 10 end
    return out
end

describe("clip8", function()
    setup(function()
        root = data.make()
    end)
    teardown(function() tiny.remove(root) end)

    it("plans with the paper's numbers, which the recipe's own win over", function()
        local status, out, err = run("plan", "low_confidence", "--json")
        assert.equal(0, status, err)
        local plan = json.decode(out)
        assert.equal("clip8", plan.suite)
        assert.same({ "eurosat", "mnist" }, { plan.plans[1].tasks[1].name, plan.plans[1].tasks[2].name })
        assert.is_nil(plan.plans[1].tasks[3])
        local s, c = plan.plans[1].tasks[1].source, plan.plans[1].tasks[1].condition
        assert.same({ 2000, 128, 1e-5, 0.1, 200, 1 }, { s.steps, s.batch, s.lr, s.weight_decay, s.warmup, s.clip })
        assert.same({ 500, 128, 1e-5, 0, 200, 0.5 },
            { c.steps, c.batch, c.lr, c.weight_decay, c.warmup, c.beta })
        assert.same({ 0.9, 1 }, { s.crops.scale[1], s.crops.scale[2] })
        local merge = plan.plans[1].merges[1]
        assert.same({ 21, 0, 1 }, { merge.points, merge.first, merge.last })
        assert.same({ 54, 6, 20 }, { plan.data.tasks.mnist.train, plan.data.tasks.mnist.validation,
                                     plan.data.tasks.mnist.test })
        status, out = run("plan", "norm_mismatch", "--json", "--set", "finetune.steps=100")
        assert.equal(0, status)
        local plans = json.decode(out).plans
        assert.same({ "eurosat", "mnist" }, { plans[1].variant, plans[2].variant })
        assert.same({ 1e-4, 1e-5 }, { plans[1].tasks[1].source.lr, plans[1].tasks[2].source.lr })
        assert.same({ 1e-5, 1e-4 }, { plans[2].tasks[1].source.lr, plans[2].tasks[2].source.lr })
        assert.same({ 100, 10 }, { plans[1].tasks[1].source.steps, plans[1].tasks[1].source.warmup })
        assert.is_nil(distac.fs.kind(root .. "/runs"))
    end)

    it("tells every mistake before any work, with its remedy", function()
        local status, _, err = tiny.run({ "plan", "original", "--set", "suite=clip8" }, root)
        assert.equal(2, status)
        assert.truthy(err:find("data.root: clip8 needs the folder", 1, true), err)
        assert.truthy(err:find("data.model: clip8 needs a CLIP checkpoint", 1, true), err)
        local function wrong(key, value, ...)
            local list = words("run", "original")
            list[#list + 1], list[#list + 2] = "--set", "data." .. key .. "=" .. value -- the last one wins
            local code, _, message = tiny.run(list, root)
            assert.equal(2, code, message)
            for _, piece in ipairs { ... } do assert.truthy(message:find(piece, 1, true), message) end
        end
        wrong("rot", "x", "data.rot: unknown option of the suite clip8", "did you mean 'root'?")
        wrong("root", "nowhere", "data.root: there is no folder 'nowhere'")
        wrong("tasks", "mnist,cras", "data.tasks: clip8 has no task 'cras'", "did you mean 'cars'?")
        wrong("tasks", "mnist,dtd", "data.root: ", "dtd", "distac data check data",
            "no training files under 'data'")
        wrong("normalize", "maybe", "data.normalize: wanted yes or no, got 'maybe'")
        wrong("activation", "relu", "data.activation: wanted gelu or quick_gelu, got 'relu'")
        distac.save(root .. "/few.safetensors", { mnist = distac.tensor.zeros { 9, 16 },
                                                  eurosat = distac.tensor.zeros { 10, 16 } })
        wrong("heads", "few.safetensors", "data.heads: few.safetensors: the head of 'mnist' is 9x16, wanted 10x16")
        data.model(root .. "/silent.safetensors", { activation = false, text = false })
        wrong("model", "silent.safetensors", "data.model: ", "activation", "--set data.activation=quick_gelu")
        data.model(root .. "/blind.safetensors", { text = false })
        wrong("model", "blind.safetensors", "data.model: 'blind.safetensors' has no text tower to build the heads",
            "--set data.heads=FILE")
        wrong("tokenizer", "blind.safetensors", "data.tokenizer: ")
        os.rename(root .. "/clip/vocab.json", root .. "/clip/away.json")
        wrong("cache", "x", "data.tokenizer: the heads are built by the text tower, and there is no vocabulary")
        os.rename(root .. "/clip/away.json", root .. "/clip/vocab.json")
        distac.save(root .. "/both.safetensors", heads { "mnist" })
        wrong("heads", "both.safetensors", "data.heads: ", "eurosat")
        assert.is_nil(distac.fs.kind(root .. "/runs"))
    end)

    it("runs, with the joint model as a reference, and continues a killed run bit for bit", function()
        local status, _, err = few("--set", "mtl=true", "--out", "whole", "--quiet")
        assert.equal(0, status, err)
        local whole, n = models "whole"
        assert.is_true(n >= 13)
        local r = results "whole"
        assert.equal("clip8", r.suite)
        assert.equal(2, #distac.fs.list(root .. "/whole/stages/packs")) -- EuroSAT's images of evaluation
        assert.equal(8, #r.merges)
        assert.equal(48, r.mtl.steps)
        assert.is_true(math.abs((r.mtl.accuracy.mnist + r.mtl.accuracy.eurosat) / 2 - r.mtl.mean) < 1e-12)
        assert.truthy(tiny.read(root .. "/whole/report.md"):find("| MTL | ", 1, true))
        local resolved = json.decode(tiny.read(root .. "/whole/recipe.json"))
        assert.equal(2, resolved.finetune.warmup)
        local list = words("run", "low_confidence", "--set", "finetune.steps=24", "--set", "finetune.batch=8",
            "--set", "finetune.lr=1e-3", "--set", "condition.steps=12", "--set", "condition.batch=8", "--set",
            "mtl=true",
            "--out", "cut", "--quiet")
        -- Killed in the middle of its trainings: at the n-th saved state.
        for _, at in ipairs { 9, 20, 15, 8 } do
            local command = tiny.command(list, "", string.format([[
                local training, stages, n = require "distac.training", require "distac.stages", 0
                training.save_every, training.save_share = 0, 1e9
                local open = stages.open
                stages.open = function(...)
                    local store = open(...)
                    local save = store.save_partial
                    store.save_partial = function(...)
                        save(...)
                        n = n + 1
                        if n == %d then os.execute("kill -KILL $PPID") end
                    end
                    return store
                end ]], at))
            os.execute(string.format("cd %s && %s >/dev/null 2>&1", tiny.quote(root), command))
            assert.is_nil(distac.fs.kind(root .. "/cut/results.json"))
        end
        status, _, err = tiny.run(list, root)
        assert.equal(0, status, err)
        local cut = models "cut"
        for name, bytes in pairs(whole) do assert.is_true(bytes == cut[name], name) end
        for name in pairs(cut) do assert.is_not_nil(whole[name], name) end
        local a, b = results "whole", results "cut"
        a.timing, b.timing, a.models, b.models, a.mtl.model, b.mtl.model = nil, nil, nil, nil, nil, nil
        assert.equal(json.encode(a), json.encode(b))
    end)

    it("builds heads once, and takes heads from files", function()
        local kept = distac.fs.list(root .. "/whole/stages/heads")
        assert.equal(2, #kept)
        local file = distac.load(root .. "/whole/stages/heads/" .. kept[1])
        assert.same({ 10, 16 }, file["weight"]:shape())
        local norm = file["weight"]:norm(2, true):table()
        for c = 1, 10 do assert.is_true(math.abs(norm[c][1] - 100) < 1e-3) end
        local status, out = run("plan", "original", "--set", "data.cache=whole/stages")
        assert.equal(0, status)
        assert.truthy(out:find("heads: eurosat cached, mnist cached", 1, true), out)
        distac.fs.make(root .. "/given")
        for _, name in ipairs(kept) do
            local task = name:match("^%a+")
            distac.save(root .. "/given/head_" .. task:upper() .. "Val.safetensors",
                { weight = distac.load(root .. "/whole/stages/heads/" .. name)["weight"] })
        end
        local list = { "eval", "clip/model.safetensors", "--suite", "clip8", "--set", "data.root=data", "--set",
                       "data.model=clip/model.safetensors", "--set", "data.heads=given", "--set",
                       "data.tasks=mnist,eurosat", "--json" }
        local code, text, err = tiny.run(list, root)
        assert.equal(0, code, err)
        local unit = json.decode(text).models[1].tasks.mnist
        assert.equal(results("whole").zero_shot.accuracy.mnist, unit.accuracy)
        table.insert(list, "--set")
        table.insert(list, "data.normalize=no") -- the same answers, told with another confidence
        code, text, err = tiny.run(list, root)
        assert.equal(0, code, err)
        local long = json.decode(text).models[1].tasks.mnist
        assert.equal(unit.accuracy, long.accuracy)
        assert.is_true(math.abs(unit.entropy - long.entropy) > 1e-6)
    end)

    it("evaluates models on its tasks", function()
        local list = { "eval", "clip/model.safetensors", "--suite", "clip8", "--set", "data.root=data", "--set",
                       "data.model=clip/model.safetensors", "--set", "data.cache=kept", "--set",
                       "data.tasks=mnist,eurosat", "--json" }
        local status, out, err = tiny.run(list, root)
        assert.equal(0, status, err)
        local model = json.decode(out).models[1]
        local r = results "whole"
        assert.equal(r.zero_shot.accuracy.mnist, model.tasks.mnist.accuracy)
        assert.is_true(math.abs(r.zero_shot.mean - model.mean_accuracy) < 1e-12)
        list[11] = "data.tasks=mnist,sun397"
        status, _, err = tiny.run(list, root)
        assert.equal(2, status)
        assert.truthy(err:find("sun397", 1, true), err)
    end)

    it("takes fine-tuned models as they are published", function()
        local base = distac.load(root .. "/clip/model.safetensors")
        local vision, whole = {}, {}
        for _, name in ipairs(base:names()) do
            whole[name] = base[name]
            if name:find "^visual" and name ~= "visual.proj" then vision[name] = base[name] * 1.01 end
        end
        distac.save(root .. "/vision.safetensors", vision)
        distac.save(root .. "/whole.safetensors", whole)
        tiny.write(root .. "/published.lua", [[
local distac = require "distac"
return distac.recipe {
    name = "published", suite = "clip8",
    sources = { eurosat = "vision.safetensors", mnist = "whole.safetensors" },
    merge = { "task_arithmetic" }, lambda = 0.5,
}
]])
        local status, out, err = run("plan", "published.lua")
        assert.equal(0, status, err)
        assert.truthy(out:find("visual.proj is not in the file: the base's is kept", 1, true), out)
        assert.truthy(out:find("tensors of the text tower left out", 1, true), out)
        status, _, err = run("run", "published.lua", "--quiet")
        assert.equal(0, status, err)
        local merged = distac.load(root .. "/runs/published/merged-task_arithmetic.safetensors")
        assert.is_false(merged:has("logit_scale"))
        local function number(ck, name) return ck[name]:sum():item() end
        assert.equal(number(base, "visual.proj"), number(merged, "visual.proj"))
        local before, after = number(base, "visual.conv1.weight"), number(merged, "visual.conv1.weight")
        assert.is_true(math.abs(after - 1.005 * before) < 1e-4 * math.abs(before))
    end)
end)

describe("memory of a step", function()
    local fit = require "distac.fit"
    local model
    setup(function()
        model = distac.vit { image = 32, patch = 8, width = 32, layers = 4, heads = 2, dim = 16, seed = 5 }
    end)

    it("asks first for recomputation, then for micro-batches, and changes nothing that was said", function()
        local s = { batch = 64 }
        local free = fit.new(model, math.huge)("finetune", s)
        assert.same({ 0, false, true }, { free.micro, free.recompute, free.fits })
        local tight = fit.new(model, free.bytes - 1)("finetune", s)
        assert.same({ 0, true, true }, { tight.micro, tight.recompute, tight.fits })
        local tighter = fit.new(model, tight.bytes - 1)("finetune", s)
        assert.same({ 32, true, true }, { tighter.micro, tighter.recompute, tighter.fits })
        assert.is_true(tighter.bytes < tight.bytes and tight.bytes < free.bytes)
        local none = fit.new(model, 1000)("finetune", s)
        assert.same({ 1, true, false }, { none.micro, none.recompute, none.fits })
        local said = fit.new(model, 1000)("condition", { batch = 64, micro = 16, recompute = false })
        assert.same({ 16, false, false }, { said.micro, said.recompute, said.fits })
        assert.is_false(model:recompute())
    end)

    it("needs what was foretold, and recomputation changes no bit", function()
        local dataset = distac.dataset.tensors(distac.tensor.zeros({ 64, 3, 32, 32 }, { dtype = "u8" }),
            distac.tensor.zeros({ 64 }, { dtype = "i64" }), 4)
        local head = distac.head(distac.tensor.randn({ 4, 16 }, { seed = 2 }))
        local suite = {
            tasks = { "only" }, makes_models = true, model = function() return model:clone() end,
            head = function() return head end, dataset = function() return dataset end,
        }
        local training = require "distac.training"
        local function train(recompute)
            collectgarbage()
            collectgarbage()
            local before = distac.context_info().memory_used
            distac.reset_peak()
            local made = training.finetune {
                suite = suite, task = "only", loss = distac.loss.cross_entropy {}, seed = 1, recompute = recompute,
                settings = { steps = 3, batch = 64, lr = 1e-3, weight_decay = 0.1, clip = 1, micro = 0,
                             warmup = 0 },
                store = { partial = function() end, save_partial = function() end }, key = "x", what = "",
                progress = require("distac.progress").new { quiet = true },
            }
            return made["visual.conv1.weight"]:table(), distac.context_info().memory_peak - before
        end
        local choose = fit.new(model, math.huge)
        local plain, plain_peak = train(false)
        local again, again_peak = train(true)
        assert.same(plain, again)
        assert.is_true(again_peak < plain_peak)
        -- The foretold sum holds one model more than this test: the base.
        local held = 4 * model:numel()
        assert.is_true(plain_peak <= choose("finetune", { batch = 64, recompute = false }).bytes - held)
        assert.is_true(again_peak <= choose("finetune", { batch = 64, recompute = true }).bytes - held)
        -- At this size the allowance for packed factors is most of it; without that the sum is no wild guess.
        local lean = choose("finetune", { batch = 64, recompute = false }).bytes - held - 16 * 2 ^ 20
        assert.is_true(plain_peak >= 0.5 * lean)
    end)
end)
