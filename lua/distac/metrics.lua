-- Accuracy, entropy and calibration of logits.
local raw = require "distac.raw"
local check = require "distac.check"
local losses = require "distac.loss"

local M = {}

-- metrics(logits [, labels]) -> { count =, correct =, accuracy =, entropy =, nll =, confidence =, ece = };
-- without labels only count, entropy and confidence.
function M.metrics(logits, labels)
    local fname = "distac.metrics"
    check.tensor(fname, "logits", logits)
    if labels ~= nil then
        labels = losses.labels(fname, labels)
    end
    local m = raw.logits_metrics(logits, labels)
    if labels == nil then
        return { count = m.count, entropy = m.entropy, confidence = m.confidence }
    end
    return m
end

-- reliability(logits, labels [, bins = 10]) -> list of { count =, confidence =, accuracy = }
function M.reliability(logits, labels, bins)
    local fname = "distac.reliability"
    check.tensor(fname, "logits", logits)
    bins = bins == nil and 10 or check.integer(fname, "bins", bins, 1)
    local values = raw.logits_reliability(logits, losses.labels(fname, labels), 3 * bins)
    local out = {}
    for i = 1, bins do
        out[i] = { count = values[3 * i - 2], confidence = values[3 * i - 1], accuracy = values[3 * i] }
    end
    return out
end

-- The temperature that minimises the negative log-likelihood of logits / T.
function M.temperature(logits, labels)
    local fname = "distac.temperature"
    check.tensor(fname, "logits", logits)
    return raw.logits_temperature(logits, losses.labels(fname, labels))
end

return M
