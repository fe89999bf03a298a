-- distac.repl.trouble: errors as the prompt tells them: the message, the frames of the user's own code, and a
-- hint.

local trouble = {}

local home = debug.getinfo(1, "S").source:match "^@(.*distac[/\\])repl[/\\]" or "?"
local short_home = home:sub(-24)

-- Message and traceback of an error value that went through the program's handler.
local function parts(err)
    local text = err
    if type(err) == "table" then
        text = rawget(err, "message")
        if type(text) ~= "string" then text = tostring(err) end
    end
    text = tostring(text)
    local head, trace = text:match "^(.-)\nstack traceback:\n(.*)$"
    return head or text, trace or "", type(err) == "table" and rawget(err, "code") or nil
end

-- The frames that mean something to who typed: down to the typed line, without the prompt's own. Errors of the
-- library are about its callers, so its frames are left out of them too.
local function frames(trace, code)
    local list = {}
    for line in trace:gmatch "[^\n]+" do
        line = line:gsub("^%s+", "")
        local ours = line:find(home, 1, true) or line:find(short_home, 1, true) or line:find "^%[C%]"
        if line:find "distac[/\\]repl[/\\]init%.lua:%d+: in .-[%w']guarded'?" then break end
        local own = line:find "distac[/\\]repl[/\\]"
        if not own and (not ours or (not code and not line:find "^%[C%]")) then list[#list + 1] = line end
        if line:find "^stdin:%d+: in main chunk" then break end
    end
    if list[#list] and list[#list]:find "^%(" then list[#list] = nil end -- of a tail call of the prompt's
    if #list == 2 and list[1]:find "^%(" and list[2]:find "^stdin:1: in main chunk" then return {} end
    return list
end

local PATTERNS = { "%((%a+) '([^']+)'%)", "attempt to %a+ (%a+) '([^']+)' %(a nil value%)" }

-- What a nil that was called or indexed was probably meant to be.
local function hint(head, code)
    if code == "ENOMEM" then
        return 'smaller batches, release(object), or more room: distac.configure { memory = "8GB" }'
    end
    if not head:find("nil value", 1, true) then return nil end
    for _, pattern in ipairs(PATTERNS) do
        local kind, name = head:match(pattern)
        if name and (kind == "field" or kind == "method" or kind == "global") then
            local found = require("distac.repl.help").nearest(name, kind)
            if found and found ~= name then return "did you mean " .. found .. "?" end
        end
    end
    return nil
end

-- The text of an error.
function trouble.text(err, interrupted)
    local head, trace, code = parts(err)
    local list = frames(trace, code)
    if interrupted and (code == "ECANCELED" or head:find "interrupted$") then
        local at = list[1] and list[1]:match "^([^:]+:%d+):"
        return "interrupted" .. (at and " at " .. at or "")
    end
    -- Where a module was looked for is many lines; the first says which module.
    local out = { (head:gsub("\n\tno f[^\n]*", "")) }
    if #list > 1 or (list[1] and not list[1]:find "^stdin:1: in main chunk") then
        for _, line in ipairs(list) do out[#out + 1] = "    " .. line end
    end
    local ok, found = pcall(hint, head, code)
    if ok and found then out[#out + 1] = "hint: " .. found end
    return table.concat(out, "\n")
end

return trouble
