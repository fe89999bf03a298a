-- Merge operators that look at images: fisher, regmean, adamerging. They run through the encoder, the heads and
-- the data sets of the tasks:
--
--   distac.merge.fisher{ samples = 256 }(base, taus, { data = { { dataset =, head = }, ... }, model = vit })
--
-- with one entry of data per task vector. Tensors that are not the encoder's (a text tower) have no inputs here:
-- they get the mean of the task vectors, with adamerging the starting coefficients.
local raw = require "distac.raw"
local check = require "distac.check"
local checkpoint = require "distac.checkpoint"
local context = require "distac.context"
local errors = require "distac.error"
local format = require "distac.format"
local methods = require "distac.merge_methods"
local models = require "distac.model"

local M = {}

local LAMBDA = { name = "lambda", text = "factor of the merged direction", default = 1, min = -1000, max = 1000 }

local list, by_name

-- What distac.merge.methods tells of them.
function M.methods()
    if not list then
        list, by_name = {}, {}
        for i, method in ipairs(require "distac.methods") do
            local params = {}
            for k, p in ipairs(method.params) do
                params[k] = p
                p.list = p.list or false
                if p.choices then
                    p.min, p.max = 0, #p.choices - 1 -- as the core tells choices
                end
            end
            params[#params + 1] = LAMBDA
            LAMBDA.list = false
            list[i] = { name = method.name, text = method.text, params = params, data = true,
                direction = method.direction, memory = method.memory }
            by_name[method.name] = list[i]
        end
    end
    return list
end

function M.method(name)
    M.methods()
    return by_name[name]
end

-- Bytes that a method holds beside base and task vectors, for a model and a number of tasks.
function M.memory(name, given, model, tasks)
    return M.method(name).memory(M.build(name, given):params(), model, tasks)
end

local Operator = { __name = "MergeOperator" }
Operator.__index = Operator

-- { Lua pattern, factor, pattern } in the order in which they count.
local function rules_of(fname, values)
    local rules = {}
    for i, rule in ipairs(methods.rules(fname, values)) do
        local text = rule[1]:gsub("[%^%$%(%)%%%.%[%]%+%-]", "%%%0"):gsub("%*", ".*"):gsub("%?", ".")
        rules[i] = { "^" .. text .. "$", rule[2], rule[1] }
    end
    return rules
end

local function factor_of(rules, name)
    for i = #rules, 1, -1 do
        if name:find(rules[i][1]) then
            rules[i].used = true
            return rules[i][2]
        end
    end
    return 1
end

function M.build(name, given)
    local fname, method = "distac.merge." .. name, M.method(name)
    local values = methods.values(fname, method, given, function(p, v)
        if p.whole and v ~= math.floor(v) then
            check.wanted(fname, p.name, "a whole number", v)
        end
    end)
    for rule in pairs(methods.rule_keys) do
        values[rule] = given and given[rule]
    end
    rules_of(fname, values)
    return setmetatable({ method = name, values = values, given = given or {}, needs_data = true,
        fixed_lambda = given ~= nil and given.lambda ~= nil }, Operator)
end

function Operator.name(op)
    return op.method
end

-- The parameters, defaults included.
function Operator.params(op)
    return methods.copy(op.values)
end

function Operator.with(op, changes)
    check.table("MergeOperator:with", "parameters", changes)
    local given = methods.copy(op.given)
    for key, v in pairs(changes) do
        given[key] = v
    end
    return M.build(op.method, given)
end

-- ---- What a method works with ---------------------------------------------------------------------------

local HOW = "{ data = { { dataset =, head = }, ... } }, an entry per task vector"

local function check_data(fname, data, count, code)
    check.table(fname, "data", data)
    if #data ~= count then
        errors.raise("EINVAL", "%s: data: wanted %.0f entries { dataset =, head = }, one per task "
            .. "vector, got %.0f", fname, count, #data)
    end
    local out = {}
    for i, entry in ipairs(data) do
        local what = string.format("%s: data[%.0f]", fname, i)
        local o = check.options(what, entry, { dataset = { "dataset", required = true },
            head = { "head", required = true } })
        if raw.dataset_size(o.dataset) < 1 then
            errors.raise("EINVAL", "%s: dataset: wanted images, got none", what)
        end
        local weight = raw.head_weight(o.head)
        if raw.tensor_dtype(weight) ~= code then
            errors.raise("EDTYPE", "%s: head: wanted %s as the model, got %s", what, raw.dtype_name(code),
                raw.dtype_name(raw.tensor_dtype(weight)))
        end
        out[i] = o
    end
    return out
end

local function seed_of(seed, index)
    return tonumber(require("distac.fs").hash.text(string.format("%.0f/images/%.0f", seed, index)):sub(1, 12), 16)
end

local Job = {}
Job.__index = Job

-- A task vector as one vector in the order of the model's parameters; scale(name), if given, multiplies tensors.
-- there: it lies where the model does.
function Job.flat(job, index, scale, there)
    local tau = job.taus[index]
    local flat = there and raw.tensor_create_beside(raw.vit_params(job.vit), job.code, { job.size })
        or raw.tensor_create(context.get(), job.code, { job.size })
    for name, view in pairs(job.vit:named(flat)) do
        local factor = scale and scale(name) or 1
        if factor ~= 0 then
            local t = tau:tensor(name)
            if factor ~= 1 then
                t = factor * t:to(job.code_name)
            end
            raw.tensor_copy(view, t)
        end
    end
    return flat
end

-- The model base + tau.
function Job.source(job, flat)
    local one = raw.tensor_create(context.get(), raw.F64, { 1, 1 })
    raw.tensor_fill(one, 1)
    raw.vit_combine(job.vit, job.base_flat, { flat }, one)
    return job.vit
end

-- Up to n images of a task, drawn once, without repeats: an iterator of batches (images, how many were seen).
function Job.sample(job, index, n, batch)
    local ds = job.data[index].dataset
    local size = raw.dataset_size(ds)
    local order, rng = {}, require("distac.rng").rng(seed_of(job.seed, index), 0)
    for i = 1, size do
        order[i] = i
    end
    n = math.min(n, size)
    for i = 1, n do
        local k = i + rng:below(size - i + 1)
        order[i], order[k] = order[k], order[i]
    end
    for i = size, n + 1, -1 do
        order[i] = nil
    end
    table.sort(order) -- the order in which sums are made, and files are read
    local subset, first = ds:subset(order), 1
    return function()
        if first > n then return nil end
        job:poll()
        local count = math.min(batch, n - first + 1)
        local images = models.images_for(job.vit, job.fname, subset:images(first, count))
        first = first + count
        return images, first - 1
    end, n
end

function Job.task_seed(job, index)
    return seed_of(job.seed, index)
end

function Job.poll()
    if context.cancelled() then
        error(require("distac.training").canceled, 0)
    end
end

function Job.tell(job, done, total)
    if job.progress then
        job.progress(done, total)
    end
end

-- A parameter that may be a list, one number per task vector.
function Job.each(job, name)
    local v, out = job.values[name], {}
    if type(v) == "table" and #v ~= #job.taus then
        errors.raise("EINVAL", "%s: %s: wanted %.0f numbers, one per task vector, got %.0f", job.fname, name,
            #job.taus, #v)
    end
    for i = 1, #job.taus do
        out[i] = type(v) == "table" and v[i] or v
    end
    return out
end

local function make_job(op, taus, base, input)
    local fname = "distac.merge." .. op.method
    check.table(fname, "task vectors", taus)
    if #taus == 0 then
        errors.raise("EINVAL", "%s: task vectors: wanted at least one, got none", fname)
    end
    for i, tau in ipairs(taus) do
        if not checkpoint.is_taskvector(tau) then
            errors.raise("EINVAL", "%s: task vectors[%.0f]: wanted a TaskVector, got %s; subtract the base" ..
                " first (model - base)", fname, i, check.describe(tau))
        end
    end
    check.handle(fname, "base", base, "checkpoint")
    if checkpoint.is_taskvector(base) then
        errors.raise("EINVAL", "%s: base: wanted a Checkpoint, got a TaskVector", fname)
    end
    if type(input) ~= "table" then
        errors.raise("EINVAL", "%s: this method looks at images: wanted %s, got %s", fname, HOW,
            check.describe(input))
    end
    local o = check.options(fname, input, { data = { "table", required = true }, model = { "vit" },
        seed = { "integer", min = 0, default = 0 }, progress = { "any" }, saved = { "table" } })
    local vit = o.model and o.model:with(base) or models.vit(base)
    local params = raw.vit_params(vit)
    local code = raw.tensor_dtype(params)
    local job = setmetatable({ fname = fname, values = op.values, taus = taus, vit = vit, code = code,
        code_name = raw.dtype_name(code), size = raw.tensor_numel(params), names = vit:names(), seed = o.seed,
        data = check_data(fname, o.data, #taus, code), progress = o.progress, saved = o.saved,
        base_flat = raw.tensor_cast(params, code) }, Job)
    for i, tau in ipairs(taus) do
        local count, missing = 0, nil
        for _, name in ipairs(job.names) do
            if raw.checkpoint_find(tau, name) < 0 then
                count, missing = count + 1, missing or name
            end
        end
        if missing then
            errors.raise("ENOTFOUND", "%s: task vectors[%.0f]: no tensor %q%s; the encoder's tensors go by" ..
                " open_clip's names here: distac.load gives them", fname, i, missing,
                count > 1 and string.format(" (and %.0f more)", count - 1) or "")
        end
    end
    return job
end

-- One tensor of the direction where the model has no such parameter.
local function rest_of(taus, weights, name)
    local sum
    for i, tau in ipairs(taus) do
        local part = weights[i] * tau:tensor(name):to "f32"
        sum = sum and sum + part or part
    end
    return sum
end

-- The merged TaskVector D, before lambda, and notes: op:delta(taus, base, { data =, model =, seed =, progress =,
-- saved = }). progress is called with (done, total). saved = { load = f() -> tensors, info, save = f(tensors,
-- info) } lets adamerging go on where it was interrupted.
function Operator.delta(op, taus, base, input)
    local job = make_job(op, taus, base, input)
    local rules = rules_of(job.fname, op.values)
    function job.factor(name) return factor_of(rules, name) end
    local flat, weights, notes = M.method(op.method).direction(job)
    local named, out = job.vit:named(flat), raw.checkpoint_create(context.get())
    for i = 1, raw.checkpoint_count(taus[1]) do
        local name = raw.checkpoint_name(taus[1], i - 1)
        local factor, own = factor_of(rules, name), named[name]
        if own and job.factored then
            factor = 1
        end
        local value = own or rest_of(taus, weights, name)
        raw.checkpoint_set(out, name, factor ~= 1 and factor * value or value)
    end
    for _, rule in ipairs(rules) do
        if not rule.used and rule[3] ~= "*" then
            errors.raise("ENOTFOUND", "%s: no tensor matches %q", job.fname, rule[3])
        end
    end
    raw.release(job.vit)
    return checkpoint.taskvector(out), notes
end

-- base + lambda*D as a Checkpoint, and notes: op(base, taus, { data =, ... }).
function Operator.__call(op, base, taus, input)
    local delta, notes = op:delta(taus, base, input)
    return checkpoint.add_scaled(base, op.values.lambda, delta), notes
end

function M.refusal(name)
    return string.format("%s needs heads and images, which files of weights do not hold: put merge = { \"%s\" }"
        .. " into a recipe (distac run), or call distac.merge.%s{ ... }(base, taus, %s) in a script", name, name,
        name, HOW)
end

function Operator.files(op)
    errors.raise("EUNSUPPORTED", "distac.merge.%s: %s", op.method, M.refusal(op.method))
end

function Operator.__tostring(op)
    local names, parts = {}, {}
    for name in pairs(op.values) do
        names[#names + 1] = name
    end
    table.sort(names)
    for i, name in ipairs(names) do
        local v = op.values[name]
        parts[i] = name .. " = " .. (type(v) == "number" and format.number(v) or type(v) == "string"
            and string.format("%q", v) or "{...}")
    end
    return "MergeOperator " .. op.method .. " { " .. table.concat(parts, ", ") .. " }"
end

return M
