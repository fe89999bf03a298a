-- fisher: every model's parameters weighted with the diagonal of its Fisher matrix on images of its own task:
-- theta = sum c F theta / sum c F.
--
-- Cost: classes - 1 backward passes and one forward pass of one image, for each of the samples of each task.
-- The dialect mergelm (Yu et al. 2024, MergeLM; FusionBench) takes one backward pass per batch, but its square of
-- a sum over images and classes is no Fisher matrix.
-- Memory: a diagonal and two sums in double, and model, base, one task vector and a gradient in the model's type.
local raw = require "distac.raw"
local context = require "distac.context"

local function zeros(n) return raw.tensor_create(context.get(), raw.F64, { n }) end

local function direction(job)
    local v, size = job.values, job.size
    local coefficients = job:each "weights"
    local over, under, fisher = zeros(size), zeros(size), zeros(size)
    local notes, total = { passes = {}, norm = {} }, 0
    for i = 1, #job.taus do
        total = total + math.min(v.samples, raw.dataset_size(job.data[i].dataset))
    end
    local done = 0
    for i = 1, #job.taus do
        local tau = job:flat(i)
        local vit, passes = job:source(tau), 0
        raw.tensor_fill(fisher, 0)
        local mergelm = v.dialect == "mergelm"
        local batches, count = job:sample(i, v.samples, mergelm and v.batch or 8)
        for images in batches do
            passes = passes + raw.fisher(vit, job.data[i].head, images, mergelm and 0 or v.share, fisher)
            done = done + raw.tensor_size(images, 0)
            raw.release(images)
            job:tell(done, total)
        end
        local norm = fisher:norm():item() / count
        local c = coefficients[i] / (v.normalize == "norm" and norm + v.floor or 1)
        raw.fisher_add(fisher, 1 / count, v.floor, c, tau, over, under)
        raw.release(tau)
        notes.passes[i], notes.norm[i] = passes, norm
    end
    raw.release(fisher)
    local out = raw.tensor_cast(over / under, job.code)
    raw.release(over)
    raw.release(under)
    local rest, sum = {}, 0
    for _, c in ipairs(coefficients) do sum = sum + c end
    for i, c in ipairs(coefficients) do rest[i] = c / sum end
    return out, rest, notes
end

return {
    name = "fisher",
    text = "mean weighted with each model's diagonal Fisher matrix on images of its task (Matena & Raffel 2022)",
    params = {
        { name = "samples", text = "images per task", default = 256, min = 1, max = 1e9, whole = true },
        { name = "share", text = "of the trace of each prediction's Fisher matrix; 1: exact, less: fewer passes",
            default = 1, min = 1e-6, max = 1 },
        { name = "dialect",
            text = "paper: as above; mergelm: one squared gradient per batch, of sum sqrt(p) log p",
            default = "paper", choices = { "paper", "mergelm" } },
        { name = "batch", text = "images per batch of the dialect mergelm, which depends on it", default = 16,
            min = 1,
            max = 1e6, whole = true },
        { name = "floor", text = "added to the diagonals", default = 1e-6, min = 1e-30, max = 1e6 },
        { name = "weights", text = "coefficient of each model", default = 1, min = 1e-12, max = 1e12,
            list = true },
        { name = "normalize", text = "norm: coefficients are divided by the norms of the diagonals",
            default = "none", choices = { "none", "norm" } },
        require("distac.driven_params").images,
    },
    direction = direction,
    memory = function(values, model)
        return 40 * model:numel() + model:workspace(values.dialect == "mergelm" and values.batch or 1, true)
    end,
}
