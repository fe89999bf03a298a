-- distac.restricted: a Lua state whose scripts and recipes compute, and read and write only what the host gave.
-- For recipes of a colleague, not of an enemy: what strangers wrote belongs into a process of its own. Lua 5.4
-- only: LuaJIT's FFI reaches all memory, so there is no such mode there.
--
-- Two layers: scripts see an environment of their own with harmless functions, and in the whole state files,
-- processes and compiled code are out of reach, for the modules of distac, too.
local M = {}

-- Which arguments of the raw functions are files: r they are read, w written.
M.files = {
    path_list = { "r" }, path_make = { "w" }, path_remove = { "w" }, path_absolute = { "r" },
        path_rename = { "w", "w" },
    path_write = { "w" }, hash_file = { "r" },
    checkpoint_open = { false, "r" }, checkpoint_save = { false, "w" }, checkpoint_save_folder = { false, "w" },
    merge_files = { false, false, false, "w" }, merge_draft_files = { false, false, false, "w" },
    merge_stream_files = { false, false, false, "w" },
    image_load = { false, "r" }, image_save = { false, "w" },
    dataset_idx = { false, "r", "r" }, dataset_folder = { false, "r" }, dataset_files = { false, "r" },
    dataset_task = { false, "r" }, dataset_mini8 = { false, "r", "r" }, dataset_glyphs = { false, "r" },
    dataset_cache = { false, "w" }, tokenizer_open = { false, "r" }, plot_save = { false, "w" },
}
-- What is not there where nothing may be looked at.
M.questions = { path_kind = 0, path_bytes = -1 }

local function list_of(value)
    return type(value) == "table" and value or { value }
end

-- The canonical path, links resolved; what is not there yet hangs below its nearest folder that is. nil: none.
local function canonical(raw, path)
    local behind = ""
    if path == "" or path:find("\0", 1, true) then
        return nil
    end
    while true do
        local ok, found = pcall(raw.path_absolute, path)
        if ok then
            local full = raw.strings_get(found, 0)
            return (full == "/" and behind ~= "") and behind or full .. behind
        end
        local parent, last = path:match("^(.-)/*([^/]+)/*$")
        if not last or last == ".." or last == "." then
            return nil
        end
        behind = "/" .. last .. behind
        path = parent == "" and (path:sub(1, 1) == "/" and "/" or ".") or parent
        if path == "/" and behind == "/" .. last and not pcall(raw.path_absolute, "/") then
            return nil
        end
    end
end

