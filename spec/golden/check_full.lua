-- check_full.lua CHECKPOINT INPUTS OUT: features, text features and gradients of a CLIP, for check_full.py to
-- compare.
local distac = require "distac"
local from, inputs, out = ...

local ck, all = distac.load(from), distac.load(inputs)
local meta = all:metadata()
local model = distac.vit(ck, { activation = meta["vit.activation"], heads = tonumber(meta["vit.heads"]) })
    :recompute(meta.recompute == "yes")
local head = distac.head(all.head)
local result = {}

local features = model:forward(all.images)
result.features = features
local ce = distac.loss.cross_entropy { label_smoothing = tonumber(meta.label_smoothing) }
local kd = distac.loss.kd { temperature = { teacher = tonumber(meta.t_teacher),
    student = tonumber(meta.t_student) } }
local logits = head:logits(features)
for label, pair in pairs { ce = { ce(logits, all.labels) }, kd = { kd(all.teacher, logits) } } do
    result[label .. ".loss"] = distac.tensor({ pair[1] }, { dtype = "f64" })
    local grads = model:backward(head:backward(features, pair[2]))
    for name, tensor in pairs(model:named(grads)) do
        result[label .. "." .. name] = tensor
    end
end
if distac.text then
    local text = distac.text(ck, { activation = meta["vit.activation"], heads = tonumber(meta["text.heads"]) })
    result.text_features = text:features(all.tokens)
end
distac.save(out, result)
