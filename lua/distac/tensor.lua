-- Tensor: reading, indexing and reshaping. Indices, dimensions and ranges are 1-based here and become 0-based in
-- this file. tensor_math.lua adds arithmetic, reductions and linear algebra, tensor_more.lua what is
-- made of all these.
local raw = require "distac.raw"
local check = require "distac.check"
local context = require "distac.context"
local dtype = require "distac.dtype"
local errors = require "distac.error"
local format = require "distac.format"

local M = {}
local methods, meta = {}, {}
M.methods, M.meta = methods, meta

-- ---- What it is ---------------------------------------------------------------------------------------

-- Sizes of all dimensions, a list.
function methods.shape(t)
    local shape = {}
    for i = 1, raw.tensor_rank(t) do
        shape[i] = raw.tensor_size(t, i - 1)
    end
    return shape
end

-- A dimension as the core counts it. -1 is the last one.
local function dimension(t, fname, arg, dim)
    local rank = raw.tensor_rank(t)
    check.integer(fname, arg, dim)
    local d = dim < 0 and dim + rank or dim - 1
    if dim == 0 or d < 0 or d >= rank then
        errors.raise("EINVAL", "%s: %s: wanted a dimension from 1 to %.0f, got %s for a %s", fname, arg, rank,
            format.number(dim), format.head(t))
    end
    return d
end
M.dimension = dimension

-- Size of dimension dim (from 1; -1 is the last).
function methods.size(t, dim)
    return raw.tensor_size(t, dimension(t, "Tensor:size", "dim", dim))
end

-- Elements between neighbours along dim.
function methods.stride(t, dim)
    return raw.tensor_stride(t, dimension(t, "Tensor:stride", "dim", dim))
end

-- Number of dimensions; t:dim() is the same.
function methods.rank(t)
    return raw.tensor_rank(t)
end
-- Tensor:dim(): number of dimensions, as t:rank().
methods.dim = methods.rank

-- Number of elements.
function methods.numel(t)
    return raw.tensor_numel(t)
end

-- Element type, "f32" and so on.
function methods.dtype(t)
    return raw.dtype_name(raw.tensor_dtype(t))
end

-- Where it lies, "cpu".
function methods.device(t)
    return raw.tensor_device(t)
end

-- Do the elements lie in one row-major run?
function methods.is_contiguous(t)
    return raw.tensor_contiguous(t) ~= 0
end

-- Is writing refused, as for tensors of files?
function methods.readonly(t)
    return raw.tensor_readonly(t) ~= 0
end

-- All elements as a flat list, row-major.
local function read(t)
    local n = raw.tensor_numel(t)
    if n == 0 then
        return {}
    end
    local values = raw.tensor_read(t, n)
    if math.tointeger and dtype.is_integer(t) then
        for i = 1, n do
            values[i] = math.tointeger(values[i]) or values[i]
        end
    end
    return values
end
M.read = read

-- The one element of a tensor that has one.
function methods.item(t)
    if raw.tensor_numel(t) ~= 1 then
        errors.raise("ESHAPE", "Tensor:item: wanted a tensor of one element, got a %s", format.head(t))
    end
    return read(t)[1]
end

-- The elements as a nested table (a number for rank 0).
function methods.table(t)
    local shape, values = methods.shape(t), read(t)
    local next_value = 0
    local function build(depth)
        if depth > #shape then
            next_value = next_value + 1
            return values[next_value]
        end
        local out = {}
        for i = 1, shape[depth] do
            out[i] = build(depth + 1)
        end
        return out
    end
    return build(1)
end

-- Rows i, j, ... of the first dimension, copied: t:rows{ 3, 1 } or t:rows(indices), 1-based.
function methods.rows(t, list)
    local fname = "Tensor:rows"
    if raw.type(list) == "tensor" then
        list = read(list)
    end
    check.table(fname, "indices", list)
    if raw.tensor_rank(t) == 0 then
        errors.raise("ESHAPE", "%s: a %s has no rows", fname, format.head(t))
    end
    local shape, n = methods.shape(t), raw.tensor_size(t, 0)
    shape[1] = #list
    local out = raw.tensor_create_beside(t, raw.tensor_dtype(t), shape)
    for i, k in ipairs(list) do
        check.integer(fname, string.format("indices[%.0f]", i), k, 1, n)
        raw.tensor_copy(raw.tensor_select(out, 0, i - 1), raw.tensor_select(t, 0, k - 1))
    end
    return out