-- allowed(path, mode) -> canonical path, or nil and why not. names: { name = path }: "name/x" is path/x.
local function policy(raw, options)
    local roots = { r = {}, w = {} }
    local function add(mode, path)
        local full = canonical(raw, path)
        if not full then
            error("distac.restricted: there is no folder for '" .. tostring(path) .. "'", 0)
        end
        table.insert(roots[mode], full)
        if mode == "w" then
            table.insert(roots.r, full)
        end
    end
    for _, path in ipairs(list_of(options.read)) do add("r", path) end
    for _, path in ipairs(list_of(options.write)) do add("w", path) end
    local names = {}
    for name, path in pairs(options.names or {}) do names[name] = path end
    local find, sub, ipairs, tostring, type = string.find, string.sub, ipairs, tostring, type
    return function(path, mode)
        if type(path) ~= "string" then
            return nil, "a path is a text"
        end
        local slash = find(path, "/", 1, true)
        local name = slash and sub(path, 1, slash - 1) or path
        if names[name] then
            path = names[name] .. (slash and sub(path, slash) or "")
        end
        local full = canonical(raw, path)
        for _, root in ipairs(full and roots[mode] or {}) do
            if full == root or root == "/" or sub(full, 1, #root + 1) == root .. "/" then
                return full
            end
        end
        return nil, "'" .. tostring(path) .. "' is not among the files that the host lets this script "
            .. (mode == "w" and "write" or "read")
    end
end

-- ---- The whole state ----------------------------------------------------------------------------------

local function guard_raw(raw, errors, allowed)
    for name, modes in pairs(M.files) do
        local original = raw[name]
        raw[name] = original and function(...)
            local args, n = { ... }, select("#", ...)
            for i, mode in ipairs(modes) do
                if mode and args[i] ~= nil then
                    local full, why = allowed(args[i], mode)
                    if not full then
                        errors.raise("EINVAL", "restricted: %s", why)
                    end
                    args[i] = full
                end
            end
            return original(table.unpack(args, 1, n))
        end
    end
    for name, nothing in pairs(M.questions) do
        local original = raw[name]
        raw[name] = function(path)
            local full = allowed(path, "r") or allowed(path, "w")
            return full and original(full) or nothing
        end
    end
    -- One engine with the host's limits; the script cannot lift them.
    require("distac.context").get()
    raw.context_create = function()
        errors.raise("EUNSUPPORTED", "restricted: the host's engine is the only one")
    end
    require("distac").configure = raw.context_create
    raw.context_set_memory_limit = function()
        errors.raise("EUNSUPPORTED", "restricted: the memory limit is the host's")
    end
    raw.context_set_threads = function()
        errors.raise("EUNSUPPORTED", "restricted: the number of threads is the host's")
    end
end

local function guard_libraries(allowed)
    local open = io.open
    for name in pairs(io) do
        if name ~= "stdout" and name ~= "stderr" and name ~= "type" then
            io[name] = nil
        end
    end
    io.open = function(path, mode)
        mode = mode == nil and "r" or mode
        local writes = type(mode) ~= "string" or mode:find("[wa+]") ~= nil
        local full, why = allowed(path, writes and "w" or "r")
        if not full then
            return nil, why, 13
        end
        return open(full, mode)
    end
    for _, name in ipairs { "exit", "remove", "rename", "tmpname", "setlocale" } do
        os[name] = nil
    end
    os.execute = function() return nil end -- asked whether there is a terminal
    os.getenv = function() return nil end
    for name in pairs(debug) do
        if name ~= "getinfo" and name ~= "getlocal" and name ~= "traceback" then
            debug[name] = nil
        end
    end
    package.loadlib, package.searchpath, package.cpath = nil, nil, ""
    package.path = ""
    for i = #package.searchers, 3, -1 do -- what is preloaded and distac's own files remain
        package.searchers[i] = nil
    end
    local load = load
    _G.load = function(chunk, name, _, env) -- of the recipes' reader
        return load(chunk, name, "t", env or M.env)
    end
    _G.loadfile, _G.dofile, _G.loadstring, _G.collectgarbage = nil, nil, nil, function() return 0 end
end

-- What runs in C without end or takes all memory at once, bounded; for all code of the state.
local MOST = 10000000 -- elements that one call may move
local TEXT = 64 * 1024 * 1024

local function bound_libraries(patterns)
    local rep, getmetatable = string.rep, getmetatable
    for name, f in pairs(patterns) do
        string[name] = f
    end
    string.dump = nil
    string.rep = function(text, n, between)
        local bytes = #text + (between and #between or 0)
        if math.type(n) == "integer" and n > 0 and bytes > 0 and n > TEXT / bytes then
            error("string.rep: the text would be longer than 64 MiB", 2)
        end
        return rep(text, n, between)
    end
    local insert, remove, move, concat, sort = table.insert, table.remove, table.move, table.concat, table.sort
    local function plain(name, t) -- one with a length of its own choice would be walked for ever
        local meta = type(t) == "table" and getmetatable(t)
        if meta and (type(meta) ~= "table" or rawget(meta, "__len") ~= nil) then
            error("table." .. name .. ": not for tables with __len", 3)
        end
    end
    local function span(name, first, last)
        if math.type(first) == "integer" and math.type(last) == "integer" and last >= first
            and (last - first < 0 or last - first >= MOST) then
            error("table." .. name .. ": more than 10 million elements", 3)
        end
    end
    table.insert = function(t, ...)
        plain("insert", t)
        return insert(t, ...)
    end
    table.remove = function(t, ...)
        plain("remove", t)
        return remove(t, ...)
    end
    table.sort = function(t, less)
        plain("sort", t)
        return sort(t, less)
    end
    table.concat = function(t, between, first, last)
        plain("concat", t)
        span("concat", first or 1, last or #t)
        return concat(t, between, first, last)
    end
    table.move = function(a, first, last, to, b)
        span("move", first, last)
        return move(a, first, last, to, b)
    end
end

-- ---- What scripts see ---------------------------------------------------------------------------------

local function copy(library, without)
    local out = {}
    for name, value in pairs(library) do out[name] = value end
    for _, name in ipairs(without or {}) do out[name] = nil end
    return out
end

local function environment(print)
    local getmetatable, setmetatable, type, rawget, error, require = getmetatable, setmetatable, type, rawget,
        error, require
    local env = {
        _VERSION = _VERSION, assert = assert, error = error, ipairs = ipairs, next = next, pairs = pairs,
            pcall = pcall,
        xpcall = xpcall, select = select, tonumber = tonumber, tostring = tostring, type = type,
            rawequal = rawequal,
        rawlen = rawlen, rawget = rawget, rawset = rawset, print = print,
        math = copy(math, { "random", "randomseed" }), table = copy(table), string = copy(string),
        utf8 = copy(utf8),
        coroutine = copy(coroutine),
    }
    env.setmetatable = function(value, meta)
        if type(meta) == "table" and rawget(meta, "__gc") ~= nil then -- nothing can stop one that does not end
            error("setmetatable: __gc is not for restricted scripts", 2)
        end
        return setmetatable(value, meta)
    end
    env.getmetatable = function(value)
        if type(value) ~= "table" then
            return nil
        end
        return getmetatable(value)
    end
    env.require = function(name)
        if name ~= "distac" then
            error("require: restricted scripts have \"distac\" alone", 2)
        end
        return require "distac"
    end
    env._G = env
    return env
end

-- enter { read = {paths}, write = {paths}, names = { name = path }, print = }: from now on for the whole state,
-- once and for all. Returns the environment of its scripts.
function M.enter(options)
    local patterns = package.preload["distac.patterns"]
    if not patterns then
        error("distac.restricted: Lua 5.4 in the host library or in the program distac is needed; LuaJIT has no "
            .. "restricted mode, its FFI reaches everything", 0)
    end
    if M.env then
        error("distac.restricted: this state is restricted already", 0)
    end
    local raw, errors = require "distac.raw", require "distac.error"
    patterns = require "distac.patterns"
    package.loaded["distac.patterns"] = nil -- messages name functions by where they are found first
    for _, name in ipairs { "init", "checkpoint", "context", "fs", "recipe", "json" } do
        require(name == "init" and "distac" or "distac." .. name)
    end
    local tree = package.searchpath("distac.restricted", package.path):match("^(.*)/distac/restricted%.lua$")
    local unguarded = { path_absolute = raw.path_absolute, strings_get = raw.strings_get }
    local reads = copy(list_of(options.read))
    reads[#reads + 1] = tree
    local allowed = policy(unguarded, { read = reads, write = options.write, names = options.names })
    bound_libraries(patterns)
    guard_libraries(allowed)
    guard_raw(raw, errors, allowed)
    M.env = environment(options.print or print)
    return M.env
end

return M
