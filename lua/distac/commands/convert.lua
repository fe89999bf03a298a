-- distac convert: a model under other names, in another element type.

local common = require "distac.commands.common"

local commands = {}

-- What the file will say of the model that its tensors do not: given where it does not say it already.
local function facts(o, ck)
    local out = {}
    local c = ck:clip()
    local function put(key, value, option)
        local said = ck:metadata(key)
        if not value then return end
        if said and said ~= value then
            common.usage("--" .. option .. " " .. value .. ": the file says " .. key .. " = " .. said)
        end
        out[key] = value
    end
    if c.image > 0 then
        put("vit.activation", o.activation, "activation")
        put("vit.heads", o.attention_heads and string.format("%.0f", o.attention_heads), "attention-heads")
    end
    if c.vocab > 0 then
        put("text.activation", o.text_activation or o.activation, "text-activation")
        put("text.heads", o.text_heads and string.format("%.0f", o.text_heads), "text-heads")
    end
    return out
end

-- Tensors that are no part of a CLIP model, and left-overs of a text tower whose blocks are gone: they are
-- carried, but a strict reader will not have them.
local function strangers(ck)
    local list, text = {}, ck:clip().vocab > 0
    for _, name in ipairs(ck:convert("hf"):names()) do
        local ours = name:find("^vision_model%.") or name:find("^visual_projection%.") or name == "logit_scale"
            or (text and (name:find("^text_model%.") or name:find("^text_projection%.")))
        if not ours then list[#list + 1] = name end
    end
    if #list == 0 then return nil end
    return string.format("%.0f tensors more than a CLIP model has: %s%s", #list, table.concat(list, ", ", 1,
        math.min(#list, 4)), #list > 4 and ", ..." or "")
end

-- What a program that reads this layout will miss.
local function missing(ck, layout)
    local c, list = ck:clip(), {}
    if layout ~= "open_clip" then return nil end
    if c.image == 0 then list[#list + 1] = "the image tower" end
    if c.image > 0 and c.dim == 0 then list[#list + 1] = "visual.proj" end
    if c.vocab == 0 then list[#list + 1] = "the text tower" end
    if c.vocab > 0 and c.text_dim == 0 then list[#list + 1] = "text_projection" end
    if c.scale == 0 then list[#list + 1] = "logit_scale" end
    if #list == 0 then return nil end
    return "no whole CLIP: " .. table.concat(list, ", ") .. (#list > 1 and " are" or " is")
        .. " not in it; open_clip.create_model(pretrained = FILE) wants all of them"
end

commands.convert = {
    usage = "IN OUT [--to LAYOUT] [--dtype TYPE]", text = "a model under other names, in another element type",
    example = "open_clip.safetensors folder --to hf --dtype f16",
    options = {
        { "to", "text", "LAYOUT", "open_clip, custom_text: one file; hf: a folder for transformers; plain "
            .. "(default): names as they are" },
        { "dtype", "text", "TYPE", "f32, f16 or bf16 (default: as it is)" },
        { "activation", "text", "NAME", "gelu or quick_gelu, where the file does not say" },
        { "text-activation", "text", "NAME", "of the text tower (default: the same)" },
        { "attention-heads", "integer", "N", "of the image tower, where the file does not say" },
        { "text-heads", "integer", "N", "of the text tower, where the file does not say" },
        common.shard_option,
        { "force", "flag", nil, "overwrite the output" },
    },
    run = function(o)
        local distac = require "distac"
        if #o.args ~= 2 then common.usage("wanted IN and OUT, got " .. #o.args .. " names") end
        local input, out, to = common.weights(o.args[1], "IN"), o.args[2], o.to or "plain"
        if to ~= "plain" then common.layout(to, "plain") end
        common.activation("--activation", o.activation)
        common.activation("--text-activation", o.text_activation)
        local shard = common.shard(o)
        local dtype = common.dtype(o)
        if to == "hf" or shard then
            common.output_folder(out, to == "hf" and "--to hf" or "--shard", o.force)
        else
            o.output = out
            common.output(o, distac.fs.model_files(input))
        end
        local ck = distac.load(input, { layout = "file" })
        local from = ck:layout()
        if to ~= "plain" and from == "plain" then
            common.usage("--to " .. to .. ": no CLIP model is recognised by the names in '" .. input .. "'")
        end
        local metadata = from ~= "plain" and facts(o, ck) or {}
        local result = { input = input, output = out, from = from, to = to }
        if to == "hf" then
            result.class = require("distac.hf").save(out, ck, {
                dtype = dtype, metadata = metadata, activation = o.activation, text_activation = o.text_activation,
                heads = o.attention_heads, text_heads = o.text_heads, shard = shard, force = o.force,
            })
        else
            if to ~= "plain" then ck = ck:convert(to) end
            distac.save(out, ck, { dtype = dtype, shard = shard,
                metadata = next(metadata) and metadata or nil })
            result.note = from ~= "plain" and missing(ck, to) or nil
        end
        result.strangers = to ~= "plain" and strangers(ck) or nil
        result.bytes = 0
        for _, file in ipairs(distac.fs.model_files(out)) do
            result.bytes = result.bytes + distac.fs.bytes(file)
        end
        return result, input .. " -> " .. out .. (result.class and " (" .. result.class .. ")" or "")
            .. (result.note and "\n" .. result.note or "") .. (result.strangers and "\n" .. result.strangers or "")
    end,
}

return commands
