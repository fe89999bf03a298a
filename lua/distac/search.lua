-- distac.search: finds lambda on validation data. The answer is exactly that of the full grid: the smallest lambda
-- with the best mean of normalised accuracies. Work is saved only where the answer cannot change: a lambda is
-- dropped as soon as it would lose even if all images not yet seen were answered correctly. Images that other
-- lambdas got wrong are looked at first, which brings that moment forward.

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

-- Looks at a coarse subset first (true), then at what lies next to the best so far.
local function next_point(n, seen, best)
    local stride = math.max(1, math.floor(math.sqrt(n)))
    for i = 1, n, stride do
        if not seen[i] then return i, true end
    end
    if not seen[n] then return n, true end
    for distance = 1, n do
        local below, above = best - distance, best + distance
        if below >= 1 and not seen[below] then return below end
        if above <= n and not seen[above] then return above end
    end
end

-- How many images of a task are answered at once: nearly the same work for each, little left over at the end.
local function chunk_size(task, options)
    if options.chunk then return options.chunk end
    if task.count < 64 then return math.max(1, task.count) end
    local best, waste
    for _, size in ipairs { 64, 80, 96, 112, 128 } do
        local left = math.ceil(task.count / size) * size - task.count
        if not best or left < waste then best, waste = size, left end
    end
    return best
end

-- Chunks of all tasks, those with the most expected mistakes first. wrong[t][i] and looks[t][i] count how often
-- image i of task t was answered wrongly and at all.
local function plan_chunks(tasks, options, wrong, looks)
    local chunks = {}
    for t, task in ipairs(tasks) do
        local rate, order = {}, {}
        for i = 1, task.count do
            rate[i] = looks[t][i] > 0 and wrong[t][i] / looks[t][i] or 0.5
            order[i] = i
        end
        table.sort(order, function(a, b)
            if rate[a] ~= rate[b] then return rate[a] > rate[b] end
            return a < b
        end)
        local size = chunk_size(task, options)
        for first = 1, task.count, size do
            local chunk = { task = t, size = size, expected = 0, rank = #chunks }
            for k = first, math.min(first + size - 1, task.count) do
                chunk[#chunk + 1] = order[k]
                chunk.expected = chunk.expected + rate[order[k]]
            end
            local weight = task.reference > 0 and 1 / task.count / task.reference or 0
            chunk.expected = chunk.expected / #chunk * weight
            chunks[#chunks + 1] = chunk
        end
    end
    table.sort(chunks, function(a, b)
        if a.expected ~= b.expected then return a.expected > b.expected end
        return a.rank < b.rank
    end)
    return chunks
end

-- points: the grid, ascending. tasks: { name =, count = images, reference = accuracy of the single-task model }.
-- load(lambda): puts the merged weights in place. correct(task, samples, size) -> list of true and false for these
-- samples (size: of a full chunk). Returns { best = index, score =, correct = counts, scores = { [index] = score,
-- false where dropped }, images = how many were looked at }.
function search.run(options)
    local points, tasks = options.points, options.tasks
    local seen, scores, counts, wrong, looks = {}, {}, {}, {}, {}
    local best, best_score, images = nil, nil, 0
    for t, task in ipairs(tasks) do
        wrong[t], looks[t] = {}, {}
        for i = 1, task.count do wrong[t][i], looks[t][i] = 0, 0 end
    end
    local function hopeless(i, bound)
        return best ~= nil and (bound < best_score or (bound == best_score and i > best))
    end
    -- Points of the coarse subset are seen to their end, so that the curve over lambda has its shape.
    local function measure(i, to_the_end)
        local bound = {}
        for t, task in ipairs(tasks) do bound[t] = task.count end
        options.load(points[i])
        for _, chunk in ipairs(plan_chunks(tasks, options, wrong, looks)) do
            if not to_the_end and hopeless(i, score(tasks, bound)) then
                scores[i] = false
                return
            end
            local t = chunk.task
            local answers = options.correct(tasks[t], chunk, chunk.size)
            for k, sample in ipairs(chunk) do
                looks[t][sample] = looks[t][sample] + 1
                if not answers[k] then
                    wrong[t][sample] = wrong[t][sample] + 1
                    bound[t] = bound[t] - 1
                end
            end
            images = images + #chunk
        end
        -- Nothing is left unseen: the bound is the score.
        local s = score(tasks, bound)
        scores[i], counts[i] = s, bound
        if best == nil or s > best_score or (s == best_score and i < best) then best, best_score = i, s end
    end
    for done = 1, #points do
        local i, coarse = next_point(#points, seen, best)
        seen[i] = true
        measure(i, coarse)
        if options.progress then options.progress(done) end
    end
    return { best = best, score = best_score, correct = counts[best], scores = scores, images = images }
end

return search
