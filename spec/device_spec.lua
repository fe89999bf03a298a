-- Tensors on a device beside the same on the CPU. Without a device the specs are skipped and say why; the lane
-- cuda-emulated of spec/run.sh has one that threads of the CPU play.
local distac = require "distac"
local helper = require "spec.helper"
local near, raises = helper.near, helper.raises

local function on_device(name, body)
    it(name, function()
        local why = helper.no_device()
        if why then return pending(why) end
        body()
    end)
end

-- Both give the same kind of thing, shape and type, and numbers within tol.
local function agree(what, there, here, tol)
    assert.same(here:shape(), there:shape(), what)
    assert.equal(here:dtype(), there:dtype(), what)
    assert.equal("cuda:0", there:device(), what)
    assert.equal("cpu", here:device(), what)
    near(there, here, tol)
end

describe("a device that is not there", function()
    it("is told with what there is", function()
        distac.zeros { 1 } -- the context is open: configure opens the next one at once
        for _, name in ipairs { "cuda:99", "cuda:x", "gpu", "tpu", "cuda:" } do
            local ok, err = pcall(distac.configure, { device = name })
            assert.is_false(ok, name)
            assert.equal("EDEVICE", err.code)
            assert.truthy(err.message:find("no such device '" .. name .. "': there is 'cpu'", 1, true),
                err.message)
        end
        raises("EDEVICE", "did you mean 'cuda'?", distac.configure, { device = "gpu" })
    end)
end)

