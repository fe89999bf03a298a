-- The comparisons of the specs are themselves compared with what they must refuse.
local distac = require "distac"
local helper = require "spec.helper"

local nan, inf = 0 / 0, math.huge

describe("the spec helper", function()
    it("accepts what is close", function()
        assert.is_true(helper.is_near(1, 1 + 1e-10, 1e-9))
        assert.is_true(helper.is_near(1e6, 1e6 + 1e-4, 1e-9))
        assert.is_true(helper.is_near({ 1, { 2 } }, { 1, { 2 } }, 0))
        assert.is_true(helper.is_near(distac.tensor { 1, 2 }, { 1, 2 }, 0))
    end)

    it("refuses what is far, of another shape or no number", function()
        assert.is_false(helper.is_near(1, 1 + 1e-8, 1e-9))
        assert.is_false(helper.is_near({ 1, 2 }, { 1 }, 1))
        assert.is_false(helper.is_near({ 1 }, { 1, 2 }, 1))
        assert.is_false(helper.is_near({ 1, { 2 } }, { 1, 2 }, 1))
        assert.is_false(helper.is_near("1", 1, 1))
        assert.is_false(helper.is_near(nil, 1, 1))
    end)

    it("fails on NaN and infinity wherever they are", function()
        assert.is_false(helper.is_near(nan, 1, 1e9))
        assert.is_false(helper.is_near(1, nan, 1e9))
        assert.is_false(helper.is_near(nan, nan, 1e9))
        assert.is_false(helper.is_near(inf, 1, 1e-3))
        assert.is_false(helper.is_near({ 1, nan }, { 1, 2 }, 1e9))
        assert.is_false(helper.is_near(distac.tensor { 1, nan }, { 1, 2 }, 1e9))
        assert.has_error(function() helper.near(nan, nan, 1) end)
    end)

    it("fails when NaN is compared bit for bit", function()
        local t = distac.tensor { nan }
        assert.has_error(function() helper.same(t, t) end)
        helper.same(distac.tensor { 1 }, distac.tensor { 1 })
        assert.has_error(function() helper.same(distac.tensor { 1 }, distac.tensor { 2 }) end)
        assert.has_error(function() helper.same(distac.tensor { 1 }, distac.tensor({ 1 }, { dtype = "f64" })) end)
    end)

    it("fails when no error comes, or another one", function()
        assert.has_error(function() helper.raises("EINVAL", {}, function() end) end)
        assert.has_error(function() helper.raises("EINVAL", {}, function() error "text" end) end)
        assert.has_error(function() helper.raises("ESHAPE", {}, function() distac.adamw { rl = 1 } end) end)
        assert.has_error(function()
            helper.raises("EINVAL", "no such words", function() distac.adamw { rl = 1 } end)
        end)
    end)

    it("sees a leak", function()
        local kept = {}
        assert.has_error(function()
            helper.no_leak(function() kept[#kept + 1] = distac.zeros { 1000 } end)
        end)
        helper.no_leak(function() return distac.zeros { 1000 } end)
    end)
end)
