-- Every kind of mistake in a recipe: one message each with file, line, path and the nearest valid choice, all at
-- once, before any work.
local distac = require "distac"
local recipe = require "distac.recipe"
local tiny = require "spec.tiny"

local root, file

local text = [[
local distac = require "distac"

return distac.recipe {
    name  = "good",
    suite = distac.folder_suite { root = "ROOT/data", model = "ROOT/base.safetensors" },
    finetune = {
        steps = 30, batch = 8, lr = 3e-3,
        loss  = distac.loss.cross_entropy { label_smoothing = 0.1 },
        tasks = { beta = { lr = 1e-2 } },
    },
    condition = {
        kappa = 1,
        temperature = { teacher = 1, student = 10 },
        tasks = {
            alpha = { kappa = 0.8, temperature = { student = 5 } },
            beta  = false,
        },
    },
    merge  = { "task_arithmetic", distac.merge.ties { keep = 0.3, lambda = 0.4 },
               function(base, taus) local a, b = base, taus return a + b[1] end },
    lambda = distac.grid(0, 1, 0.25),
}
]]

-- Loads the good text with one piece exchanged; returns the recipe or the list of messages.
local function load(from, to, sets)
    local changed = (text:gsub("ROOT", root))
    if from then
        local first, last = changed:find(from, 1, true)
        assert(first, "the text does not hold " .. from)
        changed = changed:sub(1, first - 1) .. to .. changed:sub(last + 1)
    end
    tiny.write(file, changed)
    local loaded, mistakes = recipe.load(file, sets)
    return loaded, mistakes and mistakes.messages
end

