-- Memory shared with others: typed pointers into tensors, tensors over memory of ffi, strings and hosts; nothing
-- is copied, and nothing goes while it is used.
local distac = require "distac"
local raw = require "distac.raw"
local helper = require "spec.helper"

local raises = helper.raises
local function raised(f, ...)
    local ok, err = pcall(f, ...)
    assert.is_false(ok)
    assert.equal("string", type(err.message), tostring(err))
    return err
end
local ffi = rawget(_G, "jit") and require "ffi"

local function collect()
    for _ = 1, 4 do
        collectgarbage()
    end
end

-- Whether what make() gave to adopt is still there: asked through a weak table after collections.
local function watch(make)
    local weak = setmetatable({}, { __mode = "v" })
    local tensor = make(weak)
    return tensor, function()
        collect()
        return weak[1] ~= nil
    end
end

describe("a string as a tensor", function()
    it("is read where it lies, and never written", function()
        local text = string.char(1, 2, 3, 4, 5, 255)
        local t = distac.tensor.adopt(text)
        assert.same({ 6 }, t:shape())
        assert.equal("u8", t:dtype())
        assert.same({ 1, 2, 3, 4, 5, 255 }, t:table())
        assert.is_true(t:readonly())
        raises("ESTATE", "read", t.fill, t, 1)
        assert.equal("\1\2\3\4\5\255", text)
        assert.same({ { 1, 2, 3 }, { 4, 5, 255 } }, distac.tensor.adopt(text, { 2, 3 }):table())
        assert.same({ { 2, 3 } }, distac.tensor.adopt(text, { 2, 3 }):narrow(1, 1, 1):narrow(2, 2, 2):table())
        local again = distac.tensor.adopt(text)
        assert.equal(tostring(raw.tensor_data(t)), tostring(raw.tensor_data(again))) -- the same memory, no copies
        assert.equal(2, t:sharers()) -- itself and the one that keeps the string
    end)

    it("may hold any type", function()
        local values = distac.tensor.adopt("\0\0\128\63\0\0\0\64", nil, "f32")
        assert.same({ 1, 2 }, values:table())
        assert.same({ { 1 }, { 2 } }, distac.tensor.adopt("\0\0\128\63\0\0\0\64", { 2, 1 }, "f32"):table())
        assert.same({ 16256 }, distac.tensor.adopt("\128\63", nil, { dtype = "i16" }):table())
        assert.same({ 1 }, distac.tensor.adopt("\128\63", nil, "bf16"):table())
    end)

    it("says what does not fit", function()
        local adopt = distac.tensor.adopt
        local err = raised(adopt, "abc", { 2, 2 })
        assert.equal("ESHAPE", err.code)
        assert.truthy(err.message:find("shape [2,2] of u8 takes 4 bytes, data has 3", 1, true))
        err = raised(adopt, "abcd", nil, { readonly = false })
        assert.truthy(err.message:find("readonly: a string cannot be written to", 1, true))
        err = raised(adopt, "abcd", nil, { dtpye = "u8" })
        assert.truthy(err.message:find('unknown option "dtpye"; did you mean "dtype"?', 1, true))
        err = raised(adopt, distac.zeros { 3 })
        assert.truthy(err.message:find("distac.tensor.adopt: memory: wanted ", 1, true))
        assert.truthy(err.message:find("got a Tensor", 1, true))
        assert.truthy(raised(adopt, { 1, 2 }).message:find("distac.tensor.adopt: memory: wanted ", 1, true))
        assert.truthy(raised(adopt, io.stdout, { 1 }, "u8").message:find("wanted", 1, true))
        assert.truthy(raised(adopt, "abcd", { -1 }).message:find("size 1", 1, true))
        assert.truthy(raised(adopt, "abcd", nil, "f33").message:find("f33", 1, true))
    end)

    it("stays while any tensor lies over it, wherever that is", function()
        local views = {}
        do
            local text = ("distac"):rep(1000) .. tostring(os.clock())
            local t = distac.tensor.adopt(text)
            views[1] = t:narrow(1, 7, 6)
            views[2] = distac.checkpoint { part = t:narrow(1, 1, 12) }
        end
        collect()
        local junk = {}
        for i = 1, 200 do
            junk[i] = ("x"):rep(6000 + i)
        end
        assert.same({ ("distac"):byte(1, 6) }, views[1]:table())
        assert.same({ ("distacdistac"):byte(1, 12) }, views[2]["part"]:table())
        assert.equal(2 + 1 + 0, views[1]:sharers())
    end)
end)

