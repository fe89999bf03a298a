-- distac merge --replay FILE: the merge that made FILE, again, from inputs that are proven to be the same. Without
-- -o the result is compared with FILE and not kept.

local common = require "distac.commands.common"
local method = require "distac.commands.merge_method"
local perform = require "distac.commands.merge_job"
local provenance = require "distac.provenance"

local function same_bytes(a, b)
    local one, two = io.open(a, "rb"), io.open(b, "rb")
    local same = one ~= nil and two ~= nil
    while same do
        local x, y = one:read(1048576), two:read(1048576)
        same = x == y
        if not x then break end
    end
    if one then one:close() end
    if two then two:close() end
    return same
end

-- The files of two models, one by one.
local function same_files(a, b)
    local fs = require("distac").fs
    local one, two = fs.model_files(a), fs.model_files(b)
    local same = #one == #two
    for i, path in ipairs(one) do
        local named = fs.kind(a) ~= "folder" or same and path:match("[^/]*$") == two[i]:match("[^/]*$")
        same = same and named and same_bytes(path, two[i])
    end
    return same
end

local function remove_model(path)
    local fs = require("distac").fs
    for _, file in ipairs(fs.model_files(path)) do fs.remove(file) end
    fs.remove(path)
end

-- The file says all that these would.
local ELSEWHERE = { "base", "method", "only", "except", "scale", "dtype", "to", "missing_from_base", "seed",
    "shard" }

local function check_alone(o)
    for _, key in ipairs(ELSEWHERE) do
        if o[key] ~= nil then
            common.usage("--" .. key:gsub("_", "-") .. " and --replay do not go together: the file says how it "
                .. "was made")
        end
    end
    if #o.args > 0 or #o.extra_order > 0 then
        common.usage("unexpected '" .. (o.args[1] or "--" .. o.extra_order[1])
            .. "': the file of --replay says it all")
    end
end

local function operator_of(record, file, folder)
    if not record.custom then return method.named(record.method, record.params) end
    local at = provenance.find(record.custom.file, file, folder)
    if not at then error(file .. " cannot be replayed: there is no method file " .. record.custom.file, 0) end
    return (method.in_file(at, record.custom.params or {}, record.custom.sha256))
end

return function(o)
    local distac = require "distac"
    local file = common.weights(o.replay, "--replay"):gsub("(.)/+$", "%1")
    if file:find("%.safetensors%.index%.json$") then file = file:match("^(.*)/[^/]*$") or "." end
    check_alone(o)
    local folder = o.models and common.folder(o.models, "--models")
    local was = distac.load(file, { layout = "file" })
    local record, why = provenance.read(was:metadata())
    if not record then error(file .. " cannot be replayed: " .. why, 0) end
    local out = o.output or file .. ".replay"
    if o.output and record.shard then
        common.output_folder(out, "the sharded merge of --replay", o.force)
    elseif o.output then
        common.output(o, { file })
    end
    local begun = distac.clock()
    local paths, wrong = provenance.inputs(record, file, folder)
    if not paths then error(file .. " cannot be replayed:\n" .. wrong, 0) end
    local prints = { record.base.fingerprint }
    for i, model in ipairs(record.models) do prints[i + 1] = model.fingerprint end
    local metadata = was:metadata()
    metadata["distac.engine"] = distac.version
    perform {
        operator = operator_of(record, file, folder), custom = record.custom, base = table.remove(paths, 1),
        models = paths, prints = prints, dtype = record.dtype, layout = function() return record.layout end,
        missing = record.missing_from_base, seed = record.seed, output = out, memory = o.memory,
        shard = record.shard, metadata = function() return metadata end,
    }
    local same = same_files(out, file)
    local tensors = same or provenance.fingerprint(out) == was:fingerprint()
    if not o.output then remove_model(out) end
    if not tensors then
        local other = record.engine ~= distac.version
            and " (made by distac " .. record.engine .. ", this is " .. distac.version .. ")" or ""
        error(file .. " is not what its recipe gives: " .. (o.output and out .. " has" or "the merge gives")
            .. " other tensors from the same inputs" .. other, 0)
    end
    local result = { replay = file, output = o.output, identical = same, same_tensors = tensors,
                     engine = record.engine, seconds = distac.clock() - begun }
    local files = record.shard and "the files are" or "the file is"
    return result, string.format("%s: the inputs are the same, %s%s (%.1f s)", file,
        same and files .. " the same bit for bit" or "the tensors are the same, the files differ",
        o.output and ", written to " .. o.output or "", result.seconds)
end
