-- Memory that is not the engine's as tensors, without a copy: what ffi made or a C library hands out (LuaJIT), the
-- bytes of a Lua string (read-only), a light userdata of the host.
--
-- The collector must not take the memory while a tensor lies over it, and tensors may be held where Lua does not
-- see them (in a checkpoint, by a loader's threads). So each owner is kept here beside a tensor of our own, and
-- dropped once that is the last one: looked at when something is adopted and after every collection.
local raw = require "distac.raw"
local check = require "distac.check"
local context = require "distac.context"
local dtype = require "distac.dtype"
local errors = require "distac.error"

local kept = {} -- { anchor = tensor, owner = anything }

local function sweep()
    for i = #kept, 1, -1 do
        local entry = kept[i]
        if raw.tensor_sharers(entry.anchor) == 1 then
            kept[i] = kept[#kept]
            kept[#kept] = nil
            raw.release(entry.anchor)
        end
    end
end

-- An object that is garbage at once and makes the next one when it is collected.
local function after_each_collection()
    local function again()
        if #kept == 0 then
            kept.watched = nil
            return
        end
        sweep()
        after_each_collection()
    end
    if rawget(_G, "newproxy") then
        getmetatable(newproxy(true)).__gc = again
    else
        setmetatable({}, { __gc = again })
    end
end

local function keep(tensor, owner)
    sweep()
    kept[#kept + 1] = { anchor = raw.tensor_reshape(tensor, { raw.tensor_numel(tensor) }), owner = owner }
    if not kept.watched then
        kept.watched = true
        after_each_collection()
    end
end

-- ---- What lies in memory ------------------------------------------------------------------------------

-- Names of C's types as ffi writes them, and which element types may lie there; the first is meant without dtype.
local HOLDS = {
    double = { "f64" }, float = { "f32" },
    int64_t = { "i64" }, uint64_t = { "u64" }, int = { "i32" }, ["unsigned int"] = { "u32" },
    short = { "i16" }, ["unsigned short"] = { "u16", "f16", "bf16" },
    ["signed char"] = { "i8" }, ["unsigned char"] = { "u8", "bool", "f8_e4m3", "f8_e5m2" },
        bool = { "bool", "u8" },
}

-- What is known of a cdata: words for it, its type of elements, sizes of an array, whether it is const.
local function of_cdata(fname, memory)
    local text = tostring(memory):match "^cdata<(.-)>: " -- by its text: ffi.typeof would make an object each time
    if raw.type(memory) or not text or not text:find "[%*%[&]" then
        check.wanted(fname, "memory", "an array or a pointer of ffi, or a string", memory)
    end
    local element, rest = text:match "^([%w_ ]-) ?([%(%*%[&].*)$"
    local constant = element:find "const" ~= nil
    element = element:gsub("const ", ""):gsub("volatile ", "")
    local ffi = require "ffi"
    if element == "char" then
        element = tonumber(ffi.cast("char", 255)) < 0 and "signed char" or "unsigned char"
    end
    local sizes
    if rest:find "^%[" then
        sizes = {}
        local known = ffi.sizeof(element .. "[1]")
        for n in rest:gmatch "%[([%d%?]+)%]" do
            sizes[#sizes + 1] = tonumber(n) or 0
            known = known * (tonumber(n) or 1)
        end
        if rest:find "^%[%?" then sizes[1] = math.floor(ffi.sizeof(memory) / known) end
    end
    return { text = text, element = element, sizes = sizes, constant = constant,
             bytes = sizes and tonumber(ffi.sizeof(memory)) }
end

-- A dtype that may lie in memory of these elements.
local function element_type(fname, about, wanted)
    local allowed = HOLDS[about.element]
    if not allowed or about.element:find "char" then -- bytes may be anything, if one says what
        return wanted or allowed and allowed[1]
            or errors.raise("EINVAL", "%s: dtype: cdata of %s does not tell the type of its elements; say which",
                fname, about.text)
    end
    if wanted == nil then return allowed[1] end
    local code = dtype.code(fname, wanted)
    for _, name in ipairs(allowed) do
        if raw.dtype_from_name(name) == code then return name end
    end
    errors.raise("EDTYPE", "%s: dtype: %s cannot lie in a %s, which holds %s", fname, wanted, about.text,
        table.concat(allowed, ", "))
end

local function product(shape)
    local n = 1
    for _, size in ipairs(shape) do n = n * size end
    return n
end

local RULES = { dtype = { "string" }, readonly = { "boolean" }, keep = { "any" } }

local M = {}

-- adopt(memory [, shape [, dtype or { dtype =, readonly = false, keep = }]]): a tensor over memory that is already
-- there, without a copy; writing to one changes the other. Under LuaJIT an array of ffi (ffi.new "float[2][3]":
-- shape and dtype are its own unless given), or a pointer with a shape; uint16_t holds f16 and bf16 too, bytes
-- hold anything; const is read-only. On both runtimes a string, u8 unless said and read-only, and a light userdata
-- of the host with shape and dtype. Arrays and strings live as long as any tensor over them; for a pointer, keep =
-- owner does that for what it points into.
function M.adopt(memory, shape, options)
    local fname = "distac.tensor.adopt"
    if type(options) == "string" then options = { dtype = options } end
    local o = check.options(fname, options, RULES)
    if shape ~= nil then
        check.table(fname, "shape", shape)
        for i, n in ipairs(shape) do
            check.integer(fname, string.format("size %.0f", i), n, 0)
        end
    end
    local kind, about = type(memory), nil
    if kind == "cdata" then
        about = of_cdata(fname, memory)
    elseif kind == "string" then
        about = { text = "string", element = "unsigned char", constant = true, bytes = #memory }
    elseif kind == "userdata" and getmetatable(memory) == nil then
        about = { text = "userdata", element = "?" }
    else
        check.wanted(fname, "memory", raw.runtime == "luajit" and "an array or a pointer of ffi, or a string"
            or "a string or a light userdata of the host (arrays of ffi are for LuaJIT)", memory)
    end
    local name = element_type(fname, about, o.dtype)
    local code = dtype.code(fname, name)
    local width = raw.dtype_bytes(code)
    if not shape then
        if not about.bytes then
            errors.raise("EINVAL", "%s: shape: a %s has no size of its own; say how many elements", fname,
                about.text)
        end
        shape = about.sizes and about.bytes == width * product(about.sizes) and about.sizes
            or { math.floor(about.bytes / width) }
    end
    local readonly = about.constant and 1 or 0
    if o.readonly == false and readonly == 1 then
        errors.raise("EINVAL", "%s: readonly: a %s cannot be written to", fname, about.text)
    end
    local tensor = raw.tensor_adopt(context.get(), code, shape, memory, about.bytes or width * product(shape),
        o.readonly and 1 or readonly)
    if about.bytes or o.keep ~= nil then
        keep(tensor, { about.bytes and memory, o.keep })
    end
    return tensor
end

return M
