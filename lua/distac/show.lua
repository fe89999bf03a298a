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

local M = {}

-- Prints its arguments as results are printed, separated by tabs.
function M.print(...)
    local out = {}
    for i = 1, select("#", ...) do
        local v = select(i, ...)
        out[i] = (type(v) == "string" or type(v) == "function") and tostring(v) or words(v, 3)
    end
    print(table.concat(out, "\t"))
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
