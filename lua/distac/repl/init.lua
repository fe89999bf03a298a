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

local locals = {} -- names that were local to a line that is over

-- What may have been meant by an unknown name.
local function meant(name)
    if locals[name] then return "; it was local to its line, without `local` it stays" end
    if #name == 1 then return "" end -- a letter is near to any other
    local near = require "distac.nearest"(name, global_names())
    if not near then
        local distac = require "distac"
        near = require "distac.nearest"(name, require("distac.repl.objects").names(distac))
        near = near and "distac." .. near
    end
    return near and "; did you mean '" .. near .. "'?" or ""
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
    error("'" .. name .. "' is not defined" .. meant(name), 2)
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

-- nil may be a name that distac does not have: `distac.lod`.
local function explain_nil(text)
    local table_name, name = text:match "^%s*(distac[%w_%.]*)%.([%a_][%w_]*)%s*$"
    local ok, value = require("distac.repl.objects").resolve(table_name or "")
    if not table_name or not ok or type(value) ~= "table" then return end
    local near = require "distac.nearest"(name, require("distac.repl.objects").names(value))
    if near ~= name then
        tell(dim("there is no " .. table_name .. "." .. name
            .. (near and "; did you mean " .. table_name .. "." .. near .. "?" or "")))
    end
end

local function execute(text, f, is_expression)
    local before, begun = session.before(), clock()
    local ok, result = guarded(f)
    local seconds = clock() - begun
    if ok then
        session.worked(text, is_expression, before)
        for name in text:gmatch "%f[%w_]local%s+([%a_][%w_]*)" do locals[name] = name ~= "function" or nil end
        if is_expression and result.n == 3 and result[3] == nil then explain_nil(text) end
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

-- What the arrow keys and the history's file give back: a statement of several lines as one, where that means the
-- same.
local function remember(text)
    if not on_terminal or not text:find "%S" then return end
    local one = (text:find "%-%-" or text:find "%[=*%[") and text or text:gsub("%s*\n%s*", " ")
    if one ~= text and not load(one, "=stdin", "t") then one = text end
    for line in one:gsub("^%s+", ""):gmatch "[^\n]+" do
        terminal.remember(line)
        session.typed(line)
    end
end

-- Runs what was typed. Returns it where it is not finished.
local function statement(text)
    local state, f, is_expression = chunk.compile(text)
    if state == "more" then return text end
    remember(text)
    if state == "error" then
        tell(f)
    elseif is_own(text) then
        local ok, result = guarded(f)
        if ok and result.n > 2 then guarded(require("distac.show").print, unpack(result, 3, result.n)) end
    else
        execute(text, f, is_expression)
    end
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
            if pending then remember(pending) end
            pending = nil -- what was typed so far is dropped
        else
            local text = pending and pending .. "\n" .. line or line:gsub("^%s*=", "", 1)
            local first = not pending
            pending = nil
            if first and (line == "quit" or line == "exit") then return end
            if first and command(line) then
                remember(line)
            elseif first and chunk.is_empty(text) then
                remember(line) -- comments
            else
                pending = statement(text)
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
