-- distac.repl.complete: what can follow a text: globals, fields, methods, topics of help, and inside strings the
-- paths of files.

local objects = require "distac.repl.objects"
local scan = require "distac.repl.scan"

local complete = {}

local KEYWORDS = { "and", "break", "do", "else", "elseif", "end", "false", "for", "function", "if", "in", "local",
    "nil",
                   "not", "or", "repeat", "return", "then", "true", "until", "while" }

local function starting(list, prefix)
    local out = {}
    for _, name in ipairs(list) do
        if name:sub(1, #prefix) == prefix then out[#out + 1] = name end
    end
    return out
end

local function paths(prefix)
    local fs = require("distac").fs
    local folder, start = prefix:match "^(.*/)([^/]*)$"
    folder, start = folder or "", start or prefix
    local where = folder == "" and "." or folder
    if where:sub(1, 2) == "~/" then where = (os.getenv "HOME" or "~") .. where:sub(2) end
    local ok, names = pcall(fs.list, where)
    local out = {}
    for _, name in ipairs(ok and names or {}) do
        if name:sub(1, #start) == start and (start ~= "" or name:sub(1, 1) ~= ".") then
            out[#out + 1] = folder .. name .. (fs.kind(where .. "/" .. name) == "folder" and "/" or "")
        end
    end
    return out
end

local function globals(prefix)
    local names = objects.names(_G)
    names[#names + 1] = rawget(_G, "distac") == nil and "distac" or nil
    for _, word in ipairs(KEYWORDS) do names[#names + 1] = word end
    table.sort(names)
    return starting(names, prefix)
end

local function topics(prefix)
    local out = {}
    for _, entry in ipairs(require "distac.docs") do out[#out + 1] = entry.name end
    table.sort(out)
    return starting(out, prefix)
end

-- candidates(text) -> list of words that the text's last word can become, and that last word. kind tells "path",
-- "name" or "topic".
function complete.candidates(text)
    local topic = text:match "^%s*%?%s*(.*)$"
    local tokens = scan(topic or text)
    local last = tokens[#tokens]
    if last and last.open and last.kind == "string" then
        local word = last.text:sub(last.quote == "[" and #last.text:match "^%[=*%[" + 1 or 2)
        return paths(word), word, "path"
    end
    if last and last.kind == "comment" and last.last == #text then return {}, "", "name" end
    text = topic or text
    local chain, sign, word = text:match "([%a_][%w_%.:%[%]\"']*)([%.:])([%w_]*)$"
    if chain then
        local ok, value = objects.resolve(chain)
        if ok then
            return starting(objects.names(value, sign == ":"), word), word, "name"
        end
        if topic then return topics(topic), topic, "topic" end
        return {}, word, "name"
    end
    word = text:match "[%a_][%w_]*$" or ""
    if text:find "[%.:]%s*$" then return {}, "", "name" end
    local found = globals(word)
    if topic and #found == 0 then return topics(topic), topic, "topic" end
    return found, word, "name"
end

local function common_prefix(list)
    local prefix = list[1] or ""
    for i = 2, #list do
        while list[i]:sub(1, #prefix) ~= prefix do prefix = prefix:sub(1, -2) end
    end
    return prefix
end

-- Words in columns of a window.
local function columns(list, width)
    local widest = 0
    for _, word in ipairs(list) do widest = math.max(widest, #word) end
    local across = math.max(1, math.floor(width / (widest + 2)))
    local rows = math.ceil(#list / across)
    local out = {}
    for r = 1, rows do
        local line = {}
        for c = 0, across - 1 do
            local word = list[c * rows + r]
            if word then line[#line + 1] = word .. (" "):rep(widest + 2 - #word) end
        end
        out[r] = table.concat(line):gsub("%s+$", "")
    end
    return table.concat(out, "\n")
end

local SHOWN = 120

-- What the Tab key does with the text before the cursor: what is inserted, and a list to show (or nil).
function complete.at_cursor(text, width)
    local list, word, kind = complete.candidates(text)
    if #list == 0 then return "", nil end
    local insert = common_prefix(list):sub(#word + 1)
    if #list == 1 and kind == "path" and not list[1]:find "/$" then insert = insert .. '"' end
    if insert ~= "" or #list == 1 then return insert, nil end
    local shown = {}
    for i = 1, math.min(#list, SHOWN) do
        shown[i] = kind == "path" and list[i]:match "[^/]*/?$" or list[i]
    end
    if #list > SHOWN then shown[SHOWN] = "... (" .. #list .. ")" end
    return "", columns(shown, width or 80)
end

return complete
