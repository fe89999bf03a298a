-- The default context: device, threads, memory limit and seed that everything in Lua uses, opened at first use.
local raw = require "distac.raw"
local check = require "distac.check"
local errors = require "distac.error"

local M = {}

local wish = {} -- what configure was told
local current   -- the context, once opened
local draws = 0 -- random tensors made without a seed so far

local UNITS = {
    [""] = 1, b = 1, k = 1e3, kb = 1e3, m = 1e6, mb = 1e6, g = 1e9, gb = 1e9, t = 1e12, tb = 1e12,
    kib = 1024, mib = 1024 * 1024, gib = 1024 * 1024 * 1024, tib = 1024 * 1024 * 1024 * 1024,
}

-- Bytes of 512, "512MB", "1.5GiB".
function M.bytes(fname, arg, v)
    if type(v) == "number" then
        return check.integer(fname, arg, v, 0)
    end
    local number, unit = tostring(v):match("^%s*(%d+%.?%d*)%s*(%a*)%s*$")
    local factor = number and UNITS[unit:lower()]
    if type(v) ~= "string" or not factor then
        check.wanted(fname, arg, 'a size such as 1000000, "512MB" or "1GiB"', v)
    end
    return math.floor(tonumber(number) * factor)
end

local function open()
    current = raw.context_create {
        threads = wish.threads or 0, memory_limit = wish.memory or 0, seed = wish.seed or 0,
        device = wish.device, kernels = wish.kernels, products = wish.products,
    }
    return current
end

-- The engine's context, a handle for distac.raw; made with the settings of distac.configure when first asked for.
function M.get()
    return current or open()
end

-- configure{threads=, device=, seed=, memory=, kernels=, products=}: before or after the first use. A new device,
-- new kernels or other products open a new context; what was made before stays on the old one.
function M.configure(options)
    local fname = "distac.configure"
    local o = check.options(fname, options, {
        threads = { "integer", min = 0, max = 4096 }, device = { "string" }, seed = { "integer", min = 0 },
        memory = { "any" }, kernels = { "choice", list = { "auto", "scalar", "avx2", "avx512" } },
        products = { "choice", list = { "f32", "tf32", "bf16" } },
    })
    if o.memory ~= nil then
        o.memory = M.bytes(fname, "memory", o.memory)
    end
    local reopen = (o.device and o.device ~= (wish.device or "cpu"))
        or (o.kernels and o.kernels ~= (wish.kernels or "auto"))
        or (o.products and o.products ~= (wish.products or "f32"))
    local old_wish, old = {}, current
    for _, key in ipairs { "threads", "device", "seed", "memory", "kernels", "products" } do
        old_wish[key] = wish[key]
        if o[key] ~= nil then
            wish[key] = o[key]
        end
    end
    if o.seed ~= nil then
        draws = 0
    end
    if not current then
        return
    end
    local ok, err
    if reopen then
        ok, err = pcall(open)
    else
        ok, err = pcall(function()
            if o.threads then
                raw.context_set_threads(current, o.threads)
            end
            if o.memory then
                raw.context_set_memory_limit(current, o.memory)
            end
        end)
    end
    if not ok then
        wish, current = old_wish, old
        error(err, 0)
    end
end

-- What the context is: { threads =, device =, kernels =, products =, memory_limit =, memory_used =, memory_peak =,
-- seed = }.
function M.info()
    local info = raw.context_get_info(M.get())
    info.seed = wish.seed or 0
    return info
end

-- Sets memory_peak of context_info() to what is held now.
function M.reset_peak()
    raw.context_reset_peak(M.get())
end

function M.seed()
    return wish.seed or 0
end

-- A fresh stream for a random tensor that was given no seed: calls differ, runs repeat.
function M.next_stream()
    draws = draws + 1
    return draws
end

local EVENT_KINDS = { [0] = "progress", [1] = "note", [2] = "warning" }

-- How many streams were taken so far; draws(n) says how many were, so that a repetition draws the same.
function M.draws(n)
    if n ~= nil then
        draws = check.integer("draws", "n", n, 0)
    end
    return draws
end

-- Iterator over the waiting events: { kind =, done =, total =, what = }.
function M.events()
    local context = M.get()
    return function()
        local got, event = raw.event_next(context)
        if got == 0 then
            return nil
        end
        return { kind = EVENT_KINDS[event.kind], done = event.done, total = event.total, what = event.what }
    end
end

-- Makes running and later work fail with ECANCELED, from a hook or another thread's callback, until
-- cancel_clear().
function M.cancel()
    raw.cancel(M.get())
end

-- Was cancel() called?
function M.cancelled()
    return raw.cancelled(M.get()) ~= 0
end

-- Forgets a cancel().
function M.cancel_clear()
    raw.cancel_clear(M.get())
end

local Device = { __name = "Device" }

function Device.__tostring(d)
    return string.format("Device %s: %s", d.name, d.text)
end

-- { { name =, text =, memory =, units = }, ... }
function M.devices()
    local list = {}
    for i = 1, raw.device_count() do
        list[i] = setmetatable(raw.device_get_info(i - 1), Device)
    end
    if #list == 0 then
        errors.raise("EDEVICE", "distac.devices: the engine lists no device")
    end
    return list
end

return M
