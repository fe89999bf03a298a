-- Data sets of files of arrays, folders of images, tasks of the suites, tensors. Samples and classes are counted
-- from 1; labels inside tensors stay class numbers 0 to C-1, as files have them.
local raw = require "distac.raw"
local check = require "distac.check"
local context = require "distac.context"
local errors = require "distac.error"
local losses = require "distac.loss"
local paths = require "distac.paths"
local held = require "distac.dataset_samples"
local tensor = require "distac.tensor"

local M = {}

-- idx(images [, labels]): IDX files, plain or gzip.
function M.idx(images, labels)
    local fname = "distac.dataset.idx"
    check.string(fname, "images", images)
    if labels ~= nil then
        check.string(fname, "labels", labels)
    end
    return raw.dataset_idx(context.get(), images, labels)
end

-- npy(images [, labels [, classes]]): arrays of numpy.save: u8 [N,H,W] or [N,C,H,W], integers [N] from 0 on.
-- classes: one more than the largest label, where it is not given.
function M.npy(images, labels, classes)
    local fname = "distac.dataset.npy"
    local pixels = tensor.npy(images, fname)
    local shape = pixels:shape()
    if pixels:dtype() ~= "u8" or (#shape ~= 3 and #shape ~= 4) then
        errors.raise("EFORMAT", "%s: %s: images are u8 [N,H,W] or [N,C,H,W]; this is %s of %.0f dimensions",
            fname, images, pixels:dtype(), #shape)
    end
    if #shape == 3 then
        pixels = pixels:reshape(shape[1], 1, shape[2], shape[3])
    end
    if labels == nil then
        return raw.dataset_create(pixels, nil, 0)
    end
    local array = tensor.npy(labels, fname)
    if array:dtype() == "bool" or array:dtype():find("^[fu]64$") or array:dtype():find("^f")
        or #array:shape() ~= 1 then
        errors.raise("EFORMAT", "%s: %s: labels are integers [N]; this is %s of %.0f dimensions", fname, labels,
            array:dtype(), #array:shape())
    end
    local most = -1
    for _, class in ipairs(tensor.read(array)) do
        most = math.max(most, class)
    end
    return raw.dataset_create(pixels, array:to "i64", check.integer(fname, "classes", classes or most + 1, 1))
end

-- Options of every data set of image files. cache: a folder for packs of decoded images, made on the first run
-- and mapped afterwards; originals: they hold whole images, for training crops, instead of fitted ones;
-- cache_limit: most bytes of a pack.
local CACHE = { cache = { "string" }, originals = { "boolean" }, cache_limit = { "integer", min = 1 } }

local function rules(more)
    for key, rule in pairs(CACHE) do
        more[key] = rule
    end
    return more
end

local function cached(ds, o)
    if o.cache then
        raw.dataset_cache(ds, o.cache, { originals = o.originals and 1 or 0, limit = o.cache_limit or 0 })
    end
    return ds
end

-- folder(path [, { size = 224, channels = 3, lazy = false, cache =, originals =, cache_limit = }]): class folders,
-- or a flat folder of unlabelled images. lazy: nothing is decoded before it is asked for, and nothing is kept.
function M.folder(path, options)
    local fname = "distac.dataset.folder"
    check.string(fname, "path", path)
    local o = check.options(fname, options, rules {
        size = { "integer", min = 1, default = 224 }, channels = { "integer", min = 1, max = 3, default = 3 },
        lazy = { "boolean" },
    })
    local open = (o.lazy or o.cache) and raw.dataset_files or raw.dataset_folder
    return cached(open(context.get(), path, o.size, o.channels), o)
end

local SPLITS = { train = 0, validation = 1, test = 2 }

-- mini8(root, fashion_dir, task, split): a task of the embedded benchmark; root nil: the one that comes along.
function M.mini8(root, fashion, task, split)
    local fname = "distac.dataset.mini8"
    root = root == nil and paths.mini8 or check.string(fname, "root", root)
    check.string(fname, "fashion_dir", fashion)
    check.string(fname, "task", task)
    check.choice(fname, "split", split, { "train", "validation", "test" })
    return raw.dataset_mini8(context.get(), root, fashion, task, SPLITS[split])
end

-- task(root, name, split [, { size = 224, cache =, originals =, cache_limit = }]): one of the eight CLIP tasks
-- from its own files; split "train", "validation" or "test".
function M.task(root, name, split, options)
    local fname = "distac.dataset.task"
    check.string(fname, "root", root)
    check.string(fname, "name", name)
    check.choice(fname, "split", split, { "train", "validation", "test" })
    local o = check.options(fname, options, rules { size = { "integer", min = 1, max = 4096, default = 224 } })
    return cached(raw.dataset_task(context.get(), root, name, SPLITS[split], o.size), o)
end

-- The permutation of 1..n that PyTorch's CPU randperm gives for a seed (default 0): the published validation split
-- is the last tenth, at most 5000, of it.
function M.randperm(n, seed)
    local fname = "distac.dataset.randperm"
    check.integer(fname, "n", n, 0)
    local order = tensor.read(raw.randperm(context.get(), n, seed and check.integer(fname, "seed", seed, 0) or 0))
    for i = 1, #order do
        order[i] = order[i] + 1
    end
    return order
end

-- The names of the tasks that task() reads.
function M.tasks()
    return check.strings(raw.dataset_tasks())
end

-- What a task has as published: { classes =, train =, validation =, test = }.
function M.task_info(name)
    return raw.dataset_task_info(check.string("distac.dataset.task_info", "name", name))
end

-- glyphs(root, sheet): the clean masters of a glyph sheet.
function M.glyphs(root, sheet)
    local fname = "distac.dataset.glyphs"
    root = root == nil and paths.mini8 or check.string(fname, "root", root)
    return raw.dataset_glyphs(context.get(), root, check.string(fname, "sheet", sheet))
end

-- tensors(images [, labels, classes]): of tensors, images u8 [N,C,H,W], labels [N] from 0 to classes - 1.
function M.tensors(images, labels, classes)
    local fname = "distac.dataset.tensors"
    check.tensor(fname, "images", images)
    if labels == nil then
        return raw.dataset_create(images, nil, classes or 0)
    end
    return raw.dataset_create(images, losses.labels(fname, labels), check.integer(fname, "classes", classes, 1))
end

-- augment(glyphs, samples, { rotate =, shear =, ..., seed =, stream = }) -> u8 [n,1,28,28]: the listed masters of
-- glyphs(), each distorted by random amounts up to those given; stream numbers the draws of one seed.
function M.augment(glyphs, samples, options)
    local fname = "distac.dataset.augment"
    check.handle(fname, "glyphs", glyphs, "dataset")
    local wanted = { seed = { "integer", min = 0, default = 0 }, stream = { "integer", min = 0, default = 0 } }
    local keys = { "rotate", "scale_min", "scale_max", "shear", "shift", "elastic", "blur", "contrast_min",
        "contrast_max", "texture", "noise", "invert" }
    for _, key in ipairs(keys) do
        wanted[key] = { "number", default = (key:match("^scale") or key:match("^contrast")) and 1 or 0 }
    end
    local o = check.options(fname, options, wanted)
    local desc = {}
    for _, key in ipairs(keys) do
        desc[key] = o[key]
    end
    return raw.augment_glyphs(glyphs, desc, o.seed, o.stream,
        held.to_indices(fname, samples, raw.dataset_size(glyphs)))
end

return setmetatable(M, {
    __index = function(_, key)
        if type(key) == "string" then
            local kinds = {}
            for kind in pairs(M) do
                kinds[#kinds + 1] = kind
            end
            table.sort(kinds)
            errors.raise("ENOTFOUND", "distac.dataset: no kind %q%s", key, check.hint(key, kinds))
        end
    end,
})
