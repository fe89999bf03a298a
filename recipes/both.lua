-- Both troubles at once: every source is unsure of itself (label smoothing), and one of them, trained with
-- ten times the learning rate, is several times longer than the others. DisTaC mends both in one distillation
-- per task.
local distac = require "distac"

return distac.recipe {
    name  = "both",
    suite = "mini8",

    finetune = {
        steps = 350, batch = 64, lr = 2e-4, weight_decay = 0.1, warmup = 35,
        loss  = distac.loss.cross_entropy { label_smoothing = 0.1 },
        tasks = { fashion = { lr = 2e-3 } },
    },

    condition = {
        kappa = distac.match_norm("mean"), temperature = { teacher = 1, student = 10 },
        beta  = 0.5, steps = 50, batch = 64, lr = 4e-4, warmup = 5,
    },

    merge  = { "task_arithmetic", "ties", "consensus_ta", "tsvm" },
    lambda = distac.grid(0, 1.5, 0.05),
}
