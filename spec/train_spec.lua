local distac = require "distac"
local helper = require "spec.helper"
local near, raises = helper.near, helper.raises

local function f64(t)
    return distac.tensor(t, { dtype = "f64" })
end

describe("losses", function()
    local z, y = f64 { { 2, 0.5, -1 }, { 0.1, 0.2, 3 } }, { 0, 1 }

    it("have the worked values", function()
        near((distac.loss.cross_entropy {} (z, y)), 1.5754563806, 1e-9)
        local value, grad = distac.loss.cross_entropy { label_smoothing = 0.1 } (z, y)
        near(value, 1.6054563806, 1e-9)
        near(grad[1], { -0.0738681494, 0.0709785294, 0.0028896200 }, 1e-9)
        near((distac.loss.focal { gamma = 2 } (z, y)), 1.3061019791, 1e-9)
        value, grad = distac.loss.focal { gamma = 10 } (z, y)
        near(value, 0.8306739533, 1e-9)
        near(grad[2], { 0.0376878037, -0.7226314260, 0.6849436224 }, 1e-9)
    end)

    it("have the worked distillation values", function()
        local zt, zs = f64 { { 4, 1, -2 }, { 0, 5, 1 } }, z
        local function kd(t, s)
            return distac.loss.kd { temperature = { teacher = t, student = s } } (zt, zs)
        end
        near((kd(10, 10)), 2.5827052476, 1e-9)
        near((kd(1, 1)), 1.4217363546, 1e-9)
        near((kd(2, 5)), 4.7548450670, 1e-9)
        local value, grad = kd(1, 10)
        near(value, 9.1038398392, 1e-9)
        near(grad[1], { -0.2829702317, 0.1417665836, 0.1412036481 }, 1e-9)
    end)

    it("have gradients that agree with finite differences", function()
        local teacher = f64 { { 1, -1, 0.5 }, { 0, 2, -3 } }
        local all = {
            function(x) return distac.loss.cross_entropy {} (x, y) end,
            function(x) return distac.loss.cross_entropy { label_smoothing = 0.3 } (x, y) end,
            function(x) return distac.loss.focal { gamma = 10 } (x, y) end,
            function(x) return distac.loss.focal { gamma = 0.5 } (x, y) end,
            function(x) return distac.loss.kd { temperature = { teacher = 2, student = 7 } } (teacher, x) end,
        }
        for _, loss in ipairs(all) do
            local _, grad = loss(z)
            for i = 1, 2 do
                for j = 1, 3 do
                    local up, down = z:clone(), z:clone()
                    up[{ i, j }], down[{ i, j }] = z[{ i, j }] + 1e-6, z[{ i, j }] - 1e-6
                    near(grad[{ i, j }], ((loss(up)) - (loss(down))) / 2e-6, 1e-7)
                end
            end
        end
    end)

    it("stay finite for logits that are far apart", function()
        local far = f64 { { 1000, -1000 } }
        near((distac.loss.cross_entropy {} (far, { 1 })), 2000, 1e-9)
        local value, grad = distac.loss.kd { temperature = { teacher = 1, student = 1 } } (far, -far)
        near(value, 2000, 1e-9)
        near(grad, { { -1, 1 } }, 1e-12)
    end)

    it("refuse what makes no sense", function()
        raises("EINVAL", { "label_smooth", 'did you mean "label_smoothing"?' }, distac.loss.cross_entropy,
            { label_smooth = 0.1 })
        raises("EINVAL", { "label_smoothing", "got the number 1" }, distac.loss.cross_entropy,
            { label_smoothing = 1 })
        raises("EINVAL", { "gamma", "-1" }, distac.loss.focal, { gamma = -1 })
        raises("EINVAL", { "temperature.student", "above 0" }, distac.loss.kd,
            { temperature = { teacher = 1, student = 0 } })
        raises("EINVAL", "3", distac.loss.cross_entropy {}, z, { 0, 3 })
        raises("ESHAPE", {}, distac.loss.cross_entropy {}, z, { 0, 1, 2 })
        raises("EINVAL", "logits", distac.loss.cross_entropy {}, nil, y)
    end)
end)

