-- Rng: a counter-based random number generator.
local raw = require "distac.raw"
local check = require "distac.check"
local context = require "distac.context"

local M = {}
local methods, meta = {}, {}
local texts = setmetatable({}, { __mode = "k" })

-- rng([seed [, stream]]): a generator of random numbers; the same seed and stream give the same numbers on every
-- machine. Without a seed: that of distac.configure.
function M.rng(seed, stream)
    seed = seed == nil and context.seed() or check.integer("distac.rng", "seed", seed, 0)
    stream = stream == nil and 0 or check.integer("distac.rng", "stream", stream, 0)
    local r = raw.rng_create(seed, stream)
    texts[r] = string.format("Rng of seed %.0f, stream %.0f", seed, stream)
    return r
end

-- A number in [0, 1), all equally likely.
function methods.uniform(r)
    return raw.rng_uniform(r)
end

-- A standard normal number.
function methods.normal(r)
    return raw.rng_normal(r)
end

-- A whole number from 0 to n - 1.
function methods.below(r, n)
    return raw.rng_below(r, check.integer("Rng:below", "n", n, 1))
end

function meta.__tostring(r)
    return texts[r] or "Rng"
end

check.class("rng", methods, meta)

return M
