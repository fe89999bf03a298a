-- distac.plan: what a run would do, without doing it: tasks, tensors, kappa, losses with numbers, steps, memory,
-- disk and what is already done. Nothing is created.

local json = require "distac.json"
local parts = require "distac.parts"
local runner = require "distac.runner"
local settings = require "distac.settings"
local training = require "distac.training"

local plan = {}

local function engine() return require "distac" end

local function bytes_text(n)
    for _, unit in ipairs { "B", "KiB", "MiB", "GiB" } do
        if n < 1024 or unit == "GiB" then return string.format(unit == "B" and "%.0f %s" or "%.1f %s", n, unit) end
        n = n / 1024
    end
end
plan.bytes_text = bytes_text

local function loss_text(desc)
    local p = desc.params or {}
    local words = {}
    for _, key in ipairs { "label_smoothing", "gamma" } do
        if p[key] and p[key] ~= 0 then words[#words + 1] = key .. " " .. json.number(p[key]) end
    end
    return desc.kind .. (#words > 0 and " (" .. table.concat(words, ", ") .. ")" or "")
end

-- The first few of a long list tell what is wrong.
local function shortened(list)
    local n = #list
    for i = n, 9, -1 do list[i] = nil end
    if n > 8 then list[9] = "and " .. json.number(n - 8) .. " more" end
    return list
end

-- Tensors of a source that match the base's; misfits are errors when the run starts, so they are listed here.
local function compare(base, model)
    local matched, wrong = 0, json.array {}
    for _, name in ipairs(base:names()) do
        if not model:has(name) then
            wrong[#wrong + 1] = name .. " is missing"
        elseif table.concat(base[name]:shape(), "x") ~= table.concat(model[name]:shape(), "x") then
            wrong[#wrong + 1] = name .. " is " .. table.concat(model[name]:shape(), "x") .. ", the base has "
                .. table.concat(base[name]:shape(), "x")
        else
            matched = matched + 1
        end
    end
    for _, name in ipairs(model:names()) do
        if not base:has(name) then wrong[#wrong + 1] = name .. " is not in the base" end
    end
    for _, bad in ipairs(model:nonfinite()) do
        wrong[#wrong + 1] = string.format("%s has %.0f elements that are not finite, the first at %.0f", bad.name,
            bad.count, bad.first - 1)
    end
    return matched, shortened(wrong)
end

plan.compare = compare

local function source_part(run, values, task, base)
    local out = { done = false }
    if values.sources then
        out.file = values.sources[task]
        local model = engine().load(out.file)
        out.tensors, out.mismatches = compare(base, model)
        out.key = engine().hash.file(out.file)
        out.done = true
        if #out.mismatches == 0 then out.norm = (model - base):norm() end
        return out
    end
    local s, _, plain = settings.finetune(values, task)
    local desc = { stage = "finetune", base = run.suite:base_hash(), data = run.suite:dataset_hash(task, "train"),
                   head = run.suite:head_hash(task), settings = plain,
                   seed = training.seed(values.seed, "finetune", task) }
    out.key = run.store:key(desc)
    local result = run.store:get(out.key, true)
    out.done = result ~= nil
    out.norm = result and result.norm
    out.steps, out.batch, out.lr, out.loss = s.steps, s.batch, s.lr, loss_text(plain.loss)
    local _, info = run.store:partial(out.key)
    if info then out.at_step = info.step end
    out.tensors = #base:names()
    return out
end

local function condition_part(run, values, task, source, norms)
    if not values.condition or (values.condition.tasks or {})[task] == false then return nil end
    local known = true
    for _, name in ipairs(run.tasks) do known = known and norms[name] ~= nil end
    local rule = ((values.condition.tasks or {})[task] or {}).kappa or values.condition.kappa
    if not known and type(rule) ~= "number" then
        local equal = setmetatable({}, { __index = function() return 1 end })
        local s = settings.condition(values, task, equal, run.tasks) or values.condition
        return { kappa = type(rule) == "function" and "function" or parts.text(rule), done = false,
                 steps = s.steps, batch = s.batch, lr = s.lr, beta = s.beta, temperature = s.temperature }
    end
    local s, idle = settings.condition(values, task, norms, run.tasks)
    if not s then return { kappa = idle.kappa, temperature = idle.temperature, distilled = false, done = true } end
    local desc = { stage = "condition", source = source.key, base = run.suite:base_hash(), settings = s,
                   data = run.suite:dataset_hash(task, "train"), head = run.suite:head_hash(task),
                   curves = values.curves, seed = training.seed(values.seed, "condition", task),
                   validation = values.curves > 0 and run.suite:dataset_hash(task, "validation") or nil }
    local key = run.store:key(desc)
    local _, info = run.store:partial(key)
    return { kappa = s.kappa, temperature = s.temperature, beta = s.beta, steps = s.steps, batch = s.batch,
             lr = s.lr, distilled = true, done = run.store:get(key, true) ~= nil, at_step = info and info.step }
end

-- Largest need of tensors at once: parameters, gradient, two moments, anchor, teacher, activations; or the
-- task vectors of a merge.
local function memory_peak(run, model, values, batch)
    local numel = 4 * model:params():numel()
    local training_bytes = 7 * numel + 2 * model:workspace(batch, true)
    local merging_bytes = (#run.tasks + 4) * numel + model:workspace(128, false)
    if not values.finetune and not values.condition then training_bytes = 0 end
    return math.max(training_bytes, merging_bytes)
end

local function one(run, values)
    local base = run.suite:base()
    local model = run.suite:model()
    local file_bytes = 4 * model:params():numel()
    local out = { tasks = json.array {}, parameters = model:params():numel(), tensors = #base:names() }
    local norms, sources, batch, disk, steps = {}, {}, 1, 0, 0
    for _, task in ipairs(run.tasks) do
        sources[task] = source_part(run, values, task, base)
        norms[task] = sources[task].norm
    end
    for i, task in ipairs(run.tasks) do
        local s, c = sources[task], condition_part(run, values, task, sources[task], norms)
        out.tasks[i] = { name = task, source = s, condition = c or json.null }
        batch = math.max(batch, s.batch or 1, c and c.batch or 1)
        if s.steps and not s.done then disk, steps = disk + file_bytes, steps + s.steps - (s.at_step or 0) end
        if c and not c.done then disk, steps = disk + file_bytes, steps + c.steps - (c.at_step or 0) end
    end
    out.merges = json.array {}
    for i, method in ipairs(settings.merges(values, run.recipe)) do
        local points, searched = settings.lambda(values, method.fixed)
        out.merges[i] = { method = method.label, points = #points, first = points[1], last = points[#points],
                          searched = searched and #points > 1 }
        disk = disk + file_bytes
    end
    out.memory_peak, out.disk, out.steps_left = memory_peak(run, model, values, batch), disk, steps
    return out
end

-- The plan of a checked recipe as a table; with variants, one plan per variant.
function plan.make(recipe, options)
    local run = runner.open(recipe, options or {})
    local out = { recipe = recipe.values.name, suite = run.suite.name, out = run.out, device = run.device,
                  plans = json.array {} }
    for i, variant in ipairs(recipe.variants or { { values = recipe.values } }) do
        out.plans[i] = one(run, variant.values)
        out.plans[i].variant = variant.name
    end
    return out
end

local function number(v) return type(v) == "number" and string.format("%.4g", v) or tostring(v) end

local function state(part)
    if part.done then return "done" end
    if part.at_step then return "at step " .. json.number(part.at_step) end
    return "to do"
end

local function task_lines(out, task)
    local s, c = task.source, task.condition
    local text = string.format("  %-10s", task.name)
    if s.file then
        text = text .. string.format("source %s, %d tensors match%s", s.file, s.tensors,
            s.norm and ", norm " .. number(s.norm) or "")
    else
        text = text .. string.format("fine-tune %s steps x %s, lr %s, %s: %s", json.number(s.steps),
            json.number(s.batch), json.number(s.lr), s.loss, state(s))
    end
    out[#out + 1] = text
    for _, what in ipairs(s.mismatches or {}) do out[#out + 1] = "             ! " .. what end
    if c ~= json.null and c then
        local t = c.temperature or {}
        if c.distilled == false then
            out[#out + 1] = string.format("            left as it is (kappa 1, temperatures %s and %s)",
                number(t.teacher), number(t.student))
        else
            out[#out + 1] = (" "):rep(12) .. string.format(
                "condition: kappa %s, temperatures %s and %s, beta %s, %s steps x %s: %s", number(c.kappa),
                number(t.teacher), number(t.student), number(c.beta), number(c.steps), number(c.batch), state(c))
        end
    end
end

-- The plan as text for people.
function plan.text(p)
    local out = { string.format("%s: suite %s, results in %s, device %s", p.recipe, p.suite, p.out, p.device) }
    for _, one_plan in ipairs(p.plans) do
        if one_plan.variant then out[#out + 1] = "variant " .. one_plan.variant end
        out[#out + 1] = string.format("model: %s tensors, %s parameters", json.number(one_plan.tensors),
            json.number(one_plan.parameters))
        for _, task in ipairs(one_plan.tasks) do task_lines(out, task) end
        for _, m in ipairs(one_plan.merges) do
            out[#out + 1] = string.format("  merge %-16s %s", m.method, m.searched and string.format(
                "lambda searched over %d points from %s to %s", m.points, number(m.first), number(m.last))
                or "lambda " .. number(m.first))
        end
        out[#out + 1] = string.format("steps left %s, memory peak about %s, disk about %s",
            json.number(one_plan.steps_left), bytes_text(one_plan.memory_peak), bytes_text(one_plan.disk))
    end
    return table.concat(out, "\n")
end

-- True if a source does not fit the base: the run would fail.
function plan.mismatches(p)
    for _, one_plan in ipairs(p.plans) do
        for _, task in ipairs(one_plan.tasks) do
            if #(task.source.mismatches or {}) > 0 then return true end
        end
    end
    return false
end

return plan
