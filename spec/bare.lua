-- Runs specs where busted is not installed, on a machine with a GPU and little else: as much of busted as the specs
-- of devices use.
--   distac spec/bare.lua SPEC...     TAP on stdout; the exit status is 1 if something failed, 77 if all was skipped
local expect, state, number, failed, pended = {}, {}, 0, 0, 0
local SKIP = {}

local function show(v)
    if type(v) ~= "table" then return tostring(v) end
    local parts = {}
    for k, item in pairs(v) do parts[#parts + 1] = tostring(k) .. "=" .. tostring(item) end
    return "{" .. table.concat(parts, ", ") .. "}"
end
local function deep(a, b)
    if a == b then return true end
    if type(a) ~= "table" or type(b) ~= "table" then return false end
    for k, v in pairs(a) do if not deep(v, b[k]) then return false end end
    for k in pairs(b) do if a[k] == nil then return false end end
    return true
end
local function must(good, level, ...)
    if good then return end
    local texts = {}
    for i = 1, select("#", ...) do
        local text = select(i, ...)
        if text ~= nil then texts[#texts + 1] = tostring(text) end
    end
    error(table.concat(texts, ": "), level + 1)
end

function expect.equal(want, got, text)
    must(want == got, 2, text, show(want) .. " is wanted, got " .. show(got))
end
function expect.same(want, got, text)
    must(deep(want, got), 2, text, show(want) .. " is wanted, got " .. show(got))
end
function expect.is_true(got, text) must(got == true, 2, text, "true is wanted, got " .. show(got)) end
function expect.is_false(got, text) must(got == false, 2, text, "false is wanted, got " .. show(got)) end
function expect.is_nil(got, text) must(got == nil, 2, text, "nil is wanted, got " .. show(got)) end
function expect.is_not_nil(got, text) must(got ~= nil, 2, text, "nil is not wanted") end
function expect.truthy(got, text) must(got, 2, text, "got " .. show(got)) end
function expect.falsy(got, text) must(not got, 2, text, "got " .. show(got)) end
function expect.matches(pattern, got, text)
    must(type(got) == "string" and got:find(pattern), 2, text, pattern .. " is wanted in " .. show(got))
end
function expect.has_error(f, text) must(not pcall(f), 2, text, "an error is wanted") end
setmetatable(expect, { __call = function(_, good, text, ...)
    must(good, 2, text or "assertion failed!")
    return good, text, ...
end })

-- A file or a describe: what it holds runs in the order in which it is written, as busted does it.
local function group(name, body)
    local outer = state.group
    local own = { name = outer and outer.name and outer.name .. " " .. name or name, outer = outer, setup = {},
                  teardown = {}, before = {}, after = {}, items = {} }
    state.group = own
    body()
    state.group = outer
    if outer then outer.items[#outer.items + 1] = own end
    return own
end
local function each(own, kind)
    if own.outer and kind == "before" then each(own.outer, kind) end
    for _, f in ipairs(own[kind]) do f() end
    if own.outer and kind == "after" then each(own.outer, kind) end
end
local function message(err)
    if type(err) == "table" and err.message then return tostring(err.message) end
    return tostring(err)
end
local function report(own, name, ok, err)
    number = number + 1
    local full = (own.name .. " " .. name):gsub("^%s+", "")
    if ok then print(("ok %d - %s"):format(number, full)) return end
    if type(err) == "table" and err[1] == SKIP then
        pended = pended + 1
        print(("ok %d - # SKIP %s: %s"):format(number, full, err[2]))
        return
    end
    failed = failed + 1
    print(("not ok %d - %s\n# %s"):format(number, full, (message(err):gsub("\n", "\n# "))))
end
local function run(own)
    for _, f in ipairs(own.setup) do
        local ok, err = pcall(f)
        if not ok then return report(own, "setup", false, err) end
    end
    for _, item in ipairs(own.items) do
        if item.items then
            run(item)
        else
            local ok, err = pcall(function()
                each(own, "before")
                item.body()
            end)
            local cleared, why = pcall(each, own, "after")
            if ok and not cleared then ok, err = false, why end
            report(own, item.name, ok, err)
        end
    end
    for _, f in ipairs(own.teardown) do
        local ok, err = pcall(f)
        if not ok then report(own, "teardown", false, err) end
    end
end

local function keep(kind) return function(f) table.insert(state.group[kind], f) end end
local words = {
    describe = group, context = group, assert = expect, setup = keep "setup", teardown = keep "teardown",
    before_each = keep "before", after_each = keep "after",
    it = function(name, body) table.insert(state.group.items, { name = name, body = body }) end,
    pending = function(why) error({ SKIP, tostring(why) }, 0) end,
}
for name, word in pairs(words) do _G[name] = word end
package.path = "./?.lua;" .. package.path

if #arg == 0 then error "usage: distac spec/bare.lua SPEC..." end
for _, file in ipairs(arg) do
    local chunk, why = loadfile(file)
    if not chunk then error(why, 0) end
    run(group("", function() chunk() end))
end
print(("1..%d\n# %d passed, %d failed, %d skipped"):format(number, number - failed - pended, failed, pended))
os.exit(failed > 0 and 1 or pended == number and 77 or 0)
