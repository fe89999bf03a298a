-- Calibration against mergeability: the more label smoothing, the less sure the sources and the worse the merge,
-- even where a little of it makes the single models better calibrated. What is not said here is the suite's own.
local distac = require "distac"

return distac.recipe {
    name  = "label_smoothing_sweep",
    suite = "mini8",

    finetune = { loss = distac.loss.cross_entropy {} },

    merge    = { "task_arithmetic", "ties", "consensus_ta", "tsvm" },
    variants = {
        { name = "alpha_0" },
        { name = "alpha_0.01", set = { ["finetune.loss.label_smoothing"] = 0.01 } },
        { name = "alpha_0.1",  set = { ["finetune.loss.label_smoothing"] = 0.1 } },
    },
}
