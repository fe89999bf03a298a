-- CLIP's text encoder and the heads made with it, against open_clip and transformers (spec/golden/make_text.py and
-- make_clip.py).
local distac = require "distac"
local helper = require "spec.helper"

local dir = "spec/golden/text/"
local clip = "spec/golden/clip/"
local LIMITS = { f64 = 1e-9, f32 = 2e-5 }

local function read(path)
    local file = assert(io.open(path, "rb"))
    local text = file:read "*a"
    file:close()
    return text
end

local function unit(t)
    local wide = t:to "f64"
    return wide / wide:norm(2, true)
end

-- Largest distance of two tensors of rank 2; NaN stays.
local function furthest(a, b)
    local x, y, largest = a:table(), b:table(), 0
    assert.equal(#y, #x)
    for i, row in ipairs(y) do
        assert.equal(#row, #x[i])
        for j, value in ipairs(row) do
            local gap = math.abs(x[i][j] - value)
            if not (gap <= largest) then
                largest = gap
            end
        end
    end
    return largest
end

describe("The text encoder", function()
    for _, activation in ipairs { "quick_gelu", "gelu" } do
        for dtype, limit in pairs(LIMITS) do
            it("gives PyTorch's features with " .. activation .. " in " .. dtype, function()
                local all = distac.load(dir .. "expected_" .. activation .. ".safetensors")
                local text = distac.text(distac.load(dir .. "clip.safetensors"),
                    { activation = activation, dtype = dtype })
                local features = text:features(all.ids)
                assert.equal(dtype, features:dtype())
                assert.is_true(furthest(unit(features), unit(all.features)) <= limit)
                -- one text alone, and a hundred: the batch does not matter
                local one = text:features(all.ids:narrow(1, 3, 1))
                assert.is_true(furthest(unit(one), unit(all.features:narrow(1, 3, 1))) <= limit)
                local many = {}
                for i = 1, 5 do
                    many[i] = all.ids
                end
                local cat = text:features(distac.cat(many, 1))
                assert.is_true(furthest(unit(cat:narrow(1, 85, 21)), unit(all.features)) <= limit)
            end)
        end
    end

    it("is read from a whole CLIP", function()
        local expected = distac.load(clip .. "expected_quick_gelu.safetensors")
        for _, path in ipairs { "open_clip.safetensors", "hf", "openai.pt" } do
            local text = distac.text(distac.load(clip .. path),
                { activation = "quick_gelu", heads = 2, dtype = "f64" })
            local features = text:features(expected.tokens)
            assert.is_true(furthest(unit(features), unit(expected.text_features)) <= 1e-9, path)
            assert.is_true(math.abs(text:logit_scale() - math.exp(4.6052)) < 0.5)
        end
        local whole = distac.load(clip .. "open_clip.safetensors")
        local config = distac.text(whole, { activation = "gelu", heads = 2 }):config()
        assert.same({ context = 9, vocabulary = 40, width = 12, layers = 2, heads = 2, mlp = 24, dim = 6,
            activation = "gelu" }, config)
    end)

    it("takes activation and heads from the metadata, never from a guess", function()
        local ck = distac.load(dir .. "clip.safetensors")
        helper.raises("EINVAL", { "activation is not given", "text.activation", "vit.activation" },
            distac.text, ck)
        local function with(metadata)
            local copy = {}
            for _, name in ipairs(ck:names()) do
                copy[name] = ck[name]
            end
            return distac.checkpoint(copy, metadata)
        end
        local both = { ["text.heads"] = "4", ["text.activation"] = "gelu", ["vit.activation"] = "quick_gelu" }
        local config = distac.text(with(both)):config()
        assert.equal("gelu", config.activation)
        assert.equal(4, config.heads)
        assert.equal("quick_gelu", distac.text(with(both), { activation = "quick_gelu" }):config().activation)
        both["text.activation"] = nil
        assert.equal("quick_gelu", distac.text(with(both)):config().activation)
        assert.equal(2, distac.text(with(both), { heads = 2 }):config().heads)
        both["vit.activation"] = "relu"
        helper.raises("EINVAL", { "vit.activation", "relu" }, distac.text, with(both))
        helper.raises("EINVAL", { "text.heads", "3" }, distac.text, with { ["text.heads"] = "3" })
        helper.raises("EINVAL", "width 16 is no multiple of 64", distac.text, with {})
        helper.raises("EINVAL", "heads is 5", distac.text, with {}, { heads = 5 })
    end)

    it("refuses checkpoints that hold none, and lists all misfits", function()
        local ck = distac.load(dir .. "clip.safetensors")
        local function without(pattern, extra)
            local copy = {}
            for _, name in ipairs(ck:names()) do
                if not name:find(pattern) then
                    copy[name] = ck[name]
                end
            end
            for name, t in pairs(extra or {}) do
                copy[name] = t
            end
            return distac.checkpoint(copy, { ["text.heads"] = "2", ["text.activation"] = "gelu" })
        end
        helper.raises("ENOTFOUND", { "taken out", "whole CLIP" }, distac.text, without "^transformer")
        helper.raises("ENOTFOUND", { "token_embedding.weight", "no text encoder" }, distac.text, without "token")
        helper.raises("ENOTFOUND", { '"transformer.resblocks.0.attn.out_proj.bias" is missing',
            '"transformer.resblocks.2.attn.out_proj.bias" is missing' }, distac.text, without "out_proj.bias")
        helper.raises("ESHAPE", { '"ln_final.bias" has shape [3], wanted [16]' }, distac.text,
            without("^$", { ["ln_final.bias"] = distac.zeros(3) }))
        helper.raises("ENOTFOUND", { '"transformer.resblocks.1.extra" has no place' }, distac.text,
            without("^$", { ["transformer.resblocks.1.extra"] = distac.zeros(3) }))
        helper.raises("ESHAPE", "two dimensions", distac.text,
            without("^$", { ["text_projection"] = distac.zeros(3) }))
        local text = distac.text(without "logit_scale")
        helper.raises("ENOTFOUND", "no logit_scale", text.logit_scale, text)
        helper.raises("ENUMERIC", "logit_scale is 1000", distac.text,
            without("^$", { logit_scale = distac.tensor { 1000 } }))
    end)

    it("refuses ids that do not fit", function()
        local text = distac.text(distac.load(dir .. "clip.safetensors"), { activation = "gelu" })
        helper.raises("EINVAL", { "id 634 at [1,0]", "0 to 633" }, text.features, text, { { 1, 2 }, { 634, 0 } })
        helper.raises("EINVAL", "id -1 at [0,1]", text.features, text, { { 1, -1 } })
        helper.raises("ESHAPE", "1 to 48 tokens", text.features, text, distac.zeros({ 1, 49 }, { dtype = "i64" }))
        helper.raises("ESHAPE", "ids", text.features, text, distac.zeros({ 3 }, { dtype = "i64" }))
        helper.raises("ESHAPE", "ids", text.features, text, distac.zeros({ 0, 3 }, { dtype = "i64" }))
        assert.same({ 1, 10 }, text:features({ { 5 } }):shape())
        -- Rows of different lengths, and one row alone: zeros behind the end change nothing.
        local both = text:features { { 3, 7, 633 }, { 4, 633 } }
        helper.near(both:narrow(1, 1, 1), text:features({ 3, 7, 633 }):table(), 1e-6)
        helper.near(both:narrow(1, 2, 1), text:features({ { 4, 633 } }):table(), 1e-6)
        helper.raises("EINVAL", "ids[1][2]", text.features, text, { { 1, "x" } })
    end)
end)

describe("A zero-shot head", function()
    local prompts = distac.json.decode(read(dir .. "prompts.json"))
    local function encoder(dtype, activation)
        return distac.text(distac.load(dir .. "clip.safetensors"), { activation = activation, dtype = dtype })
    end
    local tokenizer = distac.tokenizer "spec/golden/bpe"

    it("is the one that PyTorch makes", function()
        for _, activation in ipairs { "quick_gelu", "gelu" } do
            local want = distac.load(dir .. "expected_" .. activation .. ".safetensors").head
            for dtype, limit in pairs { f64 = 1e-7, f32 = 2e-3 } do -- entries are up to 100
                local head = distac.zero_shot_head { text = encoder(dtype, activation), tokenizer = tokenizer,
                    classes = prompts.classes, templates = prompts.templates }
                assert.equal(dtype, head:weight():dtype())
                assert.is_true(furthest(head:weight(), want) <= limit, activation .. " " .. dtype)
                assert.same(prompts.classes, head:class_names())
            end
        end
    end)

    it("is kept in a cache by what it is made of", function()
        local cache = helper.path "heads"
        local text = encoder("f32", "gelu")
        local function make(options)
            options.text, options.tokenizer, options.cache = options.text or text, "spec/golden/bpe", cache
            return distac.zero_shot_head(options)
        end
        local function files()
            return #distac.fs.list(cache)
        end
        local first = make { classes = { "cat", "dog" } }
        assert.equal(1, files())
        local path = cache .. "/" .. distac.fs.list(cache)[1]
        local again = make { classes = { "cat", "dog" }, templates = { "a photo of a {}." } }
        assert.equal(1, files())
        helper.same(first:weight(), again:weight())
        assert.same({ "cat", "dog" }, again:class_names())
        make { classes = { "dog", "cat" } }
        make { classes = { "cat", "dog" }, templates = { "{}" } }
        make { classes = { "cat", "dog" }, text = encoder("f32", "quick_gelu") }
        assert.equal(4, files())
        -- what is in the file is used, and a file that is damaged is made anew
        local file = assert(io.open(path, "r+b"))
        local bytes = file:read "*a"
        file:seek("set", #bytes - 4)
        file:write "\0\0\0\63"
        file:close()
        assert.is_false(make({ classes = { "cat", "dog" } }):weight():equal(first:weight()))
        distac.fs.write(path, bytes:sub(1, 100))
        helper.same(first:weight(), make({ classes = { "cat", "dog" } }):weight())
        assert.equal(bytes, read(path))
    end)

    it("is saved and loaded with what it is made of", function()
        local path = helper.path "head.safetensors"
        local head = distac.zero_shot_head {
            text = encoder("f32", "gelu"), tokenizer = tokenizer, dataset = "mnist",
        }
        head:save(path)
        local loaded = distac.load_head(path)
        helper.same(head:weight(), loaded:weight())
        assert.same(distac.prompts.mnist.classes, loaded:class_names())
        local metadata = loaded:metadata()
        assert.equal("mnist", metadata["head.dataset"])
        assert.equal(tokenizer:hash(), metadata["head.tokenizer"])
        assert.truthy(tonumber(metadata["head.logit_scale"]))
        local plain = distac.head(distac.ones(2, 3), { normalize = false })
        plain:save(path)
        local x = distac.tensor { { 1, 2, 3 } }
        assert.same({ { 6, 6 } }, distac.load_head(path):logits(x):table())
        assert.is_nil(distac.load_head(path):class_names())
    end)

    it("is read from a file with a bias only when the bias is zero", function()
        local path = helper.path "biased.safetensors"
        distac.save(path, { weight = distac.ones(2, 3), bias = distac.zeros(2) })
        assert.equal(2, distac.load_head(path):classes())
        distac.save(path, { weight = distac.ones(2, 3), bias = distac.tensor { 0, -3 } })
        local ok, err = pcall(distac.load_head, path)
        assert.is_false(ok)
        assert.equal("EUNSUPPORTED", err.code)
        assert.matches("biased.safetensors: the bias is not zero %(norm 3%)", err.message)
    end)

    it("takes the names that data has, and tells where they differ", function()
        local text = encoder("f32", "gelu")
        local folder = helper.path "classes"
        for i, name in ipairs { "0", "one", "two" } do
            distac.fs.make(folder .. "/" .. name)
            local grey = distac.full({ 4, 4 }, i, { dtype = "u8" })
            distac.image.from_tensor(grey):save(folder .. "/" .. name .. "/a.png")
        end
        local head, notes = distac.zero_shot_head { text = text, tokenizer = tokenizer, dataset = "mnist",
            data = distac.dataset.folder(folder, { size = 4 }) }
        assert.same({ "0", "one", "two" }, head:class_names())
        assert.same({ "the data has 3 classes, the list of names 10",
            'class 2 is "one" in the data and "1" in the list of names',
            'class 3 is "two" in the data and "2" in the list of names' }, notes)
    end)

    it("refuses what makes none", function()
        local text = encoder("f32", "gelu")
        local function make(options)
            options.text, options.tokenizer = text, options.tokenizer or tokenizer
            return distac.zero_shot_head(options)
        end
        helper.raises("ENOTFOUND", { 'no data set "minst"', "mnist" }, make, { dataset = "minst" })
        helper.raises("EINVAL", "wanted dataset (one of cars, dtd", make, {})
        helper.raises("EINVAL", "classes is an empty list", make, { classes = {} })
        helper.raises("EINVAL", "classes[2]", make, { classes = { "a", 2 } })
        helper.raises("EINVAL", { "templates[1]", "no {}" }, make,
            { classes = { "a" }, templates = { "a photo" } })
        helper.raises("EINVAL", "positions", make, { classes = { ("cat "):rep(60) } })
        helper.raises("EINVAL", "unknown option", make, { classes = { "a" }, template = {} })
        helper.raises("EINVAL", "text is missing", distac.zero_shot_head,
            { tokenizer = tokenizer, classes = { "a" } })
        local other = distac.text(distac.load(clip .. "open_clip.safetensors"), { activation = "gelu", heads = 2 })
        helper.raises("EINVAL", "the tokenizer has 634 symbols, the text encoder 40 ids", distac.zero_shot_head,
            { text = other, tokenizer = tokenizer, classes = { "a" } })
    end)
end)

describe("Prompts", function()
    it("name the classes of the eight data sets", function()
        local sizes = {
            cars = 196, dtd = 47, eurosat = 10, gtsrb = 43, mnist = 10, resisc45 = 45, sun397 = 397, svhn = 10,
        }
        local templates = {
            cars = 8, dtd = 8, eurosat = 3, gtsrb = 3, mnist = 1, resisc45 = 18, sun397 = 2, svhn = 1,
        }
        assert.equal(8, #distac.prompts.names())
        for _, name in ipairs(distac.prompts.names()) do
            local set = distac.prompts[name]
            assert.equal(sizes[name], #set.classes, name)
            assert.equal(templates[name], #set.templates, name)
            local seen = {}
            for _, class in ipairs(set.classes) do
                assert.is_nil(seen[class], class)
                assert.equal(class:match "^%s*(.-)%s*$", class)
                seen[class] = true
            end
            for _, template in ipairs(set.templates) do
                assert.truthy(template:find("{}", 1, true), template)
            end
        end
        assert.equal("AM General Hummer SUV 2000", distac.prompts.cars.classes[1])
        assert.equal("smart fortwo Convertible 2012", distac.prompts.cars.classes[196])
        assert.equal("apartment building outdoor", distac.prompts.sun397.classes[9])
        assert.equal("youth hostel", distac.prompts.sun397.classes[397])
        assert.equal("lake or sea", distac.prompts.eurosat.classes[10])
        assert.equal("end / de-restriction of 80 kph speed limit", distac.prompts.gtsrb.classes[7])
        assert.equal('a photo of the number: "{}".', distac.prompts.svhn.templates[1])
        local changed = distac.prompts.mnist
        changed.classes[1] = "zero"
        assert.equal("0", distac.prompts.mnist.classes[1])
        helper.raises("ENOTFOUND", 'did you mean "dtd"', function() return distac.prompts.dtb end)
    end)

    it("are those of the data sets' own files", function()
        local root = os.getenv "DISTAC_TEST_DATA"
        if not root then
            pending "DISTAC_TEST_DATA names no folder of data sets"
            return
        end
        local compared = 0
        for _, name in ipairs(distac.prompts.names()) do
            for _, split in ipairs { "train", "test" } do
                local ok, data = pcall(distac.dataset.task, root, name, split, { size = 8 })
                if ok then
                    local ours = distac.prompts[name].classes
                    assert.equal(#ours, data:classes(), name)
                    for i, class in ipairs(ours) do
                        assert.equal(class, data:class_name(i))
                    end
                    compared = compared + 1
                end
            end
        end
        assert.is_true(compared > 0)
    end)
end)

describe("distac head", function()
    local tiny = require "spec.tiny"
    local root
    setup(function()
        root = tiny.folder()
        local ck = distac.load(dir .. "clip.safetensors")
        local copy = {}
        for _, name in ipairs(ck:names()) do
            copy[name] = ck[name]
        end
        distac.save(root .. "/clip.safetensors", copy, { metadata = { ["text.heads"] = "2" } })
        for _, name in ipairs { "vocab.json", "merges.txt" } do
            distac.fs.write(root .. "/" .. name, read("spec/golden/bpe/" .. name))
        end
        distac.fs.write(root .. "/classes.txt", "cat\r\n\n  polka-dotted \n")
        distac.fs.write(root .. "/templates.txt", "a photo of a {}.\ni love my {}!\n")
        distac.fs.write(root .. "/empty.txt", "\n\n")
    end)
    teardown(function()
        tiny.remove(root)
    end)

    it("writes what zero_shot_head makes", function()
        local status, out = tiny.run({ "head", "--model", "clip.safetensors", "--classes", "classes.txt",
            "--templates", "templates.txt", "--activation", "gelu", "-o", "head.safetensors", "--json",
            "--device", os.getenv "DISTAC_TEST_DEVICE" or "cpu" }, root)
        assert.equal(0, status)
        assert.equal(2, distac.json.decode(out).classes)
        local head = distac.load_head(root .. "/head.safetensors")
        local want = distac.zero_shot_head { text = distac.text(distac.load(dir .. "clip.safetensors"),
            { activation = "gelu" }), tokenizer = "spec/golden/bpe", classes = { "cat", "polka-dotted" },
            templates = { "a photo of a {}.", "i love my {}!" } }
        helper.same(want:weight(), head:weight())
        assert.same({ "cat", "polka-dotted" }, head:class_names())
    end)

    it("tells mistakes before any work", function()
        local function refused(text, ...)
            local status, out, err = tiny.run({ "head", ... }, root)
            assert.equal(2, status, err)
            assert.equal("", out)
            assert.truthy(err:find(text, 1, true), err .. " lacks " .. text)
            assert.is_nil(distac.fs.kind(root .. "/x.safetensors"))
        end
        refused("--model is missing", "--dataset", "mnist")
        refused("--dataset or --classes", "--model", "clip.safetensors")
        refused('did you mean "mnist"', "--model", "clip.safetensors", "--dataset", "mnits", "-o", "x.safetensors")
        refused("has no lines", "--model", "clip.safetensors", "--classes", "empty.txt", "-o", "x.safetensors")
        refused("wanted gelu", "--model", "clip.safetensors", "--dataset", "mnist", "--activation", "relu", "-o",
            "x.safetensors")
        refused("there is no 'nowhere'", "--model", "clip.safetensors", "--dataset", "mnist",
            "--tokenizer", "nowhere", "-o", "x.safetensors")
        refused("-o OUT is missing", "--model", "clip.safetensors", "--dataset", "mnist")
        refused("is an input", "--model", "clip.safetensors", "--dataset", "mnist", "-o", "clip.safetensors")
    end)
end)
