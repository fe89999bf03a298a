-- distac.plan: what a run would do, without doing it: tasks, tensors, kappa, losses with numbers, steps, memory,
-- disk and what is already done. Nothing is created.

local json = require "distac.json"
local parts = require "distac.parts"
local runner = require "distac.runner"
local settings = require "distac.settings"

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

-- What a stage of training is and how far it got.
local function stage_part(run, stage, kind)
    local s = stage.settings
    local fit = run.fit(kind, { batch = s.batch, micro = s.micro, recompute = stage.recompute })
    local result = run.store:get(stage.key, true)
    local _, info = run.store:partial(stage.key)
    return { key = stage.key, done = result ~= nil, norm = result and result.norm, at_step = info and info.step,
             steps = s.steps, batch = s.batch, lr = s.lr, weight_decay = s.weight_decay, warmup = s.warmup,
             horizon = s.horizon, accumulate = s.accumulate, coupled = s.optimizer and s.optimizer.coupled,
             clip = s.clip, micro = s.micro, recompute = stage.recompute, crops = s.crops, memory = fit.bytes,
             loss = stage.loss and loss_text(stage.loss) }
end

local function source_part(run, values, task, base)
    if values.sources then
        local path = values.sources[task]
        local model, notes = runner.open_source(run, path)
        local out = { file = path, key = require("distac.suites").file_hash(path), done = true,
                      notes = notes and #notes > 0 and json.array(notes) or nil }
        out.tensors, out.mismatches = compare(base, model)
        if #out.mismatches == 0 then out.norm = (model - base):norm() end
        return out
    end
    local out = stage_part(run, runner.finetune_stage(run, values, task), "finetune")
    out.tensors = #base:names()
    return out
end

local function condition_part(run, values, task, source, norms)
    if not values.condition or (values.condition.tasks or {})[task] == false then return nil end
    local known = true
    for _, name in ipairs(run.tasks) do known = known and norms[name] ~= nil end
    local rule = ((values.condition.tasks or {})[task] or {}).kappa or values.condition.kappa
    local guess
    if not known and type(rule) ~= "number" then
        -- The norms are not known yet: kappa stays a rule, and the key is unknown.
        guess = { kappa = type(rule) == "function" and "function" or parts.text(rule) }
        norms = nil
    end
    local stage, idle = runner.condition_stage(run, values, task, source.key, norms)
    if not stage and not guess then
        return { kappa = idle.kappa, temperature = idle.temperature, distilled = false, done = true }
    end
    local out
    if stage then
        out = stage_part(run, stage, "condition")
    else
        out = { steps = idle.steps, batch = idle.batch, lr = idle.lr, warmup = idle.warmup, micro = idle.micro,
                weight_decay = idle.weight_decay, clip = idle.clip, crops = idle.crops, done = false,
                recompute = idle.recompute or false,
                memory = run.fit("condition", { batch = idle.batch, micro = idle.micro }).bytes }
    end
    local s = stage and stage.settings or idle
    out.kappa, out.temperature, out.beta = s.kappa, s.temperature, s.beta
    if guess then
        out.kappa, out.done, out.key, out.norm, out.at_step = guess.kappa, false, nil, nil, nil
    else
        out.distilled = true
    end
    return out
end

-- Largest need of tensors at once: a training step with what is held beside it, or the task vectors of a merge.
local function memory_peak(run, model, out)
    local numel = 4 * model:params():numel()
    -- Beside the task vectors of a merge: base, direction, both once more where lambda is searched, the model.
    local peak = #out.merges > 0 and (#run.tasks + 5) * numel + model:workspace(128, false)
        or 2 * numel + model:workspace(128, false)
    for _, task in ipairs(out.tasks) do
        peak = math.max(peak, task.source.memory or 0)
        if task.condition ~= json.null then peak = math.max(peak, task.condition.memory or 0) end
    end
    for _, merge in ipairs(out.merges) do
        if merge.memory then peak = math.max(peak, (#run.tasks + 1) * numel + merge.memory) end
    end
    return math.max(peak, out.mtl and out.mtl.memory or 0)
end

local function one(run, values)
    local base = run.base_checkpoint
    local model = run.model
    local file_bytes = 4 * model:params():numel()
    local out = { tasks = json.array {}, parameters = model:params():numel(), tensors = #base:names() }
    local norms, sources, disk, steps, saved = {}, {}, 0, 0, 0
    local function count(part, copies)
        if not part or not part.steps or part.done then return end
        disk, steps = disk + file_bytes, steps + part.steps - (part.at_step or 0)
        saved = math.max(saved, copies * file_bytes) -- the state of the one that is interrupted
    end
    for _, task in ipairs(run.tasks) do
        sources[task] = source_part(run, values, task, base)
        norms[task] = sources[task].norm
    end
    for i, task in ipairs(run.tasks) do
        local s, c = sources[task], condition_part(run, values, task, sources[task], norms)
        out.tasks[i] = { name = task, source = s, condition = c or json.null }
        count(s, 3)
        count(c, 4)
    end
    if values.mtl then
        out.mtl = stage_part(run, runner.finetune_stage(run, values, nil), "mtl")
        count(out.mtl, 3)
    end
    out.merges = json.array {}
    for i, method in ipairs(settings.merges(values, run.recipe)) do
        local points, searched = settings.lambda(values, method.fixed)
        out.merges[i] = { method = method.label, points = #points, first = points[1], last = points[#points],
                          searched = searched and #points > 1, images = method.images,
                          memory = method.images and require("distac.driven").memory(method.name, method.params,
                              model, #run.tasks) or nil }
        disk = disk + file_bytes * (values.condition and 2 or 1)
    end
    out.memory_peak, out.disk, out.steps_left = memory_peak(run, model, out), disk + saved, steps
    return out
end

-- The plan of a checked recipe as a table; with variants, one plan per variant.
function plan.make(recipe, options)
    local run = runner.open(recipe, options or {})
    run.planning = true
    runner.check(run)
    run.model, run.base_checkpoint = runner.shape(run), run.suite:base()
    runner.fit_of(run)
    local limit, said = require("distac.fit").limit()
    local info = engine().context_info()
    local out = { recipe = recipe.values.name, suite = run.suite.name, out = run.out, device = run.device,
                  products = info.products or "f32", memory_limit = said and limit or nil, plans = json.array {} }
    if run.suite.about then out.about, out.data = run.suite:about() end
    for i, variant in ipairs(recipe.variants or { { values = recipe.values } }) do
        out.plans[i] = one(run, variant.values)
        out.plans[i].variant = variant.name
        out.plans[i].disk = out.plans[i].disk + (out.data and out.data.cache_bytes or 0)
        out.plans[i].fits = out.plans[i].memory_peak <= limit
    end
    return out
end

local function number(v) return type(v) == "number" and string.format("%.4g", v) or tostring(v) end

local function state(part)
    if part.done then return "done" end
    if part.at_step then return "at step " .. json.number(part.at_step) end
    return "to do"
end

-- What a training does, in words: the same for every task that does the same.
local function training_words(part)
    local words = { string.format("%s steps x %s", number(part.steps), number(part.batch)),
                    "lr " .. json.number(part.lr) }
    if part.micro and part.micro > 0 then
        words[1] = words[1] .. " (micro-batches of " .. number(part.micro) .. ")"
    end
    return table.concat(words, ", ")
end

local function detail_words(part)
    local words = {}
    local function add(text, ...) words[#words + 1] = string.format(text, ...) end
    if part.weight_decay then add("weight decay %s", number(part.weight_decay)) end
    if part.warmup then add("warm-up %s then cosine", number(part.warmup)) end
    if part.horizon then add("to 0 at step %s", number(part.horizon)) end
    if part.accumulate == "sum" then add("micro-batches summed") end
    if part.coupled then add("decay coupled") end
    if part.clip then add(part.clip > 0 and "clip %s" or "no clip", number(part.clip)) end
    if part.crops then
        local scale = part.crops.scale or {}
        add("crops of %s to %s of the area", number(scale[1] or 0.08), number(scale[2] or 1))
    end
    if part.recompute then add("activations computed again") end
    if part.memory then add("memory about %s", bytes_text(part.memory)) end
    return table.concat(words, ", ")
end

local function indented(out, text) out[#out + 1] = (" "):rep(12) .. text end

local function task_lines(out, task, last)
    local s, c = task.source, task.condition
    local text = string.format("  %-10s", task.name)
    if s.file then
        text = text .. string.format("source %s, %d tensors match%s", s.file, s.tensors,
            s.norm and ", norm " .. number(s.norm) or "")
    else
        text = text .. string.format("fine-tune %s, %s: %s", training_words(s), s.loss, state(s))
    end
    out[#out + 1] = text
    for _, what in ipairs(s.notes or {}) do indented(out, what) end
    for _, what in ipairs(s.mismatches or {}) do indented(out, " ! " .. what) end
    local function detail(key, part)
        local words = detail_words(part)
        if words ~= last[key] then indented(out, "  " .. words) end
        last[key] = words
    end
    if not s.file then detail("source", s) end
    if c ~= json.null and c then
        local t = c.temperature or {}
        if c.distilled == false then
            indented(out, string.format("left as it is (kappa 1, temperatures %s and %s)", number(t.teacher),
                number(t.student)))
        else
            indented(out, string.format("condition: kappa %s, temperatures %s and %s, beta %s, %s: %s",
                number(c.kappa),
                number(t.teacher), number(t.student), number(c.beta), training_words(c), state(c)))
            detail("condition", c)
        end
    end
end

-- The plan as text for people.
function plan.text(p)
    local out = { string.format("%s: suite %s, results in %s, device %s%s%s", p.recipe, p.suite, p.out, p.device,
        p.products ~= "f32" and ", products " .. p.products or "",
        p.memory_limit and ", memory limit " .. bytes_text(p.memory_limit) or "") }
    for _, line in ipairs(p.about or {}) do out[#out + 1] = line end
    for _, one_plan in ipairs(p.plans) do
        local last = {}
        if one_plan.variant then out[#out + 1] = "variant " .. one_plan.variant end
        out[#out + 1] = string.format("model: %s tensors, %s parameters", json.number(one_plan.tensors),
            json.number(one_plan.parameters))
        for _, task in ipairs(one_plan.tasks) do task_lines(out, task, last) end
        if one_plan.mtl then
            out[#out + 1] = string.format("  %-10sall tasks in turn, %s, %s: %s", "MTL",
                training_words(one_plan.mtl), one_plan.mtl.loss, state(one_plan.mtl))
        end
        for _, m in ipairs(one_plan.merges) do
            out[#out + 1] = string.format("  merge %-16s %s", m.method, m.searched and string.format(
                "lambda searched over %d points from %s to %s", m.points, number(m.first), number(m.last))
                or m.images and string.format("looks at %s images, memory about %s", m.images,
                bytes_text(m.memory))
                or "lambda " .. number(m.first))
        end
        out[#out + 1] = string.format("steps left %s, memory peak about %s%s, disk about %s",
            json.number(one_plan.steps_left), bytes_text(one_plan.memory_peak),
            one_plan.fits and "" or " (more than there is)", bytes_text(one_plan.disk))
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
