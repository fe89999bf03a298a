-- Our side of merge_peers.py, in memory: task vectors of FOLDER's models lie in memory, merged with the base into a model that
-- lies in memory. One line of JSON per method.   distac spec/bench/merge_memory.lua THREADS FOLDER N REPS [model|change [METHOD ...]]
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
for _, name in ipairs(methods) do
    local operator, seconds = distac.merge[name] { lambda = 1 }, {}
    for i = 1, reps do
        collectgarbage()
        local start = distac.clock()
        local merged = what == "change" and operator:delta(taus) or operator(base, taus)
        seconds[i] = ("%.4f"):format(distac.clock() - start)
        merged = nil
    end
    print(('{"tool": "distac %s", "method": "%s", "where": "memory", "seconds": [%s], "threads": %d}'):format(
        distac.version, name, table.concat(seconds, ", "), threads))
end
