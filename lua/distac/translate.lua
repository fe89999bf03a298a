-- distac.translate: a mergekit configuration as the merge of this engine that means the same, with every difference in
-- meaning named. The meanings are those of mergekit 0.1.4 (merge_methods/generalized_task_arithmetic.py, linear.py,
-- slerp.py, nuslerp.py, model_stock.py, config.py).
--
-- translate.mergekit(text [, { layers = N }]) -> { base =, method =, params =, models =, dtype =, differences =, notes = }
-- or raises { line =, message = } where it cannot be read or has no equivalent.

local json = require "distac.json"
local nearest = require "distac.nearest"
local yaml = require "distac.yaml"

local translate = {}

local function fail(line, what, ...)
    error({ line = line, message = string.format(what, ...) }, 0)
end

-- ---- What mergekit knows ------------------------------------------------------------------------------

local TOP = { "merge_method", "models", "slices", "base_model", "parameters", "dtype", "out_dtype", "tokenizer_source",
              "tokenizer", "chat_template", "name", "modules" }
-- of each method: its parameters, and what mergekit takes where nothing is said
local METHODS = {
    linear = { "weight", "normalize", normalize = true },
    task_arithmetic = { "weight", "lambda", "normalize", "int8_mask", "rescale", normalize = false },
    ties = { "weight", "density", "lambda", "normalize", "int8_mask", "rescale", normalize = true },
    dare_ties = { "weight", "density", "lambda", "normalize", "int8_mask", "rescale", normalize = false },
    dare_linear = { "weight", "density", "lambda", "normalize", "int8_mask", "rescale", normalize = false },
    della = { "weight", "density", "epsilon", "lambda", "normalize", "int8_mask", "rescale", normalize = true },
    della_linear = { "weight", "density", "epsilon", "lambda", "normalize", "int8_mask", "rescale", normalize = false },
    breadcrumbs = { "weight", "density", "gamma", "lambda", "normalize", "int8_mask", "rescale", normalize = false },
    breadcrumbs_ties = { "weight", "density", "gamma", "lambda", "normalize", "int8_mask", "rescale",
                         normalize = false },
    model_stock = { "filter_wise" },
    slerp = { "t" },
    nuslerp = { "weight", "nuslerp_flatten", "nuslerp_row_wise" },
}
local OTHERS = { "multislerp", "karcher", "sce", "ram", "ramplus_tl", "nearswap", "arcee_fusion", "passthrough" }
local PARAMETERS = { "weight", "density", "epsilon", "gamma", "lambda", "normalize", "int8_mask", "rescale",
                     "filter_wise", "t", "nuslerp_flatten", "nuslerp_row_wise" }

local function contains(list, name)
    for _, item in ipairs(list) do
        if item == name then return true end
    end
    return false
end

-- ---- Reading the nodes --------------------------------------------------------------------------------

local Reader = {}
Reader.__index = Reader

function Reader:differ(what, ...) table.insert(self.differences, string.format(what, ...)) end
function Reader:note(what, ...) table.insert(self.notes, string.format(what, ...)) end

function Reader:known(node, keys, where)
    if node.kind ~= "map" then fail(node.line, "%s: wanted keys and values", where) end
    for _, key in ipairs(node.keys) do
        if not contains(keys, key) then
            local near = nearest(key, keys)
            local inner = not near and (contains(PARAMETERS, key) and key or nearest(key, PARAMETERS))
            local hint = near and "; did you mean '" .. near .. "'?"
                or inner and "; did you mean '" .. inner .. "' below 'parameters'?" or ":"
            self:differ("line %d: %s has no key '%s'%s mergekit ignores it without a word, and so does this",
                node.at[key].key_line or node.line, where, key, hint)
        end
    end
end

function Reader:parameters(node, where)
    if not node then return {} end
    if node.kind == "scalar" and node.value == nil then return {} end
    if node.kind ~= "map" then fail(node.line, "%s: wanted keys and values", where) end
    local mine = METHODS[self.method]
    for _, key in ipairs(node.keys) do
        if not contains(mine, key) then
            local line = node.at[key].key_line or node.line
            if contains(PARAMETERS, key) then
                self:differ("line %d: '%s' is no parameter of %s: mergekit does not look at it", line, key, self.method)
            else
                local near = nearest(key, mine)
                self:differ("line %d: there is no parameter '%s'%s mergekit ignores it without a word, and so does this",
                    line, key, near and "; did you mean '" .. near .. "'?" or ":")
            end
        end
    end
    return node.at
