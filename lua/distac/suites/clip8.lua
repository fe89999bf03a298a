-- The paper's suite: CLIP and eight data sets of images in their original formats, in the paper's order. The model
-- is any CLIP checkpoint; heads come from its text tower and the data sets' prompts, or from files.

local clip_heads = require "distac.suites.clip_heads"
local parts = require "distac.parts"
local schema = require "distac.schema"

local clip8 = {}

local tasks = { "cars", "dtd", "eurosat", "gtsrb", "mnist", "resisc45", "sun397", "svhn" }
local splits = { "train", "validation", "test" }
local options = { "root", "model", "tokenizer", "heads", "activation", "attention_heads", "normalize", "cache",
                  "pack", "tasks" }
-- Raised when the readers make other samples of the same files.
local data_version = "1"
local clip_mean = { 0.48145466, 0.4578275, 0.40821073 }
local clip_std = { 0.26862954, 0.26130258, 0.27577711 }

local crops = { scale = { 0.9, 1 }, ratio = { 3 / 4, 4 / 3 } }

-- The paper's Appendix B; conditioning without weight decay, as the authors' code has it.
clip8.defaults = {
    finetune = { steps = 2000, batch = 128, lr = 1e-5, weight_decay = 0.1, warmup = 200, clip = 1, crops = crops },
    condition = { steps = 500, batch = 128, lr = 1e-5, weight_decay = 0, warmup = 200, clip = 1, beta = 0.5,
                  crops = crops },
    curves = 100,
    lambda = parts.grid(0, 1, 0.05),
}

local Suite = {}
Suite.__index = Suite

local function engine() return require "distac" end

local function message_of(err) return type(err) == "table" and err.message or tostring(err) end

-- The run that the suite serves: heads and packed data are kept among its stages.
function Suite:use(run) self.store_folder = run.store.folder end

-- ---- The model ------------------------------------------------------------------------------------------

-- The base model's weights.
function Suite:checkpoint()
    self.file = self.file or engine().load(self.options.model)
    return self.file
end

-- The image tower of the base, opened once. Its parameters are the base.
function Suite:vit()
    self.base_model = self.base_model or engine().vit(self:checkpoint(),
        { activation = self.options.activation, heads = self.options.attention_heads })
    return self.base_model
end

-- The base: a checkpoint of the image tower's tensors.
function Suite:base()
    self.base_checkpoint = self.base_checkpoint or require("distac.raw").vit_checkpoint(self:vit(), 0)
    return self.base_checkpoint
end

-- A hash of the base model's file.
function Suite:base_hash()
    local o = self.options
    self.base_sum = self.base_sum or require("distac.suites").file_hash(o.model)
    return self.base_sum .. (o.activation and "/" .. o.activation or "")
        .. (o.attention_heads and "/" .. o.attention_heads or "")
end

-- A model of the suite's architecture with these weights.
function Suite:model(checkpoint)
    local model = self:vit():clone()
    return checkpoint and model:load(checkpoint) or model
end

-- ---- Sources --------------------------------------------------------------------------------------------

local text_tower = { "^transformer%.", "^token_embedding%.", "^positional_embedding$", "^ln_final%.",
                     "^text_projection", "^logit_scale$", "^logit_bias$", "^input_resolution$", "^context_length$",
                     "^vocab_size$" }

local function of_text(name)
    for _, pattern in ipairs(text_tower) do
        if name:find(pattern) then return true end
    end
    return false
end

