-- distac.repl.help: ?thing and help(thing). The texts are those of the reference: distac.docs is made from the
-- same comments. Functions of the user's own show the comment above them.

local objects = require "distac.repl.objects"

local help = {}

local entries, by_name, by_place

local function load_docs()
    if entries then return end
    local ok
    ok, entries = pcall(require, "distac.docs")
    if not ok then entries = {} end
    by_name, by_place = {}, {}
    for _, entry in ipairs(entries) do by_name[entry.name] = entry end
end

local function columns()
    local ok, terminal = pcall(require, "distac.terminal")
    local width = ok and select(2, terminal.is_terminal()) and terminal.size() or 0
    return width >= 40 and width or 115
end

-- Lines that the terminal would break anywhere are broken between words, what follows under where the text began.
local function wrapped(text)
    local width, out = columns(), {}
    for line in (text .. "\n"):gmatch "(.-)\n" do
        local indent = line:match "^ *" .. (line:find "^ " and "    " or "")
        while #line > width do
            local at = line:sub(1, width + 1):match "^.*()%s" or 0
            if at <= #indent then break end
            out[#out + 1] = line:sub(1, at - 1):gsub(" +$", "")
            line = indent .. line:sub(at):gsub("^ +", "")
        end
        out[#out + 1] = line
    end
    return table.concat(out, "\n")
end

local function words(entry)
    return entry.call .. (entry.text ~= "" and "\n\n" .. entry.text or "")
end

-- What an entry says in a few words, without the call that stands beside it.
local function summary(entry)
    local first = entry.text:gsub("\n", " ")
    for _, call in ipairs { "%b()%s*:", "%b{}%s*:", ":" } do
        local rest = first:match("^[%w_%.]+%s*" .. call .. "%s+(.+)$")
        if rest then return rest end
    end
    return first
end

-- Entries whose name ends in .name or :name.
local function ending(name)
    local list = {}
    for _, entry in ipairs(entries) do
        if entry.name:match "[%.:]([^%.:]*)$" == name then list[#list + 1] = entry end
    end
    return list
end

-- The name in the reference that was probably meant; kind is what Lua says of the thing: "method", "field",
-- "global".
function help.nearest(name, kind)
    load_docs()
    local names, full = {}, {}
    for _, entry in ipairs(entries) do
        local last = entry.name:match "[%.:]([^%.:]*)$"
        local is_method = entry.name:find(":", 1, true) ~= nil
        if last and not entry.name:find "^raw%." and (kind ~= "method" or is_method) then
            names[#names + 1] = last
            full[last] = full[last] or entry.name
        end
    end
    local near = require "distac.nearest"(name, names)
    return near and full[near]
end

local function overview(name, list)
    local lines, widest = { name }, 0
    for _, entry in ipairs(list) do widest = math.max(widest, math.min(40, #entry.call)) end
    for _, entry in ipairs(list) do
        local first, column = summary(entry), math.max(widest, #entry.call) + 2
        local room = columns() - column - 2
        if #first > room then first = first:sub(1, math.max(0, room - 3)) .. "..." end
        lines[#lines + 1] = "  " .. entry.call .. (" "):rep(column - #entry.call) .. first
    end
    return (table.concat(lines, "\n"):gsub(" +\n", "\n"):gsub(" +$", ""))
end

local function inside(prefix)
    local list = {}
    for _, entry in ipairs(entries) do
        if entry.name:sub(1, #prefix) == prefix and not entry.name:sub(#prefix + 1):find "[%.:]" then
            list[#list + 1] = entry
        end
    end
    return list
end

local function merge_method(name)
    local method = require("distac.merge_methods").named(name)
    if not method then return nil end
    local format = require("distac.format")
    local lines = { "distac.merge." .. name .. " { ... }(base, { taskvector, ... })", "", method.text }
    for _, p in ipairs(method.params) do
        local default = type(p.default) == "number" and format.number(p.default) or tostring(p.default)
        local range = p.choices and table.concat(p.choices, ", ")
            or p.max > 1e9 and "from " .. format.number(p.min)
            or format.number(p.min) .. " to " .. format.number(p.max)
        lines[#lines + 1] = string.format("  %s = %s  (%s)  %s", p.name, default, range, p.text)
    end
    return table.concat(lines, "\n")
end

-- The comment above a function in its own file, and its first line.
local function from_source(f)
    local info = debug.getinfo(f, "S")
    local path = info.source:match "^@(.*)$"
    local file = path and io.open(path, "r")
    if not file then return nil end
    local lines = {}
    for line in file:lines() do
        lines[#lines + 1] = line
        if #lines >= info.linedefined then break end
    end
    file:close()
    local out, i = {}, info.linedefined - 1
    while lines[i] and lines[i]:find "^%s*%-%-" do
        table.insert(out, 1, (lines[i]:gsub("^%s*%-%- ?", "")))
        i = i - 1
    end
    local first = (lines[info.linedefined] or ""):gsub("^%s*local%s+", ""):gsub("^%s*function%s+", "")
    return first .. (#out > 0 and "\n\n" .. table.concat(out, "\n") or ""), path, info.linedefined
end

-- The entry of a function: looked up by where it was written.
local function of_function(f)
    if not by_place.ready then
        by_place.ready = true
        local distac = require "distac"
        local function note(name, value)
            if type(value) == "function" and not by_place[value] then by_place[value] = name end
        end
        for _, entry in ipairs(entries) do
            local chain = entry.name
            local kind, method = chain:match "^(%u%w*):([%w_]+)$"
            if kind then
                for k, title in pairs(require("distac.check").kinds) do
                    local methods = title == kind and require("distac.check").methods[k]
                    note(chain, methods and methods[method])
                end
            elseif chain:find "^distac" then
                local value = distac
                for key in chain:sub(8):gmatch "[%w_]+" do
                    value = type(value) == "table" and objects.field(value, key) or nil
                end
                note(chain, value)
            elseif chain:find "^raw%." then
                note(chain, rawget(require "distac.raw", chain:sub(5)))
            else
                note(chain, rawget(_G, chain))
            end
        end
    end
    return by_name[by_place[f] or ""]
end

local function of_value(value, name)
    if type(value) == "function" then
        local entry = of_function(value)
        if entry then return words(entry) end
        local merged = name and name:match "merge%.([%w_]+)$"
        local text = merged and merge_method(merged) or from_source(value)
        return text or (name or "function") .. ": a function without documentation"
    end
    if value == require "distac" then
        local list, listed = inside "distac.", {}
        for _, entry in ipairs(list) do listed[entry.name] = true end
        for _, key in ipairs(objects.names(value)) do
            local group = objects.field(value, key)
            if not listed["distac." .. key] and type(group) == "table" then -- has no text of its own
                list[#list + 1] = { call = "distac." .. key, text = table.concat(objects.names(group), ", ") }
            end
        end
        return overview("distac", list)
    end
    local known = name and by_name[name]
    local methods, kind = objects.methods(value)
    if methods and kind and type(value) ~= "string" then
        local title = require("distac").type(value) == "taskvector" and "TaskVector, as Checkpoint" or kind
        local list = inside(kind .. ":")
        local seen = {}
        for _, entry in ipairs(list) do seen[entry.name:match ":(.*)"] = true end
        for _, key in ipairs(objects.names(value, true)) do
            if not seen[key] then list[#list + 1] = { name = key, call = kind .. ":" .. key .. "()",
                text = "" } end
        end
        return overview(title, list)
    end
    if type(value) == "table" then
        if known or name and name:find "^distac%." then
            local list = inside(name .. ".")
            if value == require("distac").merge then
                for _, method in ipairs(require("distac.merge_methods").list()) do
                    list[#list + 1] = { call = "distac.merge." .. method.name .. "{}", text = method.text }
                end
            end
            return (known and words(known) .. "\n\n" or "") .. overview(name, list)
        end
        return "a table with " .. table.concat(objects.names(value), ", ")
    end
    return (name and name .. ": " or "") .. "a " .. type(value)
end

local WELCOME = [[
Type Lua; values print themselves, _ is the last one. `distac` is loaded when it is first used.
  ?distac             everything there is          ?distac.load  ?Tensor  ?ties   one thing
  help(thing)         the same from Lua            Tab           completes names, methods, paths in strings
  show(plot)          draws in the terminal        history "file.lua"   the session as a script
  job = start(recipe) trains beside the prompt: job:pause() job:resume() job:probe() job:cancel()
  Ctrl-C              stops what runs              Ctrl-D, quit  leaves]]

-- The entries whose text has this word, as one line; nil if there are none.
local function mentioned(word)
    local names = {}
    for _, entry in ipairs(entries) do
        if not entry.name:find "^raw%." and #names <= 8
            and entry.text:lower():find("%f[%w]" .. word:lower():gsub("%p", "%%%0") .. "%f[%W]") then
            names[#names + 1] = entry.name
        end
    end
    if #names == 9 then names[9] = "..." end
    return #names > 0 and "'" .. word .. "' is spoken of in: " .. table.concat(names, ", ") or nil
end

local function about(name)
    name = name:gsub("^%s+", ""):gsub("%s+$", ""):gsub("%s*%(.*$", "")
    if name == "" then return WELCOME end
    if by_name[name] and not name:find "^distac%.[%w_]+$" then return words(by_name[name]) end
    local chain, method = name:match "^(.-):([%w_]+)$"
    local ok, value = objects.resolve(name)
    if not ok and chain then
        local found, object = objects.resolve(chain)
        local _, kind = objects.methods(found and object or nil)
        if kind and by_name[kind .. ":" .. method] then return words(by_name[kind .. ":" .. method]) end
    end
    if ok then
        local text = of_value(value, name)
        if name:find "^distac%.merge%." then text = merge_method(name:match "[%w_]+$") or text end
        return text
    end
    if name:find "^distac%.merge%.[%w_]+$" then
        local text = merge_method(name:match "[%w_]+$")
        if text then return text end
    end
    local list = inside(name .. ":")
    if #list > 0 then return overview(name, list) end
    if objects.field(require "distac", name) ~= nil then return about("distac." .. name) end
    list = ending(name)
    if #list == 1 then return about(list[1].name) end
    local merged = merge_method(name)
    if #list == 0 and merged then return merged end
    if #list > 0 then return overview(name .. ": several", list) end
    local all = {}
    for i, entry in ipairs(entries) do all[i] = entry.name end
    return mentioned(name), require "distac.nearest"(name, all) or help.nearest(name)
end

-- Text about a name as it was typed after the question mark; nil and the nearest name if there is nothing.
function help.about(name)
    load_docs()
    local text, near = about(name)
    return text and wrapped(text), near
end

-- How a function of the reference is called, "distac.load(path, options)"; nil for any other.
function help.call(f)
    load_docs()
    local entry = of_function(f)
    return entry and entry.call
end

-- Text about a value or a name.
function help.of(thing)
    load_docs()
    if type(thing) == "string" then return help.about(thing) end
    if thing == nil then return WELCOME end
    return wrapped(of_value(thing))
end

return help
