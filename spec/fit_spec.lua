-- distac.fit: a step that fits the memory: which choice is made, and that the step then keeps to what was counted.
local distac = require "distac"
local fit = require "distac.fit"

local SIZES = { image = 28, patch = 7, channels = 1, width = 128, layers = 4, heads = 4, dim = 32, seed = 1 }
local BATCH = 128

local function settings(extra)
    local s = { batch = BATCH }
    for key, value in pairs(extra or {}) do s[key] = value end
    return s
end

local function choice(limit, extra, kind)
    return fit.new(distac.vit(SIZES), limit)(kind or "finetune", settings(extra))
end

describe("a step that fits the memory", function()
    local all = choice(math.huge)
    local again = choice(all.bytes - 1)

    it("keeps everything where there is room", function()
        assert.same({ 0, false, true }, { all.micro, all.recompute, all.fits })
        assert.same({ 0, false, true }, { choice(all.bytes).micro, choice(all.bytes).recompute,
            choice(all.bytes).fits })
    end)

    it("computes activations again before it cuts the batch", function()
        assert.same({ 0, true, true }, { again.micro, again.recompute, again.fits })
        assert.is_true(again.bytes < all.bytes)
        local half = choice(again.bytes - 1)
        assert.same({ BATCH / 2, true, true }, { half.micro, half.recompute, half.fits })
        assert.is_true(half.bytes < again.bytes)
    end)

    it("says when nothing fits", function()
        local none = choice(1000)
        assert.same({ 1, true, false }, { none.micro, none.recompute, none.fits })
    end)

    it("changes nothing that was said", function()
        local said = choice(1000, { micro = 32 })
        assert.same({ 32, true, false }, { said.micro, said.recompute, said.fits })
        said = choice(all.bytes - 1, { recompute = false })
        assert.same({ BATCH / 2, false, true }, { said.micro, said.recompute, said.fits })
        said = choice(math.huge, { recompute = true, micro = 16 })
        assert.same({ 16, true, true }, { said.micro, said.recompute, said.fits })
    end)

    it("leaves the model as it was", function()
        local model = distac.vit(SIZES):recompute(true)
        fit.new(model, math.huge)("finetune", settings())
        assert.is_true(model:recompute())
    end)

    -- The step's own memory: what fit counts besides the base and the model that evaluates, which are not made
    -- here.
    local function peak(kind, micro, recompute)
        local model = distac.vit(SIZES):recompute(recompute)
        local images = distac.randn({ BATCH, 1, 28, 28 }, { seed = 3 })
        local labels = distac.zeros({ BATCH }, { dtype = "i64" })
        local head, optimizer = distac.head(distac.randn({ 10, 32 }, { seed = 2 })), distac.adamw { lr = 1e-3 }
        local teacher = kind == "condition" and distac.vit(SIZES) or nil
        collectgarbage() collectgarbage()
        local before = distac.context_info().memory_used
        distac.reset_peak()
        local step
        if teacher then
            step = distac.kd_step { teacher = teacher, student = model, head = head, optimizer = optimizer,
                temperature = { teacher = 1, student = 10 }, beta = 0.5, micro = micro }
            step(images)
        else
            step = distac.finetune_step { model = model, head = head, optimizer = optimizer, micro = micro }
            step(images, labels)
        end
        local known = (teacher and 2 or 1) * 4 * model:numel() + 4 * BATCH * 28 * 28
        return distac.context_info().memory_peak - before + known
    end

    for _, kind in ipairs { "finetune", "condition" } do
        for _, limit in ipairs { all.bytes * 10, again.bytes, again.bytes / 3 } do
            it("keeps to what was counted: " .. kind .. string.format(" in %.1f MB", limit / 1e6), function()
                local chosen = choice(limit, nil, kind)
                local took = peak(kind, chosen.micro, chosen.recompute)
                assert(took <= chosen.bytes, string.format("took %.0f, counted %.0f", took, chosen.bytes))
                assert.is_true(took > chosen.bytes / 3) -- the count is no empty promise either
            end)
        end
    end
end)
