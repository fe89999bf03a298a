-- distac.parts: the values that a recipe is built from: losses, merge operators, grids, kappa rules, optimizers
-- and suites, as light descriptions. Making one does no work and never fails, so that a recipe's mistakes can
-- all be told at once, with their paths; parts.real turns a checked description into the engine's object.

local unpack = table.unpack or unpack

local parts = {}

local Part = {}

-- args holds what the constructor was called with; nothing is looked at before the schema does.
local function make(part, kind, ...)
    return setmetatable({ part = part, kind = kind, args = { n = select("#", ...), ... } }, Part)
end

local function engine() return require "distac" end

-- The engine's object of a description (checked by the schema before).
function parts.real(self)
    local params = self.params or self.args[1]
    if self.part == "loss" then return engine().loss[self.kind](params or {}) end
    if parts.is_own(self) then return engine().merge[self.kind](unpack(self.args, 1, 2)) end
    if self.part == "merge" then return engine().merge[self.kind](params or {}) end
    if self.part == "adamw" then return engine().adamw(params or {}) end
    error("a " .. self.part .. " cannot be used like this", 2)
end

-- Inside a user's own merge function the description works like the operator it describes.
function Part.__index(self, key)
    local method = rawget(Part, key)
    if method ~= nil then return method end
    if rawget(self, "part") == "merge" and (key == "delta" or key == "name" or key == "files") then
        return function(_, ...)
            local operator = parts.real(self)
            return operator[key](operator, ...)
        end
    end
end

function Part.__call(self, ...)
    if self.part ~= "loss" and self.part ~= "merge" then error("a " .. self.part .. " cannot be called", 2) end
    return parts.real(self)(...)
end

function Part.__tostring(self) return parts.text(self) end

function parts.is(value, part)
    return type(value) == "table" and getmetatable(value) == Part and (part == nil or value.part == part)
end

-- A merge operator around a function of the user's: what it is called with is (function, options).
local own = { custom = true, elementwise = true }
function parts.is_own(self) return self.part == "merge" and own[self.kind] == true end

-- The same description with other parameters.
function parts.with(self, params) return make(self.part, self.kind, params) end

-- distac.grid(first, last, step): the numbers first, first+step, ... up to last.
function parts.grid(...) return make("grid", "grid", ...) end
-- distac.match_norm("mean"): the kappa that brings a task vector to the mean norm of the others.
function parts.match_norm(...) return make("match_norm", "match_norm", ...) end
function parts.adamw(...) return make("adamw", "adamw", ...) end
-- distac.folder_suite { root =, model =, ... }: the user's own tasks as folders.
function parts.folder_suite(...) return make("suite", "folder", ...) end

local constructors = setmetatable({}, { __mode = "k" })

local function family(part)
    return setmetatable({}, {
        __index = function(_, name)
            if type(name) ~= "string" then return nil end
            local function constructor(...) return make(part, name, ...) end
            constructors[constructor] = true
            return constructor
        end,
    })
end

-- distac.merge.tsvm without its braces is that operator with nothing said; anything else is itself.
function parts.constructed(value) return type(value) == "function" and constructors[value] and value() or value end

parts.loss = family "loss"
parts.merge = family "merge"

-- Points of a grid: computed as first + i*step and rounded to 12 digits, so that 0.15 is 0.15 on every machine.
function parts.grid_points(first, last, step)
    local points = {}
    for i = 0, math.floor((last - first) / step + 1e-9) do
        points[#points + 1] = tonumber(string.format("%.12g", first + i * step))
    end
    return points
end

-- How the files and tables of a run call a description.
function parts.text(self)
    local json = require "distac.json"
    local words = {}
    local params = self.params or self.args[1]
    if self.part == "grid" or self.part == "match_norm" then
        for i = 1, self.args.n do
            local v = self.args[i]
            words[#words + 1] = type(v) == "number" and json.number(v) or tostring(v)
        end
        return self.part .. "(" .. table.concat(words, ", ") .. ")"
    end
    if type(params) == "table" then
        local keys = {}
        for key in pairs(params) do keys[#keys + 1] = tostring(key) end
        table.sort(keys)
        for _, key in ipairs(keys) do
            local v = params[key]
            if type(v) == "number" then v = json.number(v) or tostring(v) end
            if type(v) == "table" then
                local list = {}
                for i = 1, #v do list[i] = tostring(v[i]) end
                v = table.concat(list, " ")
            end
            words[#words + 1] = key .. " = " .. tostring(v)
        end
    end
    return #words == 0 and self.kind or self.kind .. " { " .. table.concat(words, ", ") .. " }"
end

return parts
