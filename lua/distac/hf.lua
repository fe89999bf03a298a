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

-- ---- Files ----------------------------------------------------------------------------------------------

-- Removes a folder of plain files.
local function remove(path)
    if fs.kind(path) ~= "folder" then
        return
    end
    for _, name in ipairs(fs.list(path)) do
        fs.remove(path .. "/" .. name)
    end
    fs.remove(path)
end

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

-- Consecutive tensors of at most `limit` bytes together: { { first, count }, ... }, and the bytes of all.
local function cut(ck, limit, code)
    local parts, first, held, total = {}, 0, 0, 0
    local count = raw.checkpoint_count(ck)
    for i = 0, count - 1 do
        local info = raw.checkpoint_get_info(ck, i)
        local bytes = info.bytes
        if code >= 0 and TORCH[raw.dtype_name(info.dtype) or ""] then
            bytes = info.numel * raw.dtype_bytes(code)
        end
        if limit and held > 0 and held + bytes > limit then
            parts[#parts + 1] = { first, i - first }
            first, held = i, 0
        end
        held, total = held + bytes, total + bytes
    end
    parts[#parts + 1] = { first, count - first }
    return parts, total
end

local function write_weights(folder, ck, o)
    local code = o.dtype and dtype.code("distac.hf.save", o.dtype) or -1
    local parts, total = cut(ck, o.shard_size, code)
    if #parts == 1 then
        raw.checkpoint_save(ck, folder .. "/model.safetensors", code)
        return
    end
    local map = {}
    for i, part in ipairs(parts) do
        local name = string.format("model-%05d-of-%05d.safetensors", i, #parts)
        local piece = raw.checkpoint_part(ck, part[1], part[2])
        raw.checkpoint_save(piece, folder .. "/" .. name, code)
        for k = part[1], part[1] + part[2] - 1 do
            map[raw.checkpoint_name(ck, k)] = name
        end
    end
    fs.write(folder .. "/model.safetensors.index.json",
        json.encode({ metadata = { total_size = total }, weight_map = map }, { indent = 2 }) .. "\n")
end

-- save(folder, checkpoint [, { dtype =, metadata =, activation =, text_activation =, heads =, text_heads =,
-- shard_size = bytes, force = }]): a folder that transformers' from_pretrained loads as it is. Returns the class.
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
    local folder, name = path:match("^(.*/)([^/]*)$")
    local between = (folder or "") .. "." .. (name or path) .. ".distac-tmp"
    remove(between) -- what a killed process left
    local done, err = pcall(function()
        fs.make(between)
        write_weights(between, tensors, o)
        fs.write(between .. "/config.json", json.encode(config, { indent = 2 }) .. "\n")
        fs.rename(between, path)
    end)
    if there or not done then
        remove(between)
    end
    if not done then
        error(err, 0)
    end
    return class
end

return M
