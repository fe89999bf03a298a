-- The lambda search returns exactly what the full grid would.
local search = require "distac.search"

-- A small generator of its own, so that both runtimes see the same cases.
local function generator(seed)
    return function(n)
        seed = (seed * 16807) % 2147483647
        return n and seed % n + 1 or seed / 2147483647
    end
end

local function case(random, plateau)
    local tasks, points, answers = {}, {}, {}
    for t = 1, random(8) do
        tasks[t] = { name = "t" .. t, count = 4 + random(200), reference = 0.5 + random() * 0.5, index = t }
    end
    for i = 1, random(31) do
        points[i] = (i - 1) * 0.05
        answers[i] = {}
        for t, task in ipairs(tasks) do
            answers[i][t] = {}
            for k = 1, task.count do answers[i][t][k] = random() < 0.5 + 0.3 * math.sin(i / 8 + t) end
        end
    end
    if plateau then
        for i = 1, #points do answers[i] = answers[math.max(1, i - i % 3)] end
    end
    return tasks, points, answers
end

local function full(tasks, points, answers)
    local best, best_score
    for i = 1, #points do
        local correct = {}
        for t, task in ipairs(tasks) do
            correct[t] = 0
            for k = 1, task.count do correct[t] = correct[t] + (answers[i][t][k] and 1 or 0) end
        end
        local s = search.score(tasks, correct)
        if not best or s > best_score then best, best_score = i, s end
    end
    return best, best_score
end

describe("lambda search", function()
    it("finds the full grid's smallest best, and looks at fewer images", function()
        local random = generator(7)
        local looked, all = 0, 0
        for trial = 1, 150 do
            local tasks, points, answers = case(random, trial % 5 == 0)
            local at = {}
            for i, point in ipairs(points) do at[point] = i end
            local now
            local found = search.run {
                points = points, tasks = tasks, chunk = 16, load = function(lambda) now = at[lambda] end,
                correct = function(task, samples)
                    local out = {}
                    for k, sample in ipairs(samples) do out[k] = answers[now][task.index][sample] end
                    return out
                end,
            }
            local best, best_score = full(tasks, points, answers)
            assert.equal(best, found.best)
            assert.is_true(best_score == found.score)
            looked = looked + found.images
            for _, task in ipairs(tasks) do all = all + task.count * #points end
        end
        assert.is_true(looked < 0.95 * all)
    end)

    it("asks for no more images at once than there are", function()
        for _, count in ipairs { 1, 10, 63, 64, 300 } do
            search.run {
                points = { 0, 1 }, tasks = { { name = "a", count = count, reference = 1 } }, load = function() end,
                correct = function(_, samples, size)
                    assert.is_true(#samples <= size)
                    assert.is_true(count < 64 and size == count or count >= 64 and size >= 64)
                    local out = {}
                    for i = 1, #samples do out[i] = true end
                    return out
                end,
            }
        end
    end)

    it("takes the smallest lambda where all are equal", function()
        local found = search.run {
            points = { 0, 0.5, 1 }, tasks = { { name = "a", count = 10, reference = 1 } }, load = function() end,
            correct = function(_, samples)
                local out = {}
                for k = 1, #samples do out[k] = true end
                return out
            end,
        }
        assert.equal(1, found.best)
    end)

    it("bears a task whose reference is zero", function()
        local found = search.run {
            points = { 0, 1 }, tasks = { { name = "a", count = 10, reference = 0 } }, load = function() end,
            correct = function() return {} end,
        }
        assert.equal(1, found.best)
        assert.equal(0, found.score)
    end)

    it("is not made for an operator whose lambda was said, even if it is the default", function()
        local distac, settings = require "distac", require "distac.settings"
        local merges = settings.merges({ merge = {
            distac.merge.ties { lambda = 1 }, distac.merge.ties { keep = 0.3 },
            distac.merge.custom(function() end, { lambda = 1 }), distac.merge.custom(function() end),
        } }, {})
        assert.are.equal(1, merges[1].fixed)
        assert.is_nil(merges[2].fixed)
        assert.are.equal(1, merges[3].fixed)
        assert.is_nil(merges[4].fixed)
    end)
end)
