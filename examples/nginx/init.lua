-- init.lua: opens the model once, in nginx's master process.
--
-- The engine makes its threads when it first needs them, so it may be opened before a fork. Here it needs none: a
-- request keeps one worker process busy, and the workers are the parallelism.
local ok, opened = pcall(function()
    require("distac").configure { threads = 1 }
    return require "classify"(os.getenv "MODEL", os.getenv "HEAD")
end)
if not ok then error(tostring(opened), 0) end -- nginx shows texts only, and errors of the engine are objects
classify = opened
collectgarbage("setpause", 110) -- requests leave a little garbage each: swept often rather than in waves
