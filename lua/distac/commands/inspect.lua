-- distac norms, inspect and version: looking at files and at the engine.

local common = require "distac.commands.common"
local json = require "distac.json"

local commands = {}

commands.norms = {
    usage = "--base B MODEL... [--layers]", text = "task-vector norms and the kappa that each would need",
    example = "--base base.safetensors cars.safetensors dtd.safetensors",
    options = {
        { "base", "text", "FILE", "the base model" },
        { "layers", "flag", nil, "norms of every tensor, too" },
        { "per-layer", "flag", nil, "the same" },
    },
    run = function(o)
        local base_path = common.weights(common.need(o, "base", "the base model"), "--base")
        common.models(o)
        local base = common.model(base_path)
        local list, sum, layers = json.array {}, 0, o.layers or o.per_layer
        for i, path in ipairs(o.args) do
            local tau = common.model(path) - base
            list[i] = { model = path, norm = tau:norm(), layers = layers and tau:norms() or nil }
            sum = sum + list[i].norm
        end
        local widest = 40 -- as wide as the names of parts below
        for _, entry in ipairs(list) do widest = math.max(widest, #entry.model) end
        local lines = { string.format("%-" .. widest .. "s %12s %12s", "model", "norm", "kappa") }
        for _, entry in ipairs(list) do
            -- kappa brings this task vector to the mean norm of the others.
            local others = #list > 1 and (sum - entry.norm) / (#list - 1) or entry.norm
            entry.kappa = entry.norm > 0 and others / entry.norm or 1
            lines[#lines + 1] = string.format("%-" .. widest .. "s %12.6g %12.6g", entry.model, entry.norm,
                entry.kappa)
            local names = {}
            for name in pairs(entry.layers or {}) do names[#names + 1] = name end
            table.sort(names)
            for _, name in ipairs(names) do
                lines[#lines + 1] = string.format("    %-" .. widest - 4 .. "s %12.6g", name, entry.layers[name])
            end
        end
        return { base = o.base, base_norm = base:norm(), models = list }, table.concat(lines, "\n")
    end,
}

-- What is known of a CLIP model; nil for anything else. One that is not whole says what is wrong with it.
local function describe(ck)
    local out = { layout = ck:layout(), prefix = ck:prefix() }
    if out.layout == "plain" then return nil end
    local fine, c = pcall(ck.clip, ck)
    if not fine then
        out.mistakes = c.message
        return out
    end
    local function tower(name, width, rest)
        rest.width = width
        rest.heads = tonumber(ck:metadata(name .. ".heads") or nil) or (width % 64 == 0 and width / 64 or nil)
        rest.activation = ck:metadata(name .. ".activation")
        return rest
    end
    if c.image > 0 then
        out.image = tower("vit", c.width, { image = c.image, patch = c.patch, channels = c.channels,
            layers = c.layers, mlp = c.mlp, dim = c.dim > 0 and c.dim or nil })
    end
    if c.vocab > 0 then
        out.text = tower("text", c.text_width, { vocab = c.vocab, context = c.context, layers = c.text_layers,
            mlp = c.text_mlp, dim = c.text_dim > 0 and c.text_dim or nil })
    end
    return out
end

local function describe_text(clip, lines)
    if not clip then return end
    lines[#lines + 1] = "  layout " .. clip.layout .. (clip.prefix ~= "" and ", prefix " .. clip.prefix or "")
    if clip.mistakes then lines[#lines + 1] = "  " .. clip.mistakes end
    local function tower(t, first)
        lines[#lines + 1] = string.format("  %s, width %d, %d layers, %s, MLP %d, %s, activation %s", first,
            t.width, t.layers, t.heads and string.format("%d heads", t.heads) or "heads not said", t.mlp,
            t.dim and string.format("features %d", t.dim) or "no projection",
            t.activation or "not said (--activation gives it)")
    end
    local i, t = clip.image, clip.text
    if i then
        tower(i, string.format("image tower: ViT %dx%dx%d, patch %d", i.channels, i.image, i.image, i.patch))
    end
    if t then tower(t, string.format("text tower: %d tokens, context %d", t.vocab, t.context)) end
end

local function inspect_file(path)
    local distac = require "distac"
    local ck = distac.load(path, { layout = "file" })
    local out = { path = path, bytes = 0, metadata = ck:metadata(), tensors = json.array {},
                  parameters = 0, nonfinite = 0, clip = describe(ck), fingerprint = ck:fingerprint() }
    out.merge = require("distac.provenance").read(out.metadata)
    for _, file in ipairs(distac.fs.model_files(path)) do out.bytes = out.bytes + distac.fs.bytes(file) end
    local norms = ck:norms()
    for i, name in ipairs(ck:names()) do
        local t = ck[name]
        local entry = { name = name, dtype = t:dtype(), shape = json.array(t:shape()), norm = norms[name] }
        if norms[name] then
            local bad, first = t:nonfinite()
            entry.nonfinite, entry.first_nonfinite = bad, first and first - 1
            out.nonfinite = out.nonfinite + bad
        end
        out.parameters = out.parameters + t:numel()
        out.tensors[i] = entry
    end
    return out
end

local function inspect_text(file)
    local lines = { string.format("%s: %d tensors, %s elements, %s%s", file.path, #file.tensors,
        json.number(file.parameters), require("distac.plan").bytes_text(file.bytes),
        file.nonfinite > 0 and ", " .. json.number(file.nonfinite) .. " NOT FINITE" or "") }
    lines[#lines + 1] = "  fingerprint " .. file.fingerprint
    describe_text(file.clip, lines)
    for _, t in ipairs(file.tensors) do
        lines[#lines + 1] = string.format("  %-52s %-5s %-18s %s%s", t.name, t.dtype,
            "[" .. table.concat(t.shape, ", ") .. "]",
            t.norm and (t.norm == t.norm and string.format("%.6g", t.norm) or "nan") or "-",
            (t.nonfinite or 0) > 0 and "  " .. json.number(t.nonfinite) .. " not finite, the first at element "
                .. json.number(t.first_nonfinite) or "")
    end
    local keys = {}
    local told = require("distac.provenance").describe(file.metadata, lines)
    for key in pairs(file.metadata) do
        if not told[key] then keys[#keys + 1] = key end
    end
    table.sort(keys)
    for _, key in ipairs(keys) do lines[#lines + 1] = "  " .. key .. " = " .. file.metadata[key] end
    return table.concat(lines, "\n")
end

-- Endings of files with weights.
local WEIGHTS = { safetensors = true, pt = true, pth = true, bin = true }

commands.inspect = {
    usage = "FILE|DIR", text = "layout, architecture, tensors, shapes, types, norms, non-finite values, metadata",
    example = "merged.safetensors",
    run = function(o)
        local fs = require("distac").fs
        if #o.args ~= 1 then common.usage("wanted one file or folder, got " .. #o.args) end
        local path = o.args[1]
        if fs.kind(path) == "folder" and not common.is_model_folder(path) then
            local files, lines = json.array {}, {}
            for _, name in ipairs(fs.list(path)) do
                if WEIGHTS[name:match "%.(%a+)$"] then
                    files[#files + 1] = inspect_file(path .. "/" .. name)
                    lines[#lines + 1] = inspect_text(files[#files])
                end
            end
            if #files == 0 then
                common.usage("'" .. path .. "' holds no model: wanted .safetensors, .pt, .pth or .bin files in it")
            end
            return { path = path, files = files }, table.concat(lines, "\n")
        end
        local file = inspect_file(common.weights(path, "FILE"))
        return file, inspect_text(file)
    end,
}

commands.version = {
    usage = "", text = "versions, kernels, devices",
    run = function(o)
        if #o.args > 0 then common.usage("unexpected '" .. o.args[1] .. "'") end
        local v = common.about()
        local lines = { "distac " .. v.version, v.lua, string.format("kernels %s, %s threads", v.kernels,
            json.number(v.threads)) }
        for _, device in ipairs(v.devices) do
            lines[#lines + 1] = "device " .. device.name .. ": " .. device.text
        end
        return v, table.concat(lines, "\n")
    end,
}

return commands
