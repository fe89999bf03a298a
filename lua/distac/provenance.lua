-- distac.provenance: what a merged file says about how it was made, and the way back: reading it, finding the
-- inputs again, proving that they are the same tensors.
--
-- The record stands in the metadata under "distac.merge", as canonical JSON:
--   { method, params, custom, base = { path, fingerprint }, models = { { path, fingerprint }, ... }, dtype,
--     layout, missing_from_base, seed, engine }
-- params holds every parameter, defaults included, with only, except and scale; a number that is not finite is a
-- word ("inf"). custom = { file, sha256 } when the method is a Lua file: its text is never run from the metadata.

local json = require "distac.json"

local provenance = {}

local KEY = "distac.merge"
local INFINITE = { inf = math.huge, ["-inf"] = -math.huge }

local function engine() return require "distac" end

local function encodable(v)
    if type(v) == "table" then
        local out = {}
        for key, value in pairs(v) do out[key] = encodable(value) end
        return out
    end
    if v == math.huge then return "inf" elseif v == -math.huge then return "-inf" end
    return v
end

local function decodable(v)
    if type(v) == "table" then
        local out = {}
        for key, value in pairs(v) do
            if value ~= json.null then out[key] = decodable(value) end -- null: a default that is no number
        end
        return out
    end
    return INFINITE[v] or v
end

-- The metadata of a merge's output: the base's, less what the base says about how it was itself made, and the
-- record.
function provenance.metadata(base_metadata, record)
    local out = {}
    for key, value in pairs(base_metadata) do
        if not key:find("^distac%.") then out[key] = value end
    end
    local prints = json.array {}
    for i, model in ipairs(record.models) do prints[i] = model.fingerprint end
    local whole = {}
    for key, value in pairs(record) do whole[key] = value end
    whole.params = encodable(record.params)
    out[KEY] = json.encode(whole, { nonfinite = "null" })
    out["distac.method"] = json.encode({ name = record.method, params = whole.params }, { nonfinite = "null" })
    out["distac.engine"], out["distac.seed"] = record.engine, json.number(record.seed)
    out["distac.base"], out["distac.models"] = record.base.fingerprint, json.encode(prints)
    return out
end

local function is_input(v)
    return type(v) == "table" and type(v.path) == "string" and type(v.fingerprint) == "string"
end

-- The record of a file's metadata. nil and a reason where there is none, or none that can be used.
function provenance.read(metadata)
    local text = metadata[KEY]
    if not text then
        return nil, metadata["distac.recipe"] and "it was merged by a run of a recipe, which `distac run` repeats"
            or "its metadata has no " .. KEY
    end
    local fine, record = pcall(json.decode, text)
    if not fine or type(record) ~= "table" then return nil, KEY .. " in its metadata is no JSON" end
    if type(record.method) ~= "string" or type(record.params) ~= "table" or type(record.models) ~= "table"
        or not is_input(record.base) or #record.models == 0 then
        return nil, KEY .. " in its metadata lacks the method, its parameters or the inputs"
    end
    for _, model in ipairs(record.models) do
        if not is_input(model) then
            return nil, KEY .. " in its metadata names an input without its fingerprint"
        end
    end
    record.params = decodable(record.params)
    return record
end

-- ---- Finding inputs again -----------------------------------------------------------------------------

