-- The merging methods once more, in double and the plainest way: references[NAME](model, params) for model = a
-- list of { name =, shape =, taus = { {numbers}, ... } } gives a list of {numbers}. Params are complete.
local references = {}

local function per_element(f)
    return function(model, p)
        local out = {}
        for e, entry in ipairs(model) do
            out[e] = {}
            local x = {}
            for i = 1, #entry.taus[1] do
                for t, tau in ipairs(entry.taus) do
                    x[t] = tau[i]
                end
                out[e][i] = f(x, p, e, i)
            end
        end
        return out
    end
end

local function number_of(p, t)
    return type(p) == "table" and p[t] or p
end

references.average = per_element(function(x, p)
    local sum, weights = 0, 0
    for t, v in ipairs(x) do
        sum, weights = sum + number_of(p.weights, t) * v, weights + number_of(p.weights, t)
    end
    return sum / weights
end)

references.task_arithmetic = per_element(function(x, p)
    local sum = 0
    for t, v in ipairs(x) do
        sum = sum + number_of(p.weights, t) * v
    end
    return sum
end)

-- ---- TIES ----

local function sign(v)
    return v > 0 and 1 or v < 0 and -1 or 0
end

-- Magnitudes of model t over all tensors, the largest first, with their places.
local function ranking(model, t, only)
    local all = {}
    for e, entry in ipairs(model) do
        if not only or e == only then
            for i, v in ipairs(entry.taus[t]) do
                all[#all + 1] = { math.abs(v), e, i }
            end
        end
    end
    table.sort(all, function(a, b)
        if a[1] ~= b[1] then
            return a[1] > b[1]
        end
        return a[2] < b[2] or a[2] == b[2] and a[3] < b[3]
    end)
    return all
end

-- kept[t][e][i] = what is left of the element.
local function trim(model, p, count)
    local kept = {}
    for t = 1, count do
        local share = number_of(p.keep, t)
        kept[t] = {}
        for e, entry in ipairs(model) do
            kept[t][e] = {}
            for i in ipairs(entry.taus[t]) do
                kept[t][e][i] = 0
            end
        end
        local function keep(item)
            kept[t][item[2]][item[3]] = model[item[2]].taus[t][item[3]]
        end
        if p.dialect == "mergekit" then
            for e, entry in ipairs(model) do
                local order = ranking(model, t, e)
                for k = 1, math.floor(share * #entry.taus[t]) do
                    keep(order[k])
                end
            end
        else
            local order = ranking(model, t)
            local d = #order
            for _, item in ipairs(order) do
                local smallest = { -1 } -- the magnitude that decides
                if p.dialect == "distac" then
                    local place = math.floor((1 - share) * (d + p.frozen_zeros)) -- from the smallest
                    local index = place - p.frozen_zeros
                    smallest = index >= 1 and order[d + 1 - index] or { place >= 1 and 0 or -1 }
                    if item[1] > smallest[1] then
                        keep(item)
                    end
                else
                    local rank = math.floor(share * d) + (p.dialect == "authors" and 1 or 0)
                    smallest = rank < 1 and { math.huge } or order[rank] or smallest
                    if item[1] >= smallest[1] then
                        keep(item)
                    end
                end
            end
        end
    end
    return kept
end

local function vote(x, elect)
    local sum = 0
    for _, v in ipairs(x) do
        sum = sum + (elect == "count" and sign(v) or v)
    end
    return sum
end

local function weight_of(p, t)
    return p.weights and number_of(p.weights, t) or 1
end

-- x: what is left of one element in each model, times the model's weight.
local function disjoint(x, elected, p)
    local sum, count, largest, combine = 0, 0, 0, p.combine
    for t, v in ipairs(x) do
        if v ~= 0 and (elected == "all" or sign(v) == elected) then
            sum, count = sum + v, count + weight_of(p, t)
            largest = math.abs(v) > math.abs(largest) and v or largest
        end
    end
    return combine == "max" and largest or combine == "sum" and sum or sum / (count ~= 0 and count or 1)
end

-- The same for element i of tensor e, from kept[t][e][i].
local function elect(kept, p, e, i, tie)
    local x = {}
    for t in ipairs(kept) do
        x[t] = weight_of(p, t) * kept[t][e][i]
    end
    if p.elect == "all" then
        return disjoint(x, "all", p)
    end
    local s = sign(vote(x, p.elect))
    return disjoint(x, s == 0 and tie or s, p)
end

function references.ties(model, p)
    local count = #model[1].taus
    local kept, lead, tie = trim(model, p, count), 0, 1
    if p.dialect == "paper" or p.dialect == "authors" then
        for e, entry in ipairs(model) do
            for i in ipairs(entry.taus[1]) do
                local x = {}
                for t = 1, count do
                    x[t] = weight_of(p, t) * kept[t][e][i]
                end
                lead = lead + sign(vote(x, p.elect))
            end
        end
        tie = sign(lead)
        if tie == 0 and p.dialect == "authors" then
            tie = -1
        end
    end
    return per_element(function(_, _, e, i) return elect(kept, p, e, i, tie) end)(model, p)
end

-- ---- TALL masks ----

local function multitask(model, p)
    if p.multitask == "ties" then
        return references.ties(model, { keep = p.keep, dialect = "authors", elect = "sum", combine = "sum" })
    end
    return references.task_arithmetic(model, { weights = 1 })
end

function references.consensus_ta(model, p)
    local direction = multitask(model, p)
    return per_element(function(x, _, e, i)
        local votes, d = 0, direction[e][i]
        for t, v in ipairs(x) do
            votes = votes + (math.abs(v) > number_of(p.tall, t) * math.abs(d - v) and 1 or 0)
        end
        return votes >= p.k and d or 0
    end)(model, p)
end

function references.tall_mask(model, p)
    local direction = multitask(model, p)
    return per_element(function(x, _, e, i)
        local v, d = x[p.task], direction[e][i]
        return math.abs(v) > p.tall * math.abs(d - v) and d or 0
    end)(model, p)
end

-- ---- By depth, by angles ----

function references.lines(model, p)
    local last = -1
    for _, entry in ipairs(model) do
        last = math.max(last, tonumber(entry.name:match "layers%.(%d+)%.") or -1)
    end
    local a = p.a == -1 and 1 / #model[1].taus or p.a
    return per_element(function(x, _, e)
        local block, sum = tonumber(model[e].name:match "layers%.(%d+)%.") or 0, 0
        for _, v in ipairs(x) do
            sum = sum + v
        end
        return sum * (a + p.b * block / last)
    end)(model, p)
end

local function dot(a, b)
    local sum = 0
    for i = 1, #a do
        sum = sum + a[i] * b[i]
    end
    return sum
end

local function cosine(a, b)
    return math.max(-1, math.min(1, dot(a, b) / math.sqrt(dot(a, a) * dot(b, b))))
end

-- Places of the vectors that a tensor falls into: whole tensors, rows (last dimension), columns (first dimension).
local function vectors_of(entry, kind)
    local n, shape = #entry.taus[1], entry.shape
    local width = kind == "row" and shape[#shape] or kind == "column" and shape[1] and n / shape[1] or n
    local list, by_column = {}, kind == "column" and #shape > 1
    if kind == "column" and #shape < 2 then
        width = n
    end
    for i = 0, n - 1 do
        local v = by_column and i % width + 1 or math.floor(i / (width or n)) + 1
        list[v] = list[v] or {}
        table.insert(list[v], i + 1)
    end
    return list
end

local function picked(values, places)
    local out = {}
    for k, i in ipairs(places) do
        out[k] = values[i]
    end
    return out
end

-- A factor for every model and element: find(list of vectors, places) gives those of one vector.
local function by_vectors(model, kind, find)
    local out = {}
    for e, entry in ipairs(model) do
        out[e] = {}
        for _, places in ipairs(vectors_of(entry, kind)) do
            local list = {}
            for t, tau in ipairs(entry.taus) do
                list[t] = picked(tau, places)
            end
            local factors = find(list)
            for _, i in ipairs(places) do
                local sum = 0
                for t, tau in ipairs(entry.taus) do
                    sum = sum + factors[t] * tau[i]
                end
                out[e][i] = sum
            end
        end
    end
    return out
end

local function interpolate(t, nearly)
    return function(model, p)
        local share = t(p)
        return by_vectors(model, p.angle, function(list)
            local c = cosine(list[1], list[2])
            local angle = math.acos(c)
            return nearly(c, angle) and { 1 - share, share }
                or { math.sin((1 - share) * angle) / math.sin(angle), math.sin(share * angle) / math.sin(angle) }
        end)
    end
end

references.slerp = interpolate(function(p) return p.t end, function(c) return math.abs(c) > 0.9995 end)

references.nuslerp = interpolate(function(p)
    local first, second = number_of(p.weights, 1), number_of(p.weights, 2)
    return math.abs(first + second) < 1e-6 and 0.5 or second / (first + second)
end, function(_, angle) return math.abs(math.sin(angle)) < 1e-8 end)

function references.model_stock(model, p)
    return by_vectors(model, p.filter_wise == "yes" and "row" or "tensor", function(list)
        local sum, pairs_, factors = 0, 0, {}
        for s = 1, #list do
            for t = s + 1, #list do
                sum, pairs_ = sum + cosine(list[s], list[t]), pairs_ + 1
            end
        end
        local c, n = sum / pairs_, #list
        for t = 1, n do
            factors[t] = c / (1 + (n - 1) * c)
        end
        return factors
    end)
end

require "spec.merge_references_sparse" (references, { elect = elect, per_element = per_element,
    number_of = number_of, sign = sign })

return references