if not ffi then
    describe("memory on Lua 5.4", function()
        it("has no typed pointers, and says so", function()
            local pointer, why = distac.zeros({ 2 }):data()
            assert.is_nil(pointer)
            assert.equal("needs LuaJIT", why)
        end)

        it("takes a light userdata of the host", function()
            local t = distac.tensor { { 1, 2 }, { 3, 4 } }
            local u = distac.tensor.adopt(raw.tensor_data(t), { 4 }, { dtype = "f32", keep = t })
            assert.same({ 1, 2, 3, 4 }, u:table())
            u:fill(7)
            assert.same({ { 7, 7 }, { 7, 7 } }, t:table())
            assert.equal(raw.tensor_data(t), raw.tensor_data(u))
            assert.truthy(raised(distac.tensor.adopt, raw.tensor_data(t)).message:find("dtype", 1, true))
            assert.truthy(raised(distac.tensor.adopt, raw.tensor_data(t), nil, "f32").message:find("shape", 1,
                true))
        end)
    end)
    return
end

describe("t:data()", function()
    it("is a typed pointer into the tensor, of every type", function()
        for name, ctype in pairs { f64 = "double *", f32 = "float *", f16 = "uint16_t *", bf16 = "uint16_t *",
            i64 = "int64_t *", i32 = "int32_t *", i16 = "int16_t *", i8 = "int8_t *", u8 = "uint8_t *",
            bool = "uint8_t *", u16 = "uint16_t *", u32 = "uint32_t *", u64 = "uint64_t *" } do
            local t = distac.ones({ 2, 3 }, { dtype = name })
            local p = t:data()
            assert.is_true(ffi.istype(ctype, p), name)
            assert.is_true(ffi.cast("void *", p) == raw.tensor_data(t))
            if name ~= "f16" and name ~= "bf16" then
                p[4] = 0
                assert.same({ { 1, 1, 1 }, { 1, 0, 1 } }, t:table(), name)
            end
        end
    end)

    it("of a view begins at the view's first element", function()
        local t = distac.arange(12):reshape(3, 4)
        assert.is_true(t:data() + 4 == t[2]:data())
        assert.is_true(t:data() + 6 == t[{ 2, { 3, 4 } }]:data())
        t[2]:data()[0] = 100
        assert.equal(100, t[{ 2, 1 }])
    end)

    it("of what is read-only cannot be written through", function()
        local path = helper.path "memory_file.safetensors"
        distac.save(path, { a = distac.tensor { 1, 2, 3 } })
        local a = distac.load(path)["a"]
        local p = a:data()
        assert.equal(2, p[1])
        assert.is_true(ffi.istype("const float *", p))
        assert.is_false((pcall(function() p[1] = 5 end)))
    end)
end)

