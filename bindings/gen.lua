-- gen.lua: reads the fenced block of core/distac.h and writes both Lua bindings and their companions.
--
--   lua5.4 bindings/gen.lua HEADER OUTDIR [LIBDIR]
--
-- OUTDIR receives raw_lua54.c (wrappers for the Lua 5.4 C API), raw_gen.lua (wrappers over LuaJIT's ffi),
-- raw_cdef.lua (the block as ffi.cdef reads it), names.lua (what both must expose), exports.map (linker
-- version script) and api.md (reference page).
--
-- The grammar of the block. Anything else stops the build and names the function.
--   typedef int32_t distac_status;
--   enum { DISTAC_A = 0, DISTAC_B = -1, ... };          every member has its number
--   typedef struct distac_KIND distac_KIND;             a handle; needs void distac_KIND_release(distac_KIND *)
--   typedef struct distac_S { FIELD; ... } distac_S;    FIELD: int32_t, int64_t, uint64_t, double, const char *
--   DISTAC_API RESULT distac_NAME(PARAMETERS);
-- RESULT      distac_status | void | int32_t | int64_t | uint64_t | double | const char * | void *
-- PARAMETERS  void, or a list of
--   [const] distac_KIND *x                              a handle
--   int32_t | int64_t | uint64_t | double | distac_status x
--   const char *x                                       a string without zero bytes
--   const char *text, int64_t bytes                     a string of any bytes, one argument in Lua
--   int32_t|int64_t n_x, const T *x                     an array; T: int32_t, int64_t, double
--   int32_t|int64_t n_x, distac_KIND *const *x          an array of handles
--   int64_t n_x, DISTAC_FILL double *x                  Lua gives the count and gets the array
--   const distac_S *x                                   a table with the fields of the struct
--   void *x                                             memory: light userdata, a string, or a cdata of ffi
--   distac_KIND **x                                     result: a handle
--   int32_t|int64_t|double *x, distac_S *x              result: a number, a table
-- DISTAC_NULLABLE may stand before handles, strings, arrays and structs that are read.
-- The comment before a function starts with its tags: [new] [view] [borrow] [any].

local here = arg[0]:match("^(.*)/[^/]*$") or "."
package.path = here .. "/gen/?.lua;" .. package.path
local header, outdir, libdir = arg[1], arg[2], arg[3] or "lib"
if not outdir then
    io.stderr:write("usage: gen.lua HEADER OUTDIR [LIBDIR]\n")
    os.exit(2)
end

local files = require "files"
local function write(name, text) files.renew(outdir .. "/" .. name, text) end

local ok, api = pcall(require("parse"), files.read(header))
if not ok then
    io.stderr:write(header, ": ", tostring(api):gsub("^[^:]*parse%.lua:%d+: ", ""), "\n")
    os.exit(1)
end
write("raw_lua54.c", require("lua54")(api))
write("raw_gen.lua", require("luajit")(api))
local companions = require("companions")
write("raw_cdef.lua", companions.cdef(api, libdir))
write("names.lua", companions.names(api))
write("exports.map", companions.exports(api))
write("api.md", companions.docs(api))
