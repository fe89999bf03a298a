-- JSON: the same text on every Lua, numbers that read back exactly, strict reading.
local json = require "distac.json"

describe("json", function()
    it("writes keys sorted, or in the order that the table asks for", function()
        assert.equal('{"a":1,"b":{"c":[1,2]},"z":null}',
            json.encode { z = json.null, b = { c = { 1, 2 } }, a = 1 })
        assert.equal('{"z":1,"a":2,"b":3}', json.encode(json.ordered({ "z", "a" }, { a = 2, b = 3, z = 1 })))
    end)

    it("keeps empty arrays and objects apart", function()
        assert.equal('{"a":[],"o":{}}', json.encode { a = json.array {}, o = {} })
        assert.equal('{"a":[],"o":{}}', json.encode(json.decode '{"a":[],"o":{}}'))
    end)

    it("writes whole numbers alike whatever their Lua type", function()
        assert.equal("[3,3,-7,0]", json.encode { 3, 3.0, -7, 0 })
        assert.equal("1152921504606846976", string.format("%.0f", json.decode(json.encode(2 ^ 60))))
    end)

    it("writes the shortest number that reads back exactly", function()
        for text, v in pairs { ["0.1"] = 0.1, ["1e-5"] = 1e-5, ["0.3333333333333333"] = 1 / 3, ["1e+300"] = 1e300,
                               ["0.30000000000000004"] = 0.1 + 0.2 } do
            assert.equal(text, json.encode(v))
        end
        local seed = 12345
        for _ = 1, 2000 do
            seed = (seed * 16807) % 2147483647
            local v = (seed / 2147483647 - 0.5) * 10 ^ (seed % 40 - 20)
            assert.is_true(tonumber(json.encode(v)) == v)
        end
    end)

    it("refuses what JSON cannot say", function()
        assert.has_error(function() json.encode(0 / 0) end)
        assert.has_error(function() json.encode(1 / 0) end)
        assert.has_error(function() json.encode { print } end)
        assert.has_error(function() json.encode { [1.5] = 1, a = 2 } end)
        assert.has_error(function() json.encode { 1, 2, a = 3 } end, "json: a list has no keys, this one has 'a'")
        assert.has_error(function() json.encode { 0 / 0 } end, "json: nan has no JSON form")
        local loop = {}
        loop.a = loop
        assert.has_error(function() json.encode(loop) end)
        assert.equal("[null]", json.encode({ 0 / 0 }, { nonfinite = "null" }))
    end)

    it("indents", function()
        assert.equal('{\n  "a": [1, 2],\n  "b": {}\n}', json.encode({ a = { 1, 2 }, b = {} }, { indent = 2 }))
    end)

    it("escapes and reads back every byte", function()
        local text = '"\\/\b\f\n\r\t\1\31\127é😀'
        assert.equal(text, json.decode(json.encode(text)))
        assert.equal("é😀/", json.decode '"\\u00e9\\ud83d\\ude00\\/"')
    end)

    it("reads numbers as they are", function()
        local t = json.decode "[0,-0.5,1e3,2E-2,9007199254740993]"
        assert.same({ 0, -0.5, 1000, 0.02 }, { t[1], t[2], t[3], t[4] })
    end)

    it("refuses everything that is not JSON, with line and byte", function()
        for _, bad in ipairs { "", " ", "{", "[1,]", "[1 2]", '{"a" 1}', '{"a":1,}', "{a:1}", "01", "1.", "1e",
                               "+1", "nul", "tru", '"', '"\\x"', '"\\u12"', '"\\ud800"', '"\\udc00"', '"\n"',
                               "[1]x", "1 2", '{"a":1,"a":2}', "NaN", "1e999", "'a'", "[1}", ("["):rep(300) } do
            local ok, message = pcall(json.decode, bad)
            assert.is_false(ok, bad)
            assert.truthy(tostring(message):find "^json: line %d+, byte %d+: ", bad)
        end
    end)
end)
