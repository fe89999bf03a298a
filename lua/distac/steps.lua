-- Training steps: fine-tuning by labels and DisTaC's distillation by a teacher. A step object is called once a
-- batch.
local raw = require "distac.raw"
local check = require "distac.check"
local losses = require "distac.loss"
local models = require "distac.model"
local optimizers = require "distac.optimizer"

local M = {}

local function copy(t)
    return raw.tensor_cast(t, raw.tensor_dtype(t))
end

local function same(t) return t end

-- The optimizer's object for a model's or a head's weights.
local function bind(fname, arg, optimizer, owner, params)
    optimizers.check(fname, arg, optimizer)
    return optimizer:bind(fname, owner, raw.tensor_numel(params), raw.tensor_dtype(params))
end

local function put_moments(state, prefix, optimizer, shared)
    if optimizer then
        local moments = optimizer:state(shared)
        state[prefix .. ".m"], state[prefix .. ".v"] = moments.m, moments.v
    end
end

-- A named tensor of a saved state, a table or a Checkpoint.
local function get(fname, state, name)
    if type(state) ~= "table" and raw.type(state) ~= "checkpoint" then
        check.wanted(fname, "state", "a table of tensors or a Checkpoint", state)
    end
    return check.tensor(fname, "state." .. name, state[name])
end

local function take_moments(fname, state, prefix, optimizer, steps)
    if optimizer then
        optimizer:restore({ m = get(fname, state, prefix .. ".m"), v = get(fname, state, prefix .. ".v") }, steps)
    end
end

local function check_lr(fname, lr, optimizer)
    if lr == nil then
        return optimizer:lr()
    end
    return check.number(fname, "lr", lr, 0)
end

-- ---- Fine-tuning --------------------------------------------------------------------------------------

local Finetune = { __name = "FinetuneStep" }
Finetune.__index = Finetune

-- finetune_step{ model =, head =, loss =, optimizer =, head_optimizer =, micro =, seed = }. The head stays
-- frozen unless head_optimizer is given; micro > 0 accumulates gradients over micro-batches of that many
-- images.
function M.finetune_step(options)
    local fname = "distac.finetune_step"
    local o = check.options(fname, options, {
        model = { "vit", required = true }, head = { "head", required = true }, loss = { "any" },
        optimizer = { "any", required = true }, head_optimizer = { "any" },
        micro = { "integer", min = 0, default = 0 }, seed = { "integer", min = 0, default = 0 },
    })
    local loss = o.loss == nil and losses.cross_entropy {} or o.loss
    local desc = losses.desc(fname, loss)
    local optimizer = bind(fname, "optimizer", o.optimizer, o.model, raw.vit_params(o.model))
    local head_optimizer
    if o.head_optimizer ~= nil then
        head_optimizer = bind(fname, "head_optimizer", o.head_optimizer, o.head, raw.head_weight(o.head))
    end
    return setmetatable({
        model = o.model, head = o.head, loss = loss, optimizer = o.optimizer, head_optimizer = o.head_optimizer,
        handle = raw.trainer_create(o.model, o.head, optimizer, head_optimizer, desc, o.micro, o.seed),
    }, Finetune)
end

-- step(images, labels [, lr]) -> loss, stats
function Finetune.__call(step, images, labels, lr)
    local fname = "FinetuneStep"
    images = models.images_for(step.model, fname, images)
    labels = losses.labels(fname, labels)
    local stats = raw.trainer_step(step.handle, images, labels, check_lr(fname, lr, step.optimizer))
    return stats.loss, stats
end

-- Later steps ask another frozen head, with its own classes.
function Finetune.ask(step, head)
    check.handle("FinetuneStep:ask", "head", head, "head")
    raw.trainer_set_head(step.handle, head)
    step.head = head
    return step
end

-- How many steps have been done.
function Finetune.steps(step)
    return step.optimizer:steps()
end

