-- distac.yaml: reads the part of YAML that settings are written in: maps, lists, flow [..] and {..}, plain and
-- quoted scalars, comments. What it does not read (anchors, tags, block text, several documents, tabs as
-- indentation) is refused with its line. Every node knows its line:
--   { kind = "map", line =, keys = { name, ... }, at = { name = node } } | { kind = "list", line =, node, ... }
--   | { kind = "scalar", line =, value = string, number, boolean or nil, text = as written }

local yaml = {}

local function fail(line, what, ...)
    error({ line = line, message = string.format(what, ...) }, 0)
end

-- ---- Lines --------------------------------------------------------------------------------------------

-- The text before a comment: a # outside quotes, at the start or after a space.
local function uncommented(text, line)
    local quote
    local i = 1
    while i <= #text do
        local c = text:sub(i, i)
        if quote == '"' and c == "\\" then
            i = i + 1
        elseif quote then
            if c == quote then quote = nil end
        elseif (c == '"' or c == "'") and (i == 1 or text:find("^[%s%[{,:%-]", i - 1)) then
            quote = c
        elseif c == "#" and (i == 1 or text:find("^%s", i - 1)) then
            return (text:sub(1, i - 1):gsub("%s+$", ""))
        end
        i = i + 1
    end
    if quote then fail(line, "a quoted text does not end on its line") end
    return (text:gsub("%s+$", ""))
end