describe("AdamW", function()
    it("has the worked steps", function()
        local opt = distac.adamw { lr = 0.1, weight_decay = 0.1, clip = 0 }
        local theta = f64 { 1, -2, 0.5 }
        near(opt:step(theta, f64 { 0.1, -0.2, 0 }), math.sqrt(0.05), 1e-12)
        near(theta, { 0.89000001, -1.880000005, 0.495 }, 1e-9)
        opt:step(theta, f64 { 0.3, 0.1, 0 })
        near(theta, { 0.7893219021, -1.8345663027, 0.49005 }, 1e-9)
        assert.equal(2, opt:steps())
        local plain = f64 { 1, -2, 0.5 }
        distac.adamw { lr = 0.1, weight_decay = 0.1, clip = 0, coupled = true }:step(plain, f64 { 0.1, -0.2, 0 })
        near(plain, { 0.900000005, -1.9000000025, 0.40000002 }, 1e-9)
    end)

    it("cuts long gradients", function()
        local a, b = f64 { 1, 1 }, f64 { 1, 1 }
        local oa, ob = distac.adamw { lr = 0.1, clip = 1 }, distac.adamw { lr = 0.1, clip = 0 }
        near(oa:step(a, f64 { 30, 40 }), 50, 1e-12)
        ob:step(b, f64 { 30 / (50 + 1e-6), 40 / (50 + 1e-6) })
        near(oa:state().m, ob:state().m, 1e-12)
        near(a, b, 1e-12)
    end)

    it("changes nothing for a gradient that is not finite", function()
        local opt, theta = distac.adamw { lr = 0.1 }, f64 { 1, 2 }
        opt:step(theta, f64 { 1, 1 })
        local before, m = theta:clone(), opt:state().m
        raises("ENUMERIC", {}, function() opt:step(theta, f64 { 1, 0 / 0 }) end)
        helper.same(theta, before)
        helper.same(opt:state().m, m)
        assert.equal(1, opt:steps())
    end)

    it("has the worked schedule", function()
        local expected = { [0] = 5e-8, [99] = 5e-6, [199] = 1e-5, [200] = 1e-5, [650] = 8.535534e-6, [1100] = 5e-6,
            [1550] = 1.464466e-6, [1999] = 7.6154e-12 }
        for step, lr in pairs(expected) do
            near(distac.schedule.cosine(1e-5, step, 200, 2000) / lr, 1, 1e-5)
        end
    end)

    it("refuses what makes no sense", function()
        raises("EINVAL", { 'distac.adamw: unknown option "learning_rate"; did you mean "lr"?' }, distac.adamw,
            { learning_rate = 1 })
        raises("EINVAL", "lr is missing", distac.adamw, {})
        raises("EINVAL", { "lr", "-1" }, distac.adamw, { lr = -1 })
        raises("EINVAL", { "lr", "number" }, distac.adamw, { lr = "1e-5" })
        raises("EINVAL", { "beta2", "below 1" }, distac.adamw, { lr = 1, beta2 = 1 })
        local opt = distac.adamw { lr = 0.1 }
        opt:step(f64 { 1 }, f64 { 1 })
        raises("ESHAPE", {}, function() opt:step(f64 { 1, 2 }, f64 { 1, 2 }) end)
    end)
end)

