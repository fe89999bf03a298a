-- Sources trained with label smoothing are unsure of themselves and merge badly. DisTaC teaches each of them, on
-- unlabelled images, to give its own answers with confidence: a soft student learns from a sharp teacher.
local distac = require "distac"

return distac.recipe {
    name  = "low_confidence",
    suite = "mini8",

    finetune = {
        steps = 350, batch = 64, lr = 2e-4, weight_decay = 0.1, warmup = 35,
        loss  = distac.loss.cross_entropy { label_smoothing = 0.1 },
    },

    condition = { -- Algorithm 1
        kappa = 1, temperature = { teacher = 1, student = 10 },
        beta  = 0.5, steps = 50, batch = 64, lr = 4e-4, warmup = 5,
    },
    curves = 5, -- what the student does, every five steps

    merge  = { "task_arithmetic", "ties", "consensus_ta", "tsvm" },
    lambda = distac.grid(0, 1.5, 0.05), -- searched on validation data; test data is read once
}
