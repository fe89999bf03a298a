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
local fs = require "distac.fs"

-- ---- What is loaded when it is first asked for --------------------------------------------------------

local places = {} -- what stands in the tables below until then: { module, name in it or nil }

local function place(module, name)
    local stand_in = {}
    places[stand_in] = { module, name }
    return stand_in
end

-- later "distac.x" as require "distac.x", for the tables below only.
local function later(module)
    return setmetatable(place(module), { __index = function(_, name) return place(module, name) end })
end

local function resolve(value)
    local at = places[value]
    if at then
        local module = require(at[1])
        if at[2] then
            return module[at[2]]
        end
        return module
    end
    for key, member in next, value do -- a group is loaded as a whole, so that its names can be listed
        if places[member] then
            value[key] = resolve(member)
        end
    end
    return value
end

-- Takes what is for later out of a table: { name = stand-in or group }.
local function set_aside(functions)
    local waiting = {}
    for key, value in next, functions do
        local wait = places[value] ~= nil
        if type(value) == "table" and not wait then
            for _, member in next, value do
                wait = wait or places[member] ~= nil
            end
        end
        if wait then
            waiting[key] = value
        end
    end
    for key in next, waiting do
        functions[key] = nil
    end
    return waiting
end

local model = later "distac.model"
local head = later "distac.head"
local tokenizer = later "distac.tokenizer"
local text = later "distac.text"
local loss = later "distac.loss"
local optimizer = later "distac.optimizer"
local steps = later "distac.steps"
local dataset = later "distac.dataset"
local loader = later "distac.loader"
local metrics = later "distac.metrics"
local merge = later "distac.merge"
local image = later "distac.image"
local plot = later "distac.plot"
local rng = later "distac.rng"

-- A table of functions whose unknown names are errors that tell the nearest.
local function strict(name, functions)
    return setmetatable(functions, {
        __index = function(_, key)
            local names = {}
            for known in pairs(functions) do
                names[#names + 1] = known
            end
            table.sort(names)
            errors.raise("ENOTFOUND", "%s: no function %q%s", name, tostring(key),
                check.hint(tostring(key), names))
        end,
    })
end

-- distac.tensor{...} makes a tensor of a table; its fields make others.
local makers = strict("distac.tensor", {
    zeros = tensor.zeros, ones = tensor.ones, full = tensor.full, randn = tensor.randn, rand = tensor.rand,
    arange = tensor.arange, eye = tensor.eye, matmul = tensor.matmul, cat = tensor.cat, stack = tensor.stack,
    adopt = adopt.adopt, npy = function(path) return tensor.npy(path) end,
})
getmetatable(makers).__call = function(_, ...) return tensor.tensor(...) end

-- distac.clock(): seconds of a clock that only goes forward.
-- distac.tensor.npy(path): an array as numpy.save writes it; nothing in the file is evaluated.
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
    stack = tensor.stack,

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
    loader = loader.loader,
    metrics = metrics.metrics,
    reliability = metrics.reliability,
    temperature = metrics.temperature,

    merge = merge,
    image = image,
    plot = plot.plot,
    rng = rng.rng,
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

-- Recipes and what belongs to them.
local LATER = { prompts = "distac.prompts", json = "distac.json", report = "distac.report",
    suites = "distac.suites" }
local PARTS = { grid = true, match_norm = true, folder_suite = true }

local waiting = set_aside(distac)
for key, module in pairs(LATER) do
    waiting[key] = place(module)
end
for key in pairs(PARTS) do
    waiting[key] = place("distac.parts", key)
end
waiting.zero_shot_head = place("distac.zero_shot", "zero_shot_head")
waiting.recipe = place "distac.recipe"
waiting.suite = place("distac.suites", "open")

return setmetatable(distac, {
    waiting = waiting, -- for those who list the names
    __index = function(_, key)
        local value = waiting[key]
        if value == nil then
            return nil
        end
        value = resolve(value)
        rawset(distac, key, value)
        waiting[key] = nil
        return value
    end,
})
