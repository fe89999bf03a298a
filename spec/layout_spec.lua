-- CLIP checkpoints under the names of several publishers: loading, saving, converting, looking at them, merging
-- them, and running models of them.
local distac = require "distac"
local helper = require "spec.helper"
local json = require "distac.json"
local tiny = require "spec.tiny"
local near, raises = helper.near, helper.raises

local root

local function run(...) return tiny.run({ ... }, root) end
local function at(name) return root .. "/" .. name end

-- A tiny CLIP with both towers under the canonical names, and its image encoder.
local function clip(seed, prefix, dtype)
    local vit = distac.vit { image = 8, patch = 4, width = 8, layers = 2, heads = 2, mlp = 12, dim = 6,
        activation = "gelu" }
    vit:init(seed)
    local image = vit:checkpoint()
    local tensors, stream = {}, 0
    local function text(name, ...)
        stream = stream + 1
        tensors[name] = distac.randn({ ... }, { seed = seed, stream = stream })
    end
    for _, name in ipairs(image:names()) do tensors[name] = image[name] end
    for i = 0, 2 do
        local block = "transformer.resblocks." .. i .. "."
        for _, ln in ipairs { "ln_1", "ln_2" } do
            text(block .. ln .. ".weight", 4)
            text(block .. ln .. ".bias", 4)
        end
        text(block .. "attn.in_proj_weight", 12, 4)
        text(block .. "attn.in_proj_bias", 12)
        text(block .. "attn.out_proj.weight", 4, 4)
        text(block .. "attn.out_proj.bias", 4)
        text(block .. "mlp.c_fc.weight", 16, 4)
        text(block .. "mlp.c_fc.bias", 16)
        text(block .. "mlp.c_proj.weight", 4, 16)
        text(block .. "mlp.c_proj.bias", 4)
    end
    text("token_embedding.weight", 20, 4)
    text("positional_embedding", 5, 4)
    text("ln_final.weight", 4)
    text("ln_final.bias", 4)
    text("text_projection", 4, 6)
    tensors.logit_scale = distac.tensor(4.6052)
    local named = {}
    for name, t in pairs(tensors) do named[(prefix or "") .. name] = dtype and t:to(dtype) or t end
    return named, vit
end

local FACTS = { ["vit.activation"] = "gelu", ["vit.heads"] = "2", ["text.activation"] = "gelu",
                ["text.heads"] = "2" }

local function same(a, b)
    assert.same(a:names(), b:names())
    for _, name in ipairs(a:names()) do helper.same(a[name], b[name]) end
end

