-- distac.merging: one merge of a run: the direction, lambda by validation, test accuracy (read once), the file.

local json = require "distac.json"
local search = require "distac.search"
local settings = require "distac.settings"

local merging = {}

local function engine() return require "distac" end

-- The checkpoint where models are computed, if it has room there, else as it is.
local function there(ck)
    local device = engine().context_info().device
    if device == "cpu" then return ck, true end
    local moved, result = pcall(ck.to, ck, device)
    if moved then return result, true end
    if type(result) == "table" and result.code == "ENOMEM" then return ck, false end
    error(result, 0)
end

-- The base, on the device once it fits there; merges are computed where it and the task vectors lie.
local function base_of(run)
    run.merge_base = run.merge_base or there(run.suite:base())
    return run.merge_base
end

-- The task vectors of a set of models, scaled where the set says so; made once per set. On the device all or none.
local function task_vectors(run, set)
    if not set.taus then
        local fits, all = true, {}
        for i, task in ipairs(run.tasks) do
            local model = set.models[task]
            local tau = model.checkpoint() - run.suite:base()
            all[i] = set.scaled and model.kappa ~= 1 and model.kappa * tau or tau
            if fits then all[i], fits = there(all[i]) end
        end
        if not fits then
            for i, tau in ipairs(all) do all[i] = tau:to "cpu" end
        end
        set.taus = all
    end
    return set.taus
end

local function seed_of(values, method)
    return require("distac.training").seed(values.seed, "merge", method.name)
end

local function describe(run, values, set, method, points)
    local models, data = json.array {}, json.array {}
    for i, task in ipairs(run.tasks) do
        models[i] = set.models[task].key .. (set.scaled and "*" .. json.number(set.models[task].kappa) or "")
        data[i] = { head = run.suite:head_hash(task), test = run.suite:dataset_hash(task, "test"),
                    validation = #points > 1 and run.suite:dataset_hash(task, "validation") or nil,
                    reference = #points > 1 and run.individual_validation[task].correct or nil,
                    images = method.images and run.suite:dataset_hash(task, method.images) or nil }
    end
    return { stage = "merge", method = method.name, params = method.params, text = method.text, models = models,
             data = data, base = run.suite:base_hash(), points = json.array(points),
             seed = method.images and seed_of(values, method) or nil }
end

-- What a method that looks at images is given; it goes on from where an interrupted run had saved it.
local function input_of(run, values, method, key, what)
    if not method.images then return nil end
    local data = {}
    for i, task in ipairs(run.tasks) do
        local ds = run.suite:dataset(task, method.images)
        if not ds then
            error(method.label .. ": task '" .. task .. "' has no " .. method.images .. " images", 0)
        end
        data[i] = { dataset = ds, head = run.suite:head(task) }
    end
    local begun
    return {
        data = data, model = run.suite:model(), seed = seed_of(values, method),
        progress = function(done, total)
            if not begun then run.progress:start(what, total, done - 1) end
            begun = true
            run.progress:update(done)
        end,
        saved = {
            load = function() return run.store:partial(key) end,
            save = function(tensors, info) run.store:save_partial(key, tensors, info) end,
        },
    }
end

