-- Runs that are killed or interrupted and continued, and runs on other numbers of threads: the same bits as a run
-- that went through.
local distac = require "distac"
local tiny = require "spec.tiny"

local root

local function run(words) return tiny.run(words, root) end

-- Models of a run: every safetensors file of the folder and its stages.
local function models(folder)
    local out = {}
    for _, part in ipairs { folder, folder .. "/stages" } do
        for name, bytes in pairs(tiny.files(root .. "/" .. part)) do
            if name:find "%.safetensors$" then out[name] = bytes end
        end
    end
    return out
end

-- What a run found, without the times that it took.
local function found(folder) return tiny.without_time(tiny.results(root .. "/" .. folder)) end

local function same_models(whole, other)
    for name, bytes in pairs(whole) do assert.is_true(bytes == other[name], name) end
end

describe("a run that was cut short", function()
    setup(function()
        root = tiny.suite({ "alpha", "beta", "gamma" }, 12)
        tiny.recipe(root)
    end)
    teardown(function() tiny.remove(root) end)

    it("continues a killed run bit for bit", function()
        local function to(folder)
            return { "run", "tiny.lua", "--quiet", "--set", "finetune.steps=400", "--set", "condition.steps=200",
                     "--out", folder }
        end
        local begun = distac.clock()
        assert.equal(0, (run(to "whole")))
        local length = distac.clock() - begun
        local whole = models "whole"
        assert.is_true(tiny.count(whole) >= 10)
        local function compare()
            assert.equal(found "whole", found "cut")
            local cut = models "cut"
            same_models(whole, cut)
            for name in pairs(cut) do assert.is_nil(name:find("partial", 1, true)) end
        end
        -- Killed at random moments; a run that gets through is compared and begun again from nothing.
        local command = tiny.command(to "cut", "", 'require("distac.training").save_every = 0.01')
        local killed, tries, random = 0, 0, distac.rng(99)
        while killed < 20 and tries < 60 do
            tries = tries + 1
            -- --foreground: the end of the killed one is waited for, no other process is hit
            os.execute(string.format(
                "cd %s && timeout --foreground -s KILL %.3f sh -c %s >/dev/null 2>&1; echo $? >rc",
                tiny.quote(root), 0.03 + length * 0.6 * random:uniform(), tiny.quote("exec " .. command)))
            if tonumber(tiny.read(root .. "/rc")) == 0 then
                compare()
                tiny.remove(root .. "/cut")
            else
                killed = killed + 1
            end
        end
        assert.equal(20, killed)
        assert.equal(0, (run(to "cut")))
        compare()
    end)

    it("clears what a kill between the result and the end of a stage left behind", function()
        local folder, left = root .. "/whole/stages", nil
        for _, name in ipairs(distac.fs.list(folder)) do
            left = left or name:match("^(%x+)%.safetensors$")
        end
        tiny.write(folder .. "/" .. left .. ".partial.safetensors", "stale")
        assert.equal(0, (run { "run", "tiny.lua", "--quiet", "--set", "finetune.steps=400", "--set",
                               "condition.steps=200", "--out", "whole" }))
        assert.is_nil(distac.fs.kind(folder .. "/" .. left .. ".partial.safetensors"))
        assert.is_not_nil(distac.fs.kind(folder .. "/" .. left .. ".safetensors"))
    end)

    it("saves its state when it is interrupted, and continues bit for bit", function()
        local recipe = require "distac.recipe"
        local sets = { { path = "finetune.loss", text = "mixup", label = "--set" } }
        local function go(folder, stop_at)
            local progress = require "distac.progress"
            local new, steps = progress.new, 0
            progress.new = function(options)
                local bar = new(options)
                bar.update = function()
                    steps = steps + 1
                    if steps == stop_at then distac.cancel() end
                end
                return bar
            end
            local ok, err = pcall(function()
                return recipe.load(root .. "/tiny.lua", sets):run { out = root .. "/" .. folder, quiet = true }
            end)
            progress.new = new
            distac.cancel_clear()
            return ok, err
        end
        assert.is_true((go "calm"))
        for _, stop_at in ipairs { 5, 20, 45, 100, 130 } do
            local ok, err = go("stopped", stop_at)
            if not ok then assert.equal("ECANCELED", type(err) == "table" and err.code, tostring(err)) end
        end
        assert.is_true((go "stopped"))
        same_models(models "calm", models "stopped")
    end)

    it("gives the same bits on 1, 2, 3 and 8 threads", function()
        local first
        for _, threads in ipairs { 1, 2, 3, 8 } do
            local folder = "threads" .. threads
            local status, _, err = run { "run", "tiny.lua", "--quiet", "--out", folder, "--threads",
                tostring(threads) }
            assert.equal(0, status, err)
            local made = models(folder)
            assert.is_true(tiny.count(made) >= 10)
            assert.is_not_nil(made["merged-ties.safetensors"])
            first = first or made
            assert.equal(tiny.count(first), tiny.count(made))
            same_models(first, made)
            assert.equal(found "threads1", found(folder))
        end
    end)
end)
