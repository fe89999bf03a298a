-- distac.translate.methods: mergekit's methods by name: each a function (reader, models, models without the base) that
-- fills reader.params and returns this engine's method and the models it merges.

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

-- Random dropping: the parameter here is the share that stays (density) or that goes (p).
local function drop(reader, changed, has, name)
    local p = {}
    for i, density in ipairs(reader:of_models("density", changed, 1)) do
        if type(density) ~= "number" then fail(density.line, "density by layer or filter: it is one number here") end
        p[i] = name == "density" and density or 1 - density
    end
    if not has[name].list and not equal(p) then fail(changed[1].line, "density differs between models") end
    reader.params[name] = short(p)
    if not flag(reader.common.rescale, true, "rescale") then reader.params.rescale = "no" end
    reader:differ("which elements are dropped: mergekit draws from one generator without a fixed seed, here the choice "
        .. "depends on --seed, tensor, model and element alone")
end

function build.dare_linear(reader, _, changed)
    local has = reader:needs("dare", 1)
    drop(reader, changed, has, "p")
    weigh(reader, has, changed, flag(reader.common.normalize, false, "normalize"))
    return "dare", changed
end

function build.dare_ties(reader, _, changed)
    local has = reader:needs("dare_ties", 1)
    drop(reader, changed, has, "p")
    weigh_elected(reader, has, changed, flag(reader.common.normalize, false, "normalize"))
    return "dare_ties", changed
end

-- One method here for two of mergekit's: elect = "all" is the one without signs.
function build.della(reader, _, changed, linear)
    local has = reader:needs("della", 1)
    drop(reader, changed, has, "density")
    reader.params.epsilon = reader:one("epsilon", changed, 0.15)
    if linear then reader.params.elect = "all" end
    local normalize = flag(reader.common.normalize, not linear, "normalize")
    if linear then weigh(reader, has, changed, normalize) else weigh_elected(reader, has, changed, normalize) end
    return "della", changed
end

function build.della_linear(reader, models, changed) return build.della(reader, models, changed, true) end

function build.breadcrumbs(reader, _, changed, elected)
    local has = reader:needs("breadcrumbs", 1)
    local density = reader:one("density", changed, 1)
    reader.params.beta = density
    -- where density leaves no room for all outliers, mergekit drops fewer of them
    reader.params.gamma = math.max(0, math.min(reader:one("gamma", changed, 0.01), tonumber(string.format("%.12g", 1 - density))))
    if flag(reader.common.rescale, false, "rescale") then
        reader:differ("rescale: mergekit brings what is left to the length of what was there; breadcrumbs here does not")
    end
    reader:differ("mergekit counts outliers and small changes in the whole tensor, breadcrumbs here in every row")
    local normalize = flag(reader.common.normalize, false, "normalize")
    if elected then
        reader.params.elect = "sum"
        weigh_elected(reader, has, changed, normalize)
    else
        weigh(reader, has, changed, normalize)
    end
    return "breadcrumbs", changed
end

function build.breadcrumbs_ties(reader, models, changed) return build.breadcrumbs(reader, models, changed, true) end

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

return build
