-- distac.translate.settings: a setting of all models: one number each, one for all, or rules by layer and filter.
-- Requiring it gives the reader these methods.

local Reader = require "distac.translate.reader"
local json = require "distac.json"

local fail, setting = Reader.fail, Reader.setting

local function same(a, b) return json.encode(a) == json.encode(b) end

-- The setting `name` of every model: its own, else the common one, else default.
function Reader:of_models(name, models, default)
    local list = {}
    for i, model in ipairs(models) do
        local node = model.parameters[name] or self.common[name]
        if not node and default == nil then
            fail(model.line, "model '%s' has no %s; mergekit wants one", model.path, name)
        end
        list[i] = node and setting(node, name) or default
    end
    return list
end

-- Numbers of all models; settings by layer or filter must be all the same, they are returned second.
function Reader:numbers(name, models, default)
    local list = self:of_models(name, models, default)
    local all = true
    for _, value in ipairs(list) do all = all and type(value) == "number" end
    if all then return list end
    for i, value in ipairs(list) do
        if type(value) == "number" or type(list[1]) == "number"
            or not same({ g = value.gradient, f = value.filters },
            { g = list[1].gradient, f = list[1].filters }) then
            fail(type(value) == "table" and value.line or models[i].line,
                "%s differs between models and by layer or "
                .. "filter: no method here does; distac.merge.elementwise can (where.name is the tensor)", name)
        end
    end
    local ones = {}
    for i in ipairs(list) do ones[i] = 1 end
    return ones, list[1]
end

-- One number for all models.
function Reader:one(name, models, default)
    local list = self:of_models(name, models, default)
    for i, value in ipairs(list) do
        if type(value) ~= "number" then
            fail(value.line, "%s by layer or filter: %s takes one number for all tensors here", name, self.method)
        end
        if value ~= list[1] then
            fail(models[i].line, "%s differs between models: %s takes one number for all here", name, self.method)
        end
    end
    return list[1]
end

local function at_layer(gradient, t)
    local place = t * (#gradient - 1)
    local low = math.min(math.floor(place), #gradient - 2)
    local part = place - low
    return gradient[low + 1] * (1 - part) + gradient[low + 2] * part
end

-- Rules of factors (the last that fits counts) for a setting, within `prefix`.
function Reader:rules(value, pattern, rules)
    if type(value) == "number" then
        rules[#rules + 1] = { pattern, value }
    elseif value.filters then
        for i = #value.filters, 1, -1 do
            local filter = value.filters[i]
            self:rules(filter[2], filter[1] and "*" .. filter[1] .. "*" or pattern, rules)
        end
        if value.filters[#value.filters][1] then
            self:differ("line %d: tensors that no filter fits have no value: mergekit stops there, here they "
                .. "have factor 1", value.line)
        end
    else
        if pattern ~= "*" then
            fail(value.line, "a gradient within a filter: write a rule for every layer by hand (--scale)")
        end
        if not self.layers then
            fail(value.line, "a gradient over the layers: how many are there? --layers N")
        end
        rules[#rules + 1] = { "*", value.gradient[1] }
        for layer = 0, self.layers - 1 do
            local t = self.layers > 1 and layer / (self.layers - 1) or 1
            rules[#rules + 1] = { string.format("*layers.%d.*", layer), at_layer(value.gradient, t) }
        end
        self:differ("tensors outside the layers take the gradient's first value; mergekit gives those behind the "
            .. "last layer (norm, head) its last")
    end
    return rules
end

function Reader:scale(value)
    if value == nil then return end
    for _, rule in ipairs(self:rules(value, "*", {})) do
        self.params.scale = self.params.scale or {}
        table.insert(self.params.scale, rule)
    end
end

return Reader
