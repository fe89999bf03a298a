-- distac.variants: the mean over the variants of a recipe: numbers at the same place are averaged, merges of the
-- same method are averaged with the same method's, and the variants themselves are kept beside the means.

local json = require "distac.json"

local variants = {}

-- Mean of numbers and of tables of numbers; where a variant lacks a value, or it is no number, the others decide
-- (numbers) or nothing is given (anything else).
local function mean(values, n)
    local kind
    for i = 1, n do
        local v = values[i]
        if v ~= nil and v ~= json.null then
            local here = type(v)
            if here == "table" and json.is_array(v) then here = "array" end
            if kind and kind ~= here then return nil end
            kind = here
        end
    end
    if kind == "number" then
        local sum, count = 0, 0
        for i = 1, n do
            if type(values[i]) == "number" then sum, count = sum + values[i], count + 1 end
        end
        return sum / count
    elseif kind == "table" then
        local out, keys = {}, {}
        for i = 1, n do
            for key in pairs(type(values[i]) == "table" and values[i] or {}) do keys[key] = true end
        end
        for key in pairs(keys) do
            local items = {}
            for i = 1, n do
                local v = values[i]
                items[i] = type(v) == "table" and v ~= json.null and v[key] or nil
            end
            out[key] = mean(items, n)
        end
        return out
    end
    return nil
end
variants.mean_of = mean

local numeric = { "lambda", "accuracy", "entropy", "ece", "mean_accuracy", "mean_normalized_accuracy",
                  "distilled_accuracy" }

local function mean_merge(entries)
    local out = { method = entries[1].method, params = entries[1].params, conditioned = entries[1].conditioned,
                  scaled = entries[1].scaled }
    for _, name in ipairs(numeric) do
        local values = {}
        for i, entry in ipairs(entries) do values[i] = entry[name] end
        out[name] = mean(values, #entries)
    end
    return out
end

-- parts: results of runner.once with names. tasks: names of the tasks.
function variants.mean(_, parts)
    local n = #parts
    local function of(name)
        local values = {}
        for i = 1, n do values[i] = parts[i][name] end
        return mean(values, n)
    end
    local result = { zero_shot = of "zero_shot", individual = of "individual", conditioned = of "conditioned",
                     mtl = of "mtl", timing = of "timing", merges = json.array {}, variants = json.array {} }
    for name in pairs(result.timing) do result.timing[name] = result.timing[name] * n end
    for i, merge in ipairs(parts[1].merges) do
        local entries = {}
        for k = 1, n do
            local other = parts[k].merges[i]
            if other and other.method == merge.method and other.conditioned == merge.conditioned then
                entries[#entries + 1] = other
            end
        end
        result.merges[i] = mean_merge(entries)
    end
    for i, point in ipairs(parts[1].scaling or {}) do
        local points = {}
        for k = 1, n do points[k] = (parts[k].scaling or {})[i] end
        result.scaling = result.scaling or json.array {}
        result.scaling[i] = mean(points, n)
        result.scaling[i].kappa = point.kappa
    end
    for i = 1, n do result.variants[i] = parts[i] end
    return result
end

return variants
