-- distac.suites: where tasks come from. A suite gives a run its tasks, their data and heads and the base model.
--
-- A suite is a table with: name, tasks (list of names), and the functions
--   suite:base() -> Checkpoint          suite:base_hash() -> text
--   suite:model(checkpoint) -> Model    the architecture that the base has
--   suite:head(task) -> Head            suite:head_hash(task) -> text
--   suite:dataset(task, split) -> Dataset or nil; split is "train", "validation" or "test"
--   suite:dataset_hash(task, split) -> text or nil
-- and optionally:
--   suite.defaults         what recipes leave open here: finetune, condition, curves, lambda, lambda_of_many
--   suite.unlabelled       names a task without labels
--   suite.makes_models     suite:model() gives a new model each time, which its caller may change
--   suite.workers          threads that decode training images ahead
--   suite:check(report)    what can be wrong with files and folders, told before any work
--   suite:source(checkpoint) -> Checkpoint, { notes }: a fine-tuned model with the base's tensors only
--   suite:about() -> list of lines, { key = value }: what plan says about data, heads and model
--
-- Making a suite looks at names only; data is read when asked for. A new suite is one file in suites/ and one line
-- here.

local parts = require "distac.parts"
local schema = require "distac.schema"

local suites = {}

local names = { "mini8", "clip8" }

-- What the suite fills in where a recipe says nothing; known without its data.
function suites.defaults(value)
    if type(value) == "string" then return require("distac.suites." .. value).defaults end
    if type(value) == "table" and not parts.is(value) then return value.defaults end
end

-- Options of the data of a suite that it does not have are told by wrong(path, what).
function suites.check_options(suite, data, known, wrong)
    local is = {}
    for _, key in ipairs(known) do is[key] = true end
    for key in pairs(data) do
        if not is[key] then
            wrong("data." .. key, "unknown option of the suite " .. suite .. schema.did_you_mean(key, known))
        end
    end
end

-- A path as given, or relative to the recipe's folder; nil if nothing is there.
function suites.find_path(path, folder)
    local fs = require("distac").fs
    local function exists(p)
        local kind = fs.kind(p)
        return kind ~= nil and kind ~= 0 and kind ~= "none" and kind ~= "nothing"
    end
    if exists(path) then return path end
    if folder and path:sub(1, 1) ~= "/" and exists(folder .. "/" .. path) then return folder .. "/" .. path end
end

-- SHA-256 of a model: of a file, of a sharded one's index with its shards, of a folder's files.
function suites.file_hash(path)
    local distac = require "distac"
    local folder, words = path, {}
    if distac.fs.kind(path) ~= "folder" then
        if not path:find("%.index%.json$") then return distac.hash.file(path) end
        folder = path:match("^(.*)/[^/]*$") or "."
    end
    for _, name in ipairs(distac.fs.list(folder)) do
        local file = folder .. "/" .. name
        local ending = name:match("%.(%w+)$")
        if distac.fs.kind(file) == "file" and (ending == "json" or ending == "safetensors" or ending == "bin"
            or ending == "pt") then
            words[#words + 1] = name .. " " .. distac.hash.file(file)
        end
    end
    return distac.hash.text(table.concat(words, "\n"))
end

-- Checks the value of a recipe's `suite` key: (value) or (nil, what is wrong).
function suites.accept(value, path, report)
    if type(value) == "string" then
        for _, name in ipairs(names) do
            if name == value then return value end
        end
        return nil, "unknown suite '" .. value .. "'" .. schema.did_you_mean(value, names)
            .. " (your own tasks: distac.folder_suite { root = ..., model = ... })"
    end
    if parts.is(value, "suite") then
        return require("distac.suites.folder").accept(value, path, report)
    end
    if type(value) == "table" and type(value.name) == "string" and type(value.tasks) == "table"
        and type(value.dataset) == "function" then
        return value
    end
end

-- The suite of a checked recipe; mistakes in paths are reported, then nil is returned.
function suites.describe(value, data, folder, report)
    if type(value) == "string" then
        return require("distac.suites." .. value).describe(data, folder, report)
    end
    if parts.is(value, "suite") then
        return require("distac.suites.folder").describe(value.params, data, folder, report)
    end
    return value
end

-- The suite itself, for scripts: open("mini8") or open("mini8", { fashion = FOLDER }),
-- open(distac.folder_suite{...}).
function suites.open(value, options)
    local errors, problems = require "distac.error", {}
    local function report(path, what) problems[#problems + 1] = path .. ": " .. what end
    local accepted, what = suites.accept(value, "suite", report)
    local suite
    if accepted then
        suite = suites.describe(accepted, options or {}, nil, report)
    elseif #problems == 0 then
        report("suite", what or "wanted a name or distac.folder_suite { ... }, got " .. type(value))
    end
    if #problems > 0 then errors.raise("EINVAL", "distac.suite: %s", table.concat(problems, "; ")) end
    return suite
end

return suites