end

local CTYPES = {
    f64 = "double", f32 = "float", f16 = "uint16_t", bf16 = "uint16_t", i64 = "int64_t", i32 = "int32_t",
    i16 = "int16_t", i8 = "int8_t", u8 = "uint8_t", bool = "uint8_t", u16 = "uint16_t", u32 = "uint32_t",
    u64 = "uint64_t", f8_e4m3 = "uint8_t", f8_e5m2 = "uint8_t",
}
local pointer_types = {} -- by code, and by -1 - code for const

local function pointer_to(code, readonly, pointer)
    local ffi = require "ffi"
    local key = readonly and -1 - code or code
    local ctype = pointer_types[key]
    if not ctype then
        ctype = ffi.typeof((readonly and "const " or "") .. CTYPES[raw.dtype_name(code)] .. " *")
        pointer_types[key] = ctype
    end
    return ffi.cast(ctype, pointer)
end

-- A typed pointer to the first element (0-based, row-major where the tensor is contiguous), const where the tensor
-- is read-only, as those of files are. It lives as long as the tensor: keep that in a variable. LuaJIT only; on
-- Lua 5.4 nil and a reason.
function methods.data(t)
    if raw.runtime ~= "luajit" then
        return nil, "needs LuaJIT"
    end
    local pointer = raw.tensor_data(t)
    if pointer == nil then
        return nil, "the tensor is on " .. raw.tensor_device(t)
    end
    return pointer_to(raw.tensor_dtype(t), raw.tensor_readonly(t) ~= 0, pointer)
end

-- How many tensors lie over the same elements, views included: 1 when nobody else sees a change.
function methods.sharers(t)
    return raw.tensor_sharers(t)
end

-- ---- Views and copies ---------------------------------------------------------------------------------

local function sizes(fname, first, ...)
    local shape = type(first) == "table" and first or { first, ... }
    for i, n in ipairs(shape) do
        check.integer(fname, string.format("size %.0f", i), n, -1)
    end
    return shape
end

-- The tensor itself if its elements lie in one run, else a copy.
function methods.contiguous(t)
    if raw.tensor_contiguous(t) ~= 0 then
        return t
    end
    return raw.tensor_cast(t, raw.tensor_dtype(t))
end

-- Another shape over the same elements; one size may be -1. Copies when the elements do not lie in one run.
function methods.reshape(t, ...)
    return raw.tensor_reshape(methods.contiguous(t), sizes("Tensor:reshape", ...))
end

-- As reshape, but never copies.
function methods.view(t, ...)
    return raw.tensor_reshape(t, sizes("Tensor:view", ...))
end

-- Elements start, start + 1, ... (length of them) along dim, a view.
function methods.narrow(t, dim, start, length)
    local fname = "Tensor:narrow"
    local d = dimension(t, fname, "dim", dim)
    local n = raw.tensor_size(t, d)
    check.integer(fname, "start", start, 1, n + 1)
    check.integer(fname, "length", length, 0, n - start + 1)
    return raw.tensor_narrow(t, d, start - 1, length)
end

local function position(t, fname, arg, d, i)
    local n = raw.tensor_size(t, d)
    check.integer(fname, arg, i)
    if i < 1 or i > n then
        errors.raise("EINVAL", "%s: %s: wanted an index from 1 to %.0f, got %s for a %s", fname, arg, n,
            format.number(i), format.head(t))
    end
    return i - 1
end

-- Element index along dim, a view without that dimension.
function methods.select(t, dim, index)
    local d = dimension(t, "Tensor:select", "dim", dim)
    return raw.tensor_select(t, d, position(t, "Tensor:select", "index", d, index))
end

-- Two dimensions exchanged (default: the last two), a view.
function methods.transpose(t, dim0, dim1)
    local fname = "Tensor:transpose"
    if dim0 == nil and dim1 == nil then
        dim0, dim1 = -2, -1
    end
    return raw.tensor_transpose(t, dimension(t, fname, "dim0", dim0), dimension(t, fname, "dim1", dim1))
end

-- A matrix turned over, a view.
function methods.t(t)
    if raw.tensor_rank(t) ~= 2 then
        errors.raise("ESHAPE", "Tensor:t: wanted a tensor of rank 2, got a %s", format.head(t))
    end
    return raw.tensor_transpose(t, 0, 1)
end

-- A copy with elements of its own.
function methods.clone(t)
    return raw.tensor_cast(t, raw.tensor_dtype(t))
