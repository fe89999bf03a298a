-- Loader: shuffled batches of a data set without end.
local raw = require "distac.raw"
local check = require "distac.check"
local context = require "distac.context"
local tensor = require "distac.tensor"
local transform = require "distac.transform"

local M = {}
local methods, meta = {}, {}
local texts = setmetatable({}, { __mode = "k" })
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
    texts[loader] = string.format("Loader of batches of %.0f from %.0f images", o.batch, #ds)
    labelled[loader] = raw.dataset_labelled(ds) ~= 0
    mapped[loader] = o.map
    return loader
end

-- { images =, labels =, indices = } of batch number `step`, counted from 0 as training steps are.
function methods.batch(loader, step)
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
function methods.batches(loader, n, first)
    local fname = "Loader:batches"
    check.integer(fname, "n", n, 0)
    first = first == nil and 0 or check.integer(fname, "first", first, 0)
    local step = first - 1
    return function()
        step = step + 1
        if step < first + n then
            return methods.batch(loader, step), step
        end
    end
end

function meta.__tostring(loader)
    return texts[loader] or "Loader"
end

check.class("loader", methods, meta)

return M
