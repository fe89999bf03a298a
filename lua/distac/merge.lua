-- Merge operators. distac.merge.NAME{ parameters } makes one for every method the core has; distac.merge.custom
-- takes a Lua function. An operator is called with the base and the task vectors: base + lambda*D.
local raw = require "distac.raw"
local check = require "distac.check"
local checkpoint = require "distac.checkpoint"
local context = require "distac.context"
local driven = require "distac.driven"
local dtype = require "distac.dtype"
local errors = require "distac.error"
local format = require "distac.format"
local merge_own = require "distac.merge_own"
local methods = require "distac.merge_methods"

-- distac.merge.methods(): all methods as a list of
-- { name =, text =, params = { { name =, default =, min =, max =, text = } } }.
local M = { methods = methods.list }

local Operator = { __name = "MergeOperator" }
Operator.__index = Operator

-- Is a value a merge operator?
function M.is(v)
    return type(v) == "table" and getmetatable(v) == Operator
end

local function build(name, given)
    local fname = "distac.merge." .. name
    local entry = methods.named(name)
    if entry.data then
        return driven.build(name, given)
    end
    local handle = raw.merge_create(context.get(), name)
    local values = methods.values(fname, entry, given, function(p, v)
        raw.merge_set(handle, p.name, p.choices and { methods.choice(p, v) } or type(v) == "table" and v or { v })
    end)
    local operator = { method = name, values = values, handle = handle,
        fixed_lambda = given ~= nil and given.lambda ~= nil } -- said, not a default: a recipe does not search it
    methods.apply_rules(fname, operator, given)
    return setmetatable(operator, Operator)
end

-- An operator of a user's own function: options and rules like everybody's; average's handle carries them.
local function own(fname, wanted, fn, options, elementwise)
    if type(fn) ~= "function" then
        check.wanted(fname, "function", wanted, fn)
    end
    local o = check.options(fname, options, {
        name = { "string", default = elementwise and "elementwise" or "custom" },
        lambda = { "number", default = 1 }, chunk = { "number" },
        only = { "any" }, except = { "any" }, scale = { "any" },
    })
    if o.chunk and not (o.chunk >= 0) then
        errors.raise("EINVAL", "%s: chunk: %s; wanted a number of elements, or 0 for what suits the caches", fname,
            check.describe(o.chunk))
    end
    local operator = { method = o.name, values = { lambda = o.lambda }, fn = fn, elementwise = elementwise,
        chunk = o.chunk, handle = raw.merge_create(context.get(), "average"),
        fixed_lambda = options ~= nil and options.lambda ~= nil }
    raw.merge_set(operator.handle, "lambda", { o.lambda })
    methods.apply_rules(fname, operator, o)
    return setmetatable(operator, Operator)
end

