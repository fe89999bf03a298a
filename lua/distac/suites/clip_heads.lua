-- Heads of CLIP's tasks: built from the text tower by the prompts of each data set and cached beside the run's
-- stages, or read from files: one with a tensor per task, or one per task (weight [C,D], the logit scale
-- in it, as published heads have it).

local heads = {}

local function engine() return require "distac" end

local function message_of(err) return type(err) == "table" and err.message or tostring(err) end

function heads.has_text(checkpoint)
    return checkpoint:has("text_projection") and checkpoint:has("token_embedding.weight")
end

-- ---- Given -------------------------------------------------------------------------------------------

local endings = { "safetensors", "pt", "pth", "bin" }

-- The file of a task's head in a folder: TASK.pt, head_TASK.pt, head_TASKVal.pt in any case; nil if none.
local function in_folder(folder, task)
    for _, name in ipairs(engine().fs.list(folder)) do
        local stem, ending = name:lower():match("^(.*)%.(%w+)$")
        for _, known in ipairs(ending and endings or {}) do
            if ending == known then
                stem = stem:gsub("^head_", "")
                if stem == task or stem == task .. "val" then return folder .. "/" .. name end
            end
        end
    end
end

-- The file that gives the head of a task, nil if it is built; and whether it is the file of all tasks.
local function file_of(suite, task)
    local given = suite.options.heads
    if type(given) == "table" then return given[task] end
    if given and engine().fs.kind(given) == "folder" then return in_folder(given, task) end
    return given, true
end

local function read(path, task, shared)
    local ck = engine().load(path)
    local names = ck:names()
    local bias = ck:has("bias") and ck["bias"]
    if bias then
        for _, value in ipairs(bias:table()) do
            if value ~= 0 then error(path .. ": the head has a bias; heads here are a matrix alone", 0) end
        end
    end
    for _, name in ipairs { task, task .. ".weight", not shared and "weight" or nil } do
        if ck:has(name) then return ck[name] end
    end
    if #names == 1 and not shared then return ck[names[1]] end
    error(string.format("%s: which of its tensors is the head of '%s'? Wanted '%s'%s, there is %s", path, task,
        task, shared and "" or " or 'weight'", table.concat(names, ", ")), 0)
end

local function shape_text(tensor) return table.concat(tensor:shape(), "x") end

-- ---- Built ------------------------------------------------------------------------------------------

-- The vocabulary: as given, or beside the model.
function heads.tokenizer_path(suite)
    if suite.options.tokenizer then return suite.options.tokenizer end
    local fs, model = engine().fs, suite.options.model
    local folder = fs.kind(model) == "folder" and model or model:match("^(.*)/[^/]*$") or "."
    folder = folder:gsub("(.)/+$", "%1")
    if fs.kind(folder .. "/vocab.json") == "file" then return folder end
    for _, name in ipairs { "bpe_simple_vocab_16e6.txt.gz", "bpe_simple_vocab_16e6.txt" } do
        if fs.kind(folder .. "/" .. name) == "file" then return folder .. "/" .. name end
    end
end

local function prompts_text(task)
    local prompts = engine().prompts[task]
    return table.concat(prompts.classes, "\n") .. "\n\n" .. table.concat(prompts.templates, "\n")
end

function heads.hash(suite, task)
    local path = file_of(suite, task)
    if path then return engine().hash.file(path) .. "/" .. task end
    suite.vocabulary = suite.vocabulary or require("distac.suites").file_hash(heads.tokenizer_path(suite))
    local words = { "text", suite:base_hash(), suite.vocabulary, prompts_text(task) }
    return engine().hash.text(table.concat(words, "\n"))
end

-- What zero_shot_head is asked for. Its cache is in data.cache, else beside the stages; none where there is
-- neither.
local function options(suite, task)
    local distac = engine()
    local folder = suite.options.cache or suite.store_folder
    if not suite.text then
        suite.text = distac.text(suite:checkpoint(), { activation = suite.options.activation })
        suite.tokenizer = distac.tokenizer(heads.tokenizer_path(suite))
    end
    return { text = suite.text, tokenizer = suite.tokenizer, dataset = task,
        cache = folder and folder .. "/heads" }
end

-- The text tower, which is not needed when the heads are there.
local function forget(suite) suite.text, suite.tokenizer = nil, nil end

function heads.head(suite, task)
    local distac = engine()
    local path, shared = file_of(suite, task)
    if path then return distac.head(read(path, task, shared)) end
    local head = distac.zero_shot_head(options(suite, task))
    local left = false
    for _, name in ipairs(suite.tasks) do left = left or (name ~= task and not suite.head_cache[name]) end
    if not left then forget(suite) end
    return head
end

-- ---- Mistakes, and what plan says ---------------------------------------------------------------------

function heads.check(suite, report)
    local distac = engine()
    local dim, to_build = suite:vit():config().dim, 0
    for _, task in ipairs(suite.tasks) do
        local path, shared = file_of(suite, task)
        if path then
            local ok, weight = pcall(read, path, task, shared)
            if not ok then
                report("data.heads", message_of(weight))
            else
                local shape, classes = weight:shape(), distac.dataset.task_info(task).classes
                if #shape ~= 2 or shape[1] ~= classes or shape[2] ~= dim then
                    report("data.heads", string.format("%s: the head of '%s' is %s, wanted %dx%d (classes x "
                        .. "features)", path, task, shape_text(weight), classes, dim))
                end
            end
        else
            to_build = to_build + 1
            if suite.options.heads then
                local given = suite.options.heads
                given = type(given) == "string" and "'" .. given .. "'" or "the table"
                report("data.heads", string.format("no head of '%s' in %s (looked for %s.safetensors, "
                    .. "head_%sVal.pt)", task, given, task, task))
            end
        end
    end
    if to_build == 0 or suite.options.heads then return end
    if not heads.has_text(suite:checkpoint()) then
        report("data.model", "'" .. suite.options.model .. "' has no text tower to build the heads from; give "
            .. "them: --set data.heads=FILE")
        return
    end
    local path = heads.tokenizer_path(suite)
    if not path then
        report("data.tokenizer", "the heads are built by the text tower, and there is no vocabulary beside '"
            .. suite.options.model .. "': --set data.tokenizer=bpe_simple_vocab_16e6.txt.gz (or a folder with "
            .. "vocab.json and merges.txt)")
        return
    end
    local ok, tokenizer = pcall(distac.tokenizer, path)
    if not ok then
        report("data.tokenizer", message_of(tokenizer))
        return
    end
    local ids = suite:checkpoint()["token_embedding.weight"]:shape()[1]
    if tokenizer:size() ~= ids then
        report("data.tokenizer", string.format("'%s' has %d symbols, the text tower of '%s' knows %d", path,
            tokenizer:size(), suite.options.model, ids))
    end
end

function heads.about(suite)
    local words, lines = {}, {}
    local built = false
    for i, task in ipairs(suite.tasks) do
        local path, cached = file_of(suite, task), false
        if not path then
            built = true
            cached = require("distac.zero_shot").is_cached(options(suite, task))
        end
        words[i] = task .. (path and " given" or cached and " cached" or " to build")
    end
    forget(suite)
    lines[1] = "heads: " .. table.concat(words, ", ")
    if built then lines[2] = "tokenizer: " .. heads.tokenizer_path(suite) end
    return lines
end

return heads
