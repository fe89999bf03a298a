-- distac merge when things go wrong: killed at any moment, fed hostile files, numbers that are not finite.
local distac = require "distac"
local tiny = require "spec.tiny"

local root

local function run(...) return tiny.run({ ... }, root) end

local function exists(path)
    local file = io.open(path, "rb")
    if file then file:close() end
    return file ~= nil
end

local function temporaries(folder)
    local list = {}
    local pipe = io.popen("ls -A " .. tiny.quote(folder or root))
    for name in pipe:lines() do
        if name:find("distac-tmp", 1, true) or name:find("canonical", 1, true) or name:find("replay", 1, true) then
            list[#list + 1] = name
        end
    end
    pipe:close()
    return list
end

describe("distac merge", function()
    setup(function() root = tiny.folder() end)
    teardown(function() tiny.remove(root) end)

    -- Merges again and again over out, killed at random moments. Returns the arguments of the last that was whole.
    local function kill_often(kills, out, more, content_of)
        local function words(lambda)
            local list = { "merge", "--force", "--quiet", "--base", "base.safetensors", "--method", "ties",
                "--lambda", lambda,
                           "-o", out, "a.safetensors", "b.safetensors" }
            for _, word in ipairs(more) do list[#list + 1] = word end
            return list
        end
        local content = {}
        for _, lambda in ipairs { "0.25", "0.5" } do
            local begun = distac.clock()
            local status, _, err = tiny.run(words(lambda), root)
            assert.equal(0, status, err)
            content[lambda], content.seconds = content_of(), distac.clock() - begun
        end
        assert.truthy(content["0.25"] ~= content["0.5"])
        local now, killed, replaced, left = "0.5", 0, 0, 0
        local random = distac.rng(11, 0)
        for _ = 1, kills do
            local lambda = now == "0.5" and "0.25" or "0.5"
            local wait = content.seconds * 1.1 * random:uniform()
            os.execute(string.format("cd %s && timeout --foreground -s KILL %.4f %s >/dev/null 2>&1",
                tiny.quote(root), wait + 0.001,
                tiny.command(words(lambda))))
            local there = content_of()
            assert.truthy(there == content[now] or there == content[lambda], "broken after " .. wait)
            if there == content[now] then killed = killed + 1 else now, replaced = lambda, replaced + 1 end
            local stale = #temporaries()
            assert.truthy(stale <= 1, stale)
            left = left + stale
        end
        assert.truthy(killed > kills / 10, killed)
        -- A writer that was killed before it wrote anything leaves an empty file or folder, which the next of its
        -- name removes once the system has buried the dead one.
        for _ = 1, 10 do
            assert.equal(0, (tiny.run(words(now), root)))
            if #temporaries() == 0 then break end
        end
        assert.same({}, temporaries())
        assert.equal(content[now], content_of())
        if os.getenv "DISTAC_KILLS" then
            print(string.format("# %s: %d killed, %d had finished, %d temporaries were left and removed", out,
                killed, replaced,
                left))
        end
    end

    local function make_inputs()
        for i, name in ipairs { "base", "a", "b" } do
            distac.save(root .. "/" .. name .. ".safetensors", distac.checkpoint {
                x = distac.randn { 600, 1000, seed = i }, y = distac.randn { 300, seed = 9 + i },
                z = distac.randn { 600, 1000, seed = 20 + i } })
        end
    end

    -- DISTAC_KILLS: how many; the lanes take few.
    local kills = tonumber(os.getenv "DISTAC_KILLS" or "") or 10

    it("into several files, killed at any moment, leaves the older folder or the new one, whole", function()
        make_inputs()
        kill_often(kills / 2, "folder", { "--shard", "1MB" }, function()
            local files = {}
            for i, name in ipairs(distac.fs.list(root .. "/folder")) do
                files[i] = name .. ":" .. tiny.read(root .. "/folder/" .. name)
            end
            assert.equal(3, #distac.load(root .. "/folder"):names())
            assert.equal(4, #files)
            return table.concat(files)
        end)
    end)

    it("killed at any moment leaves the older file or the new one, whole", function()
        make_inputs()
        kill_often(kills, "out.safetensors", {}, function() return tiny.read(root .. "/out.safetensors") end)
        -- A writer of another file in the folder tidies up as well. What is empty may belong to one that begins.
        tiny.write(root .. "/.other.safetensors.1.0.distac-tmp", "what a writer with a number in use again left")
        tiny.write(root .. "/.new.safetensors.1.0.distac-tmp", "")
        tiny.write(root .. "/.mine.distac-tmp", "no writer's")
        local status, _, err = run("merge", "--base", "base.safetensors", "--method", "average", "-o",
            "another.safetensors", "a.safetensors")
        assert.equal(0, status, err)
        assert.same({ ".mine.distac-tmp", ".new.safetensors.1.0.distac-tmp" }, temporaries())
    end)

    it("refuses every hostile file for its reason and writes nothing", function()
        local program = (os.getenv "DISTAC_BUILD" or "build") .. "/spec/test_safetensors"
        if not exists(program) then return pending("the C test that makes the files is not built") end
        local files = root .. "/files"
        distac.fs.make(files)
        os.execute("DISTAC_KEEP_FILES=" .. tiny.quote(files) .. " " .. program .. " >/dev/null 2>&1")
        local refused, accepted = 0, 0
        distac.save(root .. "/base.safetensors", distac.checkpoint { w = distac.randn { 2, 2, seed = 1 } })
        for _, name in ipairs(distac.fs.list(files)) do
            local reason = tiny.read(files .. "/" .. name:gsub("safetensors$", "reason"))
            if name:find "^refused.*safetensors$" then
                local as_base = refused % 2 == 1
                local status, out, err = run("merge", "--method", "average", "-o", "out-hostile.safetensors",
                    "--base",
                    as_base and "files/" .. name or "base.safetensors",
                    as_base and "base.safetensors" or "files/" .. name)
                assert.equal(1, status, name .. ": " .. tostring(err))
                assert.equal("", out)
                assert.truthy(err:find(reason, 1, true), name .. ": " .. err .. " lacks " .. reason)
                refused = refused + 1
            elseif name:find "^accepted" then -- as its own base: nothing to fit, but all of it is read
                local status, _, err = run("merge", "--method", "average", "-o", "out-fine.safetensors", "--base",
                    "files/" .. name, "--force", "files/" .. name)
                assert.truthy(status == 0 or err:find("not finite", 1, true) or err:find(" is nan", 1, true)
                    or err:find(" is inf", 1, true), name .. ": " .. tostring(err))
                accepted = accepted + 1
            end
        end
        assert.is_nil(distac.fs.kind(root .. "/out-hostile.safetensors"))
        assert.truthy(refused >= 73, refused)
        assert.truthy(accepted >= 10, accepted)
    end)

    it("tells all tensors with numbers that are not finite", function()
        local function save(name, bad)
            local tensors = {}
            for i = 1, 15 do
                local values = { 1, 2, 3 }
                if bad[i] then values[bad[i]], values[3] = 0 / 0, 1 / 0 end
                tensors[string.format("t%02d", i)] = distac.tensor(values)
            end
            distac.save(root .. "/" .. name, distac.checkpoint(tensors))
        end
        save("n.safetensors", {})
        save("m1.safetensors", { [2] = 1, [5] = 2 })
        save("m2.safetensors", { [2] = 2 })
        for _, method in ipairs { "average", "ties", "task_arithmetic" } do
            local status, _, err = run("merge", "--base", "n.safetensors", "--method", method, "-o",
                "nan.safetensors", "m1.safetensors", "m2.safetensors")
            assert.equal(1, status)
            for _, piece in ipairs { 'm1.safetensors: tensor "t02", element 0 is nan',
                'm1.safetensors: tensor "t02": 2 not finite, the first is element 0',
                'm2.safetensors: tensor "t02": 2 not finite, the first is element 1',
                'm1.safetensors: tensor "t05": 2 not finite, the first is element 1' } do
                assert.truthy(err:find(piece, 1, true), err .. " lacks " .. piece)
            end
            assert.is_nil(err:find("t01", 1, true))
            assert.is_nil(distac.fs.kind(root .. "/nan.safetensors"))
        end
        local all = {}
        for i = 1, 15 do all[i] = 1 end
        save("m3.safetensors", all)
        local status, _, err = run("merge", "--base", "n.safetensors", "--method", "average", "-o",
            "nan.safetensors", "m3.safetensors")
        assert.equal(1, status)
        assert.truthy(err:find("and 3 more tensors", 1, true), err)
    end)
end)
