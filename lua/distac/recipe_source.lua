-- distac.recipe_source: where in a recipe's text a key stands. A small scanner of Lua text finds the table
-- given to recipe { ... } and notes the line of every key path in it; nothing is run.

local source = {}

local function skip_long(text, at)
    local equals = text:match("^%[(=*)%[", at)
    if not equals then return nil end
    local _, stop = text:find("]" .. equals .. "]", at, true)
    return (stop or #text) + 1
end

-- List of { kind, text, line } with kind "name", "string", "number" or "symbol".
local function tokens(text)
    local list, at, line = {}, 1, 1
    local function advance(to)
        for _ in text:sub(at, to - 1):gmatch("\n") do line = line + 1 end
        at = to
    end
    if text:sub(1, 1) == "#" then advance(text:find("\n", 1, true) or #text + 1) end
    while true do
        advance(text:find("%S", at) or #text + 1)
        if at > #text then return list end
        local start_line = line
        if text:find("^%-%-", at) then
            advance(skip_long(text, at + 2) or text:find("\n", at, true) or #text + 1)
        elseif text:find("^[%a_]", at) then
            local name = text:match("^[%w_]+", at)
            list[#list + 1] = { "name", name, start_line }
            advance(at + #name)
        elseif text:find("^%.?%d", at) then
            local number = text:match("^[%w%.]+", at)
            if number:find("^[^xX]*[eE]$") then number = number .. (text:match("^[+-]%d+", at + #number) or "") end
            list[#list + 1] = { "number", number, start_line }
            advance(at + #number)
        elseif text:find("^[\"']", at) then
            local quote, stop = text:sub(at, at), at + 1
            while stop <= #text and text:sub(stop, stop) ~= quote do
                stop = stop + (text:sub(stop, stop) == "\\" and 2 or 1)
            end
            list[#list + 1] = { "string", text:sub(at + 1, stop - 1), start_line }
            advance(stop + 1)
        elseif text:find("^%[=*%[", at) then
            local stop = skip_long(text, at)
            list[#list + 1] = { "string", text:sub(at, stop - 1), start_line }
            advance(stop)
        else
            list[#list + 1] = { "symbol", text:sub(at, at), start_line }
            advance(at + 1)
        end
    end
end

local opens = { ["("] = true, ["["] = true, ["function"] = true, ["do"] = true, ["if"] = true,
                ["repeat"] = true }
local closes = { [")"] = true, ["]"] = true, ["end"] = true, ["until"] = true }

-- Reads the table whose "{" is token i; returns the index after its "}".
local function read_table(list, i, path, lines, join)
    local position = 0
    i = i + 1
    while list[i] do
        local token, after = list[i], list[i + 1] or { "", "" }
        if token[2] == "}" and token[1] == "symbol" then return i + 1 end
        local key
        if token[1] == "name" and after[2] == "=" and (list[i + 2] or {})[2] ~= "=" then
            key, i = token[2], i + 2
        elseif token[2] == "[" and after[1] == "string" and (list[i + 2] or {})[2] == "]" then
            key, i = after[2], i + 4
        else
            position = position + 1
            key = position
        end
        local here = join(path, key)
        lines[here] = lines[here] or token[3]
        local depth = 0
        while list[i] do
            local kind, text = list[i][1], list[i][2]
            local word = kind == "symbol" or kind == "name"
            if word and depth == 0 and (text == "," or text == ";") and kind == "symbol" then
                i = i + 1
                break
            elseif kind == "symbol" and text == "}" then
                break
            elseif kind == "symbol" and text == "{" then
                i = read_table(list, i, here, lines, join)
            else
                if word and opens[text] then depth = depth + 1 end
                if word and closes[text] then depth = depth - 1 end
                i = i + 1
            end
        end
    end
    return i
end

-- Finds recipe { or recipe(...) and returns { lines = {path -> line}, call = line of the call or nil }. Of several
-- calls the last one that begins at or before the line `near` counts (without it the first).
function source.scan(text, join, near)
    local list, at = tokens(text), nil
    for i = 1, #list - 1 do
        local follows = list[i + 1][1] == "symbol" and list[i + 1][2]
        if list[i][1] == "name" and list[i][2] == "recipe" and (follows == "{" or follows == "(")
            and (at == nil or (near and list[i][3] <= near)) then
            at = i
        end
    end
    local map = { lines = {}, call = at and list[at][3] }
    local brace = at and list[at + 1][2] == "(" and at + 2 or at and at + 1
    if brace and list[brace] and list[brace][1] == "symbol" and list[brace][2] == "{" then
        read_table(list, brace, "", map.lines, join)
    end
    return map
end

-- Line of the longest part of a path that the text shows; nil if none.
function source.line(map, path)
    while path ~= "" do
        if map.lines[path] then return map.lines[path] end
        path = path:match("^(.*)%[%d+%]$") or path:match("^(.*)%.[^%.]*$") or ""
    end
    return map.call
end

-- A key path whose line is this one (the deepest), for mistakes that are known by their line only.
function source.path_at(map, line)
    local best
    for path, at in pairs(map.lines) do
        if at == line and (not best or #path > #best or (#path == #best and path < best)) then best = path end
    end
    return best
end

return source
