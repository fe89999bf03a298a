-- distac condition and distac finetune: one task without a recipe. An interrupted training leaves
-- OUT.partial.safetensors beside the output; the same command continues from it.

local common = require "distac.commands.common"
local json = require "distac.json"
local training = require "distac.training"

local commands = {}

-- A suite of one task, as training wants it; job: of open().
local function single(job)
    return {
        name = "one", tasks = { "task" },
        base = function() return job.base end, model = function() return job.vit end,
        head = function() return job.head end,
        dataset = function(_, _, split) return split == "train" and job.images or nil end,
    }
end

-- Keeps the partial state beside the output; the key is a hash of all that the result depends on.
local function beside(out, desc)
    local distac = require "distac"
    local store = require("distac.stages").open(".")
    local key = store:key(desc)
    store.made = true
    store.path = function(_, _, suffix) return out .. suffix end
    return store, key, distac
end

local function progress(o) return require("distac.progress").new { quiet = o.quiet or o.json } end

local function number(o, name, default, min, max)
    local value = o[(name:gsub("%-", "_"))]
    if value == nil then return default end
    if not (value >= min and value <= max) then
        common.usage(string.format("--%s: wanted a number from %s to %s, got %s", name, json.number(min),
            json.number(max), json.number(value) or tostring(value)))
    end
    return value
end

local function settings(o, defaults)
    local s = {
        steps = number(o, "steps", defaults.steps, 0, 1e7), batch = number(o, "batch", defaults.batch, 1, 1e6),
        lr = number(o, "lr", 1e-5, 0, 10), weight_decay = number(o, "weight-decay", defaults.weight_decay, 0, 100),
        clip = number(o, "clip", 1, 0, 1e6), micro = number(o, "micro", 0, 0, 1e6),
    }
    s.warmup = number(o, "warmup", math.floor(s.steps / 10), 0, 1e7)
    return s
end

local function training_options(default)
    return {
        { "steps", "integer", "N", "updates (default " .. default.steps .. ")" },
        { "batch", "integer", "N", "images per update (default " .. default.batch .. ")" },
        { "lr", "number", "X", "peak learning rate (default 1e-5)" },
        { "weight-decay", "number", "X", "decoupled weight decay (default " .. default.weight_decay .. ")" },
        { "warmup", "integer", "N", "steps of linear warm-up (default: a tenth)" },
        { "clip", "number", "X", "largest gradient norm (default 1)" },
        { "micro", "integer", "N", "images per micro-batch; 0, the default: the batch" },
    }
end

