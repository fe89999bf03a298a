-- distac.repl.session: what was typed. Lines are kept between runs for the up-arrow; the statements that worked
-- can be written as a script that runs again to the same result.

local session = { good = {}, failed = 0 }

local KEEP = 3000 -- lines in the file

-- ~/.local/state/distac, or where XDG_STATE_HOME says; nil if there is no home.
function session.folder()
    local state, home = os.getenv "XDG_STATE_HOME", os.getenv "HOME"
    if state and state ~= "" then return state .. "/distac" end
    return home and home ~= "" and home .. "/.local/state/distac" or nil
end

-- Opens the file of lines and gives the old ones to `remember`. A history that cannot be read or written is none.
function session.open(remember)
    local folder = session.folder()
    if not folder then return end
    local path, lines = folder .. "/history", {}
    pcall(require("distac.raw").path_make, folder)
    local file = io.open(path, "r")
    if file then
        for line in file:lines() do lines[#lines + 1] = line end
        file:close()
    end
    for i = math.max(1, #lines - KEEP + 1), #lines do remember(lines[i]) end
    if #lines > 2 * KEEP then
        pcall(require("distac.raw").path_write, path, table.concat(lines, "\n", #lines - KEEP + 1) .. "\n")
    end
    session.file = io.open(path, "a")
    if session.file then session.file:setvbuf "line" end
end

-- A line as it was typed.
function session.typed(line)
    if session.file and line:find "%S" and line ~= session.last then
        session.last = line
        session.file:write(line, "\n")
    end
end

local function draws() return require("distac.context").draws() end

-- How many random tensors were drawn before a statement: where others failed in between, the script says so.
function session.before()
    return package.loaded["distac.context"] and draws() or 0
end

-- A statement that worked. `before` comes from session.before.
function session.worked(text, is_expression, before)
    session.good[#session.good + 1] = { text = text, expression = is_expression, draws = before,
                                        after = session.before() }
end

function session.did_not() session.failed = session.failed + 1 end

-- The statements as a script.
function session.script()
    local random
    local body, drawn = {}, 0
    for _, s in ipairs(session.good) do
        random = random or s.text:find("math.random", 1, true)
        if s.draws ~= drawn then
            body[#body + 1] = string.format(
                'require("distac.context").draws(%d) -- lines that failed drew up to here', s.draws)
        end
        drawn = s.after
        if s.expression then
            -- The brackets of show would be lost to a comment at the end.
            body[#body + 1] = "show(" .. s.text .. (s.text:find "%-%-" and "\n)" or ")")
        elseif s.text:find "^%s*local%f[%W]" or s.text:find "^%s*return%f[%W]" then
            body[#body + 1] = "do " .. s.text .. (s.text:find "%-%-" and "\nend" or " end")
        else
            body[#body + 1] = s.text
        end
    end
    local head = { "-- A session at distac's prompt, written by history. Runs as: distac FILE.lua", "",
                   'distac = require "distac"', 'show = require("distac.show").print', "" }
    if random and session.seed then table.insert(head, #head, "math.randomseed(" .. session.seed .. ")") end
    return table.concat(head, "\n") .. "\n" .. table.concat(body, "\n") .. (#body > 0 and "\n" or "")
end

-- history(): the statements that worked. history "file.lua": writes them as a script that runs again.
function session.history(path)
    if path == nil then
        for _, s in ipairs(session.good) do print(s.text) end
        return
    end
    if type(path) ~= "string" then
        error("history: wanted the name of the script to write, got a " .. type(path), 2)
    end
    require("distac").fs.write(path, session.script())
    print(string.format("%s: %d statements%s", path, #session.good, session.failed > 0
        and string.format(", without %d that failed", session.failed) or ""))
end

function session.close()
    if session.file then session.file:close() end
    session.file = nil
end

return session
