-- What the specs of the merge methods that look at images share: tiny encoders, images and heads, and a problem
-- made of them: a base, task vectors and their data.
local distac = require "distac"
local near = require("spec.helper").near

local driven = {}

driven.F64 = { dtype = "f64" }
function driven.t64(rows) return distac.tensor(rows, driven.F64) end

-- A fresh tiny encoder with every tensor nudged, so that no bias is zero.
local CONFIG = { image = 6, patch = 3, channels = 2, width = 8, layers = 2, heads = 2, mlp = 12, dim = 5,
    activation = "gelu" }
function driven.encoder(seed, dtype)
    local config = { seed = seed, dtype = dtype or "f64" }
    for key, value in pairs(CONFIG) do config[key] = value end
    local m = distac.vit(config)
    local nudge = distac.randn({ m:numel() }, { seed = seed, dtype = dtype or "f64" })
    m:params():copy(m:params() + 0.05 * nudge:to(m:params():device()))
    return m
end

function driven.pictures(n, seed)
    return distac.dataset.tensors((100 + 60 * distac.randn({ n, 2, 6, 6 },
        { seed = seed })):maximum(0):minimum(255)
        :to "u8")
end

function driven.head_of(classes, seed, dtype)
    return distac.head(2 * distac.randn({ classes, 5 }, { seed = seed, dtype = dtype or "f64" }))
end

-- A base, task vectors of a few models near it, and what the methods look at.
function driven.problem(dtype, count)
    local base = driven.encoder(1, dtype)
    local p = { model = base, base = base:checkpoint(), taus = {}, data = {} }
    for i = 1, count or 2 do
        local other = driven.encoder(10 + i, dtype)
        p.taus[i] = 0.3 * (other:checkpoint() - p.base)
        p.data[i] = { dataset = driven.pictures(7 + i, 20 + i), head = driven.head_of(2 + i, 30 + i, dtype) }
    end
    return p
end

function driven.input(p, more)
    local out = { data = p.data, model = p.model }
    for key, value in pairs(more or {}) do out[key] = value end
    return out
end

function driven.same_checkpoint(a, b, tol)
    for _, name in ipairs(b:names()) do near(a:tensor(name), b:tensor(name), tol) end
end

return driven