-- Everything that a later restore needs, by name; distac.save writes it as it is. Copies, unless `shared`: then
-- the tensors are the step's own, for writing them at once without holding all twice.
function Finetune.state(step, shared)
    local take = shared and same or copy
    local state = { params = take(raw.vit_params(step.model)) }
    put_moments(state, "optimizer", step.optimizer, shared)
    if step.head_optimizer then
        state.head = take(raw.head_weight(step.head))
        put_moments(state, "head_optimizer", step.head_optimizer, shared)
    end
    return state
end

-- Goes on from a state (a table or a Checkpoint) as if never interrupted.
function Finetune.restore(step, state, steps)
    local fname = "FinetuneStep:restore"
    check.integer(fname, "steps", steps, 0)
    raw.tensor_copy(raw.vit_params(step.model), get(fname, state, "params"))
    take_moments(fname, state, "optimizer", step.optimizer, steps)
    if step.head_optimizer then
        raw.tensor_copy(raw.head_weight(step.head), get(fname, state, "head"))
        take_moments(fname, state, "head_optimizer", step.head_optimizer, steps)
    end
end

function Finetune.__tostring(step)
    return string.format("FinetuneStep with %s, %.0f steps done", tostring(step.loss), step:steps())
end

-- ---- Distillation -------------------------------------------------------------------------------------

local KDStep = { __name = "KDStep" }
KDStep.__index = KDStep

-- kd_step{ teacher =, student =, head =, temperature = { teacher =, student = }, beta =, optimizer =, micro =
-- }. The student starts at theta_pre + kappa*tau, which is also the anchor. Without a teacher each step is
-- given its logits.
function M.kd_step(options)
    local fname = "distac.kd_step"
    local o = check.options(fname, options, {
        teacher = { "vit" }, student = { "vit", required = true }, head = { "head", required = true },
        temperature = { "table" }, beta = { "number", min = 0, default = 0.5 },
        optimizer = { "any", required = true }, micro = { "integer", min = 0, default = 0 },
    })
    local temperature = losses.temperature(fname, o.temperature, { teacher = 1, student = 10 })
    local optimizer = bind(fname, "optimizer", o.optimizer, o.student, raw.vit_params(o.student))
    return setmetatable({
        teacher = o.teacher, student = o.student, head = o.head, optimizer = o.optimizer,
        temperature = temperature, beta = o.beta,
        handle = raw.kd_create(o.student, o.teacher, o.head, optimizer, {
            t_teacher = temperature.teacher, t_student = temperature.student, beta = o.beta, micro = o.micro,
        }),
    }, KDStep)
end

-- step(images [, { lr =, teacher_logits = }]) -> loss, stats
function KDStep.__call(step, images, options)
    local fname = "KDStep"
    images = models.images_for(step.student, fname, images)
    local lr, logits
    if options ~= nil then
        local o = check.options(fname, options, { lr = { "number", min = 0 }, teacher_logits = { "tensor" } })
        lr, logits = o.lr, o.teacher_logits
    end
    local stats = raw.kd_step(step.handle, images, logits, check_lr(fname, lr, step.optimizer))
    return stats.loss, stats
end

-- How many steps have been done.
function KDStep.steps(step)
    return step.optimizer:steps()
end

-- The flat parameters that the student is held near.
function KDStep.anchor(step)
    return raw.kd_anchor(step.handle)
end

-- As FinetuneStep:state.
function KDStep.state(step, shared)
    local take = shared and same or copy
    local state = { params = take(raw.vit_params(step.student)), anchor = take(raw.kd_anchor(step.handle)) }
    put_moments(state, "optimizer", step.optimizer, shared)
    return state
end

-- Continues from what state() gave, after `steps` steps.
function KDStep.restore(step, state, steps)
    local fname = "KDStep:restore"
    check.integer(fname, "steps", steps, 0)
    raw.tensor_copy(raw.vit_params(step.student), get(fname, state, "params"))
    raw.tensor_copy(raw.kd_anchor(step.handle), get(fname, state, "anchor"))
    take_moments(fname, state, "optimizer", step.optimizer, steps)
end

function KDStep.__tostring(step)
    return string.format("KDStep at temperatures (%g, %g), beta %g, %.0f steps done", step.temperature.teacher,
        step.temperature.student, step.beta, step:steps())
end

return M
