-- What is inside a Checkpoint or TaskVector: names, layout, metadata, tensors, norms, numbers that are none.
local raw = require "distac.raw"
local check = require "distac.check"
local errors = require "distac.error"
local format = require "distac.format"

local methods = {}

-- Names of all tensors, sorted by bytes.
function methods.names(ck)
    local names = {}
    for i = 1, raw.checkpoint_count(ck) do
        names[i] = raw.checkpoint_name(ck, i - 1)
    end
    return names
end

-- The same with its float tensors on a device, "cuda", or in host memory, "cpu". What is added up and merged of
-- such checkpoints is computed on the device, and lies there.
function methods.to(ck, device)
    local fname = "Checkpoint:to"
    check.string(fname, "device", device)
    if not (device == "cpu" or device:match "^cuda%f[:%z]") then
        errors.raise("EINVAL", "%s: device: %q; wanted \"cpu\" or a device, such as \"cuda\"", fname, device)
    end
    return require("distac.checkpoint").like(ck, raw.checkpoint_to(ck, device))
end

-- Is there a tensor of this name?
function methods.has(ck, name)
    return raw.checkpoint_find(ck, check.string("Checkpoint:has", "name", name)) >= 0
end

-- The file or folder that it was loaded from, "" if none.
function methods.path(ck)
    return raw.checkpoint_path(ck)
end

-- "open_clip", "hf", or "plain": whose names the tensors have.
function methods.layout(ck)
    return raw.checkpoint_layout(ck)
end

-- What stands before all of CLIP's names ("model."), "" if nothing does.
function methods.prefix(ck)
    return raw.checkpoint_prefix(ck)
end

-- CLIP's architecture, read from the shapes: { image =, patch =, width =, ..., text_width =, ... }; sizes of a
-- tower that is not there are 0.
function methods.clip(ck)
    return raw.checkpoint_clip(ck)
end

-- All entries as a table, or the value of one key (nil if absent).
function methods.metadata(ck, key)
    if key ~= nil then
        return raw.checkpoint_metadata(ck, check.string("Checkpoint:metadata", "key", key))
    end
    local out = {}
    for i = 1, raw.checkpoint_metadata_count(ck) do
        local k = raw.checkpoint_metadata_key(ck, i - 1)
        out[k] = raw.checkpoint_metadata(ck, k)
    end
    return out
end

-- The tensor of this name, as ck[name]; an unknown name is an error that tells the nearest.
function methods.tensor(ck, name)
    local index = raw.checkpoint_find(ck, check.string("Checkpoint:tensor", "name", name))
    if index < 0 then
        local path = raw.checkpoint_path(ck)
        errors.raise("ENOTFOUND", "Checkpoint%s: no tensor %q%s", path ~= "" and " " .. path or "", name,
            check.hint(name, methods.names(ck)))
    end
    return raw.checkpoint_tensor(ck, index)
end

-- 32 hexadecimal digits that the same names, types, shapes and bytes have in any kind of file; at reading speed.
function methods.fingerprint(ck)
    return raw.strings_get(raw.checkpoint_fingerprint(ck), 0)
end

-- Euclidean norm of all float tensors together.
function methods.norm(ck)
    return raw.checkpoint_norm(ck)
end

local FLOATS = { f64 = true, f32 = true, f16 = true, bf16 = true }

-- Is tensor `index` (from 0) one of numbers with a point? Asked without reading it.
local function is_float(ck, index)
    return FLOATS[raw.dtype_name(raw.checkpoint_get_info(ck, index).dtype)] == true
end

-- { name = norm } of the float tensors.
function methods.norms(ck)
    local out = {}
    for i = 1, raw.checkpoint_count(ck) do
        if is_float(ck, i - 1) then
            out[raw.checkpoint_name(ck, i - 1)] = raw.checkpoint_tensor_norm(ck, i - 1)
        end
    end
    return out
end

-- Tensors with NaN or infinite elements: a list of { name =, count =, first = }, first as t:nonfinite() has it.
function methods.nonfinite(ck)
    local out = {}
    for i = 1, raw.checkpoint_count(ck) do
        if is_float(ck, i - 1) then
            local count, first = raw.checkpoint_tensor(ck, i - 1):nonfinite()
            if count > 0 then
                out[#out + 1] = { name = raw.checkpoint_name(ck, i - 1), count = count, first = first }
            end
        end
    end
    return out
end

-- Raises unless every number is finite. The text is that of the core's merges; elements count from 0.
function methods.check_finite(ck, what)
    local bad = methods.nonfinite(ck)[1]
    if bad then
        local t = ck:tensor(bad.name)
        local value = t:reshape(t:numel())[bad.first]
        errors.raise("ENUMERIC", "%s: tensor %q, element %.0f is %s", what or raw.checkpoint_path(ck), bad.name,
            bad.first - 1, format.number(value))
    end
    return ck
end

return methods
