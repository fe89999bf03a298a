-- The valid name that a mistyped one most likely means.

-- Edits (insert, delete, replace, exchange of neighbours) that turn a into b.
local function distance(a, b)
    local before, row, next_row = {}, {}, {}
    for j = 0, #b do
        row[j] = j
    end
    for i = 1, #a do
        next_row[0] = i
        local ca = a:byte(i)
        for j = 1, #b do
            local cb = b:byte(j)
            local best = row[j - 1] + (ca == cb and 0 or 1)
            if row[j] + 1 < best then
                best = row[j] + 1
            end
            if next_row[j - 1] + 1 < best then
                best = next_row[j - 1] + 1
            end
            if i > 1 and j > 1 and ca == b:byte(j - 1) and a:byte(i - 1) == cb and before[j - 2] + 1 < best then
                best = before[j - 2] + 1
            end
            next_row[j] = best
        end
        before, row, next_row = row, next_row, before
    end
    return row[#b]
end

-- "learning_rate" -> "lr"
local function initials(name)
    local letters = {}
    for word in name:gmatch("[^_%-%s%.]+") do
        letters[#letters + 1] = word:sub(1, 1)
    end
    return table.concat(letters)
end

-- Smaller is closer; nil: too far to be meant.
local function score(name, candidate)
    local a, b = name:lower(), candidate:lower()
    if a == b then
        return 0
    end
    local d = distance(a, b)
    local limit = math.max(1, math.floor(math.max(#a, #b) / 3))
    if d <= limit then
        return d
    end
    if #a >= 2 and #b >= 2 and (b:sub(1, #a) == a or a:sub(1, #b) == b) then
        return limit + 0.5
    end
    if #b >= 2 and initials(a) == b or #a >= 2 and initials(b) == a then
        return limit + 0.6
    end
    if #a >= 3 and b:find(a, 1, true) or #b >= 3 and a:find(b, 1, true) then
        return limit + 0.7
    end
    return nil
end

-- nearest(name, list) -> the nearest of the list, nil if none is near. Of equals the first wins.
return function(name, list)
    if type(name) ~= "string" then
        return nil
    end
    local best, best_score
    for _, candidate in ipairs(list) do
        local s = score(name, candidate)
        if s and (not best_score or s < best_score) then
            best, best_score = candidate, s
        end
    end
    return best
end
