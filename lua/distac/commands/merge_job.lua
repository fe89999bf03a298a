-- One merge of files that has been checked: plan it, or do it and say so in the output's metadata.
--
-- A job: { operator, custom, base, models, output, dtype, layout = function(base), missing, seed, memory, shard,
-- dry_run, prints, metadata }: paths, and what the command line or a replayed file says of each.

local common = require "distac.commands.common"
local json = require "distac.json"
local provenance = require "distac.provenance"

local TORCH_NAME = { f32 = "float32", f16 = "float16", bf16 = "bfloat16" }

-- config.json of a sharded output: the base's where its names stay, else made of the tensors, if they tell enough.
local function config_of(job, base, layout)
    local fs, json_of = require("distac").fs, require("distac.hf").config_text
    local folder = fs.kind(job.base) == "folder" and job.base or job.base:match("^(.*)/[^/]*$") or "."
    local path = folder:gsub("(.)/+$", "%1") .. "/config.json"
    local same_names = layout == (base:layout() ~= "plain" and base:layout() or nil)
    if same_names and common.is_model_folder(folder) and fs.kind(path) == "file" then
        local text = fs.read(path)
        local fine, config = pcall(json.decode, text)
        if not job.dtype or not fine or type(config) ~= "table" then return text end
        for _, key in ipairs { "torch_dtype", "dtype" } do
            if config[key] then config[key] = TORCH_NAME[job.dtype] end
        end
        return json_of(config)
    end
    if layout ~= "hf" then return nil end
    local fine, config = pcall(require("distac.hf").config, base, { dtype = job.dtype })
    return fine and json_of(config) or nil
end

-- What the merge would do, from the headers.
local function planned(job, base, models, layout)
    local bytes = require("distac.plan").bytes_text
    local p = job.operator:plan(base, models, { dtype = job.dtype, layout = layout })
    local result = { method = job.operator:name(), params = job.operator:params(), output = job.output, plan = p }
    local cached = 100 * p.cached_bytes / math.max(p.input_bytes, 1)
    local looks = p.looks == 1 and "once" or string.format("%.0f times", p.looks)
    local whole = p.whole == 0 and "" or string.format(
        "; %.0f matrices as a whole, the largest of %.0f elements", p.whole, p.whole_numel)
    return result, table.concat({
        string.format("%s of %s: %.0f of %.0f tensors change, %.0f elements", result.method,
            common.count(#models, "model"), p.merged, p.tensors, p.elements),
        string.format("reads    %s, %s (%.0f %% of it in memory now)", bytes(p.input_bytes), looks, cached),
        string.format("writes   %s to %s", bytes(p.output_bytes), job.output),
        string.format("memory   at most %s, file pages apart%s", bytes(p.memory_bytes), whole),
        "slowest  " .. p.bottleneck,
    }, "\n")
end

-- Plans the merge, so that what cannot be merged is told before the output is begun, and sets the memory.
local function prepare(job, base, models, layout)
    local fits, plan = pcall(job.operator.plan, job.operator, base, models, { dtype = job.dtype, layout = layout })
    if not fits then
        -- A pattern of no tensor, or models too many for the method: the command's fault, not the files'.
        local text = type(plan) == "table" and require("distac.cli").message_of(plan) or ""
        if text:find("no tensor matches the pattern", 1, true) or text:find("models; it takes", 1, true) then
            common.usage(text)
        end
        error(plan, 0)
    end
    if not job.memory then require("distac").configure { memory = plan.whole > 0 and "2GiB" or "1GiB" } end
end

local function told(job, result, written)
    result.bytes = 0
    for _, file in ipairs(written) do result.bytes = result.bytes + require("distac").fs.bytes(file) end
    if job.shard then result.files = json.array(written) end
    local files = job.shard and string.format(" in %d files", #written) or ""
    return string.format("%s of %s written to %s (%s%s, %.1f s)", result.method,
        common.count(#job.models, "model"), job.output,
        require("distac.plan").bytes_text(result.bytes), files, result.seconds)
end

-- Does a job, or plans it with dry_run. prints: fingerprints of the inputs, where they have been proven already;
-- metadata, if given, makes the output's from that which would be written.
return function(job)
    local distac = require "distac"
    local checkpoint = require "distac.checkpoint"
    local begun = distac.clock()
    local base_file, models, files = distac.load(job.base, { layout = "file" }), {}, {}
    local record = {
        method = job.operator:name(), params = job.operator:params(), seed = job.seed, engine = distac.version,
        base = { path = job.base }, models = json.array {}, dtype = job.dtype, layout = job.layout(base_file),
        missing_from_base = job.missing, custom = job.custom, shard = job.shard,
    }
    local base = checkpoint.canonical(base_file)
    files[1] = base_file
    for i, path in ipairs(job.models) do
        files[i + 1] = distac.load(path, { layout = "file" })
        models[i] = checkpoint.canonical(files[i + 1])
        if job.missing then models[i] = checkpoint.fill(models[i], base) end
        record.models[i] = { path = path }
    end
    if not job.custom then prepare(job, base, models, record.layout) end
    if job.dry_run then return planned(job, base, models, record.layout) end

    local function metadata(prints)
        record.base.fingerprint = prints[1]
        for i, model in ipairs(record.models) do model.fingerprint = prints[i + 1] end
        local texts = provenance.metadata(base:metadata(), record)
        return job.metadata and job.metadata(texts) or texts
    end
    job.operator:files(base, models, job.output, {
        dtype = job.dtype, layout = record.layout, shard = job.shard,
        config = job.shard and config_of(job, base_file, record.layout) or nil,
        prints = not job.prints and files or nil, -- taken while the files are read
        metadata = job.prints and metadata(job.prints) or metadata,
    })
    local result = {
        method = record.method, params = record.params, base = job.base, models = json.array(job.models),
        output = job.output, seconds = distac.clock() - begun,
    }
    return result, told(job, result, distac.fs.model_files(job.output))
end
