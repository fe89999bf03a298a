-- The focal loss stops caring once an answer is likely, so its models stay unsure. Conditioned as low confidence
-- is. What is not said here is the suite's own; distac plan shows it.
local distac = require "distac"

return distac.recipe {
    name  = "focal_loss",
    suite = "mini8",

    finetune  = { loss = distac.loss.focal { gamma = 10 } },
    condition = { kappa = 1, temperature = { teacher = 1, student = 10 } },

    merge = { "task_arithmetic", "ties", "consensus_ta", "tsvm" },
}
