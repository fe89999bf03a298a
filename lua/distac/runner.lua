-- distac.runner: runs a checked recipe: sources, zero-shot and single-task accuracies, conditioning, merging,
-- results. Every part is a stage of the cache, so running again continues or does nothing.

local json = require "distac.json"
local settings = require "distac.settings"
local training = require "distac.training"

local runner = {}

local function engine() return require "distac" end

-- What the parts of one run share.
local function open_run(recipe, options)
    local distac = engine()
    if recipe.values.products then distac.configure { products = recipe.values.products } end
    local out = options.out or ("runs/" .. recipe.values.name)
    local shared = options.out and (options.out .. "/stages") or "runs/stages"
    local run = {
        recipe = recipe, suite = recipe.suite, tasks = recipe.suite.tasks, out = out,
        store = require("distac.stages").open(options.stages or shared),
        progress = require("distac.progress").new { quiet = options.quiet },
        device = distac.context_info().device,
    }
    if run.suite.use then run.suite:use(run) end
    return run
end
runner.open = open_run

-- Mistakes that only files can show (missing data, classes that do not fit, sources of another model): all told
-- at once, before any work.
function runner.check(run, with_sources)
    local recipe, messages = run.recipe, {}
    local function report(path, what)
        messages[#messages + 1] = recipe:place(path) .. ": " .. path .. ": " .. what
    end
    if run.suite.check then run.suite:check(report) end
    if #messages == 0 and with_sources then with_sources(run, report) end
    if #messages > 0 then error(require("distac.recipe").mistakes(messages), 0) end
end

-- A model of the run's architecture that is asked for sizes only.
function runner.shape(run)
    run.shape = run.shape or (run.suite.vit and run.suite:vit() or run.suite:model())
    return run.shape
end

-- How steps go through their batches.
local function fit_of(run)
    if not run.fit then
        local choose, seen = require("distac.fit").new(runner.shape(run)), {}
        run.fit = function(kind, s)
            local key = table.concat({ kind, s.batch, tostring(s.micro), tostring(s.recompute) }, "/")
            seen[key] = seen[key] or choose(kind, s)
            return seen[key]
        end
    end
    return run.fit
end
runner.fit_of = fit_of

local function base_of(run)
    run.base = run.base or run.suite:base()
    return run.base
end

-- The stages of a run: what their results depend on (desc), and what is needed to make them.

-- Fine-tuning of one task; of all together where task is nil.
function runner.finetune_stage(run, values, task)
    local s, make_loss, plain, recompute = settings.finetune(values, task, fit_of(run))
    local desc = { stage = task and "finetune" or "mtl", base = run.suite:base_hash(), settings = plain,
                   seed = training.seed(values.seed, task and "finetune" or "mtl", task or "all") }
    if task then
        desc.data, desc.head = run.suite:dataset_hash(task, "train"), run.suite:head_hash(task)
    else
        desc.data, desc.head = json.array {}, json.array {}
        for i, name in ipairs(run.tasks) do
            desc.data[i], desc.head[i] = run.suite:dataset_hash(name, "train"), run.suite:head_hash(name)
        end
    end
    return { desc = desc, key = run.store:key(desc), settings = s, make_loss = make_loss, loss = plain.loss,
             recompute = recompute }
end

-- A rule of the user's that failed, where it stands: a mistake of the recipe if nothing has been done yet.
local function rule_failed(run, err)
    if type(err) ~= "table" or err.code ~= "ERULE" then error(err, 0) end
    local line, what = tostring(err.message):match("^recipe:(%d+): (.*)$")
    local place = line and run.recipe.file .. ":" .. line or run.recipe:place(err.path)
    local text = place .. ": " .. err.path .. ": " .. (what or err.message)
    error(run.planning and require("distac.recipe").mistakes { text } or text, 0)
end

-- Conditioning of one task, or nil and its settings where nothing is distilled.
function runner.condition_stage(run, values, task, source_key, norms)
    local good, s, recompute = pcall(settings.condition, values, task, norms, run.tasks, fit_of(run))
    if not good then rule_failed(run, s) end
    if not s then return nil, recompute end
    local desc = { stage = "condition", source = source_key, base = run.suite:base_hash(), settings = s,
                   data = run.suite:dataset_hash(task, "train"), head = run.suite:head_hash(task),
                   curves = values.curves, seed = training.seed(values.seed, "condition", task),
                   validation = values.curves > 0 and run.suite:dataset_hash(task, "validation") or nil }
    return { desc = desc, key = run.store:key(desc), settings = s, recompute = recompute }
end

local function norm_of(run, key, checkpoint)
    local desc = { stage = "norm", model = key, base = run.suite:base_hash() }
    local stage = run.store:key(desc)
    local found = run.store:get(stage)
    if found then return found.norm end
    return run.store:put(stage, desc, { norm = (checkpoint() - base_of(run)):norm() }).norm
end

local function model_of(path)
    local ck
    return function()
        ck = ck or engine().load(path)
        return ck
    end
end

-- A fine-tuned model from a file, with the base's tensors: (checkpoint, notes for people).
function runner.open_source(run, path)
    local ck = engine().load(path)
    if run.suite.source then return run.suite:source(ck) end
    return ck, {}
end

local function source_file(run, path)
    local ck
    return function()
        ck = ck or runner.open_source(run, path)
        return ck
    end
end

-- Training holds several copies of the model: those of the last stage, and the one that evaluates, go before the
-- next makes its own.
local function tidy(run)
    run.evaluator:dispose()
    collectgarbage()
    collectgarbage()
end

local function keep(run, stage, model, result)
    tidy(run) -- gradients and moments of the training that has ended
    local tau = model - base_of(run)
    result.norm = tau:norm()
    engine().release(tau) -- as large as the model
    result = run.store:put(stage.key, stage.desc, result, model,
        { distac = json.encode(stage.desc), engine = engine().version })
    return result
end

-- Sources: fine-tuned here or files. Each has key (what it is), checkpoint() and norm.
local function make_source(run, values, task, position)
    if values.sources then
        local path = values.sources[task]
        local key, checkpoint = require("distac.suites").file_hash(path), source_file(run, path)
        return { key = key, path = path, checkpoint = checkpoint, norm = norm_of(run, key, checkpoint) }
    end
    local stage = runner.finetune_stage(run, values, task)
    local result = run.store:finished(stage.key)
    if not result then
        tidy(run)
        local model, loss, seconds = training.finetune {
            suite = run.suite, task = task, settings = stage.settings, loss = stage.make_loss(),
            seed = stage.desc.seed, recompute = stage.recompute, store = run.store, key = stage.key,
            progress = run.progress, what = "fine-tuning " .. task .. position,
        }
        result = keep(run, stage, model, { loss = loss, seconds = seconds })
        run.progress:finish(string.format("loss %.4f  norm %.3f", loss or 0, result.norm))
    end
    run.timing.finetune = run.timing.finetune + (result.seconds or 0)
    local path = run.store:model_path(stage.key)
    return { key = stage.key, path = path, checkpoint = model_of(path), norm = result.norm }
end

-- The model trained on all tasks at once.
local function make_joint(run, values)
    local stage = runner.finetune_stage(run, values, nil)
    local result = run.store:finished(stage.key)
    if not result then
        tidy(run)
        local model, seconds = training.joint {
            suite = run.suite, tasks = run.tasks, settings = stage.settings, loss = stage.make_loss(),
            seed = stage.desc.seed, recompute = stage.recompute, store = run.store, key = stage.key,
            progress = run.progress, what = "training on all tasks",
        }
        result = keep(run, stage, model, { seconds = seconds })
        run.progress:finish(string.format("norm %.3f", result.norm))
    end
    run.timing.finetune = run.timing.finetune + (result.seconds or 0)
    local path = run.store:model_path(stage.key)
    return { key = stage.key, path = path, checkpoint = model_of(path), norm = result.norm,
             steps = stage.settings.steps }
end

-- The norm of a model's task vector, tensor by tensor: beside a training there is no room for the whole of it.
local function distance(model, base)
    local raw, distac = require "distac.raw", engine()
    local weights, sum = raw.vit_checkpoint(model, 0), 0
    for i = 1, raw.checkpoint_count(weights) do
        local name = raw.checkpoint_name(weights, i - 1)
        local tau = weights[name] - base[name]
        local norm = tau:norm()
        sum = sum + norm:item() ^ 2
        distac.release(norm)
        distac.release(tau)
    end
    distac.release(weights)
    return math.sqrt(sum)
end

-- A point of the distillation curves: what the student does on validation data.
local function recorder(run, task, source_norm, teacher_accuracy, start_norm)
    return function(step, loss, student)
        local distac, ds = engine(), run.suite:dataset(task, "validation")
        local norm = distance(student, base_of(run))
        local point = { step = step, loss = loss or json.null,
                        norm_ratio = start_norm > 0 and norm / start_norm or 0,
                        source_norm_ratio = source_norm > 0 and norm / source_norm or 0 }
        if ds then
            local logits = ds:logits(student, run.suite:head(task), { batch = run.evaluator.batch })
            local m = distac.metrics(logits, ds:labelled() and ds:labels() or nil)
            point.entropy, point.accuracy = m.entropy, m.accuracy
            if m.accuracy and teacher_accuracy and teacher_accuracy > 0 then
                point.accuracy_ratio = m.accuracy / teacher_accuracy
            end
        end
        return point
    end
end

local function make_conditioned(run, values, task, source, position)
    local stage, idle = runner.condition_stage(run, values, task, source.key, run.norms)
    if not stage then
        return { key = source.key, path = source.path, checkpoint = source.checkpoint, norm = source.norm,
                 kappa = 1, temperature = idle and idle.temperature or json.null, distilled = false }
    end
    local s, result = stage.settings, run.store:finished(stage.key)
    if not result then
        local teacher = run.individual_validation[task]
        tidy(run)
        local model, loss, seconds, curve = training.condition {
            suite = run.suite, task = task, settings = s, source = source.checkpoint(), seed = stage.desc.seed,
            recompute = stage.recompute, store = run.store, key = stage.key, progress = run.progress,
            what = "conditioning " .. task .. position, curves = values.curves,
            record = recorder(run, task, source.norm, teacher and teacher.accuracy, s.kappa * source.norm),
        }
        result = keep(run, stage, model, { loss = loss, seconds = seconds, curve = curve })
        run.progress:finish(string.format("loss %.4f  norm %.3f (kappa %.3g)", loss or 0, result.norm, s.kappa))
    end
    run.timing.condition = run.timing.condition + (result.seconds or 0)
    local path = run.store:model_path(stage.key)
    return { key = stage.key, path = path, checkpoint = model_of(path), norm = result.norm, kappa = s.kappa,
             temperature = s.temperature, distilled = true, curve = result.curve }
end

local function each(tasks, pick)
    local out = {}
    for _, task in ipairs(tasks) do out[task] = pick(task) end
    return out
end

local function mean(tasks, values)
    local sum = 0
    for _, task in ipairs(tasks) do
        if values[task] == nil then return nil end
        sum = sum + values[task]
    end
    return sum / #tasks
end

-- The part of results.json about one set of models.
local function summary(run, measured)
    local function field(name)
        return each(run.tasks, function(task) return measured[task] and measured[task][name] end)
    end
    local accuracy = field "accuracy"
    return { accuracy = accuracy, mean = mean(run.tasks, accuracy), entropy = field "entropy", ece = field "ece",
             confidence = field "confidence", reliability = field "reliability" }
end

local function measure(run, models, split, what)
    return run.evaluator:measure_all(function(task) return models[task].key end,
        function(task) return models[task].checkpoint() end, run.tasks, split, what)
end

local function scaling_curve(run, values, sources)
    if not values.scaling then return nil end
    local points = settings.lambda({ lambda = values.scaling })
    local out = json.array {}
    for i, kappa in ipairs(points) do
        local models = each(run.tasks, function(task)
            return { key = sources[task].key .. "*" .. json.number(kappa), checkpoint = function()
                local base = base_of(run)
                return base + kappa * (sources[task].checkpoint() - base)
            end }
        end)
        local what = string.format("kappa %g (%d of %d)", kappa, i, #points)
        local s = summary(run, measure(run, models, "test", what))
        out[i] = { kappa = kappa, accuracy = s.accuracy, mean = s.mean }
    end
    return out
end

-- One pass over the recipe with these values: the body of results.json.
function runner.once(run, values, folder)
    run.timing = { finetune = 0, condition = 0, merge = 0, evaluate = 0 }
    run.evaluator = require("distac.evaluate").new { suite = run.suite, store = run.store, progress = run.progress,
                                                     timing = run.timing }
    local result = { seed = values.seed }
    local base_key = run.suite:base_hash()
    local base_models = each(run.tasks, function()
        return { key = base_key, checkpoint = function() return base_of(run) end }
    end)
    local zero_shot = summary(run, measure(run, base_models, "test", "zero-shot accuracy"))
    result.zero_shot = { accuracy = zero_shot.accuracy, mean = zero_shot.mean }

    local sources = {}
    for i, task in ipairs(run.tasks) do
        sources[task] = make_source(run, values, task, string.format(" (%d of %d)", i, #run.tasks))
    end
    run.norms = each(run.tasks, function(task) return sources[task].norm end)
    result.individual = summary(run, measure(run, sources, "test", "single-task accuracy"))
    result.individual.norm = run.norms
    run.individual_test = result.individual.accuracy
    run.individual_validation = measure(run, sources, "validation", "single-task accuracy (validation)")
    result.scaling = scaling_curve(run, values, sources)
    if values.mtl then
        local joint = make_joint(run, values)
        local part = summary(run, measure(run, each(run.tasks, function() return joint end), "test",
            "accuracy of the joint model"))
        local normal = each(run.tasks, function(task)
            local own, reference = part.accuracy[task], run.individual_test[task]
            return own and reference and (reference > 0 and own / reference or 0) or nil
        end)
        result.mtl = { accuracy = part.accuracy, mean = part.mean, entropy = part.entropy, norm = joint.norm,
                       mean_normalized_accuracy = mean(run.tasks, normal), steps = joint.steps,
                       model = joint.path }
    end

    local sets = { { conditioned = false, models = sources } }
    if values.condition then
        local conditioned = {}
        for i, task in ipairs(run.tasks) do
            conditioned[task] = make_conditioned(run, values, task, sources[task],
                string.format(" (%d of %d)", i, #run.tasks))
        end
        local part = summary(run, measure(run, conditioned, "test", "conditioned accuracy"))
        for _, name in ipairs { "norm", "kappa", "temperature", "distilled" } do
            part[name] = each(run.tasks, function(task) return conditioned[task][name] end)
        end
        if values.curves > 0 then
            part.curves = each(run.tasks, function(task) return conditioned[task].curve end)
        end
        result.conditioned = part
        if values.condition.also_scaled then
            sets[#sets + 1] = { conditioned = false, scaled = true, models = each(run.tasks, function(task)
                local kappa = conditioned[task].kappa
                return { key = sources[task].key, kappa = kappa, checkpoint = sources[task].checkpoint }
            end) }
        end
        sets[#sets + 1] = { conditioned = true, models = conditioned }
        run.distilled = conditioned
    end
    local merging = require "distac.merging"
    result.merges = json.array {}
    for _, set in ipairs(sets) do
        for _, method in ipairs(settings.merges(values, run.recipe)) do
            table.insert(result.merges, merging.one(run, values, set, method, folder, #sets))
        end
        set.taus = nil -- the next set has as many of its own
    end
    result.timing = run.timing
    result.models = each(run.tasks, function(task)
        return { source = sources[task].path, conditioned = run.distilled and run.distilled[task].path or nil }
    end)
    run.distilled = nil
    return result
end

-- Sources that do not fit the base.
local function check_sources(run, report)
    local seen = {}
    for _, variant in ipairs(run.recipe.variants or { { values = run.recipe.values } }) do
        for _, task in ipairs(variant.values.sources and run.tasks or {}) do
            local path = variant.values.sources[task]
            if not seen[task .. path] then
                seen[task .. path] = true
                local model = runner.open_source(run, path)
                local _, wrong = require("distac.plan").compare(base_of(run), model)
                for _, what in ipairs(wrong) do report("sources." .. task, path .. ": " .. what) end
            end
        end
    end
end

-- Runs a recipe. options: out (folder), quiet. Returns the results table (what results.json holds).
function runner.run(recipe, options)
    local run = open_run(recipe, options or {})
    local report = require "distac.report"
    local results
    runner.check(run, check_sources)
    if recipe.variants then
        local parts = {}
        for i, variant in ipairs(recipe.variants) do
            run.progress:note(string.format("variant %s (%d of %d)", variant.name, i, #recipe.variants))
            parts[i] = runner.once(run, variant.values, run.out .. "/" .. variant.name)
            parts[i].name = variant.name
        end
        results = require("distac.variants").mean(run.tasks, parts)
    else
        results = runner.once(run, recipe.values, run.out)
    end
    results.recipe, results.suite, results.tasks = recipe.values.name, run.suite.name, json.array(run.tasks)
    results.seed, results.device, results.engine = recipe.values.seed, run.device, engine().version
    report.write(run, results)
    return results, run
end

return runner
