-- Damaged texts: whatever stands in a recipe or in a JSON file, the answer is a value or a message of ours about
-- that file, never an error of Lua inside our files. The same damage every time.
local distac = require "distac"
local json = require "distac.json"
local recipe = require "distac.recipe"
local tiny = require "spec.tiny"

local words = { "nil", "true", "-1", "0", "1e308", "0/0", "math.huge", "{}", "{ 1, 2 }", "''", "\"x\"", "distac",
                "distac.recipe", "distac.loss.mixup {}", "distac.grid(0, 1, 0)", "distac.grid(1)",
                "function() end",
                "{ alpha = 1 }", "{ [1.5] = 2 }", "distac.merge", "print", "'\\0'", "2^53", "{{{}}}", "#{}",
                "distac.match_norm()", "distac.adamw { lr = {} }", "setmetatable({}, {__index = error})",
                "]]", "[[", "--", "=", ",", "{", "}", "(", ")", "\"", "\\", "\255", "\0", "\n" }
local json_words = { "{", "}", "[", "]", "\"", ":", ",", "\\", "\\u0000", "\\ud800", "\\u12", "1e999", "-", "-0",
                     "0x1", "01", ".5", "1e", "nul", "null", "true", "\255", "\0", "\t", "1e-400", "[[[[",
                     "\"a\":" }

-- Pieces of a text that are exchanged whole: names, numbers, strings, single symbols.
local function tokens(text)
    local list, at = {}, 1
    while at <= #text do
        local _, stop = text:find("^[%w_%.]+", at)
        if not stop then _, stop = text:find("^%b\"\"", at) end
        if not stop then _, stop = text:find("^%s+", at) end
        list[#list + 1] = text:sub(at, stop or at)
        at = (stop or at) + 1
    end
    return list
end

local function damage(text, rng, from)
    if rng:below(3) == 0 then
        local at, n = rng:below(#text) + 1, rng:below(4)
        local kind = rng:below(3)
        local middle = kind == 0 and string.char(rng:below(256)) or kind == 1 and text:sub(at, at + n + 20) or ""
        return text:sub(1, at - 1) .. middle .. text:sub(at + n)
    end
    local list = tokens(text)
    for _ = 0, rng:below(3) do
        local at, kind = rng:below(#list) + 1, rng:below(4)
        if kind == 0 and #list > 2 then
            table.remove(list, at)
        elseif kind == 1 then
            table.insert(list, at, list[rng:below(#list) + 1])
        else
            list[at] = from[rng:below(#from) + 1]
        end
    end
    return table.concat(list)
end

-- An error that Lua raised at a line of one of our files.
local function is_ours(message)
    return message:find "distac/[%w_/]+%.lua:%d" or message:find "^%[?C?%]?:? ?attempt to"
end

describe("damaged texts", function()
    local root
    setup(function() root = tiny.suite({ "alpha", "beta" }, 1) end)
    teardown(function() tiny.remove(root) end)

    it("of recipes load or are refused with messages about the file", function()
        local file, good = root .. "/damaged.lua", tiny.recipe_text:gsub("ROOT", root)
        good = good:gsub("curves = 10,", [[curves = 10, seed = 3,
    scaling = distac.grid(0, 2, 1),
    variants = { { name = "plain" }, { name = "long", set = { ["finetune.tasks.beta.lr"] = 1e-2 } } },]])
        local rng, loaded, refused = distac.rng(20), 0, 0
        local print_of_lua = print
        _G.print = function() end -- a damaged recipe may call it
        local ok, problem = pcall(function()
            for round = 1, 2000 do
                local text = round == 1 and good or damage(good, rng, words)
                tiny.write(file, text)
                local begun = distac.clock()
                local fine, value, mistakes = pcall(recipe.load, file)
                assert(distac.clock() - begun < 20, "slow: " .. text)
                local message
                if not fine then
                    assert(type(value) == "table" and type(value.message) == "string",
                        "not an error of ours: " .. tostring(value) .. "\n" .. text)
                    message = value.message
                elseif not value then
                    assert(#mistakes.messages > 0, "refused without a word:\n" .. text)
                    message = tostring(mistakes)
                    for _, line in ipairs(mistakes.messages) do
                        assert(line:sub(1, #file + 1) == file .. ":", "where is the mistake? " .. line)
                    end
                end
                if message then
                    refused = refused + 1
                    assert(not is_ours(message), message .. "\n" .. text)
                    assert(round > 1, message) -- the undamaged one loads
                else
                    loaded = loaded + 1
                end
            end
        end)
        _G.print = print_of_lua
        assert(ok, problem)
        assert.is_true(loaded > 20 and refused > 1000, loaded .. " loaded, " .. refused .. " refused")
    end)

    it("of JSON give values or messages with the line", function()
        local good = json.encode({ name = "tiny", list = { 1, 2.5, -3e-7, "x\"\\\n\1" }, empty = json.array {},
            deep = { { { a = json.null, b = true } } } }, { indent = 2 })
        local rng, read, refused = distac.rng(21), 0, 0
        for round = 1, 2000 do
            local text = round == 1 and good or damage(good, rng, json_words)
            local fine, value = pcall(json.decode, text)
            if fine then
                read = read + 1
                local again = json.encode(value)
                assert.equal(again, json.encode(json.decode(again)))
            else
                refused = refused + 1
                local message = type(value) == "table" and value.message or value
                assert.truthy(type(message) == "string" and message:find "^json: line %d+, byte %d+: ",
                    tostring(message) .. "\n" .. text)
            end
        end
        assert.is_true(read > 20 and refused > 1000, read .. " read, " .. refused .. " refused")
    end)
end)
