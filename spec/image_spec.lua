-- Images against Pillow, bit for bit: spec/golden/make_images.py drew the files and wrote down what Pillow makes
-- of them.
local distac = require "distac"
local helper = require "spec.helper"

local FOLDER = "spec/golden/images/"
local raises = helper.raises

local function golden(kind)
    local list = {}
    for line in io.lines(FOLDER .. "images.tsv") do
        local fields = {}
        for field in line:gmatch("[^\t]+") do
            fields[#fields + 1] = #field < 64 and tonumber(field) or field -- hashes have 64 digits
        end
        if fields[1] == kind then
            list[#list + 1] = fields
        end
    end
    assert(#list > 0)
    return list
end

local cache = {}
local function open(name)
    cache[name] = cache[name] or distac.image.load(FOLDER .. name, { channels = 3 })
    return cache[name]
end

local function same(image, sha, what)
    assert.equal(sha, distac.hash.text(image:bytes()), what)
end

describe("images", function()
    it("are decoded with Pillow's bits", function()
        local names = {}
        for _, g in ipairs(golden "load") do
            local image = distac.image.load(FOLDER .. g[2], { channels = g[3] })
            assert.same({ g[4], g[5], g[3] }, { image:width(), image:height(), image:channels() })
            same(image, g[6], g[2])
            names[g[2]] = true
        end
        local n = 0
        for _ in pairs(names) do
            n = n + 1
        end
        assert.is_true(n >= 30)
    end)

    it("are fitted with Pillow's bits", function()
        for _, g in ipairs(golden "fit") do
            same(open(g[2]):fit(g[3]), g[4], g[2] .. " to " .. g[3])
        end
    end)

    it("are resized with Pillow's bits", function()
        for _, g in ipairs(golden "resize") do
            same(open(g[2]):resize(g[3], g[4]), g[5], g[2])
        end
    end)

    it("are cropped for training as torchvision does", function()
        for _, g in ipairs(golden "crop") do
            local image, options = open(g[2]), { seed = g[3], stream = g[4] }
            assert.same({ g[6], g[7], g[8], g[9] },
                { distac.image.crop_box(image:width(), image:height(), options) }, g[2])
            local crop = image:random_crop(g[5], options)
            same(crop, g[10], g[2])
            same(image:crop(g[6], g[7], g[8], g[9]):resize(g[5], g[5]), g[10], g[2])
        end
        local fallbacks = 0
        for _, g in ipairs(golden "box") do
            local options = { seed = g[4], stream = g[5], scale = { g[6], g[7] }, ratio = { g[8], g[9] } }
            assert.same({ g[10], g[11], g[12], g[13] }, { distac.image.crop_box(g[2], g[3], options) })
            if g[2] == 600 and g[6] == 0.9 then -- a 3:2 photo always falls back to the centred 4:3 box
                assert.same({ 33, 0, 533, 400 }, { g[10], g[11], g[12], g[13] })
                fallbacks = fallbacks + 1
            end
        end
        assert.equal(6, fallbacks)
    end)

    it("tell what they cannot do", function()
        local image = open "base_tiny.jpg"
        raises("EINVAL", { "box of 2 x 1", "image of 1 x 1" }, function() image:crop(0, 0, 2, 1) end)
        raises("EINVAL", "left", function() image:crop(-1, 0, 1, 1) end)
        raises("EINVAL", "scale", function() image:random_crop(4, { scale = { 0.5, 2 } }) end)
        raises("EINVAL", "ratio", function() image:random_crop(4, { ratio = { 2, 1 } }) end)
        raises("EINVAL", "scale", function() image:random_crop(4, { scale = { 1 } }) end)
        raises("EINVAL", "seed", function() image:random_crop(4, { sead = 1 }) end)
        local path = helper.path "picture.gif"
        distac.fs.write(path, "GIF89a\1\0\1\0")
        raises("EUNSUPPORTED", { "picture.gif", "GIF" }, distac.image.load, path)
        distac.fs.write(path, "hello world")
        raises("EFORMAT", { "picture.gif", "68 65" }, distac.image.load, path)
        local file = io.open(FOLDER .. "base_420.jpg", "rb")
        local bytes = file:read "*a"
        file:close()
        distac.fs.write(path, bytes:sub(1, #bytes - 40))
        raises("EFORMAT", { "picture.gif", "JPEG" }, distac.image.load, path)
    end)
end)
