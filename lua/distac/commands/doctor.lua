-- distac doctor: what is wrong with fine-tuned models, and what to do before they are merged. Without models: is
-- everything there that the embedded benchmark needs?

local common = require "distac.commands.common"
local json = require "distac.json"

local commands = {}

local function environment()
    local v, ok, mistakes = common.about(), true, {}
    local suite = require("distac.suites").describe("mini8", {}, ".", function(_, what)
        mistakes[#mistakes + 1] = what
    end)
    local lines = { "distac " .. v.version .. ", " .. v.lua .. ", kernels " .. v.kernels }
    if suite then
        for _, name in ipairs { "backbone.safetensors", "heads.safetensors", "sheets" } do
            local there = require("distac").fs.kind(suite.root .. "/" .. name) ~= nil
            lines[#lines + 1] = (there and "found    " or "MISSING  ") .. suite.root .. "/" .. name
            ok = ok and there
        end
        lines[#lines + 1] = "found    " .. suite.fashion
    end
    for _, what in ipairs(mistakes) do lines[#lines + 1] = "MISSING  " .. what end
    lines[#lines + 1] = "Models are examined with distac doctor --base B MODEL..."
    ok = ok and #mistakes == 0
    v.ok = ok
    return v, table.concat(lines, "\n"), ok and 0 or 1
end

-- ---- Models -------------------------------------------------------------------------------------------

-- The task of each model: given, or the one whose name the file's name holds, or the file's name.
local function tasks_of(o, suite)
    local given, tasks, taken = {}, {}, {}
    for name in (o.tasks or ""):gmatch "[^,]+" do given[#given + 1] = name end
    if o.tasks and #given ~= #o.args then
        common.usage("--tasks: " .. common.count(#given, "name") .. " for " .. common.count(#o.args, "model"))
    end
    for i, path in ipairs(o.args) do
        local file = path:gsub("/+$", ""):match "[^/]*$"
        local stem = file:gsub("%.safetensors$", ""):gsub("%.index%.json$", ""):gsub("%.%a+$", "")
        local name = given[i]
        for _, task in ipairs(not name and suite and suite.tasks or {}) do
            if stem:lower():find(task:lower(), 1, true) and (not name or #task > #name) then name = task end
        end
        if suite and name == nil then
            common.usage(string.format("'%s' names none of the suite's tasks (%s); --tasks A,B,... gives each "
                .. "model's", path, table.concat(suite.tasks, ", ")))
        end
        if suite then
            local known = false
            for _, task in ipairs(suite.tasks) do known = known or task == name end
            if not known then
                common.usage("--tasks: no task '" .. name .. "'" .. require("distac.schema").did_you_mean(name,
                    suite.tasks))
            end
        end
        tasks[i] = name or stem
        if taken[tasks[i]] and not suite then tasks[i] = tasks[i] .. "_" .. i end
        taken[tasks[i]] = true
    end
    return tasks
end

local function quote(text) return string.format("%q", text) end

-- The suite of the suggested recipe as Lua text, and a remark where the user has to fill something in.
local function suite_text(o, suite, tasks, base)
    local absolute = require("distac").fs.absolute
    local function folder_suite(root, more)
        local names = {}
        for i, task in ipairs(tasks) do names[i] = quote(task) end
        return string.format(
            "distac.folder_suite {\n        root = %s, model = %s,\n        tasks = { %s },%s\n    }",
            quote(root), quote(base), table.concat(names, ", "), more or "")
    end
    if suite and suite.params and suite.params.root then
        local p, more = suite.params, ""
        for _, key in ipairs { "scale", "activation", "attention_heads" } do
            if p[key] ~= nil then
                more = more .. string.format("\n        %s = %s,", key, type(p[key]) == "string" and quote(p[key])
                    or json.number(p[key]))
            end
        end
        if type(p.heads) == "string" then more = more .. "\n        heads = " .. quote(absolute(p.heads))
            .. "," end
        return folder_suite(absolute(p.root), more)
    elseif suite then
        return quote(suite.name), #tasks ~= #suite.tasks and string.format(
            "The suite has %.0f tasks: `sources` needs a model for each.", #suite.tasks) or nil
    elseif o.data then
        local parent, same, heads = nil, true, {}
        for i, dir in ipairs(o.data) do
            local root, name = absolute(dir):match "^(.*)/([^/]+)$"
            same = same and (parent == nil or root == parent)
            parent, tasks[i] = root, name
            heads[i] = string.format("[%s] = %s", quote(name), quote(absolute(o.head[i])))
        end
        return folder_suite(parent, "\n        heads = { " .. table.concat(heads, ", ") .. " },"),
            not same and "The folders of --data lie in different places: bring them under one root." or nil
    end
    return folder_suite("tasks"), "Put one folder of images per task below `tasks`, or name a suite."
end

-- How sure each model is, where data are given.
local function measure(o, suite, tasks, models, report)
    local doctor = require "distac.doctor"
    for i, model in ipairs(models) do
        local r = report.models[i]
        if #r.nonfinite > 0 or #r.missing + #r.misshaped > 0 then
            r.unmeasured = "not whole"
        elseif suite then
            local ck = suite.source and suite:source(model) or model
            local ds = suite:dataset(tasks[i], o.split or "test") or suite:dataset(tasks[i], "train")
            r.confidence = doctor.confidence(ds, suite:model():with(ck), suite:head(tasks[i]), o.samples or 1000)
        else
            local vit, head = common.vit(o, model), common.head(o.head[i], tasks[i])
            local images = common.images(o.data[i], vit, "--data")
            common.same_classes(head, images, o.head[i], o.data[i])
            r.confidence = doctor.confidence(images, vit, head, o.samples or 1000)
        end
    end
end

-- ---- The text -----------------------------------------------------------------------------------------

local function wrapped(text, indent)
    local lines, line = {}, indent
    for word in text:gmatch "%S+" do
        if #line + #word + 1 > 110 and #line > #indent then
            lines[#lines + 1], line = line, indent
        end
        line = line .. (#line > #indent and " " or "") .. word
    end
    lines[#lines + 1] = line
    return table.concat(lines, "\n")
end

local function cell(v, pattern) return v and v == v and string.format(pattern, v) or "-" end

local function overview(report, lines)
    local wide = 5
    for _, r in ipairs(report.models) do wide = math.max(wide, #r.task) end
    local row = "%-" .. wide .. "s %10s %9s %8s %9s %6s %9s %8s %8s"
    lines[#lines + 1] = string.format(row, "task", "norm", "/ base", "cosine", "moved", "rank", "accuracy%",
        "entropy", "ECE")
    for _, r in ipairs(report.models) do
        local c = r.confidence or {}
        lines[#lines + 1] = string.format(row, r.task, cell(r.norm, "%.4g"), cell(r.relative, "%.4f"),
            cell(r.cosine, "%.4f"), string.format("%.0f/%.0f", r.moved, r.tensors),
            r.rank and (r.low_rank and string.format("%.0f", r.rank) or "high") or "-",
            cell(c.accuracy and 100 * c.accuracy, "%.2f"), cell(c.entropy, "%.4f"), cell(c.ece, "%.4f"))
    end
end

local function layers(report, lines)
    local wide = 4
    for _, group in ipairs(report.layers) do wide = math.max(wide, #group) end
    local head = { string.format("%-" .. wide .. "s", "norm") }
    for i, r in ipairs(report.models) do head[i + 1] = string.format("%10s", r.task:sub(1, 10)) end
    lines[#lines + 1] = table.concat(head, " ")
    for _, group in ipairs(report.layers) do
        local row = { string.format("%-" .. wide .. "s", group) }
        for i, r in ipairs(report.models) do row[i + 1] = string.format("%10s", cell(r.layers[group], "%.4g")) end
        lines[#lines + 1] = table.concat(row, " ")
    end
end

local function text_of(report, recipe, remark)
    local lines = { string.format("base %s: norm %.6g", report.base.model, report.base.norm), "" }
    overview(report, lines)
    lines[#lines + 1] = ""
    layers(report, lines)
    lines[#lines + 1] = ""
    if report.base.finding then lines[#lines + 1] = "base: " .. report.base.finding end
    for _, r in ipairs(report.models) do
        lines[#lines + 1] = r.task .. " (" .. r.model .. ")" .. (#r.findings == 0 and ": nothing wrong" or "")
        for _, f in ipairs(r.findings) do lines[#lines + 1] = wrapped("- " .. f.text, "  ") end
        local t = r.temperature
        lines[#lines + 1] = wrapped(string.format("kappa %.4g%s: %s", r.kappa, t and string.format(
            ", temperatures %.0f (teacher) and %.0f (student)", t.teacher, t.student) or "", r.why), "  ")
    end
    lines[#lines + 1] = ""
    lines[#lines + 1] = "A recipe that does this (distac plan FILE checks it, distac run FILE runs it):"
    if remark then lines[#lines + 1] = "(" .. remark .. ")" end
    lines[#lines + 1] = ""
    lines[#lines + 1] = recipe
    return (table.concat(lines, "\n"):gsub("\n$", ""))
end

commands.doctor = {
    usage = "[--base B MODEL...]",
    text = "what is wrong with fine-tuned models before they are merged, and the recipe that repairs it",
    example = "--base base.safetensors cars.safetensors dtd.safetensors --recipe repair.lua",
    options = {
        { "base", "text", "FILE", "the base model" },
        { "suite", "text", "NAME", "a suite (mini8, clip8) or a recipe file: how sure each model is on its task" },
        { "split", "text", "NAME", "train, validation or test (default)" },
        { "tasks", "text", "A,B,...", "each model's task, where its file's name does not tell" },
        { "data", "list", "DIR", "instead of a suite, for each model: a folder of images" },
        { "head", "list", "FILE", "and the classification head for it" },
        { "samples", "integer", "N", "most images of a task that are looked at (default 1000)" },
        { "set", "list", "data.NAME=VALUE", "an option of the suite" },
        { "plot", "text", "FILE.png", "draw the norms of the parts" },
        { "recipe", "text", "FILE.lua", "write the recipe to a file, too" },
        common.model_options[1], common.model_options[2],
    },
    more = function()
        return "Exit status: 0 nothing wrong, 1 something was found. Without models: is everything there\n"
            .. "that the embedded benchmark needs?"
    end,
    run = function(o)
        if not o.base then
            if #o.args > 0 then common.usage("--base is missing: the model that these were fine-tuned from") end
            return environment()
        end
        local distac, doctor = require "distac", require "distac.doctor"
        local base_path = common.weights(o.base, "--base")
        common.models(o)
        if o.split then common.choice("--split", o.split, common.splits) end
        if o.samples == 0 then common.usage("--samples: wanted a whole number from 1 on, got '0'") end
        if o.suite and o.data then common.usage("give --suite S or --data DIR, not both") end
        for _, name in ipairs { "data", "head" } do
            if o[name] and #o[name] ~= #o.args then
                common.usage(string.format("--%s: wanted one for each of %.0f models, got %.0f", name, #o.args,
                    #o[name]))
            end
        end
        if o.data and not o.head then common.usage("--head is missing: the classification head for --data") end
        if o.head and not o.data then common.usage("--data is missing: images for --head") end
        for i = 1, #(o.data or {}) do
            common.folder(o.data[i], "--data")
            common.file(o.head[i], "--head")
        end
        if o.plot and not o.plot:lower():find "%.png$" then
            common.usage("--plot: '" .. o.plot .. "': a .png file is written")
        end
        common.beside(o.plot, "--plot")
        common.beside(o.recipe, "--recipe")
        local suite = o.suite and require("distac.commands.eval").open_suite(o)
        local tasks = tasks_of(o, suite)

        local base, models = distac.load(base_path), {}
        for i, path in ipairs(o.args) do models[i] = distac.load(path) end
        local report = doctor.examine(base, models, o.args)
        report.base.model = o.base
        for i, r in ipairs(report.models) do r.task = tasks[i] end
        if suite or o.data then measure(o, suite, tasks, models, report) end
        doctor.judge(report)
        local whole = distac.fs.absolute(base_path)
        local suite_words, remark = suite_text(o, suite, tasks, whole)
        for i, r in ipairs(report.models) do
            r.task, r.model = tasks[i], distac.fs.absolute(o.args[i])
        end
        local recipe = doctor.recipe(report, suite_words, tasks)
        for i, r in ipairs(report.models) do r.model = o.args[i] end
        if o.plot then require("distac.doctor.layers").plot(report, o.plot) end
        if o.recipe then distac.fs.write(o.recipe, recipe) end
        local result = { base = report.base, models = json.array {}, layers = json.array(report.layers),
                         healthy = report.healthy, recipe = recipe, remark = remark }
        for i, r in ipairs(report.models) do
            local findings = json.array {}
            for k, f in ipairs(r.findings) do findings[k] = f end
            local cosines = json.array {}
            for j = 1, #o.args do cosines[j] = j == i and 1 or r.cosines[j] or 0 end
            result.models[i] = { model = r.model, task = r.task, norm = r.norm, relative = r.relative,
                cosine = r.cosine, cosines = cosines, layers = r.layers, moved = r.moved, tensors = r.tensors,
                rank = r.low_rank and r.rank or nil, nonfinite = json.array(r.nonfinite),
                missing = json.array(r.missing),
                extra = json.array(r.extra), misshaped = json.array(r.misshaped), frozen = json.array(r.frozen),
                activation = r.activation, confidence = r.confidence, findings = findings, kappa = r.kappa,
                temperature = r.temperature, why = r.why }
        end
        result.base.nonfinite = json.array(report.base.nonfinite)
        return result, text_of(report, recipe, remark), report.healthy and 0 or 1
    end,
}

return commands
