-- raw.lua: the table `raw` for LuaJIT: loads libdistac through ffi and hands the helpers below and those of
-- raw_values.lua to the generated wrappers (raw_gen.lua). Same names, same behaviour and same words as the Lua 5.4
-- binding.
--
-- An object is a cdata box, a struct with one pointer. The box exists before the core makes the object;
-- releasing empties it and any later use raises. Nothing here depends on the JIT being on.

if not rawget(_G, "jit") then -- a folder of Lua files that both runtimes share: Lua 5.4 has its C module
    return assert(package.loadlib(assert(package.searchpath("distac.raw", package.cpath)), "luaopen_distac_raw"))()
end

local registry = debug and debug.getregistry and debug.getregistry() or {}
if registry["distac.raw"] then return registry["distac.raw"] end -- test runners empty package.loaded

local ffi = require("ffi")
local cdef = require("distac.raw_cdef")
local floor, type, tonumber, cast, istype = math.floor, type, tonumber, ffi.cast, ffi.istype
local format = string.format

ffi.cdef(cdef.text)

-- ---- the library: the host's, or the one beside this file, or wherever the system finds it

local function load_library()
    local host = package.preload["distac.host"] and require("distac.host")
    if host and host.library then
        local ok, library = pcall(ffi.load, host.library)
        if ok then return library end
    end
    if pcall(function() return ffi.C.distac_abi_version end) then return ffi.C end
    local here = debug and debug.getinfo(1, "S").source:match("^@(.*)/[^/]*$") or "."
    local name = jit.os == "OSX" and "libdistac.0.dylib" or "libdistac.so.0"
    local tried = {}
    local installed = cdef.libdir:match("^/") and cdef.libdir or here .. "/../../../../" .. cdef.libdir
    local places = { here .. "/../../../" .. name, installed .. "/" .. name }
    for template in package.cpath:gmatch("[^;]+") do -- where package managers put the files of modules
        places[#places + 1] = template:gsub("%?.*$", "") .. "distac/" .. name
    end
    places[#places + 1] = name
    for _, path in ipairs(places) do
        local ok, library = pcall(ffi.load, path)
        if ok then return library end
        tried[#tried + 1] = tostring(library)
    end
    error("distac: cannot load libdistac:\n    " .. table.concat(tried, "\n    "), 0)
end

local C = load_library()
if C.distac_abi_version() ~= cdef.abi then
    error(format("distac.raw was built for interface %d of libdistac, the library has %d", cdef.abi,
                 C.distac_abi_version()), 0)
end

local raw = { runtime = "luajit" }
local h = { structs = {}, new_box = {} } -- what the wrappers use

-- ---- errors

raw.error_metatable = { __name = "distac.error" }
function raw.error_metatable.__tostring(e) return tostring(rawget(e, "message")) end

function raw.error(code, message)
    if type(code) ~= "string" or type(message) ~= "string" then error("error: two strings are wanted", 2) end
    local e = setmetatable({ code = code, message = message }, raw.error_metatable)
    local on_new = raw.error_metatable.on_new -- what the layer above adds to an error, such as the caller's line
    if on_new then pcall(on_new, e) end
    return e
end

local function fail(status)
    local message = ffi.string(C.distac_last_error()) -- copied before anything could fail again
    error(raw.error(ffi.string(C.distac_status_name(status)), message), 0)
end
h.fail = fail

local function with_article(noun)
    return (noun:find("^[aeiou]") and "an " or "a ") .. noun
end

local kind_types, kind_names = {}, {} -- filled below, in the order of raw.kinds

-- By comparison, not by ffi.typeof(value): that makes an object each time, and test runners replace it by one that
-- keeps every value it saw.
local function kind_of(value)
    if type(value) ~= "cdata" then return nil end
    for i = 1, #kind_types do
        if istype(kind_types[i], value) then return kind_names[i] end
    end
    return nil
end

local function describe(value)
    local t = type(value)
    if t == "nil" or t == "boolean" then return tostring(value) end
    if t == "number" then
        if value ~= value then return "nan" end
        if value > -2 ^ 53 and value < 2 ^ 53 and value == floor(value) then
            return format("%.0f", value == 0 and 0 or value)
        end
        return format("%.14g", value)
    end
    if t == "string" then
        if #value > 40 then return '"' .. value:sub(1, 40) .. '..."' end
        return '"' .. value .. '"'
    end
    return with_article(kind_of(value) or t)
end

local function argument(fname, i, name, what, code)
    error(raw.error(code or "EINVAL", format("%s: argument %d (%s): %s", fname, i, name, what)), 0)
end

local function wanted(fname, i, name, want, value)
    argument(fname, i, name, format("wanted %s, got %s", want, describe(value)))
end
h.argument, h.wanted, h.describe, h.kind_of = argument, wanted, describe, kind_of

-- ---- boxes

local box_type, release_of, slots = {}, {}, {}
local contexts = setmetatable({}, { __mode = "k" })

-- A host that wants to cancel work (bindings/watch.h) is told of every context.
local watch = registry["distac.watch"]
if watch then
    ffi.cdef([[typedef struct distac_watch { void (*add)(struct distac_watch *, void *);
                                             void (*drop)(struct distac_watch *, void *); } distac_watch;]])
    watch = cast("distac_watch *", watch)
end

local function empty(box, kind)
    local handle = box.handle
    if handle == nil then return end
    box.handle = nil
    if kind == "context" then
        contexts[box] = nil
        if watch then watch.drop(watch, handle) end
    end
    release_of[kind](handle)
end

function h.own_context(box)
    contexts[box] = true
    if watch then watch.add(watch, box.handle) end
end

-- Metamethods look their function up in `slots` when called: a ctype's metatable can never be changed, and
-- raw.set_metatable may come at any time.
local function make_kind(kind)
    local slot = { methods = {}, meta = {} }
    local ctype = ffi.typeof(format("struct { distac_%s *handle; }", kind))
    local mt = { __gc = function(box) empty(box, kind) end }
    local function unsupported(what)
        error(format("attempt to %s a distac.%s", what, kind), 3)
    end
    function mt.__index(box, key)
        local value = slot.methods[key]
        if value ~= nil then return value end
        local index = slot.meta.__index
        if type(index) == "function" then return index(box, key) end
        if index ~= nil then return index[key] end
    end
    function mt.__newindex(box, key, value)
        local f = slot.meta.__newindex
        if not f then unsupported("assign to a field of") end
        f(box, key, value)
    end
    for name, what in pairs({ __add = "add", __sub = "subtract", __mul = "multiply", __div = "divide",
                              __mod = "take the remainder of", __pow = "raise", __concat = "concatenate",
                              __lt = "compare", __le = "compare" }) do
        mt[name] = function(a, b)
            local f = slot.meta[name]
            if not f then
                -- the other operand's kind may know, as in plain Lua
                local other = kind_of(a) == kind and kind_of(b) or kind_of(a)
                f = other and slots[other] and slots[other].meta[name]
                if not f then unsupported(what) end
            end
            return f(a, b)
        end
    end
    for name, what in pairs({ __unm = "negate", __len = "take the length of" }) do
        mt[name] = function(a)
            local f = slot.meta[name]
            if not f then unsupported(what) end
            return f(a)
        end
    end
    function mt.__call(box, ...)
        local f = slot.meta.__call
        if not f then unsupported("call") end
        return f(box, ...)
    end
    function mt.__eq(a, b)
        if rawequal(a, b) then return true end
        local f = kind_of(a) and kind_of(b) and slot.meta.__eq
        return f and (f(a, b) and true or false) or false
    end
    function mt.__tostring(box)
        local f = slot.meta.__tostring
        if f then return f(box) end
        return box.handle ~= nil and "distac." .. kind or "distac." .. kind .. " (released)"
    end
    ffi.metatype(ctype, mt)
    box_type[kind], slots[kind] = ctype, slot
    kind_types[#kind_types + 1], kind_names[#kind_names + 1] = ctype, kind
    release_of[kind] = C["distac_" .. kind .. "_release"]
    h.new_box[kind] = ctype
end

function h.handle(value, kind, fname, i, name, nullable)
    if nullable and type(value) == "nil" then return nil end
    if not istype(box_type[kind], value) then wanted(fname, i, name, with_article(kind), value) end
    local handle = value.handle
    if handle == nil then argument(fname, i, name, "released object", "ESTATE") end
    return handle
end

function h.release_kind(value, fname, name, kind)
    if type(value) == "nil" then return end
    if not istype(box_type[kind], value) then wanted(fname, 1, name, with_article(kind), value) end
    empty(value, kind)
end

function raw.release(value)
    if type(value) == "nil" then return end
    local kind = kind_of(value)
    if not kind then wanted("release", 1, "handle", "an object of distac", value) end
    empty(value, kind)
end

function raw.type(value) return kind_of(value) end

function raw.set_metatable(kind, methods, metamethods)
    local slot = slots[kind]
    if not slot then wanted("set_metatable", 1, "kind", "the name of a kind of object", kind) end
    if methods == nil then methods = {} end
    if metamethods == nil then metamethods = {} end
    if type(methods) ~= "table" then wanted("set_metatable", 2, "methods", "a table", methods) end
    if type(metamethods) ~= "table" then wanted("set_metatable", 3, "metamethods", "a table", metamethods) end
    slot.methods = methods
    for name, f in pairs(metamethods) do slot.meta[name] = f end
    slot.meta.__index = metamethods.__index
end

-- ---- memory that the collector cannot see

local room = 64 * 2 ^ 20 -- growth of the engine's memory that is always let pass
local settled = 0
local collecting = false
local info = ffi.new("distac_context_info")

local function memory_held()
    local total = 0
    for box in pairs(contexts) do
        if box.handle ~= nil and C.distac_context_get_info(box.handle, info) == 0 then
            total = total + tonumber(info.memory_used)
        end
    end
    return total
end

function h.collect()
    if collecting then return false end -- a finalizer called us
    collecting = true
    collectgarbage("collect")
    collecting = false
    settled = memory_held()
    return true
end

function h.account()
    local held = memory_held()
    if held < settled then settled = held end
    if held - settled > math.max(room, settled / 2) then h.collect() end
end

require("distac.raw_values")(h, ffi)
-- ---- the wrappers, compiled when they are first asked for

local pointers = {}
function h.pointer_to(kind)
    if not pointers[kind] then pointers[kind] = ffi.typeof(format("distac_%s **", kind)) end
    return pointers[kind]
end

local sources, compile = {}, loadstring
local chunk = debug and debug.getinfo(1, "S").source:gsub("[^/\\]*$", "raw_gen.lua") or "@distac/raw_gen.lua"
local function wrapper(_, name)
    local source = sources[name]
    if not source then return nil end
    local prelude = "local h, C, cast, tonumber, keep, structs = ... "
    local make = assert(compile(prelude .. source, chunk))
    local made = make(h, C, cast, tonumber, h.keep, h.structs)
    rawset(raw, name, made)
    sources[name] = nil
    return made
end

raw.functions = {}
local generated = require("distac.raw_gen")(raw, h, ffi)
for i = 1, #generated, 2 do
    raw.functions[(i + 1) / 2] = generated[i]
    sources[generated[i]] = generated[i + 1]
end
setmetatable(raw, { __index = wrapper, waiting = sources }) -- waiting: for those who list the names
for _, kind in ipairs(raw.kinds) do make_kind(kind) end
registry["distac.raw"] = raw
return raw