describe("tensors on a device", function()
    local shapes = { { 1 }, { 7 }, { 3, 5 }, { 2, 1, 33 }, { 4, 300, 3 }, {} }

    on_device("go there and come back with the same bits, in every type", function()
        for _, kind in ipairs { "f64", "f32", "f16", "bf16", "i64", "i32", "i16", "i8", "u8", "bool", "u16", "u32",
            "u64" } do
            local here = distac.tensor({ { 0, 1, 2 }, { 3, 100, 7 } }, { dtype = kind })
            local there = here:to "cuda"
            agree(kind, there, here, 0)
            assert.equal(there, there:to "cuda")
            assert.equal("cpu", there:to "cpu":device())
            assert.same(here:table(), there:to "cpu":table())
            agree(kind .. " turned", there:t(), here:t(), 0)
            agree(kind .. " cut", there:narrow(2, 2, 2), here:narrow(2, 2, 2), 0)
            agree(kind .. " turned and dense", there:t():contiguous(), here:t():contiguous(), 0)
        end
        local long = distac.randn({ 3, 1234567 }, { seed = 3 }) -- through the pinned buffers, with a rest
        assert.is_true(long:to "cuda":to "cpu":equal(long))
        assert.is_true(long:to "cuda":t():to "cpu":equal(long:t():contiguous()))
    end)

    on_device("print as they do on the CPU, and name their device", function()
        local here = distac.randn({ 3, 4 }, { seed = 1 })
        assert.equal(tostring(here), (tostring(here:to "cuda"):gsub(" cuda:0", "", 1)))
        assert.truthy(tostring(here:to "cuda"):find("Tensor [3,4] f32 cuda:0", 1, true))
    end)

    on_device("convert between types to the same bits", function()
        local values = { 0, -0.0, 1, -1, 0.5, 1.5, 2.5, 65519, 65520, 1e-8, 6e-8, 3.1e38, -1e300, 1e300, 255.5,
            256, -129,
            3e9, 1e19, 2 ^ 53 + 2, 1 / 0, -1 / 0, 0.1, 1 / 3, 1 + 2 ^ -8 + 2 ^ -30, 1 + 2 ^ -11 + 2 ^ -40 }
        for _, from in ipairs { "f64", "f32", "f16", "bf16", "i64", "i32", "u8", "u64" } do
            local here = distac.tensor(values, { dtype = from })
            for _, to in ipairs { "f64", "f32", "f16", "bf16", "i64", "i32", "i16", "i8", "u8", "bool", "u16",
                "u32", "u64" } do
                assert.same(here:to(to):table(), here:to "cuda":to(to):to "cpu":table(), from .. " to " .. to)
            end
        end
        local nan = distac.tensor { 0 / 0, 1 }:to "cuda"
        for _, to in ipairs { "f64", "f16", "bf16" } do
            local v = nan:to(to):table()
            assert.is_true(v[1] ~= v[1] and v[2] == 1, to)
        end
        local half = distac.arange(65536, { dtype = "f64" }) -- every bfloat16 on its way through f32
        assert.same(half:to "bf16":to "f32":table(), half:to "cuda":to "bf16":to "f32":table())
    end)

    on_device("add, subtract, multiply and divide to the same bits, with broadcasting", function()
        for _, kind in ipairs { "f32", "f64" } do
            local a = distac.randn({ 4, 1, 33 }, { seed = 1, dtype = kind })
            local b = distac.randn({ 5, 33 }, { seed = 2, dtype = kind })
            local x, y = a:to "cuda", b:to "cuda"
            agree("add", x + y, a + b, 0)
            agree("sub", x - y, a - b, 0)
            agree("mul", x * y, a * b, 0)
            agree("div", x / y, a / b, 0)
            agree("turned", x:transpose(1, 3) + 1, a:transpose(1, 3) + 1, 0)
            agree("number", 2 - x * 3, 2 - a * 3, 0)
            agree("power", (x * x) ^ 1.5, (a * a) ^ 1.5, 1e-6)
            agree("minus", -x, -a, 0)
        end
        agree("half", distac.randn({ 9 }, { seed = 4 }):to "cuda":to "bf16" + 1,
            distac.randn({ 9 }, { seed = 4 }):to "bf16" + 1, 0)
        raises("EDEVICE", "a is on cuda:0, b on cpu", function()
            return distac.ones { 2 }:to "cuda" + distac.ones { 2 }
        end)
    end)

    on_device("know the functions that the CPU knows", function()
        for _, kind in ipairs { "f32", "f64" } do
            local here = distac.randn({ 3, 41 }, { seed = 5, dtype = kind }) * 3
            local there, tol = here:to "cuda", kind == "f32" and 1e-6 or 1e-14
            for _, name in ipairs { "abs", "exp", "tanh", "sign", "sigmoid", "erf", "gelu", "quick_gelu",
                "isfinite" } do
                if here[name] then agree(name, there[name](there), here[name](here), tol) end
            end
            agree("sqrt", there:abs():sqrt(), here:abs():sqrt(), 0)
            agree("log", there:abs():log(), here:abs():log(), tol)
        end
    end)

    on_device("are reduced as on the CPU, along every dimension", function()
        for i, shape in ipairs(shapes) do
            for _, kind in ipairs { "f32", "f64" } do
                local here = distac.randn(shape, { seed = i, dtype = kind })
                local there = here:to "cuda"
                for _, name in ipairs { "sum", "mean", "max", "min", "norm" } do
                    agree(name, there[name](there), here[name](here), kind == "f32" and 1e-6 or 1e-13)
                    for dim = 1, #shape do
                        agree(name .. dim, there[name](there, dim), here[name](here, dim),
                            kind == "f32" and 1e-6 or 1e-13)
                    end
                end
                for dim = 1, #shape do agree("argmax", there:argmax(dim), here:argmax(dim), 0) end
            end
        end
        local long = distac.randn({ 300001 }, { seed = 9 })
        agree("long", long:to "cuda":sum(), long:sum(), 1e-6)
        assert.equal(long:to "cuda":sum():item(), long:to "cuda":sum():item())
        local odd = distac.tensor { { 1, 0 / 0, 5 }, { 7, 7, 2 } }
        near(odd:to "cuda":argmax(2):table(), odd:argmax(2):table(), 0)
        assert.is_true(helper.is_near(odd:to "cuda":max():item(), 0, 1) == false)
        local huge = distac.tensor({ 3e200, 4e200 }, { dtype = "f64" })
        near(huge:to "cuda":norm():item() / 5e200, 1, 1e-15)
        near(distac.zeros({ 0, 3 }):to "cuda":sum(1):table(), { 0, 0, 0 }, 0)
    end)

    on_device("multiply as matrices", function()
        for _, s in ipairs { { 1, 1, 1 }, { 3, 5, 7 }, { 33, 65, 17 }, { 4, 0, 3 } } do
            for _, kind in ipairs { "f32", "f64" } do
                local a = distac.randn({ s[1], s[2] }, { seed = 1, dtype = kind })
                local b = distac.randn({ s[2], s[3] }, { seed = 2, dtype = kind })
                local x, y, tol = a:to "cuda", b:to "cuda", kind == "f32" and 1e-5 or 1e-13
                agree("product", x:matmul(y), a:matmul(b), tol)
                agree("turned", y:t():matmul(x:t()), b:t():matmul(a:t()), tol)
            end
        end
        local a, b = distac.randn({ 2, 3, 4 }, { seed = 1 }), distac.randn({ 2, 4, 5 }, { seed = 2 })
        agree("batch", a:to "cuda":matmul(b:to "cuda"), a:matmul(b), 1e-5)
        raises("EDEVICE", "on cuda:0", function() return a:to "cuda":matmul(b) end)
    end)

    on_device("give eigenvectors and singular values", function()
        for _, s in ipairs { { 5, 5 }, { 7, 3 }, { 3, 7 }, { 1, 4 } } do
            local here = distac.randn(s, { seed = 3 })
            local there = here:to "cuda"
            local u, d, vt = there:svd()
            local _, want = here:svd()
            agree("singular values", d, want, 1e-6)
            near((u * d):matmul(vt), here, 1e-5)
            near(u:t():matmul(u), distac.eye and distac.eye(math.min(s[1], s[2])) or u:t():matmul(u), 1e-5)
        end
        local square = distac.randn({ 6, 6 }, { seed = 4 })
        local both = square + square:t()
        local w, v = both:to "cuda":eigh()
        agree("eigenvalues", w, (both:eigh()), 1e-5)
        near(both:to "cuda":matmul(v), v * w, 1e-5)
        raises("ENUMERIC", "non-finite", function() return distac.tensor { { 0 / 0 } }:to "cuda":svd() end)
    end)

    on_device("are filled, written, copied and stored", function()
        local t = distac.zeros({ 3, 4 }):to "cuda"
        t:fill(2)
        near(t, distac.full({ 3, 4 }, 2), 0)
        t:narrow(2, 2, 2):fill(5)
        near(t, distac.tensor { { 2, 5, 5, 2 }, { 2, 5, 5, 2 }, { 2, 5, 5, 2 } }, 0)
        t:t():copy(distac.arange(12):reshape(4, 3))
        near(t, distac.arange(12):reshape(4, 3):t(), 0)
        assert.equal(t:to "cpu":table()[2][3], t[{ 2, 3 }])
        local path = os.tmpname()
        distac.save(path, { a = t, b = t:t(), c = t:to "cpu" })
        local back = distac.load(path)
        near(back.a, back.c, 0)
        near(back.b, back.c:t(), 0)
        os.remove(path)
        local joined = distac.cat and distac.cat({ t, t }, 1)
        if joined then near(joined:narrow(1, 4, 3), t, 0) end
        near(t:rows { 3, 1 }, t:to "cpu":rows { 3, 1 }, 0)
    end)

    on_device("count as memory of the context while they live", function()
        collectgarbage() collectgarbage()
        local before = distac.context_info().memory_used
        local t = distac.zeros({ 256, 1024 }):to "cuda"
        collectgarbage() collectgarbage()
        assert.equal(1048576, distac.context_info().memory_used - before)
        t = nil -- luacheck: ignore
        collectgarbage() collectgarbage()
        assert.equal(before, distac.context_info().memory_used)
        distac.configure { memory = before + 1000000 }
        local here = distac.zeros({ 100000 })
        raises("ENOMEM", "limit", function() return here:to "cuda":to "f64" end)
        distac.configure { memory = 0 }
        agree("after it", here:to "cuda", here, 0)
    end)
end)