end

-- t:to "f64" converts, t:to "cuda" and t:to "cpu" move; the tensor itself comes back where nothing changes.
function methods.to(t, target)
    local fname = "Tensor:to"
    check.string(fname, "target", target)
    if dtype.known(target) then
        local code = raw.dtype_from_name(target)
        return code == raw.tensor_dtype(t) and t or raw.tensor_cast(t, code)
    end
    local here = raw.tensor_device(t)
    if target == here or target == here:match "^%a+" then
        return t
    end
    local names = { "cpu", "cuda" }
    if target == "cpu" or target:match "^cuda%f[:%z]" then
        local ok, moved = pcall(raw.tensor_to, t, target)
        if ok then
            return moved
        end
        local why = type(moved) == "table" and moved.message or tostring(moved)
        errors.raise(type(moved) == "table" and moved.code or "EDEVICE", "%s: target: %s", fname,
            (why:gsub("^distac_[%w_]+: ", "")))
    end
    for _, device in ipairs(context.devices()) do
        names[#names + 1] = device.name
    end
    for _, name in ipairs(dtype.names()) do
        names[#names + 1] = name
    end
    errors.raise("EINVAL", "%s: target: %q is neither a type nor a device%s", fname, target,
        check.hint(target, names))
end

-- All elements = value; returns the tensor.
function methods.fill(t, value)
    raw.tensor_fill(t, check.number("Tensor:fill", "value", value))
    return t
end

-- t:copy(source): all elements from a tensor or a nested table of the same shape.
function methods.copy(t, source)
    if type(source) == "table" then
        source = M.tensor(source, { dtype = "f64" })
    end
    raw.tensor_copy(t, check.tensor("Tensor:copy", "source", source))
    return t
end

-- ---- Indexing -----------------------------------------------------------------------------------------

-- The view that t[{i, {first, last}, ...}] names, and whether it is one element.
local function locate(t, fname, key)
    local rank = raw.tensor_rank(t)
    if #key > rank then
        errors.raise("ESHAPE", "%s: wanted at most %.0f indices, got %.0f for a %s", fname, rank, #key,
            format.head(t))
    end
    local view, d, single = t, 0, #key == rank
    for i, k in ipairs(key) do
        local arg = string.format("index %.0f", i)
        if type(k) == "table" then
            local first = position(view, fname, arg, d, k[1])
            local last = position(view, fname, arg, d, k[2] == nil and k[1] or k[2])
            if last < first then
                errors.raise("EINVAL", "%s: %s: the range %.0f to %.0f is empty", fname, arg, first + 1, last + 1)
            end
            view = raw.tensor_narrow(view, d, first, last - first + 1)
            d, single = d + 1, false
        else
            view = raw.tensor_select(view, d, position(view, fname, arg, d, k))
        end
    end
    return view, single
end

local function index_table(t, fname, key)
    if type(key) == "number" then
        if raw.tensor_rank(t) == 0 then
            errors.raise("ESHAPE", "%s: a %s has no dimension to index; use t:item()", fname, format.head(t))
        end
        return { key }
    elseif type(key) == "table" then
        return key
    end
    check.wanted(fname, "index", "a number or a list such as {1, 2}", key)
end

-- t[i] and t[{i, j}]: a number where every dimension is named, else a view.
function meta.__index(t, key)
    local method = methods[key]
    if method ~= nil then
        return method
    end
    if type(key) == "string" then
        check.unknown_method("Tensor", methods, key)
    end
    local view, single = locate(t, "Tensor index", index_table(t, "Tensor index", key))
    if single then
        return methods.item(view)
    end
    return view
end

-- t[{i, j}] = number, tensor or nested table
function meta.__newindex(t, key, value)
    local fname = "Tensor assignment"
    local view = locate(t, fname, index_table(t, fname, key))
    if type(value) == "number" then
        raw.tensor_fill(view, value)
    elseif type(value) == "table" then
        methods.copy(view, value)
    else
        raw.tensor_copy(view, check.tensor(fname, "value", value))
    end
end

function meta.__len(t)
    return raw.tensor_rank(t) == 0 and 0 or raw.tensor_size(t, 0)
end

meta.__tostring = format.tensor

for name, f in pairs(require "distac.tensor_make") do
    M[name] = f
end
require "distac.tensor_math"(M)
require "distac.tensor_more"(M)
check.methods.tensor = methods
raw.set_metatable("tensor", methods, meta)

return M
