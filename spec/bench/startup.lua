-- How long it takes to begin: `distac -e ''` as a process, and require "distac" in a Lua that runs, on both
-- runtimes.
--   build/distac spec/bench/startup.lua BUILD [RUNS]
-- Medians of RUNS (21) in milliseconds. The time of require is that of a process which requires less one that does
-- not; in brackets the processor's time of require itself. Then the size of the engine's library without its
-- symbols.
local distac = require "distac"
local build, runs = arg[1] or "build", tonumber(arg[2] or 21)

local function median(list)
    table.sort(list)
    return list[math.floor(#list / 2) + 1]
end

-- Milliseconds of a command, and the numbers that it prints.
local function time(command)
    local seconds, said = {}, {}
    for i = 1, runs do
        local start = distac.clock()
        local pipe = io.popen(command)
        local text = pipe:read "*a"
        pipe:close()
        seconds[i] = 1000 * (distac.clock() - start)
        said[i] = tonumber(text) or 0
    end
    return median(seconds), median(said)
end

-- exec: without a shell between that would be timed too
local shell = time "exec true"
print(("%-34s %6.1f ms   at most 20"):format("distac -e ''", time("exec " .. build .. "/distac -e ''") - shell))
local here = io.popen("cd " .. build .. " && pwd"):read "*l"
for _, lua in ipairs { { "lua5.4", "5.4" }, { "luajit", "5.1" } } do
    local tree = here .. "/lua/" .. lua[2]
    local set = ("exec env LUA_PATH='%s/?.lua;%s/?/init.lua;;' LUA_CPATH='%s/?.so;;' %s -e "):format(tree, tree,
        tree, lua[1])
    local with, own = time(set .. [['local s = os.clock() require "distac" io.write((os.clock() - s) * 1000)']])
    local without = time(set .. [['local s = os.clock() io.write(s)']])
    print(("%-34s %6.1f ms   at most 10 (%.1f of the processor)"):format('require "distac", ' .. lua[1],
        with - without, own))
end
local copy = os.tmpname()
os.execute(("strip -o %s %s/libdistac.so"):format(copy, build))
print(("%-34s %6.2f MB   at most 3"):format("libdistac.so, stripped", distac.fs.bytes(copy) / 1e6))
os.remove(copy)
