-- Error objects: { code =, message =, where = }, the core's and those of this layer alike. The message names the
-- function, the argument, what came and what was wanted; `where` is the caller's line, the first one outside this
-- library.
local raw = require "distac.raw"

local getinfo = debug and debug.getinfo

local M = {}

local function folder_of_this_file()
    local source = getinfo and getinfo(1, "S").source or ""
    return source:match("^(@.*[/\\])[^/\\]*$") or "@distac/"
end
local home = folder_of_this_file()

local function is_ours(source)
    return source:sub(1, #home) == home or source:match("distac[/\\]raw%.lua$") ~= nil
end

-- "file:line" of the innermost frame that belongs to the user, nil if there is none.
function M.where()
    if not getinfo then
        return nil
    end
    local level = 2
    while true do
        local info = getinfo(level, "Sl")
        if not info then
            return nil
        end
        if info.currentline and info.currentline > 0 and not is_ours(info.source) then
            return info.short_src .. ":" .. string.format("%d", info.currentline)
        end
        level = level + 1
    end
end

-- Every error object passes here when it is made.
function raw.error_metatable.on_new(e)
    e.where = M.where()
end

function raw.error_metatable.__tostring(e)
    local message = tostring(rawget(e, "message"))
    local where = rawget(e, "where")
    return where and where .. ": " .. message or message
end

-- distac.errors.new(code, message): an error object, as raise() raises.
M.new = raw.error

-- raise("ESHAPE", "%s: ...", ...) formats like string.format.
function M.raise(code, text, ...)
    if select("#", ...) > 0 then
        text = string.format(text, ...)
    end
    error(M.new(code, text), 0)
end

-- True for error objects of this library, those of the core included.
function M.is(e)
    return type(e) == "table" and type(rawget(e, "code")) == "string" and type(rawget(e, "message")) == "string"
end

return M
