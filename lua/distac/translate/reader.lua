-- distac.translate.reader: a configuration's nodes as names, models and settings; everything mergekit would pass
-- over in silence becomes a named difference.

local known = require "distac.translate.known"
local nearest = require "distac.nearest"

local function fail(line, what, ...)
    error({ line = line, message = string.format(what, ...) }, 0)
end

local Reader = {}
Reader.__index = Reader
Reader.fail = fail

function Reader:differ(what, ...) table.insert(self.differences, string.format(what, ...)) end
function Reader:note(what, ...) table.insert(self.notes, string.format(what, ...)) end

function Reader:known(node, keys, where)
    if node.kind ~= "map" then fail(node.line, "%s: wanted keys and values", where) end
    for _, key in ipairs(node.keys) do
        if not known.contains(keys, key) then
            local near = nearest(key, keys)
            local inner = not near and (known.contains(known.PARAMETERS, key) and key
                or nearest(key, known.PARAMETERS))
            local hint = near and "; did you mean '" .. near .. "'?"
                or inner and "; did you mean '" .. inner .. "' below 'parameters'?" or ":"
            self:differ("line %d: %s has no key '%s'%s mergekit ignores it without a word, and so does this",
                node.at[key].key_line or node.line, where, key, hint)
        end
    end
end

function Reader:parameters(node, where)
    if not node then return {} end
    if node.kind == "scalar" and node.value == nil then return {} end
    if node.kind ~= "map" then fail(node.line, "%s: wanted keys and values", where) end
    local mine = known.METHODS[self.method]
    for _, key in ipairs(node.keys) do
        if not known.contains(mine, key) then
            local line = node.at[key].key_line or node.line
            if known.contains(known.PARAMETERS, key) then
                self:differ("line %d: '%s' is no parameter of %s: mergekit does not look at it", line, key,
                    self.method)
            else
                local near = nearest(key, mine)
                self:differ("line %d: there is no parameter '%s'%s mergekit ignores it without a word, "
                    .. "and so does this", line, key, near and "; did you mean '" .. near .. "'?" or ":")
            end
        end
    end
    return node.at
end

function Reader.text_of(node, what)
    if not node or node.kind ~= "scalar" or node.value == nil then
        fail(node and node.line or 1, "%s: wanted a name", what)
    end
    return type(node.value) == "string" and node.value or node.text
end

-- A model: a path, or { model: path }. Adapters are no models yet.
function Reader:model(node, what)
    local path
    if node.kind == "map" then
        local inner = node.at.model or node
        local path_node = inner.kind == "map" and inner.at.path or inner
        path = Reader.text_of(path_node, what)
        if node.at.lora or inner.kind == "map" and inner.at.lora then
            fail(node.line, "%s: an adapter (lora) is applied by mergekit first; apply it and name the result",
                what)
        end
    else
        path = Reader.text_of(node, what)
    end
    if path:find("+", 1, true) then
        fail(node.line, "%s: '%s': mergekit applies the adapter behind '+' first; apply it and name the result",
            what, path)
    end
    return path
end

-- A setting: a number; { gradient = { numbers } } over the layers; { filters = { { pattern, setting }, ... } } of
-- which the first that fits counts.
function Reader.setting(node, name)
    if node.kind == "scalar" then
        if type(node.value) ~= "number" then fail(node.line, "%s: wanted a number, got '%s'", name, node.text) end
        return node.value
    end
    if node.kind ~= "list" or #node == 0 then fail(node.line, "%s: wanted a number or a list", name) end
    if node[1].kind ~= "map" then
        local out = {}
        for i, item in ipairs(node) do
            if item.kind ~= "scalar" or type(item.value) ~= "number" then
                fail(item.line, "%s: wanted numbers only, or filters only", name)
            end
            out[i] = item.value
        end
        return #out == 1 and out[1] or { gradient = out, line = node.line }
    end
    local filters = {}
    for i, item in ipairs(node) do
        if item.kind ~= "map" or not item.at.value then fail(item.line, "%s: wanted { filter:, value: }", name) end
        local filter = item.at.filter and item.at.filter.value
        filters[i] = { filter ~= nil and filter ~= "*" and tostring(filter) or false,
            Reader.setting(item.at.value, name) }
    end
    return { filters = filters, line = node.line }
end

function Reader.flag(node, default, name)
    if not node then return default end
    if node.kind == "scalar" and type(node.value) == "boolean" then return node.value end
    fail(node.line, "%s: wanted true or false", name)
end

return Reader
