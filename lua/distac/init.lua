-- distac: conditions task vectors by knowledge distillation and merges them. The same files serve Lua 5.4 and
-- LuaJIT; distac.raw is what differs. Everything counts from 1 here; the modules of this folder translate to
-- the core's 0.
local raw = require "distac.raw"
local check = require "distac.check"
local context = require "distac.context"
local errors = require "distac.error"
local tensor = require "distac.tensor"
local adopt = require "distac.adopt"
local checkpoint = require "distac.checkpoint"
local model = require "distac.model"
local head = require "distac.head"
local tokenizer = require "distac.tokenizer"
local text = require "distac.text"
local loss = require "distac.loss"
local optimizer = require "distac.optimizer"
local steps = require "distac.steps"
local dataset = require "distac.dataset"
local metrics = require "distac.metrics"
local fs = require "distac.fs"

-- A table of functions whose unknown names are errors that tell the nearest.
local function strict(name, functions)
    return setmetatable(functions, {
        __index = function(_, key)
            local names = {}
            for known in pairs(functions) do
                names[#names + 1] = known
            end
            table.sort(names)
            errors.raise("ENOTFOUND", "%s: no function %q%s", name, tostring(key), check.hint(tostring(key), names))
        end,
    })
end

-- distac.tensor{...} makes a tensor of a table; its fields make others.
local makers = strict("distac.tensor", {
    zeros = tensor.zeros, ones = tensor.ones, full = tensor.full, randn = tensor.randn, rand = tensor.rand,
    arange = tensor.arange, eye = tensor.eye, matmul = tensor.matmul, cat = tensor.cat, adopt = adopt.adopt,
})
getmetatable(makers).__call = function(_, ...) return tensor.tensor(...) end

local distac = {
    version = raw.version(),
    runtime = raw.runtime,
    errors = errors,
    nearest = require "distac.nearest",
    format = require "distac.format",
    paths = require "distac.paths",

    configure = context.configure,
    context = context.get,
    context_info = context.info,
    reset_peak = context.reset_peak,
    events = context.events,
    cancel = context.cancel,
    cancelled = context.cancelled,
    cancel_clear = context.cancel_clear,
    devices = context.devices,
    clock = raw.clock,

    tensor = makers,
    zeros = tensor.zeros,
    ones = tensor.ones,
    full = tensor.full,
    randn = tensor.randn,
    rand = tensor.rand,
    arange = tensor.arange,
    eye = tensor.eye,
    matmul = tensor.matmul,
    cat = tensor.cat,

    load = checkpoint.load,
    save = checkpoint.save,
    checkpoint = checkpoint.checkpoint,
    taskvector = checkpoint.taskvector,

    vit = model.vit,
    head = head.head,
    load_head = head.load,
    tokenizer = tokenizer.tokenizer,
    text = text.text,
    loss = strict("distac.loss", { cross_entropy = loss.cross_entropy, focal = loss.focal, mixup = loss.mixup,
        kd = loss.kd }),
    adamw = optimizer.adamw,
    schedule = { cosine = optimizer.cosine },
    finetune_step = steps.finetune_step,
    kd_step = steps.kd_step,

    dataset = dataset,
    loader = dataset.loader,
    metrics = metrics.metrics,
    reliability = metrics.reliability,
    temperature = metrics.temperature,

    merge = require "distac.merge",
    image = require "distac.image",
    plot = require("distac.plot").plot,
    rng = require("distac.rng").rng,
    fs = fs,
    hash = fs.hash,
}

-- distac.type(v): the kind of an object ("tensor", "checkpoint", "taskvector", "vit", ...), nil for anything else.
function distac.type(v)
    if checkpoint.is_taskvector(v) then
        return "taskvector"
    end
    return raw.type(v)
end

-- Frees an object's memory now instead of at the next collection; later use raises.
distac.release = raw.release

-- Recipes and what belongs to them are loaded when first asked for.
local LATER = { prompts = "distac.prompts", json = "distac.json", report = "distac.report", suites = "distac.suites" }
local PARTS = { grid = true, match_norm = true, folder_suite = true }

return setmetatable(distac, {
    __index = function(_, key)
        local value
        if LATER[key] then
            value = require(LATER[key])
        elseif PARTS[key] then
            value = require("distac.parts")[key]
        elseif key == "zero_shot_head" then
            value = require("distac.zero_shot").zero_shot_head
        elseif key == "recipe" then
            value = require("distac.recipe")
        elseif key == "suite" then
            value = require("distac.suites").open
        end
        if value ~= nil then
            rawset(distac, key, value)
        end
        return value
    end,
})
