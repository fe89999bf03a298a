-- Making tensors: from tables, of one value, of random numbers. tensor.lua takes these functions in.
local raw = require "distac.raw"
local check = require "distac.check"
local context = require "distac.context"
local dtype = require "distac.dtype"
local errors = require "distac.error"
local format = require "distac.format"

local M = {}

-- Shape and options of zeros{2, 3}, zeros({2, 3}, {dtype =}), zeros(2, 3) and zeros{2, 3, dtype =}.
local function shape_and_options(fname, rules, first, ...)
    local shape, options = {}, nil
    if type(first) == "table" then
        options = ...
        for key, v in pairs(first) do
            if type(key) == "number" then
                shape[key] = v
            else
                if type(options) ~= "table" then
                    options = {}
                end
                options[key] = v
            end
        end
    else
        local list = { first, ... }
        if type(list[#list]) == "table" then
            options = table.remove(list)
        end
        shape = list
    end
    for i, n in ipairs(shape) do
        check.integer(fname, string.format("size %.0f", i), n, 0)
    end
    local o = check.options(fname, options, rules)
    return shape, o
end

local DTYPE = { dtype = { "string", default = "f32" } }

local function create(fname, shape, type_name)
    return raw.tensor_create(context.get(), dtype.code(fname, type_name), shape)
end

-- zeros(2, 3), zeros{ 2, 3 }, zeros({ 2, 3 }, { dtype = "f64" }): zeros, f32 unless said.
function M.zeros(...)
    local shape, o = shape_and_options("distac.zeros", DTYPE, ...)
    return create("distac.zeros", shape, o.dtype)
end

-- As zeros, of ones.
function M.ones(...)
    local shape, o = shape_and_options("distac.ones", DTYPE, ...)
    local t = create("distac.ones", shape, o.dtype)
    raw.tensor_fill(t, 1)
    return t
end

-- full(shape, value [, { dtype = }]): a tensor with one number in all places.
function M.full(shape, value, options)
    check.table("distac.full", "shape", shape)
    check.number("distac.full", "value", value)
    local size, o = shape_and_options("distac.full", DTYPE, shape, options)
    local t = create("distac.full", size, o.dtype)
    raw.tensor_fill(t, value)
    return t
end

local RANDOM = {
    dtype = { "string", default = "f32" }, seed = { "integer", min = 0 }, stream = { "integer", min = 0 },
}

local function random(fname, kind, ...)
    local shape, o = shape_and_options(fname, RANDOM, ...)
    local t = create(fname, shape, o.dtype)
    local seed, stream = o.seed or context.seed(), o.stream
    if not stream then
        stream = o.seed and 0 or context.next_stream()
    end
    raw.tensor_random(t, kind, seed, stream)
    return t
end

-- Standard normal numbers: randn({2, 3}, {seed = 1}). Without a seed the context's, a new stream at each call.
function M.randn(...)
    return random("distac.randn", 0, ...)
end

-- Uniform numbers in [0, 1).
function M.rand(...)
    return random("distac.rand", 1, ...)
end

-- arange(stop), arange(start, stop [, step]): start, start + step, ... below stop, as NumPy has it. The numbers
-- may come as a list, as zeros and ones take them.
function M.arange(start, stop, step, options)
    local fname = "distac.arange"
    if type(start) == "table" then
        options = stop
        start, stop, step = start[1], start[2], start[3]
    elseif type(stop) == "table" then
        stop, options = nil, stop
    elseif type(step) == "table" then
        step, options = nil, step
    end
    check.number(fname, stop == nil and "stop" or "start", start)
    if stop == nil then
        start, stop = 0, start
    end
    check.number(fname, "stop", stop)
    step = step == nil and 1 or check.number(fname, "step", step)
    if step == 0 or step - step ~= 0 then
        check.wanted(fname, "step", "a number that is not 0", step)
    end
    local o = check.options(fname, options, DTYPE)
    local n = math.max(0, math.ceil((stop - start) / step))
    local values = {}
    for i = 1, n do
        values[i] = start + (i - 1) * step
    end
    local t = create(fname, { n }, o.dtype)
    if n > 0 then
        raw.tensor_write(t, values)
    end
    return t
end

-- npy(path): an array as numpy.save writes it; nothing in the file is evaluated.
function M.npy(path, fname)
    return raw.tensor_npy(context.get(), check.string(fname or "distac.tensor.npy", "path", path))
end

-- The identity matrix [n,n]; options: dtype.
function M.eye(n, options)
    check.integer("distac.eye", "n", n, 0)
    local o = check.options("distac.eye", options, DTYPE)
    local t = create("distac.eye", { n, n }, o.dtype)
    for i = 0, n - 1 do
        raw.tensor_fill(raw.tensor_select(raw.tensor_select(t, 0, i), 0, i), 1)
    end
    return t
end

local function place(path)
    local parts = {}
    for i, p in ipairs(path) do
        parts[i] = format.number(p)
    end
    return "[" .. table.concat(parts, "][") .. "]"
end

-- Reads a nested table depth first; the first element at each level says what the others must be.
local function flatten(fname, t, depth, shape, values, path)
    if type(t) ~= "table" then
        if type(t) == "boolean" then
            t = t and 1 or 0
        end
        if depth <= #shape then
            errors.raise("ESHAPE", "%s: element %s: wanted a table of %.0f, got %s (the table is ragged)", fname,
                place(path), shape[depth], check.describe(t))
        end
        if type(t) ~= "number" then
            errors.raise("EINVAL", "%s: element %s: wanted a number, got %s", fname, place(path),
                check.describe(t))
        end
        shape.closed = true
        values[#values + 1] = t
        return
    end
    local n = #t
    for key in pairs(t) do
        if type(key) ~= "number" or key < 1 or key > n or key ~= math.floor(key) then
            errors.raise("EINVAL", "%s: element %s: wanted a list, got the key %s%s", fname,
                #path > 0 and place(path) or "table", tostring(key),
                type(key) == "string" and " (options go into a second table)" or " (there is a gap before it)")
        end
    end
    if depth > #shape then
        if shape.closed then
            errors.raise("ESHAPE", "%s: element %s: wanted a number, got a table of %.0f (the table is ragged)",
                fname, place(path), n)
        end
        shape[depth] = n
        if n == 0 then
            shape.closed = true
        end
    elseif shape[depth] ~= n then
        errors.raise("ESHAPE", "%s: element %s: wanted a table of %.0f, got a table of %.0f (the table is ragged)",
            fname, place(path), shape[depth], n)
    end
    for i = 1, n do
        path[depth] = i
        flatten(fname, t[i], depth + 1, shape, values, path)
        path[depth] = nil
    end
end

-- distac.tensor(data [, { dtype = }]): a tensor of a number, a list, or lists of lists of one length; "f32" where
-- no dtype is given. distac.tensor.zeros and so on make others.
function M.tensor(data, options)
    local fname = "distac.tensor"
    local o = check.options(fname, options, { dtype = { "string" } })
    if raw.type(data) == "tensor" then
        return raw.tensor_cast(data, o.dtype and dtype.code(fname, o.dtype) or raw.tensor_dtype(data))
    end
    if type(data) ~= "table" and type(data) ~= "number" and type(data) ~= "boolean" then
        check.wanted(fname, "data", "a nested table of numbers", data)
    end
    local shape, values = {}, {}
    flatten(fname, data, 1, shape, values, {})
    shape.closed = nil
    local t = create(fname, shape, o.dtype or "f32")
    if #values > 0 then
        raw.tensor_write(t, values)
    end
    return t
end

return M
