-- distac.search: finds lambda on validation data. The answer is exactly that of the full grid: the smallest lambda
-- with the best mean of normalised accuracies. Work is saved only where the answer cannot change: a lambda is
-- dropped as soon as it would lose even if all images not yet seen were answered correctly.

local search = {}

-- A score from counts; the same sum in the same order for final scores and for bounds, so that a bound can
-- never round below the score it bounds.
local function score(tasks, correct)
    local sum = 0
    for i, task in ipairs(tasks) do
        if task.reference > 0 then sum = sum + correct[i] / task.count / task.reference end
    end
    return sum / #tasks
end
search.score = score

-- Looks at a coarse subset first, then at what lies next to the best so far.
local function next_point(n, seen, best)
    local stride = math.max(1, math.floor(math.sqrt(n)))
    for i = 1, n, stride do
        if not seen[i] then return i end
    end
    if not seen[n] then return n end
    for distance = 1, n do
        local below, above = (best or 1) - distance, (best or 1) + distance
        if below >= 1 and not seen[below] then return below end
        if above <= n and not seen[above] then return above end
    end
    if best and not seen[best] then return best end
end

-- tasks: list of { name =, count = images, reference = accuracy of the single-task model }
-- load(lambda): puts the merged weights in place; correct(task, first, count) -> correct answers among these.
-- known: { [index] = list of correct counts } of points already measured. Returns { best = index, score =,
-- correct = counts, scores = { [index] = score or false }, images = how many were looked at }.
function search.run(options)
    local points, tasks, chunk = options.points, options.tasks, options.chunk or 128
    local seen, scores, counts = {}, {}, {}
    local best, best_score, images = nil, nil, 0
    local function settle(i, correct)
        local s = score(tasks, correct)
        scores[i], counts[i] = s, correct
        if best == nil or s > best_score or (s == best_score and i < best) then best, best_score = i, s end
    end
    local function hopeless(i, bound)
        return best ~= nil and (bound < best_score or (bound == best_score and i > best))
    end
    -- Tasks where the nearest measured lambda loses most come first: the bound falls fastest there.
    local function order_at(i)
        local near
        for j in pairs(counts) do
            if not near or math.abs(i - j) < math.abs(i - near)
                or (math.abs(i - j) == math.abs(i - near) and j < near) then near = j end
        end
        local order = {}
        for t, task in ipairs(tasks) do
            local loss = near and task.reference > 0 and (1 - counts[near][t] / task.count) / task.reference or 0
            order[t] = { t, loss }
        end
        table.sort(order, function(a, b)
            if a[2] ~= b[2] then return a[2] > b[2] end
            return a[1] < b[1]
        end)
        return order
    end
    local function measure(i)
        local correct, bound = {}, {}
        for t, task in ipairs(tasks) do correct[t], bound[t] = 0, task.count end
        options.load(points[i])
        for _, entry in ipairs(order_at(i)) do
            local t = entry[1]
            local task, first = tasks[t], 1
            while first <= task.count do
                if hopeless(i, score(tasks, bound)) then
                    scores[i] = false
                    return
                end
                local n = math.min(chunk, task.count - first + 1)
                local right = options.correct(task, first, n)
                correct[t] = correct[t] + right
                bound[t] = bound[t] - (n - right)
                first = first + n
                images = images + n
            end
        end
        settle(i, correct)
    end
    for i, correct in pairs(options.known or {}) do
        seen[i] = true
        settle(i, correct)
    end
    local done = 0
    while true do
        local i = next_point(#points, seen, best)
        if not i then break end
        seen[i] = true
        measure(i)
        done = done + 1
        if options.progress then options.progress(done) end
    end
    return { best = best, score = best_score, correct = counts[best], scores = scores, images = images }
end

return search