-- The image tower of a published fine-tuned model. A vision-only file without the projection keeps the base's: its
-- task vector is zero there. A text tower is left out: the heads are frozen.
function Suite:source(checkpoint)
    local base, tensors, notes, left_out, same = self:base(), {}, {}, 0, true
    for _, name in ipairs(checkpoint:names()) do
        if base:has(name) or not of_text(name) then
            tensors[name] = checkpoint[name]
        else
            left_out, same = left_out + 1, false
        end
    end
    if not checkpoint:has("visual.proj") and base:has("visual.proj") then
        tensors["visual.proj"], same = base["visual.proj"], false
        notes[1] = "visual.proj is not in the file: the base's is kept, the task vector is zero there"
    end
    if left_out > 0 then notes[#notes + 1] = string.format("%d tensors of the text tower left out", left_out) end
    if same then return checkpoint, notes end
    return engine().checkpoint(tensors), notes
end

-- ---- Data -----------------------------------------------------------------------------------------------

-- The samples of a split as they are listed; nothing is decoded.
function Suite:listed(task, split)
    local key = task .. "/" .. split
    if not self.open[key] then
        -- Training images of one task at a time: some are whole in memory.
        if split == "train" then
            for other in pairs(self.open) do
                if other:find("/train$") then self.open[other] = nil end
            end
        end
        local ds = engine().dataset.task(self.options.root, task, split, { size = self:vit():config().image })
        self.open[key] = ds:normalize(clip_mean, clip_std)
    end
    return self.open[key]
end

-- Where decoded images are packed; nil where a run has no folder of its own and none is given.
function Suite:pack_folder()
    local folder = self.options.cache or self.store_folder
    return self.options.pack ~= "none" and folder and folder .. "/packs" or nil
end

-- Are decoded images of this split packed on disk?
function Suite:packed(split) return split ~= "train" or self.options.pack == "all" end

-- The samples for use. Validation and test images are seen by many models: they are decoded once and packed.
-- Training images are packed when data.pack is "all": whole, for the crops, which needs much disk.
function Suite:dataset(task, split)
    local ds, folder = self:listed(task, split), self:pack_folder()
    local key = task .. "/" .. split
    if folder and self:packed(split) and self.has_pack[key] ~= ds then
        self:dataset_hash(task, split)
        engine().fs.make(folder)
        require("distac.raw").dataset_cache(ds, folder, { originals = split == "train" and 1 or 0, limit = 0 })
        self.has_pack[key] = ds
    end
    return ds
end

-- A hash of a task's split, known without decoding.
function Suite:dataset_hash(task, split)
    local key = task .. "/" .. split
    self.prints[key] = self.prints[key] or self:listed(task, split):fingerprint() .. "/" .. data_version
    return self.prints[key]
end

-- ---- Heads ----------------------------------------------------------------------------------------------

-- With data.normalize = "no" features keep their length, as the published code's do once it has read a head back
-- from its file: the same accuracies, other losses, entropies and temperatures.
function Suite:head(task)
    if not self.head_cache[task] then
        local head = clip_heads.head(self, task)
        if self.options.normalize == "no" then head = engine().head(head:weight(), { normalize = false }) end
        self.head_cache[task] = head
    end
    return self.head_cache[task]
end

-- A hash of a task's head.
function Suite:head_hash(task)
    self.head_sums[task] = self.head_sums[task]
        or clip_heads.hash(self, task) .. (self.options.normalize == "no" and "/raw features" or "")
    return self.head_sums[task]
end

-- ---- What can be wrong, and what plan says ------------------------------------------------------------

-- Reports what is missing before a run: report(level, text).
function Suite:check(report)
    local ok, err = pcall(self.vit, self)
    if not ok then
        local what = message_of(err):gsub("^distac_[%l_]+: ", ""):gsub("^open: ", "")
        if not what:find(self.options.model, 1, true) then what = self.options.model .. ": " .. what end
        report("data.model", what .. (what:find("activation", 1, true)
            and " (--set data.activation=quick_gelu or gelu)"
            or what:find("heads is", 1, true) and " (--set data.attention_heads=N)" or ""))
        return
    end
    local config = self:vit():config()
    if config.channels ~= 3 then
        report("data.model", string.format("'%s' takes images of %d channels, clip8 has 3", self.options.model,
            config.channels))
    end
    self.counts = {}
    for _, task in ipairs(self.tasks) do
        local counts = {}
        for _, split in ipairs(splits) do
            local good, ds = pcall(self.listed, self, task, split)
            if not good then
                local near = require("distac.roots").near(self.options.root)
                report("data.root", message_of(ds):gsub("^distac_[%l_]+: ", "")
                    .. (near and "; the data sets are in '" .. near .. "'" or " (distac data check " .. self.options.root .. ")"))
                break
            end
            counts[split], counts.classes = ds:size(), ds:classes()
            if ds:size() == 0 then
                report("data.root", string.format("%s: no image of the split %s under '%s'", task, split,
                    self.options.root))
            end
        end
        self.counts[task] = counts
    end
    clip_heads.check(self, report)
end

-- What the suite is made of, for results and reports.
function Suite:about()
    local distac, lines, data, bytes = engine(), {}, { tasks = {} }, 0
    local function line(...) lines[#lines + 1] = string.format(...) end
    local config, ck = self:vit():config(), self:checkpoint()
    local known, layout = pcall(function()
        return distac.load(self.options.model, { layout = "file" }):layout()
    end)
    layout = known and layout or nil
    line("base: %s%s, ViT %dx%d, patch %d, width %d, %d layers, %s%s", self.options.model,
        layout and " (" .. layout .. ")" or "", config.image, config.image, config.patch, config.width,
        config.layers, config.activation, clip_heads.has_text(ck) and ", with a text tower"
        or ", without a text tower")
    for _, text in ipairs(clip_heads.about(self)) do lines[#lines + 1] = text end
    if self.options.normalize == "no" then
        line("heads: features are not normalised (the published code's way)")
    end
    line("data: %s", self.options.root)
    line("  %-10s %8s %8s %10s %8s", "", "classes", "train", "validation", "test")
    for _, task in ipairs(self.tasks) do
        local found, wanted, notes = self.counts[task] or {}, distac.dataset.task_info(task), {}
        for _, split in ipairs(splits) do
            if found[split] ~= wanted[split] then
                notes[#notes + 1] = string.format("%s %d", split, wanted[split])
            end
        end
        line("  %-10s %8d %8d %10d %8d%s", task, found.classes, found.train, found.validation, found.test,
            #notes > 0 and "  (published: " .. table.concat(notes, ", ") .. ")" or "")
        data.tasks[task] = found
        -- Fitted images of evaluation; MNIST and SVHN stay in memory. Whole training images are not known before.
        if self:pack_folder() and task ~= "mnist" and task ~= "svhn" then
            bytes = bytes + (found.validation + found.test) * 3 * config.image * config.image
        end
    end
    data.cache_bytes = bytes
    if bytes > 0 then
        line("packs: %s, about %s%s", self:pack_folder(), require("distac.plan").bytes_text(bytes),
            self.options.pack == "all" and " and the training images as decoded" or "")
    end
    return lines, data
end

-- ---- Making ---------------------------------------------------------------------------------------------

local function chosen_tasks(value, wrong)
    if value == nil then return tasks end
    local list, wanted, out = {}, {}, {}
    if type(value) == "string" then
        for name in value:gmatch("[^,%s]+") do list[#list + 1] = name end
    else
        for _, name in ipairs(value) do list[#list + 1] = name end
    end
    for _, name in ipairs(list) do
        local known = false
        for _, task in ipairs(tasks) do known = known or task == name end
        if not known then
            wrong("data.tasks", "clip8 has no task '" .. name .. "'" .. schema.did_you_mean(name, tasks))
        end
        wanted[name] = true
    end
    for _, task in ipairs(tasks) do
        if wanted[task] then out[#out + 1] = task end
    end
    if #list == 0 then wrong("data.tasks", "no task is named; one or more of: " .. table.concat(tasks, ", ")) end
    return out
end

function clip8.describe(data, folder, report)
    local suites, fs = require "distac.suites", engine().fs
    local bad, o = false, {}
    local function wrong(path, what)
        report(path, what)
        bad = true
    end
    suites.check_options("clip8", data, options, wrong)
    local function find(key, what, remedy)
        if data[key] == nil then
            if remedy then wrong("data." .. key, remedy) end
            return
        end
        if type(data[key]) ~= "string" then
            wrong("data." .. key, "wanted a path, got " .. schema.show(data[key]))
            return
        end
        o[key] = suites.find_path(data[key], folder)
        if not o[key] then wrong("data." .. key, "there is no " .. what .. " '" .. data[key] .. "'") end
    end
    find("root", "folder", "clip8 needs the folder that holds the data sets: --set data.root=DIR "
        .. "(distac data check DIR says what is there)")
    if o.root and fs.kind(o.root) ~= "folder" then wrong("data.root", "'" .. o.root .. "' is not a folder") end
    find("model", "file or folder", "clip8 needs a CLIP checkpoint as the base: --set data.model=PATH "
        .. "(open_clip or Hugging Face, safetensors or PyTorch)")
    find("tokenizer", "file or folder")
    if type(data.heads) == "table" then
        o.heads = {}
        for task, path in pairs(data.heads) do
            o.heads[task] = suites.find_path(path, folder)
            if not o.heads[task] then
                wrong("data.heads." .. tostring(task), "there is no file '" .. path .. "'")
            end
        end
    else
        find("heads", "file or folder")
    end
    if data.activation ~= nil and data.activation ~= "gelu" and data.activation ~= "quick_gelu" then
        wrong("data.activation", "wanted gelu or quick_gelu, got " .. schema.show(data.activation))
    end
    if data.normalize ~= nil and data.normalize ~= "yes" and data.normalize ~= "no" then
        wrong("data.normalize", "wanted yes or no, got " .. schema.show(data.normalize))
    end
    o.activation, o.cache, o.normalize = data.activation, data.cache, data.normalize
    o.pack = data.pack or "evaluation"
    if o.pack ~= "none" and o.pack ~= "evaluation" and o.pack ~= "all" then
        wrong("data.pack", "wanted which images are packed: none, evaluation or all, got " .. schema.show(o.pack))
    end
    if data.attention_heads ~= nil then
        o.attention_heads = tonumber(data.attention_heads)
        if not o.attention_heads or o.attention_heads < 1 or o.attention_heads % 1 ~= 0 then
            wrong("data.attention_heads", "wanted a whole number of at least 1, got "
                .. schema.show(data.attention_heads))
        end
    end
    local chosen = chosen_tasks(data.tasks, wrong)
    if bad then return nil end
    -- On the CPU a step takes many times as long as its batch takes to decode: one thread ahead is enough.
    local info = engine().context_info()
    local workers = info.device == "cpu" and 1 or math.min(info.threads, 8)
    return setmetatable({ name = "clip8", tasks = chosen, options = o, makes_models = true, workers = workers,
                          open = {}, prints = {}, has_pack = {}, head_cache = {}, head_sums = {} }, Suite)
end

return clip8
