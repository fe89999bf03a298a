-- TextEncoder: CLIP's text tower, for inference: what zero-shot heads are made with.
local raw = require "distac.raw"
local check = require "distac.check"
local context = require "distac.context"
local dtype = require "distac.dtype"
local errors = require "distac.error"
local checkpoint = require "distac.checkpoint"

local M = {}
local methods, meta = {}, {}

local ACTIVATION_CODE = { gelu = raw.ACT_GELU, quick_gelu = raw.ACT_QUICK_GELU }
local ACTIVATION_NAME = { [raw.ACT_GELU] = "gelu", [raw.ACT_QUICK_GELU] = "quick_gelu" }

-- text(checkpoint [, { activation =, heads =, dtype = }]) reads the text encoder of a whole CLIP.
function M.text(ck, options)
    local fname = "distac.text"
    check.handle(fname, "checkpoint", ck, "checkpoint")
    if checkpoint.is_taskvector(ck) then
        errors.raise("EINVAL", "%s: wanted a Checkpoint, got a TaskVector; add it to its base first", fname)
    end
    local o = check.options(fname, options, {
        activation = { "choice", list = { "gelu", "quick_gelu" } }, heads = { "integer", min = 1 },
        dtype = { "string", default = "f32" },
    })
    return raw.text_open(context.get(), ck, o.activation and ACTIVATION_CODE[o.activation] or -1, o.heads or 0,
        dtype.float_code(fname, o.dtype))
end

-- The architecture: { vocab =, context =, width =, layers =, heads =, mlp =, dim = }.
function methods.config(t)
    local config = raw.text_get_config(t)
    return {
        context = config.context, vocabulary = config.vocabulary, width = config.width, layers = config.layers,
        heads = config.heads, mlp = config.mlp, dim = config.dim, activation = ACTIVATION_NAME[config.activation],
    }
end

-- Rows of ids of any lengths as a Tensor, shorter ones filled up with zeros.
local function rows(fname, lists)
    if type(lists[1]) == "number" then
        lists = { lists }
    end
    if #lists == 0 then
        errors.raise("EINVAL", "%s: ids: wanted at least one list of ids, got none", fname)
    end
    local longest, padded = 0, {}
    for i, list in ipairs(lists) do
        check.table(fname, string.format("ids[%.0f]", i), list)
        longest = math.max(longest, #list)
    end
    for i, list in ipairs(lists) do
        local row = {}
        for k = 1, longest do
            row[k] = list[k] ~= nil and check.integer(fname, string.format("ids[%.0f][%.0f]", i, k), list[k]) or 0
        end
        padded[i] = row
    end
    return require("distac.tensor").tensor(padded, { dtype = "i64" })
end

-- Features [B,D], not normalised, of ids: a Tensor i64 [B,n], or a list of what Tokenizer:encode gives.
function methods.features(t, ids)
    local fname = "TextEncoder:features"
    if type(ids) == "table" then
        ids = rows(fname, ids)
    end
    check.tensor(fname, "ids", ids)
    if raw.tensor_dtype(ids) ~= raw.I64 then
        ids = raw.tensor_cast(ids, raw.I64)
    end
    return raw.text_features(t, ids)
end

-- exp(logit_scale), what cosines are multiplied by.
function methods.logit_scale(t)
    return raw.text_logit_scale(t)
end

-- SHA-256 of configuration and weights.
function methods.hash(t)
    return check.strings(raw.text_hash(t))[1]
end

function meta.__tostring(t)
    local c = methods.config(t)
    return string.format("TextEncoder of %.0f positions, %.0f ids, width %.0f, %.0f layers, %.0f heads, "
        .. "mlp %.0f, features %.0f, %s", c.context, c.vocabulary, c.width, c.layers, c.heads, c.mlp, c.dim,
        c.activation)
end

check.class("text", methods, meta)

return M
