-- A whole recipe on a tiny suite: results, caching, edits, and runs that are killed and continued.
local distac = require "distac"
local json = require "distac.json"
local tiny = require "spec.tiny"

local root

local function run(words) return tiny.run(words, root) end

local function results(folder) return json.decode(tiny.read(root .. "/" .. folder .. "/results.json")) end

-- Names of the stages' files, and their bytes.
local function stages(folder)
    local out = {}
    for _, name in ipairs(distac.fs.list(root .. "/" .. folder)) do
        out[name] = tiny.read(root .. "/" .. folder .. "/" .. name)
    end
    return out
end

local function count(t)
    local n = 0
    for _ in pairs(t) do n = n + 1 end
    return n
end

-- Models of a run: every safetensors file of the folder and its stages.
local function models(folder)
    local out = {}
    for _, part in ipairs { folder, folder .. "/stages" } do
        for _, name in ipairs(distac.fs.list(root .. "/" .. part)) do
            if name:find "%.safetensors$" then out[name] = tiny.read(root .. "/" .. part .. "/" .. name) end
        end
    end
    return out
end

local function without_time(t)
    t.timing = nil
    t.models = nil
    return json.encode(t)
end

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
        assert.is_true(count(after) - count(before) <= 6)
        status, _, err = run { "run", "tiny.lua", "--set", "merge=ties" }
        assert.equal(0, status)
        assert.is_nil(err:find("conditioning", 1, true))
    end)

    it("gives the same from a script", function()
        local loaded = require("distac.recipe").load(root .. "/tiny.lua")
        local r = loaded:run { out = root .. "/script", stages = root .. "/runs/stages", quiet = true }
        assert.equal(without_time(results "runs/tiny"):match '"zero_shot".*', without_time(json.decode(
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

    it("continues a killed run bit for bit", function()
        local words = { "run", "tiny.lua", "--quiet", "--set", "finetune.steps=400", "--set",
                        "condition.steps=200" }
        local function to(folder)
            local list = { "--out", folder }
            for i = #words, 1, -1 do table.insert(list, 1, words[i]) end
            return list
        end
        local begun = distac.clock()
        assert.equal(0, (run(to "whole")))
        local length = distac.clock() - begun
        local whole = models "whole"
        assert.is_true(count(whole) >= 10)
        local function compare()
            assert.equal(without_time(results "whole"), without_time(results "cut"))
            local cut = models "cut"
            for name, bytes in pairs(whole) do assert.is_true(bytes == cut[name], name) end
            for name in pairs(cut) do assert.is_nil(name:find("partial", 1, true)) end
        end
        -- Killed at random moments; a run that gets through is compared and begun again from nothing.
        local command = tiny.command(to "cut", "", 'require("distac.training").save_every = 0.01')
        local killed, tries, random = 0, 0, distac.rng(99)
        while killed < 20 and tries < 60 do
            tries = tries + 1
            -- --foreground: the end of the killed one is waited for, no other process is hit
            os.execute(string.format("cd %s && timeout --foreground -s KILL %.3f sh -c %s >/dev/null 2>&1; echo $? >rc",
                tiny.quote(root), 0.03 + length * 0.6 * random:uniform(), tiny.quote("exec " .. command)))
            if tonumber(tiny.read(root .. "/rc")) == 0 then
                compare()
                tiny.remove(root .. "/cut")
            else
                killed = killed + 1
            end
        end
        assert.equal(20, killed)
        assert.equal(0, (run(to "cut")))
        compare()
    end)

    it("clears what a kill between the result and the end of a stage left behind", function()
        local folder, left = root .. "/whole/stages", nil
        for _, name in ipairs(distac.fs.list(folder)) do
            left = left or name:match("^(%x+)%.safetensors$")
        end
        tiny.write(folder .. "/" .. left .. ".partial.safetensors", "stale")
        assert.equal(0, (run { "run", "tiny.lua", "--quiet", "--set", "finetune.steps=400", "--set",
                               "condition.steps=200", "--out", "whole" }))
        assert.is_nil(distac.fs.kind(folder .. "/" .. left .. ".partial.safetensors"))
        assert.is_not_nil(distac.fs.kind(folder .. "/" .. left .. ".safetensors"))
    end)

    it("gives the same bits on 1, 2, 3 and 8 threads", function()
        local first
        for _, threads in ipairs { 1, 2, 3, 8 } do
            local folder = "threads" .. threads
            local status, _, err = run { "run", "tiny.lua", "--quiet", "--out", folder, "--threads",
                tostring(threads) }
            assert.equal(0, status, err)
            local found = models(folder)
            assert.is_true(count(found) >= 10)
            assert.is_not_nil(found["merged-ties.safetensors"])
            first = first or found
            assert.equal(count(first), count(found))
            for name, bytes in pairs(first) do assert.is_true(bytes == found[name], name .. " on " .. folder) end
            assert.equal(without_time(results "threads1"), without_time(results(folder)))
        end
    end)

    it("saves its state when it is interrupted, and continues bit for bit", function()
        local recipe = require "distac.recipe"
        local sets = { { path = "finetune.loss", text = "mixup", label = "--set" } }
        local function go(folder, stop_at)
            local progress = require "distac.progress"
            local new, steps = progress.new, 0
            progress.new = function(options)
                local bar = new(options)
                bar.update = function()
                    steps = steps + 1
                    if steps == stop_at then distac.cancel() end
                end
                return bar
            end
            local ok, err = pcall(function()
                return recipe.load(root .. "/tiny.lua", sets):run { out = root .. "/" .. folder, quiet = true }
            end)
            progress.new = new
            distac.cancel_clear()
            return ok, err
        end
        assert.is_true((go "calm"))
        for _, stop_at in ipairs { 5, 20, 45, 100, 130 } do
            local ok, err = go("stopped", stop_at)
            if not ok then assert.equal("ECANCELED", type(err) == "table" and err.code, tostring(err)) end
        end
        assert.is_true((go "stopped"))
        local calm, stopped = models "calm", models "stopped"
        for name, bytes in pairs(calm) do assert.is_true(bytes == stopped[name], name) end
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

describe("variants and scaling", function()
    setup(function() root = tiny.suite({ "alpha", "beta" }, 8) end)
    teardown(function() tiny.remove(root) end)

    it("reports sources that are not finite, and what a merge function got wrong", function()
        local base, sick = distac.load(root .. "/base.safetensors"), {}
        for _, name in ipairs(base:names()) do sick[name] = base[name]:clone() end
        sick["visual.proj"][{ 2, 1 }] = 1 / 0
        distac.save(root .. "/sick.safetensors", sick, { metadata = base:metadata() })
        local text = [[
local distac = require "distac"
return distac.recipe {
    name = "sick", suite = distac.folder_suite { root = "data", model = "base.safetensors" },
    sources = { alpha = "SOURCE.safetensors", beta = "base.safetensors" },
    merge = { function(base, taus) return MERGED end }, lambda = 1,
}
]]
        local function status_of(source, merged)
            tiny.write(root .. "/sick.lua", (text:gsub("SOURCE", source):gsub("MERGED", merged)))
            local status, _, err = tiny.run({ "run", "sick.lua", "--quiet", "--out", "sick" }, root)
            return status, err
        end
        local status, err = status_of("sick", "taus[1]")
        assert.equal(2, status)
        assert.truthy(err:find("sick.lua:4: sources.alpha: sick.safetensors: visual.proj has 1 elements that are "
            .. "not finite, the first at 16", 1, true), err)
        assert.is_nil(distac.fs.kind(root .. "/sick"))
        status, err = status_of("base", "taus[9]")
        assert.equal(1, status)
        assert.truthy(err:find("custom: the merge function must return", 1, true), err)
        status, err = status_of("base", "taus.none.x")
        assert.equal(1, status)
        assert.truthy(err:find("sick.lua:5: attempt to index", 1, true), err)
        assert.equal(0, (status_of("base", "0.5 * taus[1]")))
        local models = distac.load(root .. "/sick/merged-custom.safetensors"):metadata("distac.models")
        assert.same({ distac.hash.file(root .. "/base.safetensors") }, { json.decode(models)[2] })
    end)

    it("merges with functions of the recipe's own, over tensors and over elements", function()
        local text = [[
local distac = require "distac"
local function sum(tau, out, n)
    for i = 1, n do
        local s = 0
        for k = 1, #tau do s = s + tau[k][i] end
        out[i] = s
    end
end
return distac.recipe {
    name = "own", suite = distac.folder_suite { root = "data", model = "base.safetensors" },
    finetune = { steps = 3, batch = 8, lr = 1e-3 }, lambda = distac.grid(0.5, 1, 0.5),
    merge = {
        distac.merge.task_arithmetic { lambda = 0.5 },
        distac.merge.elementwise(sum, { lambda = 0.5, chunk = 100 }),
        distac.merge.elementwise(sum),
        distac.merge.elementwise(function(tau, out, n, base, where)
            for i = 1, n do out[i] = where.name == "visual.proj" and tau[1][i] or -base[i] end
        end, { name = "blank", lambda = 1, except = "*.ln_1.*" }),
        distac.merge.custom(function(_, taus) return taus[1] + taus[2] end, { name = "whole", lambda = 0.5 }),
    },
}
]]
        tiny.write(root .. "/own.lua", text)
        local status, _, err = run { "run", "own.lua", "--quiet" }
        assert.equal(0, status, err)
        local r, names, points = results "runs/own", {}, {}
        for i, merge in ipairs(r.merges) do names[i], points[i] = merge.method, #(merge.curve or { 1 }) end
        assert.same({ "task_arithmetic", "elementwise", "elementwise-2", "blank", "whole" }, names)
        assert.same({ 1, 1, 2, 1, 1 }, points)
        local function merged(name) return distac.load(root .. "/runs/own/merged-" .. name .. ".safetensors") end
        local want, base, blank = merged "task_arithmetic", distac.load(root .. "/base.safetensors"),
            merged "blank"
        local first = distac.load(root .. "/" .. r.models.alpha.source)
        for _, name in ipairs(want:names()) do
            for _, other in ipairs { "elementwise", "whole" } do
                local far = (merged(other)[name] - want[name]):norm():item()
                assert.is_true(far <= 1e-6 * want[name]:norm():item(), other .. " " .. name .. " " .. far)
            end
            assert.is_true(name == "logit_scale" or (want[name] - base[name]):norm():item() > 0, name)
            local kept = name:find(".ln_1.", 1, true) and base[name] or name == "visual.proj" and first[name]
            local far = (kept and blank[name] - kept or blank[name]):norm():item()
            assert.is_true(far <= 1e-6, "blank " .. name .. " " .. far)
        end
        local before = stages "runs/own"
        status, _, err = run { "run", "own.lua" }
        assert.equal(0, status, err)
        assert.same(before["results.json"], stages("runs/own")["results.json"])
        for change, want_text in pairs {
            [{ "chunk = 100", "chnk = 100" }] = 'did you mean "chunk"?',
            [{ "elementwise%(sum, {", "elementwise(7, {" }] = "function",
            [{ '"blank"', '"a/b"' }] = "files are called by it",
        } do
            tiny.write(root .. "/own.lua", (text:gsub(change[1], change[2])))
            status, _, err = run { "plan", "own.lua" }
            assert.equal(2, status)
            assert.truthy(err:find("merge[", 1, true) and err:find(want_text, 1, true), err)
        end
    end)

    it("runs the same recipe once per variant and gives the means", function()
        tiny.recipe(root, function(text)
            return (text:gsub("curves = 10,", [[scaling = distac.grid(0, 2, 1),
    variants = { { name = "plain" }, { name = "long", set = { ["finetune.tasks.beta.lr"] = 1e-2 } } },]])
                :gsub("kappa = 1,", 'kappa = distac.match_norm("mean"), also_scaled = true,')
                :gsub("teacher = 1, student = 10", "teacher = 10, student = 10"))
        end)
        local status, _, err = run { "run", "tiny.lua" }
        assert.equal(0, status, err)
        local r = results "runs/tiny"
        assert.equal(2, #r.variants)
        assert.equal("long", r.variants[2].name)
        -- alpha is trained once for both variants
        local _, trained = err:gsub("fine%-tuning alpha", "")
        assert.equal(1, trained)
        assert.equal(6, #r.merges)
        for i, merge in ipairs(r.merges) do
            local a, b = r.variants[1].merges[i], r.variants[2].merges[i]
            assert.equal(a.method, merge.method)
            assert.is_true(math.abs((a.mean_accuracy + b.mean_accuracy) / 2 - merge.mean_accuracy) < 1e-12)
        end
        local long = r.variants[2]
        assert.is_true(long.individual.norm.beta > long.individual.norm.alpha)
        local norm = long.individual.norm
        assert.is_true(math.abs(long.conditioned.kappa.beta - norm.alpha / norm.beta) < 1e-9)
        assert.equal(1, long.conditioned.kappa.alpha)
        assert.is_false(long.conditioned.distilled.alpha)
        assert.equal(3, #long.scaling)
        assert.equal(r.zero_shot.accuracy.alpha, long.scaling[1].accuracy.alpha)
        assert.equal(long.individual.accuracy.beta, long.scaling[2].accuracy.beta)
        assert.equal("file", distac.fs.kind(root .. "/runs/tiny/long/merged-ties.safetensors"))
    end)
end)
