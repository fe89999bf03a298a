-- What several commands share: checks of input and output files before any work.

local common = {}

local function usage(message) require("distac.cli").usage(message) end
common.usage = usage

local function fs() return require("distac").fs end

-- "; did you mean 'NAME'?", or the list of what there is.
function common.did_you_mean(name, list) return require("distac.schema").did_you_mean(name, list) end

-- The parts of "a,b,c".
function common.list(text)
    local parts = {}
    for part in (text .. ","):gmatch "([^,]*)," do parts[#parts + 1] = part end
    return parts
end

-- What runs here: { version, lua, kernels, threads, device, devices }.
function common.about()
    local distac = require "distac"
    local info = distac.context_info()
    local vm = rawget(_G, "jit")
    return { version = distac.version, lua = vm and vm.version or _VERSION, kernels = info.kernels,
             threads = info.threads, device = info.device,
             devices = require("distac.json").array(distac.devices()) }
end

-- "1 model", "2 models"
function common.count(n, what) return string.format("%.0f %s%s", n, what, n == 1 and "" or "s") end

-- One of a list of words.
function common.choice(option, value, list)
    for _, word in ipairs(list) do
        if word == value then return value end
    end
    local words = #list == 1 and list[1] or table.concat(list, ", ", 1, #list - 1) .. " or " .. list[#list]
    local near = require "distac.nearest"(value, list)
    usage(option .. ": wanted " .. words .. ", got '" .. value .. "'"
        .. (near and "; did you mean '" .. near .. "'?" or ""))
end

function common.need(o, name, what)
    local value = o[(name:gsub("%-", "_"))]
    if value == nil then usage("--" .. name .. " is missing: " .. what) end
    return value
end

-- ---- Inputs -------------------------------------------------------------------------------------------

-- What to say of a path where nothing is: the nearest name beside it.
local function nothing_at(path, what)
    local folder, name = path:match "^(.*/)([^/]+)/*$"
    local names = {}
    if fs().kind(folder or ".") == "folder" then names = fs().list(folder or ".") end
    for _, there in ipairs(names) do
        if there == (name or path) then return "'" .. path .. "' is a link to nothing" end
    end
    local near = require "distac.nearest"(name or path, names)
    return "there is no " .. what .. " '" .. path .. "'"
        .. (near and "; did you mean '" .. (folder or "") .. near .. "'?" or "")
end

function common.file(path, what)
    local kind = fs().kind(path)
    if kind == "file" then return path end
    if not kind then usage(what .. ": " .. nothing_at(path, "file")) end
    usage(what .. ": wanted a file, '" .. path .. "' is "
        .. (kind == "folder" and "a folder" or "no regular file"))
end

function common.folder(path, what)
    local kind = fs().kind(path)
    if kind == "folder" then return path end
    usage(what .. ": " .. (kind and "wanted a folder, '" .. path .. "' is a file" or nothing_at(path, "folder")))
end

function common.is_model_folder(path)
    local kind = fs().kind
    if kind(path) ~= "folder" then return false end
    for _, name in ipairs { "config.json", "open_clip_config.json", "model.safetensors.index.json" } do
        if kind(path .. "/" .. name) == "file" then return true end
    end
    return false
end

-- A model: a file, or a folder with a configuration or an index.
function common.weights(path, what)
    if common.is_model_folder(path) then return path end
    if fs().kind(path) == "folder" then
        local by_itself
        for _, name in ipairs(fs().list(path)) do
            local kind = name:match "%.(%a+)$"
            if kind == "safetensors" or kind == "bin" or kind == "pt" then by_itself = by_itself or name end
        end
        usage(what .. ": the folder '" .. path .. "' holds no config.json: it is no model's folder"
            .. (by_itself and "; '" .. path:gsub("(.)/+$", "%1") .. "/" .. by_itself .. "' can be given by itself"
                or ""))
    end
    return common.file(path, what)
end

-- The models on the command line, at least one.
function common.models(o, none)
    if #o.args == 0 then usage(none or "no model given") end
    for _, path in ipairs(o.args) do common.weights(path, "model") end
    return o.args
end

-- ---- Outputs ------------------------------------------------------------------------------------------

-- Endings of other formats: a safetensors file under such a name would mislead who opens it.
local foreign = { pt = true, pth = true, bin = true, ckpt = true, npz = true, npy = true, onnx = true, gguf = true,
                  json = true, png = true, lua = true }

-- The output may not exist and may not be an input, unless forced.
function common.output(o, inputs)
    local out = o.output
    if not out then usage("-o OUT is missing") end
    if fs().kind(out) == "folder" then usage("-o: '" .. out .. "' is a folder") end
    local ending = out:lower():match("%.(%a+)$")
    if ending and foreign[ending] then
        usage("-o: '" .. out .. "': safetensors files are written, not ." .. ending .. "; name it "
            .. out:gsub("%.%a+$", ".safetensors"))
    end
    local folder = out:match("^(.*)/[^/]*$")
    if folder and folder ~= "" and fs().kind(folder) ~= "folder" then
        usage("-o: there is no folder '" .. folder .. "'")
    end
    if not o.force then
        local full = fs().kind(out) and fs().absolute(out)
        for _, input in ipairs(inputs) do
            if full and fs().kind(input) and fs().absolute(input) == full then
                usage("-o: '" .. out .. "' is an input; --force overwrites it")
            end
        end
        if fs().kind(out) then usage("-o: '" .. out .. "' exists; --force overwrites it") end
    end
    return out
end

-- A file beside the output proper, which is written over: its folder must be there.
function common.beside(path, option)
    local folder = path and path:match "^(.*)/[^/]*$"
    if folder and folder ~= "" and fs().kind(folder) ~= "folder" then
        usage(option .. ": there is no folder '" .. folder .. "'")
    end
    if path and fs().kind(path) == "folder" then usage(option .. ": '" .. path .. "' is a folder") end
end

-- A folder to write a model to: new, or a model's alone if forced. option: which makes it one.
function common.output_folder(out, option, force)
    local ending = out:lower():match("%.(%a+)$")
    if ending == "safetensors" or ending == "bin" or ending == "pt" or ending == "pth" or ending == "json" then
        usage(option .. " writes a folder, got '" .. out .. "'; name it '"
            .. out:gsub("%.index%.json$", ""):gsub("%.%a+$", "") .. "'")
    end
    local kind = fs().kind(out)
    if kind == "file" then usage("'" .. out .. "' is a file, " .. option .. " writes a folder") end
    if kind == "folder" and #fs().list(out) > 0 then
        local fine, other = require("distac.hf").replaceable(out)
        if not fine then usage("'" .. out .. "' holds '" .. other .. "', which is no part of a model") end
        if not force then usage("'" .. out .. "' exists; --force replaces it") end
    end
    local folder = out:gsub("/+$", ""):match("^(.*)/[^/]*$")
    if folder and folder ~= "" and fs().kind(folder) ~= "folder" then
        usage("there is no folder '" .. folder .. "'")
    end
    return out
end

common.shard_option = { "shard", "text", "SIZE",
    "OUT is a folder: files of at most SIZE (512MB, 5GiB) and their index" }

-- --shard: bytes, nil where it is not given.
function common.shard(o)
    if o.shard == nil then return nil end
    local fine, bytes = pcall(require("distac.context").bytes, "--shard", "size", o.shard)
    if not fine or bytes < 1 then usage("--shard: wanted a size like 512MB or 5GiB, got '" .. o.shard .. "'") end
    return bytes
end

-- The name of a layout of CLIP's tensors, or `also`.
function common.layout(name, also)
    local raw, names = require "distac.raw", {}
    for i = 1, raw.layout_count() do names[i] = raw.layout_name(i - 1) end
    names[#names + 1] = also
    return common.choice("--to", name, names)
end

local LONG = { float32 = "f32", float16 = "f16", bfloat16 = "bf16" }

-- --dtype, under either name: nil where it is not given.
function common.dtype(o)
    return o.dtype and common.choice("--dtype", LONG[o.dtype] or o.dtype, { "f32", "f16", "bf16" })
end

common.splits = { "train", "validation", "test" }

-- ---- Models and what they look at ---------------------------------------------------------------------

-- Options of commands that run a model.
common.model_options = {
    { "activation", "text", "NAME", "gelu or quick_gelu, where the file does not say" },
    { "attention-heads", "integer", "N", "where the file does not say" },
}

function common.activation(option, name) return name and common.choice(option, name, { "gelu", "quick_gelu" }) end

function common.vit(o, checkpoint)
    common.activation("--activation", o.activation)
    return require("distac").vit(checkpoint, { activation = o.activation, heads = o.attention_heads })
end

-- Opens a model; numbers that are not finite are told by tensor and index before anything is made of them.
function common.model(path)
    local ck = require("distac").load(path)
    return ck:check_finite(path)
end

-- A labelled folder and a head must have the same classes.
function common.same_classes(head, images, head_path, folder)
    local n = head:classes()
    if images:labelled() and images:classes() ~= n then
        usage(string.format("--head: '%s' has %.0f classes, '%s' has %s", head_path, n, folder,
            common.count(images:classes(), "class folder")))
    end
end

-- A head file: its tensor "weight", the one named like the task, or its only one.
function common.head(path, task)
    local distac = require "distac"
    local ck = distac.load(path)
    local names = ck:names()
    for _, name in ipairs { task or "weight", "weight" } do
        if ck:has(name) then return distac.head(ck[name]) end
    end
    if #names == 1 then return distac.head(ck[names[1]]) end
    error(path .. ": which of its tensors is the head? Wanted 'weight', there is "
        .. table.concat(names, ", ", 1, math.min(#names, 4)) .. (#names > 4 and ", ..." or ""), 0)
end

-- A folder of images as the model wants them; option names it in errors.
function common.images(path, model, option)
    local distac = require "distac"
    local config = model:config()
    local ok, ds = pcall(distac.dataset.folder, path, { size = config.image, channels = config.channels })
    if not ok then
        local text = require("distac.cli").message_of(ds)
        if text:find("holds no", 1, true) then usage(option .. ": " .. text) end
        error(ds, 0)
    end
    if config.channels == 3 then
        ds:normalize({ 0.48145466, 0.4578275, 0.40821073 }, { 0.26862954, 0.26130258, 0.27577711 })
    else
        ds:normalize({ 0.45 }, { 0.3 })
    end
    return ds
end

return common
