local distac = require "distac"
local raw = require "distac.raw"
local helper = require "spec.helper"
local driven = require "spec.driven_problem"
local near, same, raises = helper.near, helper.same, helper.raises
local encoder, problem, input, same_checkpoint =
    driven.encoder, driven.problem, driven.input, driven.same_checkpoint

describe("the list of methods", function()
    it("tells which look at images", function()
        local found = {}
        for _, method in ipairs(distac.merge.methods()) do
            if method.data then found[#found + 1] = method.name end
        end
        assert.same({ "fisher", "regmean", "adamerging" }, found)
        assert.is_nil(distac.merge.methods()[1].data)
    end)

    it("is strict", function()
        raises("ENOTFOUND", { "distac.merge.fisher", "sampels", 'did you mean "samples"?' }, distac.merge.fisher,
            { sampels = 3 })
        raises("EINVAL", { "samples", "whole number" }, distac.merge.fisher, { samples = 1.5 })
        raises("EINVAL", { "images", "tset" }, distac.merge.adamerging, { images = "tset" })
        raises("EINVAL", { "share" }, distac.merge.fisher, { share = 2 })
        raises("EINVAL", { "only" }, distac.merge.fisher, { only = 3 })
    end)

    it("asks for data", function()
        local p = problem()
        local op = distac.merge.fisher {}
        raises("EINVAL", { "distac.merge.fisher", "looks at images", "data = {" }, op, p.base, p.taus)
        raises("EINVAL", { "data", "2 entries", "got 1" }, op, p.base, p.taus, { data = { p.data[1] } })
        raises("EINVAL", { "data[2]", "head is missing" }, op, p.base, p.taus,
            input(p, { data = { p.data[1], { dataset = p.data[2].dataset } } }))
        raises("EDTYPE", { "data[1]", "head", "wanted f32" }, op, p.base, p.taus, { data = p.data })
        raises("EINVAL", { "task vectors[1]" }, op, p.base, { p.base }, input(p))
        raises("ENOTFOUND", { "task vectors[1]", "visual.class_embedding", "more" }, op, p.base,
            { distac.taskvector(distac.checkpoint { w = distac.ones { 2 } }) }, input(p, { data = { p.data[1] } }))
        raises("EUNSUPPORTED", { "fisher", "recipe" }, op.files, op, p.base, {}, helper.path "never.safetensors")
    end)

    it("says what it is", function()
        local op = distac.merge.regmean { samples = 8 }
        assert.equal("regmean", op:name())
        near(op:params().off_diagonal, 0.9, 0)
        near(op:with({ off_diagonal = 0.5 }):params().samples, 8, 0)
        assert.truthy(tostring(op):find("samples = 8", 1, true))
    end)
end)

describe("laws of methods that look at images:", function()
    local small = { fisher = { samples = 5 }, regmean = { samples = 5, layers = "all" } }

    it("one model gives itself", function()
        local p = problem("f64", 1)
        for name, params in pairs(small) do
            same_checkpoint(distac.merge[name](params)(p.base, p.taus, input(p)), p.base + p.taus[1], 1e-9)
        end
        local alone = distac.merge.adamerging { iterations = 0, init = 1 } (p.base, p.taus, input(p))
        same_checkpoint(alone, p.base + p.taus[1], 1e-12)
    end)

    it("equal models give themselves", function()
        local p = problem()
        p.taus[2] = p.taus[1]
        for name, params in pairs(small) do
            same_checkpoint(distac.merge[name](params)(p.base, p.taus, input(p)), p.base + p.taus[1], 1e-9)
        end
    end)

    it("zero vectors add nothing", function()
        local p = problem()
        p.taus[1], p.taus[2] = 0 * p.taus[1], 0 * p.taus[2]
        small.adamerging = { iterations = 2, batch = 3 }
        for name, params in pairs(small) do
            same_checkpoint(distac.merge[name](params)(p.base, p.taus, input(p)), p.base, 1e-12)
        end
        small.adamerging = nil
    end)

    it("tensors outside of the encoder are averaged, rules hold", function()
        local p = problem()
        local function with(ck, value)
            local all = { extra = distac.full({ 2 }, value) }
            for _, name in ipairs(ck:names()) do all[name] = ck:tensor(name) end
            return distac.checkpoint(all, ck:metadata())
        end
        p.base = with(p.base, 1)
        for i = 1, 2 do p.taus[i] = distac.taskvector(with(p.taus[i], i)) end
        for name, params in pairs(small) do
            near(distac.merge[name](params)(p.base, p.taus, input(p)).extra, { 2.5, 2.5 }, 1e-6)
        end
        near(distac.merge.fisher { samples = 2, weights = { 3, 1 } } (p.base, p.taus, input(p)).extra,
            { 2.25, 2.25 },
            1e-6)
        local start = distac.merge.adamerging { iterations = 1, batch = 2, except = "*.mlp.*",
            scale = { { "visual.proj", 2 } } }
        local merged, notes = start(p.base, p.taus, input(p))
        near(merged.extra, { 1.9, 1.9 }, 1e-6)
        local name = "visual.transformer.resblocks.0.mlp.c_fc.weight"
        near(merged[name], p.base[name], 0)
        local at
        for i, candidate in ipairs(p.model:names()) do at = candidate == "visual.proj" and i or at end
        local l = notes.coefficients:table()
        near(merged["visual.proj"], p.base["visual.proj"] + 2 * l[1][at] * p.taus[1]["visual.proj"]
            + 2 * l[2][at] * p.taus[2]["visual.proj"], 1e-6)
        raises("ENOTFOUND", "no tensor matches", distac.merge.fisher { samples = 1, except = "nothing*" }, p.base,
            p.taus, input(p))
    end)

    it("the same bits on any number of threads, and again", function()
        local p = problem("f32")
        local ops = { distac.merge.fisher { samples = 4 }, distac.merge.regmean { samples = 6 },
            distac.merge.adamerging { iterations = 3, batch = 3 } }
        for _, op in ipairs(ops) do
            local first = op(p.base, p.taus, input(p))
            local threads = distac.context_info().threads
            raw.context_set_threads(distac.context(), 3)
            local second = op(p.base, p.taus, input(p))
            raw.context_set_threads(distac.context(), threads)
            for _, name in ipairs(first:names()) do same(first:tensor(name), second:tensor(name)) end
        end
    end)

    it("no memory stays behind", function()
        local p = problem("f32")
        helper.no_leak(function()
            distac.merge.fisher { samples = 2 } (p.base, p.taus, input(p))
            distac.merge.regmean { samples = 2 } (p.base, p.taus, input(p))
            distac.merge.adamerging { iterations = 1, batch = 2, vectors = "ties" } (p.base, p.taus, input(p))
        end)
    end)
end)

describe("recipes and the command line", function()
    local tiny = require "spec.tiny"
    local root

    setup(function() root = tiny.suite({ "bars", "stripes" }, 8) end)
    teardown(function() tiny.remove(root) end)

    local function recipe(name, merge)
        return tiny.recipe(root, function(text)
            return (text:gsub('"tiny"', '"' .. name .. '"', 1):gsub("condition = {.-\n    },\n", "")
                :gsub("curves = 10,", ""):gsub('merge  = {.-}', function() return "merge = " .. merge end, 1))
        end)
    end

    local function results(path, more)
        local words = { "run", path, "--out", root .. "/out", "--quiet" }
        for _, word in ipairs(more or {}) do words[#words + 1] = word end
        local status, _, err = tiny.run(words, root)
        assert.equal(0, status, err)
        return distac.json.decode(tiny.read(root .. "/out/results.json"))
    end

    local METHODS = [[{ distac.merge.fisher { samples = 4 }, "regmean",
        distac.merge.adamerging { iterations = 5, batch = 4, images = "test" }, "average" }]]

    it("take the tasks' images and heads", function()
        local r = results(recipe("driven", METHODS))
        assert.equal(4, #r.merges)
        for i, name in ipairs { "fisher", "regmean", "adamerging", "average" } do
            local merge = r.merges[i]
            assert.equal(name, merge.method)
            assert.equal(1, merge.lambda)
            assert.is_true(merge.mean_accuracy > 0.3, name)
            local written = distac.load(root .. "/out/merged-" .. name .. ".safetensors")
            assert.is_true((written - distac.load(root .. "/base.safetensors")):norm() > 0.01)
        end
        assert.equal(2, #r.merges[3].coefficients)
        assert.is_true(math.abs(r.merges[3].coefficients[1] - 0.3) < 0.02)
        assert.is_nil(r.merges[1].coefficients)
    end)

    it("do nothing twice, and notice other images and other settings", function()
        local function stages()
            local n = 0
            for _, name in ipairs(distac.fs.list(root .. "/out/stages")) do
                local text = name:match "%.json$" and tiny.read(root .. "/out/stages/" .. name)
                if text and text:find('"stage": "merge"', 1, true) then n = n + 1 end
                assert.is_nil(name:match "partial")
            end
            return n
        end
        local before = stages()
        assert.equal(4, before)
        results(recipe("driven", METHODS))
        assert.equal(before, stages())
        results(recipe("driven", '{ distac.merge.fisher { samples = 4, images = "validation" } }'))
        assert.equal(before + 1, stages())
        -- train, the default
        results(recipe("driven", '{ distac.merge.adamerging { iterations = 5, batch = 4 } }'))
        assert.equal(before + 2, stages())
        results(recipe("driven", '{ distac.merge.adamerging { iterations = 5, batch = 4 } }'),
            { "--set", "seed=0" })
        assert.equal(before + 2, stages())
    end)

    it("say what is wrong before any work", function()
        local path = recipe("driven",
            '{ distac.merge.fisher { samples = 1.5 }, distac.merge.adamerging { images = "tset" } }')
        local status, _, err = tiny.run({ "run", path, "--out", root .. "/out" }, root)
        assert.is_true(status ~= 0)
        assert.truthy(err:find("samples", 1, true), err)
        assert.truthy(err:find("tset", 1, true), err)
    end)

    it("distac merge refuses with the way to go", function()
        local base = root .. "/base.safetensors"
        local out = root .. "/never.safetensors"
        local status, _, err = tiny.run({ "merge", "--base", base, "--method", "regmean", "-o", out, base }, root)
        assert.equal(2, status)
        assert.truthy(err:find('merge = { "regmean" }', 1, true), err)
        assert.equal(0, distac.fs.kind(out) or 0)
        local _, text = tiny.run({ "merge", "--help" }, root)
        assert.truthy(text:find("in recipes and scripts only", 1, true), text)
    end)
end)
