-- distac.hf: folders as transformers has them: config.json beside model.safetensors, or beside several files with
-- an index. A folder appears under its name only when it is whole.
local raw = require "distac.raw"
local checkpoint = require "distac.checkpoint"
local context = require "distac.context"
local dtype = require "distac.dtype"
local errors = require "distac.error"
local fs = require "distac.fs"
local json = require "distac.json"

local M = {}

-- ---- What config.json says ------------------------------------------------------------------------------

-- The activation of a tower: from the file's metadata, else as given. Never guessed.
local function activation(ck, tower, given)
    local said = ck:metadata(tower .. ".activation")
    if said and given and said ~= given then
        errors.raise("EINVAL", "the file says that its activation is %s, %s is asked for", said, given)
    end
    local name = said or given or (tower == "text" and ck:metadata("vit.activation"))
        or (tower == "vit" and ck:metadata("text.activation"))
    if not name then
        errors.raise("EINVAL", "the activation is not known: tensors do not tell it. OpenAI's weights want "
            .. "\"quick_gelu\", most others \"gelu\". Say it with activation = (--activation), or open a folder "
            .. "whose config.json says it")
    end
    if name ~= "gelu" and name ~= "quick_gelu" then
        errors.raise("EINVAL", "activation: wanted gelu or quick_gelu, got %s", name)
    end
    return name
end

local function heads(ck, tower, width, given)
    local said = tonumber(ck:metadata(tower .. ".heads") or given or nil)
    if said then
        return said
    elseif width % 64 ~= 0 then
        errors.raise("EINVAL", "the number of attention heads (%s) is not known, and width %.0f is no multiple of "
            .. "64; say it with heads = (--attention-heads), --text-heads", tower, width)
    end
    return width / 64
end

local TORCH = { f32 = "float32", f16 = "float16", bf16 = "bfloat16", f64 = "float64" }

-- The one element type of all float tensors; "float32", which holds them all, where there are several.
local function torch_dtype(ck, wanted)
    local name = wanted
    for i = 1, raw.checkpoint_count(ck) do
        local this = raw.dtype_name(raw.checkpoint_get_info(ck, i - 1).dtype)
        if not wanted and TORCH[this or ""] then
            if name and name ~= this then
                return "float32"
            end
            name = this
        end
    end
    return TORCH[name] or "float32"
end

-- The configuration of a checkpoint, as a table for JSON. Which class it is follows from what is there.
function M.config(ck, options)
    local o, c = options or {}, ck:clip()
    local vision = c.image > 0 and {
        model_type = "clip_vision_model", hidden_size = c.width, intermediate_size = c.mlp,
        num_hidden_layers = c.layers, num_attention_heads = heads(ck, "vit", c.width, o.heads),
        image_size = c.image, patch_size = c.patch, num_channels = c.channels,
        hidden_act = activation(ck, "vit", o.activation), layer_norm_eps = 1e-5, attention_dropout = 0,
        projection_dim = c.dim > 0 and c.dim or nil,
    }
    -- The end of a text is its largest token; the one before is the beginning.
    local text = c.vocab > 0 and {
        model_type = "clip_text_model", hidden_size = c.text_width, intermediate_size = c.text_mlp,
        num_hidden_layers = c.text_layers, num_attention_heads = heads(ck, "text", c.text_width, o.text_heads),
        max_position_embeddings = c.context, vocab_size = c.vocab,
        hidden_act = activation(ck, "text", o.text_activation or o.activation), layer_norm_eps = 1e-5,
        attention_dropout = 0, bos_token_id = c.vocab - 2, eos_token_id = c.vocab - 1, pad_token_id = c.vocab - 1,
        projection_dim = c.text_dim > 0 and c.text_dim or nil,
    }
    local config, class
    if vision and text and c.dim > 0 and c.text_dim > 0 then
        class = "CLIPModel"
        config = { model_type = "clip", vision_config = vision, text_config = text, projection_dim = c.dim,
                   logit_scale_init_value = 2.6592 }
    elseif vision then
        class = c.dim > 0 and "CLIPVisionModelWithProjection" or "CLIPVisionModel"
        config = vision
    elseif text then
        class = c.text_dim > 0 and "CLIPTextModelWithProjection" or "CLIPTextModel"
        config = text
    else
        errors.raise("EUNSUPPORTED", "neither an image tower nor a text tower is there: no model to write")
    end
    config.architectures = json.array { class }
    config.torch_dtype = torch_dtype(ck, o.dtype)
    return config, class
end

function M.config_text(config)
    return json.encode(config, { indent = 2 }) .. "\n"
end

-- ---- Files ----------------------------------------------------------------------------------------------

-- A model's folder that may be replaced: nothing else is in it.
function M.replaceable(path)
    for _, name in ipairs(fs.list(path)) do
        local ours = name == "config.json" or name:find("%.safetensors$")
            or name:find("%.safetensors%.index%.json$")
        if not ours or fs.kind(path .. "/" .. name) ~= "file" then
            return false, name
        end
    end
    return true
end

-- save(folder, checkpoint [, { dtype =, metadata =, activation =, text_activation =, heads =, text_heads =,
-- shard = "5GB", force = }]): a folder that transformers' from_pretrained loads as it is. Returns the class.
function M.save(path, ck, options)
    local o = options or {}
    path = path:gsub("(.)/+$", "%1")
    ck = checkpoint.convert(ck, "hf")
    local config, class = M.config(ck, o)
    local tensors = raw.checkpoint_clone(ck)
    for key, value in pairs(o.metadata or {}) do
        raw.checkpoint_set_metadata(tensors, key, value)
    end
    raw.checkpoint_set_metadata(tensors, "format", "pt") -- transformers reads no file without it
    local there = fs.kind(path)
    if there and there ~= "folder" then
        errors.raise("EIO", "%s is a file, wanted a folder or nothing", path)
    elseif there then
        local fine, other = M.replaceable(path)
        if not fine then
            errors.raise("EIO", "%s holds %s, which is no part of a model: it is not replaced", path, other)
        elseif not o.force and #fs.list(path) > 0 then
            errors.raise("EIO", "%s exists", path)
        end
    end
    raw.checkpoint_save_folder(tensors, path, o.dtype and dtype.code("distac.hf.save", o.dtype) or -1,
        o.shard and context.bytes("distac.hf.save", "shard", o.shard) or 0, M.config_text(config))
    return class
end

return M
