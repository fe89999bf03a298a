-- Merging with a user's own function: per tensor (distac.merge.custom) or over chunks of elements
-- (distac.merge.elementwise), in memory and from files to a file, in bounded memory.
local raw = require "distac.raw"
local check = require "distac.check"
local checkpoint = require "distac.checkpoint"
local context = require "distac.context"
local errors = require "distac.error"
local format = require "distac.format"

local M = {}

-- Runs body(stream); an error abandons the merge at once, not when the collector comes.
local function with(stream, body)
    local fine, result = pcall(body)
    if not fine then
        raw.release(stream)
        error(result, 0)
    end
    return result
end

-- ---- Chunks of elements -------------------------------------------------------------------------------

-- The rows of a chunk as something that is indexed from 1 to n. LuaJIT: pointers to doubles into the engine's own
-- memory, one list of them per slot, so that a loop over them compiles to loads and stores. Lua 5.4: tables.
local function pointers(stream, models)
    local ffi = require "ffi"
    local kept = {}
    local function row(index)
        local pointer = raw.merge_stream_row(stream, index)
        return pointer ~= nil and ffi.cast("double *", pointer) - 1 or nil
    end
    return function(chunk)
        local rows = kept[chunk.slot]
        if not rows then
            rows = { tau = {}, base = row(models), out = row(models + 1) }
            for t = 1, models do
                rows.tau[t] = row(t - 1)
            end
            kept[chunk.slot] = rows
        end
        return rows
    end
end

local function tables(stream, models, has_base)
    local out = {}
    return function(chunk)
        local rows = { tau = {}, out = out }
        for t = 1, models do
            rows.tau[t] = raw.merge_stream_read(stream, t - 1, chunk.count)
        end
        if has_base then
            rows.base = raw.merge_stream_read(stream, models, chunk.count)
        end
        return rows
    end, function(fname, chunk)
        for i = chunk.count, 1, -1 do
            if type(out[i]) ~= "number" then
                errors.raise("EINVAL", "%s: %s: out[%.0f] of %.0f: wanted a number, got %s", fname, chunk.name, i,
                    chunk.count, check.describe(out[i]))
            end
        end
        for i = #out, chunk.count + 1, -1 do
            out[i] = nil
        end
        raw.merge_stream_write(stream, out)
        for i = 1, chunk.count do
            out[i] = nil
        end
    end
end

local function over_chunks(op, fname, stream, models, has_base)
    local rows_of, write
    if raw.runtime == "luajit" then
        rows_of = pointers(stream, models)
    else
        rows_of, write = tables(stream, models, has_base)
    end
    local fn = op.fn
    local where = {}
    while true do
        local chunk = raw.merge_stream_next(stream)
        if chunk.count == 0 then
            return
        end
        local rows = rows_of(chunk)
        where.name, where.first = chunk.name, chunk.first + 1
        fn(rows.tau, rows.out, chunk.count, rows.base, where)
        if write then
            write(fname, chunk)
        end
    end
end

-- ---- Chunks of elements as tensors --------------------------------------------------------------------

-- The rows of a chunk as tensors; those of a slot serve all of its chunks that are whole.
local function views(stream, models, has_base)
    local kept, whole = {}, 0
    return function(chunk)
        whole = math.max(whole, chunk.count)
        local rows = kept[chunk.slot]
        if rows and rows.count == chunk.count then
            return rows
        end
        rows = { tau = {}, count = chunk.count, out = raw.merge_stream_view(stream, models + 1) }
        rows.base = has_base and raw.merge_stream_view(stream, models) or nil
        for t = 1, models do
            rows.tau[t] = raw.merge_stream_view(stream, t - 1)
        end
        if chunk.count == whole then
            kept[chunk.slot] = rows
        end
        return rows
    end
end

-- What the function made of a chunk or a tensor, checked.
local function made(fname, delta, like, name)
    if raw.type(delta) ~= "tensor" then
        check.wanted(fname, "result for " .. name, "a Tensor", delta)
    end
    if format.shape_of(delta) ~= format.shape_of(like) then
        errors.raise("ESHAPE", "%s: result for %s: wanted %s, got a %s", fname, name, format.shape_of(like),
            format.head(delta))
    end
    return delta
