-- distac.json: JSON in and out. Writing is canonical: the same value gives the same text on every Lua
-- (keys sorted by bytes unless the table's metatable has an __order list; numbers as short as they can be and
-- still read back exactly). Reading is strict RFC 8259: no duplicates, no trailing text, no bare values lost.

local json = {}

json.null = setmetatable({}, { __tostring = function() return "null" end, __distac_null = true })

local array_meta = { __distac_array = true }

-- Marks a table as an array, so that an empty one is written [] and not {}.
function json.array(t)
    return setmetatable(t or {}, array_meta)
end

-- Gives a table a fixed order of keys; keys not listed follow, sorted.
function json.ordered(order, t)
    return setmetatable(t or {}, { __order = order })
end

local function is_array(t)
    local meta = getmetatable(t)
    if type(meta) == "table" and meta.__distac_array then return true end
    return rawget(t, 1) ~= nil
end
-- distac.json.is_array(value): was it made by distac.json.array?
json.is_array = is_array

-- Shortest decimal text that reads back as exactly this number.
function json.number(v)
    v = v + 0.0
    if v ~= v or v == math.huge or v == -math.huge then return nil end
    if v == 0 then return 1 / v < 0 and "-0.0" or "0" end
    if v == math.floor(v) and v > -2 ^ 53 and v < 2 ^ 53 then return string.format("%.0f", v) end
    for digits = 1, 17 do
        local text = string.format("%." .. digits .. "g", v)
        if tonumber(text) == v then
            return (text:gsub("e([+-])0+(%d)", "e%1%2"))
        end
    end
end

local escapes = { ['"'] = '\\"', ["\\"] = "\\\\", ["\b"] = "\\b", ["\f"] = "\\f", ["\n"] = "\\n", ["\r"] = "\\r",
                  ["\t"] = "\\t" }

local function quote(s)
    return '"' .. s:gsub('[%c"\\\127]', function(c)
        return escapes[c] or string.format("\\u%04x", c:byte())
    end) .. '"'
end
-- distac.json.quote(text): a string of JSON with its quotes.
json.quote = quote

