-- A suite of the user's own tasks: root/TASK holds class folders of images, or train, validation and test folders
-- with class folders each; a flat folder of images is a task without labels. Heads are given, or made as the
-- class means of the base model's normalised features on the training images.

local schema = require "distac.schema"
local json = require "distac.json"

local folder = {}

local Suite = {}
Suite.__index = Suite

local function engine() return require "distac" end

local path_text = schema.string { want = "a path" }
local per_channel = schema.list(schema.number {}, { at_least = 1 })
local fields = schema.record {
    { "name", schema.string { default = "folders", pattern = "^[%w_][%w_%.%-]*$" } },
    { "root", schema.string { want = "a path", required = true, doc = "one folder per task" } },
    { "model", schema.string { want = "a path", required = true, doc = "safetensors file of the base ViT" } },
    { "heads", schema.one_of({ { "string", path_text }, { "table", schema.map(path_text) } },
        { want = "a file with one tensor per task, or a table of files", doc = "classification heads [C,D]" }) },
    { "scale", schema.number { above = 0, max = 1e4, default = 100, doc = "logit scale of heads made here" } },
    { "tasks", schema.list(schema.string {}, { doc = "which folders, in which order" }) },
    { "validation", schema.number { min = 0, below = 1, default = 0.1, doc = "share, where no folder gives it" } },
    { "test", schema.number { min = 0, below = 1, default = 0.2, doc = "share, where no folder gives it" } },
    { "activation", schema.enum { "gelu", "quick_gelu" } },
    { "attention_heads", schema.integer { min = 1, max = 1024 } },
    { "mean", per_channel }, { "std", per_channel },
}

folder.fields = fields

local split_names = { train = { "train" }, validation = { "validation", "val", "valid" }, test = { "test" } }
local clip_mean = { 0.48145466, 0.4578275, 0.40821073 }
local clip_std = { 0.26862954, 0.26130258, 0.27577711 }

local function is_folder(path)
    local kind = engine().fs.kind(path)
    return kind == 2 or kind == "folder" or kind == "directory"
end

