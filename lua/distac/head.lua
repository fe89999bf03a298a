-- Head: a linear classifier over (normalised) features; the logit scale is part of its weight.
local raw = require "distac.raw"
local check = require "distac.check"

local M = {}
local methods, meta = {}, {}

-- head(weight [C,D] [, { normalize = true }])
function M.head(weight, options)
    local fname = "distac.head"
    check.tensor(fname, "weight", weight)
    local o = check.options(fname, options, { normalize = { "boolean", default = true } })
    return raw.head_create(weight, o.normalize and 1 or 0)
end

local function same_type(h, t)
    local code = raw.tensor_dtype(raw.head_weight(h))
    return raw.tensor_dtype(t) == code and t or raw.tensor_cast(t, code)
end

-- The weight [C,D], a view.
function methods.weight(h)
    return raw.head_weight(h)
end

function methods.classes(h)
    return raw.tensor_size(raw.head_weight(h), 0)
end

-- Logits [B,C] of features [B,D].
function methods.logits(h, features)
    return raw.head_logits(h, same_type(h, check.tensor("Head:logits", "features", features)))
end

-- Gradient for the features; dweight [C,D], if given, is added to.
function methods.backward(h, features, dlogits, dweight)
    local fname = "Head:backward"
    check.tensor(fname, "features", features)
    check.tensor(fname, "dlogits", dlogits)
    if dweight ~= nil then
        check.tensor(fname, "dweight", dweight)
    end
    return raw.head_backward(h, features, dlogits, dweight)
end

function meta.__tostring(h)
    local w = raw.head_weight(h)
    return string.format("Head of %.0f classes over %.0f features", raw.tensor_size(w, 0), raw.tensor_size(w, 1))
end

check.class("head", methods, meta)

return M
