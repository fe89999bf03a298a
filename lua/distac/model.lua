-- Model: the ViT image encoder.
local raw = require "distac.raw"
local check = require "distac.check"
local context = require "distac.context"
local dtype = require "distac.dtype"
local errors = require "distac.error"
local format = require "distac.format"
local checkpoint = require "distac.checkpoint"

local M = {}
local methods, meta = {}, {}

local ACTIVATIONS = { "gelu", "quick_gelu" }
local ACTIVATION_CODE = { gelu = raw.ACT_GELU, quick_gelu = raw.ACT_QUICK_GELU }
local ACTIVATION_NAME = { [raw.ACT_GELU] = "gelu", [raw.ACT_QUICK_GELU] = "quick_gelu" }

local function size(default)
    return { "integer", min = 1, required = default == nil, default = default }
end

local function open(fname, ck, options)
    if checkpoint.is_taskvector(ck) then
        errors.raise("EINVAL", "%s: wanted a Checkpoint, got a TaskVector; add it to its base first", fname)
    end
    local o = check.options(fname, options, {
        activation = { "choice", list = ACTIVATIONS }, heads = { "integer", min = 1 },
        dtype = { "string", default = "f32" },
    })
    return raw.vit_open(context.get(), ck, o.activation and ACTIVATION_CODE[o.activation] or -1, o.heads or 0,
        dtype.float_code(fname, o.dtype))
end

-- vit(checkpoint [, { activation =, heads =, dtype = }]) reads a model; vit{ image =, patch =, width =, ... }
-- makes a fresh, initialised one.
function M.vit(what, options)
    local fname = "distac.vit"
    if raw.type(what) == "checkpoint" then
        return open(fname, what, options)
    elseif type(what) ~= "table" then
        check.wanted(fname, "checkpoint", "a Checkpoint or a table { image =, patch =, width =, ... }", what)
    end
    local o = check.options(fname, what, {
        image = size(), patch = size(), channels = size(3), width = size(), layers = size(), heads = size(),
        mlp = { "integer", min = 1 }, dim = size(),
        activation = { "choice", list = ACTIVATIONS, default = "quick_gelu" },
        dtype = { "string", default = "f32" }, seed = { "integer", min = 0 },
    })
    local model = raw.vit_create(context.get(), {
        image = o.image, patch = o.patch, channels = o.channels, width = o.width, layers = o.layers,
        heads = o.heads, mlp = o.mlp or 4 * o.width, dim = o.dim, activation = ACTIVATION_CODE[o.activation],
    }, dtype.float_code(fname, o.dtype))
    raw.vit_init(model, o.seed or context.seed())
    return model
end

-- The architecture: { image =, patch =, channels =, width =, layers =, heads =, mlp =, dim =, activation = }.
function methods.config(m)
    local config = raw.vit_get_config(m)
    return {
        image = config.image, patch = config.patch, channels = config.channels, width = config.width,
        layers = config.layers, heads = config.heads, mlp = config.mlp, dim = config.dim,
        activation = ACTIVATION_NAME[config.activation],
    }
end

-- Type of the parameters.
function methods.dtype(m)
    return raw.dtype_name(raw.tensor_dtype(raw.vit_params(m)))
end

-- The images in the model's own type.
local function images_for(m, fname, images)
    check.tensor(fname, "images", images)
    local c = raw.vit_get_config(m)
    local fits = raw.tensor_rank(images) == 4
    for i, size in ipairs { c.channels, c.image, c.image } do
        fits = fits and raw.tensor_size(images, i) == size
    end
    if not fits then
        errors.raise("ESHAPE", "%s: images: wanted a Tensor [B,%.0f,%.0f,%.0f], got a %s", fname, c.channels,
            c.image, c.image, format.head(images))
    end
    local code = raw.tensor_dtype(raw.vit_params(m))
    if raw.tensor_dtype(images) ~= code then
        images = raw.tensor_cast(images, code)
    end
    return images
end
M.images_for = images_for

-- Features [B,D], not normalised, of images [B,C,H,W].
function methods.features(m, images)
    return raw.vit_features(m, images_for(m, "Model:features", images))
end

-- As features, keeping what backward needs.
function methods.forward(m, images)
    return raw.vit_forward(m, images_for(m, "Model:forward", images))
end

