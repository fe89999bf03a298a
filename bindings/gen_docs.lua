-- gen_docs.lua: collects documentation: lua5.4 bindings/gen_docs.lua HEADER OUTDIR LUAFOLDER FILE.lua...
-- OUTDIR receives docs.lua (what help at the prompt reads), api_lua.md (the same as a page) and distac.d.lua (the same
-- for editors). FILEs lie in LUAFOLDER/distac.

local here = arg[0]:match("^(.*)/[^/]*$") or "."
package.path = here .. "/gen/?.lua;" .. package.path
local header, outdir, folder = arg[1], arg[2], arg[3]
if not folder then
    io.stderr:write("usage: gen_docs.lua HEADER OUTDIR LUAFOLDER FILE.lua...\n")
    os.exit(2)
end

local function read(path)
    local file = assert(io.open(path, "rb"))
    local text = file:read("*a")
    file:close()
    return text
end

local function write(path, text)
    local file = assert(io.open(path, "wb"))
    assert(file:write(text))
    assert(file:close())
end

local files = {}
for i = 4, #arg do
    local path = arg[i]
    if path:sub(1, #folder + 1) == folder .. "/" then path = path:sub(#folder + 2) end
    files[#files + 1] = { path = path, text = read(arg[i]) }
end
table.sort(files, function(a, b) return a.path < b.path end)
local docs = require "docs"
local list = docs.collect(require("parse")(read(header)), files)
write(outdir .. "/docs.lua", docs.module(list))
write(outdir .. "/api_lua.md", docs.page(list))
write(outdir .. "/distac.d.lua", require("types").file(list))
