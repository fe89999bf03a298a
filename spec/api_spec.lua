-- The Lua API as a user meets it: the names that are promised, and the promised example from start to end.
local distac = require "distac"
local helper = require "spec.helper"
local near = helper.near

describe("the module", function()
    it("has the promised names", function()
        for _, name in ipairs { "zeros", "ones", "randn", "arange", "load", "save", "vit", "head",
            "kd_step", "finetune_step", "adamw", "loader", "taskvector", "checkpoint", "devices", "configure",
            "metrics", "plot", "rng", "events", "cancel", "matmul", "full", "rand", "eye" } do
            assert.equal("function", type(distac[name]), name)
        end
        for _, name in ipairs { "merge", "image", "dataset", "loss", "fs", "hash", "paths", "errors",
            "schedule", "tensor" } do
            assert.equal("table", type(distac[name]), name)
        end
        assert.equal("string", type(distac.version))
        assert.is_nil(distac.no_such_name)
    end)

    it("makes tensors by calling distac.tensor and by its fields", function()
        assert.same({ 2, 3 }, distac.tensor { { 1, 2, 3 }, { 4, 5, 6 } }:shape())
        assert.equal(5, distac.tensor(5):item())
        assert.same({ 2, 3 }, distac.tensor.zeros { 2, 3 }:shape())
        near(distac.tensor.ones({ 2, 3 }, { dtype = "float64" }):sum():item(), 6, 0)
        near(distac.tensor.randn({ 2, 3 }, { seed = 1 }):table()[2],
            distac.randn({ 2, 3 }, { seed = 1 }):table()[2],
            0)
        near(distac.tensor.arange(1, 7, 2):table(), { 1, 3, 5 }, 0)
        near(distac.arange({ 3 }, { dtype = "i64" }):table(), { 0, 1, 2 }, 0)
        local ok, err = pcall(function() return distac.tensor.zeroes { 2 } end)
        assert.is_false(ok)
        assert.truthy(err.message:find('did you mean "zeros"?', 1, true))
        ok, err = pcall(function() return distac.loss.crossentropy {} end)
        assert.is_false(ok)
        assert.equal("ENOTFOUND", err.code)
        assert.truthy(err.message:find('distac.loss: no function "crossentropy"; did you mean "cross_entropy"?', 1,
            true))
    end)

    it("names the function, the argument, what came and what was wanted for images of another size", function()
        local model = distac.vit { image = 8, patch = 4, channels = 1, width = 8, layers = 1, heads = 2, dim = 4,
            seed = 1 }
        for _, shape in ipairs { { 2, 3, 8, 8 }, { 1, 8, 8 }, { 2, 1, 8, 9 } } do
            local images = distac.zeros(shape)
            local ok, err = pcall(model.features, model, images)
            assert.is_false(ok)
            assert.equal("ESHAPE", err.code)
            assert.equal("Model:features: images: wanted a Tensor [B,1,8,8], got a "
                .. tostring(images):match "[^\n]+",
                err.message)
        end
    end)

    it("says which devices there are when one is not", function()
        local ok, err = pcall(function() return distac.zeros({ 2 }):to "cuda:7" end)
        assert.is_false(ok)
        assert.equal("EDEVICE", err.code)
        assert.truthy(err.message:find("there is 'cpu'", 1, true))
    end)

    it("says what a value is", function()
        assert.equal("Rng of seed 3, stream 0", tostring(distac.rng(3)))
        assert.truthy(tostring(distac.devices()[1]):find("^Device cpu: ."))
        local ds = distac.dataset.tensors(distac.zeros({ 5, 1, 2, 2 }, { dtype = "u8" }))
        assert.equal("Loader of batches of 2 from 5 images", tostring(distac.loader(ds, { batch = 2 })))
    end)

    it("finds numbers in a checkpoint that are not finite", function()
        local ck = distac.checkpoint { a = distac.tensor { 1, 2 },
            b = distac.tensor { { 1, 2 }, { 1 / 0, 0 / 0 } },
            c = distac.tensor({ 1 }, { dtype = "i64" }) }
        local bad = ck:nonfinite()
        assert.equal(1, #bad)
        assert.equal("b", bad[1].name)
        near({ bad[1].count, bad[1].first }, { 2, 3 }, 0)
        local ok, err = pcall(function() ck:check_finite "it" end)
        assert.is_false(ok)
        assert.equal("ENUMERIC", err.code)
        assert.equal('it: tensor "b", element 2 is inf', err.message)
    end)

    it("finds the files that come along", function()
        assert.equal("folder", distac.fs.kind(distac.paths.mini8))
    end)

    it("loads recipes when they are asked for", function()
        assert.is_truthy(distac.grid)
        assert.is_truthy(distac.recipe)
    end)
end)

describe("the promised example", function()
    local function path(name)
        return helper.path("example_" .. name .. ".safetensors")
    end

    local function write_models()
        local base = distac.vit { image = 8, patch = 4, channels = 1, width = 8, layers = 1, heads = 2, dim = 4,
            seed = 1 }
        distac.save(path "base", base)
        for i, name in ipairs { "mnist", "letters" } do
            local model = base:clone()
            model:params():copy(base:params() + 0.05 * distac.randn({ base:numel() }, { seed = 10 + i }))
            distac.save(path(name), model)
        end
    end

    it("conditions a task vector and merges it", function()
        write_models()
        local base = distac.load(path "base")
        assert.equal("tensor", distac.type(base["visual.proj"]))
        local tau = distac.load(path "mnist") - base
        local tau2 = distac.load(path "letters") - base
        assert.is_true(tau:norm() > 0)
        near((0.3 * tau):norm(), 0.3 * tau:norm(), 1e-6)
        assert.equal("taskvector", distac.type(tau + tau2))

        local model = distac.vit(base)
        local head = distac.head(10 * distac.randn({ 3, 4 }, { seed = 3 }))
        local teacher, student = model:with(base + tau), model:with(base + 0.5 * tau)
        local images = distac.zeros({ 12, 1, 8, 8 }, { dtype = "u8" })
        images:copy(distac.rand({ 12, 1, 8, 8 }, { seed = 4 }) * 255)
        local ds = distac.dataset.tensors(images)
        local loader = distac.loader(ds, { batch = 6, seed = 0 })
        local step = distac.kd_step { teacher = teacher, student = student, head = head,
            temperature = { teacher = 1, student = 10 }, beta = 0.5, optimizer = distac.adamw { lr = 1e-2 } }
        local first, last
        for batch in loader:batches(40) do
            local loss = step(batch.images)
            first, last = first or loss, loss
        end
        assert.is_true(last < first)
        local before = distac.metrics(ds:logits(teacher, head)).entropy
        local after = distac.metrics(ds:logits(student, head)).entropy
        assert.is_true(after < before)

        local conditioned = student:checkpoint() - base
        local merged = distac.merge.tsvm { lambda = 0.4 } (base, { conditioned, tau2 })
        distac.save(path "merged", merged)
        local again = distac.vit(distac.load(path "merged"))
        assert.same(model:config(), again:config())
        local features = again:features(ds:images())
        assert.same({ 12, 4 }, features:shape())
        assert.equal(0, (features:nonfinite()))
    end)

    it("gives the same bits on any number of threads", function()
        write_models()
        local function run(threads)
            distac.configure { threads = threads }
            local base = distac.load(path "base")
            local model, head = distac.vit(base), distac.head(distac.randn({ 3, 4 }, { seed = 3 }))
            local step = distac.finetune_step { model = model, head = head,
                optimizer = distac.adamw { lr = 1e-2 } }
            local images, labels = distac.randn({ 33, 1, 8, 8 }, { seed = 5 }), {}
            for i = 1, 33 do
                labels[i] = i % 3
            end
            for _ = 1, 5 do
                step(images, labels)
            end
            local tau = model:checkpoint() - base
            return distac.merge.tsvm {} (base, { tau, distac.load(path "mnist") - base })
        end
        local one = run(1)
        for _, threads in ipairs { 2, 3, 8 } do
            local other = run(threads)
            for _, name in ipairs(one:names()) do
                helper.same(other[name], one[name])
            end
        end
        distac.configure { threads = 0 }
    end)
end)