local function choose(run, points, load, what)
    if #points == 1 then return { best = 1, scores = {} } end
    local tasks = {}
    for i, task in ipairs(run.tasks) do
        local own = run.individual_validation[task]
        if not own or not own.accuracy then
            error("lambda: task '" .. task .. "' has no labelled validation images to search on; give one number",
                0)
        end
        tasks[i] = { name = task, count = own.count, reference = own.accuracy }
    end
    run.progress:start(what, #points)
    return search.run {
        points = points, tasks = tasks, load = load,
        correct = function(task, samples, size)
            if engine().cancelled() then error(require("distac.training").canceled, 0) end
            return run.evaluator:correct(run.evaluator.vit, task.name, "validation", samples, size)
        end,
        progress = function(done) run.progress:update(done) end,
    }
end

local function curve_of(points, found)
    local curve = json.array {}
    for i, point in ipairs(points) do
        local s = found.scores[i]
        curve[i] = { lambda = point, score = s and s or json.null }
    end
    return curve
end

-- load(lambda): base + lambda*delta into the model, formed where it computes: base and delta lie there while
-- lambda is searched. The weights are those of add_scaled. release(): gives their memory back.
local function former(vit, base, delta)
    local raw, distac = require "distac.raw", engine()
    local function flat(checkpoint)
        raw.vit_load(vit, checkpoint)
        local params = raw.vit_params(vit)
        return raw.tensor_cast(params, raw.tensor_dtype(params)) -- a copy
    end
    local tau, from = flat(delta), flat(base)
    local factor = distac.zeros({ 1, 1 }, { dtype = "f64" })
    return function(lambda)
        raw.tensor_fill(factor, lambda)
        raw.vit_combine(vit, from, { tau }, factor)
    end, function()
        for _, object in ipairs { tau, from, factor } do distac.release(object) end
    end
end

local function merged_of(base, lambda, delta)
    return require("distac.checkpoint").add_scaled(base, lambda, delta)
end

local function compute(run, values, set, method, points, key, what)
    local distac = engine()
    local begun = distac.clock()
    local base = base_of(run)
    collectgarbage() -- the last merge's direction and models: a collector does not know how large they are
    collectgarbage()
    local delta, notes = method.delta(base, task_vectors(run, set), input_of(run, values, method, key, what))
    run.evaluator.loaded = nil
    run.evaluator.vit = run.evaluator.vit or run.suite:model():clone()
    local load, release = nil, function() end
    if #points > 1 then load, release = former(run.evaluator.vit, base, delta) end
    local found = choose(run, points, load, what)
    release()
    local lambda = points[found.best]
    local merged = merged_of(base, lambda, delta)
    local result = { lambda = lambda, accuracy = {}, entropy = {}, ece = {}, curve = curve_of(points, found),
                     images = found.images,
                     coefficients = notes and notes.means and json.array(notes.means) or nil }
    run.evaluator.vit:load(merged)
    for _, task in ipairs(run.tasks) do
        local ds = run.suite:dataset(task, "test")
        if ds then
            local logits = ds:logits(run.evaluator.vit, run.suite:head(task), { batch = run.evaluator.batch })
            local m = distac.metrics(logits, ds:labelled() and ds:labels() or nil)
            result.accuracy[task], result.entropy[task], result.ece[task] = m.accuracy, m.entropy, m.ece
        end
    end
    result.seconds = distac.clock() - begun
    return result, merged
end

local function file_name(set, method, n_sets)
    local tail = ""
    if set.scaled then tail = "-scaled" elseif n_sets > 1 and not set.conditioned then tail = "-unconditioned" end
    return "merged-" .. method.label .. tail .. ".safetensors"
end

-- Writes the merged model unless it is not new and the file of this stage is there.
local function write_model(run, values, key, result, path, models, fresh, make)
    local distac = engine()
    if not fresh and distac.fs.kind(path) then
        local ok, ck = pcall(distac.load, path)
        if ok and ck:metadata()["distac.stage"] == key then return end
    end
    distac.fs.make(path:match("^(.*)/[^/]*$"))
    distac.save(path, make(), { metadata = {
        ["distac.stage"] = key, ["distac.recipe"] = json.encode(settings.plain(values)),
        ["distac.engine"] = distac.version, ["distac.seed"] = json.number(values.seed),
        ["distac.base"] = run.suite:base_hash(), ["distac.models"] = json.encode(models),
        ["distac.lambda"] = json.number(result.lambda),
        ["distac.accuracy"] = json.encode(result.accuracy, { nonfinite = "null" }),
    } })
end

-- One entry of results.json's merges.
function merging.one(run, values, set, method, folder, n_sets)
    local points = settings.lambda(values, method.fixed)
    local desc = describe(run, values, set, method, points)
    local key = run.store:key(desc)
    local result = method.text and run.store:get(key)
    local merged
    local label = method.label .. (set.conditioned and " + DisTaC" or set.scaled and " scaled" or "")
    if not result then
        result, merged = compute(run, values, set, method, points, key, "merging " .. label)
        run.store:put(key, desc, result)
        run.progress:finish(string.format("lambda %s", json.number(result.lambda)))
    end
    run.timing.merge = run.timing.merge + (result.seconds or 0)
    local path = folder .. "/" .. file_name(set, method, n_sets)
    write_model(run, values, key, result, path, desc.models, merged ~= nil, function()
        if merged then return merged end
        local base = base_of(run)
        local delta = method.delta(base, task_vectors(run, set),
            input_of(run, values, method, key, "merging " .. label))
        run.store:drop_partial(key)
        return merged_of(base, result.lambda, delta)
    end)
    local sum, normal, own, n_own, complete = 0, 0, 0, 0, true
    for _, task in ipairs(run.tasks) do
        local accuracy, reference = result.accuracy[task], run.individual_test[task]
        if accuracy == nil or reference == nil then
            complete = false
        else
            sum = sum + accuracy
            normal = normal + (reference > 0 and accuracy / reference or 0)
            if run.distilled and run.distilled[task].distilled then own, n_own = own + accuracy, n_own + 1 end
        end
    end
    return {
        method = method.label, params = next(method.params) and method.params or nil,
        conditioned = set.conditioned, scaled = set.scaled, lambda = result.lambda, accuracy = result.accuracy,
        coefficients = result.coefficients, entropy = result.entropy, ece = result.ece,
        curve = #points > 1 and result.curve or nil,
        mean_accuracy = complete and sum / #run.tasks or nil,
        mean_normalized_accuracy = complete and normal / #run.tasks or nil,
        distilled_accuracy = n_own > 0 and own / n_own or nil,
    }
end

return merging
