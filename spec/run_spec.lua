-- A whole recipe on a tiny suite: results, what a second run and an edit redo, plans.
local distac = require "distac"
local json = require "distac.json"
local tiny = require "spec.tiny"

local root

local function run(words) return tiny.run(words, root) end

local function results(folder) return tiny.results(root .. "/" .. folder) end

-- Names of the stages' files, and their bytes.
local function stages(folder) return tiny.files(root .. "/" .. folder) end

-- Reports what training asks the engine for.
local listen = [[
    local d = require "distac"
    local adamw, cosine = d.adamw, d.schedule.cosine
    d.adamw = function(o)
        io.stderr:write(string.format("ADAMW scale %s coupled %s\n", tostring(o.scale), tostring(o.coupled)))
        return adamw(o)
    end
    d.schedule.cosine = function(lr, step, warmup, steps)
        io.stderr:write(string.format("RATE of %g until %g\n", step, steps))
        return cosine(lr, step, warmup, steps)
    end
]]

describe("run", function()
    setup(function()
        root = tiny.suite({ "alpha", "beta", "gamma" }, 12)
        tiny.recipe(root)
    end)
    teardown(function() tiny.remove(root) end)

    it("trains as the published code does where the recipe says so", function()
        local log = root .. "/dialects"
        os.execute("cd " .. root .. " && " .. tiny.command({ "run", "tiny.lua", "--out", "runs/dialects",
            "--set", "finetune.steps=4", "--set", "condition.steps=4", "--set", "finetune.micro=2",
            "--set", "finetune.accumulate=sum", "--set", "condition.horizon=77" }, nil, listen) .. " >" .. log
            .. " 2>&1")
        local text = tiny.read(log)
        local batch = tonumber(tiny.read(root .. "/tiny.lua"):match "batch%s*=%s*(%d+)")
        for _, line in ipairs { "ADAMW scale " .. math.ceil(batch / 2) .. " coupled nil",
            "ADAMW scale nil coupled nil",
                                "RATE of 0 until 4", "RATE of 3 until 77" } do
            assert.truthy(text:find(line, 1, true), line .. " is not in\n" .. text)
        end
        assert.is_nil(text:find("RATE of 4", 1, true))
    end)

    it("keeps nothing of its trainings while it merges", function()
        local log, look = root .. "/held", [[
            local merging = require "distac.merging"
            local one = merging.one
            function merging.one(run, values, set, ...)
                io.stderr:write("HELD " .. tostring(run.progress.training) .. "\n") -- models, moments
                return one(run, values, set, ...)
            end
        ]]
        os.execute("cd " .. root .. " && " .. tiny.command({ "run", "tiny.lua", "--out", "runs/held",
            "--set", "finetune.steps=2", "--set", "condition.steps=2" }, nil, look) .. " >" .. log .. " 2>&1")
        local text, lines = tiny.read(log), 0
        for line in text:gmatch "HELD [^\n]*" do
            assert.equal("HELD nil", line)
            lines = lines + 1
        end
        assert.is_true(lines > 1, text)
    end)

    it("writes the documented results, report, charts and models", function()
        local status, out, err = run { "run", "tiny.lua", "--json" }
        assert.equal(0, status, err)
        local r = json.decode(out)
        assert.equal(out, tiny.read(root .. "/runs/tiny/results.json"))
        assert.equal("tiny", r.recipe)
        assert.equal(0, r.seed)
        assert.equal(distac.version, r.engine)
        assert.same({ "alpha", "beta", "gamma" }, { r.tasks[1], r.tasks[2], r.tasks[3] })
        for _, task in ipairs(r.tasks) do
            for _, part in ipairs { r.zero_shot, r.individual, r.conditioned } do
                assert.is_true(part.accuracy[task] >= 0 and part.accuracy[task] <= 1)
            end
            for _, part in ipairs { r.individual, r.conditioned } do
                assert.is_true(part.entropy[task] >= 0)
                assert.is_true(part.norm[task] > 0)
            end
            assert.equal(1, r.conditioned.kappa[task])
            assert.equal(10, r.conditioned.temperature[task].student)
            local curve = r.conditioned.curves[task]
            assert.same({ 0, 10, 20 }, { curve[1].step, curve[2].step, curve[3].step })
            assert.is_true(math.abs(curve[1].norm_ratio - 1) < 1e-5)
        end
        local mean = (r.individual.accuracy.alpha + r.individual.accuracy.beta + r.individual.accuracy.gamma) / 3
        assert.is_true(math.abs(mean - r.individual.mean) < 1e-12)
        assert.equal(4, #r.merges)
        for _, merge in ipairs(r.merges) do
            local sum, normal = 0, 0
            for _, task in ipairs(r.tasks) do
                sum = sum + merge.accuracy[task]
                normal = normal + merge.accuracy[task] / r.individual.accuracy[task]
            end
            assert.is_true(math.abs(sum / 3 - merge.mean_accuracy) < 1e-12)
            assert.is_true(math.abs(normal / 3 - merge.mean_normalized_accuracy) < 1e-12)
            assert.is_true(merge.lambda >= 0 and merge.lambda <= 1)
        end
        for _, key in ipairs { "finetune", "condition", "merge", "evaluate" } do
            assert.is_true(r.timing[key] >= 0)
        end
        local files = {}
        for _, name in ipairs(distac.fs.list(root .. "/runs/tiny")) do files[name] = true end
        for _, name in ipairs { "results.json", "report.md", "recipe.json", "recipe.lua", "merge.png", "norms.png",
                                "entropies.png", "distillation.png", "lambda.png", "reliability.png",
                                "merged-ties.safetensors", "merged-task_arithmetic.safetensors" } do
            assert.is_true(files[name], name)
        end
        local base = distac.load(root .. "/base.safetensors")
        local merged = distac.load(root .. "/runs/tiny/merged-ties.safetensors")
        assert.same(base:names(), merged:names())
        assert.truthy(merged:metadata()["distac.recipe"])
    end)

    it("chooses lambda as the full grid on validation data would", function()
        local r = results "runs/tiny"
        local suite = require("distac.recipe").load(root .. "/tiny.lua").suite
        local base = suite:base()
        local taus = {}
        for i, task in ipairs(suite.tasks) do
            taus[i] = distac.load(root .. "/" .. r.models[task].source) - base
        end
        local function score(ck)
            local sum = 0
            for i, task in ipairs(suite.tasks) do
                local ds, head = suite:dataset(task, "validation"), suite:head(task)
                local function accuracy(model)
                    return distac.metrics(ds:logits(model, head), ds:labels()).accuracy
                end
                sum = sum + accuracy(suite:model():with(ck)) / accuracy(suite:model():with(base + taus[i]))
            end
            return sum / #taus
        end
        local delta = distac.merge.task_arithmetic {}:delta(taus)
        local best, best_score
        for _, lambda in ipairs { 0, 0.25, 0.5, 0.75, 1 } do
            local s = score(base + lambda * delta)
            if not best or s > best_score then best, best_score = lambda, s end
        end
        assert.is_false(r.merges[1].conditioned)
        assert.equal("task_arithmetic", r.merges[1].method)
        assert.equal(best, r.merges[1].lambda)
        for _, point in ipairs(r.merges[1].curve) do
            if point.lambda == best then assert.is_true(math.abs(point.score - best_score) < 1e-12) end
        end
    end)

    it("does nothing the second time", function()
        local before, text = stages "runs/stages", tiny.read(root .. "/runs/tiny/results.json")
        local status, _, err = run { "run", "tiny.lua" }
        assert.equal(0, status)
        assert.is_nil(err:find("fine-tuning", 1, true))
        assert.same(before, stages "runs/stages")
        assert.equal(text, tiny.read(root .. "/runs/tiny/results.json"))
    end)

    it("redoes only what an edit touches", function()
        local before = stages "runs/stages"
        local status, _, err = run { "run", "tiny.lua", "--set", "condition.tasks.beta.temperature.student=5" }
        assert.equal(0, status)
        local _, trained = err:gsub("fine%-tuning", "")
        local _, conditioned = err:gsub("conditioning %a+ ", "")
        assert.equal(0, trained)
        assert.equal(1, conditioned)
        local after = stages "runs/stages"
        for name, bytes in pairs(before) do assert.equal(bytes, after[name]) end
        -- One conditioned model (2 files), its test and validation accuracy at most, two conditioned merges.
        assert.is_true(tiny.count(after) - tiny.count(before) <= 6)
        status, _, err = run { "run", "tiny.lua", "--set", "merge=ties" }
        assert.equal(0, status)
        assert.is_nil(err:find("conditioning", 1, true))
    end)

    it("gives the same from a script", function()
        local loaded = require("distac.recipe").load(root .. "/tiny.lua")
        local r = loaded:run { out = root .. "/script", stages = root .. "/runs/stages", quiet = true }
        assert.equal(tiny.without_time(results "runs/tiny"):match '"zero_shot".*', tiny.without_time(json.decode(
            require("distac.report").json(r))):match '"zero_shot".*')
    end)

    it("plans without creating anything, and tells what is done", function()
        local status, out = run { "plan", "tiny.lua", "--out", "planned", "--json" }
        assert.equal(0, status)
        local plan = json.decode(out).plans[1]
        assert.equal(3 * 30 + 3 * 20, plan.steps_left)
        assert.is_true(plan.memory_peak > 0 and plan.disk > 0)
        assert.is_nil(distac.fs.kind(root .. "/planned"))
        status, out = run { "plan", "tiny.lua" }
        assert.equal(0, status)
        assert.truthy(out:find("label_smoothing 0.1", 1, true))
        assert.truthy(out:find("steps left 0,", 1, true))
    end)

    it("refuses sources that do not fit the base before any work", function()
        local other = distac.vit { image = 8, patch = 4, channels = 1, width = 16, layers = 2, heads = 2, dim = 16,
                                   activation = "gelu", seed = 6 }
        distac.save(root .. "/other.safetensors", other:checkpoint())
        tiny.write(root .. "/misfit.lua", string.format([[
local distac = require "distac"
return distac.recipe {
    name = "misfit", suite = distac.folder_suite { root = "%s/data", model = "%s/base.safetensors" },
    sources = { alpha = "other.safetensors", beta = "base.safetensors", gamma = "base.safetensors" },
    merge = { "average" },
}
]], root, root))
        local status, _, err = run { "run", "misfit.lua" }
        assert.equal(2, status)
        assert.truthy(err:find("misfit.lua:4: sources.alpha: ", 1, true), err)
        assert.truthy(err:find("visual.conv1.weight", 1, true))
        assert.is_nil(distac.fs.kind(root .. "/runs/misfit"))
    end)
end)
