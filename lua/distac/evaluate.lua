-- distac.evaluate: accuracy, entropy and calibration of a model on the tasks of a suite, each result a stage of
-- its own, so that the same model is never measured twice.

local json = require "distac.json"

local evaluate = {}
local Evaluator = {}
Evaluator.__index = Evaluator

local bins = 10

-- options: suite, store, progress, timing.
function evaluate.new(options)
    return setmetatable({ suite = options.suite, store = options.store, progress = options.progress,
                          timing = options.timing, batch = 128 }, Evaluator)
end

-- The one model whose weights are exchanged for every evaluation.
function Evaluator:load(key, make_checkpoint)
    self.vit = self.vit or self.suite:model():clone()
    if self.loaded ~= key or key == nil then
        self.loaded = nil
        self.vit:load(make_checkpoint())
        self.loaded = key
    end
    return self.vit
end

-- Gives the model's memory back; the next evaluation makes it again.
function Evaluator:dispose()
    if self.vit then require("distac").release(self.vit) end
    self.vit, self.loaded = nil, nil
end

function Evaluator:data_key(task, split)
    local data = self.suite:dataset_hash(task, split)
    return data and { data = data, head = self.suite:head_hash(task) }
end

-- Metrics of model `key` on one split of a task, nil if there is no such split. make_checkpoint gives the
-- weights if they are needed.
function Evaluator:measure(key, make_checkpoint, task, split)
    local of = self:data_key(task, split)
    if not of then return nil end
    local desc = { stage = "evaluate", model = key, data = of.data, head = of.head, bins = bins }
    local stage = self.store:key(desc)
    local result = self.store:get(stage)
    if not result then
        local distac = require "distac"
        local begun = distac.clock()
        local ds = self.suite:dataset(task, split)
        local vit = self:load(key, make_checkpoint)
        local logits = ds:logits(vit, self.suite:head(task), { batch = self.batch })
        if ds:labelled() then
            local labels = ds:labels()
            result = distac.metrics(logits, labels)
            result.reliability = json.array(distac.reliability(logits, labels, bins))
        else
            result = distac.metrics(logits)
        end
        result.seconds = distac.clock() - begun
        result = self.store:put(stage, desc, result)
    end
    self.timing.evaluate = self.timing.evaluate + (result.seconds or 0)
    return result
end

-- The same for every task: { task = metrics }.
function Evaluator:measure_all(key_of, checkpoint_of, tasks, split, what)
    local out = {}
    self.progress:start(what, #tasks)
    for i, task in ipairs(tasks) do
        out[task] = self:measure(key_of(task), function() return checkpoint_of(task) end, task, split)
        self.progress:update(i, task)
    end
    self.progress.what = nil
    self.progress:clear()
    return out
end

-- Which of the listed samples are answered correctly, for searches that may stop half-way. Short lists are filled
-- up to `size`: rounding inside matrix products depends on the number of rows, and an answer must not depend on
-- which other samples were asked together.
function Evaluator:correct(vit, task, split, samples, size)
    local ds = self.suite:dataset(task, split)
    local key = task .. "/" .. split
    self.labels = self.labels or {}
    self.labels[key] = self.labels[key] or ds:labels():table()
    local labels, list, out = self.labels[key], {}, {}
    for k, sample in ipairs(samples) do list[k] = sample end
    for k = #list + 1, size do list[k] = 1 end
    local subset = ds:subset(list)
    local logits = subset:logits(vit, self.suite:head(task), { batch = size })
    local guesses = logits:argmax(2):table()
    for _, object in ipairs { logits, subset } do require("distac").release(object) end
    for k, sample in ipairs(samples) do out[k] = guesses[k] == labels[sample] + 1 end
    return out
end

return evaluate
