-- Our side of merge_peers.py, in memory: task vectors of FOLDER's models lie in memory, merged with the base into
-- a model that lies in memory. One line of JSON per method.   distac spec/bench/merge_memory.lua THREADS FOLDER N
-- REPS [model|change [METHOD ...]] Without REPS, "-": methods are read from the input, one a line, merged once
-- each, and the seconds printed, to measure in turn.
local distac, checkpoint = require "distac", require "distac.checkpoint"
local threads, folder, count, reps = tonumber(arg[1]), arg[2], tonumber(arg[3]), tonumber(arg[4])
distac.configure { threads = threads }
-- Loaded files are mapped: a difference is memory.
local base = distac.load(folder .. "/base.safetensors", { layout = "file" })
local taus = {}
for t = 1, count do
    taus[t] = distac.load(("%s/m%d.safetensors"):format(folder, t), { layout = "file" }) - base
end
local methods, what = { select(6, table.unpack(arg)) }, arg[5] or "model"
if #methods == 0 then methods = { "task_arithmetic", "consensus_ta", "ties" } end
local function once(name)
    collectgarbage()
    local operator = distac.merge[name] { lambda = 1 }
    local start = distac.clock()
    local merged = what == "change" and operator:delta(taus) or operator(base, taus)
    return ("%.4f"):format(distac.clock() - start), merged
end
if not reps then
    print("ready")
    io.stdout:flush()
    for name in io.lines() do
        print((once(name)))
        io.stdout:flush()
    end
    return
end
for _, name in ipairs(methods) do
    local seconds = {}
    for i = 1, reps do seconds[i] = once(name) end
    print(('{"tool": "distac %s", "method": "%s", "where": "memory", "seconds": [%s], "threads": %d}'):format(
        distac.version, name, table.concat(seconds, ", "), threads))
end
