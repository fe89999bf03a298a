-- distac.recipe: reads a recipe (a Lua file as text, or a table given to distac.recipe), applies --set, checks
-- every key against recipe_schema and tells all mistakes at once as FILE:LINE: PATH: what is wrong. Loading
-- does no work: nothing is created, no data is read.

local check = require "distac.recipe_check"
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

-- An error object of several messages, what a wrong recipe raises.
function recipe.mistakes(messages)
    local text = table.concat(messages, "\n")
    return setmetatable({ code = "ERECIPE", messages = messages, message = text }, Mistakes)
end

-- Is a value a recipe?
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
    local restricted = package.loaded["distac.restricted"]
    local _G = restricted and restricted.env or _G
    local require = restricted and restricted.env and restricted.env.require or require
    env._G = env
    env.require = function(name)
        if name == "distac" then return proxy end
        local ok, value = pcall(require, name)
        if not ok then error(value, 2) end -- at the recipe's line
        return value
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
    if text:sub(1, 1) == "\27" then return nil, "recipe:1: a recipe is Lua text, not compiled code" end
    if setfenv then
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

-- Checks self.raw with --set entries ({ path =, text =, label = }); returns self, or nil and the mistakes.
local function resolve(self, state, sets, map)
    local labels = {}
    for _, entry in ipairs(sets or {}) do labels[entry.path] = entry.label end
    local list = check.collector(self.file, map, labels)
    self.map, self.labels = map, labels
    local raw = self.raw
    local values
    if schema.is_poison(raw) then
        list.report("recipe", raw)
    elseif type(raw) ~= "table" then
        list.report("", "wanted distac.recipe { ... }, got " .. schema.show(raw))
    else
        raw = check.copy(raw)
        for _, entry in ipairs(sets or {}) do check.apply_set(raw, entry, list.report) end
        values = check.values(self, raw, list)
        if values then check.suite(self, values, list.report) end
    end
    check.report_poisons(list, state, map)
    if values and #list == 0 then
        self.values = values
        self.variants = check.variants(self, raw, values, list)
    end
    if #list > 0 then return nil, recipe.mistakes(check.sorted_by_line(list)) end
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
    local function named(message)
        return (tostring(message):gsub("recipe:(%d+):", path:gsub("%%", "%%%%") .. ":%1:"))
    end
    local chunk, problem = compile(text, env)
    if not chunk then return nil, recipe.mistakes { named(problem) } end
    local ok, value = pcall(chunk)
    state.loaded = true
    map.call = map.call or state.call
    if not ok or getmetatable(value) ~= Recipe then
        local list = check.collector(path, map)
        check.report_poisons(list, state, map)
        if not ok then
            local message = named(type(value) == "table" and value.message or value)
            if message:sub(1, #path + 1) ~= path .. ":" then message = path .. ":1: " .. message end
            local key = source.path_at(map, tonumber(message:match(":(%d+): ")))
            if key then message = message:gsub("^(.-:%d+: )", function(start) return start .. key .. ": " end) end
            list.add(message)
        elseif #list == 0 then
            list.report("", "the file must end with: return distac.recipe { ... }; it returned "
                .. schema.show(value))
        end
        return nil, recipe.mistakes(check.sorted_by_line(list))
    end
    local self = value
    if self.values then self = setmetatable({ raw = self.raw }, Recipe) end
    self.file, self.text, self.folder = path, text, path:match("^(.*)/[^/]*$") or "."
    return resolve(self, state, sets, map)
end

-- distac.recipe { ... } in a script or the REPL: checked at once; mistakes are raised.
function recipe.new(value)
    -- The caller is the first frame outside this library; it may be gone (return distac.recipe { ... }).
    local info, level = nil, 2
    repeat
        info, level = debug.getinfo(level, "Sl"), level + 1
    until not info or (info.currentline > 0 and not info.source:find("distac[/\\][%w_]+%.lua$"))
    info = info or {}
    local file, map = "recipe", { lines = {} }
    local text
    if info.source and info.source:sub(1, 1) == "@" then
        file = info.source:sub(2)
        text = read_file(file)
        if text then map = source.scan(strip_shebang(text), schema.join, info.currentline) end
    elseif info.short_src then
        file = info.short_src
    end
    map.call = map.call or info.currentline
    local self = setmetatable({ raw = value, file = file, text = text, folder = "." }, Recipe)
    local ok, mistakes = resolve(self, { poisons = {} }, nil, map)
    if not ok then error(mistakes, 0) end
    return self
end

-- FILE:LINE of a key, or the --set that gave it: for mistakes that only a run can find.
function Recipe.place(self, path)
    local label = self.labels and check.given(self.labels, path)
    if label then return label end
    return string.format("%s:%d", self.file, source.line(self.map, path) or 1)
end

-- Runs it: distac run. options: out, set, quiet and what the command takes. Returns the results.
function Recipe.run(self, options) return require("distac.runner").run(self, options or {}) end
-- Checks everything and runs nothing: distac plan. Returns the plan.
function Recipe.plan(self, options) return require("distac.plan").make(self, options or {}) end

-- distac.recipe is this module and is called like a function.
return setmetatable(recipe, { __call = function(_, value) return recipe.new(value) end })