local function subfolders(path)
    local list = {}
    for _, name in ipairs(engine().fs.list(path)) do
        if name:sub(1, 1) ~= "." and is_folder(path .. "/" .. name) then list[#list + 1] = name end
    end
    return list
end

-- Checks the arguments of folder_suite; a single table is wanted.
function folder.accept(value, path, report)
    if value.args.n ~= 1 or type(value.args[1]) ~= "table" then
        return nil, "wanted folder_suite { root = ..., model = ... }"
    end
    local copy = {}
    for key, item in pairs(value) do copy[key] = item end
    copy.params = fields:check(value.args[1], path, report)
    return setmetatable(copy, getmetatable(value)), true
end

-- Which folder holds a split of a task, nil if none is set apart.
function Suite:split_folder(task, split)
    for _, name in ipairs(split_names[split]) do
        local path = self.root .. "/" .. task .. "/" .. name
        if is_folder(path) then return path end
    end
end

-- The base: a checkpoint.
function Suite:base()
    self.base_checkpoint = self.base_checkpoint or engine().load(self.params.model)
    return self.base_checkpoint
end

-- A hash of the base model's file.
function Suite:base_hash()
    self.base_sum = self.base_sum or engine().hash.file(self.params.model)
    return self.base_sum
end

-- A model of the suite's architecture with these weights.
function Suite:model(checkpoint)
    return engine().vit(checkpoint or self:base(),
        { activation = self.params.activation, heads = self.params.attention_heads })
end

-- A data set of a folder, as the suite's options say.
function Suite:open(path)
    self.config = self.config or self:model():config()
    local config = self.config
    local ds = engine().dataset.folder(path, { size = config.image, channels = config.channels })
    local mean, std = self.params.mean, self.params.std
    if not mean then mean = config.channels == 3 and clip_mean or { 0.45 } end
    if not std then std = config.channels == 3 and clip_std or { 0.3 } end
    ds:normalize(mean, std)
    return ds
end

-- Sorts a data set's samples into the three splits: a fixed shuffle inside each class, then shares.
local function divide(ds, shares)
    local by_class, order = {}, {}
    local n = ds:size()
    local labels = ds:labelled() and ds:labels(1, n):table() or nil
    for i = 1, n do
        local label = labels and labels[i] or 0
        if not by_class[label] then
            by_class[label] = {}
            order[#order + 1] = label
        end
        table.insert(by_class[label], i)
    end
    table.sort(order)
    local out = { train = {}, validation = {}, test = {} }
    for _, label in ipairs(order) do
        local list = by_class[label]
        local rng = engine().rng(20250801, label)
        for i = #list, 2, -1 do
            local j = rng:below(i) + 1
            list[i], list[j] = list[j], list[i]
        end
        local n_test = math.floor(#list * shares.test + 0.5)
        local n_validation = math.floor(#list * shares.validation + 0.5)
        for i, sample in ipairs(list) do
            local split = i <= n_test and "test" or i <= n_test + n_validation and "validation" or "train"
            table.insert(out[split], sample)
        end
    end
    for _, list in pairs(out) do table.sort(list) end
    return out
end

-- The splits of a task: { train =, validation =, test = }.
function Suite:load_task(task)
    local loaded = {}
    local train = self:split_folder(task, "train")
    if not train then
        local all = self:open(self.root .. "/" .. task)
        local labelled = all:labelled()
        local shares = labelled and self.params or { test = 0, validation = 0 }
        local lists = divide(all, shares)
        for split, list in pairs(lists) do
            if #list > 0 then loaded[split] = all:subset(list) end
        end
        return loaded
    end
    for _, split in ipairs { "validation", "test" } do
        local path = self:split_folder(task, split)
        if path then loaded[split] = self:open(path) end
    end
    local ds = self:open(train)
    local lists = divide(ds, { validation = loaded.validation and 0 or self.params.validation,
                               test = loaded.test and 0 or self.params.test })
    for split, list in pairs(lists) do
        if not loaded[split] and #list > 0 then loaded[split] = ds:subset(list) end
    end
    return loaded
end

function Suite:dataset(task, split)
    self.cache[task] = self.cache[task] or self:load_task(task)
    return self.cache[task][split]
end

function Suite:dataset_hash(task, split)
    local ds = self:dataset(task, split)
    return ds and ds:hash() or nil
end

-- Class means of normalised features, normalised again, times the logit scale.
local function mean_head(self, task)
    local distac = engine()
    local ds = self:dataset(task, "train")
    if not ds or not ds:labelled() then
        error("task '" .. task .. "' has no labels to make a head from; give folder_suite { heads = ... }", 0)
    end
    local n, classes = ds:size(), ds:classes()
    local features = ds:features(self:model(), { batch = 64 }):table()
    local labels = ds:labels(1, n):table()
    local sums = {}
    for i = 1, n do
        local f, norm = features[i], 0
        for _, v in ipairs(f) do norm = norm + v * v end
        norm = math.sqrt(norm)
        local sum = sums[labels[i] + 1] or {}
        for d, v in ipairs(f) do sum[d] = (sum[d] or 0) + v / math.max(norm, 1e-12) end
        sums[labels[i] + 1] = sum
    end
    local rows = {}
    for c = 1, classes do
        local row, norm = sums[c], 0
        if not row then error("task '" .. task .. "': class " .. c .. " has no training image", 0) end
        for _, v in ipairs(row) do norm = norm + v * v end
        rows[c] = {}
        for d, v in ipairs(row) do rows[c][d] = self.params.scale * v / math.max(math.sqrt(norm), 1e-12) end
    end
    return distac.tensor(rows)
end

local function first_matrix(checkpoint, task)
    if checkpoint:has(task) then return checkpoint[task] end
    if checkpoint:has("weight") then return checkpoint["weight"] end
    local names = checkpoint:names()
    if #names == 1 then return checkpoint[names[1]] end
    error(checkpoint:path() .. " holds no head for task '" .. task .. "' (tensors: "
        .. table.concat(names, ", ") .. ")", 0)
end

function Suite:head(task)
    local heads = self.params.heads
    if not self.head_cache[task] then
        local weight
        if type(heads) == "string" then
            weight = first_matrix(engine().load(heads), task)
        elseif heads and heads[task] then
            weight = first_matrix(engine().load(heads[task]), task)
        else
            weight = mean_head(self, task)
        end
        self.head_cache[task] = engine().head(weight)
    end
    return self.head_cache[task]
end

function Suite:head_hash(task)
    local heads = self.params.heads
    local path = type(heads) == "string" and heads or heads and heads[task]
    if path then return engine().hash.file(path) .. "/" .. task end
    return "class-means/" .. json.number(self.params.scale) .. "/" .. (self:dataset_hash(task, "train") or "none")
end

function folder.describe(params, _, base_folder, report)
    if not params or not params.root or not params.model then return nil end
    local suites = require "distac.suites"
    local bad = false
    local function find(path, where, what)
        local found = suites.find_path(path, base_folder)
        if not found then
            report(where, "there is no " .. what .. " '" .. path .. "'")
            bad = true
        end
        return found
    end
    local copy = {}
    for key, value in pairs(params) do copy[key] = value end
    copy.root = find(params.root, "suite.root", "folder")
    copy.model = find(params.model, "suite.model", "file")
    if type(params.heads) == "string" then
        copy.heads = find(params.heads, "suite.heads", "file")
    elseif params.heads then
        copy.heads = {}
        for task, path in pairs(params.heads) do
            copy.heads[task] = find(path, "suite.heads." .. task, "file")
        end
    end
    if bad then return nil end
    local found = subfolders(copy.root)
    local tasks = params.tasks or found
    for i, task in ipairs(params.tasks or {}) do
        if not is_folder(copy.root .. "/" .. task) then
            report("suite.tasks[" .. i .. "]", "there is no folder '" .. copy.root .. "/" .. task .. "'"
                .. schema.did_you_mean(task, found))
            bad = true
        end
    end
    if #tasks == 0 then
        report("suite.root", "'" .. copy.root .. "' holds no task folder")
        bad = true
    end
    if bad then return nil end
    local self = setmetatable({ name = params.name, makes_models = true, tasks = tasks, root = copy.root,
                                params = copy, cache = {}, head_cache = {} }, Suite)
    for _, task in ipairs(tasks) do
        if not self:split_folder(task, "train") and #subfolders(copy.root .. "/" .. task) == 0 then
            self.unlabelled = self.unlabelled or task
        end
    end
    return self
end

return folder
