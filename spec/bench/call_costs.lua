-- What a call costs: nanoseconds of small calls through the bindings and of a loop's step per element.
--   lua5.4 spec/bench/call_costs.lua [MARKDOWN]     and with luajit, and luajit -joff; LUA_PATH as for any script
-- The smallest of several rounds of each; with MARKDOWN a column of the table in the documentation.
local distac = require "distac"
local raw = require "distac.raw"
distac.configure { threads = 1 }
local markdown = arg[1] ~= nil

local t = distac.randn({ 4, 4 }, { seed = 1 })
local n = 1000000
local long = distac.randn({ n }, { seed = 2 })
local one = distac.randn({ 4 }, { seed = 3 })
local compiled = rawget(_G, "jit") and jit.status()

-- Seconds of f(count), a loop of its own in each function, so that each is compiled by itself.
local function cost(f, count)
    local least = math.huge
    for _ = 1, 7 do
        collectgarbage()
        collectgarbage "stop"
        local start = distac.clock()
        f(count)
        least = math.min(least, distac.clock() - start)
        collectgarbage "restart"
    end
    return least / count * 1e9
end

local rows = {
    { "raw.tensor_rank(t), the plainest call", function(k) for _ = 1, k do raw.tensor_rank(t) end end, 100000 },
    { "t:numel()", function(k) for _ = 1, k do t:numel() end end, 100000 },
    { "t:shape()", function(k) for _ = 1, k do t:shape() end end, 50000 },
    { "t:norm():item() of 4 x 4", function(k) for _ = 1, k do t:norm():item() end end, 10000 },
    { "one + one, of 4", function(k) for _ = 1, k do distac.release(one + one) end end, 10000 },
    { "t[{2, 3}]", function(k) for _ = 1, k do local _ = t[{ 2, 3 }] end end, 10000 },
    { "t[{2, 3}] = 1", function(k) for _ = 1, k do t[{ 2, 3 }] = 1 end end, 10000 },
    { "t:data()", raw.runtime == "luajit" and function(k) for _ = 1, k do t:data() end end, 100000 },
    { "sum over t:data(), an element", raw.runtime == "luajit" and function(k)
        local p, s = long:data(), 0
        for i = 0, k - 1 do s = s + p[i] end
        return s
    end, n },
    { "y = 2 x + y over t:data(), an element", raw.runtime == "luajit" and function(k)
        local x, y = long:data(), long:data()
        for i = 0, k - 1 do y[i] = 2 * x[i] + y[i] end
    end, n },
    { "sum over t:table(), an element", function(k)
        local values, s = long:table(), 0
        for i = 1, k do s = s + values[i] end
        return s
    end, n },
    { "t:sum(), an element", function() distac.release(long:sum()) end, n },
}

if not markdown then
    print((compiled and jit.version or rawget(_G, "jit") and jit.version .. " -joff" or _VERSION) .. ", ns")
end
for _, row in ipairs(rows) do
    local value = row[2] and cost(row[2], row[3])
    local text = not value and "-" or value < 10 and ("%.2f"):format(value) or ("%.0f"):format(value)
    print(markdown and text or ("%-44s %9s"):format(row[1], text))
end
