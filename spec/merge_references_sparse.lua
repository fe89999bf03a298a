-- The merging methods that drop elements, in double and the plainest way: they are added to the table of
-- spec.merge_references.
return function(references, shared)

local elect, per_element, number_of, sign = shared.elect, shared.per_element, shared.number_of, shared.sign

-- What is left of every tensor is brought to its sum of magnitudes.
local function to_norms(model, kept)
    for t in ipairs(kept) do
        for e, entry in ipairs(model) do
            local before, after = 0, 0
            for i, v in ipairs(entry.taus[t]) do
                before, after = before + math.abs(v), after + math.abs(kept[t][e][i])
            end
            for i, v in ipairs(kept[t][e]) do
                kept[t][e][i] = after > 0 and v * before / after or v
            end
        end
    end
    return kept
end

-- ---- Dropping ----

-- The masks are asked for: what becomes of ones tells which elements are dropped, whatever the numbers.
local function masks(model, p)
    local distac = require "distac"
    local count, kept = #model[1].taus, {}
    local function ones(value)
        local tensors = {}
        for _, entry in ipairs(model) do
            tensors[entry.name] = distac.full(entry.shape, value)
        end
        return distac.taskvector(distac.checkpoint(tensors))
    end
    for t = 1, count do
        local taus = {}
        for k = 1, count do
            taus[k] = ones(k == t and 1 or 0)
        end
        local mask = distac.merge.dare { p = p.p, seed = p.seed, rescale = "no" }:delta(taus)
        kept[t] = {}
        for e, entry in ipairs(model) do
            local tensor = mask[entry.name]
            kept[t][e] = tensor:reshape { tensor:numel() }:table()
            for i, v in ipairs(entry.taus[t]) do
                local left = p.rescale == "yes" and number_of(p.p, t) < 1 and 1 - number_of(p.p, t) or 1
                kept[t][e][i] = kept[t][e][i] ~= 0 and v / left or 0
            end
        end
    end
    return p.rescale == "norm" and to_norms(model, kept) or kept
end

function references.dare(model, p)
    local kept = masks(model, p)
    return per_element(function(_, _, e, i)
        return elect(kept, { elect = "all", combine = "sum", weights = p.weights }, e, i)
    end)(model, p)
end

function references.dare_ties(model, p)
    local kept = masks(model, p)
    return per_element(function(_, _, e, i) return elect(kept, p, e, i, 1) end)(model, p)
end

-- ---- Row by row ----

-- Places of a row, the largest magnitude first; of equal ones the first place.
local function row_order(values, first, n)
    local order = {}
    for i = 1, n do
        order[i] = first + i
    end
    table.sort(order, function(a, b)
        local x, y = math.abs(values[a]), math.abs(values[b])
        return x > y or x == y and a < b
    end)
    return order
end

-- kept[t][e][i], where keep(t, e, order, result) says what is left of a row.
local function rows(model, keep, whole)
    local kept = {}
    for t = 1, #model[1].taus do
        kept[t] = {}
        for e, entry in ipairs(model) do
            local values, n = entry.taus[t], whole and #entry.taus[t] or entry.shape[#entry.shape] or 1
            kept[t][e] = {}
            for i = 1, #values do
                kept[t][e][i] = 0
            end
            for first = 0, #values - 1, n do
                keep(t, e, row_order(values, first, n), kept[t][e])
            end
        end
    end
    return kept
end

function references.breadcrumbs(model, p)
    local kept = rows(model, function(t, e, order, result)
        local values, n = model[e].taus[t], #order
        local outliers, stay = math.floor(n * number_of(p.gamma, t)), math.floor(n * number_of(p.beta, t))
        if p.scope == "tensor" then
            outliers = math.min(outliers, n - stay)
        end
        local first, last = outliers + 1, math.min(n, outliers + stay)
        if #model[e].shape == 0 and p.scope == "row" then
            first, last = 1, 1
        end
        for k = first, last do
            result[order[k]] = values[order[k]]
        end
    end, p.scope == "tensor")
    if p.rescale == "norm" then
        to_norms(model, kept)
    end
    return per_element(function(_, _, e, i) return elect(kept, p, e, i, 1) end)(model, p)
