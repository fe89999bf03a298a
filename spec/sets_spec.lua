-- The eight tasks' data sets: tiny ones in the true formats (spec/golden/make_datasets.py), layouts that people
-- have on disk, the loader's options, packs, and `distac data`.
local distac = require "distac"
local helper = require "spec.helper"
local raises = helper.raises

local ROOT = "spec/golden/datasets"
local expected = dofile(ROOT .. "/expected.lua")
local SPLITS = { "train", "validation", "test" }
local program = (os.getenv("DISTAC_BUILD") or "build") .. "/distac"

local function levels(ds)
    local list = {}
    for i = 1, ds:size() do list[i] = ds:images(i, 1):mean():table() * 255 end
    return list
end

-- Labels and grey levels, in order.
local function holds(ds, wanted)
    assert.equal(#wanted, ds:size())
    local labels, seen = ds:labels():table(), levels(ds)
    for i, pair in ipairs(wanted) do
        assert.equal(pair[1], labels[i], "label of image " .. i)
        if not (math.abs(seen[i] - pair[2]) <= 1.01) then
            error(string.format("image %d: level %g is wanted, got %g", i, pair[2], seen[i]), 2)
        end
    end
end

local function save(path, level)
    distac.fs.make(path:match("^(.*)/"))
    distac.image.from_tensor(distac.full({ 6, 7, 3 }, level, { dtype = "u8" })):save(path)
end

local function sh(command)
    local file = assert(io.popen(command .. " 2>&1; echo \"rc $?\""))
    local text = file:read("*a")
    file:close()
    return text:match("^(.*)rc (%d+)%s*$")
end

describe("the eight tasks", function()
    it("are listed with their published sizes", function()
        assert.same({ "cars", "dtd", "eurosat", "gtsrb", "mnist", "resisc45", "sun397", "svhn" },
            distac.dataset.tasks())
        local published = {
            cars = { 196, 7330, 814, 8041 }, dtd = { 47, 3384, 376, 1880 }, eurosat = { 10, 21600, 2700, 2700 },
            gtsrb = { 43, 23976, 2664, 12630 }, mnist = { 10, 55000, 5000, 10000 },
            resisc45 = { 45, 17010, 1890, 6300 }, sun397 = { 397, 17865, 1985, 19850 },
            svhn = { 10, 68257, 5000, 26032 },
        }
        for name, p in pairs(published) do
            local info = distac.dataset.task_info(name)
            assert.same(p, { info.classes, info.train, info.validation, info.test })
        end
        raises("ENOTFOUND", { "svnh", "svhn" }, distac.dataset.task_info, "svnh")
    end)

    for name, splits in pairs(expected) do
        for _, split in ipairs(SPLITS) do
            it(name .. ": " .. split .. " holds the right images in the right order", function()
                local ds = distac.dataset.task(ROOT, name, split, { size = 16 })
                assert.same({ 3, 16, 16 }, ds:shape())
                holds(ds, splits[split])
                if name ~= "sun397" then assert.equal(distac.dataset.task_info(name).classes, ds:classes()) end
            end)
        end
    end

    it("name their classes as the heads do", function()
        local wanted = {
            cars = { "Make 1 Car 2012", 196, "Make 196 Car 2012" }, dtd = { "banded", 31, "polka-dotted" },
            eurosat = { "annual crop land", 8, "residential buildings or homes or apartments" },
            gtsrb = { "red and white circle 20 kph speed limit", 43,
                "white circle with gray strike bar indicating no passing for trucks has ended" },
            mnist = { "0", 10, "9" }, resisc45 = { "airplane", 44, "thermal power station" },
            sun397 = { "abbey", 2, "apartment building outdoor" }, svhn = { "0", 10, "9" },
        }
        for name, w in pairs(wanted) do
            local ds = distac.dataset.task(ROOT, name, "test", { size = 4 })
            assert.equal(w[1], ds:class_name(1))
            assert.equal(w[3], ds:class_name(w[2]))
        end
    end)

    it("are found in prepared folders, whatever their letter case", function()
        local root = helper.path "prepared"
        save(root .. "/DTD/train/woven/b.png", 40)
        save(root .. "/DTD/train/banded/a.png", 80)
        save(root .. "/DTD/val/banded/c.png", 120)
        save(root .. "/SUN397/Train/b_bar/x.png", 10)
        save(root .. "/SUN397/val/a_abbey/y.png", 20)
        save(root .. "/EuroSAT/2750/River/River_1.png", 30)
        save(root .. "/EuroSAT/2750/Forest/Forest_2.png", 60)
        save(root .. "/GTSRB/Final_Training/Images/00041/1.png", 90)
        distac.fs.write(root .. "/EuroSAT/eurosat-train.txt", "River_1.png\r\nForest_2.png\r\n")
        holds(distac.dataset.task(root, "dtd", "train", { size = 4 }), { { 0, 80 }, { 44, 40 } })
        holds(distac.dataset.task(root, "dtd", "test", { size = 4 }), { { 0, 120 } })
        holds(distac.dataset.task(root, "sun397", "train", { size = 4 }), { { 1, 10 } })
        holds(distac.dataset.task(root, "sun397", "test", { size = 4 }), { { 0, 20 } })
        holds(distac.dataset.task(root, "eurosat", "train", { size = 4 }), { { 1, 60 }, { 8, 30 } })
        holds(distac.dataset.task(root, "gtsrb", "train", { size = 4 }), { { 41, 90 } })
        holds(distac.dataset.task(root .. "/DTD", "dtd", "test", { size = 4 }), { { 0, 120 } })
        raises("EFORMAT", { "without a split", "distac data split" }, distac.dataset.task, root, "eurosat", "test")
        save(root .. "/DTD/train/bandet/a.png", 80)
        raises("EFORMAT", { "bandet", "nearest is 'banded'" }, distac.dataset.task, root, "dtd", "train")
    end)

    it("are told to be absent with what was looked for", function()
        local root = helper.path "empty"
        distac.fs.make(root)
        for _, name in ipairs(distac.dataset.tasks()) do
            raises("ENOTFOUND", { name, "looked for", root }, distac.dataset.task, root, name, "train")
        end
        raises("ENOTFOUND", "nowhere", distac.dataset.task, helper.path "nowhere", "mnist", "train")
        raises("EINVAL", "split", distac.dataset.task, ROOT, "mnist", "training")
        raises("EINVAL", "size", distac.dataset.task, ROOT, "mnist", "train", { size = 0 })
    end)

    it("refuse lists that lead elsewhere", function()
        local root = helper.path "hostile"
        save(root .. "/dtd/images/banded/a.png", 1)
        save(root .. "/resisc45/NWPU-RESISC45/beach/beach_001.png", 1)
        save(root .. "/SUN397/a/abbey/x.png", 1)
        save(root .. "/gtsrb/Final_Test/Images/1.png", 1)
        local long = ("x"):rep(5000) .. "/a_1.png"
        local lists = {
            { "dtd", "/dtd/labels/test1.txt", { "../../secret/x.png", "/etc/passwd", "banded/../x.png", "nothing",
                "banded\0/a.png", long, "bandet/a.png" } },
            { "resisc45", "/resisc45/resisc45-test.txt", { "../beach_1.png", "/beach_1.png", "nothing",
                "x/../beach_1.png", long, "beech_1.png" } },
            { "sun397", "/SUN397/Testing_01.txt", { "/../a/x.png", "//etc/x.png", "x.png", "/a/../../x.png",
                long } },
            { "gtsrb", "/gtsrb/GT-final_test.csv", { "../x.png;3", "/etc/passwd;3", "a/b.png;3", ";3", "x.png" } },
        }
        for _, list in ipairs(lists) do
            for _, line in ipairs(list[3]) do
                distac.fs.make((root .. list[2]):match("^(.*)/"))
                local heading = list[1] == "gtsrb" and "Filename;ClassId\n" or ""
                distac.fs.write(root .. list[2], heading .. line .. "\n")
                raises("EFORMAT", list[2]:match("[^/]+$"), distac.dataset.task, root, list[1], "test")
            end
        end
        for _, label in ipairs { "43", "-1", "x", "", "999999999999", "1 2" } do
            distac.fs.write(root .. "/gtsrb/GT-final_test.csv", "Filename;ClassId\n1.png;" .. label .. "\n")
            raises("EFORMAT", "GT-final_test.csv:2", distac.dataset.task, root, "gtsrb", "test")
        end
        distac.fs.write(root .. "/gtsrb/GT-final_test.csv", "Name;Class\n1.png;3\n")
        raises("EFORMAT", "Filename and ClassId", distac.dataset.task, root, "gtsrb", "test")
    end)

    it("have PyTorch's permutation", function()
        assert.equal("5 2 8 6 4", table.concat(distac.dataset.randperm(10), " ", 1, 5))
        assert.equal(36045, distac.dataset.randperm(60000)[1])
        assert.same({}, distac.dataset.randperm(0))
        raises("EINVAL", "seed", distac.dataset.randperm, 3, 2 ^ 33)
    end)
end)

describe("loader options", function()
    local function batch(options)
        local ds = distac.dataset.task(ROOT, "gtsrb", "train", { size = 8 })
        options.batch, options.seed = 4, 5
        return distac.loader(ds, options)
    end

    it("give the same batches with workers", function()
        for _, crops in ipairs { false, true, { scale = { 0.2, 0.5 } } } do
            local plain, ahead = batch { crops = crops }, batch { crops = crops, workers = 2, ahead = 3 }
            for step = 0, 6 do
                local a, b = plain:batch(step), ahead:batch(step)
                helper.same(a.images, b.images)
                helper.same(a.labels, b.labels)
            end
        end
    end)

    it("are checked", function()
        raises("EINVAL", "workers", batch, { workers = -1 })
        raises("EINVAL", "ahead", batch, { ahead = 0 })
        raises("EINVAL", "scale", batch, { crops = { scale = { 0.9, 2 } } })
        raises("EINVAL", "scal", batch, { crops = { scal = { 0.9, 1 } } })
    end)
end)

describe("packs", function()
    it("hold what is decoded", function()
        local function open(options) return distac.dataset.task(ROOT, "cars", "train", options) end
        local plain, folder = open { size = 16 }, helper.path "packs"
        for _, originals in ipairs { false, true } do
            local first = open { size = 16 }:cache(folder, { originals = originals })
            local second = open { size = 16 }:cache(folder, { originals = originals })
            assert.equal(11, first.samples)
            assert.same({ false, true }, { first.reused, second.reused })
            assert.equal(first.bytes, second.bytes)
            local ds = open { size = 16, cache = folder, originals = originals }
            helper.same(plain:images(), ds:images())
            assert.equal(plain:fingerprint(), ds:fingerprint())
        end
        assert.same({ bytes = 0, samples = 0, reused = false },
            distac.dataset.task(ROOT, "mnist", "test"):cache(folder))
        local ds = distac.dataset.folder(ROOT .. "/EuroSAT_splits/train", { size = 8, cache = folder })
        helper.same(distac.dataset.folder(ROOT .. "/EuroSAT_splits/train", { size = 8 }):images(), ds:images())
    end)
end)

describe("distac data", function()
    it("tells what is there and what is wrong", function()
        local text, rc = sh(program .. " data check " .. ROOT)
        assert.equal("1", rc)
        assert.truthy(text:find("mnist +train 19/55000  validation 2/5000  test 4/10000  wrong"))
        assert.truthy(text:find("test: no image of 193 classes", 1, true))
        text, rc = sh(program .. " data check --json " .. ROOT)
        local result = distac.json.decode(text)
        assert.equal("1", rc)
        assert.is_false(result.ok)
        assert.equal(8, #result.sets)
        for _, entry in ipairs(result.sets) do
            assert.equal(0, entry.unreadable, entry.name)
            for split, list in pairs(expected[entry.name]) do assert.equal(#list, entry.splits[split].found) end
        end
    end)

    it("names unreadable files and absent sets", function()
        local root = helper.path "cut"
        save(root .. "/dtd/train/woven/b.png", 40)
        distac.fs.make(root .. "/dtd/train/banded")
        distac.fs.write(root .. "/dtd/train/banded/cut.jpg", "\255\216\255")
        local text, rc = sh(program .. " data check " .. root)
        assert.equal("1", rc)
        assert.truthy(text:find("unreadable: .*banded/cut.jpg"))
        assert.truthy(text:find("test: not there", 1, true))
        assert.truthy(text:find("mnist +absent"))
        assert.truthy(text:find("no image of 45 classes", 1, true))
    end)

    it("tells a class that only training lacks, and the folder that was meant", function()
        local root = helper.path "meant"
        for _, split in ipairs { "train", "val", "test" } do
            for _, name in ipairs { "SeaLake", "AnnualCrop" } do
                if split ~= "train" or name ~= "SeaLake" then
                    save(root .. "/all/EuroSAT_splits/" .. split .. "/" .. name .. "/" .. name .. "_1.png", 1)
                end
            end
        end
        local text, rc = sh(program .. " data check " .. root .. "/all")
        assert.equal("1", rc)
        assert.truthy(text:find("train: no image of 9 classes: forest, brush", 1, true))
        assert.truthy(text:find("test: no image of 8 classes: forest, brush", 1, true))
        -- one folder too high, one too low
        text = sh(program .. " data check " .. root)
        assert.truthy(text:find("the data sets are in '" .. root .. "/all'", 1, true))
        text = sh(program .. " data check " .. root .. "/all/EuroSAT_splits/train")
        assert.is_nil(text:find("the data sets are in", 1, true))
        text = sh(program .. " data check " .. root .. "/all/EuroSAT_splits")
        assert.truthy(text:find("eurosat +train 1/"))
        assert.truthy(text:find("dtd +absent"))
        assert.truthy(text:find("resisc45 +absent"))
        assert.truthy(text:find("sun397 +absent"))
        distac.fs.make(root .. "/nothing")
        text, rc = sh(program .. " data check " .. root .. "/nothing")
        assert.equal("1", rc)
        assert.truthy(text:find("nothing' holds none of stanford_cars, dtd", 1, true))
    end)

    it("checks any folder of class folders", function()
        local text, rc = sh(program .. " data check " .. ROOT .. "/EuroSAT_splits --set mnist")
        assert.equal("1", rc)
        assert.truthy(text:find("absent", 1, true))
        local root = helper.path "own"
        save(root .. "/x/1.png", 1)
        save(root .. "/y/2.png", 1)
        text, rc = sh(program .. " data check " .. root)
        assert.equal("0", rc)
        assert.truthy(text:find("all 2  2 classes  ok", 1, true))
        distac.fs.write(root .. "/y/3.png", "x")
        text, rc = sh(program .. " data check " .. root)
        assert.equal("1", rc)
        assert.truthy(text:find("1 unreadable file\n    unreadable: " .. root .. "/y/3.png", 1, true))
        text = sh(program .. " data check " .. root .. "/x")
        assert.truthy(text:find("all 1  no class folders: images without labels  ok", 1, true))
    end)

    it("makes a split for EuroSAT", function()
        local root = helper.path "euro"
        for i = 1, 20 do save(root .. "/2750/River/River_" .. i .. ".png", i) end
        local _, rc = sh(program .. " data split " .. root)
        assert.equal("0", rc)
        local seen = {}
        for split, n in pairs { train = 16, validation = 2, test = 2 } do
            local ds = distac.dataset.task(root, "eurosat", split, { size = 4 })
            assert.equal(n, ds:size())
            for i = 1, n do seen[ds:file(i)] = true end
        end
        local n = 0
        for _ in pairs(seen) do n = n + 1 end
        assert.equal(20, n)
        local text
        text, rc = sh(program .. " data split " .. root)
        assert.equal("2", rc)
        assert.truthy(text:find("--force", 1, true))
    end)
end)

local real = os.getenv "DISTAC_TEST_DATA"
describe("real files", function()
    local wanted = {
        { "mnist", "train", 55000, { 9, 3, 5, 4, 7 } }, { "mnist", "test", 10000, { 7, 2, 1, 0, 4 } },
        { "gtsrb", "train", 1800 }, { "dtd", "train", 144 }, { "dtd", "test", 80 },
        { "svhn", "test", 19, { 1, 9, 2, 3, 2 } },
    }
    for _, w in ipairs(wanted) do
        it("of " .. w[1] .. ", " .. w[2], function()
            if not real then pending "DISTAC_TEST_DATA is not set" return end
            local ds = distac.dataset.task(real, w[1], w[2], { size = 32 })
            assert.equal(w[3], ds:size())
            if w[4] then assert.same(w[4], ds:labels(1, 5):table()) end
            assert.is_true(ds:images(1, 3):mean():table() > 0.02)
        end)
    end

    it("of cars", function()
        if not real then pending "DISTAC_TEST_DATA is not set" return end
        local ds = distac.dataset.task(real, "cars", "train", { size = 32 })
        assert.equal(7330, ds:size())
        assert.equal("AM General Hummer SUV 2000", ds:class_name(1))
        assert.truthy(ds:file(1):find("01837.jpg", 1, true))
    end)
end)
