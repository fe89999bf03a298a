-- A base and N models of a ViT's shape for measuring merges: random weights as training starts with, and task
-- vectors of independent normal numbers (standard deviation 0.001).   distac spec/bench/make_models.lua b32|l14
-- FOLDER [N] Writes FOLDER/base.safetensors and FOLDER/m1.safetensors … mN.safetensors: 9 x 351 MB for b32 and 8,
-- 9 x 1216 MB for l14.
local distac = require "distac"
local SIZES = {
    b32 = { patch = 32, width = 768, layers = 12, heads = 12, mlp = 3072, dim = 512 },
    l14 = { patch = 14, width = 1024, layers = 24, heads = 16, mlp = 4096, dim = 768 },
}
local size, folder, count = SIZES[arg[1]], arg[2], tonumber(arg[3] or 8)
if not size or not folder or not count then error "usage: make_models.lua b32|l14 FOLDER [N]" end
local shape = { image = 224, channels = 3, activation = "quick_gelu", dtype = "f32", seed = 1 }
for key, value in pairs(size) do shape[key] = value end
local base = distac.vit(shape):checkpoint()
distac.save(folder .. "/base.safetensors", base)
for i = 1, count do
    local model = {}
    for k, name in ipairs(base:names()) do
        local b = base[name]
        model[name] = b + distac.tensor.randn(b:shape(), { seed = 1000 * i + k }) * 0.001
    end
    distac.save(("%s/m%d.safetensors"):format(folder, i), model)
end
