-- distac.settings: what a checked recipe means for each task and method: defaults and overrides put together,
-- kappa from the table of norms, merge entries as operators with a text that a hash can hold.

local json = require "distac.json"
local parts = require "distac.parts"

local settings = {}

local function engine() return require "distac" end

local function warmup_of(s) return s.warmup or math.floor(s.steps / 10) end

-- Plain text of a function for hashing: its source lines where they are known, nil where they are not.
local function function_text(fn, recipe)
    local info = debug.getinfo(fn, "S")
    if recipe.text and (info.source == "=recipe" or info.source == "@" .. recipe.file) then
        return "function at line " .. json.number(info.linedefined) .. " of\n" .. recipe.text
    end
    return nil
end

local function loss_desc(loss)
    if loss == nil then return { kind = "cross_entropy", params = {} } end
    if parts.is(loss) then return { kind = loss.kind, params = loss.params or {} } end
    return { kind = loss.name or "loss", params = loss.options or loss.desc }
end

-- How a step goes through its batch: micro = 0 is all at once. fit(kind, settings), if given, chooses what the
-- recipe leaves open so that the step fits the memory. recompute changes no bit, so results do not depend on it
-- and it is not among the settings that a stage's key holds.
function settings.passes(s, kind, fit)
    local choice = fit and fit(kind, s) or {}
    if s.micro == nil then s.micro = choice.micro or 0 end
    local recompute = s.recompute
    if recompute == nil then recompute = choice.recompute or false end
    s.recompute = nil
    if s.crops == false then s.crops = nil end
    return recompute
end

-- What fine-tuning and distillation have in common.
local common = { "steps", "batch", "lr", "weight_decay", "warmup", "horizon", "clip", "micro", "accumulate",
                 "recompute", "crops", "optimizer" }

-- An optimizer that was given whole overrides the settings that are also its own.
local function spread_optimizer(out)
    if not out.optimizer then return end
    local params = out.optimizer.params or {}
    for _, key in ipairs { "lr", "weight_decay", "clip" } do
        if params[key] ~= nil then out[key] = params[key] end
    end
    out.optimizer = params
end

-- Fine-tuning of one task, or of all together (task nil: the section mtl): (settings, loss object maker, plain
-- description, recompute).
function settings.finetune(values, task, fit)
    local out = {}
    local section = task and values.finetune or values.mtl
    local over = task and (section.tasks or {})[task] or {}
    for _, key in ipairs(common) do
        if over[key] ~= nil then out[key] = over[key] else out[key] = section[key] end
    end
    out.loss = over.loss or section.loss
    spread_optimizer(out)
    out.warmup = warmup_of(out)
    local recompute = settings.passes(out, task and "finetune" or "mtl", fit)
    local loss = out.loss
    out.loss = nil
    local desc = { loss = loss_desc(loss) }
    for key, value in pairs(out) do desc[key] = value end
    local function make_loss()
        if loss == nil then return engine().loss.cross_entropy {} end
        return parts.is(loss) and parts.real(loss) or loss
    end
    return out, make_loss, desc, recompute
end

-- kappa of every task from the norms of all task vectors; 1 while they are not known.
local function kappa_of(rule, own, norms, tasks, task)
    if type(rule) == "number" then return rule end
    if not norms then return 1 end
    if type(rule) == "function" then
        local good, value = pcall(rule, norms, task)
        if good and type(value) == "table" then value = value[task] or 1 end
        if not good or type(value) ~= "number" or not (value >= 0 and value < math.huge) then
            local why = type(value) == "table" and value.message or tostring(value)
            error({ code = "ERULE", path = own and "condition.tasks." .. task .. ".kappa" or "condition.kappa",
                message = not good and why or "the function returned " .. why .. " for task '" .. task
                    .. "'; wanted a number of at least 0" }, 0)
        end
        return value
    end
    local longest = tasks[1]
    for _, name in ipairs(tasks) do
        if norms[name] > norms[longest] then longest = name end
    end
    if not own and task ~= longest then return 1 end
    local sum, n = 0, 0
    for _, name in ipairs(tasks) do
        if name ~= task then sum, n = sum + norms[name], n + 1 end
    end
    if n == 0 or norms[task] == 0 then return 1 end
    return sum / n / norms[task]
end

