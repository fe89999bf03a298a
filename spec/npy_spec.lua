-- NPY arrays: what numpy wrote (spec/golden/make_npy.py) reads as numpy has it; what is no plain array of numbers,
-- or no whole file, is refused by name.
local distac = require "distac"
local helper = require "spec.helper"
local json = require "distac.json"
local tiny = require "spec.tiny"
local raises = helper.raises

local GOLDEN = "spec/golden/npy/"

-- A header of version 1.0 around these words, and what follows.
local function npy(dictionary, data, version)
    local header = dictionary .. "\n"
    local low, high = #header % 256, math.floor(#header / 256)
    if version == 2 or version == 3 then
        return "\147NUMPY" .. string.char(version, 0, low, high, 0, 0) .. header .. (data or "")
    end
    return "\147NUMPY" .. string.char(version or 1, 0, low, high) .. header .. (data or "")
end

local FOUR = "{'descr': '|u1', 'fortran_order': False, 'shape': (4,), }"

describe("an NPY array", function()
    local root
    setup(function() root = tiny.folder() end)
    teardown(function() tiny.remove(root) end)

    local function read(text) return distac.tensor.npy(tiny.write(root .. "/a.npy", text)) end

    it("is what numpy wrote", function()
        local cases = json.decode(tiny.read(GOLDEN .. "cases.json"))
        local seen, refused = 0, 0
        for name, case in pairs(cases) do
            local path = GOLDEN .. name .. ".npy"
            if case == json.null then
                raises("EUNSUPPORTED", path, distac.tensor.npy, path)
                refused = refused + 1
            else
                local t = distac.tensor.npy(path)
                assert.equal(case.dtype, t:dtype(), name)
                assert.same(case.shape, t:shape(), name)
                local flat = t:reshape(t:numel())
                for i, want in ipairs(case.values) do
                    local got = flat[i]
                    if type(got) == "boolean" then got = got and 1 or 0 end
                    assert.equal(tonumber(want) * 1.0, tonumber(got) * 1.0, name .. " element " .. i)
                end
                assert.equal(#case.values, t:numel())
                seen = seen + 1
            end
        end
        assert.equal(42, seen)
        assert.equal(7, refused)
    end)

    it("has its header read, not evaluated", function()
        assert.same({ 1, 2, 3, 4 }, read(npy(FOUR, "\1\2\3\4")):table())
        for _, words in ipairs {
            "{'shape': (4,), 'fortran_order': False, 'descr': '|u1'}",
                "{\"descr\":\"<u1\",\"fortran_order\":False,\"shape\":(4,)}",
            "  { 'descr' : '>u1' , 'fortran_order' : True , 'shape' : ( 4L , ) , }   ",
        } do
            assert.same({ 1, 2, 3, 4 }, read(npy(words, "\1\2\3\4")):table())
        end
        assert.same({ { 1, 3 }, { 2, 4 } },
            read(npy("{'descr': '|u1', 'fortran_order': True, 'shape': (2, 2)}", "\1\2\3\4", 3)):table())
        assert.equal(7, read(npy("{'descr': '|u1', 'fortran_order': True, 'shape': ()}", "\7")):item())
    end)

    it("is refused for its reason", function()
        local cases = {
            { "", "no NPY file" }, { "\147NUMP", "no NPY file" }, { "\147NUMPZ\1\0\0\0", "no NPY file" },
            { npy(FOUR, "\1\2\3\4", 4), "version 4.0", "EUNSUPPORTED" },
            { "\147NUMPY\1\1\4\0{}  ", "version 1.1", "EUNSUPPORTED" },
            { "\147NUMPY\1\0\255\255{}", "a header of 65535 bytes, 2 are there" },
            { "\147NUMPY\2\0\255\255", "cut in the header's length" },
            { "\147NUMPY\2\0\255\255\255\255{}", "a header of 4294967295 bytes, 2 are there" },
            { npy(FOUR, "\1\2\3"), "3 bytes of elements, the header promises 4" },
            { npy(FOUR, "\1\2\3\4\5"), "5 bytes of elements, the header promises 4" },
            { npy("{'descr': '|u1', 'fortran_order': False}"), "must have 'descr'" },
            { npy("{'descr': '|u1', 'descr': '|u1', 'fortran_order': False, 'shape': (4,)}"),
                "a key stands twice" },
            { npy("{'descr': '|u1', 'fortran_order': False, 'shape': (4,), 'x': 1}"), "a key that is none of" },
            { npy("{'descr': '|u1', 'fortran_order': False, 'shape': (4)}"), "has a comma behind it" },
            { npy("{'descr': '|u1', 'fortran_order': False, 'shape': [4]}"), "a tuple of whole numbers" },
            { npy("{'descr': '|u1', 'fortran_order': False, 'shape': (-4,)}"), "0 or more" },
            { npy("{'descr': '|u1', 'fortran_order': False, 'shape': (4.0,)}"), "wanted ',' or ')'" },
            { npy("{'descr': '|u1', 'fortran_order': False, 'shape': (2 2,)}"), "wanted ',' or ')'" },
            { npy("{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999999999999,)}"), "too large" },
            { npy("{'descr': '<f8', 'fortran_order': False, 'shape': (4611686018427387904, 4)}"), "overflows" },
            { npy("{'descr': '<f8', 'fortran_order': False, 'shape': (2305843009213693952,)}"), "overflows" },
            { npy("{'descr': '|u1', 'fortran_order': False, 'shape': (" .. string.rep("1,", 17) .. ")}"),
                "more than 16",
                "EUNSUPPORTED" },
            { npy("{'descr': '|u1', 'fortran_order': 0, 'shape': (4,)}"), "must be True or False" },
            { npy("{'descr': '|u1', 'fortran_order': False, 'shape': (4,)} + {}"), "something follows" },
            { npy("{'descr': '|u1' 'fortran_order': False, 'shape': (4,)}"), "wanted ',' or '}'" },
            { npy("{'descr': '|u1\\x20', 'fortran_order': False, 'shape': (4,)}"), "with a backslash" },
            { npy("[]"), "must be a dictionary" }, { npy("{'descr': __import__('os')}"), "a short text" },
            { npy("{'descr': '|u1', 'fortran_order': False, 'shape': (4,)}\0"), "a zero byte" },
            { "\147NUMPY\1\0\2\0{}", "line feed" },
            { npy("{'descr': '=u4', 'fortran_order': False, 'shape': (1,)}", "1234"), '"=u4"', "EUNSUPPORTED" },
            { npy("{'descr': '|u4', 'fortran_order': False, 'shape': (1,)}", "1234"), '"|u4"', "EUNSUPPORTED" },
            { npy("{'descr': '<f16', 'fortran_order': False, 'shape': (0,)}"), '"<f16"', "EUNSUPPORTED" },
            { npy("{'descr': '|O', 'fortran_order': False, 'shape': (0,)}"), "nothing in a file is ever called",
                "EUNSUPPORTED" },
            { npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (0,)}"), "a structured array",
                "EUNSUPPORTED" },
            { npy("{'descr': '|b1', 'fortran_order': False, 'shape': (3,)}", "\1\0\2"),
                "element 2 is 2, wanted 0 or 1" },
        }
        for _, case in ipairs(cases) do
            raises(case[3] or "EFORMAT", case[2], read, case[1])
        end
        raises("ENOTFOUND", "nothing.npy", distac.tensor.npy, root .. "/nothing.npy")
        raises("EINVAL", "path", distac.tensor.npy, 3)
    end)

    it("makes a data set of images and labels", function()
        local images = tiny.write(root .. "/images.npy",
            npy("{'descr': '|u1', 'fortran_order': False, 'shape': (3, 2, 2)}", "\1\2\3\4\5\6\7\8\9\10\11\12"))
        local labels = tiny.write(root .. "/labels.npy",
            npy("{'descr': '>i2', 'fortran_order': False, 'shape': (3,)}", "\0\0\0\2\0\1"))
        local ds = distac.dataset.npy(images, labels)
        assert.equal(3, ds:size())
        assert.equal(3, ds:classes())
        assert.same({ 0, 2, 1 }, ds:labels():table())
        assert.equal(5, distac.dataset.npy(images, labels, 5):classes())
        assert.is_false(distac.dataset.npy(images):labelled())
        raises("EFORMAT", "images are u8", distac.dataset.npy, labels)
        raises("EFORMAT", "labels are integers", distac.dataset.npy, images, images)
    end)
end)
