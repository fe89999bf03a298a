-- Operators on whole matrices: worked numbers, parameters, laws.
local distac = require "distac"

local vectors = require("spec.merge_facts").vectors

local function merged(name, params, taus)
    return distac.merge[name](params):delta(taus):tensor("w"):table()
end

local function near(got, want, tolerance)
    for i = 1, #want do
        for k = 1, #want[i] do
            if not (math.abs(got[i][k] - want[i][k]) <= tolerance) then
                error(("[%d][%d]: got %.9g, wanted %.9g"):format(i, k, got[i][k], want[i][k]), 2)
            end
        end
    end
end

local r = math.sqrt(2)
local PAIR = vectors({ { 3, 0 }, { 0, 1 } }, { { 0, r }, { 0, r } })
local F2 = vectors({ { 2, 1, 0 }, { 0, 1, 1 } }, { { 0, 1, -1 }, { 1, 0, 3 } })
local SPECTRAL = { "tsvm", "iso_c", "iso_cts", "knots", "wudi" }

describe("operators on whole matrices", function()
    it("tsvm, fast and exact", function()
        for _, precision in ipairs { "fast", "exact" } do
            near(merged("tsvm", { precision = precision }, PAIR),
                { { 2.77163860, 0.76536686 }, { -1.14805030, 1.84775907 } }, 1e-6)
            near(merged("tsvm", { precision = precision }, F2),
                { { 1.62850785, 1.45516602, -1.02781683 }, { 1.08008542, -0.18832331, 3.04545104 } }, 1e-6)
        end
    end)

    it("iso_c", function()
        near(merged("iso_c", {}, F2),
            { { 2.41421356, 2.41421356, -1.20710678 }, { 0.85355339, 0.85355339, 3.41421356 } }, 1e-6)
        near(merged("iso_c", {}, PAIR), { { 2.70710678, 0.70710678 }, { -0.70710678, 2.70710678 } }, 1e-6)
    end)

    it("iso_cts with everything common is iso_c", function()
        near(merged("iso_cts", { common = 1 }, F2), merged("iso_c", {}, F2), 1e-6)
    end)

    it("knots", function()
        near(merged("knots", { keep = 0.5 }, F2),
            { { 0.73426064, 1.15617376, -0.67947785 }, { 1.25756473, 0.05478280, 1.93704257 } }, 1e-6)
    end)

    it("wudi", function()
        near(merged("wudi", { solve = "closed" }, F2),
            { { 1.49542218, 1.82400814, -1.28687691 }, { 0.88708037, -0.67446592, 2.92370295 } }, 1e-6)
        -- The first step of Adam goes against the sign of the gradient.
        near(merged("wudi", { steps = 1, lr = 0.1 }, F2), { { 1.9, 1.9, -1.1 }, { 0.9, 0.9, 3.9 } }, 1e-6)
        near(merged("wudi", { steps = 0 }, F2), { { 2, 2, -1 }, { 1, 1, 4 } }, 0)
        -- Many steps arrive at the minimum.
        near(merged("wudi", { steps = 20000, lr = 0.001 }, F2), merged("wudi", { solve = "closed" }, F2), 2e-3)
    end)

    it("one model gives itself where the method says so", function()
        local one = vectors { { 2, 1, 0 }, { 0, 1, 1 } }
        near(merged("tsvm", {}, one), { { 2, 1, 0 }, { 0, 1, 1 } }, 1e-6)
        near(merged("knots", { keep = 1 }, one), { { 2, 1, 0 }, { 0, 1, 1 } }, 1e-6)
        near(merged("wudi", { solve = "closed" }, vectors { { 2, 1 }, { 0, 1 } }), { { 2, 1 }, { 0, 1 } }, 1e-6)
    end)

    it("zeros give zeros, the rest is averaged", function()
        for _, name in ipairs(SPECTRAL) do
            local zero = { { 0, 0, 0 }, { 0, 0, 0 } }
            near(merged(name, {}, vectors(zero, zero)), zero, 0)
            local flat = vectors({ 1, 2, 6 }, { 3, 2, 0 })
            local got = distac.merge[name] {}:delta(flat):tensor("w"):table()
            near({ got }, { { 2, 2, 3 } }, 0)
        end
        local got = distac.merge.wudi { rest = "base" }:delta(vectors({ 1, 2 }, { 3, 2 })):tensor("w"):table()
        near({ got }, { { 0, 0 } }, 0)
    end)

    it("treat a matrix and its transpose alike", function()
        local turned = vectors({ { 2, 0 }, { 1, 1 }, { 0, 1 } }, { { 0, 1 }, { 1, 0 }, { -1, 3 } })
        for _, name in ipairs { "tsvm", "iso_c" } do
            local a, b = merged(name, {}, F2), merged(name, {}, turned)
            near(b, { { a[1][1], a[2][1] }, { a[1][2], a[2][2] }, { a[1][3], a[2][3] } }, 1e-6)
        end
    end)
end)
