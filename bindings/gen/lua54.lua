-- lua54.lua: the API description -> raw_lua54.c, one wrapper per function over the helpers of bindings/lua54.
--
-- Order inside a wrapper: boxes and buffers are made first (they may run the collector and so any finalizer),
-- then the arguments are read (nothing allocates any more, so no pointer can go stale), then the core is
-- called, then results are pushed.

local max_of = { int32_t = "INT32_MAX", int64_t = "INT64_MAX" }
local field_kinds = { int32_t = "DL_FIELD_INT32", int64_t = "DL_FIELD_INT64", uint64_t = "DL_FIELD_UINT64",
                      double = "DL_FIELD_DOUBLE", ["const char *"] = "DL_FIELD_STRING" }
local elements = { int32_t = "int32", int64_t = "int64", double = "double" }

local function release_wrapper(fn)
    return ([[
static int w_%s(lua_State *L)
{
    return dl_release_kind(L, "%s", "%s", DL_%s);
}
]]):format(fn.name, fn.name, fn.args[1].name, fn.releases:upper())
end

local function wrapper(fn)
    if fn.releases then return release_wrapper(fn) end
    local lines = {}
    local function line(text, ...) lines[#lines + 1] = "    " .. text:format(...) end
    local has = #fn.args > 0
    lines[1] = ("static int w_%s(lua_State *L)\n{"):format(fn.name)
    if has then line('static const char name[] = "%s";', fn.name) end
    line("lua_settop(L, %d);", #fn.args)
    -- 1: whatever allocates
    local top = #fn.args
    for index, out in ipairs(fn.outs) do
        out.id = "out" .. index
        if out.kind == "handle" then
            top = top + 1
            out.slot = top
            line("dl_box *box%d = dl_new_box(L, DL_%s);", index, out.of:upper())
            line("distac_%s *%s = NULL;", out.of, out.id)
        elseif out.kind == "number" then
            line("%s %s = 0;", out.ctype, out.id)
        elseif out.kind == "struct" then
            line("distac_%s %s;", out.of, out.id)
            line("memset(&%s, 0, sizeof %s);", out.id, out.id)
        end
    end
    for _, arg in ipairs(fn.args) do
        arg.id = "a" .. arg.position
        if arg.kind == "array" then
            line("int64_t n%d = dl_length(L, name, %d, \"%s\", %s, %d);", arg.position, arg.position, arg.name,
                 max_of[arg.ntype], arg.nullable and 1 or 0)
            local size = arg.of and "void *" or arg.element
            line("void *v%d = %sdl_buffer(L, n%d, sizeof(%s));", arg.position,
                 arg.nullable and ("n%d < 0 ? NULL : "):format(arg.position) or "", arg.position, size)
        elseif arg.kind == "count" then
            line("int64_t n%d = dl_count(L, name, %d, \"%s\");", arg.position, arg.position, arg.name)
            line("double *v%d = dl_buffer(L, n%d, sizeof(double));", arg.position, arg.position)
            arg.out.id = "v" .. arg.position
        end
    end
    -- 2: read arguments
    for _, arg in ipairs(fn.args) do
        local where = ('L, name, %d, "%s"'):format(arg.position, arg.name)
        local nullable = arg.nullable and 1 or 0
        if arg.kind == "handle" then
            line("distac_%s *%s = dl_handle(%s, DL_%s, %d);", arg.of, arg.id, where, arg.of:upper(), nullable)
        elseif arg.kind == "integer" then
            local name = ({ int32_t = "int32", int64_t = "int64", uint64_t = "uint64" })[arg.ctype]
            line("%s %s = dl_%s(%s);", arg.ctype, arg.id, name, where)
        elseif arg.kind == "number" then
            line("double %s = dl_double(%s);", arg.id, where)
        elseif arg.kind == "string" then
            line("const char *%s = dl_string(%s, %d);", arg.id, where, nullable)
        elseif arg.kind == "pointer" then
            line("void *%s = dl_pointer(%s, %d);", arg.id, where, nullable)
        elseif arg.kind == "text" then
            line("int64_t n%d = 0;", arg.position)
            line("const char *%s = dl_text(%s, &n%d);", arg.id, where, arg.position)
        elseif arg.kind == "struct" then
            line("distac_%s s%d;", arg.of, arg.position)
            line("const distac_%s *%s = dl_read_struct(%s, &struct_%s, &s%d, %d) ? &s%d : NULL;", arg.of, arg.id,
                 where, arg.of, arg.position, nullable, arg.position)
        elseif arg.kind == "array" then
            if arg.of then
                line("dl_handles(%s, DL_%s, n%d, v%d);", where, arg.of:upper(), arg.position, arg.position)
            else
                line("dl_%ss(%s, n%d, v%d);", elements[arg.element], where, arg.position, arg.position)
            end
        end
    end
    -- 3: call
    local call = {}
    for _, parameter in ipairs(fn.cparams) do
        local arg, out = parameter.arg, parameter.out
        if arg and parameter.part == "count" then
            local n = "n" .. arg.position
            if arg.kind == "array" and arg.nullable then n = ("(%s < 0 ? 0 : %s)"):format(n, n) end
            if arg.ntype == "int32_t" then n = "(int32_t)" .. n end
            call[#call + 1] = n
        elseif arg then
            call[#call + 1] = arg.kind == "array" and "v" .. arg.position or arg.id
        else
            call[#call + 1] = (out.kind == "array" and "" or "&") .. out.id
        end
    end
    local expression = ("distac_%s(%s)"):format(fn.name, table.concat(call, ", "))
    local pushed = 0
    if fn.result == "status" then
        line("distac_status status = %s;", expression)
        line("if (status == DISTAC_ENOMEM && dl_collect(L)) status = %s;", expression)
        line("if (status != DISTAC_OK) return dl_raise(L, status);")
    elseif fn.result == "void" then
        line("%s;", expression)
    elseif fn.result == "string" then
        line("lua_pushstring(L, %s);", expression)
        pushed = 1
    elseif fn.result == "double" then
        line("lua_pushnumber(L, %s);", expression)
        pushed = 1
    elseif fn.result == "pointer" then
        line("dl_push_pointer(L, %s);", expression)
        pushed = 1
    elseif fn.result == "uint64_t" then
        line("dl_push_uint64(L, %s);", expression)
        pushed = 1
    else
        line("%s result = %s;", fn.result, expression)
        line("lua_pushinteger(L, result);")
        pushed = 1
    end
    -- 4: results
    for number, out in ipairs(fn.outs) do
        if out.kind == "handle" then
            if out.of == "context" then
                line("dl_own_context(L, box%d, %s);", number, out.id)
            else
                line("box%d->handle = %s;", number, out.id)
            end
            line("lua_pushvalue(L, %d);", out.slot)
        elseif out.kind == "number" then
            line(out.ctype == "double" and "lua_pushnumber(L, %s);" or "lua_pushinteger(L, %s);", out.id)
        elseif out.kind == "struct" then
            if fn.result == "status" then
                line("dl_push_struct(L, &struct_%s, &%s);", out.of, out.id)
            else
                line("if (result == 0) lua_pushnil(L);")
                line("else dl_push_struct(L, &struct_%s, &%s);", out.of, out.id)
            end
        else
            line("dl_push_doubles(L, n%d, v%d);", out.count.position, out.count.position)
        end
        pushed = pushed + 1
    end
    if fn.tags.new then line("dl_account(L);") end
    line("return %d;", pushed)
    lines[#lines + 1] = "}\n"
    return table.concat(lines, "\n")
end

return function(api)
    local out = { [[
/* raw_lua54.c: written by bindings/gen.lua from core/distac.h; do not edit. */
#include "raw.h"
#include <string.h>

enum {]] }
    local function add(text, ...) out[#out + 1] = select("#", ...) > 0 and text:format(...) or text end
    for index, kind in ipairs(api.kinds) do add("    DL_%s = %d,", kind:upper(), index - 1) end
    add("};\n")
    for _, kind in ipairs(api.kinds) do
        add("static void drop_%s(void *handle)\n{\n    distac_%s_release(handle);\n}\n", kind, kind)
    end
    add("const dl_kind dl_kinds[] = {")
    for _, kind in ipairs(api.kinds) do add('    {"%s", drop_%s},', kind, kind) end
    add("};\nconst int dl_kind_count = %d;\nconst int dl_abi_version = %d;\n", #api.kinds, api.abi)
    for _, struct in ipairs(api.structs) do
        add("static const dl_field fields_%s[] = {", struct.name)
        for _, field in ipairs(struct.fields) do
            add('    {"%s", %s, offsetof(distac_%s, %s)},', field.name, field_kinds[field.ctype], struct.name,
                field.name)
        end
        add("};\nstatic const dl_struct struct_%s = {fields_%s, %d, sizeof(distac_%s)};\n", struct.name,
            struct.name, #struct.fields, struct.name)
    end
    for _, fn in ipairs(api.functions) do add("%s", wrapper(fn)) end
    add("const luaL_Reg dl_functions[] = {")
    for _, fn in ipairs(api.functions) do add('    {"%s", w_%s},', fn.name, fn.name) end
    add("    {NULL, NULL},\n};\nconst int dl_function_count = %d;\n", #api.functions)
    add("const dl_constant dl_constants[] = {")
    for _, constant in ipairs(api.constants) do add('    {"%s", %d},', constant.name, constant.value) end
    add("    {NULL, 0},\n};")
    return table.concat(out, "\n") .. "\n"
end
