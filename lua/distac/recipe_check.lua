-- distac.recipe_check: holds a recipe's table against the schema: --set entries, keys and ranges, what two keys
-- say together, names of tasks and files, variants. Mistakes are collected with their place, not raised.

local fill = require "distac.recipe_fill"
local json = require "distac.json"
local parts = require "distac.parts"
local schema = require "distac.schema"
local source = require "distac.recipe_source"

local check = {}

local function poison_field(p, key) return rawget(p, key) end

-- --set -----------------------------------------------------------------------------------------------

local function split_path(path)
    local keys = {}
    for key in path:gmatch("[^%.]+") do keys[#keys + 1] = key end
    return keys
end

local function plain(value)
    return type(value) == "table" and getmetatable(value) == nil
end

local function copy(value)
    if not plain(value) then return value end
    local out = {}
    for key, item in pairs(value) do out[key] = copy(item) end
    return out
end

check.copy = copy

local function put(raw, keys, value)
    local here = raw
    for i = 1, #keys - 1 do
        local inner = here[keys[i]]
        if inner == nil and keys[i] == "loss" then inner = parts.loss.cross_entropy {} end
        if parts.is(inner) then
            -- The parameters of a description are changed in a copy of it.
            local params = plain(inner.args[1]) and copy(inner.args[1]) or {}
            here[keys[i]] = parts.with(inner, params)
            here = params
        else
            if not plain(inner) then here[keys[i]] = {} end
            here = here[keys[i]]
        end
    end
    here[keys[#keys]] = value
end

local function root() return require "distac.recipe_schema" end

local function unknown_key(keys, known, names)
    return "unknown key" .. schema.did_you_mean(keys[#split_path(known or "")] or "", names or {})
end

function check.apply_set(raw, entry, report)
    local path, text = entry.path, entry.text
    local keys = split_path(path)
    local node, known, names = schema.at(root(), keys)
    if #keys == 0 or not node then
        report(known or path, unknown_key(keys, known, names))
        return
    end
    if text == "nil" then
        put(raw, keys, nil)
        return
    end
    local value, why = node:parse(text)
    if value == nil then
        report(path, why or "cannot be given as text")
    else
        put(raw, keys, value)
    end
end

-- Checking --------------------------------------------------------------------------------------------

-- The command line's word that gave this key or a table around it, nil if none did.
function check.given(sets, path)
    for set_path, label in pairs(sets or {}) do
        if path == set_path or path:sub(1, #set_path + 1):find("^[%.%[]", #set_path + 1)
            and path:sub(1, #set_path) == set_path then return label end
    end
end

-- Collects messages; sets = { path -> "--set ..." } tells which values came from the command line.
function check.collector(file, map, sets)
    local list = { seen = {} }
    local function where(path)
        local label = check.given(sets, path)
        if label then return label end
        local line = source.line(map, path) or map.call
        return file .. ":" .. json.number(line and line > 0 and line or 1)
    end
    function list.add(text)
        if not list.seen[text] then
            list.seen[text] = true
            list[#list + 1] = text
        end
    end
    function list.report(path, what)
        if schema.is_poison(what) then
            local name, line = poison_field(what, "name"), poison_field(what, "line")
            rawset(what, "met", true)
            local near = schema.nearest(name:match("[^%.]*$"), poison_field(what, "names"))
            list.add(file .. ":" .. json.number(line) .. ": " .. path .. ": '" .. name .. "' is not defined"
                .. (near and "; did you mean '" .. near .. "'?" or ""))
            return
        end
        list.add(where(path) .. ": " .. (path == "" and "recipe" or path) .. ": " .. what)
    end
    return list
end

-- Undefined names that no check has met: told with the key on their line.
function check.report_poisons(list, state, map)
    for _, p in ipairs(state.poisons) do
        if not poison_field(p, "met") then
            list.report(source.path_at(map, poison_field(p, "line")) or poison_field(p, "name"), p)
        end
    end
end

-- Mistakes in the order of their lines.
function check.sorted_by_line(list)
    local keyed = {}
    for i, text in ipairs(list) do
        keyed[i] = { tonumber(text:match("^.-:(%d+): ")) or 0, i, text }
    end
    table.sort(keyed, function(a, b)
        if a[1] ~= b[1] then return a[1] < b[1] end
        return a[2] < b[2]
    end)
    local out = {}
    for i, item in ipairs(keyed) do out[i] = item[3] end
    return out
end

local function cross_checks(values, report)
    if values.finetune and values.sources then
        report("sources", "give either 'finetune' or 'sources', not both "
            .. "(--set finetune=nil leaves the recipe's out)")
    end
    if not values.finetune and not values.sources then
        report("", "give 'finetune' (make the sources here) or 'sources' (files of fine-tuned models)")
    end
    if values.sources and not values.merge and not values.condition and not values.scaling then
        report("", "nothing to do: give 'merge' or 'condition'")
    end
    for _, name in ipairs { "finetune", "mtl", "condition" } do
        local section = values[name]
        if type(section) == "table" and section.accumulate == "sum" and not section.micro then
            report(name .. ".accumulate", "the sum of micro-batches needs their size: give " .. name .. ".micro")
        end
    end
    local seen = {}
    for i, variant in ipairs(values.variants or {}) do
        if variant and variant.name then
            if seen[variant.name] then report("variants[" .. i .. "].name", "two variants have this name") end
            seen[variant.name] = true
        end
    end
end

-- Names of tasks, files and folders: what can be known without reading data.
function check.suite(self, values, report)
    if not values.suite then return end
    local suites = require "distac.suites"
    local suite = suites.describe(values.suite, values.data or {}, self.folder, report)
    if not suite then return end
    local function check_tasks(t, path)
        local names = {}
        for name in pairs(t or {}) do names[#names + 1] = name end
        table.sort(names)
        for _, name in ipairs(names) do
            local found = false
            for _, task in ipairs(suite.tasks) do found = found or task == name end
            if not found then
                report(schema.join(path, name), "the suite " .. suite.name .. " has no task '" .. name .. "'"
                    .. schema.did_you_mean(name, suite.tasks))
            end
        end
    end
    check_tasks(values.finetune and values.finetune.tasks, "finetune.tasks")
    check_tasks(values.condition and values.condition.tasks, "condition.tasks")
    if values.sources then
        check_tasks(values.sources, "sources")
        for _, task in ipairs(suite.tasks) do
            local path = values.sources[task]
            if path == nil then
                report("sources", "the task '" .. task .. "' has no source")
            else
                local found = suites.find_path(path, self.folder)
                if found then values.sources[task] = found
                else report("sources." .. task, "there is no file '" .. path .. "'") end
            end
        end
    end
    if suite.unlabelled and values.merge and (values.lambda == nil or parts.is(values.lambda, "grid")) then
        report(values.lambda and "lambda" or "merge", "lambda is searched on labelled validation images, and "
            .. "task '" .. suite.unlabelled .. "' has none; give one number")
    end
    self.suite = suite
end

-- The values of a table with what the suite fills in. of: { tasks =, defaults =, many = } of the suite.
local function filled(raw, of, report)
    raw = copy(raw)
    fill.defaults(raw, of.defaults, of.many)
    local values = root():check(raw, "", report)
    if type(values) == "table" then fill.finish(values, of.defaults, of.tasks and #of.tasks) end
    return values
end

function check.values(self, raw, list)
    local of = {}
    of.tasks, of.defaults = fill.suite(raw, self.folder)
    fill.functions(raw, of.tasks, list.report)
    of.many = plain(raw.variants) and #raw.variants > 4
    self.of_suite = of
    local values = filled(raw, of, list.report)
    if type(values) ~= "table" then return nil end
    cross_checks(values, list.report)
    return values
end

function check.variants(self, raw, values, list)
    local out = {}
    for i, variant in ipairs(values.variants or {}) do
        local changed = copy(raw)
        local base = "variants[" .. i .. "].set"
        changed.variants = nil
        local paths = {}
        for path in pairs(variant.set or {}) do paths[#paths + 1] = path end
        table.sort(paths, function(a, b) return tostring(a) < tostring(b) end)
        for _, path in ipairs(paths) do
            local keys = type(path) == "string" and split_path(path) or {}
            local node, known, names = schema.at(root(), keys)
            if #keys == 0 or not node then
                list.report(schema.join(base, path), unknown_key(keys, known, names))
            else
                put(changed, keys, copy(variant.set[path]))
            end
        end
        local resolved = filled(changed, self.of_suite, function(path, what)
            for _, changed_path in ipairs(paths) do
                if path:sub(1, #changed_path) == changed_path then
                    list.report(schema.join(base, changed_path) .. path:sub(#changed_path + 1), what)
                    return
                end
            end
        end)
        check.suite(self, resolved, function(path, what)
            for _, changed_path in ipairs(paths) do
                if path:sub(1, #changed_path) == changed_path then
                    list.report(schema.join(base, changed_path) .. path:sub(#changed_path + 1), what)
                end
            end
        end)
        if type(resolved) == "table" and resolved.products ~= values.products then
            list.report(base, "products is one for the whole run; say it in the recipe itself")
        end
        out[i] = { name = variant.name or tostring(i), values = resolved }
    end
    return #out > 0 and out or nil
end

return check
