-- gen_docs.lua: collects documentation: lua5.4 bindings/gen_docs.lua HEADER OUTDIR LUAFOLDER FILE.lua...
-- OUTDIR receives docs.lua (what help at the prompt reads), api_lua.md (the same as a page) and distac.d.lua (the
-- same for editors). FILEs lie in LUAFOLDER/distac.

local here = arg[0]:match("^(.*)/[^/]*$") or "."
package.path = here .. "/gen/?.lua;" .. package.path
local header, outdir, folder = arg[1], arg[2], arg[3]
if not folder then
    io.stderr:write("usage: gen_docs.lua HEADER OUTDIR LUAFOLDER FILE.lua...\n")
    os.exit(2)
end

local disk, files = require "files", {}
for i = 4, #arg do
    local path = arg[i]
    if path:sub(1, #folder + 1) == folder .. "/" then path = path:sub(#folder + 2) end
    files[#files + 1] = { path = path, text = disk.read(arg[i]) }
end
table.sort(files, function(a, b) return a.path < b.path end)
local docs = require "docs"
local list = docs.collect(require("parse")(disk.read(header)), files)
disk.write(outdir .. "/docs.lua", docs.module(list))
disk.write(outdir .. "/api_lua.md", docs.page(list))
disk.write(outdir .. "/distac.d.lua", require("types").file(list))