local function lines_of(text)
    local list, number = {}, 0
    if text:find("%z") then fail(1, "a zero byte: this is no text") end
    text = text:gsub("^\239\187\191", ""):gsub("\r\n", "\n")
    for raw in (text .. "\n"):gmatch("(.-)\n") do
        number = number + 1
        local indent, rest = raw:match("^( *)(.*)$")
        if rest:find("^\t") and rest:find("[^%s]") then fail(number, "a tab as indentation; YAML wants spaces") end
        rest = uncommented(rest, number)
        if rest == "---" and indent == "" then
            if #list > 0 then fail(number, "a second document begins; one is read") end
        elseif rest:find("^%%") and indent == "" then
            fail(number, "directives are not read")
        elseif rest ~= "" and rest ~= "..." then
            list[#list + 1] = { indent = #indent, text = rest, number = number }
        end
    end
    return list
end

-- ---- Scalars ------------------------------------------------------------------------------------------

local words = { ["true"] = true, ["True"] = true, ["TRUE"] = true, yes = true, Yes = true, on = true, On = true,
                ["false"] = false, ["False"] = false, ["FALSE"] = false, no = false, No = false, off = false,
                Off = false }
local empty = { ["null"] = true, ["~"] = true, Null = true, NULL = true, [""] = true }
local escapes = { n = "\n", t = "\t", r = "\r", ["\\"] = "\\", ['"'] = '"', ["/"] = "/", ["0"] = "\0" }

local function scalar(text, line)
    local node = { kind = "scalar", line = line, text = text }
    local first = text:sub(1, 1)
    if first == "'" then
        local inner = text:match("^'(.*)'$")
        if not inner or inner:gsub("''", ""):find("'", 1, true) then fail(line, "text after a quoted scalar") end
        node.value = inner:gsub("''", "'")
    elseif first == '"' then
        local inner = text:match('^"(.*)"$')
        if not inner then fail(line, "text after a quoted scalar") end
        node.value = inner:gsub("\\(.)", function(c)
            return escapes[c] or fail(line, "\\%s in a quoted text is not read", c)
        end)
    elseif first == "&" or first == "*" then
        fail(line, "anchors and aliases (%s) are not read; write the value out", text:match("^%S+"))
    elseif first == "!" then
        fail(line, "tags (%s) are not read", text:match("^%S+"))
    elseif first == "|" or first == ">" then
        fail(line, "block text (%s) is not read", first)
    elseif first:find("[%]},@`%%]") then
        fail(line, "'%s' cannot begin a value", first)
    elseif words[text] ~= nil then
        node.value = words[text]
    elseif not empty[text] then
        local plain = text:gsub("_", "")
        local number = plain:find("^[-+]?%.?%d") and not plain:find("[xX]") and tonumber((plain:gsub("^%+", "")))
        node.value = number or text
    end
    return node
end

-- ---- Flow: [a, b], {a: b} ------------------------------------------------------------------------------

local function flow(text, line)
    local at = 1
    local node

    local function space() at = text:find("[^%s]", at) or #text + 1 end

    local function word(stops)
        local first = text:sub(at, at)
        local from = at
        if first == '"' or first == "'" then
            at = at + 1
            while at <= #text and text:sub(at, at) ~= first do
                at = at + (first == '"' and text:sub(at, at) == "\\" and 2 or 1)
            end
            at = at + 1
        else
            while at <= #text and not text:find(stops, at) do at = at + 1 end
        end
        return (text:sub(from, at - 1):gsub("%s+$", ""))
    end

    function node()
        space()
        local open = text:sub(at, at)
        if open ~= "[" and open ~= "{" then return scalar(word("^[,%]}]"), line) end
        local close = open == "[" and "]" or "}"
        local out = open == "[" and { kind = "list", line = line }
            or { kind = "map", line = line, keys = {}, at = {} }
        at = at + 1
        while true do
            space()
            if at > #text then fail(line, "'%s' is not closed", open) end
            if text:sub(at, at) == close then break end
            if open == "[" then
                out[#out + 1] = node()
            else
                local key = scalar(word("^[:,}]"), line)
                space()
                if text:sub(at, at) ~= ":" then fail(line, "wanted ':' after %s", key.text) end
                at = at + 1
                key = tostring(key.value)
                if out.at[key] then fail(line, "%s stands twice", key) end
                out.keys[#out.keys + 1], out.at[key] = key, node()
            end
            space()
            local c = text:sub(at, at)
            if c == "," then at = at + 1 elseif c ~= close and at <= #text then fail(line, "wanted ',' or '%s'",
                close) end
        end
        at = at + 1
        return out
    end

    local out = node()
    space()
    if at <= #text then fail(line, "text after %s", text:sub(1, at - 1)) end
    return out
end

-- Brackets that are open at the end of a text, outside quotes.
local function depth(text)
    local bare = text:gsub('"[^"]*"', ""):gsub("'[^']*'", "")
    local _, opens = bare:gsub("[%[{]", "")
    local _, closes = bare:gsub("[%]}]", "")
    return opens - closes
end

-- ---- Blocks -------------------------------------------------------------------------------------------

local MAX_DEPTH = 50

local function parser(lines)
    local at = 1
    local block

    -- A value that begins on a line; a flow may go on below.
    local function inline(text, line)
        if not text:find("^[%[{]") then return scalar(text, line.number) end
        while depth(text) > 0 and lines[at] do
            text = text .. " " .. lines[at].text
            at = at + 1
        end
        return flow(text, line.number)
    end

    -- What follows "key:" or "-": on the line, below it, or nothing.
    local function value(text, line, indent, level, is_key)
        if text ~= "" then
            local out = inline(text, line)
            local follows = lines[at]
            if follows and follows.indent > indent then
                fail(follows.number, "is indented below a value; text over several lines is not read")
            end
            return out
        end
        local follows = lines[at]
        if follows and (follows.indent > indent
            or is_key and follows.indent == indent and follows.text:find("^%-%f[%s%z]")) then
            return block(follows.indent, level + 1)
        end
        return { kind = "scalar", line = line.number, text = "" }
    end

    local function list(indent, level)
        local out = { kind = "list", line = lines[at].number }
        while lines[at] and lines[at].indent == indent and lines[at].text:find("^%-%f[%s%z]") do
            local line = lines[at]
            local gap, rest = line.text:match("^%-(%s*)(.*)$")
            local pair = not rest:find("^[%[{\"']") and (rest:find("^[^%s:][^:]*:%s")
                or rest:find("^[^%s:][^:]*:$"))
            if pair or rest:find("^%-%s") then -- a block that begins behind the dash
                lines[at] = { indent = indent + 1 + #gap, text = rest, number = line.number }
                out[#out + 1] = block(indent + 1 + #gap, level + 1)
            else
                at = at + 1
                out[#out + 1] = value(rest, line, indent, level)
            end
        end
        return out
    end

    local function split(line)
        local text = line.text
        local quoted, rest = text:match("^([\"'].-[\"'])%s*:%s*(.*)$")
        if quoted then return scalar(quoted, line.number).value, rest end
        local key, tail = text:match("^([^%s].-)%s*:%s+(.*)$")
        if not key then key, tail = text:match("^([^%s].-)%s*:$"), "" end
        if not key then fail(line.number, "wanted 'key: value', got '%s'", text) end
        if key:find("^[%[{&*!|>?]") or key:find("^%-%s") then fail(line.number, "'%s' cannot be a key", key) end
        return key, tail
    end

    local function map(indent, level)
        local out = { kind = "map", line = lines[at].number, keys = {}, at = {} }
        while lines[at] and lines[at].indent == indent do
            local line = lines[at]
            local key, rest = split(line)
            if out.at[key] then
                fail(line.number, "%s stands twice, first in line %d", key, out.at[key].key_line)
            end
            at = at + 1
            local node = value(rest, line, indent, level, true)
            node.key_line = line.number
            out.keys[#out.keys + 1], out.at[key] = key, node
        end
        return out
    end

    function block(indent, level)
        if level > MAX_DEPTH then fail(lines[at].number, "nested deeper than %d", MAX_DEPTH) end
        local line = lines[at]
        local out
        if line.text:find("^%-%f[%s%z]") then
            out = list(indent, level)
        elseif line.text:find("^[%[{]") then
            at = at + 1
            out = inline(line.text, line)
        else
            out = map(indent, level)
        end
        if lines[at] and lines[at].indent > indent then fail(lines[at].number, "is indented too far") end
        return out
    end

    if #lines == 0 then fail(1, "there is nothing in it") end
    local out = block(lines[1].indent, 1)
    if lines[at] then fail(lines[at].number, "is indented less than the first line, or no 'key: value'") end
    return out
end

-- The root node; or nil, what is wrong, and the line.
function yaml.read(text)
    local fine, out = pcall(function() return parser(lines_of(text)) end)
    if fine then return out end
    if type(out) ~= "table" or not out.line then error(out, 0) end
    return nil, out.message, out.line
end

-- A node as plain values (lists and maps of tables), for messages and tests.
function yaml.plain(node)
    if node.kind == "scalar" then return node.value end
    local out = {}
    if node.kind == "list" then
        for i, item in ipairs(node) do out[i] = yaml.plain(item) end
    else
        for key, item in pairs(node.at) do out[key] = yaml.plain(item) end
    end
    return out
end

return yaml
