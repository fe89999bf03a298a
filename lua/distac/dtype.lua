-- Element types by name: "f32" and "float32" both name the same one.
local raw = require "distac.raw"
local check = require "distac.check"
local errors = require "distac.error"

local M = {}

local names = {
    "f64", "f32", "f16", "bf16", "i64", "i32", "i16", "i8", "u8", "bool", "u16", "u32", "u64",
    "float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "uint16",
    "uint32", "uint64",
}

local INTEGER = { i64 = true, i32 = true, i16 = true, i8 = true, u8 = true, bool = true, u16 = true,
    u32 = true, u64 = true }

function M.known(name)
    return type(name) == "string" and raw.dtype_from_name(name) >= 0
end

-- The core's number of a type name.
function M.code(fname, name)
    if type(name) ~= "string" then
        check.wanted(fname, "dtype", 'a type name such as "f32"', name)
    end
    local code = raw.dtype_from_name(name)
    if code < 0 then
        errors.raise("EDTYPE", "%s: dtype: unknown type %q%s", fname, name, check.hint(name, names))
    end
    return code
end

-- The types a model computes in.
function M.float_code(fname, name)
    local code = M.code(fname, name)
    if code ~= raw.F32 and code ~= raw.F64 then
        errors.raise("EDTYPE", '%s: dtype: wanted "f32" or "f64", got %q', fname, name)
    end
    return code
end

function M.is_integer(tensor)
    return INTEGER[raw.dtype_name(raw.tensor_dtype(tensor))] == true
end

function M.names()
    return names
end

return M
