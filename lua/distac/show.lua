-- How the prompt prints values: like print, but tables show what is in them and strings inside them are quoted.
local function sorted_keys(t)
    local keys = {}
    for key in pairs(t) do
        keys[#keys + 1] = key
    end
    table.sort(keys, function(a, b)
        if type(a) == type(b) and (type(a) == "number" or type(a) == "string") then
            return a < b
        end
        return type(a) < type(b)
    end)
    return keys
end

local function plain(v)
    if type(v) == "number" and v == math.floor(v) and v > -1e15 and v < 1e15 then
        return string.format("%.0f", v)
    end
    if type(v) == "string" then
        return '"' .. v:gsub("\n", "\\n") .. '"'
    end
    if type(v) == "function" then
        return "function" -- where it lies in memory tells nobody anything
    end
    return tostring(v)
end

local LONGEST = 80 -- entries of a table that are shown

local function words(v, depth)
    local meta = type(v) == "table" and getmetatable(v)
    if type(v) ~= "table" or type(meta) == "table" and meta.__tostring then
        return plain(v)
    end
    if depth == 0 then
        return next(v) == nil and "{}" or "{...}"
    end
    local parts, n = {}, #v
    for i = 1, math.min(n, LONGEST) do
        parts[#parts + 1] = words(rawget(v, i), depth - 1)
    end
    for _, key in ipairs(sorted_keys(v)) do
        local in_list = type(key) == "number" and key >= 1 and key <= n and key == math.floor(key)
        if not in_list and #parts < LONGEST then
            local name = type(key) == "string" and key:match("^[%a_][%w_]*$") or "[" .. plain(key) .. "]"
            parts[#parts + 1] = name .. " = " .. words(rawget(v, key), depth - 1)
        elseif not in_list then
            parts[#parts + 1] = "..."
            break
        end
    end
    if n > LONGEST then
        parts[#parts + 1] = "... (" .. n .. ")"
    end
    local text = "{" .. table.concat(parts, ", ") .. "}"
    if #text > 100 and #parts > 1 then
        text = "{\n" .. table.concat(parts, ",\n"):gsub("[^\n]+", "    %0") .. "\n}"
    end
    return text
end

-- A function as the reference knows it, or where it was written.
local function signature(f)
    local known = require("distac.repl.help").call(f)
    if known then
        return "function " .. known
    end
    local info = debug.getinfo(f, "S")
    return info.what == "C" and "function" or string.format("function of %s:%d", info.short_src, info.linedefined)
end

-- All that `distac` has, also what is loaded when it is asked for.
local function contents(distac)
    local lines, line = { "distac " .. distac.version .. " (?distac tells what each is)" }, " "
    for _, name in ipairs(require("distac.repl.objects").names(distac)) do
        if #line + 1 + #name > 100 then
            lines[#lines + 1], line = line, " "
        end
        line = line .. " " .. name
    end
    lines[#lines + 1] = line
    return table.concat(lines, "\n")
end

local function text_of(v)
    if type(v) == "string" then
        return v
    elseif type(v) == "function" then
        return signature(v)
    elseif v ~= nil and v == package.loaded.distac then
        return contents(v)
    end
    return words(v, 3)
end

local M = {}

-- Prints its arguments as results are printed, separated by tabs, or one below the other where
-- one has several lines.
function M.print(...)
    local out, separator = {}, "\t"
    for i = 1, select("#", ...) do
        out[i] = text_of((select(i, ...)))
        separator = out[i]:find("\n", 1, true) and "\n" or separator
    end
    print(table.concat(out, separator))
end

-- show(...): the same, but a plot or an image (before the name of a PNG file, or alone) is drawn where the
-- terminal can, and saved.
return setmetatable(M, {
    __call = function(_, ...)
        local raw = package.loaded["distac.raw"]
        local kind = raw and raw.type((...))
        if (kind == "plot" or kind == "image") and select("#", ...) <= 2 then
            return require("distac.repl.picture").show(...)
        end
        M.print(...)
    end,
})
