-- distac.translate.print: a translation as a command, a script, and text with its differences.

local json = require "distac.json"

local translate = {}

local function sorted(t)
    local keys = {}
    for key in pairs(t) do keys[#keys + 1] = key end
    table.sort(keys)
    return keys
end

local function shell(text)
    text = tostring(text)
    if text:find("^[%w_./:=,+-]+$") then return text end
    return "'" .. text:gsub("'", "'\\''") .. "'"
end

local function number(v) return type(v) == "number" and json.number(v) or tostring(v) end

local function option_value(key, v)
    if type(v) ~= "table" then return number(v) end
    local parts = {}
    for i, item in ipairs(v) do
        parts[i] = key == "scale" and item[1] .. "=" .. number(item[2]) or number(item)
    end
    return table.concat(parts, ",")
end

-- The words of the `distac merge` command.
function translate.command(t)
    local words = { "distac", "merge", "--base", t.base, "--method", t.method }
    for _, key in ipairs(sorted(t.params)) do
        words[#words + 1] = "--" .. key
        words[#words + 1] = option_value(key, t.params[key])
    end
    if t.dtype then words[#words + 1], words[#words + 2] = "--dtype", t.dtype end
    words[#words + 1], words[#words + 2] = "-o", "merged.safetensors"
    for _, path in ipairs(t.models) do words[#words + 1] = path end
    return words
end

local function lua_value(v)
    if type(v) == "table" then
        local parts = {}
        for i, item in ipairs(v) do parts[i] = lua_value(item) end
        return "{ " .. table.concat(parts, ", ") .. " }"
    end
    return type(v) == "number" and json.number(v) or string.format("%q", v)
end

-- A Lua script that does the same.
function translate.script(t)
    local lines = { 'local distac = require "distac"', "", "local base = distac.load " .. lua_value(t.base),
                    "local models = {" }
    for _, path in ipairs(t.models) do lines[#lines + 1] = "    distac.load " .. lua_value(path) .. "," end
    lines[#lines + 1] = "}"
    lines[#lines + 1] = "distac.merge." .. t.method .. " {"
    for _, key in ipairs(sorted(t.params)) do
        lines[#lines + 1] = "    " .. key .. " = " .. lua_value(t.params[key]) .. ","
    end
    lines[#lines + 1] = '}:files(base, models, "merged.safetensors"'
        .. (t.dtype and ', { dtype = "' .. t.dtype .. '" }'
        or "") .. ")"
    return table.concat(lines, "\n")
end

-- The command as a line for a shell, behind comments that name the differences.
function translate.text(t, as_script)
    local lines, mark = {}, as_script and "-- " or "# "
    for _, what in ipairs(t.differences) do lines[#lines + 1] = mark .. "difference: " .. what end
    for _, what in ipairs(t.notes) do lines[#lines + 1] = mark .. what end
    if as_script then
        lines[#lines + 1] = translate.script(t)
    else
        local words = translate.command(t)
        for i, word in ipairs(words) do words[i] = shell(word) end
        lines[#lines + 1] = table.concat(words, " ")
    end
    return table.concat(lines, "\n")
end

return translate
