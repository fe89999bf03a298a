-- distac.repl.objects: what can be asked of a value without running any of its code: the fields of a table, the
-- methods of an object of the engine (userdata on Lua 5.4, cdata on LuaJIT) or of a Lua class.

local objects = {}

local function engine() return package.loaded.distac end

-- Raw field of a value, its methods looked up too; nil if there is none.
function objects.field(value, key)
    if type(value) == "table" then
        local found = rawget(value, key)
        if found ~= nil then return found end
        if value == engine() or value == _G then -- fields that are loaded when first asked for
            local ok, v = pcall(function() return value[key] end)
            return ok and v or nil
        end
    end
    local methods = objects.methods(value)
    return methods and rawget(methods, key)
end

-- The table of a value's methods, and what the kind of value is called.
function objects.methods(value)
    local kind = type(value)
    if kind == "string" then return string, "string" end
    if (kind == "userdata" or kind == "cdata") and package.loaded["distac.raw"] then
        local name = package.loaded["distac.raw"].type(value)
        local check = package.loaded["distac.check"]
        if name and check then return check.methods[name], check.kinds[name] or name end
    end
    if kind == "userdata" then
        local meta = debug.getmetatable(value)
        local index = meta and rawget(meta, "__index")
        return type(index) == "table" and index or nil, meta and rawget(meta, "__name")
    end
    if kind == "table" then
        local meta = debug.getmetatable(value)
        if meta then
            local index = rawget(meta, "__index")
            local class = type(index) == "table" and index or rawget(meta, "methods") or meta
            return class, rawget(meta, "__name")
        end
    end
    return nil
end

-- Names of what follows a dot (methods_only: a colon), sorted.
function objects.names(value, methods_only)
    local seen, list = {}, {}
    local function take(t, functions_only)
        for key, v in next, t do
            if type(key) == "string" and key:find "^[%a_][%w_]*$" and not key:find "^__" and not seen[key]
                and (not functions_only or type(v) == "function") then
                seen[key] = true
                list[#list + 1] = key
            end
        end
    end
    if type(value) == "table" then
        take(value, methods_only)
        if value == engine() then
            for key in next, debug.getmetatable(value).waiting do take { [key] = true } end
        elseif engine() and value == rawget(engine(), "merge") then
            for _, entry in ipairs(require("distac.merge_methods").list()) do take { [entry.name] = true } end
        end
    end
    local methods = objects.methods(value)
    if methods and type(value) ~= "string" or methods_only and methods then take(methods, true) end
    table.sort(list)
    return list
end

-- The value that a chain of names such as a.b[1].c stands for: true and the value, or false. Nothing is called.
function objects.resolve(text)
    local value, at, first = _G, 1, true
    while at <= #text do
        local name, stop
        if first then
            name, stop = text:match "^%s*([%a_][%w_]*)()"
        else
            name, stop = text:match("^%s*[%.:]%s*([%a_][%w_]*)()", at)
            if not name then
                name, stop = text:match("^%[(%d+)%]()", at)
                name = tonumber(name)
            end
            if not name then
                local quote
                quote, name, stop = text:match("^%[([\"'])([^\"'\\]*)%1%]()", at)
                if not quote then name = nil end
            end
        end
        if name == nil then return text:find("^%s*$", at) ~= nil and not first, value end
        if type(value) ~= "table" and type(name) == "number" then return false end
        if first and name == "distac" and rawget(_G, "distac") == nil then
            value = require "distac"
        else
            value = objects.field(value, name)
        end
        if value == nil then return false end
        first, at = false, stop
    end
    return not first, value
end

return objects