describe("the fine-tuning step", function()
    it("has the worked update", function()
        local tiny = helper.tiny()
        local step = distac.finetune_step {
            model = tiny.model, head = tiny.head, loss = distac.loss.cross_entropy {},
            optimizer = distac.adamw { lr = 1e-3, weight_decay = 0.1 },
        }
        local loss, stats = step(tiny.images, tiny.labels)
        near(loss, 6.205672538939, 1e-9)
        near(stats.grad_norm, 2.091231382492, 1e-9)
        assert.equal(1, step:steps())
        local conv = tiny.model:param("visual.conv1.weight"):reshape(-1)
        near(conv:narrow(1, 1, 3), { 0.4517927883, 0.4994621863, 0.4796666935 }, 1e-9)
        near(tiny.model:param "visual.ln_post.bias",
            { 0.1562168205, -0.0240404662, -0.2029086391, -0.3541787373 }, 1e-9)
    end)

    it("is the same in micro-batches", function()
        local a, b = helper.tiny(), helper.tiny()
        local function make(t, micro)
            return distac.finetune_step { model = t.model, head = t.head, micro = micro,
                loss = distac.loss.cross_entropy { label_smoothing = 0.1 },
                optimizer = distac.adamw { lr = 1e-3 } }
        end
        local whole, parts = make(a, 0), make(b, 1)
        for _ = 1, 3 do
            local la, lb = whole(a.images, a.labels), parts(b.images, b.labels)
            near(la, lb, 1e-12)
        end
        near(a.model:params(), b.model:params(), 1e-9)
    end)

    it("keeps the bits when activations are computed again", function()
        local a, b = helper.tiny(), helper.tiny()
        b.model:recompute(true)
        for _, t in ipairs { a, b } do
            t.step = distac.finetune_step { model = t.model, head = t.head,
                optimizer = distac.adamw { lr = 1e-3 } }
            t.distil = distac.kd_step { teacher = t.model:clone():init(3), student = t.model, head = t.head,
                beta = 0.5, temperature = { teacher = 1, student = 10 }, optimizer = distac.adamw { lr = 1e-3 } }
        end
        for _ = 1, 3 do
            assert.equal((a.step(a.images, a.labels)), (b.step(b.images, b.labels)))
            assert.equal((a.distil(a.images)), (b.distil(b.images)))
        end
        helper.same(a.model:params(), b.model:params())
    end)

    it("leaves the head alone unless it has an optimizer", function()
        local t = helper.tiny()
        local before = t.head:weight():clone()
        local frozen = distac.finetune_step { model = t.model, head = t.head,
            optimizer = distac.adamw { lr = 1e-3 } }
        frozen(t.images, t.labels)
        helper.same(t.head:weight(), before)
        distac.finetune_step { model = t.model, head = t.head, optimizer = distac.adamw { lr = 1e-3 },
            head_optimizer = distac.adamw { lr = 1e-3 } } (t.images, t.labels)
        assert.is_false(t.head:weight():equal(before))
    end)

    it("continues bit for bit from a saved state", function()
        local function make(t)
            return distac.finetune_step { model = t.model, head = t.head, loss = distac.loss.mixup {}, seed = 11,
                optimizer = distac.adamw { lr = 1e-2, weight_decay = 0.1 },
                head_optimizer = distac.adamw { lr = 1e-3 } }
        end
        local a, b = helper.tiny(), helper.tiny()
        local through, first = make(a), make(b)
        for _ = 1, 6 do
            through(a.images, a.labels)
        end
        for _ = 1, 3 do
            first(b.images, b.labels)
        end
        local path = helper.path "finetune.safetensors"
        distac.save(path, first:state())
        local c = helper.tiny()
        local second = make(c)
        second:restore(distac.load(path), 3)
        assert.equal(3, second:steps())
        for _ = 1, 3 do
            second(c.images, c.labels)
        end
        helper.same(c.model:params(), a.model:params())
        helper.same(c.head:weight(), a.head:weight())
    end)

    it("changes nothing when the images hold NaN", function()
        local t = helper.tiny()
        local step = distac.finetune_step { model = t.model, head = t.head,
            optimizer = distac.adamw { lr = 1e-3 } }
        local before, images = t.model:params():clone(), t.images:clone()
        images[{ 2, 3, 4, 4 }] = 0 / 0
        raises("ENUMERIC", {}, step, images, t.labels)
        helper.same(t.model:params(), before)
        assert.equal(0, step:steps())
    end)

    it("refuses what makes no sense", function()
        local t = helper.tiny()
        raises("EINVAL", "optimizer is missing", distac.finetune_step, { model = t.model, head = t.head })
        raises("EINVAL", { "optimizer", "distac.adamw" }, distac.finetune_step,
            { model = t.model, head = t.head, optimizer = {} })
        raises("EINVAL", { "model", "Model", "Head" }, distac.finetune_step,
            { model = t.head, head = t.head, optimizer = distac.adamw { lr = 1 } })
        local opt = distac.adamw { lr = 1 }
        distac.finetune_step { model = t.model, head = t.head, optimizer = opt }
        raises("ESTATE", "other parameters", distac.finetune_step,
            { model = t.model:clone(), head = t.head, optimizer = opt })
        local step = distac.finetune_step { model = t.model, head = t.head, optimizer = distac.adamw { lr = 1 } }
        raises("ESHAPE", {}, step, t.images, { 1 })
        raises("EINVAL", "labels", step, t.images)
    end)
end)

