-- Makes the backbone and the frozen heads of the embedded benchmark:
--
--     distac pretrain.lua [STEPS [FOLDER [SEED]]]        (defaults: 5000, runs/pretrain, 0)
--
-- 1. A tiny ViT learns to tell about a thousand glyphs apart, of scripts that no task uses. Distortions grow
--    with the steps: from the start at full strength the network stays at chance. Every 500 steps the state is
--    saved in FOLDER; the same command continues an interrupted run.
-- 2. A head for each task: class means of the normalised features. They are made worse on purpose, inside their
--    own span, until zero-shot accuracy on validation data is what imperfect text prompts would give; otherwise
--    there would be little left to fine-tune and to merge.
--
-- Writes backbone.safetensors and heads.safetensors beside this script (or into the folder that the engine
-- takes the benchmark from). Everything is a pure function of the sheets, STEPS and SEED.
local distac = require "distac"

local args = arg or {}
local STEPS = tonumber(args[1]) or 5000
local FOLDER = args[2] or "runs/pretrain"
local SEED = tonumber(args[3]) or 0
local HERE = (args[0] or ""):match("^(.*)/[^/]*$") or distac.paths.mini8
local FASHION = "/usr/share/datasets/fashion-mnist"

local BATCH, LR, WARMUP, SAVE_EVERY = 128, 1e-3, 100, 500
local HEAD_SCALE = 16  -- length of the classifier's rows at the start: the scale of a cosine classifier
local HEAD_RATE = 20   -- rate of the head over that of the encoder; its weights are about ten times as large
local TASK_SCALE = 30  -- logit scale of the frozen heads

-- Scripts that resemble handwriting and print most are drawn four times as often.
local SHEETS = {
    { "kanji", 1 }, { "hangul", 1 }, { "katakana", 1 }, { "symbols", 1 }, { "math", 1 }, { "accented", 1 },
    { "georgian", 1 }, { "armenian", 1 }, { "malayalam", 1 }, { "cyrillic_upper", 1 }, { "cyrillic_lower", 4 },
    { "latin_lower", 4 }, { "greek", 4 }, { "thai", 4 }, { "devanagari", 4 },
}
local TARGETS = {
    { "digits", .60 }, { "svhn", .50 }, { "fashion", .52 }, { "latin", .58 }, { "kana", .72 },
    { "arabic", .50 }, { "hebrew", .55 }, { "texture", .42 },
}

local function say(...)
    io.stdout:write(string.format(...), "\n")
    io.stdout:flush()
end

-- ---- Glyphs -------------------------------------------------------------------------------------------

