-- One task is trained with ten times the learning rate: its task vector is several times longer than the
-- others and drowns them in the merge. DisTaC shrinks it to the others' mean norm and lets it win back what
-- shrinking cost. Every task takes its turn as the long one; the results are means over the eight turns.
local distac = require "distac"

local turns = {}
for i, task in ipairs { "digits", "svhn", "fashion", "latin", "kana", "arabic", "hebrew", "texture" } do
    turns[i] = { name = task, set = { ["finetune.tasks." .. task .. ".lr"] = 2e-3 } }
end

return distac.recipe {
    name  = "norm_mismatch",
    suite = "mini8",

    finetune = { steps = 350, batch = 64, lr = 2e-4, weight_decay = 0.1, warmup = 35 },

    condition = { -- of the longest task vector alone; the others stay as they are
        kappa = distac.match_norm("mean"), temperature = { teacher = 10, student = 10 },
        beta  = 0.5, steps = 50, batch = 64, lr = 4e-4, warmup = 5,
        also_scaled = true, -- for comparison: shrunk, but not distilled
    },

    merge    = { "task_arithmetic", "ties", "consensus_ta", "tsvm" },
    lambda   = distac.grid(0, 1.5, 0.1), -- 96 searches: a coarser grid
    variants = turns,
}
