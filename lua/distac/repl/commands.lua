-- distac.repl.commands: the functions that only the prompt has.

local commands = {}

-- Tells about a function, an object, or a name in quotes; ?NAME is the same. Without an argument: how the prompt
-- works.
function commands.help(thing)
    local text, near = require("distac.repl.help").of(thing)
    if not text then
        error(string.format("help: nothing is known about %q%s", thing,
            near and "; did you mean " .. near .. "?" or ""), 2)
    end
    print(text)
end

-- history "file.lua" writes the statements of this session that worked as a script that runs again to the same
-- result; history() lists them.
function commands.history(path) return require("distac.repl.session").history(path) end

-- The words that the end of a text can become, as the Tab key offers them: a list. The line :complete TEXT prints
-- it.
function commands.complete(text)
    return (require("distac.repl.complete").candidates(text))
end

-- Runs a recipe (a Recipe, or the name of its file) beside the prompt and returns its Job. Options: out (folder of
-- the results). Running it again continues what was cancelled.
function commands.start(recipe, options) return require("distac.repl.jobs").start(recipe, options) end

-- The jobs of this session, in the order of their start.
function commands.jobs() return require("distac.repl.jobs").list() end

-- Prints values as results are printed. A plot or an image is drawn in the terminal and saved as PNG; show(plot,
-- "file.png") says where.
function commands.show(...) return require "distac.show"(...) end

return commands
