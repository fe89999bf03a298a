-- One task is trained with ten times the learning rate: its task vector is several times longer than the
-- others and drowns them in the merge. DisTaC shrinks it to the others' mean norm and lets it win back what
-- shrinking cost. Every task takes its turn as the long one; the results are means over the turns.
-- What is not said here is the suite's own; distac plan shows it.
local distac = require "distac"

local function turns(tasks)
    local list = {}
    for i, task in ipairs(tasks) do
        list[i] = { name = task, set = { ["finetune.tasks." .. task .. ".lr_times"] = 10 } }
    end
    return list
end

return distac.recipe {
    name  = "norm_mismatch",
    suite = "mini8",

    finetune  = { loss = distac.loss.cross_entropy {} },
    condition = { -- of the longest task vector alone; the others stay as they are
        kappa = distac.match_norm("mean"), temperature = { teacher = 10, student = 10 },
        also_scaled = true, -- for comparison: shrunk, but not distilled
    },

    merge    = { "task_arithmetic", "ties", "consensus_ta", "tsvm" },
    variants = turns,
}