end

local function text_of(node, what)
    if not node or node.kind ~= "scalar" or node.value == nil then
        fail(node and node.line or 1, "%s: wanted a name", what)
    end
    return type(node.value) == "string" and node.value or node.text
end

-- A model: a path, or { model: path }. Adapters are no models yet.
function Reader:model(node, what)
    local path
    if node.kind == "map" then
        local inner = node.at.model or node
        local path_node = inner.kind == "map" and inner.at.path or inner
        path = text_of(path_node, what)
        if node.at.lora or inner.kind == "map" and inner.at.lora then
            fail(node.line, "%s: an adapter (lora) is applied by mergekit first; apply it and name the result", what)
        end
    else
        path = text_of(node, what)
    end
    if path:find("+", 1, true) then
        fail(node.line, "%s: '%s': mergekit applies the adapter behind '+' first; apply it and name the result", what,
            path)
    end
    return path
end

-- A setting: a number; { gradient = { numbers } } over the layers; { filters = { { pattern, setting }, ... } } of
-- which the first that fits counts.
local function setting(node, name)
    if node.kind == "scalar" then
        if type(node.value) ~= "number" then fail(node.line, "%s: wanted a number, got '%s'", name, node.text) end
        return node.value
    end
    if node.kind ~= "list" or #node == 0 then fail(node.line, "%s: wanted a number or a list", name) end
    if node[1].kind ~= "map" then
        local out = {}
        for i, item in ipairs(node) do
            if item.kind ~= "scalar" or type(item.value) ~= "number" then
                fail(item.line, "%s: wanted numbers only, or filters only", name)
            end
            out[i] = item.value
        end
        return #out == 1 and out[1] or { gradient = out, line = node.line }
    end
    local filters = {}
    for i, item in ipairs(node) do
        if item.kind ~= "map" or not item.at.value then fail(item.line, "%s: wanted { filter:, value: }", name) end
        local filter = item.at.filter and item.at.filter.value
        filters[i] = { filter ~= nil and filter ~= "*" and tostring(filter) or false, setting(item.at.value, name) }
    end
    return { filters = filters, line = node.line }
end

local function same(a, b) return json.encode(a) == json.encode(b) end

local function flag(node, default, name)
    if not node then return default end
    if node.kind == "scalar" and type(node.value) == "boolean" then return node.value end
    fail(node.line, "%s: wanted true or false", name)
end

