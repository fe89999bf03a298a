-- distac.recipe: reads a recipe (a Lua file as text, or a table given to distac.recipe), applies --set, checks
-- every key against recipe_schema and tells all mistakes at once as FILE:LINE: PATH: what is wrong. Loading
-- does no work: nothing is created, no data is read.

local json = require "distac.json"
local parts = require "distac.parts"
local schema = require "distac.schema"
local source = require "distac.recipe_source"

local recipe = {}
local Recipe = {}
Recipe.__index = Recipe
Recipe.__name = "Recipe"

function Recipe.__tostring(self) return "Recipe " .. tostring(self.values and self.values.name or "?") end

-- The mistakes of one recipe, as an error value: .messages is the list, .code is "ERECIPE".
local Mistakes = {}
Mistakes.__index = Mistakes
function Mistakes.__tostring(self) return table.concat(self.messages, "\n") end

function recipe.mistakes(messages)
    local text = table.concat(messages, "\n")
    return setmetatable({ code = "ERECIPE", messages = messages, message = text }, Mistakes)
end

function recipe.is_mistakes(value) return getmetatable(value) == Mistakes end
function recipe.is(value) return getmetatable(value) == Recipe end

-- Running the text --------------------------------------------------------------------------------------

local poison_meta = { __distac_poison = true }
local function poison(name, line, names)
    return setmetatable({ name = name, line = line, names = names }, poison_meta)
end
for _, event in ipairs { "call", "add", "sub", "mul", "div", "mod", "pow", "unm", "concat" } do
    poison_meta["__" .. event] = function(a, b) return schema.is_poison(a) and a or b end
end
poison_meta.__index = function(self) return self end
local function poison_field(p, key) return rawget(p, key) end

local light = { "recipe", "grid", "match_norm", "adamw", "folder_suite", "loss", "merge" }