end

local function over_views(op, fname, stream, models, has_base)
    local rows_of = views(stream, models, has_base)
    local fn = op.fn
    while true do
        local chunk = raw.merge_stream_next(stream)
        if chunk.count == 0 then
            return
        end
        local rows = rows_of(chunk)
        local delta = fn(rows.base, rows.tau, chunk.name, rows.out)
        if not rawequal(delta, rows.out) then
            raw.tensor_copy(rows.out, made(fname, delta, rows.out, chunk.name))
        end
    end
end

-- ---- Whole tensors ------------------------------------------------------------------------------------

-- A tensor as a user's function gets it: f32, or f64 as it is.
local function arithmetic(t)
    local code = raw.tensor_dtype(t)
    return (code == raw.F32 or code == raw.F64) and t or raw.tensor_cast(t, raw.F32)
end

-- Gives it to the engine, which looks at the numbers.
local function put(fname, stream, delta, name)
    local fine, err = pcall(raw.merge_stream_put, stream, delta)
    if fine then
        return
    end
    local count, at = delta:nonfinite()
    if count > 0 then
        errors.raise("ENUMERIC", "%s: result for %s: %.0f elements are not finite, the first at %.0f", fname,
            name, count, at)
    end
    error(err, 0)
end

-- parts_of(name) -> the base's tensor or nil, the task vectors', and whether they may be freed after use.
local function over_tensors(op, fname, stream, parts_of)
    while true do
        local chunk = raw.merge_stream_next(stream)
        if not chunk.name then
            return
        end
        local base, parts, ours = parts_of(chunk.name)
        local delta = made(fname, op.fn(base, parts, chunk.name), parts[1], chunk.name)
        put(fname, stream, delta, chunk.name)
        if ours then -- at once: a collector does not know how large these are
            for _, part in ipairs(parts) do
                if part ~= delta then
                    raw.release(part)
                end
            end
            raw.release(delta)
        end
    end
end

local function from_models(stream, base, count)
    return function(name)
        local parts = {}
        for i = 1, count do
            parts[i] = raw.merge_stream_tau(stream, i - 1)
        end
        return arithmetic(base:tensor(name)), parts, true
    end
end

-- Elements of a chunk; -1: whole tensors.
local function chunk_of(op)
    return op.chunk or (op.elementwise and 0 or -1)
end

-- The directions in memory.
function M.delta(op, fname, taus, base)
    local stream = raw.merge_stream_taus(op.handle, taus, base, chunk_of(op))
    return with(stream, function()
        if op.elementwise then
            over_chunks(op, fname, stream, #taus, base ~= nil)
        elseif op.chunk then
            over_views(op, fname, stream, #taus, base ~= nil)
        else
            over_tensors(op, fname, stream, function(name)
                local parts = {}
                for i, tau in ipairs(taus) do
                    parts[i] = arithmetic(tau:tensor(name))
                end
                return base and arithmetic(base:tensor(name)), parts
            end)
        end
        local out = raw.merge_stream_result(stream)
        raw.release(stream)
        return checkpoint.taskvector(out)
    end)
end

-- ---- Files --------------------------------------------------------------------------------------------

function M.files(op, fname, base, models, path, target, metadata)
    if target.layout then -- as the stream does: names and shapes are the canonical ones
        local canonical = {}
        for i, model in ipairs(models) do
            canonical[i] = checkpoint.convert(model, "open_clip")
        end
        base, models = checkpoint.convert(base, "open_clip"), canonical
    end
    local stream = raw.merge_stream_target(op.handle, base, models, path, target, metadata, chunk_of(op))
    with(stream, function()
        if op.elementwise then
            over_chunks(op, fname, stream, #models, true)
        elseif op.chunk then
            over_views(op, fname, stream, #models, true)
        else
            over_tensors(op, fname, stream, from_models(stream, base, #models))
        end
        raw.merge_stream_commit(stream)
        raw.release(stream)
    end)
end

return M
