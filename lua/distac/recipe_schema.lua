-- distac.recipe_schema: every key that a recipe may have, as data: kind, range, default and one line of
-- documentation. Reading this file is reading the reference of recipes.

local schema = require "distac.schema"
local parts = require "distac.parts"

local number, integer, record = schema.number, schema.integer, schema.record
local function engine() return require "distac" end

-- Losses -------------------------------------------------------------------------------------------

local smoothing = number { min = 0, below = 1, doc = "share of the target spread over all classes" }
local losses = {
    cross_entropy = record { { "label_smoothing", smoothing } },
    focal = record { { "gamma", number { min = 0, max = 100, doc = "-(1-p)^gamma log p" } } },
    mixup = record { { "label_smoothing", smoothing } },
}
local all_losses = record { { "label_smoothing", smoothing }, { "gamma", losses.focal.fields.gamma } }
local loss_names = { "cross_entropy", "focal", "mixup" }

local function checked_params(node, value, path, report)
    if value.args.n > 1 or (value.args[1] ~= nil and type(value.args[1]) ~= "table") then
        report(path, "wanted a table of parameters, as in " .. value.kind .. " { ... }")
        return nil
    end
    local copy = {}
    for key, item in pairs(value) do copy[key] = item end
    copy.params = node:check(value.args[1] or {}, path, report)
    return setmetatable(copy, getmetatable(value))
end

local loss = schema.custom {
    want = "a loss (distac.loss.cross_entropy { ... })",
    doc = "what fine-tuning minimises",
    inner = function() return all_losses end,
    parse = function(_, text)
        for _, name in ipairs(loss_names) do
            if name == text then return parts.loss[name] {} end
        end
        return nil, "unknown loss '" .. text .. "'" .. schema.did_you_mean(text, loss_names)
    end,
    accept = function(value, path, report)
        if type(value) == "string" then value = parts.loss[value] {} end
        if parts.is(value, "loss") then
            if losses[value.kind] then return checked_params(losses[value.kind], value, path, report), true end
            return nil, "unknown loss '" .. value.kind .. "'" .. schema.did_you_mean(value.kind, loss_names)
        end
        if (type(value) == "table" or type(value) == "userdata") and value.desc then return value end
    end,
}

-- Merge operators ----------------------------------------------------------------------------------

local patterns = schema.one_of({ { "string", schema.string {} },
    { "table", schema.list(schema.string {}, { at_least = 1 }) } },
    { want = "a pattern of tensor names or a list of them", doc = "* any text, ? one byte" })
local rules = {
    { "only", patterns }, { "except", patterns },
    { "scale", schema.list(schema.custom { want = "{ pattern, factor }", accept = function(value)
        if type(value) == "table" and type(value[1]) == "string"
            and type(value[2]) == "number" then return value end
    end }, { doc = "factors of lambda by pattern; the last that fits counts" }) },
}

