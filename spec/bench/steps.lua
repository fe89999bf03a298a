-- The time of a forward pass, a fine-tuning step and a distillation step, beside the same work in
-- spec/bench/torch_steps.py. Prints one JSON line.
--   distac spec/bench/steps.lua [THREADS [SIZE [PRODUCTS [PARTS [REPEATS]]]]]
-- SIZE: mini8 (batch 128, the default) or b32 (CLIP's ViT-B/32, batch 32); PRODUCTS: f32 or bf16; PARTS: some of
-- forward,train,kd. With one part alone, rss_mb is its peak of resident memory.
local distac = require "distac"
local size, parts = arg and arg[2] or "mini8", arg and arg[4] or "forward,train,kd"
distac.configure { threads = tonumber(arg and arg[1] or 2), products = arg and arg[3] or "f32" }

local sizes = {
    mini8 = { batch = 128, classes = 26, repeats = 60, image = 28, patch = 7, channels = 1, width = 128,
        layers = 4,
              heads = 4, mlp = 512, dim = 128, activation = "gelu" },
    b32 = { batch = 32, classes = 100, repeats = 5, image = 224, patch = 32, channels = 3, width = 768,
        layers = 12,
            heads = 12, mlp = 3072, dim = 512, activation = "quick_gelu" },
}
local s = assert(sizes[size], "no such size")
local batch, classes, repeats = s.batch, s.classes, tonumber(arg and arg[5] or s.repeats)
local config = { seed = 1 }
for _, key in ipairs { "image", "patch", "channels", "width", "layers", "heads", "mlp", "dim", "activation" } do
    config[key] = s[key]
end
local model = distac.vit(config)
local head = distac.head(distac.randn({ classes, s.dim }, { seed = 3 }) * (30 / math.sqrt(s.dim)))
local images = distac.randn({ batch, s.channels, s.image, s.image }, { seed = 4 })
local list = {}
for i = 1, batch do list[i] = (i * 7) % classes end
local labels = distac.tensor(list, { dtype = "i64" })

local function adamw() return distac.adamw { lr = 1e-5, weight_decay = 0.1, clip = 1 } end
local work = {}
function work.forward()
    return function() head:logits(model:features(images)) end
end
function work.train()
    local step = distac.finetune_step {
        model = model, head = head, loss = distac.loss.cross_entropy { label_smoothing = 0.1 },
            optimizer = adamw(),
    }
    return function() step(images, labels) end
end
function work.kd()
    local teacher = distac.vit(config)
    teacher:init(2)
    local step = distac.kd_step {
        teacher = teacher, student = model, head = head, temperature = { teacher = 1, student = 10 }, beta = 0.5,
        optimizer = adamw(),
    }
    return function() step(images) end
end

local function median_ms(run)
    local warm = distac.clock()
    run()
    while distac.clock() - warm < 0.5 do run() end
    local times = {}
    for k = 1, repeats do
        local start = distac.clock()
        run()
        times[k] = (distac.clock() - start) * 1e3
    end
    table.sort(times)
    return times[math.floor(#times / 2) + 1], times[1]
end

local info = distac.context_info()
local result = { engine = "distac " .. distac.version, threads = info.threads, kernels = info.kernels, size = size,
                 products = info.products }
-- 2 operations a multiply-add; a training step is three forward passes, a distillation step four
local tokens, w = (s.image / s.patch) * (s.image / s.patch) + 1, s.width
local patch = s.patch * s.patch * s.channels
local flop = 2 * batch * ((tokens - 1) * patch * w
    + s.layers * (tokens * (4 * w * w + 2 * w * s.mlp) + 2 * tokens * tokens * w) + w * s.dim)
local passes = { forward = 1, train = 3, kd = 4 }
for part in parts:gmatch "%a+" do
    local median, least = median_ms(work[part]())
    result[part .. "_ms"], result[part .. "_least_ms"] = median, least
    result[part .. "_gflops"] = passes[part] * flop / median / 1e6
    result[part .. "_images_per_s"] = batch / median * 1e3
end
local status = io.open "/proc/self/status"
if status then
    result.rss_mb = math.floor(tonumber(status:read "*a":match "VmHWM:%s*(%d+)") / 1024)
    status:close()
end
print(distac.json.encode(result))
