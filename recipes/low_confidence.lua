-- Sources trained with label smoothing are unsure of themselves and merge badly. DisTaC teaches each of them, on
-- unlabelled images, to give its own answers with confidence: a soft student learns from a sharp teacher.
-- What is not said here is the suite's own; distac plan shows it.
local distac = require "distac"

return distac.recipe {
    name  = "low_confidence",
    suite = "mini8",

    finetune  = { loss = distac.loss.cross_entropy { label_smoothing = 0.1 } },
    condition = { kappa = 1, temperature = { teacher = 1, student = 10 } }, -- Algorithm 1
    curves    = true, -- what the student does, every few steps

    merge = { "task_arithmetic", "ties", "consensus_ta", "tsvm" },
}
