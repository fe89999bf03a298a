-- What the specs share: comparisons that fail on NaN, error checks, a leak check, temporary files, and the tiny
-- model of the worked numbers.
local distac = require "distac"

local helper = {}

-- The lanes of devices run the same specs with models and training there.
if os.getenv "DISTAC_TEST_DEVICE" then
    distac.configure { device = os.getenv "DISTAC_TEST_DEVICE" }
end

local function text_of(v)
    return type(v) == "number" and distac.format.number(v) or tostring(v)
end

-- Where and how two nested values differ by more than tol (absolute plus relative), nil if they agree. NaN never
-- does.
local function difference(actual, expected, tol, path)
    if type(expected) == "table" then
        if type(actual) ~= "table" then
            return path .. ": a table is wanted, got " .. text_of(actual)
        end
        if #actual ~= #expected then
            return path .. ": " .. #expected .. " items are wanted, got " .. #actual
        end
        for i = 1, #expected do
            local d = difference(actual[i], expected[i], tol, path .. "[" .. i .. "]")
            if d then
                return d
            end
        end
        return nil
    end
    if type(actual) ~= "number" or type(expected) ~= "number" then
        return path .. ": a number is wanted, got " .. text_of(actual)
    end
    local gap = math.abs(actual - expected)
    if gap <= tol * math.max(1, math.abs(expected)) then
        return nil
    end
    return string.format("%s: %.12g is wanted within %g, got %.12g", path, expected, tol, actual)
end

local function plain(v)
    if distac.type(v) == "tensor" then
        return v:table()
    end
    return v
end

-- Are numbers, lists or tensors equal within tol * max(1, |expected|)?
function helper.is_near(actual, expected, tol)
    assert(type(tol) == "number" and tol >= 0, "is_near wants a tolerance")
    return difference(plain(actual), plain(expected), tol, "value") == nil
end

function helper.near(actual, expected, tol)
    assert(type(tol) == "number" and tol >= 0, "near wants a tolerance")
    local d = difference(plain(actual), plain(expected), tol, "value")
    if d then
        error(d, 2)
    end
end

-- Same shape, type and elements, bit for bit as far as numbers can tell.
function helper.same(a, b)
    if not (a:dtype() == b:dtype() and a:equal(b)) then
        error("the tensors differ:\n" .. tostring(a) .. "\n" .. tostring(b), 2)
    end
end

-- f must raise an error object of this code whose message holds all the texts.
function helper.raises(code, texts, f, ...)
    local ok, err = pcall(f, ...)
    if ok then
        error("an error " .. code .. " is wanted, nothing was raised", 2)
    end
    if type(err) ~= "table" or type(err.message) ~= "string" then
        error("an error object is wanted, got " .. tostring(err), 2)
    end
    if err.code ~= code then
        error("the code " .. code .. " is wanted, got " .. tostring(err.code) .. ": " .. err.message, 2)
    end
    for _, text in ipairs(type(texts) == "table" and texts or { texts }) do
        if not err.message:find(text, 1, true) then
            error(string.format("%q is wanted in the message, got: %s", text, err.message), 2)
        end
    end
    return err
end

local function settle()
    if jit then
        jit.flush() -- compiled traces keep the objects that they were recorded with
    end
    for _ = 1, 4 do
        collectgarbage "collect"
    end
    return distac.context_info().memory_used
end

-- On a stack of its own: a dead value in an unused slot of a live stack would still count as used.
local function apart(f)
    coroutine.wrap(function() f() end)()
end

-- f must leave no tensor memory behind.
function helper.no_leak(f)
    apart(f) -- what is made once and kept (workspaces) is made here
    local before = settle()
    apart(f)
    local after = settle()
    if after > before then
        error(string.format("%.0f bytes are still held", after - before), 2)
    end
end

-- Why there is no device, for `pending`; nil where there is one (the lane cuda-emulated of spec/run.sh has one).
function helper.no_device()
    if #distac.devices() > 1 then return nil end
    local _, why = pcall(function() return distac.zeros { 1 }:to "cuda" end)
    return tostring(why.message)
end

local folder
-- A path in a fresh folder of this run.
function helper.path(name)
    if not folder then
        folder = os.tmpname()
        os.remove(folder)
        folder = folder .. ".distac"
        distac.fs.make(folder)
    end
    return folder .. "/" .. name
end

-- The tiny ViT of the worked numbers: parameter k (counted over all tensors in this order) is
-- scale * wave(step * k), plus 1 for LayerNorm weights where asked.
function helper.tiny_checkpoint(scale, step, wave, unit)
    local order = {}
    local function add(name, shape, is_norm)
        order[#order + 1] = { name = "visual." .. name, shape = shape, norm = is_norm }
    end
    local function norm(name)
        add(name .. ".weight", { 4 }, true)
        add(name .. ".bias", { 4 })
    end
    add("class_embedding", { 4 })
    add("positional_embedding", { 5, 4 })
    add("proj", { 4, 3 })
    add("conv1.weight", { 4, 3, 2, 2 })
    norm "ln_pre"
    for layer = 0, 1 do
        local block = "transformer.resblocks." .. layer .. "."
        norm(block .. "ln_1")
        add(block .. "attn.in_proj_weight", { 12, 4 })
        add(block .. "attn.in_proj_bias", { 12 })
        add(block .. "attn.out_proj.weight", { 4, 4 })
        add(block .. "attn.out_proj.bias", { 4 })
        norm(block .. "ln_2")
        add(block .. "mlp.c_fc.weight", { 16, 4 })
        add(block .. "mlp.c_fc.bias", { 16 })
        add(block .. "mlp.c_proj.weight", { 4, 16 })
        add(block .. "mlp.c_proj.bias", { 4 })
    end
    norm "ln_post"
    local tensors, k = {}, 0
    for _, entry in ipairs(order) do
        local n, values = 1, {}
        for _, size in ipairs(entry.shape) do
            n = n * size
        end
        for i = 1, n do
            k = k + 1
            values[i] = scale * wave(step * k) + (unit and entry.norm and 1 or 0)
        end
        tensors[entry.name] = distac.tensor(values, { dtype = "f64" }):reshape(entry.shape)
    end
    return distac.checkpoint(tensors)
end

-- The model of section "golden mini-ViT" in f64, its images and its head.
function helper.tiny(options)
    options = options or {}
    local base = helper.tiny_checkpoint(0.5, 0.37, math.sin, true)
    local model = distac.vit(base, { activation = options.activation or "quick_gelu", heads = 2, dtype = "f64" })
    local images = distac.zeros({ 2, 3, 4, 4 }, { dtype = "f64" })
    local values = {}
    for b = 0, 1 do
        for c = 0, 2 do
            for h = 0, 3 do
                for w = 0, 3 do
                    values[#values + 1] = math.cos(0.11 * (16 * c + 4 * h + w) + 0.7 * b)
                end
            end
        end
    end
    images:copy(distac.tensor(values, { dtype = "f64" }):reshape(2, 3, 4, 4))
    local weight = {}
    for c = 0, 2 do
        weight[c + 1] = {}
        for j = 0, 2 do
            weight[c + 1][j + 1] = 5 * math.sin(0.9 * (3 * c + j + 1))
        end
    end
    return {
        base = base, model = model, images = images, labels = distac.tensor({ 1, 2 }, { dtype = "i64" }),
        head = distac.head(distac.tensor(weight, { dtype = "f64" })),
    }
end

return helper
