-- Dataset and Loader. Samples and classes are counted from 1; labels inside tensors stay class numbers 0 to
-- C-1, as files have them.
local raw = require "distac.raw"
local check = require "distac.check"
local context = require "distac.context"
local errors = require "distac.error"
local losses = require "distac.loss"
local paths = require "distac.paths"
local tensor = require "distac.tensor"
local transform = require "distac.transform"

local M = {}
local methods, meta = {}, {}

-- ---- Making -------------------------------------------------------------------------------------------

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
        errors.raise("EFORMAT", "%s: %s: images are u8 [N,H,W] or [N,C,H,W]; this is %s of %.0f dimensions", fname,
            images,
            pixels:dtype(), #shape)
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
    for i = 1, array:numel() do
        most = math.max(most, array[i])
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

-- tensors(images u8 [N,C,H,W] [, labels [N], classes])
function M.tensors(images, labels, classes)
    local fname = "distac.dataset.tensors"
    check.tensor(fname, "images", images)
    if labels == nil then
        return raw.dataset_create(images, nil, classes or 0)
    end
    return raw.dataset_create(images, losses.labels(fname, labels), check.integer(fname, "classes", classes, 1))
end

-- ---- Using --------------------------------------------------------------------------------------------

-- Number of samples.
function methods.size(ds)
    return raw.dataset_size(ds)
end

-- Number of classes; 0 without labels.
function methods.classes(ds)
    return raw.dataset_classes(ds)
end

-- Name of class i, from 1; nil if it has none.
function methods.class_name(ds, i)
    check.integer("Dataset:class_name", "class", i, 1, raw.dataset_classes(ds))
    return raw.dataset_class_name(ds, i - 1)
end

-- Names of all classes, in the order of the labels.
function methods.class_names(ds)
    local names = {}
    for i = 1, raw.dataset_classes(ds) do
        names[i] = raw.dataset_class_name(ds, i - 1) or string.format("%.0f", i - 1)
    end
    return names
end

-- Has it labels?
function methods.labelled(ds)
    return raw.dataset_labelled(ds) ~= 0
end

-- Shape of an image: { channels, height, width }.
function methods.shape(ds)
    local shape = raw.dataset_image_shape(ds, 3)
    for i = 1, 3 do
        shape[i] = math.floor(shape[i])
    end
    return shape
end

local function numbers(fname, arg, v)
    if type(v) == "number" then
        return { v }
    end
    check.table(fname, arg, v)
    for i, x in ipairs(v) do
        check.number(fname, string.format("%s[%.0f]", arg, i), x)
    end
    return v
end

-- Batches become (u/255 - mean)/std, one number or one per channel. Returns the data set.
function methods.normalize(ds, mean, std)
    local fname = "Dataset:normalize"
    raw.dataset_normalize(ds, numbers(fname, "mean", mean), numbers(fname, "std", std))
    return ds
end

local function to_indices(fname, list, size)
    if raw.type(list) == "tensor" then
        list = tensor.read(list)
    end
    check.table(fname, "samples", list)
    local out = {}
    for i, k in ipairs(list) do
        out[i] = check.integer(fname, string.format("samples[%.0f]", i), k, 1, size) - 1
    end
    return out
end
-- distac.dataset.to_indices(name, list, size): a list or tensor of sample numbers from 1 as the core counts them,
-- from 0; name is the function's for error texts.
M.to_indices = to_indices

-- The listed samples, sharing pixels: ds:subset{ 1, 3 }.
function methods.subset(ds, list)
    return raw.dataset_subset(ds, to_indices("Dataset:subset", list, raw.dataset_size(ds)))
end

-- first (default 1) and how many (default: to the end) as the core counts.
local function range(ds, fname, first, count)
    local size = raw.dataset_size(ds)
    first = first == nil and 1 or check.integer(fname, "first", first, 1, size + 1)
    count = count == nil and size - first + 1 or check.integer(fname, "count", count, 0, size - first + 1)
    return first - 1, count
end

-- Images first, first + 1, ... as f32 [count,C,H,W], normalised.
function methods.images(ds, first, count)
    return raw.dataset_images(ds, range(ds, "Dataset:images", first, count))
end

-- The same images as u8 [count,C,H,W], as they are before normalisation.
function methods.pixels(ds, first, count)
    return raw.dataset_pixels(ds, range(ds, "Dataset:pixels", first, count))
end

-- Labels of images first, first + 1, ... as i64 [count], class numbers from 0.
function methods.labels(ds, first, count)
    return raw.dataset_labels(ds, range(ds, "Dataset:labels", first, count))
end

-- map(fn [, { batch = 256 }]): the data set with its images changed by fn(pixels, n, where), held in memory as
-- bytes; the one it comes from stays as it is. pixels[1] to pixels[n] are the numbers 0 to 255 of one image,
-- channel by channel, row by row, to be changed in place: under LuaJIT a pointer into the images themselves, on
-- Lua 5.4 a table. where has index, label (nil without labels), channels, height and width.
function methods.map(ds, fn, options)
    local fname = "Dataset:map"
    if type(fn) ~= "function" then
        check.wanted(fname, "fn", "a function(pixels, n, where)", fn)
    end
    local o = check.options(fname, options, { batch = { "integer", min = 1, default = 256 } })
    local size, shape = raw.dataset_size(ds), methods.shape(ds)
    local labels = methods.labelled(ds) and tensor.read(raw.dataset_labels(ds, 0, size))
    local out = raw.tensor_create(context.get(), raw.U8, { size, shape[1], shape[2], shape[3] })
    for first = 0, size - 1, o.batch do
        local count = math.min(o.batch, size - first)
        local part = raw.tensor_narrow(out, 0, first, count)
        local pixels = raw.dataset_pixels(ds, first, count)
        raw.tensor_copy(part, pixels)
        raw.release(pixels)
        transform.each(fname, part, fn, function(where, i)
            where.index, where.label = first + i, labels and labels[first + i] or nil
        end)
    end
    return raw.dataset_with_pixels(ds, out)
end

-- SHA-256 over pixels, labels, shape and normalisation.
function methods.hash(ds)
    return check.strings(raw.dataset_hash(ds))[1]
end

-- SHA-256 over names and sizes of the image files, labels and order: known without decoding.
function methods.fingerprint(ds)
    return check.strings(raw.dataset_fingerprint(ds))[1]
end

-- The file of sample i, nil if it has none.
function methods.file(ds, i)
    check.integer("Dataset:file", "sample", i, 1, raw.dataset_size(ds))
    return raw.dataset_file(ds, i - 1)
end

-- Reads every image file, its head and end, or all of it with { decode = true }: a list of what is wrong with the
-- first (most = 10) unreadable ones, and how many there are.
function methods.verify(ds, options)
    local o = check.options("Dataset:verify", options, {
        decode = { "boolean" }, most = { "integer", min = 0, default = 10 },
    })
    local list, unreadable = raw.dataset_verify(ds, o.decode and 1 or 0, o.most)
    return check.strings(list), unreadable
end

-- Packs the decoded images into a file in `folder`, or maps it if it is there:
-- { originals = false, limit = bytes } -> { bytes =, samples =, reused = }.
function methods.cache(ds, folder, options)
    local fname = "Dataset:cache"
    check.string(fname, "folder", folder)
    local o = check.options(fname, options, { originals = { "boolean" }, limit = { "integer", min = 1 } })
    local info = raw.dataset_cache(ds, folder, { originals = o.originals and 1 or 0, limit = o.limit or 0 })
    info.reused = info.reused ~= 0
    return info
end

local RANGE = { first = { "integer" }, count = { "integer" }, batch = { "integer", min = 1, default = 256 } }

-- Logits [count,C] of the samples: ds:logits(model, head [, { first =, count =, batch = }]).
function methods.logits(ds, model, head, options)
    local fname = "Dataset:logits"
    check.handle(fname, "model", model, "vit")
    check.handle(fname, "head", head, "head")
    local o = check.options(fname, options, RANGE)
    local first, count = range(ds, fname, o.first, o.count)
    return raw.dataset_logits(ds, model, head, first, count, o.batch)
end

-- Features [count,D], not normalised.
function methods.features(ds, model, options)
    local fname = "Dataset:features"
    check.handle(fname, "model", model, "vit")
    local o = check.options(fname, options, RANGE)
    local first, count = range(ds, fname, o.first, o.count)
    return raw.dataset_features(ds, model, first, count, o.batch)
end

function meta.__len(ds)
    return raw.dataset_size(ds)
end

function meta.__tostring(ds)
    local s = methods.shape(ds)
    return string.format("Dataset of %.0f images %.0fx%.0fx%.0f, %s", raw.dataset_size(ds), s[1], s[2], s[3],
        methods.labelled(ds) and string.format("%.0f classes", raw.dataset_classes(ds)) or "unlabelled")
end

check.class("dataset", methods, meta)

-- ---- Loader -------------------------------------------------------------------------------------------

local loader_methods, loader_meta = {}, {}
local labelled = setmetatable({}, { __mode = "k" })
local mapped = setmetatable({}, { __mode = "k" }) -- the functions that change batches

-- loader(dataset, { batch = 64, seed = 0, crops = { scale = { 0.9, 1 }, ratio = { 3/4, 4/3 } }, workers = 0,
-- ahead = 2, map = nil }): shuffled batches without end, the same on any number of threads and workers. crops
-- (true: CLIP's): random crops of the original images, as in training. workers: threads that decode `ahead`
-- batches ahead. map: fn(values, n, where) changes each image of a batch, as in Dataset:map, but the f32 numbers
-- after normalisation; where has index, label, step, channels, height and width.
function M.loader(ds, options)
    local fname = "distac.loader"
    check.handle(fname, "dataset", ds, "dataset")
    local o = check.options(fname, options, {
        batch = { "integer", min = 1, default = 64 }, seed = { "integer", min = 0 }, crops = { "any" },
        workers = { "integer", min = 0, max = 256, default = 0 },
        ahead = { "integer", min = 1, max = 256, default = 2 }, map = { "any" },
    })
    if o.map ~= nil and type(o.map) ~= "function" then
        check.wanted(fname, "map", "a function(values, n, where)", o.map)
    end
    local loader = raw.loader_create(ds, o.batch, o.seed or context.seed())
    if o.crops then
        local c = o.crops == true and {} or check.options(fname .. ": crops", o.crops, {
            scale = { "numbers", default = { 0.9, 1 } }, ratio = { "numbers", default = { 3 / 4, 4 / 3 } },
        })
        local scale, ratio = c.scale or {}, c.ratio or {}
        raw.loader_crops(loader, { scale_min = scale[1] or 0, scale_max = scale[2] or scale[1] or 0,
            ratio_min = ratio[1] or 0, ratio_max = ratio[2] or ratio[1] or 0 })
    end
    if o.workers > 0 then
        raw.loader_workers(loader, o.workers, o.ahead)
    end
    labelled[loader] = methods.labelled(ds)
    mapped[loader] = o.map
    return loader
end

-- { images =, labels =, indices = } of batch number `step`, counted from 0 as training steps are.
function loader_methods.batch(loader, step)
    check.integer("Loader:batch", "step", step, 0)
    local indices = raw.loader_indices(loader, step)
    local values = tensor.read(indices)
    for i = 1, #values do
        values[i] = values[i] + 1
    end
    raw.tensor_write(indices, values)
    local batch = {
        images = raw.loader_images(loader, step),
        labels = labelled[loader] and raw.loader_labels(loader, step) or nil,
        indices = indices,
    }
    if mapped[loader] then
        batch.images = batch.images:to "cpu" -- where functions of Lua read and write pixels
        local labels = batch.labels and tensor.read(batch.labels)
        transform.each("Loader:batch", batch.images, mapped[loader], function(where, i)
            where.index, where.label, where.step = values[i], labels and labels[i] or nil, step
        end)
    end
    return batch
end

-- for batch, step in loader:batches(n [, first]) do ... end: n batches from step `first` (default 0).
function loader_methods.batches(loader, n, first)
    local fname = "Loader:batches"
    check.integer(fname, "n", n, 0)
    first = first == nil and 0 or check.integer(fname, "first", first, 0)
    local step = first - 1
    return function()
        step = step + 1
        if step < first + n then
            return loader_methods.batch(loader, step), step
        end
    end
end

check.class("loader", loader_methods, loader_meta)

-- ---- Augmentation of glyphs ---------------------------------------------------------------------------

-- augment(glyphs, samples, { rotate =, shear =, ... , seed =, stream = }) -> u8 [n,1,28,28]
function M.augment(glyphs, samples, options)
    local fname = "distac.dataset.augment"
    check.handle(fname, "glyphs", glyphs, "dataset")
    local rules = { seed = { "integer", min = 0, default = 0 }, stream = { "integer", min = 0, default = 0 } }
    local keys = { "rotate", "scale_min", "scale_max", "shear", "shift", "elastic", "blur", "contrast_min",
        "contrast_max", "texture", "noise", "invert" }
    for _, key in ipairs(keys) do
        rules[key] = { "number", default = (key:match("^scale") or key:match("^contrast")) and 1 or 0 }
    end
    local o = check.options(fname, options, rules)
    local desc = {}
    for _, key in ipairs(keys) do
        desc[key] = o[key]
    end
    return raw.augment_glyphs(glyphs, desc, o.seed, o.stream,
        to_indices(fname, samples, raw.dataset_size(glyphs)))
end

setmetatable(M, {
    __index = function(_, key)
        if type(key) == "string" then
            errors.raise("ENOTFOUND", "distac.dataset: no kind %q%s", key,
                check.hint(key, { "idx", "npy", "folder", "task", "tasks", "task_info", "randperm", "mini8",
                "glyphs",
                    "tensors", "augment" }))
        end
    end,
})

return M
