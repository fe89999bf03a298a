-- Both troubles at once: every source is unsure of itself (label smoothing), and one of them, trained with
-- ten times the learning rate, is several times longer than the others. DisTaC mends both in one distillation
-- per task. What is not said here is the suite's own; distac plan shows it.
local distac = require "distac"

-- The suite's third task (of two, the second) is the long one.
local function long(tasks) return { [tasks[math.min(3, #tasks)]] = { lr_times = 10 } } end

return distac.recipe {
    name  = "both",
    suite = "mini8",

    finetune  = { loss = distac.loss.cross_entropy { label_smoothing = 0.1 }, tasks = long },
    condition = { kappa = distac.match_norm("mean"), temperature = { teacher = 1, student = 10 } },

    merge = { "task_arithmetic", "ties", "consensus_ta", "tsvm" },
}
