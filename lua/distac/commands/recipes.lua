-- distac run and distac plan.

local commands = {}

local function usage(message) require("distac.cli").usage(message) end

-- A name that is no file: the nearest recipe beside it, or of the shipped ones.
local function missing(name, shipped)
    local fs = require("distac").fs
    local folder, wanted = name:match("^(.*/)([^/]*)$")
    local names, all = {}, {}
    local function take(path, prefix, ending, list)
        for _, file in ipairs(fs.kind(path) == "folder" and fs.list(path) or {}) do
            local stem = file:match("^(.*)%.lua$")
            if stem then list[#list + 1] = prefix .. stem .. ending end
        end
    end
    take(folder or ".", folder or "", ".lua", names)
    if not folder then take(shipped, "", "", all) end
    for _, one in ipairs(all) do names[#names + 1] = one end
    local near = require("distac.nearest")(name, names)
        or not folder and require("distac.nearest")((wanted or name):gsub("%.lua$", ""), all)
    usage("recipe '" .. name .. "' cannot be read: there is no such file" .. (near and "; did you mean '" .. near
        .. "'?" or #all > 0 and "; shipped: " .. table.concat(all, ", ") or ""))
end

local function find_recipe(name)
    local fs, folder = require("distac").fs, require("distac").paths.recipes
    if fs.kind(name) == "file" then return name end
    local shipped = folder .. "/" .. name .. ".lua"
    if not name:find("[/\\]") and not name:find("%.lua$") and fs.kind(shipped) == "file" then return shipped end
    if fs.kind(name) == nil then missing(name, folder) end
    return name
end

-- Errors of the recipe's own functions name its file.
local function in_file(loaded, f, ...)
    local result = { pcall(f, ...) }
    if not result[1] then
        local err = result[2]
        if type(err) == "string" then
            err = err:gsub("recipe:(%d+):", function(line) return loaded.file .. ":" .. line .. ":" end)
        end
        error(err, 0)
    end
    return result[2], result[3]
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
    example = "low_confidence --set condition.beta=0.1 --out runs/beta",
    options = {
        { "restricted", "flag", nil, "the recipe reads its own folder and those of --read, writes --out, and has "
            .. "no other files, processes or modules (Lua 5.4)" },
        { "read", "list", "PATH", "a file or folder that a restricted recipe may read" },
    },
    run = function(o)
        if o.restricted then
            if not o.out then usage "--restricted: wanted --out DIR, all that the recipe may write" end
            local file = find_recipe(o.args[1] or usage "wanted one recipe, got 0")
            local reads = { file:match("^(.*)/[^/]*$") or "." }
            for _, path in ipairs(o.read or {}) do reads[#reads + 1] = path end
            require("distac.restricted").enter { read = reads, write = { o.out } }
        elseif o.read then
            usage "--read: for --restricted only"
        end
        local loaded = load_recipe(o)
        local report = require "distac.report"
        local results, run = in_file(loaded, require("distac.runner").run, loaded,
            { out = o.out, quiet = o.quiet })
        local text = report.table(results) .. "\n\nresults in " .. run.out
            .. ": results.json, report.md, charts, merged models"
        return report.json(results), text
    end,
}

commands.plan = {
    usage = "RECIPE [options]", recipe = true,
    text = "check everything, run nothing: tasks, kappa, losses, memory, disk",
    example = "low_confidence",
    run = function(o)
        local loaded = load_recipe(o)
        local plan = require "distac.plan"
        local made = in_file(loaded, plan.make, loaded, { out = o.out, quiet = true })
        return made, plan.text(made), plan.mismatches(made) and 2 or 0
    end,
}

return commands
