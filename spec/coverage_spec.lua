-- Everything public is bound, documented and known to editors: the functions of distac.h on this runtime, those of
-- the Lua layer, and the interface's version.
local distac = require "distac"
local raw = require "distac.raw"
local helper = require "spec.helper"

local build = os.getenv "DISTAC_BUILD" or "build"

local read = distac.fs.read

local docs = {}
for _, entry in ipairs(require "distac.docs") do docs[entry.name] = entry end

-- Functions of C that the object layer has no use for, and why.
local RAW_ONLY = {
    last_error = "the bindings raise it", status_name = "error objects have it as code",
    abi_version = "the bindings check it", layout_text = "for hosts", checkpoint_part = "for hosts",
    merge_files = "for hosts: the object layer streams",
    merge_stream_files = "for hosts: the object layer streams",
    vit_linear_param = "for hosts",
}

describe("every public function of C", function()
    local header = read "core/distac.h"
    local block = header:match "fence: begin %*/(.-)/%* fence: end"
    local declared, comment = {}, nil
    -- comment by comment and declaration by declaration, in order
    local at = 1
    while true do
        local first, last = block:find("/%*.-%*/", at)
        local from, to = block:find("DISTAC_API [^;]+;", at)
        if not from and not first then break end
        if first and (not from or first < from) then
            comment = block:sub(first, last)
            at = last + 1
        else
            local name = block:sub(from, to):match "distac_([%w_]+)%("
            -- the comment must end right before, on the line above
            local between = comment and block:sub(1, from - 1):match "%*/%s*$" and comment
            declared[#declared + 1] = { name = name, text = between and not between:find "%-%-%-%-" and between }
            at, comment = to + 1, nil
        end
    end

    it("is found by this spec", function()
        assert.equal(#raw.functions, #declared)
        assert.is_true(#declared > 250)
    end)

    it("is bound on this runtime", function()
        for _, fn in ipairs(declared) do
            assert.equal("function", type(raw[fn.name]), "raw." .. fn.name)
        end
    end)

    it("has a comment in the header, and an entry in help and in the reference", function()
        local reference = read(build .. "/gen/api.md")
        for _, fn in ipairs(declared) do
            assert.truthy(fn.text and #fn.text > 10, "distac_" .. fn.name .. " has no comment right above it")
            local entry = docs["raw." .. fn.name]
            assert.truthy(entry, "no help for raw." .. fn.name)
            local declaration, text = entry.text:match "^([^\n]*distac_[%w_]+%(.-%);)\n(.+)$"
            assert.truthy(declaration and #text > 3, "help for raw." .. fn.name .. " has no text")
            local section = reference:match("### " .. fn.name .. "\n(.-)\n###")
                or reference:match("### " .. fn.name
                .. "\n(.*)")
            assert.truthy(section, "api.md has no " .. fn.name)
            assert.truthy(section:find("`raw." .. fn.name .. "(", 1, true))
            assert.truthy(section:find(text:sub(1, 20), 1, true), "api.md has no text for " .. fn.name)
        end
    end)

    it("serves the object layer, or is listed as for hosts", function()
        local pipe = io.popen "cat $(find lua -name '*.lua')"
        local sources = pipe:read "*a"
        pipe:close()
        for _, fn in ipairs(declared) do
            local used = sources:find("raw%." .. fn.name .. "%f[^%w_]") ~= nil
            if not fn.name:find "_release$" then
                assert.truthy(used or RAW_ONLY[fn.name], "raw." .. fn.name .. " is used nowhere")
            end
        end
        for name in pairs(RAW_ONLY) do
            assert.equal("function", type(raw[name]), name .. " is listed and not there")
        end
    end)
end)

-- Calls f(name, function) for all functions that can be reached from distac by names.
local function walk(f)
    local function step(prefix, t, depth)
        local names = {}
        for key in next, t do names[#names + 1] = key end
        for key in next, (debug.getmetatable(t) or {}).waiting or {} do names[#names + 1] = key end
        for _, key in ipairs(names) do
            local value, name = t[key], prefix .. "." .. tostring(key)
            if type(key) == "string" and not key:find "^_" then
                if type(value) == "function" then
                    f(name, value)
                elseif type(value) == "table" and depth < 4 then -- a function may have several names
                    step(name, value, depth + 1)
                end
            end
        end
    end
    step("distac", distac, 1)
end

-- Loads everything that gives objects their methods.
local function methods()
    for _, module in ipairs { "model", "head", "tokenizer", "text", "optimizer", "steps", "image", "plot", "rng",
        "merge", "dataset", "recipe", "suites", "loss" } do
        require("distac." .. module)
    end
    local check = require "distac.check"
    local list = {}
    for kind, of in pairs(check.methods) do
        for name in pairs(of) do list[#list + 1] = check.kinds[kind] .. ":" .. name end
    end
    return list
end

describe("every public function of Lua", function()
    it("has documentation", function()
        local by_function, undocumented, count = {}, {}, 0
        walk(function(name, f)
            if docs[name] and docs[name].text ~= "" then by_function[f] = name end
        end)
        walk(function(name, f)
            count = count + 1
            if not by_function[f] then undocumented[#undocumented + 1] = name end
        end)
        assert.equal("", table.concat(undocumented, " "))
        assert.is_true(count > 120)
        for _, name in ipairs(methods()) do
            count = count + 1
            if not docs[name] or docs[name].text == "" then undocumented[#undocumented + 1] = name end
        end
        assert.equal("", table.concat(undocumented, " "))
        assert.is_true(count > 250)
        for name, entry in pairs(docs) do
            if not name:find "^raw%." then assert.not_equal("", entry.text, name) end
        end
    end)

    it("is told by help and stands in the reference", function()
        local help = require "distac.repl.help"
        local reference = read(build .. "/gen/api_lua.md")
        for _, name in ipairs { "distac.load", "distac.tensor.adopt", "Tensor:abs", "Tensor:data", "Dataset:map",
            "Checkpoint:norms", "Rng:normal", "distac.merge.custom" } do
            local text = help.about(name)
            assert.truthy(text and text:find(docs[name].text:sub(1, 20), 1, true), name)
        end
        for name in pairs(docs) do
            if not name:find "^raw%." then
                assert.truthy(reference:find("### " .. name .. "\n", 1, true), name .. " is not in api_lua.md")
            end
        end
    end)
end)

describe("the file for editors", function()
    local text = read(build .. "/gen/distac.d.lua")

    it("is Lua that declares every public function", function()
        -- run, it makes the table that it describes; classes are its locals
        local classes = {}
        local source = text:gsub("\nlocal (%u%w*) = {}", function(name)
            classes[#classes + 1] = name
            return "\nlocal " .. name .. " = CLASS '" .. name .. "'"
        end)
        local made = {}
        local environment = { CLASS = function(name)
            made[name] = {}
            return made[name]
        end }
        local chunk
        if setfenv then
            chunk = setfenv(assert(loadstring(source)), environment)
        else
            chunk = assert(load(source, "distac.d.lua", "t", environment))
        end
        local declared = chunk()
        local names = {}
        walk(function(name, f)
            if docs[name] then names[#names + 1] = name end
            return f
        end)
        assert.is_true(#names > 100)
        for _, name in ipairs(names) do
            local value = declared
            for key in name:gmatch "%.([%w_]+)" do value = value and value[key] end
            assert.truthy(value, name .. " is not in distac.d.lua")
        end
        local list = methods()
        for _, name in ipairs(list) do
            local class, method = name:match "^(%w+):([%w_]+)$"
            assert.truthy(made[class] and made[class][method], name .. " is not in distac.d.lua")
        end
        assert.is_true(#classes >= 15)
    end)

    it("speaks of nothing that is not there", function()
        local classes = {}
        for name in text:gmatch "%-%-%-@class ([%w_%.]+)" do
            assert.is_nil(classes[name], name .. " is declared twice")
            classes[name] = true
        end
        for line in text:gmatch "[^\n]+" do
            if line:find "^%-%-%-@" then
                for name in line:gmatch "distac%.%u%w*" do
                    assert.is_true(classes[name], line)
                end
            end
        end
        for name in pairs(dofile "bindings/gen/types.lua".results) do
            assert.truthy(docs[name], "types.lua tells the result of " .. name .. ", which is not documented")
        end
    end)

    it("has the text of the sources", function()
        assert.truthy(text:find("--- Number of samples.\n---@return integer\nfunction Dataset:size() end", 1,
            true))
    end)
end)

describe("the interface's version", function()
    it("is the header's, and the release has three numbers", function()
        assert.equal(tonumber(read("core/distac.h"):match "#define DISTAC_ABI_VERSION (%d+)"), raw.abi_version())
        assert.truthy(distac.version:find "^%d+%.%d+%.%d+$")
        assert.truthy(read("CMakeLists.txt"):find("VERSION " .. distac.version, 1, true))
    end)

    it("is checked when the library is loaded", function()
        local source, library = helper.path "abi.c", helper.path "abi.so"
        local file = assert(io.open(source, "w"))
        file:write "int distac_abi_version(void) { return 977; }\n"
        file:close()
        local made = os.execute(("cc -shared -fPIC -o %s %s 2>/dev/null"):format(library, source))
        if made ~= true and made ~= 0 then
            pending "there is no C compiler to make another library with"
            return
        end
        local lua = raw.runtime == "luajit" and "luajit" or "lua5.4"
        local pipe = io.popen(([[LD_PRELOAD="$LD_PRELOAD %s" %s -e 'local ok, err = pcall(require, "distac.raw")
            print(ok, err)' 2>&1]]):format(library, lua))
        local said = pipe:read "*a"
        pipe:close()
        assert.truthy(said:find("^false"), said)
        assert.truthy(said:find(("distac.raw was built for interface %d of libdistac, the library has 977"):format(
            raw.abi_version()), 1, true), said)
    end)
end)
