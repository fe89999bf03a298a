local distac = require "distac"
local helper = require "spec.helper"
local near, raises = helper.near, helper.raises

local function numbered(n, classes)
    local images = distac.zeros({ n, 1, 2, 2 }, { dtype = "u8" })
    local labels = {}
    for i = 1, n do
        images[i]:fill(i)
        labels[i] = (i - 1) % classes
    end
    return distac.dataset.tensors(images, labels, classes)
end

local function be32(x)
    local function byte(k) return math.floor(x / 256 ^ k) % 256 end
    return string.char(byte(3), byte(2), byte(1), byte(0))
end

describe("Dataset", function()
    it("is made from tensors", function()
        local ds = numbered(5, 2)
        assert.equal(5, ds:size())
        assert.equal(5, #ds)
        assert.equal(2, ds:classes())
        assert.is_true(ds:labelled())
        assert.same({ 1, 2, 2 }, ds:shape())
        near(ds:images(2, 2):reshape(2, 4), { { 2 / 255, 2 / 255, 2 / 255, 2 / 255 },
            { 3 / 255, 3 / 255, 3 / 255, 3 / 255 } }, 1e-7)
        near(ds:labels(), { 0, 1, 0, 1, 0 }, 0)
        assert.equal("f32", ds:images():dtype())
        assert.truthy(tostring(ds):find("5 images", 1, true))
    end)

    it("normalises", function()
        local ds = numbered(3, 1):normalize(0.5, 0.25)
        near(ds:images(3, 1):reshape(4)[1], (3 / 255 - 0.5) / 0.25, 1e-6)
        raises("ESHAPE", "0", function() numbered(3, 1):normalize(0.5, {}) end)
    end)

    it("has subsets counted from one", function()
        local ds = numbered(6, 3)
        local part = ds:subset { 6, 1 }
        assert.equal(2, part:size())
        near(part:images():select(2, 1):select(2, 1):select(2, 1) * 255, { 6, 1 }, 1e-5)
        near(part:labels(), { 2, 0 }, 0)
        raises("EINVAL", { "samples[2]", "from 1 to 6", "number 7" }, function() ds:subset { 1, 7 } end)
        raises("EINVAL", "from 1", function() ds:subset { 0 } end)
    end)

    it("has a hash of all that it is", function()
        local seen = {}
        for _, ds in ipairs { numbered(4, 2), numbered(4, 1), numbered(5, 2), numbered(4, 2):normalize(0.1, 1),
            numbered(4, 2):subset { 1, 2, 4, 3 } } do
            local hash = ds:hash()
            assert.equal(64, #hash)
            assert.is_nil(seen[hash])
            seen[hash] = true
        end
        assert.equal(numbered(4, 2):hash(), numbered(4, 2):hash())
    end)

    it("reads IDX files", function()
        local images, labels = helper.path "images", helper.path "labels"
        distac.fs.write(images, "\0\0\8\3" .. be32(2) .. be32(2) .. be32(3) ..
            "\0\1\2\3\4\5\250\251\252\253\254\255")
        distac.fs.write(labels, "\0\0\8\1" .. be32(2) .. "\1\0")
        local ds = distac.dataset.idx(images, labels)
        assert.same({ 1, 2, 3 }, ds:shape())
        near(ds:images(2, 1):reshape(6) * 255, { 250, 251, 252, 253, 254, 255 }, 1e-4)
        near(ds:labels(), { 1, 0 }, 0)
        assert.is_false(distac.dataset.idx(images):labelled())
        raises("ESTATE", {}, function() distac.dataset.idx(images):labels() end)
        distac.fs.write(labels, "\0\0\8\1" .. be32(3) .. "\1\0\1")
        raises("EFORMAT", {}, distac.dataset.idx, images, labels)
        distac.fs.write(images, "\0\0\8\3" .. be32(2))
        raises("EFORMAT", "images", distac.dataset.idx, images)
        raises("ENOTFOUND", "nothing", distac.dataset.idx, helper.path "nothing")
    end)

    it("reads folders of class folders", function()
        local root = helper.path "pets"
        for c, class in ipairs { "cat", "dog" } do
            distac.fs.make(root .. "/" .. class)
            for k = 1, c do
                local pixels = distac.full({ 4, 4, 3 }, 100 * c + k, { dtype = "u8" })
                distac.image.from_tensor(pixels):save(root .. "/" .. class .. "/" .. k .. ".png")
            end
        end
        local ds = distac.dataset.folder(root, { size = 4 })
        assert.equal(3, ds:size())
        assert.same({ "cat", "dog" }, ds:class_names())
        assert.equal("dog", ds:class_name(2))
        near(ds:labels(), { 0, 1, 1 }, 0)
        near(ds:images()[3] * 255, distac.full({ 3, 4, 4 }, 202), 1e-4)
        local flat = distac.dataset.folder(root .. "/dog", { size = 2, channels = 1 })
        assert.is_false(flat:labelled())
        assert.same({ 1, 2, 2 }, flat:shape())
        distac.fs.write(root .. "/cat/broken.png", "no picture")
        raises("EFORMAT", "broken.png", function() return distac.dataset.folder(root, { size = 4 }):images() end)
        raises("EIO", "nowhere", distac.dataset.folder, root .. "/nowhere")
    end)

    it("gives logits and features in any batch", function()
        local tiny = helper.tiny()
        local images = distac.zeros({ 5, 3, 4, 4 }, { dtype = "u8" })
        images:copy((distac.rand({ 5, 3, 4, 4 }, { seed = 1 }) * 255))
        local ds = distac.dataset.tensors(images)
        local all = ds:features(tiny.model)
        near(all, tiny.model:features(ds:images()), 1e-12)
        near(ds:features(tiny.model, { batch = 2 }), all, 1e-12)
        near(ds:features(tiny.model, { first = 4, count = 2 })[1], all[4], 1e-12)
        near(ds:logits(tiny.model, tiny.head), tiny.head:logits(all), 1e-12)
        raises("EINVAL", { "Dataset:logits", "head" }, function() ds:logits(tiny.model) end)
    end)

    it("refuses what makes no sense", function()
        local ds = numbered(3, 2)
        raises("EINVAL", { "first", "4" }, function() ds:images(5) end)
        raises("EINVAL", "count", function() ds:images(2, 3) end)
        raises("EINVAL", {}, distac.dataset.tensors, distac.zeros({ 2, 1, 2, 2 }, { dtype = "u8" }), { 0, 2 }, 2)
        raises("EDTYPE", {}, distac.dataset.tensors, distac.zeros { 2, 1, 2, 2 })
        raises("EINVAL", { "split", "tests", 'did you mean "test"?' }, distac.dataset.mini8, "r", "f", "digits",
            "tests")
        raises("ENOTFOUND", { "folders", 'did you mean "folder"?' }, function() return distac.dataset.folders end)
    end)
end)

describe("Loader", function()
    it("visits every sample once an epoch", function()
        local loader = distac.loader(numbered(12, 3), { batch = 4, seed = 5 })
        for epoch = 0, 2 do
            local seen = {}
            for batch in loader:batches(3, 3 * epoch) do
                assert.same({ 4, 1, 2, 2 }, batch.images:shape())
                for k, i in ipairs(batch.indices:table()) do
                    assert.is_nil(seen[i])
                    seen[i] = true
                    near(batch.images[k]:reshape(4)[1] * 255, i, 1e-4)
                    assert.equal((i - 1) % 3, batch.labels[k])
                end
            end
            assert.equal(12, #seen)
        end
    end)

    it("gives the same batch however it is reached", function()
        local ds = numbered(20, 2)
        local a, b = distac.loader(ds, { batch = 3, seed = 1 }), distac.loader(ds, { batch = 3, seed = 1 })
        for _ in a:batches(17) do end
        helper.same(a:batch(17).indices, b:batch(17).indices)
        assert.is_false(b:batch(17).indices:equal(distac.loader(ds, { batch = 3, seed = 2 }):batch(17).indices))
        assert.is_false(b:batch(0).indices:equal(b:batch(6).indices))
        local steps = {}
        for _, step in a:batches(3, 5) do
            steps[#steps + 1] = step
        end
        assert.same({ 5, 6, 7 }, steps)
    end)

    it("works without labels and with few samples", function()
        local ds = distac.dataset.tensors(distac.zeros({ 2, 1, 2, 2 }, { dtype = "u8" }))
        local batch = distac.loader(ds, { batch = 8 }):batch(0)
        assert.is_nil(batch.labels)
        assert.same({ 2 }, batch.indices:shape())
        raises("EINVAL", { "distac.loader", "batchsize", "batch" }, distac.loader, ds, { batchsize = 1 })
        raises("EINVAL", { "batch", "0" }, distac.loader, ds, { batch = 0 })
    end)

    it("leaves no memory behind", function()
        local ds = numbered(20, 2)
        helper.no_leak(function()
            for _ in distac.loader(ds, { batch = 3, seed = 1 }):batches(9) do end
        end)
    end)
end)

describe("Image", function()
    it("goes to a file and back", function()
        local pixels = distac.tensor({ { { 1, 2, 3 }, { 4, 5, 6 } } }, { dtype = "u8" })
        local path = helper.path "two.png"
        distac.image.from_tensor(pixels):save(path)
        local image = distac.image.load(path)
        assert.same({ 2, 1, 3 }, { image:width(), image:height(), image:channels() })
        assert.equal("\1\2\3\4\5\6", image:bytes())
        helper.same(image:pixels(), pixels)
        assert.same({ 3, 1, 2 }, image:tensor(0, 1):shape())
        near(image:tensor({ 0, 0, 0 }, { 1, 1, 1 })[{ 2, 1, 2 }], 5 / 255, 1e-7)
    end)

    it("resizes with the worked numbers", function()
        local image = distac.image.from_tensor(distac.tensor({ { 39, 50, 100, 255 }, { 10, 60, 200, 5 },
            { 30, 90, 120, 250 }, { 255, 0, 255, 0 } }, { dtype = "u8" }))
        image = distac.image.from_tensor((function(t)
            t[{ 1, 1 }] = 0
            return t
        end)(image:pixels():reshape(4, 4):clone()))
        near(image:resize(2, 2):pixels():reshape(2, 2), { { 39, 141 }, { 101, 137 } }, 0)
        near(image:resize(6, 6):pixels():reshape(6, 6)[1], { 0, 21, 55, 79, 190, 255 }, 0)
        near(image:resize(6, 6):pixels():reshape(6, 6)[3], { 7, 28, 86, 190, 111, 19 }, 0)
        near(image:resize(6, 6):pixels():reshape(6, 6)[6], { 255, 124, 14, 244, 131, 0 }, 0)
    end)

    it("becomes CLIP's tensor, grey or coloured", function()
        local grey = distac.image.from_tensor(distac.full({ 6, 8 }, 255, { dtype = "u8" }))
        local t = distac.image.clip(grey, 4)
        assert.same({ 3, 4, 4 }, t:shape())
        near(t[{ 1, 1, 1 }], (1 - 0.48145466) / 0.26862954, 1e-5)
        near(t[{ 3, 4, 4 }], (1 - 0.40821073) / 0.27577711, 1e-5)
        near(t, distac.image.clip(grey:rgb(), 4), 0)
        raises("EINVAL", { "distac.image.clip", "image" }, distac.image.clip, "path.png", 4)
        raises("ENOTFOUND", "none.png", distac.image.load, helper.path "none.png")
    end)
end)
