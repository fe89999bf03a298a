-- What a Dataset holds: samples, labels, classes, files; and what a model makes of them. Samples and classes are
-- counted from 1; labels inside tensors stay class numbers 0 to C-1, as files have them.
local raw = require "distac.raw"
local check = require "distac.check"
local context = require "distac.context"
local tensor = require "distac.tensor"
local transform = require "distac.transform"

local M = {}
local methods, meta = {}, {}

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

-- A list or tensor of sample numbers from 1 as the core counts them, from 0; fname is the function's for errors.
function M.to_indices(fname, list, size)
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

-- The listed samples, sharing pixels: ds:subset{ 1, 3 }.
function methods.subset(ds, list)
    return raw.dataset_subset(ds, M.to_indices("Dataset:subset", list, raw.dataset_size(ds)))
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

return M
