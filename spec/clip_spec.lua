-- CLIP against PyTorch in every naming: spec/golden/make_clip.py made the files with transformers and open_clip,
-- which agree to 1e-12 in float64. float64 here is held to 1e-9; float32 to 2e-5 on normalised features and to
-- 1e-4 of its tensor's norm on every gradient.
local distac = require "distac"
local helper = require "spec.helper"

local FOLDER = "spec/golden/clip/"
local LIMITS = { f32 = { feature = 2e-5, gradient = 1e-4 }, f64 = { feature = 1e-9, gradient = 1e-9 } }

local function normalised(features)
    local rows, f = {}, features:to "f64"
    for i = 1, f:shape()[1] do
        local row = f[i]
        rows[i] = (row / row:norm():item()):table()
    end
    return rows
end

-- The largest difference of two lists of lists; NaN if there is one.
local function furthest(a, b)
    local largest = 0
    assert.equal(#b, #a)
    for i, row in ipairs(b) do
        assert.equal(#row, #a[i])
        for j, value in ipairs(row) do
            local gap = math.abs(a[i][j] - value)
            if not (gap <= largest) then largest = gap end
        end
    end
    return largest
end

-- The gradient furthest from PyTorch's, relative to its tensor's norm: name, distance, number of tensors.
local function worst(got, all, label)
    local largest, where, count = 0, "nothing compared", 0
    for _, name in ipairs(all:names()) do
        local ours = name:match("^" .. label .. "%.(visual%..*)$")
        if ours then
            local want = all[name]
            local d = (got[ours]:to "f64" - want):norm():item() / want:norm():item()
            count = count + 1
            if not (d <= largest) then largest, where = d, ours end
        end
    end
    return where, largest, count
end

local function check(model, all, dtype)
    local limit, meta = LIMITS[dtype], all:metadata()
    local images, head = all.images:to(dtype), distac.head(all.head:to(dtype))
    local features = model:forward(images)
    assert.is_true(furthest(normalised(model:features(images)), normalised(all.features)) <= limit.feature)
    assert.is_true(furthest(normalised(features), normalised(all.features)) <= limit.feature)
    local losses = {
        ce = distac.loss.cross_entropy { label_smoothing = tonumber(meta.label_smoothing) },
        kd = distac.loss.kd { temperature = { teacher = tonumber(meta.t_teacher),
            student = tonumber(meta.t_student) } },
    }
    for _, label in ipairs { "ce", "kd" } do
        local value, dlogits
        if label == "ce" then
            value, dlogits = losses.ce(head:logits(features), all.labels)
        else
            value, dlogits = losses.kd(all.teacher:to(dtype), head:logits(features))
        end
        local want = all[label .. ".loss"]:item()
        assert.is_true(math.abs(value - want) <= limit.gradient * math.abs(want))
        local grads = model:named(model:backward(head:backward(features, dlogits)))
        local where, distance, count = worst(grads, all, label)
        assert.equal(#model:names(), count)
        assert(distance <= limit.gradient, string.format("%s gradient of %s is off by %.3g", label, where,
            distance))
    end
end

local FILES = {
    { name = "open_clip's naming", path = "open_clip.safetensors", text = true },
    { name = "open_clip's naming with a text tower apart", path = "custom_text.safetensors", text = true },
    { name = "transformers' naming", path = "hf/model.safetensors", text = true },
    { name = "transformers' folder", path = "hf", text = true },
    { name = "OpenAI's archive in half precision", path = "openai.pt", text = true },
    { name = "prefixed naming without text blocks", path = "prefixed.safetensors" },
}

for _, activation in ipairs { "quick_gelu", "gelu" } do
    describe("CLIP by PyTorch, " .. activation, function()
        local all = distac.load(FOLDER .. "expected_" .. activation .. ".safetensors")
        for _, file in ipairs(FILES) do
            for _, dtype in ipairs { "f32", "f64" } do
                local options = { activation = activation, heads = 2, dtype = dtype }
                it("from " .. file.name .. ", " .. dtype .. ": features and every gradient", function()
                    check(distac.vit(distac.load(FOLDER .. file.path), options), all, dtype)
                end)
                if file.text then
                    it("from " .. file.name .. ", " .. dtype .. ": text features", function()
                        local text = distac.text(distac.load(FOLDER .. file.path), options)
                        local got = normalised(text:features(all.tokens))
                        assert.is_true(furthest(got, normalised(all.text_features)) <= LIMITS[dtype].feature)
                    end)
                end
            end
        end

        it("with activations computed again", function()
            local ck = distac.load(FOLDER .. "open_clip.safetensors")
            local model = distac.vit(ck, { activation = activation, heads = 2, dtype = "f64" })
            check(model:recompute(true), all, "f64")
        end)
    end)
end

describe("one CLIP under many names", function()
    local reference = distac.load(FOLDER .. "open_clip.safetensors")

    for _, file in ipairs(FILES) do
        it("is the same weights from " .. file.name, function()
            local ck, count = distac.load(FOLDER .. file.path), 0
            for _, name in ipairs(ck:names()) do
                if reference:has(name) then
                    assert.is_true(ck[name]:to("f32"):equal(reference[name]))
                    count = count + 1
                end
            end
            assert.equal(file.text and #reference or 38, count)
        end)
    end

    it("knows heads and activation from transformers' configuration", function()
        local ck = distac.load(FOLDER .. "hf")
        local config = distac.vit(ck):config()
        assert.same({ 2, "quick_gelu" }, { config.heads, config.activation })
        assert.equal(2, distac.text(ck):config().heads)
    end)

    it("says what it needs where a file cannot tell", function()
        for _, path in ipairs { "open_clip.safetensors", "hf/model.safetensors", "openai.pt" } do
            helper.raises("EINVAL", "vit.activation", distac.vit, distac.load(FOLDER .. path), { heads = 2 })
            helper.raises("EINVAL", "text.activation", distac.text, distac.load(FOLDER .. path), { heads = 2 })
        end
    end)

    it("has no text encoder where its blocks are missing", function()
        local ck = distac.load(FOLDER .. "prefixed.safetensors")
        helper.raises("ENOTFOUND", "transformer.resblocks.0", distac.text, ck, { activation = "gelu", heads = 2 })
    end)
end)

describe("the comparison with PyTorch", function()
    local all = distac.load(FOLDER .. "expected_gelu.safetensors")
    local ck = distac.load(FOLDER .. "open_clip.safetensors")

    it("sees the other activation", function()
        local model = distac.vit(ck, { activation = "quick_gelu", heads = 2 })
        assert.is_false(pcall(check, model, all, "f32"))
    end)

    it("sees another number of heads", function()
        local model = distac.vit(ck, { activation = "gelu", heads = 4 })
        assert.is_false(pcall(check, model, all, "f32"))
    end)

    it("sees NaN", function()
        local model = distac.vit(ck, { activation = "gelu", heads = 2 })
        model:param("visual.ln_post.bias")[1] = 0 / 0
        assert.is_false(pcall(check, model, all, "f32"))
    end)
end)
