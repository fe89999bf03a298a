-- distac.repl.job: the process of a background job: runs one recipe, tells its progress over the socket, and
-- answers what the prompt asks between two steps.

local json = require "distac.json"
local terminal = require "distac.terminal"

local job = {}

local rest, paused, cancelled = "", false, false

local function tell(message)
    terminal.send(terminal.channel, json.encode(message, { nonfinite = "null" }) .. "\n")
end

-- The next message from the prompt, or nil; a prompt that has gone is as good as a cancel.
local function hear(milliseconds)
    local line, after = rest:match "^([^\n]*)\n(.*)$"
    if not line then
        local text = terminal.receive(terminal.channel, milliseconds)
        if text == nil then return { command = "cancel" } end
        rest = rest .. text
        line, after = rest:match "^([^\n]*)\n(.*)$"
    end
    if not line then return nil end
    rest = after
    local ok, message = pcall(json.decode, line)
    return ok and type(message) == "table" and message or nil
end

-- What the model in training does on validation data.
local function probe(now)
    local t = now.training
    if not t or not t.probe then return { event = "answer", what = now.what or "starting" } end
    local ok, point = pcall(t.probe)
    if not ok then return { event = "answer", problem = tostring(point) } end
    point.event, point.what, point.step = "answer", now.what, now.done
    return point
end

-- Does what the prompt asks; in a pause, until it is over.
local function serve(now)
    repeat
        local message = hear(paused and 200 or 0)
        while message do
            if message.command == "pause" and not paused then
                paused = true
                tell { event = "progress", what = now.what, done = now.done, total = now.total }
                tell { event = "state", state = "paused" }
            elseif message.command == "resume" then
                paused = false
                tell { event = "state", state = "running" }
            elseif message.command == "probe" then
                tell(probe(now))
            elseif message.command == "cancel" and not cancelled then
                cancelled, paused = true, false
                require("distac").cancel()
            end
            message = not cancelled and hear(0) or nil
        end
    until not paused or require("distac").cancelled()
end

-- A distac.progress that reports to the prompt.
local function reporter()
    local now = { done = 0, total = 0, sent = -1 }
    local function clock() return require("distac").clock() end
    function now:clear() self.training = nil end
    function now:note(text) io.stdout:write(text, "\n") end
    function now:start(what, total, done)
        self.what, self.total, self.done, self.sent, self.training = what, total, done or 0, -1, nil
        self:update(self.done)
    end
    function now:update(done)
        self.done = done
        if not self.what then return end
        if clock() - self.sent >= 0.1 or done >= self.total then
            self.sent = clock()
            tell { event = "progress", what = self.what, done = done, total = self.total }
        end
        serve(self)
    end
    function now:finish(text)
        self:note((self.what or "") .. "  " .. (text or ""))
        self.what, self.training = nil, nil
    end
    return now
end

-- Runs what the first message on the socket says.
function job.run()
    terminal.gentle() -- Ctrl-C of ours ends steps, so that the state is saved
    local order
    repeat order = hear(1000) until order
    if order.command then return end
    local distac = require "distac"
    local now = reporter()
    require("distac.progress").new = function() return now end
    local ok, err = pcall(function()
        if order.device and order.device ~= "cpu" then distac.configure { device = order.device } end
        local sets = order.seed and { { path = "seed", text = json.number(order.seed), label = "seed" } } or nil
        local recipe, mistakes = require("distac.recipe").load(order.recipe, sets)
        if not recipe then error(mistakes, 0) end
        local results = require("distac.runner").run(recipe, { out = order.out })
        local text = require("distac.report").table(results)
        io.stdout:write(text, "\n")
        tell { event = "end", state = "finished" }
    end)
    if ok then return end
    local code = type(err) == "table" and err.code
    local message = type(err) == "table" and err.message or tostring(err)
    io.stdout:write(tostring(message), "\n")
    tell { event = "end", state = code == "ECANCELED" and "cancelled" or "failed", message = message }
end

return job
