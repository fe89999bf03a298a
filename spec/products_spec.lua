local distac = require "distac"

local config = { image = 16, patch = 4, channels = 1, width = 64, layers = 3, heads = 2, mlp = 256, dim = 32,
                 activation = "quick_gelu", seed = 5 }

-- Features of fresh weights, and the losses of 30 steps of training them, with these products.
local function run(products)
    distac.configure { products = products }
    local model = distac.vit(config)
    local images = distac.randn({ 24, 1, 16, 16 }, { seed = 2 })
    local head = distac.head(distac.randn({ 6, 32 }, { seed = 3 }))
    local list = {}
    for i = 1, 24 do list[i] = i % 6 end
    local labels = distac.tensor(list, { dtype = "i64" })
    local features = model:features(images):table()
    local step = distac.finetune_step { model = model, head = head, loss = distac.loss.cross_entropy {},
                                        optimizer = distac.adamw { lr = 1e-3 } }
    local losses, norms = {}, {}
    for i = 1, 30 do
        local _, stats = step(images, labels)
        losses[i], norms[i] = stats.loss, stats.grad_norm
    end
    return { features = features, losses = losses, norms = norms, info = distac.context_info() }
end

describe("bfloat16 products", function()
    local f32, bf16
    setup(function() f32, bf16 = run "f32", run "bf16" end)
    teardown(function() distac.configure { products = "f32" } end)

    it("are named in the context's facts", function()
        assert.are.equal("f32", f32.info.products)
        assert.is_truthy(bf16.info.products:find "^bf16")
    end)

    it("give features near those of f32, and not the same", function()
        local difference, size = 0, 0
        for i, row in ipairs(f32.features) do
            for j, want in ipairs(row) do
                difference = difference + (bf16.features[i][j] - want) ^ 2
                size = size + want ^ 2
            end
        end
        local relative = math.sqrt(difference / size)
        assert.is_true(relative > 1e-5, "nothing was rounded: " .. relative)
        assert.is_true(relative < 1e-2, "features differ by " .. relative)
    end)

    it("train to the same loss, with gradients of the same size", function()
        assert.is_true(f32.losses[30] < 0.5 * f32.losses[1])
        for _, i in ipairs { 1, 5, 10 } do
            local want, got = f32.losses[i], bf16.losses[i]
            assert.is_true(math.abs(got - want) <= 0.01 * want, i .. ": " .. got .. " against " .. want)
        end
        assert.is_true(math.abs(bf16.norms[1] - f32.norms[1]) <= 0.02 * f32.norms[1])
        assert.is_true(bf16.losses[30] < 0.5 * bf16.losses[1])
    end)

    it("make stages of their own", function()
        local keys = {}
        for _, products in ipairs { "f32", "bf16" } do
            distac.configure { products = products }
            keys[#keys + 1] = require "distac.stages".open(os.tmpname() .. ".d"):key { a = 1 }
        end
        assert.are_not.equal(keys[1], keys[2])
    end)

    it("refuse other names", function()
        local ok, err = pcall(distac.configure, { products = "fp8" })
        assert.is_false(ok)
        assert.is_truthy(tostring(err.message or err):find "bf16")
    end)
end)
