-- distac.repl.scan: the words of Lua text, finished or not: what completion and the checks for Ctrl-C look at.

local KEYWORDS = {}
for word in ([[and break do else elseif end false for function if in local nil not or repeat return then true until
    while]]):gmatch "%a+" do
    KEYWORDS[word] = true
end

local function long_end(text, at, level)
    local _, stop = text:find("]" .. level .. "]", at, true)
    return stop
end

-- scan(text) -> list of { kind =, text =, first =, last =, open = }. kind: "keyword", "name", "number", "string",
-- "comment", "sign". open: a string or comment that the text does not end; its quote is in `quote`.
return function(text)
    local list, at = {}, 1
    local function add(kind, last, quote)
        local open = last == nil
        last = last or #text
        list[#list + 1] = { kind = kind, text = text:sub(at, last), first = at, last = last, open = open,
            quote = quote }
        at = last + 1
    end
    while true do
        at = text:find("%S", at)
        if not at then return list end
        local c = text:sub(at, at)
        local level = text:match("^%-%-%[(=*)%[", at)
        if level then
            add("comment", long_end(text, at + 4, level), "[")
        elseif text:find("^%-%-", at) then
            add("comment", (text:find("\n", at, true) or #text + 1) - 1)
        elseif text:match("^%[=*%[", at) then
            level = text:match("^%[(=*)%[", at)
            add("string", long_end(text, at + 2 + #level, level), "[")
        elseif c == '"' or c == "'" then
            local i = at + 1
            while i <= #text do
                local d = text:sub(i, i)
                if d == c or d == "\n" then break end
                i = i + (d == "\\" and 2 or 1)
            end
            add("string", text:sub(i, i) == c and i or i <= #text and i - 1 or nil, c)
        elseif c:find "[%a_]" then
            local last = select(2, text:find("^[%w_]+", at))
            add(KEYWORDS[text:sub(at, last)] and "keyword" or "name", last)
        elseif text:find("^%.?%d", at) then
            add("number", select(2, text:find("^[%w%.]*", at)))
        else
            local sign = text:match("^::", at) or text:match("^%.%.%.?", at) or text:match("^[=~<>]=", at) or c
            add("sign", at + #sign - 1)
        end
    end
end