-- Adds the gradient for dfeatures [B,D] of the last forward to grads (a flat vector, made if not given);
-- returns it.
function methods.backward(m, dfeatures, grads)
    check.tensor("Model:backward", "dfeatures", dfeatures)
    if grads == nil then
        local params = raw.vit_params(m)
        grads = raw.tensor_create_beside(params, raw.tensor_dtype(params), { raw.tensor_numel(params) })
    end
    raw.vit_backward(m, dfeatures, check.tensor("Model:backward", "grads", grads))
    return grads
end

-- All parameters as one vector, a view.
function methods.params(m)
    return raw.vit_params(m)
end

-- Number of parameters.
function methods.numel(m)
    return raw.tensor_numel(raw.vit_params(m))
end

-- Names of the parameters' tensors.
function methods.names(m)
    local names = {}
    for i = 1, raw.vit_param_count(m) do
        names[i] = raw.vit_param_name(m, i - 1)
    end
    return names
end

-- One parameter in its own shape, a view.
function methods.param(m, name)
    check.string("Model:param", "name", name)
    local names = methods.names(m)
    for i, candidate in ipairs(names) do
        if candidate == name then
            return raw.vit_param(m, i - 1)
        end
    end
    errors.raise("ENOTFOUND", "Model:param: no parameter %q%s", name, check.hint(name, names))
end

-- { name = view } of a flat vector laid out as the parameters are, such as a gradient.
function methods.named(m, flat)
    local fname = "Model:named"
    check.tensor(fname, "vector", flat)
    local out, at = {}, 0
    if raw.tensor_numel(flat) ~= methods.numel(m) then
        errors.raise("ESHAPE", "%s: vector: wanted %.0f elements, got a %s", fname, methods.numel(m),
            format.head(flat))
    end
    for i, name in ipairs(methods.names(m)) do
        local param = raw.vit_param(m, i - 1)
        local n = raw.tensor_numel(param)
        local shape = {}
        for d = 1, raw.tensor_rank(param) do
            shape[d] = raw.tensor_size(param, d - 1)
        end
        out[name] = raw.tensor_reshape(raw.tensor_narrow(flat, 0, at, n), shape)
        at = at + n
    end
    return out
end

-- Random initialisation, a pure function of the seed (default: the context's).
function methods.init(m, seed)
    if seed ~= nil then
        check.integer("Model:init", "seed", seed, 0)
    end
    raw.vit_init(m, seed or context.seed())
    return m
end

local function load(m, fname, ck)
    check.handle(fname, "checkpoint", ck, "checkpoint")
    if checkpoint.is_taskvector(ck) then
        errors.raise("EINVAL", "%s: wanted a Checkpoint, got a TaskVector; add it to its base first", fname)
    end
    raw.vit_load(m, ck)
    return m
end

-- Takes the weights of a checkpoint.
function methods.load(m, ck)
    return load(m, "Model:load", ck)
end

-- The same architecture with the weights of a checkpoint; this model stays as it is.
function methods.with(m, ck)
    check.handle("Model:with", "checkpoint", ck, "checkpoint")
    return load(raw.vit_clone(m), "Model:with", ck)
end

-- A model of its own with the same weights.
function methods.clone(m)
    return raw.vit_clone(m)
end

-- The parameters as a Checkpoint of its own.
function methods.checkpoint(m)
    return raw.vit_checkpoint(m, 1)
end

-- recompute(true | false): whether training keeps the inputs of the blocks alone and computes the rest again in
-- the backward pass (less memory, more time, the same bits); returns the model. recompute(): is it so?
function methods.recompute(m, on)
    if on == nil then
        return raw.vit_get_recompute(m) == 1
    elseif type(on) ~= "boolean" then
        check.wanted("Model:recompute", "on", "true or false", on)
    end
    raw.vit_set_recompute(m, on and 1 or 0)
    return m
end

-- Bytes of workspace for a batch.
function methods.workspace(m, batch, training)
    check.integer("Model:workspace", "batch", batch, 1)
    return raw.vit_workspace(m, batch, training and 1 or 0)
end

function meta.__tostring(m)
    local c = methods.config(m)
    return string.format("Model ViT %.0fx%.0fx%.0f, patch %.0f, width %.0f, %.0f layers, %.0f heads, mlp %.0f, " ..
        "features %.0f, %s, %s, %.0f parameters", c.channels, c.image, c.image, c.patch, c.width, c.layers,
        c.heads, c.mlp, c.dim, c.activation, methods.dtype(m), methods.numel(m))
end

check.class("vit", methods, meta)

return M
