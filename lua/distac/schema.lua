-- distac.schema: describes what a table may hold and checks it. A node is a small table made by the
-- functions below; schema.check walks a value along a node and collects EVERY mistake with its path, so that a
-- user mends a recipe once. schema.parse reads one value from text (for --set) by the same nodes.
--
-- A node has: check(value, path, report) -> resolved value; parse(text) -> value or nil, why; want = what a
-- message says was wanted; default (a value) and required (true) matter inside records.

local json = require "distac.json"

local schema = {}

schema.nearest = require "distac.nearest"

function schema.did_you_mean(name, list)
    local near = schema.nearest(tostring(name), list)
    if near then return "; did you mean '" .. near .. "'?" end
    if #list > 0 and #list <= 24 then return "; one of: " .. table.concat(list, ", ") end
    return ""
end

-- How a message shows a value that was not wanted.
function schema.show(v)
    local kind = type(v)
    if kind == "number" then return json.number(v) or v ~= v and "nan" or tostring(v) end
    if kind == "string" then return "'" .. (#v > 40 and v:sub(1, 37) .. "..." or v) .. "'" end
    if kind == "boolean" or kind == "nil" then return tostring(v) end
    return "a " .. kind
end

-- A stand-in for something already reported (an undefined global): checks pass over it silently but tell
-- where it was met.
function schema.is_poison(v)
    local meta = type(v) == "table" and getmetatable(v)
    return type(meta) == "table" and meta.__distac_poison == true
end

local function join(path, key)
    if type(key) == "number" then return path .. "[" .. json.number(key) .. "]" end
    if path == "" then return key end
    return path .. "." .. key
end
schema.join = join

local function node(t, options)
    for key, value in pairs(options or {}) do t[key] = value end
    return t
end

local function guarded(check)
    return function(self, value, path, report)
        if schema.is_poison(value) then
            report(path, value)
            return nil
        end
        return check(self, value, path, report)
    end
end

-- Numbers: min and max are included, above and below are not.
local function range_text(self)
    local n = json.number
    if self.min and self.max then return " from " .. n(self.min) .. " to " .. n(self.max) end
    if self.min and self.below then return " from " .. n(self.min) .. " to below " .. n(self.below) end
    if self.min then return " of at least " .. n(self.min) end
    if self.above and self.max then return " above " .. n(self.above) .. " up to " .. n(self.max) end
    if self.above then return " above " .. n(self.above) end
    if self.max then return " up to " .. n(self.max) end
    return ""
end

local function number_fits(self, v)
    return v == v and v > -math.huge and v < math.huge and not (self.integer and v ~= math.floor(v))
        and not (self.min and v < self.min) and not (self.max and v > self.max)
        and not (self.above and v <= self.above) and not (self.below and v >= self.below)
end

local function make_number(options, integer)
    local self = node({ kind = "number", integer = integer }, options)
    self.want = (integer and "a whole number" or "a number") .. range_text(self)
    self.check = guarded(function(_, value, path, report)
        if type(value) ~= "number" then
            report(path, "wanted " .. self.want .. ", got " .. schema.show(value))
        elseif not number_fits(self, value) then
            report(path, schema.show(value) .. " is not " .. self.want)
        else
            return value
        end
    end)
    self.parse = function(_, text)
        local value = tonumber(text)
        if not value then return nil, "wanted " .. self.want .. ", got '" .. text .. "'" end
        return value
    end
    return self
end

function schema.number(options) return make_number(options, false) end
function schema.integer(options) return make_number(options, true) end

function schema.string(options)
    local self = node({ kind = "string", want = "a text" }, options)
    self.check = guarded(function(_, value, path, report)
        if type(value) ~= "string" then
            report(path, "wanted " .. self.want .. ", got " .. schema.show(value))
        elseif self.pattern and not value:find(self.pattern) then
            report(path, schema.show(value) .. " is not " .. self.want)
        else
            return value
        end
    end)
    self.parse = function(_, text) return text end
    return self
end

function schema.boolean(options)
    local self = node({ kind = "boolean", want = "true or false" }, options)
    self.check = guarded(function(_, value, path, report)
        if type(value) == "boolean" then return value end
        report(path, "wanted true or false, got " .. schema.show(value))
    end)
    self.parse = function(_, text)
        if text == "true" then return true end
        if text == "false" then return false end
        return nil, "wanted true or false, got '" .. text .. "'"
    end
    return self
end

-- Exactly this value, e.g. false.
function schema.constant(wanted)
    local self = { kind = "constant", want = schema.show(wanted) }
    self.check = guarded(function(_, value, path, report)
        if value == wanted then return value end
        report(path, "wanted " .. self.want .. ", got " .. schema.show(value))
    end)
    self.matches = function(value) return value == wanted end
    self.parse = function(_, text)
        if text == tostring(wanted) then return wanted end
        return nil, "wanted " .. self.want .. ", got '" .. text .. "'"
    end
    return self
end

-- One of a list of names; values may be a function that returns the list.
function schema.enum(values, options)
    local self = node({ kind = "enum" }, options)
    self.want = self.want or "a name"
    local function list() return type(values) == "function" and values() or values end
    self.check = guarded(function(_, value, path, report)
        if type(value) ~= "string" then
            report(path, "wanted " .. self.want .. ", got " .. schema.show(value))
            return nil
        end
        for _, name in ipairs(list()) do
            if name == value then return value end
        end
        report(path, (self.unknown or "unknown name") .. " " .. schema.show(value)
            .. schema.did_you_mean(value, list()))
    end)
    self.parse = function(_, text) return text end
    return self
end

-- A value of the program's own: accept(value) -> resolved value, or nil and what is wrong.
function schema.custom(options)
    local self = node({ kind = "custom" }, options)
    self.check = guarded(function(_, value, path, report)
        local resolved, why = self.accept(value, path, report)
        if resolved == nil and why ~= true then
            report(path, why or "wanted " .. self.want .. ", got " .. schema.show(value))
        end
        return resolved
    end)
    self.parse = self.parse or function() return nil, "cannot be given as text" end
    return self
end

-- A table with known keys. fields: list of { name, node }, in the order of the documentation.
function schema.record(fields, options)
    local self = node({ kind = "record", want = "a table" }, options)
    self.fields, self.names = {}, {}
    for _, field in ipairs(fields) do
        self.fields[field[1]] = field[2]
        self.names[#self.names + 1] = field[1]
    end
    self.check = guarded(function(_, value, path, report)
        if type(value) ~= "table" then
            report(path, "wanted " .. self.want .. ", got " .. schema.show(value))
            return nil
        end
        local out, unknown, meant = {}, {}, {}
        for key in pairs(value) do
            if self.fields[key] == nil then unknown[#unknown + 1] = key end
        end
        table.sort(unknown, function(a, b) return tostring(a) < tostring(b) end)
        for _, key in ipairs(unknown) do
            if type(key) == "number" then
                report(join(path, key), "a value without a key; keys here: " .. table.concat(self.names, ", "))
            else
                meant[schema.nearest(tostring(key), self.names) or ""] = true
                report(join(path, tostring(key)), "unknown key" .. schema.did_you_mean(key, self.names))
            end
        end
        for _, name in ipairs(self.names) do
            local field = self.fields[name]
            local given = rawget(value, name)
            if given ~= nil then
                out[name] = field:check(given, join(path, name), report)
            elseif field.required and not meant[name] then
                report(path, "the key '" .. name .. "' is missing (" .. field.want .. ")")
            elseif field.default ~= nil and not self.sparse then
                out[name] = field:check(field.default, join(path, name), report)
            end
        end
        return out
    end)
    self.parse = function() return nil, "wanted one of its keys: " .. table.concat(self.names, ", ") end
    return self
end

-- A table from names to values of one kind. keys (optional): a function that returns the valid names.
function schema.map(item, options)
    local self = node({ kind = "map", want = "a table", item = item }, options)
    self.check = guarded(function(_, value, path, report)
        if type(value) ~= "table" then
            report(path, "wanted " .. self.want .. ", got " .. schema.show(value))
            return nil
        end
        local names, out = {}, {}
        for key in pairs(value) do names[#names + 1] = key end
        table.sort(names, function(a, b) return tostring(a) < tostring(b) end)
        for _, key in ipairs(names) do
            if type(key) ~= "string" then
                report(join(path, key), "wanted a name as the key, got " .. schema.show(key))
            else
                out[key] = item:check(value[key], join(path, key), report)
            end
        end
        return out
    end)
    self.parse = function() return nil, "wanted one of its keys" end
    return self
end

-- A list of values of one kind; a text is split at commas.
function schema.list(item, options)
    local self = node({ kind = "list", want = "a list" }, options)
    self.item = item
    self.check = guarded(function(_, value, path, report)
        if type(value) ~= "table" then
            report(path, "wanted " .. self.want .. ", got " .. schema.show(value))
            return nil
        end
        local out = {}
        for key in pairs(value) do
            if type(key) ~= "number" or key < 1 or key > #value then
                report(join(path, key), "wanted a list without keys")
            end
        end
        for i = 1, #value do out[i] = item:check(value[i], join(path, i), report) end
        if #value < (self.at_least or 0) then report(path, "the list is empty") end
        return out
    end)
    self.parse = function(_, text)
        local out = {}
        for part in (text .. ","):gmatch("%s*(.-)%s*,") do
            local value, why = item:parse(part)
            if value == nil then return nil, why end
            out[#out + 1] = value
        end
        return out
    end
    return self
end

-- The first alternative that takes the value's Lua type decides. alternatives: { { types, node }, ... } with
-- types a list of type names, or a function of the value.
function schema.one_of(alternatives, options)
    local self = node({ kind = "one_of", alternatives = alternatives }, options)
    local function takes(types, value)
        if type(types) == "function" then return types(value) end
        for name in types:gmatch("%a+") do
            if type(value) == name then return true end
        end
        return false
    end
    self.check = guarded(function(_, value, path, report)
        for _, alternative in ipairs(alternatives) do
            if takes(alternative[1], value) then return alternative[2]:check(value, path, report) end
        end
        report(path, "wanted " .. self.want .. ", got " .. schema.show(value))
    end)
    self.parse = function(_, text)
        local why
        for _, alternative in ipairs(alternatives) do
            local value
            value, why = alternative[2]:parse(text)
            if value ~= nil then return value end
        end
        return nil, "wanted " .. self.want .. ", got '" .. text .. "'"
    end
    return self
end

-- The node at a path of keys, or nil, the path up to the first unknown key and the names valid there.
function schema.at(root, keys)
    local here, path = root, ""
    for _, key in ipairs(keys) do
        local found, names = nil, {}
        local candidates = here.kind == "one_of" and {} or { here }
        for _, alternative in ipairs(here.alternatives or {}) do candidates[#candidates + 1] = alternative[2] end
        for _, candidate in ipairs(candidates) do
            -- A value of the program's own may have keys too: inner() is their record.
            if candidate.inner then candidate = candidate.inner() end
            if candidate.kind == "record" then
                found = found or candidate.fields[key]
                for _, name in ipairs(candidate.names) do names[#names + 1] = name end
            elseif candidate.kind == "map" then
                found = found or candidate.item
            end
        end
        path = join(path, key)
        if not found then return nil, path, names end
        here = found
    end
    return here
end

return schema