end

-- What stays with probability q is what DARE drops at p = q: both ask the same draws. Models as 1, 2, 4.
local draws = {}
local function stays(model, q, seed)
    local distac = require "distac"
    local key = string.format("%.17g %.0f %.0f %s", q, seed, #model, table.concat(model[#model].shape, " "))
    if not draws[key] then
        local taus = {}
        for t = 1, #model[1].taus do
            local tensors = {}
            for _, entry in ipairs(model) do
                tensors[entry.name] = distac.full(entry.shape, 2 ^ (t - 1))
            end
            taus[t] = distac.taskvector(distac.checkpoint(tensors))
        end
        local got, flats = distac.merge.dare { p = q, seed = seed, rescale = "no" }:delta(taus), {}
        for e, entry in ipairs(model) do
            flats[e] = got[entry.name]:reshape { got[entry.name]:numel() }:table()
        end
        draws[key] = flats
    end
    return function(t, e, i) return draws[key][e][i] / 2 ^ (t - 1) % 2 < 1 end
end

function references.della(model, p)
    local kept = rows(model, function(t, e, order, result)
        local n, density = #order, number_of(p.density, t)
        local ascending = {}
        for k, place in ipairs(order) do -- of equal magnitudes the first comes first in this order too
            ascending[k] = place
        end
        table.sort(ascending, function(a, b)
            local x, y = math.abs(model[e].taus[t][a]), math.abs(model[e].taus[t][b])
            return x < y or x == y and a < b
        end)
        for rank, place in ipairs(ascending) do
            local value = model[e].taus[t][place]
            local q = density - p.epsilon + 2 * p.epsilon * (n > 1 and (rank - 1) / (n - 1) or 0.5)
            if density >= 1 then
                result[place] = value
            elseif density > 0 and stays(model, q, p.seed)(t, e, place) then
                result[place] = p.rescale == "yes" and value / q or value
            end
        end
    end)
    if p.rescale == "norm" then
        to_norms(model, kept)
    end
    return per_element(function(_, _, e, i) return elect(kept, p, e, i, 1) end)(model, p)
end

-- ---- Competition ----

local function tanh(x)
    local small = math.exp(-2 * math.abs(x))
    return (x < 0 and -1 or 1) * (1 - small) / (1 + small)
end

function references.pcb(model, p)
    local count, d, bounds = #model[1].taus, 0, {}
    local totals = references.task_arithmetic(model, { weights = 1 })
    for _, entry in ipairs(model) do
        d = d + #entry.taus[1]
    end
    local function at(sorted, place)
        return sorted[math.max(0, math.min(d - 1, math.floor(place))) + 1]
    end
    local function clip(t, v)
        return math.min(math.max(math.abs(v), bounds[t].low), bounds[t].high)
    end
    local function strength(t, e, i)
        local b = bounds[t]
        local v = model[e].taus[t][i]
        local share = (clip(t, v) - b.low) / (b.high > b.low and b.high - b.low or 1)
        return math.exp(count * share ^ 2) * tanh(v * totals[e][i])
    end
    for t = 1, count do
        local magnitudes, all = {}, {}
        for _, entry in ipairs(model) do
            for _, v in ipairs(entry.taus[t]) do
                magnitudes[#magnitudes + 1] = math.abs(v)
            end
        end
        table.sort(magnitudes)
        bounds[t] = { low = at(magnitudes, d * p.clip), high = at(magnitudes, d * (1 - p.clip) - 1) }
        for e, entry in ipairs(model) do
            for i in ipairs(entry.taus[t]) do
                all[#all + 1] = strength(t, e, i)
            end
        end
        table.sort(all)
        bounds[t].least, bounds[t].most = at(all, d * (1 - p.ratio)), all[d]
    end
    return per_element(function(x, _, e, i)
        local sum, weights = 0, 0
        for t, v in ipairs(x) do
            local b = bounds[t]
            local s = math.max(0, strength(t, e, i) - b.least) / (b.most > b.least and b.most - b.least or 1)
            sum, weights = sum + sign(v) * clip(t, v) * s, weights + s
        end
        return sum / math.max(weights, 1e-12)
    end)(model, p)
end

end