local function method_table()
    local by_name, names = {}, {}
    for _, method in ipairs(engine().merge.methods()) do
        local fields = {}
        for _, param in ipairs(method.params) do
            local one = (param.whole and integer or number) {
                min = param.min > -math.huge and param.min or nil,
                max = param.max < math.huge and param.max or nil, doc = param.text,
            }
            local field = param.choices and schema.enum(param.choices, { doc = param.text }) or one
            if param.list then
                field = schema.one_of({ { "number", one }, { "table", schema.list(one, { at_least = 1 }) } },
                    { want = one.want .. " or a list of them" })
            end
            fields[#fields + 1] = { param.name, field }
        end
        for _, rule in ipairs(rules) do fields[#fields + 1] = rule end
        by_name[method.name] = record(fields)
        names[#names + 1] = method.name
    end
    return by_name, names
end

local method = schema.custom {
    want = "a method's name, an operator (distac.merge.ties { ... }) or a function",
    parse = function(_, text) return text end,
    accept = function(value, path, report)
        if type(value) == "string" then value = parts.merge[value]() end
        value = parts.constructed(value)
        if parts.is(value, "merge") then
            if parts.is_own(value) then -- made once here, so that its options are told wrong before any work
                local ok, made = pcall(parts.real, value)
                if not ok then return nil, type(made) == "table" and made.message or tostring(made) end
                if made:name():find "^[%w_%-][%w_%.%-]*$" then return value end
                return nil, "name: files are called by it, wanted letters, digits, '_', '-' and '.', got "
                    .. schema.show(made:name())
            end
            local by_name, names = method_table()
            if not by_name[value.kind] then
                return nil, "unknown method '" .. value.kind .. "'" .. schema.did_you_mean(value.kind, names)
            end
            return checked_params(by_name[value.kind], value, path, report), true
        end
        if type(value) == "function" then return value end
        local kind = type(value)
        if (kind == "table" or kind == "userdata" or kind == "cdata") and not parts.is(value) then
            local ok, name = pcall(function() return value:name() end)
            if ok and type(name) == "string" then return value end
        end
    end,
}

-- Grids and kappa ----------------------------------------------------------------------------------

local function grid(limits, what)
    local point = number(limits)
    return schema.custom {
        want = what or "a grid (distac.grid(first, last, step))",
        parse = function(_, text)
            local single = tonumber(text)
            if single then return single end
            local a, b, c = text:gsub("^grid", ""):match("^%(?([^:,]+)[:,]([^:,]+)[:,]([^:,%)]+)%)?$")
            if a and tonumber(a) and tonumber(b) and tonumber(c) then
                return parts.grid(tonumber(a), tonumber(b), tonumber(c))
            end
            return nil, "wanted a number or FIRST:LAST:STEP, got '" .. text .. "'"
        end,
        accept = function(value, path, report)
            if type(value) == "number" then return point:check(value, path, report), true end
            if not parts.is(value, "grid") then return nil end
            local a, b, c = value.args[1], value.args[2], value.args[3]
            if value.args.n ~= 3 or type(a) ~= "number" or type(b) ~= "number" or type(c) ~= "number" then
                return nil, "a grid is distac.grid(first, last, step) with three numbers"
            end
            if point:check(a, path, report) == nil or point:check(b, path, report) == nil then return nil, true end
            if not (c > 0) or b < a or (b - a) / c > 10000 then
                return nil, "this grid has no or too many points: " .. parts.text(value)
            end
            return value
        end,
    }
end

local kappa = schema.custom {
    want = "a number, distac.match_norm(\"mean\") or a function of the table of norms",
    doc = "scale of the task vector where the student starts",
    parse = function(_, text)
        if tonumber(text) then return tonumber(text) end
        local how = text:match("^match_norm%(?[\"']?(%w*)[\"']?%)?$")
        if how then return parts.match_norm(how == "" and "mean" or how) end
        return nil, "wanted a number or match_norm(mean), got '" .. text .. "'"
    end,
    accept = function(value, path, report)
        if type(value) == "number" then return number({ min = 0, max = 1000 }):check(value, path, report), true end
        if type(value) == "function" then return value end
        if parts.is(value, "match_norm") then
            if value.args.n > 1 or value.args[1] ~= nil and value.args[1] ~= "mean" then
                return nil, "match_norm knows \"mean\" only, got " .. schema.show(value.args[1])
            end
            return value
        end
    end,
}

-- Sections -----------------------------------------------------------------------------------------

local above_zero = { above = 0, max = 1000 }

local function temperature(sparse)
    local teacher, student = number(above_zero), number(above_zero)
    teacher.doc, student.doc = "T_tcr", "T_stu"
    if not sparse then teacher.default, student.default = 1, 1 end
    local both = number(above_zero)
    return schema.one_of({
        { "table", record({ { "teacher", teacher }, { "student", student } }, { sparse = sparse }) },
        { "number", schema.custom { want = both.want, parse = both.parse, accept = function(v, path, report)
            local t = both:check(v, path, report)
            return t and { teacher = t, student = t }, true
        end } },
    }, { want = "{ teacher = ..., student = ... } or one number for both", default = not sparse and {} or nil,
         doc = "softmax temperatures of the distillation" })
end

local range = schema.list(number { above = 0, max = 100 }, { at_least = 2 })
local crops = schema.one_of({
    { function(v) return v == false end, schema.constant(false) },
    { "table", record { { "scale", range }, { "ratio", range } } },
}, { want = "{ scale = { 0.9, 1 }, ratio = { 3/4, 4/3 } } or false",
     doc = "random crops of training images: share of the area, ratio of the sides" })

local function training_fields(defaults)
    local function with(node, default)
        node.default = default
        return node
    end
    return {
        { "steps", with(integer { min = 0, max = 1e7, doc = "updates" }, defaults.steps) },
        { "batch", with(integer { min = 1, max = 1e6, doc = "images per update" }, defaults.batch) },
        { "lr", with(number { min = 0, max = 10, doc = "peak learning rate" }, defaults.lr) },
        { "weight_decay", with(number { min = 0, max = 100, doc = "decoupled" }, defaults.weight_decay) },
        { "warmup", integer { min = 0, max = 1e7, doc = "steps of linear warm-up; without it a tenth" } },
        { "horizon", integer { min = 1, max = 1e9, doc = "steps over which the rate falls to 0; without it "
            .. "steps. The published distillation's is longer than its run" } },
        { "clip", with(number { min = 0, max = 1e6, doc = "largest gradient norm; 0: off" }, defaults.clip) },
        { "micro", integer { min = 0, max = 1e6, doc = "images per micro-batch; 0: the batch; without it what "
            .. "fits the memory" } },
        { "recompute", schema.boolean { doc = "activations are computed again in the backward pass: less memory, "
            .. "the same bits; without it where the memory asks for it" } },
        { "accumulate", schema.enum({ "mean", "sum" }, { doc = "of micro-batches; sum: as the published code, "
            .. "which shows in clip and eps alone. It needs micro" }) },
        { "lr_times", number { above = 0, max = 1e6, doc = "multiplies lr" } },
        { "crops", crops },
    }
end

local finetune_defaults = { steps = 2000, batch = 128, lr = 1e-5, weight_decay = 0.1, clip = 1 }
local condition_defaults = { steps = 500, batch = 128, lr = 1e-5, weight_decay = 0, clip = 1 }

local optimizer = schema.custom {
    want = "distac.adamw { ... }, or \"adamw\" or \"adam\" (decay by the gradient)",
    parse = function(_, text)
        if text == "adamw" then return parts.adamw {} end
        if text == "adam" then return parts.adamw { coupled = true } end
        return nil, "unknown optimizer '" .. text .. "'" .. schema.did_you_mean(text, { "adamw", "adam" })
    end,
    accept = function(value, path, report)
        if value == "adamw" or value == "adam" then value = parts.adamw { coupled = value == "adam" or nil } end
        if not parts.is(value, "adamw") then return nil end
        return checked_params(record {
            { "lr", number { min = 0, max = 10 } }, { "weight_decay", number { min = 0, max = 100 } },
            { "clip", number { min = 0, max = 1e6 } }, { "beta1", number { min = 0, below = 1 } },
            { "beta2", number { min = 0, below = 1 } }, { "eps", number { above = 0, max = 1 } },
            { "coupled", schema.boolean {} },
        }, value, path, report), true
    end,
}

local function finetune_fields(sparse)
    local fields = training_fields(sparse and {} or finetune_defaults)
    fields[#fields + 1] = { "loss", loss }
    fields[#fields + 1] = { "optimizer", optimizer }
    return fields
end

local function condition_fields(sparse)
    local fields = training_fields(sparse and {} or condition_defaults)
    local scale = {}
    for key, value in pairs(kappa) do scale[key] = value end
    if not sparse then scale.default = 1 end
    fields[#fields + 1] = { "kappa", scale }
    fields[#fields + 1] = { "temperature", temperature(sparse) }
    fields[#fields + 1] = { "beta", number { min = 0, max = 1e6, default = not sparse and 0.5 or nil,
        doc = "weight of |theta - theta0|^2" } }
    fields[#fields + 1] = { "optimizer", optimizer }
    return fields
end

local function with_tasks(fields, node)
    fields[#fields + 1] = { "tasks", schema.map(node, { doc = "settings of single tasks" }) }
    return fields
end

local finetune = record(with_tasks(finetune_fields(false),
    record(finetune_fields(true), { sparse = true, want = "a table of settings" })),
    { doc = "make the sources by fine-tuning the base model" })

local mtl_list = finetune_fields(true)
local mtl = schema.one_of({
    { "boolean", schema.boolean {} },
    { "table", record(mtl_list, { sparse = true }) },
}, { want = "true, false or a table of settings",
     doc = "one model trained on all tasks, a batch of each in turn: a reference beside the merged ones" })

local task_condition = schema.one_of({
    { function(v) return v == false end, schema.constant(false) },
    { "table", record(condition_fields(true), { sparse = true }) },
}, { want = "a table of settings, or false to leave the task as it is" })

local condition_list = with_tasks(condition_fields(false), task_condition)
condition_list[#condition_list + 1] = { "also_scaled", schema.boolean { default = false,
    doc = "merge the sources scaled by kappa without distillation, too" } }
local condition = schema.one_of({
    { function(v) return v == false end, schema.constant(false) },
    { "table", record(condition_list) },
}, { want = "a table of settings", doc = "Algorithm 1; absent: merge the sources as they are" })

local suite = schema.custom {
    want = "the name of a suite, or distac.folder_suite { ... }",
    doc = "tasks with their data, heads and base model",
    required = true,
    parse = function(_, text) return text end,
    inner = function() return require("distac.suites.folder").fields end,
    accept = function(value, path, report) return require("distac.suites").accept(value, path, report) end,
}

local lambda_doc = "weight of the merged direction: one number, or a grid searched on validation data"
local lambda = grid({ min = 0, max = 100 }, "a number or a grid (distac.grid(first, last, step))")
lambda.doc = lambda_doc

local merge = schema.one_of({
    { "table", schema.list(method) },
    { "string", schema.custom { want = "a method's name", parse = function(_, text)
        local list = {}
        for name in text:gmatch("[%w_]+") do list[#list + 1] = name end
        return list
    end, accept = function(value, path, report)
        local one = method:check(value, path, report)
        return one and { one }, true
    end } },
}, { want = "a list of methods", doc = "how the task vectors are merged" })

local variant = record {
    { "name", schema.string { required = true, pattern = "^[%w_%-][%w_%.%-]*$",
        want = "a name of letters, digits, '_', '-' and '.'" } },
    { "set", schema.custom { want = "a table of key paths and values", accept = function(value)
        return type(value) == "table" and not parts.is(value) and value or nil
    end } },
}

local text = schema.string { want = "a path" }
local option = schema.one_of({
    { "string", text },
    { "table", schema.custom { want = "a list or table of texts", accept = function(value)
        for _, item in pairs(value) do
            if type(item) ~= "string" then return nil end
        end
        return value
    end } },
}, { want = "a path" })

return record {
    { "name", schema.string { required = true, pattern = "^[%w_%-][%w_%.%-]*$",
        want = "a name of letters, digits, '_', '-' and '.'", doc = "results go to runs/NAME" } },
    { "suite", suite },
    { "data", schema.map(option, { default = {}, doc = "options of the suite" }) },
    { "seed", integer { min = 0, max = 2 ^ 52, default = 0, doc = "initialisation, batches, augmentation" } },
    { "sources", schema.map(schema.string { want = "a path" }, { doc = "fine-tuned models, one per task" }) },
    { "finetune", finetune },
    { "mtl", mtl },
    { "condition", condition },
    { "merge", merge },
    { "lambda", lambda },
    { "scaling", grid({ min = 0, max = 100 }) },
    { "products", schema.enum({ "f32", "tf32", "bf16" },
        { doc = "type of the factors of matrix products; sums are f32; tf32 on CUDA devices only" }) },
    { "curves", integer { min = 0, max = 1e7, default = 0, doc = "measure distillation every so many steps" } },
    { "variants", schema.list(variant, { doc = "the same recipe again with other values; results are means" }) },
}
