-- Head: a linear classifier over (normalised) features; the logit scale is part of its weight.
local raw = require "distac.raw"
local check = require "distac.check"
local checkpoint = require "distac.checkpoint"
local errors = require "distac.error"

local M = {}
local methods, meta = {}, {}

-- What a head is made of, for those who know it; saved with it.
local about = setmetatable({}, { __mode = "k" })

-- head(weight [, { normalize = true, metadata = { key = text } }]): a classification head of a matrix [C,D], a row
-- per class. normalize: features are brought to length 1 first, as CLIP's are.
function M.head(weight, options)
    local fname = "distac.head"
    check.tensor(fname, "weight", weight)
    local o = check.options(fname, options, { normalize = { "boolean", default = true }, metadata = { "table" } })
    local h = raw.head_create(weight, o.normalize and 1 or 0)
    local known = {}
    for key, value in pairs(o.metadata or {}) do
        known[key] = value
    end
    known["head.normalize"] = o.normalize and "1" or "0"
    about[h] = known
    return h
end

-- load(path): a head that Head:save wrote, or any file with the tensor "weight": a module by torch.save or
-- pickle.dump too. A "bias" must be zero, as in the heads that are published beside task vectors: logits here have
-- none.
function M.load(path)
    local ck = checkpoint.load(check.string("distac.head.load", "path", path))
    local bias = ck:has "bias" and ck:tensor("bias"):norm():item() or 0
    if bias ~= 0 then
        errors.raise("EUNSUPPORTED", "distac.load_head: %s: the bias is not zero (norm %g); a head here is a "
            .. "weight alone", path, bias)
    end
    local metadata = ck:metadata()
    return M.head(ck:tensor "weight", { normalize = metadata["head.normalize"] ~= "0", metadata = metadata })
end

-- The texts that the head was made or loaded with, { key = text }.
function M.metadata(h)
    return about[check.handle("distac.head", "head", h, "head")] or {}
end

local function same_type(h, t)
    local code = raw.tensor_dtype(raw.head_weight(h))
    return raw.tensor_dtype(t) == code and t or raw.tensor_cast(t, code)
end

-- The weight [C,D], a view.
function methods.weight(h)
    return raw.head_weight(h)
end

-- Number of classes.
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

-- Metadata of the head, see above; class_names() is the list of them, nil if they are not known.
function methods.metadata(h)
    return M.metadata(h)
end

-- Their names, nil if none were given.
function methods.class_names(h)
    local names = M.metadata(h)["head.classes"]
    return names and require("distac.json").decode(names)
end

-- A safetensors file with the tensor "weight" and the metadata.
function methods.save(h, path)
    checkpoint.save(check.string("Head:save", "path", path), { weight = raw.head_weight(h) },
        { metadata = M.metadata(h) })
end

function meta.__tostring(h)
    local w = raw.head_weight(h)
    return string.format("Head of %.0f classes over %.0f features", raw.tensor_size(w, 0), raw.tensor_size(w, 1))
end

check.class("head", methods, meta)

return M