local function sorted_keys(t)
    local keys, seen = {}, {}
    local meta = getmetatable(t)
    local order = type(meta) == "table" and meta.__order
    for _, key in ipairs(order or {}) do
        if t[key] ~= nil then
            keys[#keys + 1] = key
            seen[key] = true
        end
    end
    local rest = {}
    for key in pairs(t) do
        if type(key) ~= "string" then
            error("json: an object's keys must be strings, not " .. type(key) .. " " .. tostring(key), 0)
        end
        if not seen[key] then rest[#rest + 1] = key end
    end
    table.sort(rest)
    for _, key in ipairs(rest) do keys[#keys + 1] = key end
    return keys
end

local write

local function is_scalar(v) return type(v) ~= "table" or v == json.null end

local function write_array(out, t, options, depth)
    local flat = true
    for key in pairs(t) do
        if type(key) == "string" then error("json: a list has no keys, this one has '" .. key .. "'", 0) end
    end
    for i = 1, #t do flat = flat and is_scalar(t[i]) end
    local inner = options.indent and not flat and ("\n" .. options.indent:rep(depth + 1)) or ""
    local comma = options.indent and flat and ", " or ","
    out[#out + 1] = "["
    for i = 1, #t do
        if i > 1 then out[#out + 1] = comma end
        out[#out + 1] = inner
        write(out, t[i], options, depth + 1)
    end
    if #t > 0 and inner ~= "" then out[#out + 1] = "\n" .. options.indent:rep(depth) end
    out[#out + 1] = "]"
end

local function write_object(out, t, options, depth)
    local keys = sorted_keys(t)
    local inner = options.indent and ("\n" .. options.indent:rep(depth + 1)) or ""
    out[#out + 1] = "{"
    for i, key in ipairs(keys) do
        if i > 1 then out[#out + 1] = "," end
        out[#out + 1] = inner .. quote(key) .. (options.indent and ": " or ":")
        write(out, t[key], options, depth + 1)
    end
    if #keys > 0 and options.indent then out[#out + 1] = "\n" .. options.indent:rep(depth) end
    out[#out + 1] = "}"
end

function write(out, v, options, depth)
    if depth > 200 then error("json: nested deeper than 200 levels (a cycle?)", 0) end
    local kind = type(v)
    if kind == "nil" or v == json.null then
        out[#out + 1] = "null"
    elseif kind == "boolean" then
        out[#out + 1] = tostring(v)
    elseif kind == "number" then
        local text = json.number(v)
        if not text and options.nonfinite ~= "null" then
            error("json: " .. (v ~= v and "nan" or tostring(v)) .. " has no JSON form", 0)
        end
        out[#out + 1] = text or "null"
    elseif kind == "string" then
        out[#out + 1] = quote(v)
    elseif kind == "table" then
        if is_array(v) then write_array(out, v, options, depth) else write_object(out, v, options, depth) end
    else
        error("json: a " .. kind .. " has no JSON form", 0)
    end
end

-- options: indent = number of spaces or a string; nonfinite = "null" writes NaN and infinity as null.
function json.encode(v, options)
    options = options or {}
    local indent = options.indent
    if type(indent) == "number" then indent = (" "):rep(indent) end
    local out = {}
    write(out, v, { indent = indent, nonfinite = options.nonfinite }, 0)
    return table.concat(out)
end

-- Reading ------------------------------------------------------------------------------------------

local function utf8_text(code)
    local char = string.char
    if code < 0x80 then return char(code) end
    if code < 0x800 then return char(0xC0 + math.floor(code / 64), 0x80 + code % 64) end
    if code < 0x10000 then
        return char(0xE0 + math.floor(code / 4096), 0x80 + math.floor(code / 64) % 64, 0x80 + code % 64)
    end
    return char(0xF0 + math.floor(code / 262144), 0x80 + math.floor(code / 4096) % 64,
                0x80 + math.floor(code / 64) % 64, 0x80 + code % 64)
end

local function fail(text, at, what)
    local line = 1
    for _ in text:sub(1, at - 1):gmatch("\n") do line = line + 1 end
    error(string.format("json: line %d, byte %d: %s", line, at, what), 0)
end

local function skip(text, at) return text:find("[^ \t\r\n]", at) or #text + 1 end

local unescapes = { b = "\b", f = "\f", n = "\n", r = "\r", t = "\t", ['"'] = '"', ["\\"] = "\\", ["/"] = "/" }

local function read_unicode(text, at)
    local hex = text:match("^%x%x%x%x", at)
    if not hex then fail(text, at, "\\u needs four hexadecimal digits") end
    return tonumber(hex, 16)
end

local function read_string(text, at)
    local parts, start = {}, at + 1
    while true do
        local stop = text:find('[%z\1-\31"\\]', start)
        if not stop then fail(text, at, "a string without its closing quote") end
        parts[#parts + 1] = text:sub(start, stop - 1)
        local c = text:sub(stop, stop)
        if c == '"' then return table.concat(parts), stop + 1 end
        if c ~= "\\" then fail(text, stop, "a control character inside a string") end
        local e = text:sub(stop + 1, stop + 1)
        start = stop + 2
        if e == "u" then
            local code = read_unicode(text, start)
            start = start + 4
            if code >= 0xD800 and code < 0xDC00 then
                if text:sub(start, start + 1) ~= "\\u" then fail(text, stop, "half of a surrogate pair") end
                local low = read_unicode(text, start + 2)
                if low < 0xDC00 or low > 0xDFFF then fail(text, stop, "half of a surrogate pair") end
                code = 0x10000 + (code - 0xD800) * 1024 + (low - 0xDC00)
                start = start + 6
            elseif code >= 0xDC00 and code <= 0xDFFF then
                fail(text, stop, "half of a surrogate pair")
            end
            parts[#parts + 1] = utf8_text(code)
        elseif unescapes[e] then
            parts[#parts + 1] = unescapes[e]
        else
            fail(text, stop, "an unknown escape")
        end
    end
end

local function read_number(text, at)
    local stop = at
    local function take(pattern)
        local _, last = text:find("^" .. pattern, stop)
        if last then stop = last + 1 end
        return last ~= nil
    end
    take("%-")
    if not take("0") and not take("[1-9]%d*") then fail(text, at, "not a value") end
    if take("%.") and not take("%d+") then fail(text, stop, "digits are missing after the point") end
    if take("[eE]") then
        take("[+-]")
        if not take("%d+") then fail(text, stop, "digits are missing in the exponent") end
    end
    local value = tonumber(text:sub(at, stop - 1))
    if value == math.huge or value == -math.huge then fail(text, at, "a number out of range") end
    return value, stop
end

local words = { { "true", true }, { "false", false }, { "null", json.null } }
local read

local function read_items(text, at, close, depth, item)
    at = skip(text, at + 1)
    if text:sub(at, at) == close then return at + 1 end
    while true do
        at = skip(text, item(at, depth))
        local c = text:sub(at, at)
        if c == close then return at + 1 end
        if c ~= "," then fail(text, at, "',' or '" .. close .. "' expected") end
        at = skip(text, at + 1)
    end
end

function read(text, at, depth)
    if depth > 200 then fail(text, at, "nested deeper than 200 levels") end
    local c = text:sub(at, at)
    if c == '"' then return read_string(text, at) end
    if c == "{" then
        local t = {}
        return t, read_items(text, at, "}", depth, function(where)
            if text:sub(where, where) ~= '"' then fail(text, where, "a key in quotes expected") end
            local key, after = read_string(text, where)
            if t[key] ~= nil then fail(text, where, "the key " .. quote(key) .. " occurs twice") end
            after = skip(text, after)
            if text:sub(after, after) ~= ":" then fail(text, after, "':' expected") end
            t[key], after = read(text, skip(text, after + 1), depth + 1)
            return after
        end)
    end
    if c == "[" then
        local t = json.array {}
        return t, read_items(text, at, "]", depth, function(where)
            local value, after = read(text, where, depth + 1)
            t[#t + 1] = value
            return after
        end)
    end
    for _, word in ipairs(words) do
        if text:sub(at, at + #word[1] - 1) == word[1] then return word[2], at + #word[1] end
    end
    if at > #text then fail(text, at, "the text ends too early") end
    return read_number(text, at)
end

-- Raises a message with line and byte for anything that is not exactly one JSON value.
function json.decode(text)
    local value, at = read(text, skip(text, 1), 0)
    at = skip(text, at)
    if at <= #text then fail(text, at, "text after the value") end
    return value
end

return json
