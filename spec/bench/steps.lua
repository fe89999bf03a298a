-- The time of a forward pass, a fine-tuning step and a distillation step of mini8's ViT, batch 128, float32: the
-- same work as spec/bench/torch_steps.py. Prints one JSON line. Usage: distac spec/bench/steps.lua [THREADS]
local distac = require "distac"
distac.configure { threads = tonumber(arg and arg[1] or 2) }

local batch, classes, dim = 128, 26, 128
local config = { image = 28, patch = 7, channels = 1, width = 128, layers = 4, heads = 4, mlp = 512, dim = dim,
                 activation = "gelu", seed = 1 }
local model, teacher = distac.vit(config), distac.vit(config)
teacher:init(2)
local head = distac.head(distac.randn({ classes, dim }, { seed = 3 }) * (30 / math.sqrt(dim)))
local images = distac.randn({ batch, 1, 28, 28 }, { seed = 4 })
local list = {}
for i = 1, batch do list[i] = (i * 7) % classes end
local labels = distac.tensor(list, { dtype = "i64" })

local train = distac.finetune_step {
    model = model, head = head, loss = distac.loss.cross_entropy { label_smoothing = 0.1 },
    optimizer = distac.adamw { lr = 2e-4, weight_decay = 0.1, clip = 1 },
}
local distil = distac.kd_step {
    teacher = teacher, student = model, head = head, temperature = { teacher = 1, student = 10 }, beta = 0.5,
    optimizer = distac.adamw { lr = 2e-4, weight_decay = 0.1, clip = 1 },
}

local function median_ms(work, repeats)
    for _ = 1, 5 do work() end
    local times = {}
    for k = 1, repeats do
        local start = distac.clock()
        work()
        times[k] = (distac.clock() - start) * 1e3
    end
    table.sort(times)
    return times[math.floor(#times / 2) + 1]
end

local info = distac.context_info()
local result = {
    engine = "distac " .. distac.version, threads = info.threads, kernels = info.kernels,
    forward_ms = median_ms(function() head:logits(model:features(images)) end, 60),
    train_ms = median_ms(function() train(images, labels) end, 60),
    kd_ms = median_ms(function() distil(images) end, 60),
}
-- 2 operations a multiply-add; a training step is three forward passes, a distillation step four
local flop = 2 * ((16 * 49 + 17 * 4 * 12 * 128 + 4 * 2 * 17 * 17 + 128) * 128) * batch
result.forward_gflops = flop / result.forward_ms / 1e6
result.train_gflops = 3 * flop / result.train_ms / 1e6
result.kd_gflops = 4 * flop / result.kd_ms / 1e6
result.train_images_per_s = batch / result.train_ms * 1e3
result.kd_images_per_s = batch / result.kd_ms * 1e3
print(distac.json.encode(result))
