-- The embedded benchmark: eight small tasks of real images (handwritten digits, clothes, glyphs of many
-- scripts, textures), a pre-trained tiny ViT and one frozen head per task.

local parts = require "distac.parts"

local mini8 = {}

-- What recipes leave open here.
mini8.defaults = {
    finetune = { steps = 350, batch = 64, lr = 2e-4, weight_decay = 0.1, warmup = 35 },
    condition = { steps = 50, batch = 64, lr = 4e-4, beta = 0.5, warmup = 5 },
    curves = 5,
    lambda = parts.grid(0, 1.5, 0.05),
    lambda_of_many = parts.grid(0, 1.5, 0.1), -- eight turns are 96 searches
}

local tasks = { "digits", "svhn", "fashion", "latin", "kana", "arabic", "hebrew", "texture" }
local options = { "fashion", "root" }
-- Raised when the data made from the same files changes.
local data_version = "1"
local fashion_folders = { "/usr/share/datasets/fashion-mnist", "/usr/local/share/datasets/fashion-mnist" }
local fashion_files = { "train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte",
                        "t10k-labels-idx1-ubyte" }

local Suite = {}
Suite.__index = Suite

local function engine() return require "distac" end

function Suite:base()
    self.base_checkpoint = self.base_checkpoint or engine().load(self.root .. "/backbone.safetensors")
    return self.base_checkpoint
end

function Suite:base_hash()
    self.base_sum = self.base_sum or engine().hash.file(self.root .. "/backbone.safetensors")
    return self.base_sum
end

function Suite:model(checkpoint) return engine().vit(checkpoint or self:base()) end

function Suite:head(task)
    self.heads = self.heads or engine().load(self.root .. "/heads.safetensors")
    return engine().head(self.heads[task])
end

function Suite:head_hash(task)
    self.heads_sum = self.heads_sum or engine().hash.file(self.root .. "/heads.safetensors")
    return self.heads_sum .. "/" .. task
end

function Suite:dataset(task, split)
    local key = task .. "/" .. split
    self.cache[key] = self.cache[key] or engine().dataset.mini8(self.root, self.fashion, task, split)
    return self.cache[key]
end

-- The data is a pure function of the files, so their hashes stand for it and nothing is rendered to know it.
function Suite:dataset_hash(task, split)
    if not self.data_sum then
        local fs, words = engine().fs, { data_version }
        for _, name in ipairs(fs.list(self.root .. "/sheets")) do
            words[#words + 1] = name .. " " .. engine().hash.file(self.root .. "/sheets/" .. name)
        end
        for _, name in ipairs(fashion_files) do
            for _, path in ipairs { self.fashion .. "/" .. name .. ".gz", self.fashion .. "/" .. name } do
                if fs.kind(path) == 1 or fs.kind(path) == "file" then
                    words[#words + 1] = name .. " " .. engine().hash.file(path)
                    break
                end
            end
        end
        self.data_sum = engine().hash.text(table.concat(words, "\n"))
    end
    return self.data_sum .. "/" .. task .. "/" .. split
end

function mini8.describe(data, folder, report)
    local suites = require "distac.suites"
    local bad = false
    local function wrong(path, what)
        report(path, what)
        bad = true
    end
    suites.check_options("mini8", data, options, wrong)
    local root = engine().paths.mini8
    if data.root then
        root = suites.find_path(data.root, folder)
        if not root then wrong("data.root", "there is no folder '" .. data.root .. "'") end
    end
    local fashion
    if data.fashion then
        fashion = suites.find_path(data.fashion, folder)
        if not fashion then wrong("data.fashion", "there is no folder '" .. data.fashion .. "'") end
    else
        for _, path in ipairs(fashion_folders) do fashion = fashion or suites.find_path(path) end
        if not fashion then
            wrong("suite", "mini8 needs the four Fashion-MNIST files: install the package dataset-fashion-mnist, "
                .. "or give their folder with --set data.fashion=DIR")
        end
    end
    if bad then return nil end
    return setmetatable({ name = "mini8", makes_models = true, tasks = tasks, root = root, fashion = fashion,
                          cache = {} }, Suite)
end

return mini8
