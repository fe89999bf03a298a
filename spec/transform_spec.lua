-- Transforms of images as plain Lua loops: the same functions on both runtimes, over pixels of a data set and over
-- the numbers of a loader's batches.
local distac = require "distac"
local helper = require "spec.helper"
local near, raises = helper.near, helper.raises

-- n images [2,2,3] whose bytes count on, labelled 0, 1, 2, 0, ...
local function counting(n)
    local images = distac.arange({ n * 12 }, { dtype = "f32" }):reshape(n, 2, 2, 3):to "u8"
    local labels = {}
    for i = 1, n do
        labels[i] = (i - 1) % 3
    end
    return distac.dataset.tensors(images, labels, 3)
end

local function invert(pixels, n)
    for i = 1, n do
        pixels[i] = 255 - pixels[i]
    end
end

-- Left and right exchanged: reads and writes at places of its own.
local function mirror(p, _, where)
    local w = where.width
    for row = 0, where.channels * where.height - 1 do
        for x = 1, math.floor(w / 2) do
            local a, b = row * w + x, row * w + w + 1 - x
            p[a], p[b] = p[b], p[a]
        end
    end
end

describe("Dataset:pixels", function()
    it("gives the bytes as they are", function()
        local ds = counting(3):normalize({ 0.5, 0.5 }, { 0.25, 0.5 })
        local pixels = ds:pixels(2, 2)
        assert.equal("u8", pixels:dtype())
        assert.same({ 2, 2, 2, 3 }, pixels:shape())
        assert.same({ { 12, 13, 14 }, { 15, 16, 17 } }, pixels[1][1]:table())
        assert.same({ 1, 2, 2, 3 }, ds:subset { 3 }:pixels():shape())
        assert.equal(24, ds:subset { 3 }:pixels():to("f32"):min():item())
        raises("EINVAL", "Dataset:pixels", function() ds:pixels(3, 2) end)
    end)
end)

describe("Dataset:map", function()
    it("changes the pixels of a new data set and nothing else", function()
        local ds = counting(5):normalize({ 0.5, 0.25 }, { 0.25, 0.5 })
        local hash = ds:hash()
        for _, batch in ipairs { 1, 2, 5, 100 } do
            local turned = ds:map(invert, { batch = batch })
            near(turned:pixels():to "f32", 255 - ds:pixels():to "f32", 0)
            near(turned:labels(), ds:labels(), 0)
            assert.equal(3, turned:classes())
            -- the normalisation went along
            near(turned:images(1, 1)[1][2][{ 1, 2 }], ((255 - 7) / 255 - 0.25) / 0.5, 1e-6)
            assert.equal(hash, turned:map(invert):hash())
            assert.not_equal(hash, turned:hash())
        end
        assert.equal(hash, ds:hash())
    end)

    it("knows where it is", function()
        local ds = counting(7):subset { 2, 7, 4 }
        local seen = {}
        local turned = ds:map(function(p, n, where)
            seen[#seen + 1] = { where.index, where.label, where.channels, where.height, where.width, n, p[1] }
            p[n] = where.index
        end, { batch = 2 })
        assert.same({ { 1, 1, 2, 2, 3, 12, 12 }, { 2, 0, 2, 2, 3, 12, 72 }, { 3, 0, 2, 2, 3, 12, 36 } }, seen)
        near(turned:pixels():reshape(3, 12):narrow(2, 12, 1):reshape(3), { 1, 2, 3 }, 0)
        assert.same({ { 14, 13, 12 }, { 17, 16, 15 } }, ds:map(mirror):pixels(1, 1)[1][1]:table())
    end)

    it("serves unlabelled and empty data sets, and names of classes", function()
        local ds = distac.dataset.tensors(distac.zeros({ 2, 1, 2, 2 }, { dtype = "u8" }))
        local turned = ds:map(function(p, _, where)
            assert.is_nil(where.label)
            p[1] = 9
        end)
        assert.is_false(turned:labelled())
        assert.equal(9, turned:pixels():to("f32"):max():item())
        assert.equal(0, ds:subset({}):map(invert):size())
        assert.equal("2", counting(3):map(invert):class_name(3))
    end)

    it("is as good for training as any other", function()
        local ds = counting(6):map(invert)
        local a = distac.loader(ds, { batch = 3, seed = 1 }):batch(0)
        near(a.images:reshape(3, 12)[1][1], (255 - 12 * (a.indices[1] - 1)) / 255, 1e-6)
    end)

    it("fails where the function does, and says what is wrong", function()
        local ds = counting(2)
        raises("EINVAL", "Dataset:map: fn: wanted a function(pixels, n, where)", function() ds:map "x" end)
        local ok, err = pcall(ds.map, ds, function() error "on purpose" end)
        assert.is_false(ok)
        assert.truthy(tostring(err):find("on purpose", 1, true))
        if distac.runtime ~= "luajit" then
            raises("EINVAL", { "sample 2", "element 3 of 12: wanted 0 to 255, got the number 256" }, ds.map, ds,
                function(p, _, where) if where.index == 2 then p[3] = 256 end end)
            raises("EINVAL", "element 3 of 12: wanted a number", ds.map, ds, function(p) p[3] = "x" end)
        end
    end)
end)

describe("a loader's map", function()
    local function darker(values, n, where)
        local factor = 1 / (1 + where.label)
        for i = 1, n do
            values[i] = values[i] * factor - 1
        end
    end

    it("changes the images of every batch", function()
        local ds = counting(9):normalize({ 0.5, 0.5 }, { 0.5, 0.5 })
        local plain = distac.loader(ds, { batch = 4, seed = 3 })
        local mapped = distac.loader(ds, { batch = 4, seed = 3, map = darker })
        local seen = 0
        for batch, step in mapped:batches(5) do
            local before = plain:batch(step)
            near(batch.indices, before.indices, 0)
            for i = 1, 4 do
                near(batch.images[i], before.images[i] / (1 + before.labels[i]) - 1, 1e-6)
                seen = seen + 1
            end
        end
        assert.equal(20, seen)
        near(mapped:batch(2).images, mapped:batch(2).images, 0)
    end)

    it("is given the sample's number and the step", function()
        local places = {}
        local loader = distac.loader(counting(4), { batch = 2, seed = 1, map = function(values, n, where)
            assert.equal(12, n)
            -- the first number of sample i is 12 (i - 1) / 255: the image is the one that `where` names
            assert.is_true(math.abs(values[1] - 12 * (where.index - 1) / 255) < 1e-6)
            places[#places + 1] = where.step
        end })
        loader:batch(1)
        loader:batch(0)
        assert.same({ 1, 1, 0, 0 }, places)
        raises("EINVAL", "distac.loader: map: wanted a function(values, n, where)", distac.loader, counting(4),
            { map = 3 })
    end)
end)
