-- parse.lua: the fenced block of distac.h -> a description of the API (see the grammar in gen.lua).
--
-- Result: { abi, constants = {{name, value, text}}, kinds = {"tensor", ...}, structs = {{name, fields, text}},
--   functions = {{name, tags, text, result, cparams, args, outs}}, sections, block }. `args` are the Lua
-- arguments, `outs` the extra Lua results, `cparams` what the C call receives, in order, each pointing to its
-- arg or out.

local integers = { int32_t = true, int64_t = true, uint64_t = true }
local numbers = { int32_t = true, int64_t = true, uint64_t = true, double = true }

local function trim(text)
    return (text:gsub("^%s+", ""):gsub("%s+$", ""):gsub("%s+", " "))
end

local function clean_comment(text)
    return trim((text:gsub("\n%s*%*%s?", "\n")))
end

-- Splits the block into documentation comments (those that begin a line) and statements.
local function statements(block)
    local list, position, doc = {}, 1, nil
    local depth, buffer, newline = 0, {}, 0
    while position <= #block do
        local two = block:sub(position, position + 1)
        if two == "/*" then
            local finish = block:find("*/", position, true)
            if not finish then error("a comment has no end", 0) end
            local text = block:sub(position + 2, finish - 1)
            local line_start = #trim(block:sub(newline + 1, position - 1)) == 0
            if line_start and depth == 0 and #trim(table.concat(buffer)) == 0 then
                local section = text:match("^ %-%-%-%- (.-) %-+ ?$")
                if section then
                    list[#list + 1] = { section = trim(section) }
                    doc = nil
                else
                    doc = clean_comment(text)
                end
            elseif depth > 0 then
                buffer[#buffer + 1] = "/*" .. clean_comment(text) .. "*/"
            end
            newline = position -- what follows a comment on its line is no line start either
            position = finish + 2
        else
            local c = block:sub(position, position)
            if c == "#" then error("no preprocessor lines inside the fence", 0) end
            if c == "\n" then newline = position end
            if c == "{" then depth = depth + 1 end
            if c == "}" then depth = depth - 1 end
            if c == ";" and depth == 0 then
                list[#list + 1] = { text = trim(table.concat(buffer)), doc = doc }
                buffer, doc = {}, nil
            else
                buffer[#buffer + 1] = c
            end
            position = position + 1
        end
    end
    if #trim(table.concat(buffer)) > 0 then
        error("text without a semicolon: " .. trim(table.concat(buffer)), 0)
    end
    return list
end

local function parse_enum(api, body)
    -- comments may hold commas: cut them out first, remembering them by position
    local comments = {}
    local plain = body:gsub("/%*(.-)%*/", function(text)
        comments[#comments + 1] = trim(text)
        return "@" .. #comments .. "@"
    end)
    local members = {}
    for piece in (plain .. ","):gmatch("([^,]*),") do
        local before = piece:match("^%s*@(%d+)@") -- the comment that follows the previous member's comma
        if before and #members > 0 then members[#members].text = comments[tonumber(before)] end
        local rest = trim((piece:gsub("@%d+@", "")))
        if #rest > 0 then
            local name, value = rest:match("^DISTAC_([A-Z0-9_]+) = (%-?%d+)$")
            if not name then error("enum: member '" .. rest .. "' is not DISTAC_NAME = NUMBER", 0) end
            local after = piece:match("%d%s*@(%d+)@")
            members[#members + 1] = { name = name, value = tonumber(value),
                                      text = after and comments[tonumber(after)] or nil }
        end
    end
    for _, member in ipairs(members) do
        if api.constant[member.name] then error("enum: DISTAC_" .. member.name .. " is there twice", 0) end
        api.constant[member.name] = member
        api.constants[#api.constants + 1] = member
    end
end

local function parse_struct(api, name, body, doc)
    local struct = { name = name, fields = {}, field = {}, text = doc }
    for text in body:gsub("/%*.-%*/", ""):gmatch("([^;]+);") do
        text = trim(text)
        local ctype, field = text:match("^(const char %*)([%w_]+)$")
        if not ctype then ctype, field = text:match("^([%w_]+) ([%w_]+)$") end
        if ctype ~= "const char *" and not numbers[ctype or ""] then
            error(("struct distac_%s: field '%s' is outside the grammar"):format(name, text), 0)
        end
        struct.fields[#struct.fields + 1] = { name = field, ctype = ctype }
        struct.field[field] = true
    end
    if #struct.fields == 0 then error("struct distac_" .. name .. " has no fields", 0) end
    api.struct[name] = struct
    api.structs[#api.structs + 1] = struct
end

local function array_element(api, text)
    local element, name = text:match("^const (%w+_?t?) %*([%w_]+)$")
    if element and numbers[element] and element ~= "uint64_t" then return { name = name, element = element } end
    local kind
    kind, name = text:match("^distac_([%w_]+) %*const %*([%w_]+)$")
    if kind and api.kind[kind] then return { name = name, of = kind } end
end

-- One parameter (or a pair) -> an argument, a result, or an error naming the function.
local function parse_parameter(api, fn, list, index)
    local text = list[index]
    local function stop(why)
        error(("distac_%s: parameter '%s' %s"):format(fn.name, text, why or "is outside the grammar"), 0)
    end
    local nullable = false
    if text:match("^DISTAC_NULLABLE ") then
        nullable, text = true, text:gsub("^DISTAC_NULLABLE ", "")
    end
    local function arg(entry, ctext)
        entry.nullable = nullable
        fn.args[#fn.args + 1] = entry
        entry.position = #fn.args
        fn.cparams[#fn.cparams + 1] = { arg = entry, part = ctext or "value" }
        return entry
    end
    local function out(entry)
        if nullable then stop("is a result and cannot be DISTAC_NULLABLE") end
        fn.outs[#fn.outs + 1] = entry
        fn.cparams[#fn.cparams + 1] = { out = entry }
    end

    local ntype, counted = text:match("^(%w+_t) n_([%w_]+)$")
    if counted and (ntype == "int32_t" or ntype == "int64_t") and list[index + 1] then
        local next_text = list[index + 1]
        local optional = next_text:match("^DISTAC_NULLABLE ")
        next_text = next_text:gsub("^DISTAC_NULLABLE ", "")
        local filled = next_text:match("^DISTAC_FILL double %*([%w_]+)$")
        if filled == counted then
            local entry = arg({ kind = "count", name = "n_" .. counted, ntype = ntype, array = counted }, "count")
            local result = { kind = "array", name = counted, count = entry }
            entry.out = result
            fn.outs[#fn.outs + 1] = result
            fn.cparams[#fn.cparams + 1] = { out = result }
            return index + 2
        end
        local element = array_element(api, next_text)
        if element and element.name == counted then
            element.kind, element.ntype = "array", ntype
            nullable = optional ~= nil
            arg(element, "count")
            fn.cparams[#fn.cparams + 1] = { arg = element, part = "value" }
            return index + 2
        end
        stop("is not followed by its array '" .. counted .. "'")
    end
    if text == "const char *text" and list[index + 1] == "int64_t bytes" then
        local entry = arg({ kind = "text", name = "text" })
        fn.cparams[#fn.cparams + 1] = { arg = entry, part = "count" }
        return index + 2
    end
    local name = text:match("^const char %*([%w_]+)$")
    if name then
        arg({ kind = "string", name = name })
        return index + 1
    end
    name = text:match("^void %*([%w_]+)$")
    if name then
        arg({ kind = "pointer", name = name })
        return index + 1
    end
    local ctype
    ctype, name = text:match("^([%w_]+) ([%w_]+)$")
    if ctype == "distac_status" then ctype = "int32_t" end
    if ctype and numbers[ctype] then
        if nullable then stop("is a number and cannot be DISTAC_NULLABLE") end
        arg({ kind = integers[ctype] and "integer" or "number", ctype = ctype, name = name })
        return index + 1
    end
    local constant, base, stars
    constant, base, stars, name = text:match("^(const )distac_([%w_]+) (%*)([%w_]+)$")
    if not base then base, stars, name = text:match("^distac_([%w_]+) (%*+)([%w_]+)$") end
    if base and api.kind[base] then
        if stars == "**" then
            out({ kind = "handle", of = base, name = name })
        elseif stars == "*" then
            arg({ kind = "handle", of = base, name = name, constant = constant ~= nil })
        else
            stop()
        end
        return index + 1
    end
    if base and api.struct[base] and stars == "*" then
        if constant then
            arg({ kind = "struct", of = base, name = name })
        else
            out({ kind = "struct", of = base, name = name })
        end
        return index + 1
    end
    ctype, name = text:match("^([%w_]+) %*([%w_]+)$")
    if ctype and numbers[ctype] and ctype ~= "uint64_t" then
        out({ kind = "number", ctype = ctype, name = name })
        return index + 1
    end
    stop()
end

local results = { ["distac_status "] = "status", ["void "] = "void", ["int32_t "] = "int32_t",
                  ["int64_t "] = "int64_t", ["uint64_t "] = "uint64_t", ["double "] = "double",
                  ["const char *"] = "string", ["void *"] = "pointer" }

local function parse_function(api, text, doc)
    local result, name, parameters = text:match("^DISTAC_API ([%w_ ]+%*?)distac_([%w_]+)%((.*)%)$")
    if not name then error("'" .. text .. "' is outside the grammar", 0) end
    local fn = { name = name, result = results[result], args = {}, outs = {}, cparams = {}, tags = {},
                 text = doc or "", declaration = text:gsub("^DISTAC_API ", "") }
    if not fn.result then
        error(("distac_%s: result '%s' is outside the grammar"):format(name, trim(result)), 0)
    end
    local rest = fn.text
    while rest:match("^%[%l+%]") do
        fn.tags[rest:match("^%[(%l+)%]")] = true
        rest = rest:gsub("^%[%l+%] *", "")
    end
    for tag in pairs(fn.tags) do
        if not (tag == "new" or tag == "view" or tag == "borrow" or tag == "any") then
            error(("distac_%s: tag [%s] is unknown"):format(name, tag), 0)
        end
    end
    if parameters ~= "void" then
        local list = {}
        for parameter in (parameters .. ","):gmatch("([^,]*),") do list[#list + 1] = trim(parameter) end
        local index = 1
        while index <= #list do index = parse_parameter(api, fn, list, index) end
    end
    local released = name:match("^(.*)_release$")
    if released and api.kind[released] then fn.releases = released end
    for _, entry in ipairs(fn.outs) do
        if entry.kind == "handle" and not (fn.tags.new or fn.tags.view) then
            error(("distac_%s: gives a handle but is tagged neither [new] nor [view]"):format(name), 0)
        end
    end
    if api.func[name] then error(("distac_%s is declared twice"):format(name), 0) end
    api.func[name] = fn
    api.functions[#api.functions + 1] = fn
    return fn
end

return function(header)
    local block = header:match("/%* fence: begin %*/(.-)/%* fence: end %*/")
    if not block then error("the two fence comments are missing", 0) end
    local api = { block = block, constants = {}, constant = {}, kinds = {}, kind = {}, structs = {}, struct = {},
                  functions = {}, func = {}, sections = {},
                  abi = tonumber(header:match("#define DISTAC_ABI_VERSION (%d+)")) }
    if not api.abi then error("DISTAC_ABI_VERSION is missing", 0) end
    -- What follows the block is for hosts in C alone: exported and documented as it stands, not bound.
    api.host = header:match("/%* fence: end %*/%s*(.-)%s*#ifdef __cplusplus") or ""
    local section
    for _, entry in ipairs(statements(block)) do
        local text = entry.text
        if entry.section then
            section = { title = entry.section, functions = {}, structs = {} }
            api.sections[#api.sections + 1] = section
        elseif text:match("^enum {") then
            parse_enum(api, text:match("^enum {(.*)}$") or error("'" .. text .. "' is outside the grammar", 0))
        elseif text:match("^typedef struct distac_[%w_]+ {") then
            local name, body, again = text:match("^typedef struct distac_([%w_]+) {(.*)} distac_([%w_]+)$")
            if name ~= again then error("'" .. text:sub(1, 60) .. "…' is outside the grammar", 0) end
            parse_struct(api, name, body, entry.doc)
            if section then section.structs[#section.structs + 1] = api.struct[name] end
        elseif text:match("^typedef struct ") then
            local name, again = text:match("^typedef struct distac_([%w_]+) distac_([%w_]+)$")
            if not name or name ~= again then error("'" .. text .. "' is outside the grammar", 0) end
            api.kind[name] = true
            api.kinds[#api.kinds + 1] = name
        elseif text == "typedef int32_t distac_status" then
            api.has_status = true
        else
            local fn = parse_function(api, text, entry.doc)
            if section then section.functions[#section.functions + 1] = fn end
        end
    end
    for _, kind in ipairs(api.kinds) do
        local fn = api.func[kind .. "_release"]
        if not fn or fn.result ~= "void" or #fn.args ~= 1 or fn.args[1].of ~= kind then
            error(("handle distac_%s has no 'void distac_%s_release(distac_%s *)'"):format(kind, kind, kind), 0)
        end
    end
    return api
end