-- What require "distac" gives inside a recipe: light descriptions for the parts, the engine for the rest.
local function facade(state)
    local proxy = {}
    for _, name in ipairs(light) do proxy[name] = parts[name] end
    proxy.recipe = function(value)
        state.call = state.call or debug.getinfo(2, "l").currentline
        return setmetatable({ raw = value }, Recipe)
    end
    return setmetatable(proxy, {
        __index = function(_, key)
            local engine = require "distac"
            local value = engine[key]
            if value ~= nil then return value end
            local names = { "recipe", "grid", "match_norm", "adamw", "folder_suite", "loss", "merge" }
            for name in pairs(engine) do names[#names + 1] = tostring(name) end
            table.sort(names)
            local p = poison("distac." .. tostring(key), debug.getinfo(2, "l").currentline, names)
            state.poisons[#state.poisons + 1] = p
            return p
        end,
    })
end

local function environment(state)
    local proxy = facade(state)
    local env = {}
    env._G = env
    env.require = function(name)
        if name == "distac" then return proxy end
        return require(name)
    end
    return setmetatable(env, {
        __index = function(_, key)
            local value = _G[key]
            if value ~= nil then return value end
            local line = (debug.getinfo(2, "l") or {}).currentline or 0
            if state.loaded then
                error("'" .. tostring(key) .. "' is not defined", 2)
            end
            local names = { "distac", "require" }
            for name in pairs(_G) do names[#names + 1] = tostring(name) end
            for i = 1, 20 do
                local found = debug.getlocal(2, i)
                if not found then break end
                if found:find("^[%a_]") then names[#names + 1] = found end
            end
            table.sort(names)
            local p = poison(tostring(key), line, names)
            state.poisons[#state.poisons + 1] = p
            return p
        end,
    })
end

local function compile(text, env)
    -- A short chunk name of our own: Lua shortens long file names in its messages, which would lose the path.
    if setfenv then
        if text:sub(1, 1) == "\27" then return nil, "recipe:1: a recipe is Lua text, not compiled code" end
        local chunk, why = loadstring(text, "=recipe")
        return chunk and setfenv(chunk, env), why
    end
    return load(text, "=recipe", "t", env)
end

local function read_file(path)
    local file, why = io.open(path, "rb")
    if not file then return nil, (why or ""):gsub("^.-: ", "", 1) end
    local text, problem = file:read("*a")
    file:close()
    if not text then return nil, problem or "is not a file" end
    return text
end

local function strip_shebang(text)
    if text:sub(1, 1) == "#" then return "--" .. text end
    return text
end

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

local function put(raw, keys, value)
    local here = raw
    for i = 1, #keys - 1 do
        if not plain(here[keys[i]]) then here[keys[i]] = {} end
        here = here[keys[i]]
    end
    here[keys[#keys]] = value
end

local function root() return require "distac.recipe_schema" end

local function apply_set(raw, entry, report)
    local path, text = entry.path, entry.text
    local keys = split_path(path)
    local node, known, names = schema.at(root(), keys)
    if #keys == 0 or not node then
        report(known or path, "unknown key" .. schema.did_you_mean(keys[#split_path(known or "")] or "", names or {}))
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

-- Collects messages; sets = { path -> "--set ..." } tells which values came from the command line.
local function collector(file, map, sets)
    local list = { seen = {} }
    local function where(path)
        for set_path, label in pairs(sets or {}) do
            if path == set_path or path:sub(1, #set_path + 1) == set_path .. "." then return label end
        end
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

-- Mistakes in the order of their lines.
local function sorted_by_line(list)
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
        report("sources", "give either 'finetune' or 'sources', not both")
    end
    if not values.finetune and not values.sources then
        report("", "give 'finetune' (make the sources here) or 'sources' (files of fine-tuned models)")
    end
    if values.sources and not values.merge and not values.condition and not values.scaling then
        report("", "nothing to do: give 'merge' or 'condition'")
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
local function check_suite(self, values, report)
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
        report(values.lambda and "lambda" or "merge", "lambda is searched on labelled validation images, and task '"
            .. suite.unlabelled .. "' has none; give one number")
    end
    self.suite = suite
end

local function check(self, raw, list)
    local values = root():check(raw, "", list.report)
    if type(values) ~= "table" then return nil end
    cross_checks(values, list.report)
    return values
end

local function check_variants(self, raw, values, list)
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
                list.report(schema.join(base, path), "unknown key"
                    .. schema.did_you_mean(keys[#split_path(known or "")] or "", names or {}))
            else
                put(changed, keys, copy(variant.set[path]))
            end
        end
        local resolved = root():check(changed, "", function(path, what)
            for _, changed_path in ipairs(paths) do
                if path:sub(1, #changed_path) == changed_path then
                    list.report(schema.join(base, changed_path) .. path:sub(#changed_path + 1), what)
                    return
                end
            end
        end)
        check_suite(self, resolved, function(path, what)
            for _, changed_path in ipairs(paths) do
                if path:sub(1, #changed_path) == changed_path then
                    list.report(schema.join(base, changed_path) .. path:sub(#changed_path + 1), what)
                end
            end
        end)
        out[i] = { name = variant.name or tostring(i), values = resolved }
    end
    return #out > 0 and out or nil
end

-- Checks self.raw with --set entries ({ path =, text =, label = }); returns self, or nil and the mistakes.
local function resolve(self, state, sets, map)
    local labels = {}
    for _, entry in ipairs(sets or {}) do labels[entry.path] = entry.label end
    local list = collector(self.file, map, labels)
    local raw = self.raw
    local values
    if schema.is_poison(raw) then
        list.report("recipe", raw)
    elseif type(raw) ~= "table" then
        list.report("", "wanted distac.recipe { ... }, got " .. schema.show(raw))
    else
        raw = copy(raw)
        for _, entry in ipairs(sets or {}) do apply_set(raw, entry, list.report) end
        values = check(self, raw, list)
        if values then check_suite(self, values, list.report) end
    end
    for _, p in ipairs(state.poisons) do
        if not poison_field(p, "met") then
            local name, line = poison_field(p, "name"), poison_field(p, "line")
            list.report(source.path_at(map, line) or name, p)
        end
    end
    if values and #list == 0 then
        self.values = values
        self.variants = check_variants(self, raw, values, list)
    end
    if #list > 0 then return nil, recipe.mistakes(sorted_by_line(list)) end
    return self
end

-- Loads a recipe file. sets: list of { path =, text =, label = }. Returns the recipe, or nil and the mistakes.
function recipe.load(path, sets)
    local text, why = read_file(path)
    if not text then return nil, recipe.mistakes { path .. ": cannot be read: " .. tostring(why) } end
    text = strip_shebang(text)
    local state = { poisons = {} }
    local env = environment(state)
    local map = source.scan(text, schema.join)
    local function named(message) return (tostring(message):gsub("recipe:(%d+):", path:gsub("%%", "%%%%") .. ":%1:")) end
    local chunk, problem = compile(text, env)
    if not chunk then return nil, recipe.mistakes { named(problem) } end
    local ok, value = pcall(chunk)
    state.loaded = true
    map.call = map.call or state.call
    if not ok or getmetatable(value) ~= Recipe then
        local list = collector(path, map)
        for _, p in ipairs(state.poisons) do
            list.report(source.path_at(map, poison_field(p, "line")) or poison_field(p, "name"), p)
        end
        if not ok then
            local message = named(type(value) == "table" and value.message or value)
            if message:sub(1, #path + 1) ~= path .. ":" then message = path .. ":1: " .. message end
            local key = source.path_at(map, tonumber(message:match(":(%d+): ")))
            list.add(key and message:gsub("^(.-:%d+: )", function(start) return start .. key .. ": " end) or message)
        elseif #list == 0 then
            list.report("", "the file must end with: return distac.recipe { ... }; it returned " .. schema.show(value))
        end
        return nil, recipe.mistakes(sorted_by_line(list))
    end
    local self = value
    if self.values then self = setmetatable({ raw = self.raw }, Recipe) end
    self.file, self.text, self.folder = path, text, path:match("^(.*)/[^/]*$") or "."
    return resolve(self, state, sets, map)
end

-- distac.recipe { ... } in a script or the REPL: checked at once; mistakes are raised.
function recipe.new(value, level)
    local info = debug.getinfo((level or 1) + 1, "Sl") or {}
    local file, map = "recipe", { lines = {} }
    local text
    if info.source and info.source:sub(1, 1) == "@" then
        file = info.source:sub(2)
        text = read_file(file)
        if text then map = source.scan(strip_shebang(text), schema.join) end
    elseif info.short_src then
        file = info.short_src
    end
    if not map.call or (info.currentline or -1) > 0 then map.call = info.currentline end
    local self = setmetatable({ raw = value, file = file, text = text, folder = "." }, Recipe)
    local ok, mistakes = resolve(self, { poisons = {} }, nil, map)
    if not ok then error(mistakes, 0) end
    return self
end

function Recipe.run(self, options) return require("distac.runner").run(self, options or {}) end
function Recipe.plan(self, options) return require("distac.plan").make(self, options or {}) end

-- distac.recipe is this module and is called like a function.
return setmetatable(recipe, { __call = function(_, value) return recipe.new(value, 2) end })