describe("a CLIP checkpoint", function()
    setup(function()
        root = tiny.folder()
        distac.save(at "canonical.safetensors", (clip(1)), { metadata = FACTS })
        distac.save(at "prefixed.safetensors", (clip(1, "module.model.")))
        distac.save(at "hf.safetensors", (clip(1)), { metadata = FACTS, layout = "hf" })
    end)
    teardown(function() tiny.remove(root) end)

    it("has canonical names whoever published it", function()
        local canonical = distac.load(at "canonical.safetensors")
        assert.equal("open_clip", canonical:layout())
        assert.equal("", canonical:prefix())
        same(canonical, distac.load(at "hf.safetensors"))
        same(canonical, distac.load(at "prefixed.safetensors"))
        local file = distac.load(at "prefixed.safetensors", { layout = "file" })
        assert.equal("module.model.", file:prefix())
        assert.is_true(file:has "module.model.visual.proj")
        local hf = distac.load(at "canonical.safetensors", { layout = "hf" })
        assert.equal("hf", hf:layout())
        same(hf, distac.load(at "hf.safetensors", { layout = "file" }))
        assert.same({ 8, 8 }, hf["vision_model.encoder.layers.1.self_attn.k_proj.weight"]:shape())
        assert.equal("pt", distac.load(at "hf.safetensors"):metadata "format")
        raises("ENOTFOUND", { "hg", "hf" }, distac.load, at "hf.safetensors", { layout = "hg" })
        raises("ENOTFOUND", { "hg", "hf" }, distac.save, at "x.safetensors", canonical, { layout = "hg" })
        assert.is_nil(distac.fs.kind(at "x.safetensors"))
    end)

    it("has open_clip's other names where its text tower is a module of its own", function()
        local canonical = distac.load(at "canonical.safetensors")
        distac.save(at "custom.safetensors", canonical, { layout = "custom_text" })
        local file = distac.load(at "custom.safetensors", { layout = "file" })
        assert.equal("custom_text", file:layout())
        assert.is_true(file:has "text.ln_final.bias" and file:has "visual.proj" and file:has "logit_scale")
        assert.is_false(file:has "ln_final.bias" or file:has "text.logit_scale")
        same(canonical, distac.load(at "custom.safetensors"))
        same(distac.load(at "hf.safetensors", { layout = "file" }), file:convert "hf")
        -- An image tower alone is the canonical one's, a text tower alone the other's, of a foreign model
        -- neither's.
        local image, text, foreign = {}, {}, { ["visual.trunk.stem.weight"] = distac.ones { 1 } }
        for _, name in ipairs(file:names()) do
            if name:find "^visual" then image[name] = file[name] end
            if name:find "^text" then text[name], foreign[name] = file[name], file[name] end
        end
        assert.equal("open_clip", distac.checkpoint(image):layout())
        assert.equal("custom_text", distac.checkpoint(text):layout())
        assert.equal("plain", distac.checkpoint(foreign):layout())
    end)

    it("tells its architecture", function()
        local c = distac.load(at "hf.safetensors", { layout = "file" }):clip()
        assert.equal("8 4 3 8 2 12 6 20 5 4 3 16 6 1", table.concat({ c.image, c.patch, c.channels, c.width,
            c.layers, c.mlp, c.dim, c.vocab, c.context, c.text_width, c.text_layers, c.text_mlp, c.text_dim,
            c.scale }, " ")
            :gsub("%.0", ""))
    end)

    it("leaves other files alone", function()
        distac.save(at "other.safetensors", { a = distac.ones { 2 }, ["text_model.x"] = distac.ones { 1 } })
        local ck = distac.load(at "other.safetensors")
        assert.equal("plain", ck:layout())
        assert.same({ "a", "text_model.x" }, ck:names())
        raises("EUNSUPPORTED", { "no CLIP model", "layout open_clip" }, distac.load, at "other.safetensors",
            { layout = "open_clip" })
    end)

    it("runs in any layout, its text tower ignored, in half precision too", function()
        local tensors, vit = clip(1)
        local images = distac.randn({ 2, 3, 8, 8 }, { seed = 3 })
        local expected = vit:features(images)
        for _, file in ipairs { "canonical", "hf" } do
            for _, layout in ipairs { "file", "hf", "open_clip" } do
                local model = distac.vit(distac.load(at(file .. ".safetensors"), { layout = layout }))
                near(model:features(images), expected, 0)
                assert.equal("gelu", model:config().activation)
            end
        end
        local prefixed = distac.load(at "prefixed.safetensors", { layout = "file" })
        raises("EINVAL", { "activation =", "--activation", "config.json" }, distac.vit, prefixed, { heads = 2 })
        near(distac.vit(prefixed, { activation = "gelu", heads = 2 }):features(images), expected, 0)
        local mixed = {}
        for name, t in pairs(tensors) do
            mixed["model." .. name] = name:find "ln_" and t or t:to "f16"
        end
        mixed["model.input_resolution"] = distac.tensor(8, { dtype = "i64" })
        distac.save(at "mixed.safetensors", mixed)
        local half = distac.vit(distac.load(at "mixed.safetensors"), { activation = "gelu", heads = 2 })
        near(half:features(images), expected, 0.02)
        local other = distac.vit { image = 8, patch = 4, width = 8, layers = 2, heads = 2, mlp = 12, dim = 6,
            activation = "gelu" }
        other:load(distac.load(at "hf.safetensors", { layout = "file" }))
        near(other:features(images), expected, 0)
    end)

    it("takes from its base what it was published without", function()
        local tower = {}
        local hf = distac.load(at "hf.safetensors", { layout = "file" })
        for _, name in ipairs(hf:names()) do
            if name:find "^vision_model" then tower[name] = hf[name] end
        end
        distac.save(at "tower.safetensors", tower)
        local base = distac.load(at "canonical.safetensors")
        raises("ENOTFOUND", { "no projection", "missing = BASE" }, distac.vit, distac.load(at "tower.safetensors"),
            { activation = "gelu", heads = 2 })
        same(base, distac.load(at "tower.safetensors", { missing = base }))
        raises("EINVAL", { "missing", "Checkpoint" }, distac.load, at "tower.safetensors", { missing = "base" })
        -- A hole in the tower is no missing whole.
        tower["vision_model.encoder.layers.1.mlp.fc1.bias"] = nil
        distac.save(at "hole.safetensors", tower)
        raises("ENOTFOUND", { "vision_model.encoder.layers.1.mlp.fc1.bias",
            "visual.transformer.resblocks.1.mlp.c_fc.bias", "is missing" }, distac.load, at "hole.safetensors",
            { missing = base })
    end)

    it("is converted by the command line", function()
        assert.equal(0, (run("convert", "canonical.safetensors", "model", "--to", "hf")))
        assert.same({ "config.json", "model.safetensors" }, distac.fs.list(at "model"))
        local config = json.decode(tiny.read(at "model/config.json"))
        assert.equal("CLIPModel", config.architectures[1])
        assert.equal("gelu", config.vision_config.hidden_act)
        assert.equal(2, config.text_config.num_attention_heads)
        assert.equal(19, config.text_config.eos_token_id)
        assert.equal(6, config.projection_dim)
        same(distac.load(at "canonical.safetensors"), distac.load(at "model"))
        assert.equal("gelu", distac.load(at "model"):metadata "vit.activation")
        assert.equal(0, (run("convert", "model", "parts", "--to", "hf", "--shard", "1.5kB")))
        assert.is_true(#distac.fs.list(at "parts") > 4)
        same(distac.load(at "model"), distac.load(at "parts"))
        assert.equal(0, (run("convert", "parts/model.safetensors.index.json", "back.safetensors", "--to",
            "open_clip", "--dtype", "f16")))
        assert.equal("f16", distac.load(at "back.safetensors")["visual.proj"]:dtype())
        local status, out = run("convert", "--json", "prefixed.safetensors", "plain.safetensors")
        assert.equal(0, status)
        assert.equal("open_clip", json.decode(out).from)
        assert.is_true(distac.load(at "plain.safetensors", { layout = "file" }):has "module.model.visual.proj")
        for _, name in ipairs(distac.fs.list(root)) do assert.is_nil(name:find("distac-tmp", 1, true), name) end
    end)

    local function refused(status, piece, ...) tiny.refused(root, status, piece, { ... }) end

    it("is not converted by guesses or over other things", function()
        refused(1, "--activation", "convert", "prefixed.safetensors", "new", "--to", "hf", "--attention-heads",
            "2", "--text-heads", "2")
        refused(1, "--attention-heads", "convert", "prefixed.safetensors", "new", "--to", "hf", "--activation",
            "gelu")
        refused(2, "vit.activation = gelu", "convert", "canonical.safetensors", "new", "--to", "hf",
            "--activation", "quick_gelu")
        refused(2, "wanted gelu or quick_gelu", "convert", "prefixed.safetensors", "new", "--to", "hf",
            "--activation", "relu")
        refused(2, "did you mean", "convert", "prefixed.safetensors", "new", "--to", "open_clap")
        refused(2, "--shard writes a folder", "convert", "prefixed.safetensors", "new.safetensors", "--shard",
            "1GB")
        refused(2, "'1 potato'", "convert", "canonical.safetensors", "new", "--to", "hf", "--shard",
            "1 potato")
        refused(2, "writes a folder", "convert", "canonical.safetensors", "new.safetensors", "--to", "hf")
        refused(2, "no CLIP model", "convert", "other.safetensors", "new.safetensors", "--to", "open_clip")
        distac.fs.make(at "mine")
        distac.fs.write(at "mine/notes.txt", "keep")
        refused(2, "notes.txt", "convert", "canonical.safetensors", "mine", "--to", "hf", "--force")
        refused(2, "no model's folder", "convert", "mine", "new.safetensors")
        distac.fs.make(at "again")
        assert.equal(0, (run("convert", "canonical.safetensors", "again", "--to", "hf")))
        refused(2, "--force replaces it", "convert", "canonical.safetensors", "again", "--to", "hf")
        assert.equal(0, (run("convert", "canonical.safetensors", "again", "--to", "hf", "--force", "--shard",
            "2kB")))
        assert.is_nil(distac.fs.kind(at "again/model.safetensors"))
        same(distac.load(at "canonical.safetensors"), distac.load(at "again"))
    end)

    it("says what an incomplete file lacks", function()
        local visual = {}
        local ck = distac.load(at "canonical.safetensors")
        for _, name in ipairs(ck:names()) do
            if name:find "^visual%." then visual[name] = ck[name] end
        end
        distac.save(at "visual.safetensors", visual,
            { metadata = { ["vit.activation"] = "gelu", ["vit.heads"] = "2" } })
        local status, out = run("convert", "visual.safetensors", "vision", "--to", "hf")
        assert.equal(0, status)
        assert.truthy(out:find("CLIPVisionModelWithProjection", 1, true))
        status, out = run("convert", "vision", "vision.safetensors", "--to", "open_clip")
        assert.equal(0, status)
        assert.truthy(out:find("the text tower, logit_scale are not in it", 1, true), out)
        same(distac.load(at "visual.safetensors"), distac.load(at "vision.safetensors"))
    end)

    it("says what a file holds beyond a model", function()
        local tensors = clip(1, "image_encoder.model.")
        tensors["classification_head.weight"] = distac.ones { 3, 6 }
        distac.save(at "classifier.safetensors", tensors)
        local status, out = run("convert", "classifier.safetensors", "beyond.safetensors", "--to", "open_clip")
        assert.equal(0, status)
        assert.truthy(out:find("1 tensors more than a CLIP model has: classification_head.weight", 1, true), out)
        local ck = distac.load(at "beyond.safetensors", { layout = "file" })
        assert.is_true(ck:has "classification_head.weight")
        assert.is_true(ck:has "visual.proj")
        status, out = run("convert", "canonical.safetensors", "beyond.safetensors", "--to", "open_clip", "--force")
        assert.equal(0, status)
        assert.is_nil(out:find("more than", 1, true))
    end)

    it("is shown as what it is", function()
        local status, out = run("inspect", "--json", "prefixed.safetensors")
        assert.equal(0, status)
        local file = json.decode(out)
        assert.equal("module.model.", file.clip.prefix)
        assert.equal(8, file.clip.image.width)
        assert.is_nil(file.clip.image.activation)
        status, out = run("inspect", "model")
        assert.equal(0, status)
        for _, piece in ipairs { "layout hf", "ViT 3x8x8, patch 4, width 8, 2 layers, 2 heads", "activation gelu",
                                 "text tower: 20 tokens, context 5" } do
            assert.truthy(out:find(piece, 1, true), out .. " lacks " .. piece)
        end
        status, out = run("inspect", "hole.safetensors")
        assert.equal(0, status)
        assert.truthy(out:find("vision_model.encoder.layers.1.mlp.fc1.bias", 1, true))
        assert.equal(2, (run("inspect", "mine")))
    end)

    it("is merged into its base's names, by its canonical form", function()
        local models = {}
        for i = 2, 3 do
            local tensors = clip(i)
            distac.save(at("m" .. i .. ".safetensors"), tensors)
            distac.save(at("h" .. i .. ".safetensors"), tensors, { layout = "hf" })
            models[i] = distac.load(at("m" .. i .. ".safetensors"))
        end
        for _, method in ipairs { "task_arithmetic", "ties", "tsvm" } do
            assert.equal(0, (run("merge", "--force", "--base", "canonical.safetensors", "--method", method, "-o",
                "one.safetensors", "m2.safetensors", "m3.safetensors")))
            local status, _, err = run("merge", "--force", "--base", "hf.safetensors", "--method", method, "-o",
                "two.safetensors", "h2.safetensors", "m3.safetensors")
            assert.equal(0, status, err)
            assert.equal("hf", distac.load(at "two.safetensors", { layout = "file" }):layout())
            same(distac.load(at "one.safetensors"), distac.load(at "two.safetensors"))
            assert.equal(method, json.decode(distac.load(at "two.safetensors"):metadata "distac.method").name)
        end
        assert.equal(0, (run("merge", "--base", "hf.safetensors", "--method", "tsvm", "--to", "open_clip", "-o",
            "three.safetensors", "h2.safetensors", "h3.safetensors")))
        same(distac.load(at "one.safetensors"), distac.load(at "three.safetensors", { layout = "file" }))
        assert.equal(0, (run("merge", "--base", "model", "--method", "average", "--missing-from-base", "-o",
            "four.safetensors", "tower.safetensors")))
        same(distac.load(at "canonical.safetensors"), distac.load(at "four.safetensors"))
        refused(1, "missing in tower.safetensors", "merge", "--base", "model", "--method", "average", "-o",
            "five.safetensors", "tower.safetensors")
        refused(2, "did you mean", "merge", "--base", "model", "--method", "average", "--to", "hff", "-o",
            "five.safetensors", "h2.safetensors")
        refused(2, "no CLIP model", "merge", "--base", "other.safetensors", "--method", "average", "--to", "hf",
            "-o", "five.safetensors", "other.safetensors")
    end)

    it("has one hash, in one file or several", function()
        assert.equal(distac.hash.file(at "hf.safetensors"), distac.hash.model(at "hf.safetensors"))
        local before = distac.hash.model(at "parts")
        assert.equal(64, #before)
        assert.not_equal(before, distac.hash.model(at "model"))
        distac.fs.write(at "parts/config.json", tiny.read(at "parts/config.json") .. " ")
        assert.not_equal(before, distac.hash.model(at "parts"))
    end)
end)
