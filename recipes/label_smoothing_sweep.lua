-- Calibration against mergeability: the more label smoothing, the less sure the sources and the worse the merge,
-- even where a little of it makes the single models better calibrated.
local distac = require "distac"

return distac.recipe {
    name  = "label_smoothing_sweep",
    suite = "mini8",

    finetune = { steps = 350, batch = 64, lr = 2e-4, weight_decay = 0.1, warmup = 35 },

    merge    = { "task_arithmetic", "ties", "consensus_ta", "tsvm" },
    lambda   = distac.grid(0, 1.5, 0.05),
    variants = {
        { name = "alpha_0" },
        { name = "alpha_0.01", set = { ["finetune.loss.label_smoothing"] = 0.01 } },
        { name = "alpha_0.1",  set = { ["finetune.loss.label_smoothing"] = 0.1 } },
    },
}
