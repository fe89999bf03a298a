-- The reference: the suite's tasks fine-tuned conventionally, merged as they are. Steps, batches and rates are the
-- suite's own: distac plan shows them, and every key that is written here or given with --set wins over them.
local distac = require "distac"

return distac.recipe {
    name  = "original",
    suite = "mini8",

    finetune = { loss = distac.loss.cross_entropy {} },
    mtl      = false, -- true: one model trained on all tasks at once, for comparison

    merge = { "task_arithmetic", "ties", "consensus_ta", "tsvm" },
}
