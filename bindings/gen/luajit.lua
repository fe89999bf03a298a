-- luajit.lua: the API description -> raw_gen.lua, one wrapper per function over bindings/luajit/raw.lua. A wrapper
-- lies there as text and is compiled when it is first asked for: a script uses a few dozen of the hundreds.
--
-- Arguments are checked into locals, results are made before the call, and `keep` after the call uses every
-- argument once more: without it the collector could take an object whose pointer is already on its way.

local function quoted(text) return '"' .. text .. '"' end

local function wrapper(fn)
    local lines = {}
    local function line(text, ...) lines[#lines + 1] = "    " .. text:format(...) end
    local params = {}
    for index = 1, #fn.args do params[index] = "a" .. index end
    lines[1] = ("return function(%s)"):format(table.concat(params, ", "))
    if fn.releases then
        line('h.release_kind(a1, "%s", "%s", "%s")', fn.name, fn.args[1].name, fn.releases)
        lines[#lines + 1] = "end"
        return table.concat(lines, "\n")
    end
    local kept = {}
    -- in the order of the Lua 5.4 wrappers, so that of two wrong arguments both name the same
    for _, arg in ipairs(fn.args) do
        local i = arg.position
        local where = ('"%s", %d, "%s"'):format(fn.name, i, arg.name)
        if arg.kind == "array" then
            local max = arg.ntype == "int32_t" and 2147483647 or 9007199254740992
            line("local n%d = h.length(a%d, %s, %.0f, %s)", i, i, where, max, tostring(arg.nullable or false))
        elseif arg.kind == "count" then
            line("local n%d = h.count(a%d, %s)", i, i, where)
            line("local v%d = h.new_doubles(n%d)", i, i)
            arg.out.id = "v" .. i
        end
    end
    for _, arg in ipairs(fn.args) do
        local i = arg.position
        local where = ('"%s", %d, "%s"'):format(fn.name, i, arg.name)
        local nullable = tostring(arg.nullable or false)
        if arg.kind == "handle" then
            line('local p%d = h.handle(a%d, "%s", %s, %s)', i, i, arg.of, where, nullable)
            kept[#kept + 1] = "a" .. i
        elseif arg.kind == "integer" then
            line("local p%d = h.%s(a%d, %s)", i, arg.ctype:gsub("_t$", ""), i, where)
        elseif arg.kind == "number" then
            line("local p%d = h.double(a%d, %s)", i, i, where)
        elseif arg.kind == "string" then
            line("local p%d = h.string(a%d, %s, %s)", i, i, where, nullable)
            kept[#kept + 1] = "a" .. i
        elseif arg.kind == "pointer" then
            line("local p%d = h.pointer(a%d, %s, %s)", i, i, where, nullable)
            kept[#kept + 1] = "a" .. i
        elseif arg.kind == "text" then
            line("local p%d = h.text(a%d, %s)", i, i, where)
            kept[#kept + 1] = "a" .. i
        elseif arg.kind == "struct" then
            line("local p%d = h.read_struct(a%d, structs.%s, %s, %s)", i, i, arg.of, where, nullable)
            kept[#kept + 1] = "a" .. i
            kept[#kept + 1] = "p" .. i
        elseif arg.kind == "array" then
            local reader = arg.of and "handles" or arg.element:gsub("_t$", "") .. "s"
            local kind = arg.of and (', "%s"'):format(arg.of) or ""
            line("local p%d = h.%s(a%d, %s, n%d%s)", i, reader, i, where, i, kind)
            kept[#kept + 1] = "a" .. i
            kept[#kept + 1] = "p" .. i
        end
    end
    for index, out in ipairs(fn.outs) do
        if out.kind == "handle" then
            out.id = "o" .. index
            line("local %s = h.new_box.%s()", out.id, out.of)
        elseif out.kind == "number" then
            out.id = "o" .. index
            line("local %s = h.new_%s()", out.id, out.ctype:gsub("_t$", ""))
        elseif out.kind == "struct" then
            out.id = "o" .. index
            line("local %s = structs.%s.ctype()", out.id, out.of)
        end
    end
    local call = {}
    for _, parameter in ipairs(fn.cparams) do
        local arg, out = parameter.arg, parameter.out
        if arg and parameter.part == "count" then
            call[#call + 1] = arg.kind == "text" and "#a" .. arg.position or "n" .. arg.position
        elseif arg then
            call[#call + 1] = "p" .. arg.position
        elseif out.kind == "handle" then
            call[#call + 1] = ('cast(pp_%s, %s)'):format(out.of, out.id)
            table.insert(lines, 1, ('local pp_%s = h.pointer_to("%s")'):format(out.of, out.of))
        else
            call[#call + 1] = out.id
        end
    end
    local expression = ("C.distac_%s(%s)"):format(fn.name, table.concat(call, ", "))
    local results = {}
    if fn.result == "status" then
        line("local status = %s", expression)
        line("if status == -1 and h.collect() then status = %s end", expression)
    elseif fn.result == "void" then
        line("%s", expression)
    else
        line("local result = %s", expression)
        if fn.result == "string" then
            line("result = h.to_string(result)")
        elseif fn.result == "int64_t" or fn.result == "uint64_t" then
            line("result = tonumber(result)")
        elseif fn.result == "pointer" then
            line("if result == nil then result = nil end")
        end
        results[1] = "result"
    end
    if #kept > 0 then line("keep(%s)", table.concat(kept, ", ")) end
    if fn.result == "status" then line("if status ~= 0 then h.fail(status) end") end
    for _, out in ipairs(fn.outs) do
        if out.kind == "handle" then
            if out.of == "context" then line("h.own_context(%s)", out.id) end
            results[#results + 1] = out.id
        elseif out.kind == "number" then
            results[#results + 1] = (out.ctype == "int64_t" and "tonumber(%s[0])" or "%s[0]"):format(out.id)
        elseif out.kind == "struct" then
            local table_of = ("h.struct_table(%s, structs.%s)"):format(out.id, out.of)
            if fn.result ~= "status" then table_of = "result ~= 0 and " .. table_of .. " or nil" end
            results[#results + 1] = table_of
        else
            results[#results + 1] = ("h.list(%s, n%d)"):format(out.id, out.count.position)
        end
    end
    if fn.tags.new then line("h.account()") end
    if #results > 0 then line("return %s", table.concat(results, ", ")) end
    lines[#lines + 1] = "end"
    return table.concat(lines, "\n")
end

return function(api)
    local out = { "-- raw_gen.lua: written by bindings/gen.lua from core/distac.h; do not edit.",
                  "return function(raw, h, ffi)", "local structs = h.structs" }
    local function add(text, ...) out[#out + 1] = select("#", ...) > 0 and text:format(...) or text end
    add("raw.kinds = { %s }", '"' .. table.concat(api.kinds, '", "') .. '"')
    for _, struct in ipairs(api.structs) do
        add('structs.%s = { ctype = ffi.typeof("distac_%s"), fields = {', struct.name, struct.name)
        for _, field in ipairs(struct.fields) do
            local kind = field.ctype == "const char *" and "string" or field.ctype:gsub("_t$", "")
            add('    { "%s", "%s" },', field.name, kind)
        end
        add("} }")
    end
    for _, constant in ipairs(api.constants) do add("raw.%s = %d", constant.name, constant.value) end
    -- name, text, name, text, in the order of the header
    add("return {")
    for _, fn in ipairs(api.functions) do
        add("%s, [[\n%s]],", quoted(fn.name), wrapper(fn))
    end
    add("} end")
    return table.concat(out, "\n") .. "\n"
end