describe("the distillation step", function()
    local function make(kappa, teacher, student)
        local t = helper.tiny()
        local tau = distac.taskvector(helper.tiny_checkpoint(0.05, 0.53, math.cos))
        t.teacher, t.student = t.model:with(t.base + tau), t.model:with(t.base + kappa * tau)
        t.step = distac.kd_step { teacher = t.teacher, student = t.student, head = t.head, beta = 0.5,
            temperature = { teacher = teacher, student = student }, optimizer = distac.adamw { lr = 1e-3 } }
        return t
    end

    it("has the worked steps for a scaled student", function()
        local t = make(0.5, 10, 10)
        local kd = { 0.0154851426, 0.0023578127, 0.0015125025 }
        local anchor = { 0, 2.8997107e-4, 8.3296333e-4 }
        local norm = { 3.5644791817, 1.5904855583, 1.4706213905 }
        for k = 1, 3 do
            local loss, stats = t.step(t.images)
            near(loss, kd[k], 1e-9)
            near(stats.anchor, anchor[k], 1e-10)
            near(stats.grad_norm, norm[k], 1e-9)
        end
        -- Key biases have no gradient but rounding noise, which AdamW makes steps of: they are left out.
        local change = t.student:params() - t.model:params()
        near(change:norm():item() / (0.5 * 0.857662939), 1.0042, 1e-4)
        for name, part in pairs(t.student:named(change)) do
            if name:match "in_proj_bias$" then
                part:narrow(1, 5, 4):fill(0)
            end
        end
        near(change:norm():item(), 0.427079743028, 1e-9)
        near(t.student:param("visual.proj")[1], { 0.1084932734, -0.0860966583, -0.2743336408 }, 1e-9)
    end)

    it("has the worked steps for confidence", function()
        local t = make(1, 1, 10)
        local kd = { 4.8235247770, 4.7525786305, 4.6967724663 }
        local norm = { 15.6841296001, 12.5753216384, 9.9085005398 }
        for k = 1, 3 do
            local loss, stats = t.step(t.images)
            near(loss, kd[k], 1e-9)
            near(stats.grad_norm, norm[k], 1e-9)
        end
        local function entropy(model)
            return distac.metrics(t.head:logits(model:features(t.images))).entropy
        end
        near(entropy(t.teacher), 2.3807587e-4, 1e-10)
        near(entropy(t.student), 1.4209629e-4, 1e-10)
    end)

    it("takes the teacher's logits instead", function()
        local a, b = make(0.5, 1, 10), make(0.5, 1, 10)
        local logits = b.head:logits(b.teacher:features(b.images))
        local bare = distac.kd_step { student = b.student, head = b.head, beta = 0.5,
            temperature = { teacher = 1, student = 10 }, optimizer = distac.adamw { lr = 1e-3 } }
        near((a.step(a.images)), (bare(b.images, { teacher_logits = logits })), 1e-12)
        near(a.student:params(), b.student:params(), 1e-12)
        raises("ESTATE", "teacher", bare, b.images)
    end)

    it("continues bit for bit from a saved state", function()
        local a, b, c = make(0.5, 1, 10), make(0.5, 1, 10), make(0.5, 1, 10)
        for _ = 1, 6 do
            a.step(a.images, { lr = 2e-3 })
        end
        for _ = 1, 4 do
            b.step(b.images, { lr = 2e-3 })
        end
        local state = b.step:state()
        b.step(b.images, { lr = 1 }) -- the state is a copy
        c.student:params():fill(0.1) -- everything comes from the state
        c.step:restore(state, 4)
        for _ = 1, 2 do
            c.step(c.images, { lr = 2e-3 })
        end
        helper.same(c.student:params(), a.student:params())
        assert.equal(6, c.step:steps())
    end)

    it("refuses what makes no sense", function()
        local t = helper.tiny()
        local function try(changes)
            local o = { teacher = t.model, student = t.model:clone(), head = t.head,
                optimizer = distac.adamw { lr = 1e-3 } }
            for k, v in pairs(changes) do
                o[k] = v
            end
            distac.kd_step(o)
        end
        raises("EINVAL", { "distac.kd_step", "temprature", 'did you mean "temperature"?' }, try,
            { temprature = {} })
        raises("EINVAL", { "temperature.teacher", "above 0" }, try, { temperature = { teacher = 0, student = 1 } })
        raises("EINVAL", { "temperature", "studnt", 'did you mean "student"?' }, try,
            { temperature = { teacher = 1, studnt = 1 } })
        raises("EINVAL", { "beta", "-1" }, try, { beta = -1 })
        raises("EINVAL", { "student", "Tensor" }, try, { student = distac.ones { 1 } })
    end)

    it("leaves no memory behind", function()
        local t = helper.tiny()
        helper.no_leak(function()
            local step = distac.kd_step { teacher = t.model, student = t.model:clone(), head = t.head,
                optimizer = distac.adamw { lr = 1e-3 } }
            step(t.images)
            return step:state()
        end)
    end)
end)

