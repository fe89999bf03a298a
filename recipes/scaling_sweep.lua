-- How accurate is base + kappa * tau? Shrinking a task vector is gentle, stretching it is not; nothing is merged.
-- What is not said here is the suite's own.
local distac = require "distac"

return distac.recipe {
    name  = "scaling_sweep",
    suite = "mini8",

    finetune = { loss = distac.loss.cross_entropy {} },

    scaling  = distac.grid(0, 3, 0.25),
    variants = {
        { name = "conventional" },
        { name = "long", set = { ["finetune.lr_times"] = 10 } }, -- ten times the learning rate
    },
}
