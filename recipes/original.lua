-- The reference: eight tasks fine-tuned conventionally, merged as they are.
local distac = require "distac"

return distac.recipe {
    name  = "original",
    suite = "mini8",

    finetune = { steps = 350, batch = 64, lr = 2e-4, weight_decay = 0.1, warmup = 35 },

    merge  = { "task_arithmetic", "ties", "consensus_ta", "tsvm" },
    lambda = distac.grid(0, 1.5, 0.05), -- searched on validation data; test data is read once
}