describe("memory of ffi as a tensor", function()
    local adopt = distac.tensor.adopt

    it("is the same memory", function()
        local buffer = ffi.new("float[2][3]", { { 1, 2, 3 }, { 4, 5, 6 } })
        local t = adopt(buffer)
        assert.same({ 2, 3 }, t:shape())
        assert.equal("f32", t:dtype())
        assert.is_true(ffi.cast("float *", buffer) == t:data())
        assert.is_true(ffi.cast("void *", buffer) == raw.tensor_data(t))
        assert.same({ { 1, 2, 3 }, { 4, 5, 6 } }, t:table())
        buffer[1][2] = 60
        assert.equal(60, t[{ 2, 3 }])
        t[{ 1, 1 }] = -1
        assert.equal(-1, buffer[0][0])
        assert.is_true(adopt(buffer, { 6 }):narrow(1, 4, 3):data() == ffi.cast("float *", buffer) + 3)
        -- through the engine, from pointer to pointer
        local grown = ffi.new "double[3]"
        adopt(grown):copy(t:sum(1):to "f64")
        assert.equal(63, grown[2])
    end)

    it("takes its type and size from ffi", function()
        for ctype, name in pairs { double = "f64", float = "f32", int64_t = "i64", uint64_t = "u64",
            int32_t = "i32",
            uint32_t = "u32", int16_t = "i16", uint16_t = "u16", int8_t = "i8", uint8_t = "u8", bool = "bool" } do
            local t = adopt(ffi.new(ctype .. "[5]"))
            assert.equal(name, t:dtype())
            assert.same({ 5 }, t:shape())
            t = adopt(ffi.new(ctype .. "[?]", 7))
            assert.equal(name, t:dtype())
            assert.same({ 7 }, t:shape())
            assert.equal(name, adopt(ffi.new(ctype .. "[5]") + 0, { 5 }):dtype())
        end
        assert.same({ 2, 3, 4 }, adopt(ffi.new "double[2][3][4]"):shape())
        assert.same({ 3, 4 }, adopt(ffi.new("int[?][4]", 3)):shape())
        local halves = adopt(ffi.new("uint16_t[2]", { 0x3c00, 0x4000 }), nil, "f16")
        assert.same({ 1, 2 }, halves:table())
        assert.same({ 1, 2 }, adopt(ffi.new("uint8_t[8]", { 0, 0, 128, 63, 0, 0, 0, 64 }), nil, "f32"):table())
        local constant = adopt(ffi.cast("const float *", ffi.new("float[2]", { 8, 9 })), { 2 })
        assert.is_true(constant:readonly())
        assert.is_true(adopt(ffi.new "float[2]", nil, { readonly = true }):readonly())
    end)

    it("says what does not fit", function()
        local buffer = ffi.new "float[6]"
        local err = raised(adopt, buffer, { 7 })
        assert.truthy(err.message:find("shape [7] of f32 takes 28 bytes, data has 24", 1, true))
        err = raised(adopt, buffer, nil, "i32")
        assert.equal("EDTYPE", err.code)
        assert.equal("distac.tensor.adopt: dtype: i32 cannot lie in a float [6], which holds f32", err.message)
        err = raised(adopt, ffi.cast("float *", buffer))
        assert.equal("distac.tensor.adopt: shape: a float * has no size of its own; say how many elements",
            err.message)
        err = raised(adopt, ffi.cast("uint8_t *", buffer) + 1, { 2 }, "f32")
        assert.truthy(err.message:find("data does not begin at a multiple of the 4 bytes of f32", 1, true))
        err = raised(adopt, ffi.cast("void *", buffer), { 2 })
        assert.truthy(err.message:find("does not tell the type of its elements", 1, true))
        assert.same({ 0, 0 }, adopt(ffi.cast("void *", buffer), { 2 }, "f32"):table())
        raises("EINVAL", "data is NULL", adopt, ffi.cast("float *", nil), { 2 })
        raises("EINVAL", "memory: wanted", adopt, ffi.new("uint64_t", 5))
        raises("EINVAL", "memory: wanted", adopt, ffi.new "struct { int a; }")
    end)

    it("keeps the array while a tensor lies over it, and no longer", function()
        local tensor, there = watch(function(weak)
            weak[1] = ffi.new("float[1000]")
            return adopt(weak[1]):narrow(1, 10, 2)
        end)
        assert.is_true(there())
        tensor:fill(3)
        local holder = distac.checkpoint { a = tensor }
        tensor = nil -- luacheck: ignore
        assert.is_true(there())
        assert.same({ 3, 3 }, holder["a"]:table())
        holder = nil -- luacheck: ignore
        collect()
        assert.is_false(there())
    end)

    it("keeps what a pointer points into if told", function()
        local memory = ffi.new "float[4]"
        local tensor, there = watch(function(weak)
            local owner = { memory }
            weak[1] = owner
            return adopt(ffi.cast("float *", memory), { 4 }, { keep = owner })
        end)
        assert.is_true(there())
        tensor:fill(1)
        raw.release(tensor)
        assert.is_false(there())
    end)
end)
