-- classify.lua: pictures into classes. A command,
--
--   distac examples/classify.lua MODEL HEAD PICTURE...
--
-- and a module for servers: local classify = require("classify")(MODEL, HEAD); local answer = classify(PICTURE).
local distac = require "distac"

local function open(model_path, head_path)
    local model, head = distac.vit(distac.load(model_path)), distac.load_head(head_path)
    local config, names = model:config(), head:class_names()

    -- { class = 0, 1, ..., name = "A" where the head knows it, share = softmax of the class }
    return function(picture_path)
        local picture = distac.image.load(picture_path, { channels = config.channels })
        local pixels = config.channels == 3 and distac.image.clip(picture, config.image)
            or picture:fit(config.image):tensor()
        local batch = pixels:reshape(1, config.channels, config.image, config.image)
        local features = model:features(batch)
        local shares = head:logits(features):softmax()
        local best = shares:argmax():item()
        local answer = { class = best - 1, name = names and names[best], share = shares[{ 1, best }] }
        -- A collector cannot see how large these are, and a server has the next request waiting.
        for _, object in ipairs { picture, pixels, batch, features, shares } do distac.release(object) end
        return answer
    end
end

if (...) == "classify" then return open end

if #arg < 3 then error("usage: distac classify.lua MODEL HEAD PICTURE...", 0) end
local classify = open(arg[1], arg[2])
for i = 3, #arg do
    local answer = classify(arg[i])
    print(string.format("%s: class %d, %.4f", arg[i], answer.class, answer.share))
end
