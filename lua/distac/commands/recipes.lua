-- distac run and distac plan.

local commands = {}

local function usage(message) require("distac.cli").usage(message) end

local function find_recipe(name)
    local fs = require("distac").fs
    if fs.kind(name) == "file" then return name end
    local shipped = require("distac").paths.recipes .. "/" .. name .. ".lua"
    if not name:find("[/\\]") and not name:find("%.lua$") and fs.kind(shipped) == "file" then return shipped end
    return name
end

-- The checked recipe of a command; all mistakes at once are raised.
local function load_recipe(o)
    if #o.args ~= 1 then usage("wanted one recipe, got " .. #o.args) end
    local sets = {}
    if o.seed then sets[1] = { path = "seed", text = require("distac.json").number(o.seed), label = "--seed" } end
    for _, word in ipairs(o.set or {}) do
        local path, text = word:match("^([^=]+)=(.*)$")
        if not path then usage("--set: wanted PATH=VALUE, got '" .. word .. "'") end
        sets[#sets + 1] = { path = path, text = text, label = "--set " .. word }
    end
    local loaded, mistakes = require("distac.recipe").load(find_recipe(o.args[1]), sets)
    if not loaded then error(mistakes, 0) end
    if o.out and require("distac").fs.kind(o.out) == "file" then usage("--out: '" .. o.out .. "' is a file") end
    return loaded
end

commands.run = {
    usage = "RECIPE [options]", recipe = true,
    text = "run a recipe; run again to continue one that was interrupted",
    run = function(o)
        local loaded = load_recipe(o)
        local report = require "distac.report"
        local results, run = require("distac.runner").run(loaded, { out = o.out, quiet = o.quiet })
        local text = report.table(results) .. "\n\nresults in " .. run.out
            .. ": results.json, report.md, charts, merged models"
        return report.json(results), text
    end,
}

commands.plan = {
    usage = "RECIPE [options]", recipe = true,
    text = "check everything, run nothing: tasks, kappa, losses, memory, disk",
    run = function(o)
        local loaded = load_recipe(o)
        local plan = require "distac.plan"
        local made = plan.make(loaded, { out = o.out, quiet = true })
        return made, plan.text(made), plan.mismatches(made) and 2 or 0
    end,
}

return commands
