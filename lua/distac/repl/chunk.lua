-- distac.repl.chunk: typed text -> a function, or "more" where a statement is not finished. On LuaJIT, loops that
-- are compiled to machine code look at no hook; they get a look at a flag of their own, so that Ctrl-C ends them
-- too.

local scan = require "distac.repl.scan"

local chunk = {}

-- Counting keeps the compiler from reading the flag once and for all: it knows no volatile, but that
-- what was stored may be what is read next.
local LOOK = " __seen[0]=__seen[0]+1 if __stop[0]~=0 then __interrupt()end "

-- The same text with a look at the flag in every loop, function and before every goto.
function chunk.watched(text)
    local tokens, out, at = scan(text), {}, 1
    local depth, wanted -- of brackets inside a function's parameters
    local function insert(position)
        out[#out + 1] = text:sub(at, position)
        out[#out + 1] = LOOK
        at = position + 1
    end
    for i, token in ipairs(tokens) do
        local word, after = token.text, tokens[i + 1]
        if token.kind == "keyword" and (word == "do" or word == "repeat") then
            insert(token.last)
        elseif token.kind == "keyword" and word == "function" then
            wanted, depth = true, 0
        elseif wanted and token.kind == "sign" and word == "(" then
            depth = depth + 1
        elseif wanted and token.kind == "sign" and word == ")" then
            depth = depth - 1
            if depth == 0 then
                wanted = nil
                insert(token.last)
            end
        elseif word == "goto" and after and after.kind == "name" and (tokens[i - 1] or {}).text ~= "." then
            insert(token.first - 1)
        end
    end
    return table.concat(out) .. text:sub(at)
end

local function compile(text, name)
    local f, why = load(text, name, "t")
    if f and chunk.watch then f = load(chunk.watched(text), name, "t") or f end
    return f, why
end

-- Is there nothing but comments?
function chunk.is_empty(text)
    for _, token in ipairs(scan(text)) do
        if token.kind ~= "comment" or token.open then return false end
    end
    return true
end

-- compile(text) -> "ready", function, is it an expression; "more"; or "error", message
function chunk.compile(text)
    -- Through a function, not by a tail call: errors then know the line.
    local f = compile("return __values(" .. text .. (text:find "%-%-" and "\n)" or ")"), "=stdin")
    if f and load("return " .. text, "=stdin", "t") then return "ready", f, true end
    local why
    f, why = compile(text, "=stdin")
    if f then return "ready", f, false end
    if why:find "<eof>'?$" then return "more", why end
    return "error", why
end

-- Makes load, loadfile, dofile, require and loadstring do the same for the user's own files.
local function watch_files(home)
    local plain, plain_file = load, loadfile
    local function read(path)
        local file = io.open(path, "rb")
        local text = file and file:read "*a"
        if file then file:close() end
        return text and (text:sub(1, 1) == "#" and "--" .. text or text)
    end
    function _G.load(text, name, mode, ...)
        if type(text) == "string" and text:sub(1, 1) ~= "\27" and plain(text) then
            return plain(chunk.watched(text), name or text, mode, ...)
        end
        return plain(text, name, mode, ...)
    end
    _G.loadstring = function(text, name) return _G.load(text, name) end
    function _G.loadfile(path, ...)
        local text = path and read(path)
        if text and text:sub(1, 1) ~= "\27" and plain(text) then
            return plain(chunk.watched(text), "@" .. path, ...)
        end
        return plain_file(path, ...)
    end
    function _G.dofile(path) return assert(_G.loadfile(path))() end
    local search = package.loaders[2]
    package.loaders[2] = function(name)
        local path = package.searchpath(name, package.path)
        if path and path:sub(1, #home) ~= home then return assert(_G.loadfile(path)) end
        return search(name)
    end
end

-- Once, at the prompt's start.
function chunk.prepare(terminal)
    rawset(_G, "__values", function(...) return ... end)
    if not jit then return end
    local ok, ffi = pcall(require, "ffi")
    if not ok then return end
    rawset(_G, "__stop", ffi.cast("int *", terminal.flag))
    chunk.room = ffi.new "int[1]"
    rawset(_G, "__seen", ffi.cast("int *", chunk.room))
    rawset(_G, "__interrupt", function()
        error({ code = "ECANCELED", message = "interrupted" }, 0)
    end)
    chunk.watch = true
    local source = debug.getinfo(1, "S").source
    watch_files(source:match "^@(.*distac[/\\])repl[/\\]" or "?")
end

return chunk
