-- distac translate: other tools' configurations as merges of this engine.

local common = require "distac.commands.common"
local json = require "distac.json"

local commands = {}

commands.translate = {
    usage = "mergekit.yml [--layers N] [--lua]",
    text = "a mergekit configuration as a merge of this engine, with every difference in meaning named",
    example = "mergekit.yml",
    options = {
        { "layers", "integer", "N", "layers of the models, for gradients over them" },
        { "lua", "flag", nil, "print a Lua script instead of a command" },
    },
    run = function(o)
        local translate = require "distac.translate"
        if #o.args ~= 1 then common.usage("wanted one configuration, got " .. #o.args) end
        local path = common.file(o.args[1], "configuration")
        local found, why, line = translate.mergekit(require("distac").fs.read(path), { layers = o.layers })
        if not found then error(string.format("%s:%d: %s", path, line, why), 0) end
        local result = { command = json.array(translate.command(found)), method = found.method,
            params = found.params,
                         differences = json.array(found.differences), notes = json.array(found.notes) }
        return result, translate.text(found, o.lua)
    end,
}

return commands
