-- distac.training: the two long stages of a run, fine-tuning and conditioning. Both save their whole state
-- every few seconds; a run that was killed goes on from there and ends with the same bits as one that was not.

local training = {}

local function engine() return require "distac" end

training.save_every = 4    -- seconds
training.save_share = 0.05 -- of the time at most: a gigabyte of state is not written every few seconds

-- Seed of one purpose: a pure function of the run's seed and names, so that other tasks never shift it.
function training.seed(seed, purpose, task)
    local text = require("distac.json").number(seed) .. "/" .. purpose .. "/" .. task
    return tonumber(engine().hash.text(text):sub(1, 12), 16)
end

function training.interrupted(err)
    return type(err) == "table" and err.code == "ECANCELED"
end

local Canceled = setmetatable({}, { __index = { code = "ECANCELED", message = "interrupted" },
                                    __tostring = function() return "interrupted" end })
training.canceled = Canceled

-- Frees the tensors of a batch at once: a collector does not know how large they are.
local function release(batch)
    for _, tensor in pairs(batch) do engine().release(tensor) end
end

-- job: store, key, what, steps, lr, warmup, horizon (of the rate; nil: steps), progress, step (the engine's step
-- object), model, images(k) -> batch, run(k, batch, lr) -> loss, record(k) -> point or nil. Returns the curve and
-- the last loss.
local function drive(job)
    local distac = engine()
    local step, curve, loss, first, seconds = job.step, require("distac.json").array {}, nil, 0, 0
    local state, info = job.store:partial(job.key)
    if state then
        step:restore(state, info.step)
        first, curve, loss, seconds = info.step, info.curve, info.loss, info.seconds or 0
    end
    job.progress:start(job.what, job.steps, first)
    job.progress.training = job -- whoever shows progress may ask how good the model is: job.probe()
    local begun, saved, pause = distac.clock(), distac.clock(), training.save_every
    local function save(done)
        -- Files cannot be written while a cancel stands: it is set again afterwards.
        local cancelled, start = distac.cancelled(), distac.clock()
        if cancelled then distac.cancel_clear() end
        job.store:save_partial(job.key, step:state(true),
            { step = done, curve = curve, loss = loss, seconds = seconds + distac.clock() - begun })
        if cancelled then distac.cancel() end
        saved = distac.clock()
        pause = math.max(training.save_every, (saved - start) / training.save_share)
    end
    for k = first, job.steps do
        if job.record and (k % job.every == 0 or k == job.steps) and (curve[#curve] or { step = -1 }).step < k then
            curve[#curve + 1] = job.record(k, loss)
        end
        if k == job.steps then break end
        if distac.cancelled() then
            save(k)
            error(Canceled, 0)
        end
        local lr = distac.schedule.cosine(job.lr, k, job.warmup, job.horizon or job.steps)
        local ok, value = pcall(job.run, k, lr)
        if not ok then
            if training.interrupted(value) then save(k) end -- a cancelled step has changed nothing
            error(value, 0)
        end
        loss = value
        job.progress:update(k + 1)
        if k + 1 < job.steps and distac.clock() - saved >= pause then save(k + 1) end
    end
    job.progress.training = nil -- it would hold the job's models and moments while others are made
    return curve, loss, seconds + distac.clock() - begun
end

-- A model that this stage may change.
local function own_model(suite, recompute)
    local model = suite:model()
    if not suite.makes_models then model = model:clone() end
    if recompute then model:recompute(true) end
    return model
end

-- The model's weights, without a copy: the model is not used after its stage.
local function weights(model)
    return require("distac.raw").vit_checkpoint(model, 0)
end

-- Batches of one task's training images. Crops are drawn from the seed and the sample's place, so that a run
-- continued draws the same.
local function batches(suite, task, s, seed)
    return engine().loader(suite:dataset(task, "train"),
        { batch = s.batch, seed = seed, crops = s.crops, workers = suite.workers })
end

-- Micro-batches add up to the mean over the batch. Their sum, where it is asked for, is so many times that.
local function optimizer_of(s)
    local own = s.optimizer or {}
    return engine().adamw {
        lr = s.lr, weight_decay = s.weight_decay, clip = s.clip, beta1 = own.beta1, beta2 = own.beta2,
            eps = own.eps,
        coupled = own.coupled, scale = s.accumulate == "sum" and s.micro > 0 and math.ceil(s.batch / s.micro)
            or nil,
    }
end

local function finetune_step(job, model, head, seed)
    local distac, s = engine(), job.settings
    return distac.finetune_step {
        model = model, head = head, loss = job.loss,
        optimizer = optimizer_of(s),
        micro = s.micro, seed = seed,
    }
end

-- What a model in training does on the task's validation data.
local function prober(suite, task, model)
    return function()
        local ds = suite:dataset(task, "validation")
        if not ds then return { task = task } end
        local logits = ds:logits(model, suite:head(task), { batch = 64 })
        local m = engine().metrics(logits, ds:labelled() and ds:labels() or nil)
        return { task = task, accuracy = m.accuracy, entropy = m.entropy, ece = m.ece }
    end
end

-- Fine-tunes the base on one task. Returns the model's checkpoint, the loss and the seconds.
function training.finetune(job)
    local s = job.settings
    local model = own_model(job.suite, job.recompute)
    local step = finetune_step(job, model, job.suite:head(job.task), training.seed(job.seed, "mixup", job.task))
    local loader = batches(job.suite, job.task, s, training.seed(job.seed, "batches", job.task))
    local _, loss, seconds = drive {
        store = job.store, key = job.key, what = job.what, steps = s.steps, lr = s.lr, warmup = s.warmup,
        horizon = s.horizon, progress = job.progress, step = step,
        probe = prober(job.suite, job.task, model),
        run = function(k, lr)
            local batch = loader:batch(k)
            local value = step(batch.images, batch.labels, lr)
            release(batch)
            return value
        end,
    }
    return weights(model), loss, seconds
end

-- Trains one copy of the base on all tasks: update k is a batch of task k mod T, asked through that task's frozen
-- head. Returns the model's checkpoint and the seconds.
function training.joint(job)
    local s, tasks = job.settings, job.tasks
    local model = own_model(job.suite, job.recompute)
    local heads, loaders = {}, {}
    for i, task in ipairs(tasks) do
        heads[i] = job.suite:head(task)
        loaders[i] = batches(job.suite, task, s, training.seed(job.seed, "batches", task))
    end
    local step = finetune_step(job, model, heads[1], training.seed(job.seed, "mixup", "all"))
    local _, _, seconds = drive {
        store = job.store, key = job.key, what = job.what, steps = s.steps, lr = s.lr, warmup = s.warmup,
        horizon = s.horizon, progress = job.progress, step = step,
        run = function(k, lr)
            local turn = k % #tasks + 1
            local batch = loaders[turn]:batch((k - k % #tasks) / #tasks)
            local value = step:ask(heads[turn])(batch.images, batch.labels, lr)
            release(batch)
            return value
        end,
    }
    return weights(model), seconds
end

-- Algorithm 1 on one task: the student starts at base + kappa*tau and learns the teacher base + tau.
function training.condition(job)
    local distac, s = engine(), job.settings
    local base = job.suite:base()
    local teacher = own_model(job.suite):load(job.source)
    local student = s.kappa == 1 and teacher:clone() or teacher:with(base + s.kappa * (job.source - base))
    if job.recompute then student:recompute(true) end
    local head = job.suite:head(job.task)
    local step = distac.kd_step {
        teacher = teacher, student = student, head = head, temperature = s.temperature, beta = s.beta,
        optimizer = optimizer_of(s), micro = s.micro,
    }
    local loader = batches(job.suite, job.task, s, training.seed(job.seed, "distill", job.task))
    -- Where the images are fixed and training visits most of them, the teacher sees each once, not once per epoch.
    local logits
    local train = job.suite:dataset(job.task, "train")
    if not s.crops and s.steps * s.batch >= train:size() then
        logits = train:logits(teacher, head, { batch = 256 })
    end
    local curve, loss, seconds = drive {
        store = job.store, key = job.key, what = job.what, steps = s.steps, lr = s.lr, warmup = s.warmup,
        horizon = s.horizon, progress = job.progress, step = step, every = job.curves,
        probe = prober(job.suite, job.task, student),
        record = job.curves > 0 and function(k, last) return job.record(k, last, student) end or nil,
        run = function(k, lr)
            local batch = loader:batch(k)
            local options = { lr = lr }
            if logits then
                batch.teacher = logits:rows(batch.indices)
                options.teacher_logits = batch.teacher
            end
            local value = step(batch.images, options)
            release(batch)
            return value
        end,
    }
    return weights(student), loss, seconds, curve
end

return training
