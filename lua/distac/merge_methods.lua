-- The merge methods of the core as its registry tells them, and those that look at images; what their parameters
-- and rules by pattern may be.
local raw = require "distac.raw"
local check = require "distac.check"
local errors = require "distac.error"
local format = require "distac.format"

local M = {}

local all -- { { name =, text =, params = { ... } }, ... }
local by_name

local function words(text)
    local out = {}
    for word in text:gmatch("%S+") do
        out[#out + 1] = word
    end
    return out
end

local function load()
    all, by_name = {}, {}
    for i = 1, raw.merge_method_count() do
        local params = {}
        for k = 1, raw.merge_param_count(i - 1) do
            local info = raw.merge_param_info(i - 1, k - 1)
            params[k] = {
                name = info.name, text = info.text, default = info.value, min = info.minimum, max = info.maximum,
                list = info.list ~= 0, choices = info.choices and words(info.choices) or nil,
            }
            local p = params[k]
            p.default = p.choices and p.choices[p.default + 1] or p.default
        end
        local entry = { name = raw.merge_method_name(i - 1), text = raw.merge_method_text(i - 1), params = params }
        all[i], by_name[entry.name] = entry, entry
    end
    for _, entry in ipairs(require("distac.driven").methods()) do
        all[#all + 1], by_name[entry.name] = entry, entry
    end
end

-- Ordered list of { name =, text =, params = { { name =, text =, default =, min =, max =, list =, choices = },
-- ... } }; choices, if there are any, are the words that are allowed instead of numbers. data = true: the method
-- looks at images, and its operator takes { data = { { dataset =, head = }, ... } } behind base and task vectors.
function M.list()
    if not all then
        load()
    end
    return all
end

-- The same keys and values in a table of its own.
function M.copy(values)
    local copy = {}
    for key, v in pairs(values) do
        copy[key] = v
    end
    return copy
end

function M.named(name)
    M.list()
    return by_name[name]
end

-- The number that stands for a word of a parameter.
function M.choice(p, v)
    for i, word in ipairs(p.choices) do
        if word == v then
            return i - 1
        end
    end
end

-- Raises unless v is a value of the parameter.
function M.check(fname, p, v)
    if p.choices then
        if not M.choice(p, v) then
            errors.raise("EINVAL", "%s: %s: wanted one of %s, got %s%s", fname, p.name,
                table.concat(p.choices, ", "), check.describe(v),
                type(v) == "string" and check.hint(v, p.choices) or "")
        end
        return v
    end
    if type(v) == "table" then
        if not p.list then
            check.wanted(fname, p.name, "a number", v)
        end
        for i, x in ipairs(v) do
            check.number(fname, string.format("%s[%.0f]", p.name, i), x, p.min, p.max)
        end
        return v
    end
    check.number(fname, p.name, v)
    if v ~= v or v < p.min or v > p.max then
        check.wanted(fname, p.name, string.format("a number from %s to %s", format.number(p.min),
            format.number(p.max)), v)
    end
    return v
end

-- Which tensors are merged, and with how much of lambda: only and except are a pattern or a list of them, scale is
-- a list of { pattern, factor }, of which the last that matches counts. Patterns: * any text, ? one byte.
M.rule_keys = { only = true, except = true, scale = true }

local function patterns(fname, key, v)
    local list = type(v) == "string" and { v } or v
    if type(list) ~= "table" or #list == 0 then
        check.wanted(fname, key, "a pattern or a list of patterns", v)
    end
    for i, pattern in ipairs(list) do
        check.string(fname, string.format("%s[%.0f]", key, i), pattern)
    end
    return list
end

-- A method's parameters, complete: the defaults, and what is given instead, checked; take(p, v), if given, is
-- called with each of those. Rules are not among them.
function M.values(fname, entry, given, take)
    if given ~= nil and type(given) ~= "table" then
        check.wanted(fname, "parameters", "a table", given)
    end
    local names, known, values = {}, {}, {}
    for i, p in ipairs(entry.params) do
        names[i], known[p.name], values[p.name] = p.name, p, p.default
    end
    for key, v in pairs(given or {}) do
        local p = known[key]
        if p then
            values[key] = M.check(fname, p, v)
            if take then
                take(p, v)
            end
        elseif not M.rule_keys[key] then
            local text = type(key) == "string" and key or check.describe(key)
            errors.raise("ENOTFOUND", "%s: unknown parameter %q%s", fname, text, check.hint(text, names))
        end
    end
    return values
end

-- The rules of given parameters in the order in which they count: { pattern, factor }.
function M.rules(fname, given)
    local rules = {}
    if given and given.only ~= nil then
        rules[1] = { "*", 0 }
        for _, pattern in ipairs(patterns(fname, "only", given.only)) do
            rules[#rules + 1] = { pattern, 1 }
        end
    end
    if given and given.scale ~= nil then
        check.table(fname, "scale", given.scale)
        for i, rule in ipairs(given.scale) do
            if type(rule) ~= "table" or type(rule[1]) ~= "string" or type(rule[2]) ~= "number" then
                check.wanted(fname, string.format("scale[%.0f]", i), "{ pattern, factor }", rule)
            end
            rules[#rules + 1] = rule
        end
    end
    if given and given.except ~= nil then
        for _, pattern in ipairs(patterns(fname, "except", given.except)) do
            rules[#rules + 1] = { pattern, 0 }
        end
    end
    return rules
end

function M.apply_rules(fname, operator, given)
    for _, rule in ipairs(M.rules(fname, given)) do
        raw.merge_scale(operator.handle, rule[1], rule[2])
    end
    for key in pairs(M.rule_keys) do
        operator.values[key] = given and given[key]
    end
end

return M
