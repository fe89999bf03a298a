-- What `distac doctor` finds out about fine-tuned models before they are merged, and what to do about it:
-- examine() measures, confidence() asks a model for answers, judge() has the opinions, recipe() writes them down.
local doctor = {}

doctor.examine = require("distac.doctor.examine").examine
doctor.judge = require("distac.doctor.judge").judge

-- How sure a model is of its answers: { accuracy, entropy, ece, temperature, largest (entropy), samples }.
function doctor.confidence(dataset, model, head, samples)
    local distac = require "distac"
    if dataset:size() > samples then -- spread over the whole: class folders lie one after the other
        local list = {}
        for i = 1, samples do list[i] = 1 + math.floor((i - 1) * dataset:size() / samples) end
        dataset = dataset:subset(list)
    end
    local logits = dataset:logits(model, head, { batch = 128 })
    local labels = dataset:labelled() and dataset:labels() or nil
    local m = distac.metrics(logits, labels)
    return {
        accuracy = m.accuracy, entropy = m.entropy, ece = m.ece, samples = dataset:size(),
        largest = math.log(head:classes()), temperature = labels and distac.temperature(logits, labels) or nil,
    }
end

-- ---- The recipe ---------------------------------------------------------------------------------------

local function quote(text) return (string.format("%q", text):gsub("\\\n", "\\n")) end

local function condition_of(report, tasks)
    local lines, any = { "", "    condition = {", "        kappa = 1, beta = 0.5,", "        tasks = {" }, false
    for i, r in ipairs(report.models) do
        local t, task = r.temperature, quote(tasks[i])
        if t then
            lines[#lines + 1] = string.format(
                "            [%s] = { kappa = %.4g, temperature = { teacher = %d, student = %d } },",
                task, r.kappa, t.teacher, t.student)
            any = true
        else
            lines[#lines + 1] = string.format("            [%s] = false,", task)
        end
    end
    lines[#lines + 1] = "        },\n    },"
    return any and lines or {}
end

-- A recipe that does what is suggested. suite: the text of the key's value; tasks: each model's task, by its
-- number.
function doctor.recipe(report, suite, tasks)
    local lines = {
        'local distac = require "distac"', "",
        "return distac.recipe {",
        '    name  = "doctor",',
        "    suite = " .. suite .. ",", "",
        "    sources = {",
    }
    for i, r in ipairs(report.models) do
        lines[#lines + 1] = string.format("        [%s] = %s,", quote(tasks[i]), quote(r.model))
    end
    lines[#lines + 1] = "    },"
    for _, line in ipairs(condition_of(report, tasks)) do lines[#lines + 1] = line end
    lines[#lines + 1] = '\n    merge = { "task_arithmetic", "ties", "consensus_ta", "tsvm" },\n}'
    return table.concat(lines, "\n") .. "\n"
end

return doctor
