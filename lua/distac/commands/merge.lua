-- distac merge: whole models to one, streamed from file to file.

local common = require "distac.commands.common"
local json = require "distac.json"
local provenance = require "distac.provenance"

local commands = {}

local function methods() return require("distac").merge.methods() end

local function find_method(name)
    local names = {}
    for i, method in ipairs(methods()) do
        if method.name == name then
            if method.data then common.usage("--method: " .. require("distac.driven").refusal(name)) end
            return method
        end
        names[i] = method.name
    end
    common.usage("--method: unknown method '" .. name .. "'" .. require("distac.schema").did_you_mean(name, names))
end

-- Options that neither the command nor any method knows: told before anything else, with the nearest of all.
local function check_known(o)
    local known, names = {}, require("distac.cli_options").names(commands.merge)
    for _, method in ipairs(methods()) do
        for _, p in ipairs(method.params) do -- those of methods that are refused, too: they are no misspellings
            if not known[p.name] then names[#names + 1] = "--" .. p.name end
            known[p.name] = true
        end
    end
    for _, key in ipairs(o.extra_order) do
        if not known[key] then
            common.usage("unknown option '--" .. key .. "'"
                .. require("distac.schema").did_you_mean("--" .. key, names))
        end
        if o.extra[key] == "" then common.usage("--" .. key .. " needs a value") end
    end
end

-- A mean has no factor: half of one is another method.
local function takes(method, key) return not (method.name == "average" and key == "lambda") end

-- "0.4" or, where a list is allowed, "0.4,0.5,0.3".
local function parameter(method, key, text, n_models)
    local names = {}
    if not takes(method, key) then
        common.usage("--lambda: average is the mean of the models and takes no factor; task_arithmetic --lambda scales the "
            .. "sum of their changes")
    end
    for _, p in ipairs(method.params) do
        if not p.ours then names[#names + 1] = p.name end
        if p.name == key and p.choices then
            for _, word in ipairs(p.choices) do
                if word == text then return word end
            end
            common.usage("--" .. key .. ": wanted one of " .. table.concat(p.choices, ", ") .. ", got '" .. text
                .. "'"
                .. require("distac.schema").did_you_mean(text, p.choices))
        end
        if p.name == key and not p.ours then
            local values = {}
            for part in (text .. ","):gmatch("([^,]*),") do
                local value = tonumber(part)
                if not value or not (value >= p.min and value <= p.max) then
                    local range = ""
                    if p.min > -math.huge or p.max < math.huge then
                        range = " from " .. (json.number(p.min) or "-inf") .. " to "
                            .. (json.number(p.max) or "inf")
                    end
                    common.usage("--" .. key .. ": wanted a number" .. range .. ", got '" .. part .. "'")
                end
                values[#values + 1] = value
            end
            if #values == 1 then return values[1] end
            if not p.list then common.usage("--" .. key .. ": wanted one number, got '" .. text .. "'") end
            if #values ~= n_models then
                common.usage(string.format("--%s: wanted one number or one per model (%d), got %d", key, n_models,
                    #values))
            end
            return values
        end
    end
    common.usage("unknown option '--" .. key .. "' for the method " .. method.name
        .. require("distac.schema").did_you_mean(key, names))
end

-- The output's layout: as asked for, else the base's. nil: nothing of CLIP.
local function output_layout(o, base)
    local own = base:layout()
    if o.to == nil then return own ~= "plain" and own or nil end
    common.layout(o.to)
    if own == "plain" then common.usage("--to " .. o.to .. ": no CLIP model is recognised in the base") end
    return o.to
end

local function patterns(text, option)
    if not text then return nil end
    local list = {}
    for part in (text .. ","):gmatch("([^,]*),") do
        if part ~= "" then list[#list + 1] = part end
    end
    if #list == 0 then common.usage(option .. ": wanted patterns of tensor names, separated by commas, got '"
        .. text .. "'") end
    return list
end

local function rules(text)
    local list = patterns(text, "--scale")
    for i, part in ipairs(list or {}) do
        local pattern, factor = part:match("^(.+)=([^=]+)$")
        if not pattern or not tonumber(factor) then
            common.usage("--scale: wanted PATTERN=FACTOR, got '" .. part .. "'")
        end
        list[i] = { pattern, tonumber(factor) }
    end
    return list
end

local function operator_of(name, params)
    local good, operator = pcall(require("distac").merge[name], params)
    if not good then common.usage(operator.message or tostring(operator)) end
    return operator
end

-- A method in a Lua file: it returns an operator (distac.merge.elementwise(...), distac.merge.custom(...)), or a
-- function that makes one of the parameters on the command line. The text is a program of the user's, with all a
-- script may do.
local function method_file(path, params, wanted_hash)
    local distac = require "distac"
    common.file(path, "--method")
    local text = distac.fs.read(path)
    local hash = distac.hash.text(text)
    if wanted_hash and hash ~= wanted_hash then
        error(path .. " is another method: its text has the SHA-256 " .. hash .. ", the one that merged had "
            .. wanted_hash, 0)
    end
    if text:sub(1, 1) == "\27" then common.usage("--method: '" .. path .. "' is compiled; the text is wanted") end
    local chunk, why = (loadstring or load)(text, "@" .. path)
    if not chunk then common.usage("--method: " .. why) end
    local function run(what, ...)
        local fine, result = pcall(what, ...)
        if not fine then
            error(type(result) == "table" and result.message or tostring(result), 0)
        end
        return result
    end
    local operator, own = run(chunk), {}
    for key, value in pairs(params) do own[key] = value end
    if type(operator) == "function" then
        operator = run(operator, own)
        own = {}
    end
    if not distac.merge.is(operator) then
        common.usage("--method: '" .. path .. "' returned " .. require("distac.check").describe(operator)
            .. "; wanted an operator, as of distac.merge.elementwise(function(tau, out, n) ... end)")
    end
    local rules = {}
    for _, key in ipairs { "lambda", "only", "except", "scale" } do
        rules[key], own[key] = params[key], nil
    end
    local extra = next(own)
    if extra then common.usage("unknown option '--" .. extra .. "': the method in " .. path
        .. " takes no parameters") end
    if next(rules) then operator = operator:with(rules) end
    return operator, { file = path, sha256 = hash, params = params }
end

-- Parameters of a method in a file: numbers where they are numbers, lists where there are commas.
local function free_parameters(o)
    local params = {}
    for _, key in ipairs(o.extra_order) do
        local text, list = o.extra[key], {}
        for part in (text .. ","):gmatch("([^,]*),") do list[#list + 1] = tonumber(part) or part end
        params[key] = #list == 1 and list[1] or list
    end
    return params
end

-- config.json of a sharded output: the base's where its names stay, else made of the tensors, if they tell enough.
local function config_of(job, base, layout)
    local fs, json_of = require("distac").fs, require("distac.hf").config_text
    local folder = fs.kind(job.base) == "folder" and job.base or job.base:match("^(.*)/[^/]*$") or "."
    local path = folder:gsub("(.)/+$", "%1") .. "/config.json"
    local own = base:layout()
    if layout == (own ~= "plain" and own or nil) and common.is_model_folder(folder)
        and fs.kind(path) == "file" then
        local text = fs.read(path)
        local fine, config = pcall(json.decode, text)
        if not job.dtype or not fine or type(config) ~= "table" then return text end
        for _, key in ipairs { "torch_dtype", "dtype" } do
            if config[key] then config[key] = ({ f32 = "float32", f16 = "float16",
                bf16 = "bfloat16" })[job.dtype] end
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
    local lines = {
        string.format("%s of %d models: %.0f of %.0f tensors change, %.0f elements", result.method, #models,
            p.merged,
            p.tensors, p.elements),
        string.format("reads    %s, %s (%.0f %% of it in memory now)", bytes(p.input_bytes),
            p.looks == 1 and "once" or string.format("%.0f times", p.looks),
            100 * p.cached_bytes / math.max(p.input_bytes, 1)),
        string.format("writes   %s to %s", bytes(p.output_bytes), job.output),
        string.format("memory   at most %s, file pages apart%s", bytes(p.memory_bytes), p.whole == 0 and ""
            or string.format("; %.0f matrices as a whole, the largest of %.0f elements", p.whole, p.whole_numel)),
        "slowest  " .. p.bottleneck,
    }
    return result, table.concat(lines, "\n")
end

-- Does a merge that has been checked. job.metadata, if given, makes the output's from that which would be written.
local function perform(job)
    local distac = require "distac"
    local begun = distac.clock()
    local checkpoint = require "distac.checkpoint"
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
    if not job.custom then
        local fits, plan = pcall(job.operator.plan, job.operator, base, models,
            { dtype = job.dtype, layout = record.layout })
        if not fits then
            -- A pattern of no tensor, or models too many for the method: the command's fault, not the files'.
            local text = type(plan) == "table" and plan.message or ""
            if text:find("no tensor matches the pattern", 1, true) or text:find("models; it takes", 1, true) then
                common.usage(text)
            end
            error(plan, 0)
        end
        if not job.memory then distac.configure { memory = plan.whole > 0 and "2GiB" or "1GiB" } end
    end
    if job.dry_run then return planned(job, base, models, record.layout) end
    -- The fingerprints are those that were proven, or are taken while the files are read.
    local function metadata(prints)
        record.base.fingerprint = prints[1]
        for i, model in ipairs(record.models) do model.fingerprint = prints[i + 1] end
        local texts = provenance.metadata(base:metadata(), record)
        return job.metadata and job.metadata(texts) or texts
    end
    job.operator:files(base, models, job.output, {
        dtype = job.dtype, layout = record.layout, shard = job.shard,
        config = job.shard and config_of(job, base_file, record.layout) or nil,
        prints = not job.prints and files or nil,
        metadata = job.prints and metadata(job.prints) or metadata,
    })
    local seconds = distac.clock() - begun
    local result = { method = record.method, params = record.params, base = job.base,
                     models = json.array(job.models), output = job.output, bytes = 0, seconds = seconds }
    local written = distac.fs.model_files(job.output)
    for _, file in ipairs(written) do result.bytes = result.bytes + distac.fs.bytes(file) end
    if job.shard then
        result.files = json.array {}
        for i, file in ipairs(written) do result.files[i] = file end
    end
    return result, string.format("%s of %d models written to %s (%s%s, %.1f s)", record.method, #models,
        job.output,
        require("distac.plan").bytes_text(result.bytes), job.shard and string.format(" in %d files", #written)
        or "",
        seconds)
end

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

local not_with_replay = { "base", "method", "only", "except", "scale", "dtype", "to", "missing_from_base", "seed",
    "shard" }

-- --replay FILE: the merge that made FILE, again, from inputs that are proven to be the same. Without -o the
-- result is compared with FILE and not kept.
local function replay(o)
    local distac = require "distac"
    local file = common.weights(o.replay, "--replay"):gsub("(.)/+$", "%1")
    if file:find("%.safetensors%.index%.json$") then file = file:match("^(.*)/[^/]*$") or "." end
    for _, key in ipairs(not_with_replay) do
        if o[key] ~= nil then
            common.usage("--" .. key:gsub("_", "-") .. " and --replay do not go together: the file says how it was made")
        end
    end
    if #o.args > 0 or #o.extra_order > 0 then
        common.usage("unexpected '" .. (o.args[1] or "--" .. o.extra_order[1])
            .. "': the file of --replay says it all")
    end
    local folder = o.models and common.folder(o.models, "--models")
    local was = distac.load(file, { layout = "file" })
    local record, why = provenance.read(was:metadata())
    if not record then error(file .. " cannot be replayed: " .. why, 0) end
    local out = o.output or file .. ".replay"
    if o.output and record.shard then common.output_folder(out, "the sharded merge of --replay", o.force)
    elseif o.output then common.output(o, { file }) end
    local begun = distac.clock()
    local paths, wrong = provenance.inputs(record, file, folder)
    if not paths then error(file .. " cannot be replayed:\n" .. wrong, 0) end
    local prints = { record.base.fingerprint }
    for i, model in ipairs(record.models) do prints[i + 1] = model.fingerprint end
    local metadata = was:metadata()
    metadata["distac.engine"] = distac.version
    local operator
    if record.custom then
        local at = provenance.find(record.custom.file, file, folder)
        if not at then error(file .. " cannot be replayed: there is no method file " .. record.custom.file, 0) end
        operator = method_file(at, record.custom.params or {}, record.custom.sha256)
    else
        operator = operator_of(record.method, record.params)
    end
    perform {
        operator = operator, custom = record.custom, base = table.remove(paths, 1), models = paths,
        prints = prints, dtype = record.dtype, layout = function() return record.layout end,
        missing = record.missing_from_base, seed = record.seed, output = out, memory = o.memory,
        shard = record.shard,
        metadata = function() return metadata end,
    }
    local same = same_files(out, file)
    local tensors = same or provenance.fingerprint(out) == was:fingerprint()
    if not o.output then remove_model(out) end
    local result = { replay = file, output = o.output, identical = same, same_tensors = tensors,
                     engine = record.engine, seconds = distac.clock() - begun }
    if not tensors then
        error(file .. " is not what its recipe gives: " .. (o.output and out .. " has" or "the merge gives")
            .. " other tensors from the same inputs" .. (record.engine ~= distac.version and " (made by distac "
            .. record.engine .. ", this is " .. distac.version .. ")" or ""), 0)
    end
    return result, string.format("%s: the inputs are the same, %s%s (%.1f s)", file,
        same and (record.shard and "the files are" or "the file is") .. " the same bit for bit"
        or "the tensors are the same, the files differ",
        o.output and ", written to " .. o.output or "", result.seconds)
end

commands.merge = {
    usage = "--base B --method M [--lambda X] [--PARAM V]... -o OUT MODEL...\n"
        .. "       distac merge --replay FILE [-o OUT] [--models DIR]",
    text = "merge fine-tuned models into one",
    extra = true,
    options = {
        { "base", "text", "FILE", "the model that all were fine-tuned from" },
        { "method", "text", "NAME", "how to merge: a method below, or a Lua file that returns an operator" },
        { "output", "text", "FILE", "the merged model; a folder with --shard" },
        { "only", "text", "PATTERNS", "tensors to merge, as \"visual.*,*.bias\"; others stay as the base has them" },
        { "except", "text", "PATTERNS", "tensors that stay as the base has them" },
        { "scale", "text", "RULES", "factors of lambda, as \"*.resblocks.0.*=0.5,*.bias=0\"; the last that fits counts" },
        { "dtype", "text", "TYPE", "f32, f16 or bf16 (default: the base's)" },
        { "to", "text", "LAYOUT", "CLIP's names in the output: open_clip, hf or custom_text (default: the base's)" },
        common.shard_option,
        { "missing-from-base", "flag", nil, "what a model lacks as a whole (projection, text tower) is the base's" },
        { "memory", "text", "SIZE", "the most to use, file pages apart (default: 1GiB, for whole matrices 2GiB)" },
        { "dry-run", "flag", nil, "only tell what would be read and written, in how much memory" },
        { "replay", "text", "FILE", "make a merged file again from what it says of itself, and compare" },
        { "models", "text", "DIR", "where the inputs of --replay are now" },
        { "force", "flag", nil, "overwrite the output" },
    },
    more = function()
        local lines = { "methods and their parameters:" }
        for _, method in ipairs(methods()) do
            lines[#lines + 1] = "  " .. method.name .. ": " .. method.text
            if method.data then
                lines[#lines + 1] = "      looks at images: in recipes and scripts only"
            end
            for _, p in ipairs(method.data and {} or method.params) do
                if not p.ours and takes(method, p.name) then
                    lines[#lines + 1] = string.format("      --%-12s %s (default %s)", p.name, p.choices
                        and table.concat(p.choices, ", ") .. ": " .. p.text or p.text,
                        p.choices and p.default or json.number(p.default) or "none")
                end
            end
        end
        return table.concat(lines, "\n")
    end,
    run = function(o)
        if o.replay then return replay(o) end
        if o.models then common.usage("--models DIR belongs to --replay") end
        local in_file = o.method and o.method:find("%.lua$")
        if not in_file then check_known(o) end
        local base_path = common.weights(common.need(o, "base", "the base model"), "--base")
        local method = not in_file
            and find_method(common.need(o, "method", "a name of those that distac merge --help lists"))
        if #o.args == 0 then common.usage("no model to merge") end
        for _, path in ipairs(o.args) do common.weights(path, "model") end
        local params = in_file and free_parameters(o) or {}
        if not in_file then
            for _, key in ipairs(o.extra_order) do params[key] = parameter(method, key, o.extra[key], #o.args) end
        end
        params.only, params.except = patterns(o.only, "--only"), patterns(o.except, "--except")
        params.scale = rules(o.scale)
        local dtype = common.dtype(o)
        local inputs = { base_path }
        for _, path in ipairs(o.args) do inputs[#inputs + 1] = path end
        local shard = common.shard(o)
        local out = shard and common.output_folder(common.need(o, "output", "the folder to write"), "--shard",
            o.force)
            or common.output(o, inputs)
        local operator, custom
        if in_file then operator, custom = method_file(o.method, params) else
            operator = operator_of(method.name, params)
        end
        return perform {
            operator = operator, custom = custom, base = base_path, models = o.args, dtype = dtype,
            layout = function(base) return output_layout(o, base) end, missing = o.missing_from_base,
            seed = o.seed or 0, output = out, dry_run = o.dry_run, memory = o.memory,
            shard = shard,
        }
    end,
}

return commands
