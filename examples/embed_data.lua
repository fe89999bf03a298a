-- embed_data.lua: makes what the embedding examples are shown with: two fine-tuned models, their heads, some
-- pictures.
--
--   distac examples/embed_data.lua FOLDER [STEPS]
--
-- The models begin at the embedded benchmark's backbone; one learns Latin letters, the other Hebrew ones. Pictures
-- come from fonts that the training never saw.
local distac = require "distac"

local out, steps = arg[1], tonumber(arg[2] or 60)
if not out or not steps then error("usage: distac embed_data.lua FOLDER [STEPS]", 0) end

local root = distac.paths.mini8
local base, heads = distac.load(root .. "/backbone.safetensors"), distac.load(root .. "/heads.safetensors")

local function images(task, split)
    return distac.dataset.mini8(nil, "", task, split) -- "": where clothes would be, which no task here needs
end

-- A grey image of the numbers 0 to 1 that data sets give.
local function picture(tensor)
    return distac.image.from_tensor((tensor * 255 + 0.5):to "u8")
end

for seed, task in ipairs { "latin", "hebrew" } do
    local train, test = images(task, "train"), images(task, "test")
    local head = distac.head(heads[task], {
        metadata = { ["head.classes"] = distac.json.encode(distac.json.array(train:class_names())) },
    })
    local model = distac.vit(base)
    local tune = distac.finetune_step { model = model, head = head, loss = distac.loss.cross_entropy {},
                                        optimizer = distac.adamw { lr = 4e-4 } }
    local loader = distac.loader(train, { batch = 64, seed = seed })
    for batch in loader:batches(steps) do tune(batch.images, batch.labels) end

    local folder = out .. "/" .. task
    distac.fs.make(folder)
    head:save(out .. "/" .. task .. "-head.safetensors")
    distac.save(out .. "/" .. task .. ".safetensors", model:checkpoint())
    local some, labels = test:images(1, 32), test:labels(1, 32):table()
    for i = 1, 32 do
        picture(some[i][1]):save(string.format("%s/%02d-class%02d.png", folder, i, labels[i]))
    end
end
distac.save(out .. "/base.safetensors", base)
