-- distac.progress: what a run says on stderr while it works: one bar with rate and time left on a terminal, a
-- plain line every few seconds otherwise, nothing with --quiet. Inside a host program nothing is written: the host
-- asks (distac_script_get_progress) and draws what it likes.

local progress = {}
local Progress = {}
Progress.__index = Progress

local function clock() return require("distac").clock() end

local function is_terminal()
    local ok = os.execute("test -t 2")
    return ok == true or ok == 0
end

-- What a host program is told: host.progress(what, done, total), without arguments when a part has ended.
local Told = {}
Told.__index = Told
function Told.clear() end
function Told:note(text) if not self.quiet then print(text) end end
function Told:start(what, total, done)
    self.what, self.total, self.begun = what, total, clock()
    self.tell(what, done or 0, total)
end
function Told:update(done) if self.what then self.tell(self.what, done, self.total) end end
function Told:finish(detail)
    if not self.what then return end
    self.tell()
    self:note(self.what .. "  " .. progress.duration(clock() - self.begun) .. (detail and "  " .. detail or ""))
    self.what = nil
end

-- options.quiet: say nothing.
function progress.new(options)
    options = options or {}
    local host = package.preload["distac.host"] and require "distac.host"
    if host and host.progress then return setmetatable({ quiet = options.quiet, tell = host.progress }, Told) end
    return setmetatable({ quiet = options.quiet, out = io.stderr, every = 3, terminal = nil }, Progress)
end

local function duration(seconds)
    seconds = math.floor(seconds + 0.5)
    if seconds >= 3600 then
        return string.format("%dh%02dm", math.floor(seconds / 3600), math.floor(seconds % 3600 / 60))
    end
    if seconds >= 60 then return string.format("%dm%02ds", math.floor(seconds / 60), seconds % 60) end
    return string.format("%ds", seconds)
end
progress.duration = duration

function Progress:clear()
    if self.shown then
        self.out:write("\r\27[K")
        self.shown = false
    end
end

-- A line that stays.
function Progress:note(text)
    if self.quiet then return end
    self:clear()
    self.out:write(text, "\n")
    self.out:flush()
end

-- Begins something of total units; done of them were finished before (a continued training).
function Progress:start(what, total, done)
    self.what, self.total, self.first = what, total, done or 0
    self.begun = clock()
    self.last = self.begun
    if self.terminal == nil and not self.quiet then self.terminal = is_terminal() end
    if not self.quiet and self.first > 0 then
        self:note(string.format("%s: continuing at %d of %d", what, self.first, total))
    end
end

function Progress:update(done, detail)
    if self.quiet or not self.what then return end
    local now = clock()
    if now - self.last < (self.terminal and 0.1 or self.every) and done < self.total then return end
    if not self.terminal and done >= self.total then return end
    self.last = now
    local elapsed = now - self.begun
    local rate = elapsed > 0 and (done - self.first) / elapsed or 0
    local left = rate > 0 and duration((self.total - done) / rate) or "?"
    local share = self.total > 0 and done / self.total or 1
    local text = string.format("%s %d/%d  %.1f/s  %s left%s", self.what, done, self.total, rate, left,
        detail and "  " .. detail or "")
    if self.terminal then
        local width = 24
        local full = math.floor(share * width + 0.5)
        self.out:write("\r\27[K[", ("#"):rep(full), ("."):rep(width - full), "] ", text)
        self.shown = true
    else
        self.out:write(text, "\n")
    end
    self.out:flush()
end

-- Ends it; detail becomes a line that stays.
function Progress:finish(detail)
    if self.quiet or not self.what then return end
    self:note(self.what .. "  " .. duration(clock() - self.begun) .. (detail and "  " .. detail or ""))
    self.what = nil
end

return progress
