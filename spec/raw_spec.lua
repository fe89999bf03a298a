-- raw_spec.lua: the bindings made from distac.h: same names on both runtimes, checked arguments in the same words,
-- lifetime of handles, tables for structs.
local raw = require "distac.raw"

local function header()
    local file = assert(io.open("core/distac.h"))
    local text = file:read("*a")
    file:close()
    return text:match("fence: begin %*/(.-)/%* fence: end")
end

-- The error object that f raises; fails if it raises none.
local function raised(f, ...)
    local ok, e = pcall(f, ...)
    assert.is_false(ok)
    assert.are.equal("table", type(e))
    return e
end

local function message(f, ...)
    return raised(f, ...).message
end

describe("names", function()
    it("are those of the header, on this runtime as on the other", function()
        local declared = {}
        local count = 0
        for name in header():gsub("/%*.-%*/", ""):gmatch("DISTAC_API [%w_ ]+%*?distac_([%w_]+)%(") do
            declared[name] = true
            count = count + 1
            assert.are.equal("function", type(raw[name]), name)
        end
        assert.is_true(count > 170)
        assert.are.equal(count, #raw.functions)
        for _, name in ipairs(raw.functions) do assert.is_true(declared[name], name) end
        local extra = { release = true, type = true, set_metatable = true, error = true }
        for name, value in pairs(raw) do
            if type(value) == "function" then assert.is_true(declared[name] or extra[name], name) end
        end
        for name in pairs(extra) do assert.are.equal("function", type(raw[name]), name) end
    end)

    it("include every constant with its value", function()
        local count = 0
        for name, value in header():gsub("/%*.-%*/", ""):gmatch("DISTAC_([A-Z0-9_]+) = (%-?%d+)") do
            assert.are.equal(tonumber(value), raw[name], name)
            count = count + 1
        end
        assert.is_true(count >= 61)
    end)

    it("include every kind of handle", function()
        local count = 0
        for kind in header():gmatch("typedef struct distac_([%w_]+) distac_") do
            count = count + 1
            assert.are.equal(kind, raw.kinds[count])
        end
        assert.are.equal(count, #raw.kinds)
    end)

    it("tell the runtime", function()
        assert.are.equal(rawget(_G, "jit") and "luajit" or "lua54", raw.runtime)
        assert.are.equal(raw, require "distac.raw")
    end)
end)

describe("arguments", function()
    local context
    setup(function() context = raw.context_create { threads = 1, seed = 5 } end)
    teardown(function() raw.release(context) end)

    it("are checked: function, number, name, what came, what was wanted", function()
        assert.are.equal('context_create: argument 1 (desc): wanted a table, got 5',
            message(raw.context_create, 5))
        assert.are.equal('tensor_create: argument 1 (context): wanted a context, got nil',
            message(raw.tensor_create, nil, 1, {}))
        assert.are.equal('tensor_create: argument 2 (dtype): wanted a whole number of 32 bits, got 1.5',
            message(raw.tensor_create, context, 1.5, {}))
        assert.are.equal('tensor_create: argument 2 (dtype): wanted a whole number of 32 bits, got "1"',
            message(raw.tensor_create, context, "1", {}))
        assert.are.equal('tensor_create: argument 3 (shape): wanted a list, got 3',
            message(raw.tensor_create, context, 1, 3))
        assert.are.equal('tensor_create: argument 3 (shape[2]): wanted a whole number, got 0.5',
            message(raw.tensor_create, context, 1, { 1, 0.5 }))
        assert.are.equal('tensor_create: argument 3 (shape[1]): wanted a whole number, got nan',
            message(raw.tensor_create, context, 1, { 0 / 0 }))
        assert.are.equal('tensor_dtype: argument 1 (tensor): wanted a tensor, got a context',
            message(raw.tensor_dtype, context))
        assert.are.equal('dtype_from_name: argument 1 (name): wanted a string, got a table',
            message(raw.dtype_from_name, {}))
        assert.are.equal('dtype_from_name: argument 1 (name): wanted a string without zero bytes',
            message(raw.dtype_from_name, "f\0"))
        assert.are.equal('rng_create: argument 1 (seed): wanted a whole number from 0 on, got -1',
            message(raw.rng_create, -1, 0))
        assert.are.equal('image_width: argument 1 (image): wanted an image, got true',
            message(raw.image_width, true))
        assert.are.equal('release: argument 1 (handle): wanted an object of distac, got a function',
            message(raw.release, print))
        assert.are.equal("EINVAL", raised(raw.context_create, 5).code)
    end)

    it("take whole numbers in every form", function()
        local t = raw.tensor_create(context, 1.0, { 2.0, 3 })
        assert.are.equal(6, raw.tensor_numel(t))
        local r = raw.rng_create(2 ^ 53, 0)
        assert.are.equal("rng", raw.type(r))
        assert.are.equal("rng", raw.type(raw.rng_create(2 ^ 63, 0)))
        assert.are.equal('rng_create: argument 1 (seed): wanted a whole number from 0 on, got 1.844674407371e+19',
            message(raw.rng_create, 2 ^ 64, 0))
        assert.are.equal('tensor_create: argument 2 (dtype): wanted a whole number of 32 bits, got 2147483648',
            message(raw.tensor_create, context, 2 ^ 31, {}))
        assert.are.equal('tensor_create: argument 2 (dtype): wanted a whole number of 32 bits, got inf',
            message(raw.tensor_create, context, math.huge, {}))
    end)

    it("that are tables name their fields and the nearest to an unknown one", function()
        assert.are.equal('context_create: argument 1 (desc): unknown key "thread", did you mean "threads"?',
            message(raw.context_create, { thread = 1 }))
        assert.are.equal('context_create: argument 1 (desc): unknown key 1, did you mean "threads"?',
            message(raw.context_create, { 1 }))
        assert.are.equal('context_create: argument 1 (desc.seed): wanted a whole number from 0 on, got 0.5',
            message(raw.context_create, { seed = 0.5 }))
        assert.are.equal('context_create: argument 1 (desc.device): wanted a string, got 1',
            message(raw.context_create, { device = 1 }))
        local info = raw.context_get_info(context)
        assert.are.equal(1, info.threads)
        assert.are.equal(5, info.seed)
        assert.are.equal("cpu", info.device)
        assert.are.equal("string", type(info.kernels))
    end)

    it("may be nil where the header allows it, and only there", function()
        local other = raw.context_create(nil)
        assert.are.equal("context", raw.type(other))
        assert.are.equal('checkpoint_open: argument 2 (path): wanted a string, got nil',
            message(raw.checkpoint_open, other, nil))
        raw.release(other)
    end)

    it("pass arrays, counts and strings with zero bytes", function()
        local t = raw.tensor_create(context, raw.F64, { 2, 2 })
        raw.tensor_write(t, { 1, 2, 3, 4.5 })
        assert.are.same({ 1, 2, 3, 4.5 }, raw.tensor_read(t, 4))
        assert.are.equal("ESHAPE", raised(raw.tensor_read, t, 3).code)
        assert.are.equal("EINVAL", raised(raw.tensor_read, t, -1).code)
        assert.are.equal("EINVAL", raised(raw.tensor_read, t, 1e18).code)
        assert.are.equal("EINVAL", raised(raw.tensor_write, t, { 1, 2, "3", 4 }).code)
        local first = raw.strings_get(raw.hash_text("a\0b"), 0)
        assert.are.equal(64, #first)
        assert.are_not.equal(first, raw.strings_get(raw.hash_text("a"), 0))
        assert.is_nil(raw.strings_get(raw.hash_text("a"), 1))
        assert.is_nil(raw.dtype_name(999))
        raw.tensor_write(t, { 1, 0 / 0, 3, 1 / 0 })
        local where, count = raw.tensor_nonfinite(t)
        assert.are.equal(1, where)
        assert.are.equal(2, count)
    end)

    it("take lists of handles", function()
        local op = raw.merge_create(context, "average")
        local ck = raw.checkpoint_create(context)
        assert.are.equal('merge_delta: argument 2 (taus[2]): wanted a checkpoint, got "x"',
            message(raw.merge_delta, op, { ck, "x" }))
        local gone = raw.checkpoint_create(context)
        raw.release(gone)
        assert.are.equal('merge_delta: argument 2 (taus[2]): released object',
            message(raw.merge_delta, op, { ck, gone }))
    end)
end)

describe("errors", function()
    it("of the engine carry code and text", function()
        local context = raw.context_create(nil)
        local t = raw.tensor_create(context, raw.F32, { 2, 3 })
        local e = raised(raw.tensor_matmul, t, t)
        assert.are.equal("ESHAPE", e.code)
        assert.is_true(#e.message > 10)
        assert.are.equal(e.message, tostring(e))
        assert.are.equal(raw.error_metatable, getmetatable(e))
        local own = raw.error("EINVAL", "text")
        assert.are.equal("text", tostring(own))
        assert.are.equal("EINVAL", own.code)
    end)
end)

describe("handles", function()
    local context
    setup(function() context = raw.context_create { threads = 1 } end)

    local function used()
        collectgarbage("collect")
        collectgarbage("collect")
        return raw.context_get_info(context).memory_used
    end

    it("say what they are", function()
        local t = raw.tensor_create(context, raw.F32, { 1 })
        assert.are.equal("tensor", raw.type(t))
        assert.is_nil(raw.type(nil))
        assert.is_nil(raw.type({}))
        assert.is_nil(raw.type(1))
        assert.is_nil(raw.type(io.stdout))
    end)

    it("refuse use after release, which may be repeated", function()
        local t = raw.tensor_create(context, raw.F32, { 4 })
        raw.release(t)
        raw.release(t)
        raw.tensor_release(t)
        raw.tensor_release(nil)
        raw.release(nil)
        local e = raised(raw.tensor_numel, t)
        assert.are.equal("ESTATE", e.code)
        assert.are.equal("tensor_numel: argument 1 (tensor): released object", e.message)
        assert.are.equal("tensor", raw.type(t))
        assert.are.equal("image_release: argument 1 (image): wanted an image, got a tensor",
            message(raw.image_release, t))
    end)

    it("free their memory when collected", function()
        local before = used()
        do
            local list = {}
            for i = 1, 10 do list[i] = raw.tensor_create(context, raw.F64, { 1000 }) end
            assert.is_true(used() >= before + 80000)
            list[1] = nil
        end
        assert.are.equal(before, used())
    end)

    it("keep alive what they need", function()
        local own = raw.context_create { threads = 1 }
        local t = raw.tensor_create(own, raw.F32, { 2, 2 })
        local view = raw.tensor_select(t, 0, 1)
        raw.tensor_write(t, { 1, 2, 3, 4 })
        raw.release(own)
        raw.release(t)
        own, t = nil, nil
        collectgarbage("collect")
        assert.are.same({ 3, 4 }, raw.tensor_read(view, 2))
    end)

    it("are collected early when tensors fill the memory", function()
        local own = raw.context_create { threads = 1, memory_limit = 96 * 2 ^ 20 }
        for _ = 1, 100 do raw.tensor_create(own, raw.F32, { 4 * 2 ^ 20 }) end -- 16 MiB each
        local kept = {}
        local e = raised(function()
            for i = 1, 10 do kept[i] = raw.tensor_create(own, raw.F32, { 4 * 2 ^ 20 }) end
        end)
        assert.are.equal("ENOMEM", e.code)
        assert.are.equal(6, #kept)
        local free = raw.context_create { threads = 1 }
        for _ = 1, 100 do raw.tensor_create(free, raw.F32, { 4 * 2 ^ 20 }) end
        local peak = raw.context_get_info(free).memory_peak
        assert.is_true(peak <= 200 * 2 ^ 20, "peak " .. peak)
    end)

    it("take methods and metamethods", function()
        local saved = raw.runtime -- nothing of the Lua layer is loaded here: rng has no methods yet
        assert.is_string(saved)
        raw.set_metatable("rng", { hello = function(self) return raw.type(self) end },
            { __call = function(_, x) return x end, __len = function() return 7 end,
              __index = function(_, key) return key end, __tostring = function() return "an rng" end,
              __add = function(a, b) return (raw.type(a) or a) .. "+" .. (raw.type(b) or b) end,
              __eq = function() return true end })
        local r, other = raw.rng_create(1, 2), raw.rng_create(1, 2)
        assert.are.equal("rng", r:hello())
        assert.are.equal(5, r(5))
        assert.are.equal(7, #r)
        assert.are.equal("nothing", r.nothing)
        assert.are.equal("an rng", tostring(r))
        assert.are.equal("rng+1", r + 1)
        assert.are.equal("1+rng", 1 + r)
        assert.are.equal("rng+rng", r + other)
        assert.is_true(r == other)
        assert.is_false(r == 1)
        raw.set_metatable("rng", {}, {})
        assert.is_nil(r.hello)
        assert.are.equal("EINVAL", raised(raw.set_metatable, "nothing", {}, {}).code)
        assert.are.equal("EINVAL", raised(raw.set_metatable, "rng", 1, {}).code)
    end)

    it("lead to their elements in memory", function()
        local t = raw.tensor_create(context, raw.F64, { 2 })
        raw.tensor_write(t, { 1.5, 2.5 })
        local data = raw.tensor_data(t)
        if raw.runtime == "luajit" then
            local numbers = require("ffi").cast("double *", data)
            assert.are.equal(2.5, numbers[1])
            numbers[0] = 9
            assert.are.same({ 9, 2.5 }, raw.tensor_read(t, 2))
        else
            assert.are.equal("userdata", type(data))
        end
    end)
end)

describe("events", function()
    it("come as tables, nothing is 0", function()
        local context = raw.context_create(nil)
        local count, event = raw.event_next(context)
        assert.are.equal(0, count)
        assert.is_nil(event)
        assert.are.equal(0, raw.cancelled(context))
        raw.cancel(context)
        assert.are.equal(1, raw.cancelled(context))
        raw.cancel_clear(context)
        assert.are.equal(0, raw.cancelled(context))
    end)
end)