local function with(default, list)
    local out = {}
    for _, part in ipairs { list, training_options(default), common.model_options } do
        for _, option in ipairs(part) do out[#out + 1] = option end
    end
    return out
end

local CONDITION = { steps = 500, batch = 128, weight_decay = 0 }
local FINETUNE = { steps = 2000, batch = 128, weight_decay = 0.1 }

local function finish(o, out, model, metadata, result, store, key)
    local distac = require "distac"
    metadata["distac.engine"] = distac.version
    metadata["distac.seed"] = json.number(o.seed or 0)
    distac.save(out, model, { metadata = metadata, dtype = common.dtype(o) })
    store:drop_partial(key)
    result.output, result.bytes = out, distac.fs.bytes(out)
    return result
end

-- The files that both commands read, checked before any work: paths by name. images: the option of the folder.
local function inputs(o, images, what)
    local paths = {
        base = common.weights(common.need(o, "base", "the base model"), "--base"),
        head = common.file(common.need(o, "head", "the task's head"), "--head"),
        images = common.folder(common.need(o, images, what), "--" .. images),
    }
    common.dtype(o)
    return paths
end

-- What they hold: base, model, images, head.
local function open(o, paths, images)
    local job = { base = common.model(paths.base) }
    job.vit = common.vit(o, job.base)
    job.images = common.images(paths.images, job.vit, "--" .. images)
    job.head = common.head(paths.head)
    common.same_classes(job.head, job.images, paths.head, paths.images)
    return job
end

-- All that the result depends on: part of the output's metadata, and the key of an interrupted training.
local function description(command, o, s, paths, job, more)
    local hash = require("distac").hash
    local desc = { command = command, settings = s, seed = o.seed or 0, base = hash.model(paths.base),
                   head = hash.file(paths.head), data = job.images:hash() }
    for name, value in pairs(more) do desc[name] = value end
    return desc
end

commands.condition = {
    usage = "--base B --head H --images DIR [--kappa K] [--t-teacher A --t-student B] -o OUT MODEL",
    text = "condition one task vector (Algorithm 1); DIR may be a flat folder of unlabelled images",
    example = "--base base.safetensors --head cars.head.safetensors --images photos --kappa 0.6 "
        .. "-o conditioned.safetensors cars.safetensors",
    options = with(CONDITION, {
        { "base", "text", "FILE", "the base model" }, { "head", "text", "FILE", "the task's classification head" },
        { "images", "text", "DIR", "images of the task" }, { "output", "text", "FILE", "the conditioned model" },
        { "kappa", "number", "K", "scale of the task vector at the start (default 1)" },
        { "t-teacher", "number", "A", "temperature of the teacher (default 1)" },
        { "t-student", "number", "B", "temperature of the student (default 10)" },
        { "beta", "number", "X", "weight of the anchor (default 0.5)" },
        { "dtype", "text", "TYPE", "f32, f16 or bf16 of the output" },
        { "force", "flag", nil, "overwrite the output" },
    }),
    run = function(o)
        local distac = require "distac"
        local paths = inputs(o, "images", "a folder of images")
        if #o.args ~= 1 then common.usage("wanted one model, got " .. #o.args) end
        local source_path = common.weights(o.args[1], "model")
        local s = settings(o, CONDITION)
        s.kappa = number(o, "kappa", 1, 0, 1000)
        s.beta = number(o, "beta", 0.5, 0, 1e6)
        s.temperature = { teacher = number(o, "t-teacher", 1, 1e-6, 1000),
                          student = number(o, "t-student", 10, 1e-6, 1000) }
        local out = common.output(o, { paths.base, paths.head, source_path })
        local job, source = open(o, paths, "images"), common.model(source_path)
        local tau_norm = (source - job.base):norm()
        local desc = description("condition", o, s, paths, job, { source = distac.hash.model(source_path) })
        local store, key = beside(out, desc)
        local bar = progress(o)
        local model, loss, seconds = training.condition {
            suite = single(job), task = "task", settings = s, source = source, seed = o.seed or 0,
            store = store, key = key, progress = bar, what = "conditioning", curves = 0,
        }
        local norm = (model - job.base):norm()
        bar:finish()
        local result = finish(o, out, model, { ["distac.condition"] = json.encode(desc) }, {
            kappa = s.kappa, temperature = s.temperature, beta = s.beta, steps = s.steps,
            images = job.images:size(), loss = loss, norm_before = tau_norm, norm = norm, seconds = seconds,
        }, store, key)
        return result, string.format("%s: norm %.4g -> %.4g, loss %.4g, %d images, %.1f s", out, tau_norm, norm,
            loss or 0, result.images, seconds)
    end,
}

local function pick_loss(o)
    local distac = require "distac"
    local name = common.choice("--loss", o.loss or "cross_entropy", { "cross_entropy", "focal", "mixup" })
    if name == "focal" then return distac.loss.focal { gamma = number(o, "gamma", 10, 0, 100) } end
    return distac.loss[name] { label_smoothing = number(o, "label-smoothing", 0, 0, 0.999999) }
end

commands.finetune = {
    usage = "--base B --head H --data DIR [--steps N] -o OUT", text = "fine-tune the base on one task",
    example = "--base base.safetensors --head cars.head.safetensors --data cars/train -o cars.safetensors",
    options = with(FINETUNE, {
        { "base", "text", "FILE", "the base model" }, { "head", "text", "FILE", "the task's classification head" },
        { "data", "text", "DIR", "a folder of class folders" },
        { "output", "text", "FILE", "the fine-tuned model" },
        { "loss", "text", "NAME", "cross_entropy (default), focal or mixup" },
        { "label-smoothing", "number", "X", "share of the target spread over all classes" },
        { "gamma", "number", "X", "of the focal loss" },
        { "dtype", "text", "TYPE", "f32, f16 or bf16 of the output" },
        { "force", "flag", nil, "overwrite the output" },
    }),
    run = function(o)
        local distac = require "distac"
        local paths = inputs(o, "data", "a folder of class folders")
        if #o.args ~= 0 then common.usage("unexpected '" .. o.args[1] .. "'") end
        local s = settings(o, FINETUNE)
        local loss = pick_loss(o)
        local out = common.output(o, { paths.base, paths.head })
        local job = open(o, paths, "data")
        if not job.images:labelled() then common.usage("--data: '" .. paths.images .. "' has no class folders") end
        local desc = description("finetune", o, s, paths, job, { loss = loss.desc })
        local store, key = beside(out, desc)
        local bar = progress(o)
        local model, value, seconds = training.finetune {
            suite = single(job), task = "task", settings = s, loss = loss, seed = o.seed or 0,
            store = store, key = key, progress = bar, what = "fine-tuning",
        }
        bar:finish()
        local result = finish(o, out, model, { ["distac.finetune"] = json.encode(desc) }, {
            steps = s.steps, loss = value, images = job.images:size(), norm = (model - job.base):norm(),
            seconds = seconds,
        }, store, key)
        return result, string.format("%s: loss %.4g, norm %.4g, %d images, %.1f s", out, value or 0, result.norm,
            result.images, seconds)
    end,
}

return commands
