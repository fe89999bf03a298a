-- Image: 8-bit pixels from PNG, JPEG and PNM files, and CLIP's way from an image to a tensor.
local raw = require "distac.raw"
local check = require "distac.check"
local context = require "distac.context"
local tensor = require "distac.tensor"

local M = {}
local methods, meta = {}, {}

local CLIP_MEAN = { 0.48145466, 0.4578275, 0.40821073 }
local CLIP_STD = { 0.26862954, 0.26130258, 0.27577711 }

-- load(path [, { channels = 1 or 3 }]); without channels as the file has them.
function M.load(path, options)
    local fname = "distac.image.load"
    check.string(fname, "path", path)
    local o = check.options(fname, options, { channels = { "integer", min = 0, max = 3, default = 0 } })
    return raw.image_load(context.get(), path, o.channels)
end

-- From a u8 tensor [H,W] or [H,W,C].
function M.from_tensor(pixels)
    return raw.image_from_tensor(check.tensor("distac.image.from_tensor", "pixels", pixels))
end

local function rgb(image)
    if raw.image_channels(image) == 3 then
        return image
    end
    local grey = raw.image_pixels(image)
    local h, w = raw.tensor_size(grey, 0), raw.tensor_size(grey, 1)
    local out = raw.tensor_create(context.get(), raw.U8, { h, w, 3 })
    for c = 0, 2 do
        raw.tensor_copy(raw.tensor_narrow(out, 2, c, 1), grey)
    end
    return raw.image_from_tensor(out)
end

-- CLIP's evaluation transform: shortest side to `size` (bicubic), centre crop, RGB, normalised; [3,size,size].
function M.clip(image, size)
    local fname = "distac.image.clip"
    check.handle(fname, "image", image, "image")
    size = size == nil and 224 or check.integer(fname, "size", size, 1)
    return raw.image_tensor(rgb(raw.image_fit(image, size)), CLIP_MEAN, CLIP_STD)
end

-- Pixels across.
function methods.width(i)
    return raw.image_width(i)
end

-- Pixels down.
function methods.height(i)
    return raw.image_height(i)
end

-- 1: grey, 3: RGB.
function methods.channels(i)
    return raw.image_channels(i)
end

-- The pixels as a u8 tensor [H,W,C].
function methods.pixels(i)
    return raw.image_pixels(i)
end

-- The pixels as a string, row by row, channels interleaved.
function methods.bytes(i)
    local values, parts = tensor.read(raw.image_pixels(i)), {}
    for at = 1, #values, 4096 do
        parts[#parts + 1] = string.char((table.unpack or unpack)(values, at, math.min(at + 4095, #values)))
    end
    return table.concat(parts)
end

-- The same as RGB.
function methods.rgb(i)
    return rgb(i)
end

-- Bicubic, antialiased.
function methods.resize(i, width, height)
    check.integer("Image:resize", "width", width, 1)
    check.integer("Image:resize", "height", height, 1)
    return raw.image_resize(i, width, height)
end

-- Shortest side to `size`, centre crop.
function methods.fit(i, size)
    return raw.image_fit(i, check.integer("Image:fit", "size", size, 1))
end

local function per_channel(fname, arg, v, n, default)
    if v == nil then
        v = default
    end
    if type(v) == "table" then
        for k, x in ipairs(v) do
            check.number(fname, string.format("%s[%.0f]", arg, k), x)
        end
        return v
    end
    check.number(fname, arg, v)
    local list = {}
    for k = 1, n do
        list[k] = v
    end
    return list
end

-- The box of width x height pixels that begins `left` pixels from the left and `top` from the top.
function methods.crop(i, left, top, width, height)
    local fname = "Image:crop"
    return raw.image_crop(i, check.integer(fname, "left", left, 0), check.integer(fname, "top", top, 0),
        check.integer(fname, "width", width, 1), check.integer(fname, "height", height, 1))
end

local function pair(fname, name, v)
    if v == nil then
        return 0, 0
    end
    if type(v) ~= "table" or #v ~= 2 then
        check.wanted(fname, name, "a list of two numbers, least and most", v)
    end
    return check.number(fname, name .. "[1]", v[1]), check.number(fname, name .. "[2]", v[2])
end

-- { scale = { least, most }, ratio = { least, most } } as the engine takes it; what is left out is CLIP's.
function M.crop_desc(fname, scale, ratio)
    local desc = {}
    desc.scale_min, desc.scale_max = pair(fname, "scale", scale)
    desc.ratio_min, desc.ratio_max = pair(fname, "ratio", ratio)
    return desc
end

local CROP = { seed = { "integer", min = 0, default = 0 }, stream = { "integer", min = 0, default = 0 },
    scale = { "table" }, ratio = { "table" } }

-- The box that a random crop of training takes from an image of width x height, the same for the same options:
-- left, top, width, height. Options: scale (share of the area, { 0.9, 1 }), ratio (width / height, { 3/4, 4/3 }),
-- seed and stream (0).
function M.crop_box(width, height, options)
    local fname = "distac.image.crop_box"
    check.integer(fname, "width", width, 1)
    check.integer(fname, "height", height, 1)
    local o = check.options(fname, options, CROP)
    return raw.crop_box(width, height, M.crop_desc(fname, o.scale, o.ratio), o.seed, o.stream)
end

-- That box resized to size x size; options as crop_box.
function methods.random_crop(i, size, options)
    local fname = "Image:random_crop"
    check.integer(fname, "size", size, 1)
    local o = check.options(fname, options, CROP)
    return raw.image_random_crop(i, M.crop_desc(fname, o.scale, o.ratio), o.seed, o.stream, size)
end

-- (u/255 - mean)/std as [C,H,W]; mean and std are numbers or lists, one per channel (0 and 1).
function methods.tensor(i, mean, std)
    local n = raw.image_channels(i)
    return raw.image_tensor(i, per_channel("Image:tensor", "mean", mean, n, 0),
        per_channel("Image:tensor", "std", std, n, 1))
end

-- Writes a PNG file.
function methods.save(i, path)
    raw.image_save(i, check.string("Image:save", "path", path))
end

function meta.__tostring(i)
    return string.format("Image %.0fx%.0f, %s", raw.image_width(i), raw.image_height(i),
        raw.image_channels(i) == 1 and "grey" or "RGB")
end

check.class("image", methods, meta)

return M
