-- companions.lua: the smaller outputs of gen.lua: cdef text, names, linker map, reference page.

local companions = {}

local function strip(api)
    local text = api.block:gsub("/%*.-%*/", ""):gsub("DISTAC_API ", ""):gsub("DISTAC_NULLABLE ", "")
        :gsub("DISTAC_FILL ", ""):gsub("[ \t]+", " "):gsub(" ?\n%s*", "\n"):gsub("^\n", "")
    return text
end

-- The block as LuaJIT reads it, in a Lua module; `libdir` is where an installed library lies under the prefix.
function companions.cdef(api, libdir)
    return "-- raw_cdef.lua: written by bindings/gen.lua from core/distac.h; do not edit.\nreturn {\n    abi = "
        .. api.abi .. ",\n    libdir = \"" .. libdir .. "\",\n    text = [[\n" .. strip(api) .. "]],\n}\n"
end

-- What a spec compares both bindings with.
function companions.names(api)
    local out = { "-- names.lua: written by bindings/gen.lua from core/distac.h; do not edit.", "return {" }
    out[#out + 1] = "    functions = {"
    for _, fn in ipairs(api.functions) do
        local args = {}
        for _, arg in ipairs(fn.args) do
            args[#args + 1] = ('{ name = "%s", kind = "%s", of = %s, nullable = %s }'):format(arg.name,
                arg.kind, arg.of and ('"' .. arg.of .. '"') or "nil", tostring(arg.nullable or false))
        end
        local releases = fn.releases and ('"%s"'):format(fn.releases) or "nil"
        out[#out + 1] = ('        { name = "%s", result = "%s", releases = %s, outs = %d,'):format(fn.name,
            fn.result, releases, #fn.outs)
        out[#out + 1] = ("          args = { %s } },"):format(table.concat(args, ", "))
    end
    out[#out + 1] = "    },\n    constants = {"
    for _, constant in ipairs(api.constants) do
        out[#out + 1] = ("        { name = \"%s\", value = %d },"):format(constant.name, constant.value)
    end
    out[#out + 1] = "    },\n    kinds = { \"" .. table.concat(api.kinds, '", "') .. '" },\n}\n'
    return table.concat(out, "\n")
end

-- Only what the header declares leaves the shared library.
function companions.exports(api)
    local names = {}
    for index, fn in ipairs(api.functions) do names[index] = "        distac_" .. fn.name .. ";\n" end
    for name in api.host:gmatch("DISTAC_API [%w_ ]*%*?(distac_[%w_]+)%(") do names[#names + 1] = "        "
        .. name .. ";\n" end
    return "{\n    global:\n" .. table.concat(names) .. "    local:\n        *;\n};\n"
end

local words = { integer = "whole number", number = "number", string = "string", text = "string of any bytes",
                count = "count", array = "list", pointer = "memory" }

local function describe(entry)
    if entry.kind == "handle" then return entry.of end
    if entry.kind == "struct" then return "table " .. entry.of end
    if entry.kind == "array" then return "list of " .. (entry.of and entry.of .. "s" or "numbers") end
    return words[entry.kind]
end

function companions.docs(api)
    local out = { "# distac: reference of the C interface and of `distac.raw`\n",
                  "Made from core/distac.h. Each entry shows the C declaration and how Lua calls it; functions",
                  "that return a status raise an error object `{code, message}` in Lua instead.\n" }
    local function add(text) out[#out + 1] = text end
    for _, section in ipairs(api.sections) do
        add("## " .. section.title .. "\n")
        for _, struct in ipairs(section.structs) do
            add("### table " .. struct.name .. "\n")
            local fields = {}
            for _, field in ipairs(struct.fields) do
                fields[#fields + 1] = ("`%s` (%s)"):format(field.name, field.ctype:gsub("const char %*", "string"))
            end
            add(table.concat(fields, ", ") .. "\n")
        end
        for _, fn in ipairs(section.functions) do
            local args, outs = {}, {}
            for _, arg in ipairs(fn.args) do
                args[#args + 1] = arg.name .. (arg.nullable and "?" or "")
            end
            if fn.result ~= "status" and fn.result ~= "void" then outs[1] = fn.result:gsub("_t$", "") end
            for _, entry in ipairs(fn.outs) do outs[#outs + 1] = describe(entry) end
            add("### " .. fn.name .. "\n")
            add("```c\n" .. fn.declaration:gsub("DISTAC_%u+ ", "") .. ";\n```\n")
            add(("`raw.%s(%s)`%s\n"):format(fn.name, table.concat(args, ", "),
                #outs > 0 and " → " .. table.concat(outs, ", ") or ""))
            if #fn.text > 0 then add(fn.text .. "\n") end
        end
    end
    if api.host ~= "" then
        add("## For hosts in C and C++ alone\n")
        add("```c\n" .. api.host .. "\n```\n")
    end
    return table.concat(out, "\n")
end

return companions
