-- Argument checks. Every message has the form  FUNCTION: ARGUMENT: wanted ..., got ...
local raw = require "distac.raw"
local errors = require "distac.error"
local format = require "distac.format"
local nearest = require "distac.nearest"

local M = {}

-- Names of the object kinds as people say them.
local KIND = {
    tensor = "Tensor", checkpoint = "Checkpoint", vit = "Model", head = "Head", dataset = "Dataset",
    loader = "Loader", image = "Image", plot = "Plot", rng = "Rng", context = "Context",
    optimizer = "Optimizer", merge = "MergeOperator",
    tokenizer = "Tokenizer", text = "TextEncoder",
}

-- What a value is, for an error message.
function M.describe(v)
    local t = type(v)
    if t == "nil" then
        return "nothing"
    elseif t == "number" then
        return "the number " .. format.number(v)
    elseif t == "string" then
        return string.format("the string %q", #v > 40 and v:sub(1, 37) .. "..." or v)
    elseif t == "boolean" then
        return tostring(v)
    elseif t == "table" then
        local mt = getmetatable(v)
        return mt and type(mt) == "table" and mt.__name and "a " .. mt.__name or "a table"
    elseif t == "userdata" or t == "cdata" then
        local kind = raw.type(v)
        if kind == "tensor" then
            return "a " .. format.head(v)
        end
        return "a " .. (KIND[kind] or kind or t)
    end
    return "a " .. t
end

function M.wanted(fname, arg, wanted, got)
    errors.raise("EINVAL", "%s: %s: wanted %s, got %s", fname, arg, wanted, M.describe(got))
end

-- "; did you mean "lr"?" or the list of what there is.
function M.hint(name, list)
    local near = nearest(name, list)
    if near then
        return string.format("; did you mean %q?", near)
    end
    if #list == 0 then
        return ""
    end
    if #list > 30 then
        return string.format("; there are %.0f, the first is %q", #list, list[1])
    end
    return "; there is " .. table.concat(list, ", ")
end

function M.handle(fname, arg, v, kind)
    if raw.type(v) ~= kind then
        M.wanted(fname, arg, (KIND[kind]:find("^[AEIO]") and "an " or "a ") .. KIND[kind], v)
    end
    return v
end

function M.tensor(fname, arg, v)
    return M.handle(fname, arg, v, "tensor")
end

function M.number(fname, arg, v, low, high)
    if type(v) ~= "number" then
        M.wanted(fname, arg, "a number", v)
    end
    if (low and not (v >= low)) or (high and not (v <= high)) then
        local range
        if low and high then
            range = string.format("a number from %s to %s", format.number(low), format.number(high))
        elseif low then
            range = "a number not below " .. format.number(low)
        else
            range = "a number not above " .. format.number(high)
        end
        M.wanted(fname, arg, range, v)
    end
    return v
end

function M.integer(fname, arg, v, low, high)
    if type(v) ~= "number" or v ~= math.floor(v) or v - v ~= 0 then
        M.wanted(fname, arg, "a whole number", v)
    end
    return M.number(fname, arg, v, low, high)
end

function M.string(fname, arg, v)
    if type(v) ~= "string" then
        M.wanted(fname, arg, "a string", v)
    end
    return v
end

function M.table(fname, arg, v)
    if type(v) ~= "table" then
        M.wanted(fname, arg, "a table", v)
    end
    return v
end

-- One of a list of names.
function M.choice(fname, arg, v, list)
    if type(v) ~= "string" then
        M.wanted(fname, arg, "one of " .. table.concat(list, ", "), v)
    end
    for _, name in ipairs(list) do
        if name == v then
            return v
        end
    end
    errors.raise("EINVAL", "%s: %s: unknown value %q%s", fname, arg, v, M.hint(v, list))
end

local function check_value(fname, key, v, rule)
    local kind = rule[1]
    if kind == "number" then
        return M.number(fname, key, v, rule.min, rule.max)
    elseif kind == "integer" then
        return M.integer(fname, key, v, rule.min, rule.max)
    elseif kind == "boolean" then
        if type(v) ~= "boolean" then
            M.wanted(fname, key, "true or false", v)
        end
        return v
    elseif kind == "choice" then
        return M.choice(fname, key, v, rule.list)
    elseif kind == "any" then
        return v
    elseif kind == "numbers" then
        if type(v) ~= "table" then
            M.wanted(fname, key, "a list of numbers", v)
        end
        for i, x in ipairs(v) do
            M.number(fname, string.format("%s[%.0f]", key, i), x)
        end
        return v
    elseif type(v) ~= kind and raw.type(v) ~= kind then
        M.wanted(fname, key, "a " .. (KIND[kind] or kind), v)
    end
    return v
end

-- Checks an options table. rules: { key = { kind, default =, required =, min =, max =, list = } }. Returns a new
-- table with the defaults in place. nil stands for no options.
function M.options(fname, options, rules)
    if options ~= nil and (type(options) ~= "table") then
        M.wanted(fname, "options", "a table", options)
    end
    local out = {}
    for key, v in pairs(options or {}) do
        if not rules[key] then
            local names = {}
            for name in pairs(rules) do
                names[#names + 1] = name
            end
            table.sort(names)
            if type(key) ~= "string" then
                errors.raise("EINVAL", "%s: options go by name, got %s at [%s]; there is %s", fname, M.describe(v),
                    type(key) == "number" and format.number(key) or tostring(key), table.concat(names, ", "))
            end
            errors.raise("EINVAL", "%s: unknown option %q%s", fname, key, M.hint(key, names))
        end
        out[key] = check_value(fname, key, v, rules[key])
    end
    for key, rule in pairs(rules) do
        if out[key] == nil then
            if rule.required then
                errors.raise("EINVAL", "%s: %s is missing", fname, key)
            end
            out[key] = rule.default
        end
    end
    return out
end

-- A metamethod __index over methods that names the nearest method for an unknown one.
function M.unknown_method(kind, methods, key)
    local names = {}
    for name in pairs(methods) do
        names[#names + 1] = name
    end
    table.sort(names)
    errors.raise("EINVAL", "%s: no method %s%s", kind,
        type(key) == "string" and string.format("%q", key) or M.describe(key), M.hint(key, names))
end

-- Items of a list of texts from the core, whatever shape the binding gives it.
function M.strings(v)
    if type(v) == "table" then
        return v
    elseif type(v) == "string" then
        return { v }
    end
    local list = {}
    for i = 1, raw.strings_count(v) do
        list[i] = raw.strings_get(v, i - 1)
    end
    return list
end

-- For those who ask what an object can do: names of kinds, and their tables of methods.
M.kinds, M.methods = KIND, {}

-- Gives a kind of handle its methods; unknown names raise with the nearest one.
function M.class(kind, methods, meta)
    meta = meta or {}
    M.methods[kind] = methods
    local name = KIND[kind] or kind
    if not meta.__index then
        meta.__index = function(_, key)
            local method = methods[key]
            if method == nil then
                M.unknown_method(name, methods, key)
            end
            return method
        end
    end
    raw.set_metatable(kind, methods, meta)
end

return M
