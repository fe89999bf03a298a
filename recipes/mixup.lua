-- Mixup is another way to unsure sources: they learn from blends of two images. Conditioned as low confidence is.
-- What is not said here is the suite's own; distac plan shows it.
local distac = require "distac"

return distac.recipe {
    name  = "mixup",
    suite = "mini8",

    finetune  = { loss = distac.loss.mixup {} },
    condition = { kappa = 1, temperature = { teacher = 1, student = 10 } },

    merge = { "task_arithmetic", "ties", "consensus_ta", "tsvm" },
}
