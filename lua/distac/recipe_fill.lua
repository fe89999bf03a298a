-- distac.recipe_fill: what a recipe leaves open. A suite has defaults for its size of model and data (steps,
-- batch, rates, the grid of lambda, training crops); they fill the keys that the recipe does not say. Functions of
-- the suite's tasks become the tables that they return, so that one recipe serves every suite.

local schema = require "distac.schema"

local fill = {}

local function plain(value) return type(value) == "table" and getmetatable(value) == nil end

-- Suite's tasks and defaults of a recipe that is not checked yet; nil where its suite cannot be described (the
-- check of the suite tells why).
function fill.suite(raw, folder)
    local suites = require "distac.suites"
    local function silent() end
    if raw.suite == nil or schema.is_poison(raw.suite) then return nil end
    local accepted = suites.accept(raw.suite, "suite", silent)
    if not accepted then return nil end
    local defaults = suites.defaults(accepted)
    local data = plain(raw.data) and raw.data or {}
    for _, value in pairs(data) do
        if schema.is_poison(value) then return nil, defaults end
    end
    local ok, suite = pcall(suites.describe, accepted, data, folder, silent)
    return ok and suite and suite.tasks or nil, defaults
end

local function called(t, key, path, tasks, report)
    local fn = t[key]
    if type(fn) ~= "function" then return end
    if not tasks then
        t[key] = nil
        return
    end
    local list = {}
    for i, task in ipairs(tasks) do list[i] = task end
    local ok, value = pcall(fn, list)
    if not ok then
        report(path, "the function failed: " .. tostring(value):gsub("^recipe:%d+: ", ""))
        value = nil
    elseif not plain(value) then
        report(path, "the function of the suite's tasks must return a table, it returned " .. schema.show(value))
        value = nil
    end
    t[key] = value
end

-- Replaces functions of the suite's tasks by what they return.
function fill.functions(raw, tasks, report)
    called(raw, "variants", "variants", tasks, report)
    for _, name in ipairs { "finetune", "condition" } do
        if plain(raw[name]) then called(raw[name], "tasks", name .. ".tasks", tasks, report) end
    end
end

-- Fills the keys that the suite has defaults for. many: the recipe has several variants, each with its searches.
function fill.defaults(raw, defaults, many)
    defaults = defaults or {}
    for _, name in ipairs { "finetune", "condition" } do
        local section = raw[name]
        if plain(section) then
            for key, value in pairs(defaults[name] or {}) do
                -- Warm-up belongs to a number of steps: it is filled when that is known.
                if section[key] == nil and key ~= "warmup" then section[key] = value end
            end
        end
    end
    if raw.curves == true then raw.curves = defaults.curves or 10 end
    if raw.lambda == nil and raw.merge ~= nil then
        raw.lambda = many and defaults.lambda_of_many or defaults.lambda
    end
end

local function share_of(defaults, name)
    local d = defaults and defaults[name]
    if d and d.warmup and d.steps then return d.warmup, d.steps end
    return 1, 10
end

-- Warm-up without a number keeps the suite's share of the steps: a tenth where the suite says nothing.
local function warm(section, name, defaults)
    local part, whole = share_of(defaults, name)
    local function of(steps) return math.floor(steps * part / whole) end
    for _, own in pairs(section.tasks or {}) do
        if type(own) == "table" and own.steps and own.warmup == nil and section.warmup == nil then
            own.warmup = of(own.steps)
        end
    end
    if section.warmup == nil and section.steps then section.warmup = of(section.steps) end
end

-- lr_times multiplies the rate of its section: ten times 1e-5 is 1e-4 to the last bit.
local function times(lr, factor) return tonumber(string.format("%.15g", lr * factor)) end

local function multiply(section)
    if section.lr_times and section.lr then section.lr = times(section.lr, section.lr_times) end
    section.lr_times = nil
    for _, own in pairs(section.tasks or {}) do
        if type(own) == "table" then
            if own.lr_times and section.lr then own.lr = times(own.lr or section.lr, own.lr_times) end
            own.lr_times = nil
        end
    end
end

-- The joint model is trained as the single ones are, as many steps as they take together.
local function join(values, defaults, n_tasks)
    if not values.mtl then
        values.mtl = nil
        return
    end
    local own = type(values.mtl) == "table" and values.mtl or {}
    local of = values.finetune or (defaults or {}).finetune or {}
    local spare = { steps = 2000, batch = 128, lr = 1e-5, weight_decay = 0.1, clip = 1 }
    for _, key in ipairs { "batch", "lr", "weight_decay", "clip", "micro", "accumulate", "optimizer", "loss",
        "crops" } do
        if own[key] == nil then own[key] = of[key] end
        if own[key] == nil then own[key] = spare[key] end
    end
    if own.steps == nil then own.steps = (of.steps or spare.steps) * n_tasks end
    values.mtl = own
    warm(own, "finetune", defaults)
end

-- The numbers that follow from others, of checked values.
function fill.finish(values, defaults, n_tasks)
    for _, name in ipairs { "finetune", "condition" } do
        if type(values[name]) == "table" then
            multiply(values[name])
            warm(values[name], name, defaults)
        end
    end
    join(values, defaults, n_tasks or 1)
end

return fill