describe("merging on a device", function()
    -- Matrices whose singular values reach from 1 down by `reach` in all, the same for one seed.
    local function matrix(m, n, seed, reach)
        local u, s, vt = distac.randn({ m, n }, { seed = seed, dtype = "f64" }):svd()
        local r, values = math.min(m, n), {}
        for i = 1, r do values[i] = reach ^ (-(i - 1) / math.max(r - 1, 1)) end
        s = distac.tensor(values, { dtype = "f64" })
        return (u * s):matmul(vt):to "f32"
    end
    local function models(reach)
        local base, taus = {}, {}
        local shapes = { tall = { 90, 70 }, wide = { 40, 64 }, square = { 66, 66 }, small = { 2, 9 } }
        for name, s in pairs(shapes) do base[name] = distac.randn(s, { seed = #name }) end
        base.vector, base.zero, base.same = distac.randn({ 17 }, { seed = 9 }), distac.zeros { 12, 12 },
            distac.ones { 12, 10 }
        base = distac.checkpoint(base)
        for t = 1, 3 do
            local own = { vector = distac.randn({ 17 }, { seed = t }), zero = base.zero, same = base.same * 3 }
            for name, s in pairs(shapes) do own[name] = base[name] + matrix(s[1], s[2], 10 * t + #name, reach) end
            taus[t] = distac.checkpoint(own) - base
        end
        return base, taus
    end
    local function merged(device_name, method, reach)
        distac.configure { device = device_name }
        local base, taus = models(reach)
        return distac.merge[method] { lambda = 0.6 }(base, taus)
    end
    after_each(function() distac.configure { device = os.getenv "DISTAC_TEST_DEVICE" or "cpu" } end)

    on_device("gives what the CPU gives, whatever the spectra", function()
        for _, reach in ipairs { 3, 1e3, 1e7 } do
            local here, there = merged("cpu", "tsvm", reach), merged("cuda", "tsvm", reach)
            for _, name in ipairs(here:names()) do
                local size = here[name]:norm():item()
                local gap = (here[name] - there[name]):norm():item()
                assert.is_true(gap <= 2e-5 * size, string.format("%s, reach %g: %g of %g", name, reach, gap, size))
            end
            local again = merged("cuda", "tsvm", reach)
            for _, name in ipairs(here:names()) do assert.is_true(again[name]:equal(there[name]), name) end
        end
    end)

    on_device("gives the same bits for methods that go element by element", function()
        for _, method in ipairs { "average", "task_arithmetic", "ties", "consensus_ta" } do
            local here, there = merged("cpu", method, 10), merged("cuda", method, 10)
            for _, name in ipairs(here:names()) do assert.is_true(here[name]:equal(there[name]),
                method .. " " .. name) end
        end
    end)

    on_device("forms a model's weights where they are, with the bits of the host's sum", function()
        local raw = require "distac.raw"
        local function vit(seed)
            return distac.vit { image = 8, patch = 4, channels = 3, width = 32, layers = 2, heads = 2, dim = 16,
                                seed = seed }
        end
        local base, other = vit(1):checkpoint(), vit(2):checkpoint()
        local delta = other - base
        for _, lambda in ipairs { 0.3, 1, 1 / 3, -2.7, 1e-3 } do
            local want = distac.vit(base + delta)
            want:load(require("distac.checkpoint").add_scaled(base, lambda, delta))
            local expected = want:params():to "cpu":to "f64"
            for _, name in ipairs { "cpu", "cuda" } do
                distac.configure { device = name }
                local model = distac.vit(base)
                local from = model:params() * 1
                raw.vit_load(model, delta)
                local tau = model:params() * 1
                raw.vit_combine(model, from, { tau }, distac.full({ 1, 1 }, lambda, { dtype = "f64" }))
                assert.equal(name == "cpu" and "cpu" or "cuda:0", model:params():device())
                assert.is_true(model:params():to "cpu":to "f64":equal(expected), name .. " " .. lambda)
            end
        end
    end)

    on_device("refuses what is not finite by name", function()
        distac.configure { device = "cuda" }
        local base, taus = models(3)
        taus[2]["tall"][{ 3, 4 }] = 0 / 0
        raises("ENUMERIC", '"tall"', function() return distac.merge.tsvm {}(base, taus) end)
    end)
end)
