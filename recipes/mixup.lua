-- Mixup is another way to unsure sources: they learn from blends of two images. Conditioned as low confidence is.
local distac = require "distac"

return distac.recipe {
    name  = "mixup",
    suite = "mini8",

    finetune = {
        steps = 350, batch = 64, lr = 2e-4, weight_decay = 0.1, warmup = 35,
        loss  = distac.loss.mixup {},
    },

    condition = {
        kappa = 1, temperature = { teacher = 1, student = 10 },
        beta  = 0.5, steps = 50, batch = 64, lr = 4e-4, warmup = 5,
    },

    merge  = { "task_arithmetic", "ties", "consensus_ta", "tsvm" },
    lambda = distac.grid(0, 1.5, 0.05),
}
