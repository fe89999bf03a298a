-- Losses: loss(logits, labels) -> value, gradient for the logits. `desc` is what the training step takes.
-- Labels are class numbers as files have them, 0 to C-1.
local raw = require "distac.raw"
local check = require "distac.check"
local errors = require "distac.error"
local tensor = require "distac.tensor"

local M = {}

-- Labels from an i64 tensor, any other tensor or a Lua list.
function M.labels(fname, labels)
    if type(labels) == "table" then
        return tensor.tensor(labels, { dtype = "i64" })
    end
    check.tensor(fname, "labels", labels)
    if raw.tensor_dtype(labels) ~= raw.I64 then
        labels = raw.tensor_cast(labels, raw.I64)
    end
    return labels
end

local function like(t)
    local shape = {}
    for i = 1, raw.tensor_rank(t) do
        shape[i] = raw.tensor_size(t, i - 1)
    end
    return raw.tensor_create_beside(t, raw.tensor_dtype(t), shape)
end

local Loss = { __name = "Loss" }
Loss.__index = Loss

function Loss.__call(loss, logits, labels)
    local fname = "distac.loss." .. loss.name
    check.tensor(fname, "logits", logits)
    labels = M.labels(fname, labels)
    local dlogits = like(logits)
    local value = raw.loss(loss.desc, logits, labels, dlogits)
    return value, dlogits
end

function Loss.__tostring(loss)
    return "Loss " .. loss.name
end

local function new(name, kind, o, mixup)
    return setmetatable({
        name = name, options = o,
        desc = { kind = kind, label_smoothing = o.label_smoothing or 0, gamma = o.gamma or 0, mixup = mixup },
    }, Loss)
end

local function smoothing(fname, o)
    if not (o.label_smoothing < 1) then
        check.wanted(fname, "label_smoothing", "a number from 0 to below 1", o.label_smoothing)
    end
    return o
end

local SMOOTHING = { "number", min = 0, default = 0 }

-- cross_entropy{ label_smoothing = 0 }: the mean of -log p of the label; label_smoothing spreads that share of the
-- target over all classes.
function M.cross_entropy(options)
    local fname = "distac.loss.cross_entropy"
    local o = smoothing(fname, check.options(fname, options, { label_smoothing = SMOOTHING }))
    return new("cross_entropy", raw.LOSS_CROSS_ENTROPY, o, 0)
end

-- focal{ gamma = 10 }: -(1-p)^gamma log p
function M.focal(options)
    local o = check.options("distac.loss.focal", options, { gamma = { "number", min = 0, default = 10 } })
    return new("focal", raw.LOSS_FOCAL, o, 0)
end

-- mixup{}: cross-entropy over mixed pairs of images; the training step does the mixing.
function M.mixup(options)
    local fname = "distac.loss.mixup"
    local o = smoothing(fname, check.options(fname, options, { label_smoothing = SMOOTHING }))
    return new("mixup", raw.LOSS_CROSS_ENTROPY, o, 1)
end

-- A pair of temperatures { teacher =, student = }, both above 0.
function M.temperature(fname, v, default)
    if v == nil then
        v = default
    end
    if type(v) ~= "table" then
        check.wanted(fname, "temperature", "a table { teacher =, student = }", v)
    end
    local o = check.options(fname .. ": temperature", v, {
        teacher = { "number", required = true }, student = { "number", required = true },
    })
    for _, side in ipairs { "teacher", "student" } do
        if not (o[side] > 0) or o[side] == math.huge then
            check.wanted(fname, "temperature." .. side, "a number above 0", o[side])
        end
    end
    return o
end

local KD = { __name = "Loss" }
KD.__index = KD

function KD.__call(loss, teacher, student)
    local fname = "distac.loss.kd"
    check.tensor(fname, "teacher logits", teacher)
    check.tensor(fname, "student logits", student)
    local dstudent = like(student)
    local value = raw.loss_kd(teacher, student, loss.temperature.teacher, loss.temperature.student, dstudent)
    return value, dstudent
end

function KD.__tostring()
    return "Loss kd"
end

-- kd{ temperature = { teacher = 1, student = 10 } }: the distillation loss as a function (teacher_logits,
-- student_logits) -> value, gradient for the student's logits. Each side's logits are divided by its temperature.
function M.kd(options)
    local fname = "distac.loss.kd"
    local o = check.options(fname, options, { temperature = { "table" } })
    return setmetatable({
        name = "kd", temperature = M.temperature(fname, o.temperature, { teacher = 1, student = 1 }),
    }, KD)
end

-- The core's description of a loss argument.
function M.desc(fname, loss)
    if type(loss) ~= "table" or getmetatable(loss) ~= Loss then
        if type(loss) == "table" and getmetatable(loss) == KD then
            errors.raise("EINVAL", "%s: loss: distac.loss.kd has no labels; use distac.kd_step", fname)
        end
        check.wanted(fname, "loss", "a Loss such as distac.loss.cross_entropy{}", loss)
    end
    return loss.desc
end

return M