-- Conditioning of one task: (resolved settings, recompute), or nil and the settings where the task stays as it is.
function settings.condition(values, task, norms, tasks, fit)
    local whole = values.condition
    local over = (whole.tasks or {})[task]
    if over == false then return nil end
    over = over or {}
    local out = {}
    for _, key in ipairs(common) do
        if over[key] ~= nil then out[key] = over[key] else out[key] = whole[key] end
    end
    if over.beta ~= nil then out.beta = over.beta else out.beta = whole.beta end
    spread_optimizer(out)
    out.warmup = warmup_of(out)
    local t, own = whole.temperature, over.temperature or {}
    out.temperature = { teacher = own.teacher or t.teacher, student = own.student or t.student }
    local rule = over.kappa
    if rule == nil then rule = whole.kappa end
    out.kappa = kappa_of(rule, over.kappa ~= nil, norms, tasks, task)
    local recompute = settings.passes(out, "condition", fit)
    if out.kappa == 1 and out.temperature.teacher == out.temperature.student then return nil, out end
    return out, recompute
end

-- The split whose images a method looks at, nil if it looks at none.
local function images_of(name, params)
    for _, method in ipairs(engine().merge.methods()) do
        if method.name == name and method.data then return params.images or "train" end
    end
end

-- Merge entries: list of { label, name, params, fixed = lambda or nil, delta = function(base, taus, input), text,
-- images = split or nil }. input: what distac.driven asks for, where there are images.
function settings.merges(values, recipe)
    local list, uses = {}, {}
    for _, entry in ipairs(values.merge or {}) do
        local m = {}
        if type(entry) == "function" then
            m.name, m.params, m.text = "custom", {}, function_text(entry, recipe)
            m.delta = function(base, taus)
                local merged = entry(base, taus)
                local kind = engine().type(merged)
                if kind == "taskvector" then return merged end
                if kind ~= "checkpoint" then
                    error(m.label .. ": the merge function must return a Checkpoint or a TaskVector, it returned "
                        .. require("distac.check").describe(merged), 0)
                end
                return merged - base
            end
        elseif parts.is(entry) and parts.is_own(entry) then
            m.name, m.params = entry.kind, {}
            for key, value in pairs(entry.args[2] or {}) do
                if key == "lambda" then m.fixed = value
                elseif key == "name" then m.name = value
                else m.params[key] = value end
            end
            m.text = function_text(entry.args[1], recipe)
            m.delta = function(base, taus) return parts.real(entry):delta(taus, base) end
        elseif parts.is(entry) then
            m.name, m.params = entry.kind, {}
            for key, value in pairs(entry.params or {}) do
                if key == "lambda" then m.fixed = value else m.params[key] = value end
            end
            m.text = entry.kind
            m.delta = function(base, taus, input)
                return engine().merge[entry.kind](m.params):delta(taus, base, input)
            end
            m.images = images_of(entry.kind, m.params)
        else
            m.name, m.params = entry:name(), entry:params()
            if entry.fixed_lambda then m.fixed = m.params.lambda end
            m.params.lambda = nil
            m.text = not entry.fn and m.name or nil
            m.delta = function(base, taus, input) return entry:delta(taus, base, input) end
            m.images = images_of(m.name, m.params)
        end
        -- What these methods make is the merged model itself, not a direction whose length is open.
        if m.name == "average" or m.images then m.fixed = m.fixed or 1 end
        uses[m.name] = (uses[m.name] or 0) + 1
        m.label = uses[m.name] == 1 and m.name or m.name .. "-" .. json.number(uses[m.name])
        list[#list + 1] = m
    end
    return list
end

-- Points of lambda: a list; searched tells whether validation data decides.
function settings.lambda(values, fixed)
    if fixed then return { fixed }, false end
    local rule = values.lambda
    if type(rule) == "number" then return { rule }, false end
    if rule == nil then return parts.grid_points(0, 1, 0.05), true end
    return parts.grid_points(rule.args[1], rule.args[2], rule.args[3]), true
end

-- A recipe's values as plain JSON: what recipe.json and the metadata of models hold.
function settings.plain(value)
    if parts.is(value) then return parts.text(value) end
    if type(value) == "function" then
        local info = debug.getinfo(value, "S")
        return "function at line " .. json.number(info.linedefined)
    end
    if type(value) == "userdata" or type(value) == "cdata" then return tostring(value) end
    if type(value) ~= "table" then return value end
    if getmetatable(value) ~= nil and not json.is_array(value) then return tostring(value) end
    local out = json.is_array(value) and json.array {} or {}
    for key, item in pairs(value) do out[key] = settings.plain(item) end
    return out
end

return settings