-- Where an input may lie now: in the folder that is given, under as much of its old path as is there; else where
-- it was; else beside the merged file.
function provenance.candidates(path, file, folder)
    local list = {}
    local tail = path:gsub("/+$", "")
    if folder then
        local rest = tail:gsub("^/+", "")
        while rest do
            list[#list + 1] = folder .. "/" .. rest
            rest = rest:match("^[^/]*/+(.+)$")
        end
    end
    list[#list + 1] = path
    if not path:find("^/") then
        list[#list + 1] = (file:match("^(.*)/[^/]*$") or ".") .. "/" .. path
    end
    return list
end

local function find(path, file, folder)
    for _, candidate in ipairs(provenance.candidates(path, file, folder)) do
        if engine().fs.kind(candidate) then return candidate end
    end
end

provenance.find = find

-- Finds base and models and compares their fingerprints with the record's. Returns the paths, base first; or nil
-- and a text that names every input that is missing or another.
function provenance.inputs(record, file, folder)
    local paths, wrong = {}, {}
    local function look(what, input)
        local path = find(input.path, file, folder)
        if not path then
            wrong[#wrong + 1] = what .. " '" .. input.path .. "' is not there" .. (folder and " nor in " .. folder
                or "; --models DIR says where the inputs are now")
            return
        end
        local now = provenance.fingerprint(path)
        if now ~= input.fingerprint then
            wrong[#wrong + 1] = what .. " '" .. path .. "' is another: its tensors have the fingerprint " .. now
                .. ", those that were merged had " .. input.fingerprint
        end
        paths[#paths + 1] = path
    end
    look("the base", record.base)
    for i, model in ipairs(record.models) do look(string.format("model %d", i), model) end
    if #wrong > 0 then return nil, table.concat(wrong, "\n") end
    return paths
end

-- Of the tensors under the names that the file has.
function provenance.fingerprint(path)
    local distac = engine()
    local ck = distac.load(path, { layout = "file" })
    local print = ck:fingerprint()
    distac.release(ck)
    return print
end

-- ---- For people ---------------------------------------------------------------------------------------

local function value_text(v)
    if type(v) == "number" then return json.number(v) or (v > 0 and "inf" or v < 0 and "-inf" or "nan") end
    if type(v) ~= "table" then return tostring(v) end
    local parts = {}
    for i, x in ipairs(v) do
        parts[i] = type(x) == "table" and value_text(x[1]) .. "=" .. value_text(x[2]) or value_text(x)
    end
    return table.concat(parts, ",")
end

local function parameters(params, indent, lines)
    local names = {}
    for name in pairs(params) do names[#names + 1] = name end
    table.sort(names)
    for _, name in ipairs(names) do
        lines[#lines + 1] = string.format("%s%-12s %s", indent, name, value_text(params[name]))
    end
end

local function merge_lines(record, lines)
    lines[#lines + 1] = string.format("  merged by %s of %d model%s, distac %s, seed %s", record.method,
        #record.models, #record.models == 1 and "" or "s", tostring(record.engine),
        value_text(record.seed or 0))
    if type(record.custom) == "table" then
        lines[#lines + 1] = "    method file  " .. tostring(record.custom.file) .. "  sha256 "
            .. tostring(record.custom.sha256)
    end
    parameters(record.params, "    ", lines)
    for _, key in ipairs { "dtype", "layout" } do
        if record[key] then lines[#lines + 1] = string.format("    %-12s %s", key, tostring(record[key])) end
    end
    if record.missing_from_base then lines[#lines + 1] = "    what a model lacks is the base's" end
    lines[#lines + 1] = string.format("    base         %s  %s", record.base.fingerprint, record.base.path)
    for i, model in ipairs(record.models) do
        lines[#lines + 1] = string.format("    model %-6d %s  %s", i, model.fingerprint, model.path)
    end
end

-- A run's model: the recipe with one line to a key, then what it was merged of.
local function run_lines(metadata, recipe, lines)
    lines[#lines + 1] = string.format("  merged by a run of a recipe, distac %s, seed %s, lambda %s",
        metadata["distac.engine"] or "?", metadata["distac.seed"] or "?", metadata["distac.lambda"] or "?")
    local fine, method = pcall(json.decode, metadata["distac.method"] or "")
    if fine and type(method) == "table" and type(method.name) == "string" then
        lines[#lines + 1] = "    method       " .. method.name
        parameters(type(method.params) == "table" and method.params or {}, "    ", lines)
    end
    for line in json.encode(recipe, { indent = 2 }):gmatch("[^\n]+") do lines[#lines + 1] = "    " .. line end
    lines[#lines + 1] = "    base         " .. (metadata["distac.base"] or "?")
    local done, models = pcall(json.decode, metadata["distac.models"] or "")
    for i, model in ipairs(done and type(models) == "table" and models or {}) do
        lines[#lines + 1] = string.format("    model %-6d %s", i, tostring(model))
    end
end

-- Keys that the lines below already tell.
local told = { [KEY] = true, ["distac.method"] = true, ["distac.engine"] = true, ["distac.seed"] = true,
               ["distac.base"] = true, ["distac.models"] = true, ["distac.recipe"] = true,
               ["distac.lambda"] = true }

-- Appends how a file was made to lines, if its metadata says so. Returns the keys of the metadata that it told.
function provenance.describe(metadata, lines)
    local record = provenance.read(metadata)
    if record then
        merge_lines(record, lines)
        return told
    end
    local fine, recipe = pcall(json.decode, metadata["distac.recipe"] or "")
    if fine and type(recipe) == "table" then
        run_lines(metadata, recipe, lines)
        return told
    end
    return {}
end

return provenance
