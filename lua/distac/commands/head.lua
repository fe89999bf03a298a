-- distac head: a zero-shot head from a CLIP's text tower, its vocabulary, class names and templates.

local common = require "distac.commands.common"

local commands = {}

-- The lines of a file that are not empty.
local function lines_of(path, option)
    common.file(path, option)
    local list = {}
    for line in (require("distac").fs.read(path) .. "\n"):gmatch "(.-)\r?\n" do
        line = line:match "^%s*(.-)%s*$"
        if line ~= "" then list[#list + 1] = line end
    end
    if #list == 0 then common.usage(option .. ": '" .. path .. "' has no lines") end
    return list
end

-- What to say of class names that stand in a file twice: their rows of the head are the same.
local function twice(names)
    local at, notes = {}, {}
    for i, name in ipairs(names or {}) do
        if at[name] then
            notes[#notes + 1] = string.format("note: '%s' is class %.0f and class %.0f: the first always wins",
                name, at[name], i)
        end
        at[name] = at[name] or i
    end
    return notes
end

-- The text tower; what is wrong with it is told with its file.
local function tower(model, options)
    local distac = require "distac"
    local ok, text = pcall(function() return distac.text(distac.load(model), options) end)
    if ok then return text end
    if type(text) ~= "table" or text.code == "ECANCELED" or text.message:find(model, 1, true) then
        error(text, 0)
    end
    require("distac.error").raise(text.code, "%s: %s", model, (text.message:gsub("^distac_[%l_]+: ", "")))
end

-- The vocabulary as given, or beside the model.
local function vocabulary(o, model)
    local fs = require("distac").fs
    if o.tokenizer then
        if not fs.kind(o.tokenizer) then common.usage("--tokenizer: there is no '" .. o.tokenizer .. "'") end
        return o.tokenizer
    end
    local folder = fs.kind(model) == "folder" and model or model:match "^(.*)/[^/]*$" or "."
    for _, name in ipairs { "vocab.json", "bpe_simple_vocab_16e6.txt.gz", "bpe_simple_vocab_16e6.txt" } do
        if fs.kind(folder .. "/" .. name) == "file" then return folder .. "/" .. name end
    end
    common.usage("--tokenizer is missing, and there is no vocabulary beside the model: "
        .. "bpe_simple_vocab_16e6.txt.gz, or a folder with vocab.json and merges.txt")
end

commands.head = {
    usage = "--model CLIP [--tokenizer PATH] --dataset NAME | --classes FILE -o OUT",
    text = "a zero-shot head: class names and templates through the text tower",
    example = "--model clip.safetensors --dataset cars -o cars.head.safetensors",
    options = {
        { "model", "text", "FILE", "a whole CLIP: file or folder" },
        { "tokenizer", "text", "PATH", 
            "bpe_simple_vocab_16e6.txt.gz, or vocab.json with merges.txt (default: beside the model)" },
        { "dataset", "text", "NAME", 
            "class names and templates of cars, dtd, eurosat, gtsrb, mnist, resisc45, sun397 or svhn" },
        { "classes", "text", "FILE", "class names, one a line" },
        { "templates", "text", "FILE",
            "templates, one a line, with {} for the class (default: a photo of a {}.)" },
        { "activation", "text", "NAME", "gelu or quick_gelu, where the file does not say" },
        { "text-heads", "integer", "N", "attention heads, where the file does not say" },
        { "output", "text", "OUT", "the head, a safetensors file" },
        { "force", "flag", nil, "overwrite the output" },
    },
    run = function(o)
        local distac = require "distac"
        if #o.args > 0 then common.usage("wanted options only, got '" .. o.args[1] .. "'") end
        local model = common.weights(common.need(o, "model", "a CLIP with its text tower"), "--model")
        if not o.dataset and not o.classes then common.usage("--dataset or --classes is missing") end
        if o.dataset then
            local ok, err = pcall(function() return distac.prompts[o.dataset] end)
            if not ok then common.usage("--dataset: " .. err.message) end
        end
        if o.activation and o.activation ~= "gelu" and o.activation ~= "quick_gelu" then
            common.usage("--activation: wanted gelu or quick_gelu, got '" .. o.activation .. "'")
        end
        local classes = o.classes and lines_of(o.classes, "--classes")
        local templates = o.templates and lines_of(o.templates, "--templates")
        local tokenizer = vocabulary(o, model)
        local inputs = { tokenizer, o.classes, o.templates }
        for _, file in ipairs(distac.fs.model_files(model)) do inputs[#inputs + 1] = file end
        local out = common.output(o, inputs)
        local text = tower(model, { activation = o.activation, heads = o.text_heads })
        local head = distac.zero_shot_head { text = text, tokenizer = tokenizer, dataset = o.dataset,
            classes = classes, templates = templates }
        head:save(out)
        local metadata, notes = head:metadata(), twice(classes)
        table.insert(notes, 1, string.format("%s: %.0f classes over %.0f features, logit scale %s", out,
            head:classes(), text:config().dim, metadata["head.logit_scale"]))
        return {
            output = out, classes = head:classes(), dim = text:config().dim, hash = metadata["head.hash"],
            logit_scale = tonumber(metadata["head.logit_scale"]),
        }, table.concat(notes, "\n")
    end,
}

return commands
