-- distac.translate.methods: mergekit's methods by name: each a function (reader, models, models without the base)
-- that fills reader.params and returns this engine's method and the models it merges.

local Reader = require "distac.translate.settings"
local json = require "distac.json"

local fail, flag, setting = Reader.fail, Reader.flag, Reader.setting

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

-- Weights of a sum of changes: the method's own parameter where it has one, else part of lambda when all are
-- equal. by_total: divided by the sum of all weights.
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
        fail(models[1].line, "weights that differ between models: %s here gives all models the same",
            reader.method)
    end
    reader.params.lambda = lambda
end

-- Weights of what agrees with an elected sign.
local function weigh_elected(reader, has, models, normalize)
    local weights, spec = reader:numbers("weight", models)
    reader.params.combine = normalize and "mean" or "sum"
    if normalize then -- one weight for all goes into sum and divisor alike
        reader.params.lambda, reader.params.weights = lambda_of(reader), not equal(weights) and weights or nil
        if equal(weights) and (weights[1] ~= 1 or spec) then
            reader:note("normalize: the changes that agree are divided by the sum of their weights, so that one "
                .. "weight for all models has no effect")
        end
    else
        weigh(reader, has, models, false)
    end
end

-- Numbers of all models, one for all if they are equal.
local function shares(reader, name, models, default)
    local list, spec = reader:numbers(name, models, default)
    if spec then fail(spec.line, "%s by layer or filter: it is a number per model here", name) end
    return short(list)
end

local build = {}

function build.linear(reader, models)
    reader:needs("average", 1)
    local weights, spec = reader:numbers("weight", models)
    if spec then fail(spec.line, "linear with weights by layer or filter: average takes one per model here") end
    local total = sum(weights)
    if not flag(reader.common.normalize, true, "normalize") and math.abs(total - 1) > 1e-9 then
        fail(reader.common.normalize.line, "linear without normalize scales the whole model by the sum of the "
            .. "weights, %s: merging around a base cannot", json.number(total))
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
    reader.params.keep = shares(reader, "density", changed, 1)
    reader.params.dialect = "mergekit"
    reader:note("dialect = mergekit trims every tensor on its own; the paper trims the whole vector at one "
        .. "threshold (--dialect paper)")
    weigh_elected(reader, has, changed, flag(reader.common.normalize, true, "normalize"))
    return "ties", changed
end

-- Random dropping: the parameter here is the share that stays (density) or that goes (p).
local function drop(reader, changed, name)
    local p = shares(reader, "density", changed, 1)
    if name == "p" and type(p) == "table" then
        for i, density in ipairs(p) do p[i] = 1 - density end
    elseif name == "p" then
        p = 1 - p
    end
    reader.params[name] = p
    reader.params.rescale = flag(reader.common.rescale, true, "rescale") and "norm" or "no"
    reader:differ("which elements are dropped: mergekit draws from one generator without a fixed seed, here the "
        .. "choice depends on --seed, tensor, model and element alone")
end

function build.dare_linear(reader, _, changed)
    local has = reader:needs("dare", 1)
    drop(reader, changed, "p")
    weigh(reader, has, changed, flag(reader.common.normalize, false, "normalize"))
    return "dare", changed
end

function build.dare_ties(reader, _, changed)
    local has = reader:needs("dare_ties", 1)
    drop(reader, changed, "p")
    weigh_elected(reader, has, changed, flag(reader.common.normalize, false, "normalize"))
    return "dare_ties", changed
end

-- One method here for two of mergekit's: elect = "all" is the one without signs.
function build.della(reader, _, changed, linear)
    local has = reader:needs("della", 1)
    drop(reader, changed, "density")
    reader.params.epsilon = reader:one("epsilon", changed, 0.15)
    if linear then reader.params.elect = "all" end
    local normalize = flag(reader.common.normalize, not linear, "normalize")
    if linear then weigh(reader, has, changed, normalize) else weigh_elected(reader, has, changed, normalize) end
    return "della", changed
end

function build.della_linear(reader, models, changed) return build.della(reader, models, changed, true) end

function build.breadcrumbs(reader, _, changed, elected)
    local has = reader:needs("breadcrumbs", 1)
    reader.params.beta, reader.params.gamma = shares(reader, "density", changed, 1),
        shares(reader, "gamma", changed, 0.01)
    reader.params.scope = "tensor"
    if flag(reader.common.rescale, false, "rescale") then reader.params.rescale = "norm" end
    local normalize = flag(reader.common.normalize, false, "normalize")
    if elected then
        reader.params.elect = "sum"
        weigh_elected(reader, has, changed, normalize)
    else
        weigh(reader, has, changed, normalize)
    end
    return "breadcrumbs", changed
end

function build.breadcrumbs_ties(reader, models, changed)
    return build.breadcrumbs(reader, models, changed, true)
end

function build.model_stock(reader, _, changed)
    reader:needs("model_stock", 1)
    if flag(reader.common.filter_wise, false, "filter_wise") then reader.params.filter_wise = "yes" end
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
        fail(node.line, "t by layer or filter: slerp takes one t for all tensors here; merge with several t and "
            .. "--only, each output the --base of the next")
    end
    reader.params.t = t
    return "slerp", pair(reader, models)
end

function build.nuslerp(reader, models, changed)
    local list = reader.base and changed or models
    local flatten = flag(reader.common.nuslerp_flatten, true, "nuslerp_flatten")
    local by_row = flag(reader.common.nuslerp_row_wise, false, "nuslerp_row_wise")
    if #list ~= 2 then fail(list[1] and list[1].line or 1, "nuslerp takes two models, %d are given", #list) end
    local weights, spec = reader:numbers("weight", list)
    if spec then fail(spec.line, "nuslerp with weights by layer or filter: one per model is taken here") end
    reader:needs("nuslerp", 1)
    reader.params.weights = short(weights)
    if not flatten then reader.params.angle = by_row and "column" or "row" end
    if not reader.base then
        reader.base, reader.params.of = list[1].path, "models"
        reader:note("nuslerp has no base here; any model does, as it cancels: the first is taken")
    end
    return "nuslerp", list
end

return build
