-- Optimizer: AdamW. Made from its settings alone; the core's object comes with the parameters, at the first
-- step or when a training step takes it.
local raw = require "distac.raw"
local check = require "distac.check"
local context = require "distac.context"
local errors = require "distac.error"
local format = require "distac.format"

local M = {}

local Optimizer = { __name = "Optimizer" }
Optimizer.__index = Optimizer

local function fraction(fname, o, key)
    if not (o[key] < 1) then
        check.wanted(fname, key, "a number from 0 to below 1", o[key])
    end
end

-- adamw{ lr =, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0, clip = 1, coupled = false, scale = 1 }.
-- clip is the global norm that gradients are cut to (0: off); coupled adds the decay to the gradient, as plain
-- Adam does; scale multiplies the gradient before it is clipped.
function M.adamw(options)
    local fname = "distac.adamw"
    local o = check.options(fname, options, {
        lr = { "number", min = 0, required = true }, beta1 = { "number", min = 0, default = 0.9 },
        beta2 = { "number", min = 0, default = 0.999 }, eps = { "number", min = 0, default = 1e-8 },
        weight_decay = { "number", min = 0, default = 0 }, clip = { "number", min = 0, default = 1 },
        coupled = { "boolean", default = false }, scale = { "number", min = 0, default = 1 },
    })
    fraction(fname, o, "beta1")
    fraction(fname, o, "beta2")
    return setmetatable({ options = o }, Optimizer)
end

function M.is(v)
    return type(v) == "table" and getmetatable(v) == Optimizer
end

function M.check(fname, arg, v)
    if not M.is(v) then
        check.wanted(fname, arg, "an Optimizer such as distac.adamw{ lr = 1e-5 }", v)
    end
    return v
end

-- The core's optimizer for the parameters of `owner`, n numbers of a type.
function Optimizer.bind(opt, fname, owner, n, code)
    if opt.handle then
        if opt.owner ~= owner or opt.n ~= n then
            errors.raise("ESTATE", "%s: the optimizer already holds the moments of other parameters (%.0f of" ..
                " them); make a new one", fname, opt.n)
        end
        return opt.handle
    end
    local o = opt.options
    opt.handle = raw.adamw_create(context.get(), {
        lr = o.lr, beta1 = o.beta1, beta2 = o.beta2, eps = o.eps, weight_decay = o.weight_decay, clip = o.clip,
        coupled = o.coupled and 1 or 0, scale = o.scale,
    }, n, code)
    opt.owner, opt.n, opt.code = owner, n, code
    return opt.handle
end

-- One update of params with grads, flat tensors; returns the gradient's norm before clipping.
function Optimizer.step(opt, params, grads, lr)
    local fname = "Optimizer:step"
    check.tensor(fname, "params", params)
    check.tensor(fname, "grads", grads)
    if lr ~= nil then
        check.number(fname, "lr", lr, 0)
    end
    if not opt.handle then
        opt:bind(fname, false, raw.tensor_numel(params), raw.tensor_dtype(params))
    end
    return raw.optimizer_step(opt.handle, params, grads, lr or -1)
end

-- Number of updates done.
function Optimizer.steps(opt)
    return opt.handle and raw.optimizer_steps(opt.handle) or 0
end

-- The learning rate that the next step takes unless it is told another.
function Optimizer.lr(opt)
    return opt.options.lr
end

-- Copies of the moments (shared: the moments themselves): { m =, v = }, empty before the first use.
function Optimizer.state(opt, shared)
    if not opt.handle then
        return {}
    end
    local m, v = raw.optimizer_moment(opt.handle, 0), raw.optimizer_moment(opt.handle, 1)
    if shared then return { m = m, v = v } end
    return { m = raw.tensor_cast(m, raw.tensor_dtype(m)), v = raw.tensor_cast(v, raw.tensor_dtype(v)) }
end

-- Continues from what state() gave, after `steps` steps.
function Optimizer.restore(opt, state, steps)
    local fname = "Optimizer:restore"
    check.table(fname, "state", state)
    check.integer(fname, "steps", steps, 0)
    check.tensor(fname, "state.m", state.m)
    check.tensor(fname, "state.v", state.v)
    if not opt.handle then
        opt:bind(fname, false, raw.tensor_numel(state.m), raw.tensor_dtype(state.m))
    end
    raw.tensor_copy(raw.optimizer_moment(opt.handle, 0), state.m)
    raw.tensor_copy(raw.optimizer_moment(opt.handle, 1), state.v)
    raw.optimizer_set_steps(opt.handle, steps)
end

function Optimizer.__tostring(opt)
    local o = opt.options
    return string.format("Optimizer AdamW lr %s, weight decay %s, clip %s, %.0f steps done", format.number(o.lr),
        format.number(o.weight_decay), format.number(o.clip), opt:steps())
end

-- Learning rate of a step (0-based): linear warm-up, then half a cosine to 0 at `steps`.
function M.cosine(lr, step, warmup, steps)
    local fname = "distac.schedule.cosine"
    check.number(fname, "lr", lr, 0)
    check.integer(fname, "step", step, 0)
    check.integer(fname, "warmup", warmup, 0)
    check.integer(fname, "steps", steps, 1)
    return raw.schedule_cosine(lr, step, warmup, steps)
end

return M