-- custom(fn [, { name =, lambda =, only =, except =, scale =, chunk = }]): fn(base_tensor, { tau_tensor, ... },
-- name) returns the merged change of one tensor, before lambda. Tensors come in f32 (f64 where all are). Merging
-- files holds one tensor of every model at a time, two where there are threads. With chunk, for functions of
-- elements alone: fn(base, taus, name, out) gets flat f64 tensors of at most so many elements (8192 stay in the
-- processor's caches), and may fill and return `out`; they last until it returns.
function M.custom(fn, options)
    return own("distac.merge.custom", "a function(base_tensor, taus, name)", fn, options, false)
end

-- elementwise(fn [, { name =, lambda =, only =, except =, scale =, chunk = }]): fn(tau, out, n, base, where) fills
-- out[1] ... out[n] with the merged change of n elements: tau[k][i] is element i of model k's task vector,
-- base[i] of the base (base is nil for task vectors without one); where.name is the tensor, where.first the
-- first element's index in it. All are doubles: under LuaJIT pointers into the engine's memory (an index out of
-- 1 ... n is not caught), read ahead and rounded on all threads; under Lua 5.4 tables, which cost about a
-- hundred times the arithmetic.
function M.elementwise(fn, options)
    return own("distac.merge.elementwise", "a function(tau, out, n, base, where)", fn, options, true)
end

-- LiNeS on top of any method: the rules for `scale` that weigh a checkpoint's tensors by depth, a + b*l/(L-1) in
-- block l of L, a outside the blocks. Blocks are told as by the method lines. A factor of 0 leaves tensors as the
-- base has them: distac.merge.ties { scale = distac.merge.by_depth(base, { a = 0.3, b = 0.5 }) }.
function M.by_depth(ck, options)
    local fname = "distac.merge.by_depth"
    check.handle(fname, "checkpoint", ck, "checkpoint")
    local o = check.options(fname, options, { a = { "number", default = 1 }, b = { "number", default = 0 } })
    local towers, order = {}, {}
    for _, name in ipairs(ck:names()) do
        for _, mark in ipairs { "resblocks.", "layers.", "layer.", "blocks.", "h." } do
            local head, block = ("." .. name):match("^(.*%." .. mark:gsub("%.", "%%.") .. ")(%d+)%.")
            if head then
                head = head:sub(2)
                if not towers[head] then
                    towers[head], order[#order + 1] = {}, head
                end
                towers[head][tonumber(block)] = true
                towers[head].last = math.max(towers[head].last or 0, tonumber(block))
                break
            end
        end
    end
    local rules = { { "*", o.a } }
    for _, head in ipairs(order) do
        local last = towers[head].last
        for block = 0, last do
            if towers[head][block] and last > 0 then
                rules[#rules + 1] = { string.format("%s%.0f.*", head, block), o.a + o.b * block / last }
            end
        end
    end
    return rules
end

-- The method's name.
function Operator.name(op)
    return op.method
end

-- The parameters, defaults included.
function Operator.params(op)
    return methods.copy(op.values)
end

-- The same operator with other parameters: op:with{ lambda = 0.4 }.
function Operator.with(op, changes)
    check.table("MergeOperator:with", "parameters", changes)
    local given = op:params()
    for key, v in pairs(changes) do
        given[key] = v
    end
    if op.fn then
        given.name = op.method
        if changes.chunk == nil then
            given.chunk = op.chunk
        end
        return (op.elementwise and M.elementwise or M.custom)(op.fn, given)
    end
    for _, p in ipairs(methods.named(op.method).params) do
        if changes[p.name] == nil and given[p.name] == p.default then
            given[p.name] = nil
        end
    end
    return build(op.method, given)
end

local function checkpoints(fname, arg, v)
    check.table(fname, arg, v)
    if #v == 0 then
        errors.raise("EINVAL", "%s: %s: wanted at least one, got none", fname, arg)
    end
    for i, ck in ipairs(v) do
        check.handle(fname, string.format("%s[%.0f]", arg, i), ck, "checkpoint")
    end
    return v
end

local function taus_of(fname, v)
    checkpoints(fname, "task vectors", v)
    for i, ck in ipairs(v) do
        if not checkpoint.is_taskvector(ck) then
            errors.raise("EINVAL", "%s: task vectors[%.0f]: wanted a TaskVector, got a Checkpoint; subtract the" ..
                " base first (model - base), or distac.taskvector(checkpoint) if it is one", fname, i)
        end
    end
    return v
end

-- slerp or nuslerp of the models themselves, which are base + tau: their interpolation as vectors, less the
-- base; then the rules.
local function between_models(op, taus, base)
    local models = {}
    for i, tau in ipairs(taus) do
        models[i] = checkpoint.taskvector(checkpoint.add_scaled(base, 1, tau))
    end
    local v = op.values
    local plain = build(op.method, { t = v.t, weights = v.weights, angle = v.angle, of = "vectors" })
    local change = checkpoint.taskvector(checkpoint.taskvector(raw.merge_delta(plain.handle, models)), base)
    local rules = build("task_arithmetic",
        { only = op.values.only, except = op.values.except, scale = op.values.scale })
    return checkpoint.taskvector(raw.merge_delta(rules.handle, { change }))
end

-- The merged TaskVector D, before lambda. A custom operator may want the base too. Of task vectors that lie on a device
-- (tau:to "cuda") D lies there, too, and most methods are computed there, elementwise ones with the host's bits.
function Operator.delta(op, taus, base)
    local fname = "distac.merge." .. op.method
    taus_of(fname, taus)
    if base ~= nil then
        check.handle(fname, "base", base, "checkpoint")
    end
    if op.fn then -- gets host memory
        local here = {}
        for i, tau in ipairs(taus) do
            here[i] = tau:to "cpu"
        end
        return merge_own.delta(op, fname, here, base and base:to "cpu")
    end
    if base and op.values.of == "models" then
        return between_models(op, taus, base)
    end
    return checkpoint.taskvector(raw.merge_delta(op.handle, taus))
end

-- base + lambda*D as a Checkpoint.
function Operator.__call(op, base, taus)
    local fname = "distac.merge." .. op.method
    check.handle(fname, "base", base, "checkpoint")
    if checkpoint.is_taskvector(base) then
        errors.raise("EINVAL", "%s: base: wanted a Checkpoint, got a TaskVector", fname)
    end
    return checkpoint.add_scaled(base, op.values.lambda, op:delta(taus, base))
end

-- What op:files would do, from headers alone: { tensors =, merged =, whole =, looks =, input_bytes =,
-- cached_bytes =, output_bytes =, memory_bytes =, bottleneck = }; the bottleneck is "reading files", "memory and
-- writing" or "whole matrices". Everything that does not fit is told at once. Options as of op:files.
function Operator.plan(op, base, models, options)
    local fname = "distac.merge." .. op.method
    check.handle(fname, "base", base, "checkpoint")
    checkpoints(fname, "models", models)
    local o = check.options(fname, options, { dtype = { "string" }, layout = { "string" } })
    if op.fn then
        errors.raise("EINVAL", "%s: a function of your own cannot be planned", fname)
    end
    if o.layout and o.layout ~= "plain" then
        local canonical = {}
        for i, model in ipairs(models) do
            canonical[i] = checkpoint.convert(model, "open_clip")
        end
        base, models = checkpoint.convert(base, "open_clip"), canonical
    end
    local plan = raw.merge_plan(op.handle, base, models, o.dtype and dtype.code(fname, o.dtype) or -1)
    plan.bottleneck = plan.whole > 0 and "whole matrices"
        or plan.cached_bytes < 0.9 * plan.input_bytes and "reading files" or "memory and writing"
    return plan
end

-- Fingerprints until they are known: of the same length.
local function unknown(n)
    local out = {}
    for i = 1, n do
        out[i] = string.rep("0", 32)
    end
    return out
end

-- Merges whole models and streams the result to a file or folder, which appears under its name when it is whole:
-- op:files(base, { model, ... }, path [, { dtype =, metadata =, layout =, shard =, config =, prints = }]).
-- layout: CLIP's names in the output; the models may come in any. shard = "5GB": path is a folder of files of at
-- most so many bytes with their index, and config.json of the text config. prints: checkpoints (the models as
-- files, say) whose fingerprints are taken while they are read for the merge; metadata is then a function that
-- gets the list of them, twice, and returns texts of the same lengths.
function Operator.files(op, base, models, path, options)
    local fname = "distac.merge." .. op.method
    check.handle(fname, "base", base, "checkpoint")
    checkpoints(fname, "models", models)
    check.string(fname, "path", path)
    local o = check.options(fname, options, {
        dtype = { "string" }, metadata = { "any" }, layout = { "string" }, shard = { "any" },
        config = { "string" }, prints = { "table" },
    })
    if o.dtype then
        dtype.code(fname, o.dtype)
    end
    local target = { dtype = o.dtype, layout = o.layout ~= "plain" and o.layout or nil, config = o.config,
        shard = o.shard ~= nil and context.bytes(fname, "shard", o.shard) or nil }
    local prints = o.prints and checkpoints(fname, "prints", o.prints) or {}
    local function notes(known)
        local texts = o.metadata
        if type(texts) == "function" then
            texts = texts(known)
        end
        return texts and checkpoint.checkpoint({}, check.table(fname, "metadata", texts), fname)
    end
    if op.fn then
        local known = {}
        for i, ck in ipairs(prints) do
            known[i] = ck:fingerprint()
        end
        return merge_own.files(op, fname, base, models, path, target, notes(known))
    end
    local draft = raw.merge_draft_files(op.handle, base, models, path, target, notes(unknown(#prints)), prints)
    local done, err = pcall(function()
        local known = {}
        for i = 1, #prints do
            known[i] = raw.strings_get(raw.merge_draft_fingerprint(draft, i - 1), 0)
        end
        if #prints > 0 and type(o.metadata) == "function" then
            raw.merge_draft_metadata(draft, notes(known))
        end
        raw.merge_draft_commit(draft)
    end)
    raw.release(draft)
    if not done then
        error(err, 0)
    end
end

local function value_text(v)
    if type(v) == "table" then
        local texts = {}
        for k, x in ipairs(v) do
            texts[k] = value_text(x)
        end
        return "{" .. table.concat(texts, ", ") .. "}"
    end
    return type(v) == "number" and format.number(v) or string.format("%q", v)
end

function Operator.__tostring(op)
    local names, parts = {}, {}
    for name in pairs(op.values) do
        names[#names + 1] = name
    end
    table.sort(names)
    for i, name in ipairs(names) do
        local v = op.values[name]
        parts[i] = name .. " = " .. value_text(v)
    end
    return "MergeOperator " .. op.method .. " { " .. table.concat(parts, ", ") .. " }"
end

local function names()
    local all = {}
    for i, entry in ipairs(methods.list()) do
        all[i] = entry.name
    end
    return all
end

return setmetatable(M, {
    __index = function(_, name)
        if type(name) == "string" and methods.named(name) then
            local function make(params)
                return build(name, params)
            end
            rawset(M, name, make)
            return make
        end
        errors.raise("ENOTFOUND", "distac.merge: no method %s%s",
            type(name) == "string" and string.format("%q", name) or check.describe(name),
            check.hint(name, names()))
    end,
})