local function one(from, to, line, path, ...)
    local loaded, messages = load(from, to)
    assert.is_nil(loaded)
    assert.equal(1, #messages, table.concat(messages, "\n"))
    local start = file .. ":" .. line .. ": " .. path .. ": "
    assert.equal(start, messages[1]:sub(1, #start))
    for _, piece in ipairs { ... } do
        assert.truthy(messages[1]:find(piece, 1, true), messages[1] .. " lacks " .. piece)
    end
end

describe("recipe", function()
    setup(function()
        root = tiny.suite({ "alpha", "beta" }, 2)
        file = root .. "/recipe.lua"
    end)
    teardown(function() tiny.remove(root) end)

    it("loads, with defaults, and does no work", function()
        local loaded = assert(load())
        local v = loaded.values
        assert.equal(0.5, v.condition.beta)
        assert.equal(0.1, v.finetune.weight_decay)
        assert.equal(0, v.condition.weight_decay)
        assert.equal(1, v.condition.clip)
        assert.is_false(v.condition.tasks.beta)
        assert.same({ "alpha", "beta" }, loaded.suite.tasks)
        assert.is_nil(distac.fs.kind("runs/good"))
    end)

    it("resolves the settings of every task", function()
        local loaded = assert(load())
        local settings = require "distac.settings"
        local ft = settings.finetune(loaded.values, "beta")
        assert.equal(1e-2, ft.lr)
        assert.equal(3, ft.warmup)
        local s = settings.condition(loaded.values, "alpha", { alpha = 1, beta = 2 }, { "alpha", "beta" })
        assert.equal(0.8, s.kappa)
        assert.same({ teacher = 1, student = 5 }, s.temperature)
        assert.is_nil((settings.condition(loaded.values, "beta", { alpha = 1, beta = 2 }, { "alpha", "beta" })))
    end)

    it("takes the published code's choices where the recipe names them", function()
        local settings = require "distac.settings"
        local norms, tasks = { alpha = 1, beta = 2 }, { "alpha", "beta" }
        local plain = assert(load()).values
        for _, s in ipairs { settings.finetune(plain, "alpha"),
            (settings.condition(plain, "alpha", norms, tasks)) } do
            assert.same({}, { s.horizon, s.accumulate, s.optimizer })
        end
        local v = assert(load("kappa = 1,",
            [[kappa = 1, warmup = 500, horizon = 5000, micro = 4, accumulate = "sum",]])).values
        local s = settings.condition(v, "alpha", norms, tasks)
        assert.same({ 500, 5000, "sum", 4 }, { s.warmup, s.horizon, s.accumulate, s.micro })
        v = assert(load("steps = 30,",
            [[steps = 30, optimizer = distac.adamw { coupled = true, weight_decay = 0.2 },]])).values
        s = settings.finetune(v, "alpha")
        assert.same({ true, 0.2 }, { s.optimizer.coupled, s.weight_decay })
    end)

    it("wants the size of the micro-batches whose gradients are summed", function()
        one("kappa = 1,", [[kappa = 1, accumulate = "sum",]], 12, "condition.accumulate", "condition.micro")
        one("kappa = 1,", [[kappa = 1, accumulate = "summ",]], 12, "condition.accumulate", "sum")
    end)

    it("rescales the longest vector with match_norm for all tasks, the task itself under its name", function()
        local settings = require "distac.settings"
        local rule = require("distac.parts").match_norm "mean"
        local tasks, norms = { "a", "b", "c" }, { a = 2, b = 10, c = 4 }
        local whole = { condition = { kappa = rule, temperature = { teacher = 10, student = 10 }, steps = 1 } }
        assert.equal(0.3, settings.condition(whole, "b", norms, tasks).kappa)
        assert.is_nil((settings.condition(whole, "a", norms, tasks)))
        local own = { condition = { kappa = 1, temperature = { teacher = 10, student = 10 }, steps = 1,
                                    tasks = { a = { kappa = rule } } } }
        assert.equal(3.5, settings.condition(own, "a", norms, tasks).kappa)
        local fn = { condition = { kappa = function(n, task) return n[task] / 10 end, steps = 1,
                                   temperature = { teacher = 1, student = 1 } } }
        assert.equal(0.2, settings.condition(fn, "a", norms, tasks).kappa)
    end)

    it("turns functions of the suite's tasks into tables, and multiplies rates", function()
        local loaded = assert(load("tasks = { beta = { lr = 1e-2 } },",
            "tasks = function(tasks) return { [tasks[2]] = { lr_times = 10, steps = 50 } } end,"))
        local settings = require "distac.settings"
        local s = settings.finetune(loaded.values, "beta")
        assert.same({ 3e-2, 50, 5 }, { s.lr, s.steps, s.warmup })
        assert.equal(3e-3, settings.finetune(loaded.values, "alpha").lr)
        loaded = assert(load("lambda = distac", [[variants = function(tasks)
        local list = {}
        for i, task in ipairs(tasks) do
            list[i] = { name = task, set = { ["finetune.tasks." .. task .. ".lr_times"] = 2 } }
        end
        return list
    end,
    lambda = distac]]))
        assert.same({ "alpha", "beta" }, { loaded.variants[1].name, loaded.variants[2].name })
        assert.equal(6e-3, settings.finetune(loaded.variants[1].values, "alpha").lr)
        assert.equal(2e-2, settings.finetune(loaded.variants[2].values, "beta").lr)
        one("tasks = { beta = { lr = 1e-2 } },", "tasks = function(t) return t.none.x end,", 9, "finetune.tasks",
            "the function failed: ")
        one("tasks = { beta = { lr = 1e-2 } },", "tasks = function() return 3 end,", 9, "finetune.tasks",
            "must return a table, it returned 3")
    end)

    it("fills what is left open from the suite, for the joint model from the section of single ones", function()
        local fill = require "distac.recipe_fill"
        local mini8 = require("distac.suites.mini8").defaults
        local clip8 = require("distac.suites.clip8").defaults
        local raw = { finetune = { lr = 3 }, condition = {}, merge = { "ties" }, curves = true }
        fill.defaults(raw, clip8)
        assert.same({ 2000, 128, 3, 0.1, nil, 1 }, { raw.finetune.steps, raw.finetune.batch, raw.finetune.lr,
            raw.finetune.weight_decay, raw.finetune.warmup, raw.finetune.clip })
        assert.same({ 500, 0, 100 }, { raw.condition.steps, raw.condition.weight_decay, raw.curves })
        raw.mtl = true
        fill.finish(raw, clip8, 8)
        assert.same({ 200, 200 }, { raw.finetune.warmup, raw.condition.warmup })
        assert.same({ 16000, 3, 1600 }, { raw.mtl.steps, raw.mtl.lr, raw.mtl.warmup })
        raw = { finetune = { steps = 100 }, condition = { steps = 60 }, merge = { "ties" } }
        fill.defaults(raw, clip8, true)
        assert.same({ 0, 1, 0.05 }, { raw.lambda.args[1], raw.lambda.args[2], raw.lambda.args[3] })
        fill.finish(raw, clip8, 8)
        assert.same({ 10, 24 }, { raw.finetune.warmup, raw.condition.warmup })
        raw = { finetune = {}, condition = {}, merge = { "ties" } }
        fill.defaults(raw, mini8, true)
        fill.finish(raw, mini8, 8)
        assert.same({ 350, 64, 2e-4, 35 },
            { raw.finetune.steps, raw.finetune.batch, raw.finetune.lr, raw.finetune.warmup })
        assert.same({ 50, 64, 4e-4, 5, 0.5 }, { raw.condition.steps, raw.condition.batch, raw.condition.lr,
            raw.condition.warmup, raw.condition.beta })
        assert.equal(0.1, raw.lambda.args[3])
        assert.is_nil(raw.mtl)
    end)

    it("names an unknown key and the nearest", function()
        one("steps = 30", "stpes = 30", 7, "finetune.stpes", "unknown key", "did you mean 'steps'?")
        one("    condition =", "    conditon =", 11, "conditon", "did you mean 'condition'?")
        one("label_smoothing", "label_smooting", 8, "finetune.loss.label_smooting", "label_smoothing")
    end)

    it("names a wrong type", function()
        one("batch = 8", "batch = '8'", 7, "finetune.batch", "wanted a whole number", "got '8'")
        one("steps = 30", "steps = 30.5", 7, "finetune.steps", "30.5 is not a whole number")
        one("{ teacher = 1, student = 10 }", "'hot'", 13, "condition.temperature", "got 'hot'")
        one("beta  = false", "beta  = true", 16, "condition.tasks.beta", "wanted a table of settings, or false")
    end)

    it("names a value out of range", function()
        one("student = 10", "student = 0", 13, "condition.temperature.student", "0 is not a number above 0")
        one("student = 10", "student = -1", 13, "condition.temperature.student", "-1 is not a number above 0")
        one("student = 10", "student = 0/0", 13, "condition.temperature.student", "is not a number above 0")
        one("kappa = 0.8", "kappa = -1", 15, "condition.tasks.alpha.kappa", "-1 is not a number from 0")
        one("label_smoothing = 0.1", "label_smoothing = 1", 8, "finetune.loss.label_smoothing", "to below 1")
        one("keep = 0.3", "keep = 3", 19, "merge[2].keep", "3 is not a number from 0 to 1")
        one("distac.grid(0, 1, 0.25)", "distac.grid(0, 1, 0)", 21, "lambda", "grid")
        one("distac.grid(0, 1, 0.25)", "distac.grid(0, -1, 0.25)", 21, "lambda", "-1 is not a number")
    end)

    it("names an undefined global, wherever it stands", function()
        one("kappa = 1,", "kappa = kapa,", 12, "condition.kappa", "'kapa' is not defined")
        one("distac.grid(", "distac.gird(", 21, "lambda", "'distac.gird' is not defined", "did you mean 'grid'?")
        one("distac.folder_suite {", "distc.folder_suite {", 5, "suite", "'distc' is not defined",
            "did you mean 'distac'?")
    end)

    it("names an unknown method, loss and task", function()
        one('"task_arithmetic"', '"task_arithmetik"', 19, "merge[1]", "did you mean 'task_arithmetic'?")
        one("distac.merge.ties", "distac.merge.tise", 19, "merge[2]", "did you mean 'ties'?")
        one("distac.loss.cross_entropy", "distac.loss.cross_entrpy", 8, "finetune.loss",
            "did you mean 'cross_entropy'?")
        one("beta  = false", "beat  = false", 16, "condition.tasks.beat", "did you mean 'beta'?")
        one("{ beta = {", "{ bet = {", 9, "finetune.tasks.bet", "did you mean 'beta'?")
    end)

    it("names a wrong suite and missing files", function()
        one('distac.folder_suite { root = "' .. root .. '/data", model = "' .. root .. '/base.safetensors" }',
            '"mini9"', 5, "suite", "unknown suite 'mini9'", "did you mean 'mini8'?")
        one("base.safetensors", "bass.safetensors", 5, "suite.model", "there is no file")
        one("/data", "/date", 5, "suite.root", "there is no folder")
        one("root = ", "rot = ", 5, "suite.rot", "did you mean 'root'?")
    end, "files")

    it("wants sources that exist, one for each task", function()
        local loaded, messages = load("    finetune = {",
            '    sources = { alpha = "none.safetensors" }, finetune = {')
        assert.is_nil(loaded)
        local all = table.concat(messages, "\n")
        assert.truthy(all:find("not both", 1, true))
        assert.truthy(all:find("sources.alpha: there is no file 'none.safetensors'", 1, true))
        assert.truthy(all:find("the task 'beta' has no source", 1, true))
    end)

    it("tells syntax errors and errors of the text with file and line", function()
        local loaded, messages = load("kappa = 1,", "kappa = = 1,")
        assert.is_nil(loaded)
        assert.equal(file .. ":12: ", messages[1]:sub(1, #file + 5))
        loaded, messages = load("return distac", "local x = nil + 1\nreturn distac")
        assert.is_nil(loaded)
        assert.equal(file .. ":3: ", messages[1]:sub(1, #file + 4))
    end)

    it("wants text, an existing file and distac.recipe at its end", function()
        local _, mistakes = recipe.load(root .. "/none.lua")
        assert.truthy(mistakes.messages[1]:find(root .. "/none.lua: ", 1, true))
        tiny.write(file, string.dump(function() return 1 end))
        local loaded, compiled = recipe.load(file)
        assert.is_nil(loaded)
        assert.equal(file .. ":1: ", compiled.messages[1]:sub(1, #file + 4))
        tiny.write(file, "return { name = 'x' }")
        _, mistakes = recipe.load(file)
        assert.truthy(mistakes.messages[1]:find("must end with: return distac.recipe", 1, true))
    end)

    it("tells all mistakes at once, in the order of their lines", function()
        local changed = text:gsub("ROOT", root):gsub("steps = 30", "stepz = 30")
            :gsub("student = 10", "student = 0")
            :gsub("kappa = 1,", "kappa = nothing,"):gsub('"task_arithmetic"', '"task"')
        tiny.write(file, changed)
        local _, mistakes = recipe.load(file)
        assert.equal(4, #mistakes.messages, mistakes.message)
        local last = 0
        for _, message in ipairs(mistakes.messages) do
            local line = tonumber(message:match ":(%d+): ")
            assert.is_true(line >= last)
            last = line
        end
    end)

    it("takes the enclosing call's line where the text does not show the key", function()
        tiny.write(file, ([[
local distac = require "distac"
local t = {}
t.name = "x"
t.suite = "mini9"
t.sources = {}
return distac.recipe(t)
]]))
        local _, mistakes = recipe.load(file)
        assert.equal(file .. ":6: suite: ", mistakes.messages[1]:sub(1, #file + 11))
    end)

    it("applies --set by the schema's type and checks it like the file", function()
        local function set(path, value) return { { path = path, text = value, label = "--set " .. path } } end
        local loaded = assert(load(nil, nil, set("condition.temperature.student", "7")))
        assert.equal(7, loaded.values.condition.temperature.student)
        loaded = assert(load(nil, nil, set("condition.tasks.alpha", "false")))
        assert.is_false(loaded.values.condition.tasks.alpha)
        loaded = assert(load(nil, nil, set("merge", "ties,tsvm")))
        assert.equal(2, #loaded.values.merge)
        loaded = assert(load(nil, nil, set("lambda", "0:1:0.5")))
        assert.same({ 0, 0.5, 1 }, (require("distac.settings").lambda(loaded.values)))
        loaded = assert(load(nil, nil, set("condition.kappa", "match_norm(mean)")))
        assert.equal("match_norm(mean)", tostring(loaded.values.condition.kappa))
        loaded = assert(load(nil, nil, set("finetune.loss.label_smoothing", "0.3")))
        assert.equal(0.3, loaded.values.finetune.loss.params.label_smoothing)
        local _, messages = load(nil, nil, set("finetune.stps", "7"))
        assert.same({ "--set finetune.stps: finetune.stps: unknown key; did you mean 'steps'?" }, messages)
        _, messages = load(nil, nil, set("finetune.steps", "many"))
        assert.truthy(messages[1]:find("wanted a whole number", 1, true))
        _, messages = load(nil, nil, set("condition.temperature.student", "0"))
        assert.truthy(messages[1]:find("0 is not a number above 0", 1, true))
        _, messages = load(nil, nil, set("merge", "ties,tise"))
        assert.same({ "--set merge: merge[2]: unknown method 'tise'; did you mean 'ties'?" }, messages)
        loaded = assert(load(nil, nil, set("condition.optimizer", "adam")))
        assert.is_true(loaded.values.condition.optimizer.params.coupled)
    end)

    it("takes constructors without their braces, and an optimizer's name", function()
        local settings = require "distac.settings"
        local loaded = assert(load('"task_arithmetic"', "distac.merge.tsvm"))
        assert.equal("tsvm", settings.merges(loaded.values, loaded)[1].name)
        loaded = assert(load("kappa = 1,", "kappa = distac.match_norm(), "))
        local norms, tasks = { alpha = 1, beta = 2 }, { "alpha", "beta" }
        assert.equal("match_norm()", tostring(loaded.values.condition.kappa))
        assert.equal(0.8, settings.condition(loaded.values, "alpha", norms, tasks).kappa)
        loaded = assert(load("kappa = 1,", 'kappa = 1, optimizer = "adamw", '))
        assert.same({}, settings.condition(loaded.values, "alpha", norms, tasks).optimizer)
        one("kappa = 1,", 'kappa = 1, optimizer = "sgd", ', 12, "condition.optimizer", "adamw", "sgd")
        one("kappa = 1,", "kappa = 0/0, ", 12, "condition.kappa", "nan is not a number")
    end)

    it("checks variants like the rest", function()
        one("    lambda =", '    variants = { { name = "a", set = { ["finetune.stps"] = 3 } } }, lambda =', 21,
            "variants[1].set.finetune.stps", "did you mean 'steps'?")
        one("    lambda =", '    variants = { { name = "a", set = { ["finetune.steps"] = "x" } } }, lambda =', 21,
            "variants[1].set.finetune.steps", "wanted a whole number")
        local loaded = assert(load("    lambda =", '    variants = { { name = "a" }, { name = "b", '
            .. 'set = { ["finetune.tasks.alpha.lr"] = 0.5 } } }, lambda ='))
        assert.is_nil(loaded.variants[1].values.finetune.tasks.alpha)
        assert.equal(0.5, loaded.variants[2].values.finetune.tasks.alpha.lr)
    end)

    it("works from a script, raising all mistakes with the script's lines", function()
        local loaded = distac.recipe { name = "x", suite = distac.folder_suite { root = root .. "/data",
            model = root .. "/base.safetensors" }, finetune = { steps = 1 } }
        assert.equal("x", loaded.values.name)
        local ok, mistakes = pcall(function()
            return distac.recipe {
                name = "x",
                suite = "mini9",
            }
        end)
        assert.is_false(ok)
        assert.truthy(tostring(mistakes):find "recipe_spec.lua:%d+: suite: unknown suite")
    end)

    it("ships recipes that load", function()
        local names = { "original", "norm_mismatch", "low_confidence", "both", "mixup", "focal_loss",
                        "scaling_sweep", "label_smoothing_sweep" }
        local fashion = tiny.folder()
        for _, name in ipairs(names) do
            local loaded, mistakes = recipe.load(distac.paths.recipes .. "/" .. name .. ".lua",
                { { path = "data.fashion", text = fashion, label = "--set" } })
            assert(loaded, tostring(mistakes))
            assert.equal(name, loaded.values.name)
        end
        tiny.remove(fashion)
    end)

    it("tells where a rule of the user's failed, with status 2 from plan", function()
        local sources = "sources = { alpha = 'base.safetensors', beta = 'base.safetensors' },\n    condition"
        local whole = text:gsub("ROOT", root):gsub("finetune = {.-\n    },\n    condition", sources)
        local function planned(rule)
            tiny.write(file, (whole:gsub("kappa = 1,", function() return "kappa = " .. rule .. "," end)
                :gsub("tasks = {.-},\n            beta  = false,\n        },", "")))
            return tiny.run({ "plan", "recipe.lua" }, root)
        end
        local status, out, err = planned "function(norms) return norms.alpha + missing end"
        assert.equal(2, status, err)
        assert.equal("", out)
        assert.truthy(err:find("^recipe.lua:%d+: condition.kappa: .*missing"), err)
        status, _, err = planned "function() return -1 end"
        assert.equal(2, status, err)
        local told = "^recipe.lua:%d+: condition.kappa: the function returned %-1 for task 'alpha'"
        assert.truthy(err:find(told), err)
        assert.equal(0, (planned "function(norms) return norms.alpha + norms.beta + 0.5 end"))
        -- norms that only training will show: the rule is not asked yet
        tiny.write(file, (text:gsub("ROOT", root):gsub("kappa = 1,", "kappa = function() error 'asked' end,")
            :gsub("beta  = false,", ""):gsub("kappa = 0.8, ", "")))
        status, out = tiny.run({ "plan", "recipe.lua" }, root)
        assert.equal(0, status)
        assert.truthy(out:find("kappa function", 1, true))
    end)

    it("ends with status 2 and creates nothing from the command line", function()
        local folder = tiny.folder()
        load("steps = 30", "stepz = 30")
        local status, out, err = tiny.run({ "run", file }, folder)
        assert.equal(2, status)
        assert.equal("", out)
        assert.equal(file .. ":7: finetune.stepz: unknown key; did you mean 'steps'?\n", err)
        load()
        status, out, err = tiny.run({ "run", file, "--set", "finetune.stepz=3" }, folder)
        assert.equal(2, status)
        assert.equal("", out)
        assert.truthy(err:find("did you mean 'steps'?", 1, true))
        assert.same({}, distac.fs.list(folder))
        tiny.remove(folder)
    end)
end)
