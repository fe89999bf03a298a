-- The engine's side of losses.py: trains from the weights, images and labels of a file and prints the losses as
-- JSON. distac spec/bench/losses.lua FILE PRODUCTS STEPS BATCH RATE SMOOTHING
local distac = require "distac"
local path, steps, batch, rate = arg[1], tonumber(arg[3]), tonumber(arg[4]), tonumber(arg[5])
distac.configure { products = arg[2] }
local file = distac.load(path)
local model = distac.vit(file, { activation = "quick_gelu" })
local step = distac.finetune_step {
    model = model, head = distac.head(file.head),
    loss = distac.loss.cross_entropy { label_smoothing = tonumber(arg[6]) },
    optimizer = distac.adamw { lr = rate, weight_decay = 0.1, clip = 1 },
}
local images, labels = file.images, file.labels
local batches, losses = #labels:table() / batch, {}
for k = 1, steps do
    local first = (k - 1) % batches * batch
    losses[k] = step(images:narrow(1, first + 1, batch), labels:narrow(1, first + 1, batch))
end
print(distac.json.encode(losses))
