-- distac.repl.jobs: recipes that run beside the prompt.
--
-- A job is this program again, in a process of its own, not a thread: contexts and Lua states of two threads would
-- not meet either, but a process cannot take the prompt down with it (memory, a crash), has its own Ctrl-C and its
-- own working memory to give back at once, and leaves the interpreter of the prompt free to work. It talks over a
-- socket in lines of JSON; when the prompt's side goes, the job saves what it has and ends.

local json = require "distac.json"
local terminal = require "distac.terminal"

local jobs = {}
local all = {}

local Job = { __name = "Job" }
Job.__index = Job

local function engine() return require "distac" end

-- ---- the recipe as a file -------------------------------------------------------------------------------

local function quote(text) return (string.format("%q", text):gsub("\\\n", "\\n")) end

local write

local function write_table(v, path)
    local out, n = {}, #v
    for i = 1, n do out[i] = write(v[i], path .. "[" .. i .. "]") end
    local keys = {}
    for key in pairs(v) do
        if not (type(key) == "number" and key >= 1 and key <= n) then keys[#keys + 1] = key end
    end
    table.sort(keys, function(a, b) return tostring(a) < tostring(b) end)
    for _, key in ipairs(keys) do
        local name = type(key) == "string" and "[" .. quote(key) .. "]" or "[" .. tostring(key) .. "]"
        out[#out + 1] = name .. " = " .. write(v[key], path .. (path ~= "" and "." or "") .. tostring(key))
    end
    return "{ " .. table.concat(out, ", ") .. " }"
end

-- A value of a recipe as Lua text.
function write(v, path)
    local kind = type(v)
    if kind == "number" then
        if v ~= v or v == math.huge or v == -math.huge then return v ~= v and "0/0" or v > 0 and "1/0"
            or "-1/0" end
        return string.format("%.17g", v)
    elseif kind == "string" then
        return quote(v)
    elseif kind == "boolean" then
        return tostring(v)
    elseif kind == "table" then
        local parts = require "distac.parts"
        if parts.is(v) then
            local args = {}
            for i = 1, v.args.n do args[i] = write(v.args[i], path) end
            local name = (v.part == "loss" or v.part == "merge") and v.part .. "." .. v.kind
                or v.part == "suite" and "folder_suite" or v.part
            return "distac." .. name .. "(" .. table.concat(args, ", ") .. ")"
        end
        local meta = getmetatable(v)
        if meta == nil then return write_table(v, path) end
        if rawget(v, "options") and rawget(v, "name") and rawget(v, "desc") then -- a Loss
            return "distac.loss." .. v.name .. "(" .. write(v.options, path) .. ")"
        elseif rawget(v, "method") and rawget(v, "values") and not rawget(v, "fn") then -- a MergeOperator
            return "distac.merge." .. v.method .. "(" .. write(v.values, path) .. ")"
        end
    end
    error(string.format("start: %s holds a %s, which another process cannot be given; write the recipe to a file "
        .. 'and use start "FILE.lua"', path, kind), 0)
end

-- The recipe's file: its own, or one written beside the job's log.
local function file_of(recipe, folder)
    local fs = engine().fs
    if type(recipe) == "string" then
        local shipped = engine().paths.recipes .. "/" .. recipe .. ".lua"
        local path = fs.kind(recipe) ~= "file" and fs.kind(shipped) == "file" and shipped or recipe
        local loaded, mistakes = require("distac.recipe").load(path)
        if not loaded then error(tostring(mistakes), 0) end
        return path, loaded
    end
    if not require("distac.recipe").is(recipe) then
        error("start: wanted a Recipe (distac.recipe { ... }) or the name of its file, got a " .. type(recipe), 0)
    end
    if recipe.text and recipe.file and fs.kind(recipe.file) == "file" then return recipe.file, recipe end
    local path = folder .. "/recipe.lua"
    fs.write(path, 'local distac = require "distac"\nreturn distac.recipe ' .. write(recipe.raw, "") .. "\n")
    return path, recipe
end

-- ---- jobs -----------------------------------------------------------------------------------------------

-- start(recipe, options): see distac.repl.commands.
function jobs.start(recipe, options)
    options = options or {}
    local distac = engine()
    local number = #all + 1
    local temporary = os.tmpname()
    os.remove(temporary)
    distac.fs.make(temporary)
    local path, loaded = file_of(recipe, temporary)
    local self = setmetatable({ number = number, name = loaded.values.name, state = "starting", done = 0,
        total = 0,
                                what = "starting", answers = {}, rest = "", log_file = temporary .. "/log",
                                out = options.out or "runs/" .. loaded.values.name }, Job)
    local process, socket = terminal.spawn({ "-e", 'require("distac.repl.job").run()' }, self.log_file)
    if not process then error("start: " .. tostring(socket), 0) end
    self.process, self.socket = process, socket
    local info = distac.context_info()
    self:tell { recipe = path, out = options.out, device = info.device, seed = options.seed }
    all[number] = self
    return self
end

function jobs.list()
    jobs.update()
    local list = {}
    for i, job in ipairs(all) do list[i] = job end
    return list
end

-- Sends the job's process a message.
function Job:tell(message)
    if self.socket then terminal.send(self.socket, json.encode(message) .. "\n") end
end

-- Takes one message of the job in.
function Job:heard(message)
    if message.event == "progress" then
        self.what, self.done, self.total = message.what, message.done, message.total
        if self.state == "starting" then self.state = "running" end
    elseif message.event == "state" then
        self.state = message.state
    elseif message.event == "answer" then
        self.answers[#self.answers + 1] = message
    elseif message.event == "end" then
        self.ended, self.message, self.table_text = message.state, message.message, message.text
    end
end

-- Takes in what the process has said; waits for it up to so many milliseconds.
function Job:listen(milliseconds)
    if not self.socket then return end
    local text = terminal.receive(self.socket, milliseconds or 0)
    while text and text ~= "" do
        self.rest = self.rest .. text
        for line in self.rest:gmatch "([^\n]*)\n" do
            local ok, message = pcall(json.decode, line)
            if ok and type(message) == "table" then self:heard(message) end
        end
        self.rest = self.rest:match "[^\n]*$"
        text = terminal.receive(self.socket, 0)
    end
    if text == nil then
        terminal.close_socket(self.socket)
        self.socket = nil
    end
    if not self.socket then
        local status
        for _ = 1, 100 do
            status = terminal.finished(self.process)
            if status then break end
            terminal.sleep(0.02)
        end
        self.process = nil
        self.state = self.ended or "failed"
        if not self.ended then
            self.message = "the process ended with status " .. tostring(status) .. "; its last words: "
                .. (self:log():sub(-400))
        end
    end
end

function jobs.update()
    for _, job in ipairs(all) do job:listen(0) end
end

-- "starting", "running", "paused", "finished", "cancelled" or "failed".
function Job:status()
    self:listen(0)
    return self.state
end

-- Does the job's process still run?
function Job:alive() return self.socket ~= nil end

local function ask(self, message, name)
    self:listen(0)
    if not self.socket then error(string.format("Job:%s: job %d is %s", name, self.number, self.state), 3) end
    self:tell(message)
end

-- Holds the job after its present step, until resume. Its memory stays; a probe is answered all the same.
function Job:pause()
    ask(self, { command = "pause" }, "pause")
    while self.socket and self.state ~= "paused" do self:listen(100) end
    return self
end

-- Lets a paused job go on.
function Job:resume()
    ask(self, { command = "resume" }, "resume")
    while self.socket and self.state == "paused" do self:listen(100) end
    return self
end

-- How good the model in training is now: its accuracy on the task's validation data, as a table { task =, step =,
-- accuracy =, entropy =, ece = }. Waits for the present step and the evaluation. Between trainings there is
-- nothing to ask: { what = } tells what the job does.
function Job:probe()
    ask(self, { command = "probe" }, "probe")
    local before = #self.answers
    while self.socket and #self.answers == before do self:listen(100) end
    local answer = self.answers[#self.answers]
    if #self.answers == before then
        error(string.format("Job:probe: job %d has ended: %s", self.number, self.state), 2)
    end
    if answer.problem then error("Job:probe: " .. answer.problem, 2) end
    local out = {}
    for key, value in pairs(answer) do
        if key ~= "event" and value ~= json.null then out[key] = value end
    end
    return out
end

-- Ends the job; what it has reached is saved, and the same recipe goes on from there. Waits until it has.
function Job:cancel()
    self:listen(0)
    if not self.socket then return self end
    self:tell { command = "cancel" }
    terminal.signal(self.process, "INT")
    return self:wait()
end

-- Waits for the end (or so many seconds) and returns the job. Ctrl-C ends the waiting, not the job.
function Job:wait(seconds)
    local distac = engine()
    local begun = distac.clock()
    while self.socket and not (seconds and distac.clock() - begun > seconds) do self:listen(100) end
    return self
end

-- The results of a finished job: what results.json holds.
function Job:results()
    if self:status() ~= "finished" then
        error(string.format("Job:results: job %d is %s%s", self.number, self.state,
            self.message and ": " .. self.message
            or ""), 2)
    end
    return json.decode(engine().fs.read(self.out .. "/results.json"))
end

-- Everything the job has said, as text.
function Job:log()
    local file = io.open(self.log_file, "r")
    local text = file and file:read "*a" or ""
    if file then file:close() end
    return text
end

function Job.__tostring(self)
    pcall(self.listen, self, 0)
    local text = string.format("Job %d %s: %s", self.number, self.name, self.state)
    if self.socket and self.total > 0 then
        text = text .. string.format(", %s %d/%d", self.what, self.done, self.total)
    elseif self.state == "finished" then
        text = text .. ", results in " .. self.out
    elseif self.message then
        text = text .. ", " .. self.message
    end
    return text
end

-- What the prompt says of jobs: those that run, and once of each that has ended.
function jobs.prompt()
    local words = {}
    for _, job in ipairs(all) do
        job:listen(0)
        if job.socket then
            local share = job.total > 0 and string.format(" %d%%", math.floor(100 * job.done / job.total)) or ""
            local what = #job.what > 32 and job.what:sub(1, 31) .. "." or job.what
            words[#words + 1] = string.format("%d %s%s%s", job.number, what, share,
                job.state == "paused" and " paused" or "")
        elseif not job.told then
            job.told = true
            words[#words + 1] = string.format("%d %s", job.number, job.state)
        end
    end
    return #words > 0 and "[" .. table.concat(words, ", ") .. "] " or ""
end

-- At the prompt's end: every job saves what it has and ends.
function jobs.finish()
    local waiting = {}
    for _, job in ipairs(all) do
        job:listen(0)
        if job.socket then
            waiting[#waiting + 1] = job
            job:tell { command = "cancel" }
            terminal.signal(job.process, "INT")
        end
    end
    for _, job in ipairs(waiting) do
        job:wait(60)
        if job.socket then
            terminal.signal(job.process, "KILL")
            job:wait(5)
        end
        io.stderr:write(string.format("job %d %s: %s%s\n", job.number, job.name, job.state,
            job.state == "cancelled" and "; its state is saved, the same recipe continues" or ""))
    end
end

return jobs