-- All glyphs of the pretraining sheets; members[c] lists the samples of class c, draw lists classes as often as
-- they are wanted.
local function load_glyphs()
    local names, members, draw, first = {}, {}, {}, 0
    for i, sheet in ipairs(SHEETS) do
        names[i] = sheet[1]
        local classes = distac.dataset.glyphs(HERE, sheet[1]):classes()
        for c = first + 1, first + classes do
            members[c] = {}
            for _ = 1, sheet[2] do draw[#draw + 1] = c end
        end
        first = first + classes
    end
    local glyphs = distac.dataset.glyphs(HERE, table.concat(names, "+"))
    for i, label in ipairs(glyphs:labels():table()) do
        local list = members[label + 1]
        list[#list + 1] = i
    end
    return glyphs, members, draw
end

-- Every distortion grows with strength, 0 to 1.
local function distortion(strength, step)
    return {
        rotate = 15 * strength, scale_min = 0.95 - 0.25 * strength, scale_max = 1 + 0.1 * strength,
        shear = 0.2 * strength, shift = 0.15 * strength, elastic = 0.03 * strength, blur = 0.3 * strength,
        contrast_min = 0.9 - 0.5 * strength, contrast_max = 1, texture = 0.15 * strength, noise = 0.08 * strength,
        invert = 0.5 * strength, seed = SEED, stream = step,
    }
end

-- Images [B,1,28,28] and labels of a step: a function of (SEED, step) alone.
local function batch_of(step, glyphs, members, draw)
    local random, samples, labels = distac.rng(SEED, 1000 + step), {}, {}
    for i = 1, BATCH do
        local class = draw[random:below(#draw) + 1]
        local list = members[class]
        labels[i] = class - 1
        samples[i] = list[random:below(#list) + 1]
    end
    local strength = math.max(0, math.min(1, (step - 150) / (0.35 * STEPS)))
    local bytes = distac.dataset.augment(glyphs, samples, distortion(strength, step))
    return (bytes:to("f32") / 255 - 0.45) / 0.30, labels, strength
end

-- ---- Pretraining --------------------------------------------------------------------------------------

local function learner(classes)
    local self = {
        model = distac.vit { image = 28, patch = 7, channels = 1, width = 128, layers = 4, heads = 4, mlp = 512,
            dim = 128, activation = "gelu", seed = SEED },
        weight = distac.randn({ classes, 128 }, { seed = SEED, stream = 1 }) * (HEAD_SCALE / math.sqrt(128)),
        loss = distac.loss.cross_entropy {},
        optimizer = distac.adamw { lr = LR, beta2 = 0.98, weight_decay = 0.05, clip = 1 },
        head_optimizer = distac.adamw { lr = HEAD_RATE * LR, beta2 = 0.98, clip = 0 },
    }
    self.head = distac.head(self.weight)
    self.weight = self.head:weight()
    self.params = self.model:params()
    self.grads, self.dweight = distac.zeros(self.params:shape()), distac.zeros(self.weight:shape())
    return self
end

-- One step, written out: encoder and head have rates of their own.
local function learn(self, images, labels, lr)
    self.grads:fill(0)
    self.dweight:fill(0)
    local features = self.model:forward(images)
    local logits = self.head:logits(features)
    local loss, dlogits = self.loss(logits, labels)
    local dfeatures = self.head:backward(features, dlogits, self.dweight)
    self.model:backward(dfeatures, self.grads)
    self.optimizer:step(self.params, self.grads, lr)
    self.head_optimizer:step(self.weight:reshape(-1), self.dweight:reshape(-1), HEAD_RATE * lr)
    return loss, logits
end

local function correct(logits, labels)
    local hits = 0
    for i, best in ipairs(logits:argmax(2):table()) do
        if best - 1 == labels[i] then hits = hits + 1 end
    end
    return hits
end

local function save_state(self, path, step)
    local a, b = self.optimizer:state(), self.head_optimizer:state()
    distac.save(path, { params = self.params, head = self.weight, am = a.m, av = a.v, bm = b.m, bv = b.v },
        { metadata = { step = string.format("%.0f", step), steps = string.format("%.0f", STEPS),
            seed = string.format("%.0f", SEED) } })
end

-- Step to go on from, 0 for a new run.
local function load_state(self, path)
    if not distac.fs.kind(path) then return 0 end
    local state = distac.load(path)
    local told = state:metadata()
    if tonumber(told.steps) ~= STEPS or tonumber(told.seed) ~= SEED then
        error(path .. " is of another run (steps or seed differ): choose another folder or remove it", 0)
    end
    local step = tonumber(told.step)
    self.params:copy(state.params)
    self.weight:copy(state.head)
    self.optimizer:restore({ m = state.am, v = state.av }, step)
    self.head_optimizer:restore({ m = state.bm, v = state.bv }, step)
    return step
end

local function pretrain()
    local glyphs, members, draw = load_glyphs()
    local self = learner(#members)
    local path = FOLDER .. "/pretrain.safetensors"
    distac.fs.make(FOLDER)
    local step = load_state(self, path)
    say("%.0f classes, %.0f glyphs, %s; from step %.0f of %.0f", #members, glyphs:size(), tostring(self.model),
        step, STEPS)
    local began, from, total, hits, count = distac.clock(), step, 0, 0, 0
    while step < STEPS do
        local images, labels, strength = batch_of(step, glyphs, members, draw)
        local loss, logits = learn(self, images, labels, distac.schedule.cosine(LR, step, WARMUP, STEPS))
        step, total, hits, count = step + 1, total + loss, hits + correct(logits, labels), count + 1
        if step % 100 == 0 or step == STEPS then
            local pace = (distac.clock() - began) / (step - from)
            say("step %5.0f  strength %.2f  loss %.3f  accuracy %.3f  %.0f ms a step, %.0f s left", step, strength,
                total / count, hits / (count * BATCH), 1000 * pace, pace * (STEPS - step))
            total, hits, count = 0, 0, 0
        end
        if step % SAVE_EVERY == 0 or step == STEPS then save_state(self, path, step) end
        if step % 20 == 0 then collectgarbage() end
    end
    return self.model
end

-- ---- Heads --------------------------------------------------------------------------------------------

local function unit_rows(t)
    return t / t:norm(2, true)
end

local function accuracy(features, prototypes, labels)
    return correct(features:matmul(prototypes:transpose(1, 2):contiguous()), labels) / #labels
end

local function normalised_features(model, task, split)
    local data = distac.dataset.mini8(HERE, FASHION, task, split)
    return unit_rows(data:features(model)), data:labels():table(), data:classes()
end

-- Class means of the normalised features minus their mean, normalised: [C,128].
local function class_means(features, labels, classes)
    local count, assign = {}, {}
    for c = 1, classes do
        count[c], assign[c] = 0, {}
        for i = 1, #labels do assign[c][i] = 0 end
    end
    for i, label in ipairs(labels) do
        count[label + 1] = count[label + 1] + 1
        assign[label + 1][i] = 1
    end
    for c = 1, classes do
        for i = 1, #labels do assign[c][i] = assign[c][i] / count[c] end
    end
    local means = distac.tensor(assign):matmul(features)
    return unit_rows(means - means:mean(1, true))
end

-- The amount of noise, by bisection, that brings validation accuracy down to the target.
local function worsen(prototypes, noise, features, labels, target)
    local low, high, best, best_gap = 0, 6, 0, math.huge
    for _ = 1, 14 do
        local nu = (low + high) / 2
        local found = accuracy(features, unit_rows(prototypes + nu * noise), labels)
        if math.abs(found - target) < best_gap then
            best, best_gap = nu, math.abs(found - target)
        end
        if found > target then low = nu else high = nu end
    end
    return best
end

local function make_head(model, index, task, target)
    local train, train_labels, classes = normalised_features(model, task, "train")
    local validation, validation_labels = normalised_features(model, task, "validation")
    local test, test_labels = normalised_features(model, task, "test")
    local means = class_means(train, train_labels, classes)
    local mixture = distac.randn({ classes, classes }, { seed = SEED, stream = 100 + index })
    local noise = unit_rows(mixture:matmul(means))
    local nu = worsen(means, noise, validation, validation_labels, target)
    local prototypes = unit_rows(means + nu * noise)
    say("%-8s class means %.3f, with noise %.2f: validation %.3f (wanted %.2f), test %.3f", task,
        accuracy(validation, means, validation_labels), nu, accuracy(validation, prototypes, validation_labels),
        target, accuracy(test, prototypes, test_labels))
    return prototypes * TASK_SCALE, nu
end

local function main()
    local model = pretrain()
    local how = string.format("pretrain.lua, %.0f steps of %.0f glyphs, seed %.0f", STEPS, BATCH, SEED)
    distac.save(HERE .. "/backbone.safetensors", model, { metadata = { ["vit.heads"] = "4",
        ["vit.activation"] = "gelu", made = how, engine = tostring(distac.version) } })
    local heads, about = {}, { made = how, scale = string.format("%.0f", TASK_SCALE) }
    for index, pair in ipairs(TARGETS) do
        local nu
        heads[pair[1]], nu = make_head(model, index, pair[1], pair[2])
        about["noise." .. pair[1]] = string.format("%.4f", nu)
    end
    distac.save(HERE .. "/heads.safetensors", heads, { metadata = about })
    say("wrote backbone.safetensors (%.0f bytes) and heads.safetensors (%.0f bytes) in %s",
        distac.fs.bytes(HERE .. "/backbone.safetensors"), distac.fs.bytes(HERE .. "/heads.safetensors"), HERE)
end

main()
