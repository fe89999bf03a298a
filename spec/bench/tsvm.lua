-- Our side of tsvm.py: merges FOLDER/1.safetensors … N.safetensors, writes FOLDER/out.safetensors and prints the
-- seconds of the second merge (the first maps the files) and the most bytes it held at once.
--   distac spec/bench/tsvm.lua THREADS FOLDER N [PRECISION [wall | cpu]]
local distac, checkpoint = require "distac", require "distac.checkpoint"
local threads, folder, count, precision = tonumber(arg[1]), arg[2], tonumber(arg[3]), arg[4]
distac.configure { threads = threads }
local clock = arg[5] == "cpu" and os.clock or distac.clock
local taus = {}
for t = 1, count do
    taus[t] = checkpoint.taskvector(distac.load(("%s/%d.safetensors"):format(folder, t), { layout = "file" }))
end
local operator = distac.merge.tsvm(precision and precision ~= "" and { precision = precision } or {})
local seconds, merged
for _ = 1, 2 do
    local start = clock()
    merged = operator:delta(taus)
    seconds = clock() - start
end
distac.save(folder .. "/out.safetensors", merged)
print(("%.6f %.0f"):format(seconds, distac.context_info().memory_peak))
