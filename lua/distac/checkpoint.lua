-- Checkpoint (named tensors with metadata) and TaskVector (the difference of two). Both are the core's checkpoint;
-- this file remembers which of them are differences, because the arithmetic differs.
local raw = require "distac.raw"
local check = require "distac.check"
local context = require "distac.context"
local dtype = require "distac.dtype"
local errors = require "distac.error"
local format = require "distac.format"
local methods = require "distac.checkpoint_inside"

local M = {}
local meta = {}

local differences = setmetatable({}, { __mode = "k" })

local function mark(ck)
    differences[ck] = true
    return ck
end

local function is_checkpoint(v)
    return raw.type(v) == "checkpoint"
end

function M.is_taskvector(v)
    return is_checkpoint(v) and differences[v] == true
end

-- `ck`, which is a TaskVector if `other` is one.
function M.like(other, ck)
    return differences[other] and mark(ck) or ck
end

local function kind_of(v)
    if is_checkpoint(v) then
        return differences[v] and "a TaskVector" or "a Checkpoint"
    end
    return check.describe(v)
end

-- Names of the layouts, and what else `layout` may be.
local function layout_names(...)
    local names = { ... }
    for i = 1, raw.layout_count() do
        names[#names + 1] = raw.layout_name(i - 1)
    end
    return names
end

local function check_layout(fname, layout, ...)
    local names = layout_names(...)
    for _, name in ipairs(names) do
        if name == layout then
            return layout
        end
    end
    errors.raise("ENOTFOUND", "%s: layout: there is no %q%s", fname, layout, check.hint(layout, names))
end

-- The same tensors under another layout's names, shared as far as they can be.
function methods.convert(ck, layout)
    local fname = "Checkpoint:convert"
    return raw.checkpoint_convert(ck, check_layout(fname, check.string(fname, "layout", layout), "plain"))
end

-- As distac.save(path, checkpoint, options).
function methods.save(ck, path, options)
    return M.save(path, ck, options)
end

function meta.__index(ck, key)
    local method = methods[key]
    if method ~= nil then
        return method
    end
    if type(key) ~= "string" then
        check.wanted("Checkpoint index", "name", "a string", key)
    end
    return methods.tensor(ck, key)
end

function meta.__newindex(ck, name, tensor)
    check.string("Checkpoint assignment", "name", name)
    raw.checkpoint_set(ck, name, check.tensor("Checkpoint assignment", name, tensor))
end

function meta.__len(ck)
    return raw.checkpoint_count(ck)
end

function meta.__tostring(ck)
    local count, elements = raw.checkpoint_count(ck), 0
    for i = 1, count do
        elements = elements + raw.checkpoint_get_info(ck, i - 1).numel
    end
    local path = raw.checkpoint_path(ck)
    local text = string.format("%s of %.0f tensors, %.0f elements",
        differences[ck] and "TaskVector" or "Checkpoint", count, elements)
    if path ~= "" then
        text = text .. ", " .. path
    end
    local lines = { text }
    for i = 1, math.min(count, 6) do
        local t = raw.checkpoint_tensor(ck, i - 1)
        lines[#lines + 1] = "  " .. raw.checkpoint_name(ck, i - 1) .. "  " .. format.shape_of(t) .. " " ..
            raw.dtype_name(raw.tensor_dtype(t))
    end
    if count > 6 then
        lines[#lines + 1] = "  ..."
    end
    return table.concat(lines, "\n")
end

-- ---- Arithmetic ---------------------------------------------------------------------------------------

-- What combine leaves out (integer tensors) and the metadata come from the base, so that the sum is a model again.
local function complete(sum, base)
    for i = 1, raw.checkpoint_count(base) do
        local name = raw.checkpoint_name(base, i - 1)
        if raw.checkpoint_find(sum, name) < 0 then
            raw.checkpoint_set(sum, name, raw.checkpoint_tensor(base, i - 1))
        end
    end
    for i = 1, raw.checkpoint_metadata_count(base) do
        local key = raw.checkpoint_metadata_key(base, i - 1)
        raw.checkpoint_set_metadata(sum, key, raw.checkpoint_metadata(base, key))
    end
    return sum
end

-- base + factor * tau as a model.
function M.add_scaled(base, factor, tau)
    return complete(raw.checkpoint_combine(1, base, factor, tau), base)
end

-- The task vector model - base; with one argument, marks a loaded checkpoint as a task vector.
function M.taskvector(model, base)
    local fname = "distac.taskvector"
    check.handle(fname, "model", model, "checkpoint")
    if base == nil then
        return mark(model)
    end
    check.handle(fname, "base", base, "checkpoint")
    return mark(raw.checkpoint_combine(1, model, -1, base))
end

local function scale(factor, tau)
    if not differences[tau] then
        errors.raise("EINVAL",
            "Checkpoint *: wanted a TaskVector to scale, got a Checkpoint; subtract the base first")
    end
    return mark(raw.checkpoint_scale(factor, tau))
end

local function both(fname, a, b)
    if not (is_checkpoint(a) and is_checkpoint(b)) then
        errors.raise("EINVAL", "%s: wanted Checkpoint or TaskVector on both sides, got %s and %s", fname,
            kind_of(a), kind_of(b))
    end
end

function meta.__add(a, b)
    both("Checkpoint +", a, b)
    local da, db = differences[a], differences[b]
    if da and db then
        return mark(raw.checkpoint_combine(1, a, 1, b))
    elseif db then
        return M.add_scaled(a, 1, b)
    elseif da then
        return M.add_scaled(b, 1, a)
    end
    errors.raise("EINVAL",
        "Checkpoint +: wanted a TaskVector on one side, got two Checkpoints; add model - base instead")
end

function meta.__sub(a, b)
    both("Checkpoint -", a, b)
    local da, db = differences[a], differences[b]
    if da and not db then
        errors.raise("EINVAL", "Checkpoint -: a TaskVector minus a Checkpoint is neither; use base - tau")
    elseif db and not da then
        return M.add_scaled(a, -1, b)
    end
    return mark(raw.checkpoint_combine(1, a, -1, b))
end

function meta.__mul(a, b)
    if type(a) == "number" and is_checkpoint(b) then
        return scale(a, b)
    elseif type(b) == "number" and is_checkpoint(a) then
        return scale(b, a)
    end
    errors.raise("EINVAL", "TaskVector *: wanted a number and a TaskVector, got %s and %s", kind_of(a), kind_of(b))
end

function meta.__div(a, b)
    if type(b) ~= "number" then
        errors.raise("EINVAL", "TaskVector /: wanted a TaskVector by a number, got %s and %s", kind_of(a),
            kind_of(b))
    end
    return scale(1 / b, a)
end

function meta.__unm(a)
    return scale(-1, a)
end

-- ---- Files --------------------------------------------------------------------------------------------

local function set_metadata(ck, metadata, fname)
    for key, value in pairs(metadata or {}) do
        check.string(fname, "metadata key", key)
        if type(value) == "number" then
            value = format.number(value)
        end
        raw.checkpoint_set_metadata(ck, key, check.string(fname, "metadata." .. key, value))
    end
end

-- distac.checkpoint(tensors [, metadata]): a checkpoint in memory of { name = tensor, ... }, with texts by key as
-- metadata.
function M.checkpoint(tensors, metadata, fname)
    fname = fname or "distac.checkpoint"
    check.table(fname, "tensors", tensors)
    if metadata ~= nil then
        check.table(fname, "metadata", metadata)
    end
    local ck = raw.checkpoint_create(context.get())
    for name, t in pairs(tensors) do
        if type(name) ~= "string" then
            check.wanted(fname, "name", "a string", name)
        end
        raw.checkpoint_set(ck, name, check.tensor(fname, name, t))
    end
    set_metadata(ck, metadata, fname)
    return ck
end

-- The checkpoint under the names of a layout; itself if it has them already.
function M.convert(ck, layout)
    if raw.checkpoint_layout(ck) == layout and raw.checkpoint_prefix(ck) == "" then
        return ck
    end
    return raw.checkpoint_convert(ck, layout)
end

-- A CLIP model under the canonical names; all else as it is.
function M.canonical(ck)
    return raw.checkpoint_layout(ck) == "plain" and ck or M.convert(ck, "open_clip")
end

-- The checkpoint with what it lacks of `base`: the projection, the text tower. What it has of a tower is whole.
function M.fill(ck, base)
    raw.checkpoint_clip(ck) -- raises where a tower has holes
    local out = raw.checkpoint_clone(ck)
    base = raw.checkpoint_layout(base) == "plain" and base or M.convert(base, raw.checkpoint_layout(ck))
    for i = 1, raw.checkpoint_count(base) do
        local name = raw.checkpoint_name(base, i - 1)
        if raw.checkpoint_find(out, name) < 0 then
            raw.checkpoint_set(out, name, raw.checkpoint_tensor(base, i - 1))
        end
    end
    return out
end

-- load(path [, { layout = "open_clip" | "hf" | "file", missing = base }]): a file of tensors, an index of several,
-- or a folder with a configuration. A CLIP model comes under the canonical names ("open_clip") whoever published
-- it, all else under the file's own names. missing: a checkpoint that gives what the file lacks as a whole, such
-- as the projection that fine-tuned image towers are published without.
function M.load(path, options)
    local fname = "distac.load"
    check.string(fname, "path", path)
    local o = check.options(fname, options, { layout = { "string" }, missing = { "checkpoint" } })
    local layout = o.layout and check_layout(fname, o.layout, "file")
    local ck = raw.checkpoint_open(context.get(), path)
    if layout == nil then
        ck = M.canonical(ck)
    elseif layout ~= "file" then
        ck = M.convert(ck, layout)
    end
    if o.missing ~= nil then
        ck = M.fill(ck, o.missing)
    end
    return ck
end

-- save(path, checkpoint, model or { name = tensor } [, { metadata = { key = text }, dtype = "f16",
-- layout = "hf", shard = "5GB" }]). shard: path is a folder of files of at most so many bytes, with their index.
function M.save(path, what, options)
    local fname = "distac.save"
    check.string(fname, "path", path)
    local o = check.options(fname, options, {
        metadata = { "table" }, dtype = { "string" }, layout = { "string" }, shard = { "any" },
    })
    local layout = o.layout and check_layout(fname, o.layout, "plain")
    local shard = o.shard ~= nil and context.bytes(fname, "shard", o.shard)
    local ck = what
    if raw.type(what) == "vit" then
        ck = raw.vit_checkpoint(what, 0)
    elseif type(what) == "table" then
        ck = M.checkpoint(what, nil, fname)
    elseif not is_checkpoint(what) then
        check.wanted(fname, "checkpoint", "a Checkpoint, a Model or a table { name = Tensor }", what)
    end
    if layout and layout ~= "plain" then
        ck = M.convert(ck, layout)
    end
    if o.metadata or layout == "hf" then
        ck = raw.checkpoint_clone(ck)
        set_metadata(ck, o.metadata, fname)
        if layout == "hf" then -- transformers reads no file without it
            raw.checkpoint_set_metadata(ck, "format", "pt")
        end
    end
    local code = o.dtype and dtype.code(fname, o.dtype) or -1
    if shard then
        raw.checkpoint_save_folder(ck, path, code, shard, nil)
    else
        raw.checkpoint_save(ck, path, code)
    end
end

check.methods.checkpoint = methods
raw.set_metatable("checkpoint", methods, meta)

return M
