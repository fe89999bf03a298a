-- Charts as pictures: what lies on the paper is counted in pixels.
local distac = require "distac"
local helper = require "spec.helper"

-- Dark pixels in the margin right of the plotting area, where the labels of levels stand.
local function ink(levels)
    local plot = distac.plot { title = "levels", width = 400, height = 300 }
    plot:bars { label = "bars", values = { 0.2, 0.9 } }
    plot:category "a"
    plot:category "b"
    plot:range(0, 1)
    for _, y in ipairs(levels) do plot:level("level", y) end
    local path = helper.path "levels.png"
    plot:save(path)
    local image = distac.image.load(path)
    local bytes, width, channels = image:bytes(), image:width(), image:channels()
    local count = 0
    for y = 0, image:height() - 1 do
        for x = width - 36, width - 1 do
            if bytes:byte((y * width + x) * channels + 1) < 160 then count = count + 1 end
        end
    end
    return count
end

describe("charts", function()
    it("keep the labels of close levels apart", function()
        local one = ink { 0.5 }
        assert.is_true(one > 30)
        for _, levels in ipairs { { 0.5, 0.5 }, { 0.5, 0.51 }, { 0.51, 0.5 }, { 0.3, 0.8 } } do
            local two = ink(levels)
            assert.is_true(math.abs(two - 2 * one) <= 0.1 * one, two .. " is not twice " .. one)
        end
    end)
end)
