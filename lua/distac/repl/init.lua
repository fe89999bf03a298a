-- distac.repl: the prompt. Reads statements through distac.terminal (the program's C side: line editing, Ctrl-C),
-- runs them, prints what they return. The same on a terminal and through a pipe, where nothing prompts.

local chunk = require "distac.repl.chunk"
local session = require "distac.repl.session"

local repl = {}

local SLOW = 0.5 -- seconds from which a line's time is told
local unpack = table.unpack or unpack

local function pack(...) return { n = select("#", ...), ... } end

local terminal
local on_terminal = false

local function clock() return require("distac.raw").clock() end

local function tell(text)
    io.stdout:flush()
    io.stderr:write(text, "\n")
    io.stderr:flush()
end

local function dim(text) return on_terminal and "\27[2m" .. text .. "\27[0m" or text end

local function global_names()
    local names = { "distac" }
    for name in next, _G do
        if type(name) == "string" and not name:find "^__" then names[#names + 1] = name end
    end
    table.sort(names)
    return names
end

-- Unknown names are errors where they were typed; libraries may look for what is not there.
local function unknown(_, name)
    if name == "distac" then
        local distac = require "distac"
        rawset(_G, "distac", distac)
        return distac
    end
    local who = debug.getinfo(2, "S")
    if not who or who.source ~= "=stdin" or type(name) ~= "string" then return nil end
    local near = require "distac.nearest"(name, global_names())
    if not near then
        local distac = require "distac"
        near = require "distac.nearest"(name, require("distac.repl.objects").names(distac))
        near = near and "distac." .. near
    end
    error(string.format("'%s' is not defined%s", name, near and "; did you mean '" .. near .. "'?" or ""), 2)
end

-- Coroutines have their own hooks on Lua 5.4: Ctrl-C has to know which one runs.
local function watch_coroutines()
    if jit then return end
    local create, resume, current = coroutine.create, coroutine.resume, terminal.current
    local function back(before, ...)
        current(before)
        return ...
    end
    function coroutine.resume(co, ...) return back(current(co), resume(co, ...)) end
    local function pass(ok, ...)
        if ok then return ... end
        error((...), 0)
    end
    function coroutine.wrap(f)
        local co = create(f)
        return function(...) return pass(coroutine.resume(co, ...)) end
    end
end

local function prompt(more)
    local jobs = package.loaded["distac.repl.jobs"]
    local state = jobs and jobs.prompt() or ""
    return state .. (more and ">> " or "> ")
end

-- Runs a function under Ctrl-C. True, or false after the error was told.
local function guarded(f, ...)
    local result = pack(terminal.run(f, ...))
    if result[1] then return true, result end
    tell(require("distac.repl.trouble").text(result[3], result[2]))
    return false
end

local function execute(text, f, is_expression)
    local before, begun = session.before(), clock()
    local ok, result = guarded(f)
    local seconds = clock() - begun
    if ok then
        session.worked(text, is_expression, before)
        if result.n > 2 then
            rawset(_G, "_", result[3])
            guarded(require("distac.show").print, unpack(result, 3, result.n))
        end
    else
        session.did_not()
    end
    if seconds > SLOW then tell(dim(string.format("(%.2f s)", seconds))) end
end

-- Lines that are no Lua: ?topic, :complete TEXT, quit.
local function command(line)
    local topic = line:match "^%s*%?(.*)$" or line:match "^%s*help%s*$" and ""
    if topic then
        guarded(function()
            local text, near = require("distac.repl.help").about(topic)
            print(text or "nothing is known about '" .. topic:gsub("^%s+", "") .. "'"
                .. (near and "; did you mean '" .. near .. "'?" or ""))
        end)
        return true
    end
    local text = line:match "^:complete ?(.*)$"
    if text then
        guarded(function()
            for _, word in ipairs(require("distac.repl.complete").candidates(text)) do print(word) end
        end)
        return true
    end
    local name = line:match "^:(%a+)"
    if name then
        tell("':" .. name .. "' is unknown; there is :complete TEXT and ?TOPIC")
        return true
    end
    return false
end

-- Commands of the prompt: part of no script.
local function is_own(text)
    return text:find "^%s*history%f[%W]" or text:find "^%s*help%f[%W]" or text:find "^%s*complete%f[%W]"
end

-- Reads and runs statements until the input ends.
local function loop()
    local pending
    while true do
        io.stdout:flush()
        local line = terminal.read(prompt(pending))
        if line == nil then
            if pending then tell((select(2, chunk.compile(pending)))) end
            return
        elseif line == false then
            pending = nil -- what was typed so far is dropped
        else
            if on_terminal and line:find "%S" then
                terminal.remember(line)
                session.typed(line)
            end
            if not pending and line:find "^%s*=" then line = line:gsub("^%s*=", "", 1) end
            if not pending and (line == "quit" or line == "exit") then return end
            if pending or not (command(line) or chunk.is_empty(line)) then
                local text = pending and pending .. "\n" .. line or line
                local state, f, is_expression = chunk.compile(text)
                pending = nil
                if state == "more" then
                    pending = text
                elseif state == "error" then
                    tell(f)
                elseif is_own(text) then
                    local ok, result = guarded(f)
                    if ok and result.n > 2 then guarded(require("distac.show").print,
                        unpack(result, 3, result.n)) end
                else
                    execute(text, f, is_expression)
                end
            end
        end
    end
end

-- The prompt, until its input ends. Called by the program.
function repl.run()
    terminal = require "distac.terminal"
    on_terminal = terminal.is_terminal()
    chunk.prepare(terminal)
    watch_coroutines()
    session.seed = os.time() % 2147483647
    math.randomseed(session.seed)
    setmetatable(_G, { __index = unknown })
    for name, f in pairs(require "distac.repl.commands") do
        if rawget(_G, name) == nil then rawset(_G, name, f) end
    end
    if on_terminal then
        print(string.format("distac %s (%s). ? tells more, Ctrl-C stops what runs, Ctrl-D leaves.",
            require("distac.raw").version(), terminal.runtime))
        pcall(session.open, terminal.remember)
        terminal.on("complete", function(text)
            local width = terminal.size()
            return require("distac.repl.complete").at_cursor(text, width)
        end)
        terminal.on("tick", function() return package.loaded["distac.repl.jobs"] and prompt() or nil end)
    end
    loop()
    local jobs = package.loaded["distac.repl.jobs"]
    if jobs then guarded(jobs.finish) end
    session.close()
    terminal.close()
end

return repl
