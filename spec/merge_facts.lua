-- What the specs have to know of the methods beside their list: facts[NAME] = {
--   models = the only number of models that it takes,
--   ordered = true where the order of the models matters,
--   given = parameters without which it cannot be used on task vectors alone,
--   identity = parameters with which one model alone gives itself (none: it never does), identity_of = how near,
--   small = true where the reference is too slow for large tensors,
--   cases = lists of parameters to hold against the reference in double }.
local facts = {
    average = { identity = {}, cases = { {}, { weights = { 1, 2, 0.5 } } } },
    task_arithmetic = { identity = {}, cases = { {}, { weights = { 1, -2, 0.5 } } } },
    ties = { identity = { keep = 1 } },
    consensus_ta = { identity = { k = 1, tall = 0.5 }, cases = {
        {}, { tall = { 0.2, 0.4, 0.6 }, k = 1 }, { multitask = "ties", keep = 0.3, k = 2 },
        { k = 0, multitask = "ties" },
    } },
    tall_mask = { identity = { tall = 0.5 }, ordered = true, cases = {
        {}, { task = 2, tall = 0.6 }, { task = 3, multitask = "ties", keep = 0.5 },
    } },
    tsvm = { identity = {} },
    dare = { identity = { p = 0 }, ordered = true, cases = {
        {}, { p = 0 }, { p = 1 }, { p = { 0.2, 0.5, 0.8 }, seed = 7 }, { p = 0.5, rescale = "no" },
        { p = { 0.3, 0.5, 0.7 }, rescale = "norm", weights = { 1, -0.5, 2 } }, { p = 1, rescale = "norm" },
    } },
    dare_ties = { identity = { p = 0 }, ordered = true, cases = {
        {}, { p = 0 }, { p = 0.5, elect = "count", combine = "sum" },
        { p = { 0.2, 0.5, 0.8 }, combine = "max", seed = 3 },
        { p = 0.4, rescale = "norm", weights = { 1, 2, 0.5 } },
    } },
    lines = { identity = { a = 1, b = 0 }, cases = {
        {}, { a = 0.3, b = 0.5 }, { a = 0, b = 1 }, { a = 1, b = -0.5 },
    } },
    slerp = { models = 2, ordered = true, given = { of = "vectors" }, cases = {
        { of = "vectors" }, { of = "vectors", t = 0 }, { of = "vectors", t = 0.3 }, { of = "vectors", t = 1 },
    } },
    nuslerp = { models = 2, ordered = true, cases = {
        {}, { weights = { 1, 3 } }, { weights = { 1, -1 } }, { angle = "row" },
            { angle = "column", weights = { 3, 1 } },
    } },
    model_stock = { identity = {}, cases = { {}, { filter_wise = "yes" } } },
    breadcrumbs = { identity = { beta = 1, gamma = 0 }, cases = {
        {}, { beta = 0.5, gamma = 0.1 }, { beta = 0.9, gamma = 0.3, elect = "sum", combine = "mean" },
        { beta = 0.4, gamma = 0, elect = "count", combine = "max" }, { beta = 0 },
        { beta = 0.5, gamma = 0.1, rescale = "norm" }, { scope = "tensor" },
            { beta = 1, gamma = 0.1, scope = "tensor" },
        { beta = { 0.9, 0.5, 0.2 }, gamma = { 0.05, 0.2, 0 }, scope = "tensor", rescale = "norm",
            weights = { 1, 2, -1 } },
        { beta = { 0.9, 0.5, 0.2 }, elect = "sum", combine = "mean", weights = { 1, 2, 0.5 }, rescale = "norm" },
        { beta = 0, gamma = 0.5, scope = "tensor", rescale = "norm" },
    } },
    della = { identity = { density = 1 }, ordered = true, small = true, cases = {
        {}, { density = 0.3, epsilon = 0.2, seed = 5, elect = "all", combine = "mean" },
        { density = { 0, 1, 0.5 }, rescale = "no", elect = "count" },
        { density = { 0.3, 0.6, 1 }, rescale = "norm", weights = { 1, 2, 0.5 }, combine = "mean" },
    } },
    pcb = { cases = { {}, { ratio = 0.3 }, { ratio = 0.05, clip = 0.01 }, { ratio = 1, clip = 0 } } },
}

facts.ties.cases = { {}, { keep = 0 }, { keep = 1 }, { keep = 0.1, dialect = "distac", frozen_zeros = 5000 },
    { keep = 1e-9, dialect = "authors" }, { keep = 1e-9, dialect = "mergekit" },
    { keep = { 0.2, 0.5, 0.2 } }, { keep = { 0.2, 0.5, 0.9 }, dialect = "authors", combine = "sum",
        weights = 0.5 },
    { keep = { 0.5, 0, 1 }, dialect = "distac", weights = { 1, 2, 3 } },
    { keep = { 0.5, 0.7, 0.2 }, dialect = "mergekit", weights = { 1, -0.5, 2 } },
    { keep = 0.7, weights = { 0.5, 2, 1 }, elect = "count", combine = "max" } }
for _, dialect in ipairs { "paper", "authors", "mergekit", "distac" } do
    for _, elect in ipairs { "sum", "count" } do
        for _, combine in ipairs { "mean", "sum", "max" } do
            table.insert(facts.ties.cases, { keep = 0.37, dialect = dialect, elect = elect, combine = combine })
        end
    end
end

-- The methods that need nothing but weights.
function facts.methods()
    local list = {}
    for _, method in ipairs(require("distac").merge.methods()) do
        list[#list + 1] = not method.data and method or nil
    end
    return list
end

function facts.of(name)
    return facts[name] or {}
end

-- Parameters of a plain use.
function facts.given(name)
    local copy = {}
    for key, v in pairs(facts.of(name).given or {}) do
        copy[key] = v
    end
    return copy
end

-- As many of these as the method takes.
function facts.some(name, list)
    local some = {}
    for i = 1, facts.of(name).models or #list do
        some[i] = list[i]
    end
    return some
end

-- Task vectors of one tensor "w" each, of the rows given.
function facts.vectors(...)
    local distac, list = require "distac", {}
    for i, rows in ipairs { ... } do
        list[i] = distac.taskvector(distac.checkpoint { w = distac.tensor(rows) })
    end
    return list
end

-- The worked example of three models, each 2 x 3.
facts.F3 = facts.vectors({ { 1, 2, -3 }, { 0.5, -0.1, 4 } }, { { -2, 1, -1.5 }, { 0.3, 0.2, -5 } },
    { { 0.1, -4, 2 }, { -0.6, 0, 1 } })

return facts
