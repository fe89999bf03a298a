-- regmean: for every linear layer the weight whose outputs are nearest to those of all models on images of their
-- own tasks; everything else is averaged.
--
-- Cost: a forward pass of every image and, for each layer with K inputs, 2 K*K operations per token; then
-- K*K*(K/3 + 2 T N) operations in double. Memory: the layers are taken in groups whose sums fit `memory`, and the
-- images go through the models once for each group; beside it 16 K*K + 16 N*K bytes for the largest layer, and
-- model, base, mean and one task vector in the model's type.
local raw = require "distac.raw"
local context = require "distac.context"

local function zeros(code, ...) return raw.tensor_create(context.get(), code, { ... }) end

local function elements(t) return raw.tensor_numel(t) end

-- The layers that are merged: { linear =, name =, inputs = K, outputs = N, rows =, param =, turned = }.
local function layers_of(job)
    local vit, v, out = job.vit, job.values, {}
    local count = tonumber(raw.vit_linear_count(vit))
    for linear = 0, count - 1 do
        local ends = linear == 0 or linear == count - 1
        if not ends or v.layers == "all" then
            local info = raw.vit_get_linear(vit, linear, v.tokens == "all" and 1 or 0)
            local param = raw.vit_param(vit, info.param)
            out[#out + 1] = { linear = linear, name = job.names[info.param + 1], inputs = info.inputs,
                rows = info.rows, outputs = elements(param) / info.inputs, turned = linear == count - 1 }
        end
    end
    return out
end

-- Consecutive layers whose matrices fit the memory: Gram matrix of one task, sum and product in double.
local function groups_of(layers, memory, width)
    local groups, bytes = {}, 0
    for _, layer in ipairs(layers) do
        local k, n = layer.inputs, layer.outputs
        local need = (width + 8) * k * k + 8 * n * k
        local group = groups[#groups]
        if not group or bytes + need > memory or group[#group].linear + 1 ~= layer.linear then
            group, bytes = {}, 0
            groups[#groups + 1] = group
        end
        group[#group + 1] = layer
        bytes = bytes + need
    end
    return groups
end

-- A layer's part of a flat vector as [N,K], a copy where the model keeps it turned.
local function matrix(views, layer)
    local view = views[layer.name]
    if layer.turned then
        return raw.tensor_cast(raw.tensor_transpose(view, 0, 1), raw.tensor_dtype(view))
    end
    return raw.tensor_reshape(view, { layer.outputs, layer.inputs })
end

local function add_task(job, group, index, steps)
    local v, tau = job.values, job:flat(index)
    local vit, views, grams = job:source(tau), job.vit:named(tau), {}
    for k, layer in ipairs(group) do
        grams[k] = zeros(job.code, layer.inputs, layer.inputs)
    end
    local batches, count = job:sample(index, v.samples, 32)
    for images in batches do
        raw.vit_grams(vit, images, v.tokens == "all" and 1 or 0, group[1].linear, grams)
        steps(raw.tensor_size(images, 0))
        raw.release(images)
    end
    for k, layer in ipairs(group) do
        job:poll()
        raw.regmean_add(grams[k], 1 / (count * layer.rows), v.off_diagonal, matrix(views, layer), layer.sum,
            layer.product)
        raw.release(grams[k])
    end
    raw.release(tau)
end

local function solve(job, layer, mean, notes)
    local total = #job.taus * raw.tensor_cast(matrix(mean, layer), raw.F64)
    local epsilon = raw.regmean_solve(layer.sum, total, #job.taus, layer.product)
    if epsilon > 0 then
        notes.singular[#notes.singular + 1] = layer.name
    end
    local result = layer.turned and raw.tensor_transpose(layer.product, 0, 1) or layer.product
    local into = mean[layer.name]
    raw.tensor_copy(layer.turned and into or raw.tensor_reshape(into, { layer.outputs, layer.inputs }), result)
    raw.release(layer.sum)
    raw.release(layer.product)
    raw.release(total)
end

local function direction(job)
    local v, count = job.values, #job.taus
    local rest, out = {}, zeros(job.code, job.size)
    for i = 1, count do
        local tau = job:flat(i)
        raw.tensor_copy(out, out + tau / count)
        raw.release(tau)
        rest[i] = 1 / count
    end
    local mean, notes = job.vit:named(out), { singular = {} }
    local wanted = {}
    for _, layer in ipairs(layers_of(job)) do
        if job.factor(layer.name) ~= 0 then wanted[#wanted + 1] = layer end
    end
    local groups = groups_of(wanted, v.memory * 2 ^ 30, job.code == raw.F64 and 8 or 4)
    notes.groups = #groups
    local done, total = 0, 0
    for i = 1, count do
        total = total + #groups * math.min(v.samples, raw.dataset_size(job.data[i].dataset))
    end
    for _, group in ipairs(groups) do
        for _, layer in ipairs(group) do
            layer.sum = zeros(raw.F64, layer.inputs, layer.inputs)
            layer.product = zeros(raw.F64, layer.outputs, layer.inputs)
        end
        for i = 1, count do
            add_task(job, group, i, function(n)
                done = done + n
                job:tell(done, total)
            end)
        end
        for _, layer in ipairs(group) do
            job:poll()
            solve(job, layer, mean, notes)
        end
    end
    return out, rest, notes
end

return {
    name = "regmean",
    text = "linear layers by least squares on their inputs, the rest averaged (Jin et al. 2023, RegMean)",
    params = {
        { name = "samples", text = "images per task", default = 256, min = 1, max = 1e9, whole = true },
        { name = "off_diagonal", text = "factor of the off-diagonal elements of the Gram matrices", default = 0.9,
            min = 0, max = 1 },
        { name = "layers", text = "blocks: in_proj, out_proj, c_fc, c_proj; all: conv1 and proj, too",
            default = "blocks", choices = { "blocks", "all" } },
        { name = "tokens", text = "of the last block: those whose results are read, or all, as hooks see them",
            default = "read", choices = { "read", "all" } },
        { name = "memory", text = "GiB for the matrices of layers that are summed up together", default = 2,
            min = 0, max = 1e6 },
        require("distac.driven_params").images,
    },
    direction = direction,
    memory = function(values, model)
        local c = model:config()
        local k, n = math.max(c.width, c.mlp), math.max(3 * c.width, c.mlp)
        local all = c.layers * (12 * (3 * c.width ^ 2 + c.mlp ^ 2) + 8 * (4 * c.width ^ 2 + 2 * c.width * c.mlp))
        local group = math.max(math.min(values.memory * 2 ^ 30, all), 12 * k * k + 8 * n * k)
        return 16 * model:numel() + group + 16 * (k * k + n * k) + model:workspace(32, false)
    end,
}
