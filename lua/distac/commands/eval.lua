-- distac eval: accuracy, entropy and calibration of models on a suite's tasks or on one folder.

local common = require "distac.commands.common"
local json = require "distac.json"

local commands = {}

-- Mistakes that only the suite's files can show are told before any work, too.
local function checked(suite)
    local problems = {}
    if suite.check then suite:check(function(path, what) problems[#problems + 1] = path .. ": " .. what end) end
    if #problems > 0 then common.usage(table.concat(problems, "\n")) end
    return suite
end

-- The suite of a name, or of a recipe file.
local function open_suite(o)
    if o.suite:find("%.lua$") then
        local sets = {}
        for _, word in ipairs(o.set or {}) do
            local path, text = word:match("^([^=]+)=(.*)$")
            if not path then common.usage("--set: wanted PATH=VALUE, got '" .. word .. "'") end
            sets[#sets + 1] = { path = path, text = text, label = "--set " .. word }
        end
        local loaded, wrong = require("distac.recipe").load(o.suite, sets)
        if not loaded then error(wrong, 0) end
        return checked(loaded.suite)
    end
    local data, mistakes = {}, {}
    for _, word in ipairs(o.set or {}) do
        local key, value = word:match("^data%.([^=]+)=(.*)$")
        if not key then common.usage("--set: eval takes data.NAME=VALUE only, got '" .. word .. "'") end
        data[key] = value
    end
    local suites = require "distac.suites"
    local value, why = suites.accept(o.suite)
    if not value then common.usage("--suite: " .. why) end
    local suite = suites.describe(value, data, ".", function(path, what)
        mistakes[#mistakes + 1] = path .. ": " .. what
    end)
    if not suite then common.usage(table.concat(mistakes, "\n")) end
    return checked(suite)
end

commands.open_suite = open_suite

local function measure(ds, vit, head)
    local distac = require "distac"
    local logits = ds:logits(vit, head, { batch = 128 })
    return distac.metrics(logits, ds:labelled() and ds:labels() or nil)
end

local function percent(v) return v and string.format("%.2f", 100 * v) or "-" end
local function three(v) return v and string.format("%.4f", v) or "-" end

commands.eval = {
    usage = "MODEL... --suite S|--data DIR --head H", text = "accuracy, entropy and calibration error of models",
    example = "merged.safetensors --data cars/test --head cars.head.safetensors",
    options = {
        { "suite", "text", "NAME", "a suite (mini8, clip8) or a recipe file: all its tasks" },
        { "split", "text", "NAME", "train, validation or test (default)" },
        { "tasks", "text", "A,B,...", "only these tasks of the suite" },
        { "data", "text", "DIR", "a folder of class folders" },
        { "head", "text", "FILE", "the classification head for --data" },
        { "set", "list", "data.NAME=VALUE", "an option of the suite" },
        common.model_options[1], common.model_options[2],
    },
    run = function(o)
        local distac = require "distac"
        common.models(o)
        if (o.suite == nil) == (o.data == nil) then common.usage("give --suite S or --data DIR") end
        local split = o.split or "test"
        common.choice("--split", split, common.splits)
        local suite, tasks
        if o.suite then
            suite = open_suite(o)
            tasks = suite.tasks
            if o.tasks then
                tasks = {}
                for name in o.tasks:gmatch("[^,]+") do
                    local known = false
                    for _, task in ipairs(suite.tasks) do known = known or task == name end
                    if not known then
                        common.usage("--tasks: no task '" .. name .. "'"
                            .. require("distac.schema").did_you_mean(name, suite.tasks))
                    end
                    tasks[#tasks + 1] = name
                end
            end
        else
            common.folder(o.data, "--data")
            common.file(common.need(o, "head", "the classification head"), "--head")
        end
        local models = json.array {}
        local widest = #"model"
        for _, path in ipairs(o.args) do widest = math.max(widest, #path) end
        local form = "%-" .. widest .. "s  %-12s %9s %9s %9s"
        local lines = { form:format("model", "task", "accuracy%", "entropy", "ECE") }
        local function row(path, name, m)
            lines[#lines + 1] = form:format(path, name, percent(m.accuracy), three(m.entropy), three(m.ece))
        end
        for i, path in ipairs(o.args) do
            local ck = common.model(path)
            if suite then
                if suite.source then ck = suite:source(ck) end
                local vit = (o.activation or o.attention_heads) and common.vit(o, ck) or suite:model():with(ck)
                local results, sum, n = {}, 0, 0
                for _, task in ipairs(tasks) do
                    local ds = suite:dataset(task, split)
                    if ds then
                        results[task] = measure(ds, vit, suite:head(task))
                        row(path, task, results[task])
                        if results[task].accuracy then sum, n = sum + results[task].accuracy, n + 1 end
                    end
                end
                if n > 1 then row(path, "mean", { accuracy = sum / n }) end
                models[i] = { model = path, tasks = results, mean_accuracy = n > 0 and sum / n or nil }
            else
                local vit = common.vit(o, ck)
                local images, head = common.images(o.data, vit, "--data"), common.head(o.head)
                common.same_classes(head, images, o.head, o.data)
                local m = measure(images, vit, head)
                row(path, o.data:match("([^/]+)/*$") or o.data, m)
                m.model = path
                models[i] = m
            end
        end
        return { models = models, split = suite and split or nil }, table.concat(lines, "\n")
    end,
}

return commands
