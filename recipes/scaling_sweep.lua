-- How accurate is base + kappa * tau? Shrinking a task vector is gentle, stretching it is not; nothing is merged.
local distac = require "distac"

return distac.recipe {
    name  = "scaling_sweep",
    suite = "mini8",

    finetune = { steps = 350, batch = 64, lr = 2e-4, weight_decay = 0.1, warmup = 35 },

    scaling  = distac.grid(0, 3, 0.25),
    variants = {
        { name = "conventional" },
        { name = "long", set = { ["finetune.lr"] = 2e-3 } }, -- ten times the learning rate
    },
}
