-- distac.prompts: class names, in the order of the labels, and template ensembles of the eight data sets on which
-- CLIP's fine-tuned models are compared: distac.prompts.mnist -> { classes = {...}, templates = {...} }. The
-- class's name goes where a template has {}. The templates are those of CLIP's own evaluation.
local raw = require "distac.raw"
local check = require "distac.check"
local errors = require "distac.error"

local NAMES = { "cars", "dtd", "eurosat", "gtsrb", "mnist", "resisc45", "sun397", "svhn" }

-- "a, b c, d" over any number of lines as a list.
local function split(text)
    local list = {}
    for name in text:gmatch "[^,]+" do
        list[#list + 1] = name:gsub("%s+", " "):match "^ ?(.-) ?$"
    end
    return list
end

local prompts = {}

-- The names of the data sets.
function prompts.names()
    local list = {}
    for i, name in ipairs(NAMES) do
        list[i] = name
    end
    return list
end

return setmetatable(prompts, {
    __index = function(_, key)
        for _, name in ipairs(NAMES) do
            if name == key then
                local set = require("distac.prompts." .. name)
                -- The names that the engine gives a data set's classes, or those that its own files have.
                local classes = set.classes and split(set.classes) or check.strings(raw.dataset_task_classes(name))
                local copy = { classes = classes, templates = {} }
                for i, template in ipairs(set.templates) do
                    copy.templates[i] = template
                end
                return copy
            end
        end
        errors.raise("ENOTFOUND", "distac.prompts: no data set %q%s", tostring(key),
            check.hint(tostring(key), NAMES))
    end,
})
