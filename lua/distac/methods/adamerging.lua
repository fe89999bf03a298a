-- adamerging: the coefficients of the task vectors, one for each task or for each task and tensor, are learned:
-- they make the merged model's predictions on unlabelled images certain (least entropy).
--
-- Cost of an iteration: a training step of batch*batches images for each task, two passes over all task vectors.
-- Memory: all task vectors as vectors, model, base and gradient, and the workspace of that training step; all of it on the
-- device where the model is there.
local raw = require "distac.raw"
local check = require "distac.check"
local context = require "distac.context"
local models = require "distac.model"

local SAVE_EVERY = 10 -- seconds

local function matrix(rows, columns)
    return raw.tensor_create(context.get(), raw.F64, { rows, columns })
end

local function clamped(v, lambdas)
    return v.clamp == "yes" and lambdas:maximum(0):minimum(1) or lambdas
end

-- Adds the gradient of the summed mean entropies for the weights; returns the sum.
local function entropy(job, loaders, k, grads)
    local v, vit, sum = job.values, job.vit, 0
    for i, loader in ipairs(loaders) do
        local images = models.images_for(vit, job.fname, raw.loader_images(loader, k))
        local head = job.data[i].head
        local features = raw.vit_forward(vit, images)
        local logits = raw.head_logits(head, features)
        local dlogits = raw.tensor_cast(logits, job.code)
        sum = sum + v.batches * raw.loss_entropy(logits, dlogits)
        local scaled = v.batches ~= 1 and v.batches * dlogits or dlogits
        raw.vit_backward(vit, raw.head_backward(head, features, scaled, nil), grads)
        raw.release(images)
    end
    return sum
end

local function names_of(lambdas)
    local means, count = {}, raw.tensor_size(lambdas, 1)
    for i = 1, raw.tensor_size(lambdas, 0) do
        means[i] = raw.tensor_item(raw.tensor_reduce(raw.SUM, raw.tensor_select(lambdas, 0, i - 1), -1, 0)) / count
    end
    return means
end

local function direction(job)
    local v, count = job.values, #job.taus
    local taus, loaders, rest = {}, {}, job:each "init"
    for i = 1, count do
        taus[i] = job:flat(i, job.factor, true)
        loaders[i] = require("distac.loader").loader(job.data[i].dataset,
            { batch = v.batch * v.batches, seed = job:task_seed(i) })
    end
    job.factored = true
    if v.vectors == "ties" then
        raw.ties_vectors(taus, v.keep)
    end
    local columns = v.coefficients == "layer" and #job.names or 1
    local lambdas = matrix(count, columns)
    for i = 1, count do
        raw.tensor_fill(raw.tensor_select(lambdas, 0, i - 1), rest[i])
    end
    local flat = raw.tensor_reshape(lambdas, { count * columns })
    local adam = require("distac.optimizer").adamw { lr = v.lr, clip = 0 }
    adam:bind(job.fname, job, count * columns, raw.F64)
    local first, losses, saved = 0, {}, raw.clock()
    if job.saved then
        local state, info = job.saved.load()
        if state then
            raw.tensor_copy(flat, check.tensor(job.fname, "saved lambdas", state.lambdas))
            adam:restore({ m = state.m, v = state.v }, info.step)
            first, losses = info.step, info.losses
        end
    end
    local function save(done)
        if not job.saved then return end
        local cancelled = context.cancelled() -- files cannot be written while a cancel stands
        if cancelled then context.cancel_clear() end
        local state = adam:state()
        state.lambdas = flat
        job.saved.save(state, { step = done, losses = losses })
        if cancelled then context.cancel() end
        saved = raw.clock()
    end
    local grads = raw.tensor_create_beside(raw.vit_params(job.vit), job.code, { job.size })
    local dlambdas = matrix(count, columns)
    for k = first, v.iterations - 1 do
        local ok, err = pcall(function()
            job:poll()
            raw.vit_combine(job.vit, job.base_flat, taus, clamped(v, lambdas))
            raw.tensor_fill(grads, 0)
            raw.tensor_fill(dlambdas, 0)
            local loss = entropy(job, loaders, k, grads)
            raw.vit_combine_gradient(job.vit, grads, taus, dlambdas)
            if v.clamp == "yes" then -- beyond the ends nothing moves
                raw.tensor_copy(dlambdas, dlambdas * lambdas:ge(0) * lambdas:le(1))
            end
            adam:step(flat, raw.tensor_reshape(dlambdas, { count * columns }))
            losses[#losses + 1] = loss
        end)
        if not ok then
            -- A cancelled step has changed nothing.
            if type(err) == "table" and err.code == "ECANCELED" then save(k) end
            error(err, 0)
        end
        job:tell(k + 1, v.iterations)
        if k + 1 < v.iterations and raw.clock() - saved >= SAVE_EVERY then save(k + 1) end
    end
    -- D = sum of lambda tau, as the model that is base 0 and has these task vectors.
    raw.tensor_fill(grads, 0)
    local final = clamped(v, lambdas)
    raw.vit_combine(job.vit, grads, taus, final)
    return raw.vit_params(job.vit), rest,
        { coefficients = final, means = names_of(final), losses = losses }
end

return {
    name = "adamerging",
    text = "coefficients that make predictions on unlabelled images certain (Yang et al. 2024, AdaMerging)",
    params = {
        { name = "coefficients", text = "layer: for each task and tensor; task: for each task",
            default = "layer", choices = { "layer", "task" } },
        { name = "vectors",
            text = "plain: task vectors as they are; ties: trimmed, without conflicts (AdaMerging++)",
            default = "plain", choices = { "plain", "ties" } },
        { name = "keep", text = "share of the elements that vectors = ties keeps", default = 0.2, min = 0,
            max = 1 },
        { name = "iterations", text = "steps of Adam", default = 500, min = 0, max = 1e7, whole = true },
        { name = "lr", text = "rate of Adam", default = 1e-3, min = 0, max = 10 },
        { name = "init", text = "where the coefficients start", default = 0.3, min = -10, max = 10, list = true },
        { name = "clamp", text = "coefficients count from 0 to 1, and stop moving beyond", default = "yes",
            choices = { "yes", "no" } },
        { name = "batch", text = "images per batch", default = 16, min = 1, max = 1e6, whole = true },
        { name = "batches", text = "of each task per step; their mean entropies are added", default = 2, min = 1,
            max = 1e4, whole = true },
        require("distac.driven_params").images,
    },
    direction = direction,
    memory = function(values, model, tasks)
        return 4 * (tasks + 3) * model:numel() + model:workspace(values.batch * values.batches, true)
    end,
}