-- ---- Settings of all models ---------------------------------------------------------------------------

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
            or not same({ g = value.gradient, f = value.filters }, { g = list[1].gradient, f = list[1].filters }) then
            fail(type(value) == "table" and value.line or models[i].line, "%s differs between models and by layer or "
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
            self:differ("line %d: tensors that no filter fits have no value: mergekit stops there, here they have factor 1",
                value.line)
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
        self:differ("tensors outside the layers take the gradient's first value; mergekit gives those behind the last "
            .. "layer (norm, head) its last")
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

-- ---- Methods ------------------------------------------------------------------------------------------

local function sum(list)
    local total = 0
    for _, value in ipairs(list) do total = total + value end
    return total
end

local function equal(list)
    for _, value in ipairs(list) do
        if value ~= list[1] then return false end
    end
    return true
end

local function divided(list, by)
    local out = {}
    for i, value in ipairs(list) do out[i] = value / by end
    return out
end

local function short(list) return equal(list) and list[1] or list end

local function engine_method(name)
    for _, method in ipairs(require("distac").merge.methods()) do
        if method.name == name then
            local has = {}
            for _, p in ipairs(method.params) do has[p.name] = p end
            return has
        end
    end
end

function Reader:needs(name, line)
    local has = engine_method(name)
    if not has then fail(line, "this engine has no method %s", name) end
    self.params = { lambda = nil }
    return has
end

local function lambda_of(reader)
    local node = reader.common.lambda
    if not node then return 1 end
    local value = setting(node, "lambda")
    if type(value) == "number" then return value end
    reader:scale(value)
    return 1
end

-- Weights of a sum of changes: the method's own parameter where it has one, else part of lambda when all are equal.
-- by_total: divided by the sum of all weights.
local function weigh(reader, has, models, by_total)
    local weights, spec = reader:numbers("weight", models)
    local lambda = lambda_of(reader)
    if by_total then
        local total = sum(weights)
        if math.abs(total) < 1e-8 then total = 1 end
        weights = divided(weights, total)
        if not spec then
            reader:note("normalize: the weights are divided by their sum, %s", json.number(total))
        end
    end
    if spec and not by_total then reader:scale(spec) end
    if equal(weights) then
        lambda = lambda * weights[1]
    elseif has.weights then
        reader.params.weights = weights
    else
        fail(models[1].line, "weights that differ between models: %s here gives all models the same", reader.method)
    end
    reader.params.lambda = lambda
end

-- Weights of what agrees with an elected sign.
local function weigh_elected(reader, has, models, normalize)
    local weights, spec = reader:numbers("weight", models)
    reader.params.combine = normalize and "mean" or "sum"
    if normalize and equal(weights) then
        reader.params.lambda = lambda_of(reader) -- one weight for all goes into sum and divisor alike
        if weights[1] ~= 1 or spec then
            reader:note("normalize: the changes that agree are divided by the sum of their weights, so that one weight "
                .. "for all models has no effect")
        end
    else
        weigh(reader, has, models, false)
        if normalize then
            reader:differ("normalize: mergekit divides by the weights of the models that agree, %s here by their number",
                reader.method)
        end
    end
end

local build = {}

function build.linear(reader, models)
    reader:needs("average", 1)
    local weights, spec = reader:numbers("weight", models)
    if spec then fail(spec.line, "linear with weights by layer or filter: average takes one per model here") end
    local total = sum(weights)
    if not flag(reader.common.normalize, true, "normalize") and math.abs(total - 1) > 1e-9 then
        fail(reader.common.normalize.line, "linear without normalize scales the whole model by the sum of the weights, %s: "
            .. "merging around a base cannot", json.number(total))
    end
    if not reader.base then
        reader.base = models[1].path
        reader:note("linear has no base; any model of the list does, as it cancels: the first is taken")
    end
    if not equal(weights) then reader.params.weights = weights end
    return "average", models
end

function build.task_arithmetic(reader, _, changed)
    local has = reader:needs("task_arithmetic", 1)
    weigh(reader, has, changed, flag(reader.common.normalize, false, "normalize"))
    return "task_arithmetic", changed
end

function build.ties(reader, _, changed)
    local has = reader:needs("ties", 1)
    reader.params.keep = reader:one("density", changed, 1)
    reader.params.dialect = "mergekit"
    reader:note("dialect = mergekit trims every tensor on its own; the paper trims the whole vector at one threshold "
        .. "(--dialect paper)")
    weigh_elected(reader, has, changed, flag(reader.common.normalize, true, "normalize"))
    return "ties", changed
end

local function drop(reader, changed, has)
    local p = {}
    for i, density in ipairs(reader:of_models("density", changed, 1)) do
        if type(density) ~= "number" then fail(density.line, "density by layer or filter: it is one number here") end
        p[i] = 1 - density
    end
    if not has.p.list and not equal(p) then fail(changed[1].line, "density differs between models") end
    reader.params.p = short(p)
    if not flag(reader.common.rescale, true, "rescale") then reader.params.rescale = "no" end
    reader:differ("which elements are dropped: mergekit draws from one generator without a fixed seed, here the choice "
        .. "depends on --seed, tensor, model and element alone")
end

function build.dare_linear(reader, _, changed)
    local has = reader:needs("dare", 1)
    drop(reader, changed, has)
    weigh(reader, has, changed, flag(reader.common.normalize, false, "normalize"))
    return "dare", changed
end

function build.dare_ties(reader, _, changed)
    local has = reader:needs("dare_ties", 1)
    drop(reader, changed, has)
    weigh_elected(reader, has, changed, flag(reader.common.normalize, false, "normalize"))
    return "dare_ties", changed
end

-- Methods whose parameters here have the names of their papers: density is kept, or dropped, or of another name.
local function pruned(name, elected, default_normalize)
    return function(reader, _, changed)
        local has = reader:needs(name, 1)
        local density = reader:one("density", changed, 1)
        if has.density then reader.params.density = density
        elseif has.keep then reader.params.keep = density
        elseif has.p then reader.params.p = 1 - density
        else fail(1, "%s has no density here", name) end
        for _, key in ipairs { "epsilon", "gamma" } do
            if contains(METHODS[reader.method], key) then
                local value = reader:one(key, changed, key == "gamma" and 0.01 or 0.15)
                local ours = key == "gamma" and not has.gamma and has.beta and "beta" or key
                if not has[ours] then fail(1, "%s has no %s here", name, key) end
                reader.params[ours] = value
            end
        end
        local normalize = flag(reader.common.normalize, default_normalize, "normalize")
        if name:find("^della") then
            reader:differ("which elements are dropped: mergekit draws from one generator without a fixed seed")
        end
        if elected then weigh_elected(reader, has, changed, normalize) else weigh(reader, has, changed, normalize) end
        return name, changed
    end
end
build.della = pruned("della", true, true)
build.della_linear = pruned("della_linear", false, false)
build.breadcrumbs = pruned("breadcrumbs", false, false)
build.breadcrumbs_ties = pruned("breadcrumbs_ties", true, false)

function build.model_stock(reader, _, changed)
    reader:needs("model_stock", 1)
    if flag(reader.common.filter_wise, false, "filter_wise") then
        fail(reader.common.filter_wise.line, "filter_wise: model_stock works per tensor here")
    end
    if #changed < 2 then fail(1, "model_stock wants two models beside the base") end
    return "model_stock", changed
end

-- The two models of an interpolation, the base first.
local function pair(reader, models)
    local first, second
    for _, model in ipairs(models) do
        if model.path == reader.base and not first then first = model else second = second or model end
    end
    if not first then first, second = models[1], models[2] end
    if #models > 2 or not second then
        fail(models[1].line, "%s takes two models, %d are given", reader.method, #models)
    end
    return { first, second }
end

function build.slerp(reader, models)
    reader:needs("slerp", 1)
    if not reader.base then fail(1, "slerp wants base_model: the model at t = 0") end
    if #models == 1 and models[1].path ~= reader.base then
        table.insert(models, 1, { path = reader.base, parameters = {}, line = models[1].line })
    end
    local node = reader.common.t
    if not node then fail(1, "slerp wants t") end
    local t = setting(node, "t")
    if type(t) ~= "number" then
        fail(node.line, "t by layer or filter: slerp takes one t for all tensors here; merge with several t and --only, "
            .. "each output the --base of the next")
    end
    reader.params.t = t
    return "slerp", pair(reader, models)
end

function build.nuslerp(reader, models, changed)
    local list = reader.base and changed or models
    if not flag(reader.common.nuslerp_flatten, true, "nuslerp_flatten")
        or flag(reader.common.nuslerp_row_wise, false, "nuslerp_row_wise") then
        fail(1, "nuslerp by rows or columns: here the angle is that of whole tensors")
    end
    if #list ~= 2 then fail(list[1] and list[1].line or 1, "nuslerp takes two models, %d are given", #list) end
    local weights, spec = reader:numbers("weight", list)
    if spec then fail(spec.line, "nuslerp with weights by layer or filter: one per model is taken here") end
    if reader.base then
        reader:needs("nuslerp", 1)
        reader.params.weights = short(weights)
        return "nuslerp", list
    end
    reader:needs("slerp", 1)
    reader.base = list[1].path
    reader.params.t = weights[2] / sum(weights)
    reader:note("nuslerp without a base is slerp at t = the second's share of the weights")
    return "slerp", list
end

-- ---- The whole file -----------------------------------------------------------------------------------

-- models: or one slice with sources.
function Reader:sources(root)
    local models = {}
    local function add(item, what)
        local path = self:model(item.kind == "map" and item.at.model or item, what)
        models[#models + 1] = { path = path, line = item.line, node = item.kind == "map" and item or nil }
    end
    if root.at.models then
        if root.at.slices then fail(root.at.slices.key_line, "models and slices: mergekit takes one of them") end
        if root.at.models.kind ~= "list" then fail(root.at.models.line, "models: wanted a list") end
        for _, item in ipairs(root.at.models) do
            if item.kind == "map" then self:known(item, { "model", "parameters" }, "a model") end
            if item.kind == "map" and not item.at.model then fail(item.line, "a model without 'model:'") end
            add(item, "model")
        end
        return models
    end
    local slices = root.at.slices
    if not slices or slices.kind ~= "list" or #slices == 0 then fail(root.line, "there are no models") end
    if #slices > 1 then
        fail(slices[2].line, "several slices stack layers of models to a new architecture; here models of the same "
            .. "shapes are merged")
    end
    local slice = slices[1]
    self:known(slice, { "sources", "parameters", "base_model" }, "a slice")
    if not slice.at.sources or slice.at.sources.kind ~= "list" then fail(slice.line, "a slice without sources") end
    local range
    for _, item in ipairs(slice.at.sources) do
        self:known(item, { "model", "layer_range", "parameters" }, "a source")
        if not item.at.model then fail(item.line, "a source without 'model:'") end
        local r = item.at.layer_range and yaml.plain(item.at.layer_range)
        if type(r) ~= "table" or type(r[1]) ~= "number" or type(r[2]) ~= "number" then
            fail(item.line, "a source without layer_range: [first, end]")
        end
        if range and (range[1] ~= r[1] or range[2] ~= r[2]) then
            fail(item.line, "the sources' layer_range differ: layers are merged with layers of the same number here")
        end
        if r[1] ~= 0 then
            fail(item.line, "layer_range begins at %s: leaving layers out is no merge of equal models",
                json.number(r[1]))
        end
        range = r
        add(item, "source")
    end
    self.layers = self.layers or range[2]
    self:differ("layer_range is taken to be all layers of the models (%s); mergekit leaves out those behind",
        json.number(range[2]))
    self.slice = slice
    return models
end

local types = { float32 = "f32", float16 = "f16", bfloat16 = "bf16" }

function Reader:dtype(root)
    local name = root.at.dtype and text_of(root.at.dtype, "dtype")
    local out = root.at.out_dtype and text_of(root.at.out_dtype, "out_dtype") or name
    for _, key in ipairs { "dtype", "out_dtype" } do
        local given = root.at[key] and root.at[key].text
        if given and not types[given] then
            local near = nearest(given, { "float32", "float16", "bfloat16" })
            fail(root.at[key].line, "%s: '%s' is not one of float32, float16, bfloat16%s", key, given,
                near and "; did you mean '" .. near .. "'?" or "")
        end
    end
    if name ~= "float32" then
        self:differ("mergekit computes in %s; here it is done in double and rounded once, to %s",
            name or "the type of the files", out or "the base's type")
    end
    return out and types[out]
end

local function convert(text, options)
    local root, why, line = yaml.read(text)
    if not root then fail(line, "%s", why) end
    local reader = setmetatable({ differences = {}, notes = {}, layers = options and options.layers, params = {} }, Reader)
    reader:known(root, TOP, "the configuration")
    if root.at.modules then fail(root.at.modules.key_line, "modules: merging parts of several architectures") end
    if not root.at.merge_method then fail(root.line, "there is no merge_method") end
    reader.method = text_of(root.at.merge_method, "merge_method")
    if not METHODS[reader.method] then
        local names = {}
        for name in pairs(METHODS) do names[#names + 1] = name end
        table.sort(names)
        local near = not contains(OTHERS, reader.method) and nearest(reader.method, names)
        fail(root.at.merge_method.line, "merge_method: %s '%s'%s; those are %s", contains(OTHERS, reader.method)
            and "this engine has no equivalent of" or "mergekit has no", reader.method,
            near and "; did you mean '" .. near .. "'?" or "", table.concat(names, ", "))
    end
    local base_node = root.at.base_model
    reader.base = base_node and reader:model(base_node, "base_model")
    local models = reader:sources(root)
    reader.common = {}
    for _, level in ipairs { root, reader.slice or {} } do
        local node = level.at and level.at.parameters
        for key, value in pairs(reader:parameters(node, "parameters")) do reader.common[key] = value end
    end
    local changed = {}
    for _, model in ipairs(models) do
        model.parameters = reader:parameters(model.node and model.node.at.parameters, "parameters of " .. model.path)
        if model.path ~= reader.base then changed[#changed + 1] = model end
    end
    local free = reader.method == "linear" or reader.method == "nuslerp" or reader.method == "slerp"
    if not free and not reader.base then fail(root.line, "%s wants base_model", reader.method) end
    if not free and #changed < 1 then fail(root.line, "there is no model beside the base") end
    for name in pairs(reader.common) do
        if name == "int8_mask" then
            reader:note("int8_mask saves memory in mergekit and has no effect on the numbers; nothing is needed here")
        end
    end
    local method, merged = build[reader.method](reader, models, changed)
    if not free and #changed < #models then
        reader:note("the base among the models adds nothing, its change is zero: it is left out")
    end
    local out = { base = reader.base, method = method, params = reader.params, models = {}, from = reader.method,
                  dtype = reader:dtype(root), differences = reader.differences, notes = reader.notes }
    for i, model in ipairs(merged) do out.models[i] = model.path end
    if out.params.lambda == 1 then out.params.lambda = nil end
    for _, key in ipairs { "tokenizer_source", "tokenizer", "chat_template" } do
        if root.at[key] then
            reader:differ("line %d: %s is not done: tensors are merged, tokenizers and templates are copied by you",
                root.at[key].key_line, key)
        end
    end
    for _, path in ipairs { reader.base, (table.unpack or unpack)(out.models) } do
        if path:find("^[%w%-_.]+/[%w%-_.]+$") then
            reader:note("'%s' may be a name on the hub: give the path of its folder or safetensors file", path)
            break
        end
    end
    return out
end

-- The translation; or nil, what is wrong, and the line.
function translate.mergekit(text, options)
    local fine, out = pcall(convert, text, options)
    if fine then return out end
    if type(out) ~= "table" or not out.line then error(out, 0) end
    return nil, out.message, out.line
end

-- ---- Printing -----------------------------------------------------------------------------------------

local function sorted(t)
    local keys = {}
    for key in pairs(t) do keys[#keys + 1] = key end
    table.sort(keys)
    return keys
end

local function shell(text)
    text = tostring(text)
    if text:find("^[%w_./:=,+-]+$") then return text end
    return "'" .. text:gsub("'", "'\\''") .. "'"
end

local function number(v) return type(v) == "number" and json.number(v) or tostring(v) end

local function option_value(key, v)
    if type(v) ~= "table" then return number(v) end
    local parts = {}
    for i, item in ipairs(v) do
        parts[i] = key == "scale" and item[1] .. "=" .. number(item[2]) or number(item)
    end
    return table.concat(parts, ",")
end

-- The words of the `distac merge` command.
function translate.command(t)
    local words = { "distac", "merge", "--base", t.base, "--method", t.method }
    for _, key in ipairs(sorted(t.params)) do
        words[#words + 1] = "--" .. key
        words[#words + 1] = option_value(key, t.params[key])
    end
    if t.dtype then words[#words + 1], words[#words + 2] = "--dtype", t.dtype end
    words[#words + 1], words[#words + 2] = "-o", "merged.safetensors"
    for _, path in ipairs(t.models) do words[#words + 1] = path end
    return words
end

local function lua_value(v)
    if type(v) == "table" then
        local parts = {}
        for i, item in ipairs(v) do parts[i] = lua_value(item) end
        return "{ " .. table.concat(parts, ", ") .. " }"
    end
    return type(v) == "number" and json.number(v) or string.format("%q", v)
end

-- A Lua script that does the same.
function translate.script(t)
    local lines = { 'local distac = require "distac"', "", "local base = distac.load " .. lua_value(t.base),
                    "local models = {" }
    for _, path in ipairs(t.models) do lines[#lines + 1] = "    distac.load " .. lua_value(path) .. "," end
    lines[#lines + 1] = "}"
    lines[#lines + 1] = "distac.merge." .. t.method .. " {"
    for _, key in ipairs(sorted(t.params)) do
        lines[#lines + 1] = "    " .. key .. " = " .. lua_value(t.params[key]) .. ","
    end
    lines[#lines + 1] = '}:files(base, models, "merged.safetensors"' .. (t.dtype and ', { dtype = "' .. t.dtype .. '" }'
        or "") .. ")"
    return table.concat(lines, "\n")
end

-- The command as a line for a shell, behind comments that name the differences.
function translate.text(t, as_script)
    local lines, mark = {}, as_script and "-- " or "# "
    for _, what in ipairs(t.differences) do lines[#lines + 1] = mark .. "difference: " .. what end
    for _, what in ipairs(t.notes) do lines[#lines + 1] = mark .. what end
    if as_script then
        lines[#lines + 1] = translate.script(t)
    else
        local words = translate.command(t)
        for i, word in ipairs(words) do words[i] = shell(word) end
        lines[#lines + 1] = table.concat(words, " ")
    end
    return table.concat(lines, "\n")
end

return translate