describe("metrics", function()
    it("have the worked entropies", function()
        local m = distac.metrics(f64 { { 2, 0.5, -1 } })
        near(m.entropy, 0.6215846047, 1e-9)
        assert.is_nil(m.accuracy)
        near(distac.metrics(f64 { { 0.1, 0.2, 3 } }).entropy, 0.4051971585, 1e-9)
        m = distac.metrics(f64 { { 2, 0.5, -1 }, { 0.1, 0.2, 3 } }, { 0, 1 })
        near(m.accuracy, 0.5, 0)
        near(m.nll, 1.5754563806, 1e-9)
        assert.equal(2, m.count)
        assert.equal(1, m.correct)
    end)

    it("have the worked calibration", function()
        -- four classes, the first with p, the others share the rest; what lies on an edge of a bin is put below it
        local conf = { 0.95, 0.8999999, 0.85, 0.5999999, 0.55, 0.2999999, 1, 0.6667 }
        local correct = { 1, 1, 0, 1, 0, 0, 1, 1 }
        local rows, labels = {}, {}
        for i, p in ipairs(conf) do
            local rest = p < 1 and math.log((1 - p) / 3) or -1000
            rows[i] = { math.log(p), rest, rest, rest }
            labels[i] = correct[i] == 1 and 0 or 1
        end
        near(distac.metrics(f64(rows), labels).ece, 0.2229125, 1e-6)
        local bins = distac.reliability(f64(rows), labels, 5)
        local ece = 0
        for _, b in ipairs(bins) do
            ece = ece + (b.count > 0 and b.count / 8 * math.abs(b.accuracy - b.confidence) or 0)
        end
        near(ece, 0.1854125, 1e-6)
    end)

    it("have the worked temperature", function()
        local z = f64 { { 4, 1, 0 }, { 3, 2.5, 0 }, { 0, 5, 1 }, { 2, 0, 3 }, { 6, 0, 0 }, { 1, 0, 0.5 } }
        local y = { 0, 1, 1, 0, 0, 2 }
        local t = distac.temperature(z, y)
        near(t, 1.28743, 1e-5)
        near(distac.metrics(z / t, y).nll, 0.59085118, 1e-8)
        near(distac.metrics(z, y).nll, 0.60490881, 1e-8)
    end)
end)
