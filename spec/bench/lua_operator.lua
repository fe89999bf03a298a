-- A merge operator as a Lua loop beside the engine's own, the sum of task vectors: end to end from warm files to
-- a file, and a thread in memory.
--   luajit spec/bench/lua_operator.lua FOLDER OUT [THREADS [REPEATS]]
-- FOLDER holds base.safetensors and m1 … m8.safetensors.
-- Prints seconds and the share of the engine's speed, medians of REPEATS (5) rounds. LUA_PATH as for any script,
-- or distac spec/bench/lua_operator.lua with the program built for LuaJIT. The three files must be the same.
local distac = require "distac"
local folder, out, threads, repeats = arg[1], arg[2], tonumber(arg[3] or 2), tonumber(arg[4] or 5)
distac.configure { threads = threads }

local base, models = distac.load(folder .. "/base.safetensors"), {}
while distac.fs.kind(("%s/m%d.safetensors"):format(folder, #models + 1)) == "file" do
    models[#models + 1] = distac.load(("%s/m%d.safetensors"):format(folder, #models + 1))
end
local values = 0
for _, name in ipairs(base:names()) do values = values + base[name]:numel() end
print(("%d models of %.1f million values, %s, %d threads"):format(#models, values / 1e6,
    distac.runtime == "luajit" and (jit.status() and jit.version or jit.version .. " -joff") or _VERSION, threads))

-- Over tensors, filling the one that is given: t:data() is a typed pointer into each.
local function sum_into(sum, taus)
    local n, o = sum:numel(), sum:data()
    local a, b, c, d = taus[1]:data(), taus[2]:data(), taus[3]:data(), taus[4]:data()
    local e, f, g, h = taus[5]:data(), taus[6]:data(), taus[7]:data(), taus[8]:data()
    for i = 0, n - 1 do
        o[i] = a[i] + b[i] + c[i] + d[i] + e[i] + f[i] + g[i] + h[i]
    end
    return sum
end

local function over_data(_, taus) return sum_into(distac.zeros(taus[1]:shape()), taus) end

-- Over flat pieces of them that lie in the caches.
local function over_pieces(_, taus, _, sum) return sum_into(sum, taus) end

-- Over chunks that the engine reads ahead: pointers to doubles.
local function over_chunks(tau, sum, n)
    local a, b, c, d, e, f, g, h = tau[1], tau[2], tau[3], tau[4], tau[5], tau[6], tau[7], tau[8]
    for i = 1, n do
        sum[i] = a[i] + b[i] + c[i] + d[i] + e[i] + f[i] + g[i] + h[i]
    end
end

local own = distac.merge.task_arithmetic { lambda = 0.3 }
local data = distac.merge.custom(over_data, { lambda = 0.3 })
local chunks = distac.merge.elementwise(over_chunks, { lambda = 0.3 })

local pieces = distac.merge.custom(over_pieces, { lambda = 0.3, chunk = 8192 })

local function seconds(f)
    collectgarbage()
    local start = distac.clock()
    f()
    return distac.clock() - start
end

-- One after the other in each round, so that a slow spell of the machine is everybody's; after a first round
-- that warms the files. Prints medians of seconds and of the rounds' shares of the first one's speed.
local function compare(list)
    local shares, times = {}, {}
    for i = 1, #list do shares[i], times[i] = {}, {} end
    for round = 0, repeats do
        for i, entry in ipairs(list) do
            local took = seconds(entry[2])
            if round > 0 then
                times[i][round] = took
                shares[i][round] = times[1][round] / took
            end
        end
    end
    for i, entry in ipairs(list) do
        table.sort(times[i])
        table.sort(shares[i])
        local middle = math.floor(repeats / 2) + 1
        print(("%-44s %7.3f s   %3.0f %%"):format(entry[1], times[i][middle], 100 * shares[i][middle]))
    end
end

local function files(operator, name)
    return function() operator:files(base, models, out .. "/" .. name .. ".safetensors") end
end
compare {
    { "files to file, C", files(own, "c") }, { "files to file, Lua over t:data()", files(data, "data") },
    { "files to file, Lua over t:data() in pieces", files(pieces, "pieces") },
    { "files to file, Lua over chunks", files(chunks, "chunks") },
}
for _, name in ipairs { "data", "pieces", "chunks" } do
    local worst = 0
    local one, other = distac.load(out .. "/c.safetensors"), distac.load(("%s/%s.safetensors"):format(out, name))
    for _, tensor in ipairs(one:names()) do
        if one[tensor]:dtype() == "f32" then
            worst = math.max(worst, (one[tensor] - other[tensor]):abs():max():item())
        end
    end
    print(("   %s: differs from C's by at most %.2g"):format(name, worst))
    assert(worst < 1e-5)
end

-- In memory, a thread: the same sum over 8 vectors of 8 million values.
distac.configure { threads = 1 }
local taus = {}
for k = 1, 8 do taus[k] = distac.randn({ 8000000 }, { seed = k }) end
local named = {}
for k = 1, 8 do named[k] = require("distac.checkpoint").taskvector(distac.checkpoint { w = taus[k] }) end
local sum = distac.merge.task_arithmetic {}
compare {
    { "in memory, a thread, C", function() sum:delta(named) end },
    { "in memory, a thread, Lua over t:data()", function() over_data(nil, taus) end },
}
