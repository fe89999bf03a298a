-- Recipes on a tiny suite with merges of their own, sources that are not finite, variants and scaling.
local distac = require "distac"
local json = require "distac.json"
local tiny = require "spec.tiny"

local root

local function run(words) return tiny.run(words, root) end

local function results(folder) return tiny.results(root .. "/" .. folder) end

describe("a recipe", function()
    setup(function() root = tiny.suite({ "alpha", "beta" }, 8) end)
    teardown(function() tiny.remove(root) end)

    it("reports sources that are not finite, and what a merge function got wrong", function()
        local base, sick = distac.load(root .. "/base.safetensors"), {}
        for _, name in ipairs(base:names()) do sick[name] = base[name]:clone() end
        sick["visual.proj"][{ 2, 1 }] = 1 / 0
        distac.save(root .. "/sick.safetensors", sick, { metadata = base:metadata() })
        local text = [[
local distac = require "distac"
return distac.recipe {
    name = "sick", suite = distac.folder_suite { root = "data", model = "base.safetensors" },
    sources = { alpha = "SOURCE.safetensors", beta = "base.safetensors" },
    merge = { function(base, taus) return MERGED end }, lambda = 1,
}
]]
        local function status_of(source, merged)
            tiny.write(root .. "/sick.lua", (text:gsub("SOURCE", source):gsub("MERGED", merged)))
            local status, _, err = tiny.run({ "run", "sick.lua", "--quiet", "--out", "sick" }, root)
            return status, err
        end
        local status, err = status_of("sick", "taus[1]")
        assert.equal(2, status)
        assert.truthy(err:find("sick.lua:4: sources.alpha: sick.safetensors: visual.proj has 1 elements that are "
            .. "not finite, the first at 16", 1, true), err)
        assert.is_nil(distac.fs.kind(root .. "/sick"))
        status, err = status_of("base", "taus[9]")
        assert.equal(1, status)
        assert.truthy(err:find("custom: the merge function must return", 1, true), err)
        status, err = status_of("base", "taus.none.x")
        assert.equal(1, status)
        assert.truthy(err:find("sick.lua:5: attempt to index", 1, true), err)
        assert.equal(0, (status_of("base", "0.5 * taus[1]")))
        local models = distac.load(root .. "/sick/merged-custom.safetensors"):metadata("distac.models")
        assert.same({ distac.hash.file(root .. "/base.safetensors") }, { json.decode(models)[2] })
    end)

    it("merges with functions of the recipe's own, over tensors and over elements", function()
        local text = [[
local distac = require "distac"
local function sum(tau, out, n)
    for i = 1, n do
        local s = 0
        for k = 1, #tau do s = s + tau[k][i] end
        out[i] = s
    end
end
return distac.recipe {
    name = "own", suite = distac.folder_suite { root = "data", model = "base.safetensors" },
    finetune = { steps = 3, batch = 8, lr = 1e-3 }, lambda = distac.grid(0.5, 1, 0.5),
    merge = {
        distac.merge.task_arithmetic { lambda = 0.5 },
        distac.merge.elementwise(sum, { lambda = 0.5, chunk = 100 }),
        distac.merge.elementwise(sum),
        distac.merge.elementwise(function(tau, out, n, base, where)
            for i = 1, n do out[i] = where.name == "visual.proj" and tau[1][i] or -base[i] end
        end, { name = "blank", lambda = 1, except = "*.ln_1.*" }),
        distac.merge.custom(function(_, taus) return taus[1] + taus[2] end, { name = "whole", lambda = 0.5 }),
    },
}
]]
        tiny.write(root .. "/own.lua", text)
        local status, _, err = run { "run", "own.lua", "--quiet" }
        assert.equal(0, status, err)
        local r, names, points = results "runs/own", {}, {}
        for i, merge in ipairs(r.merges) do names[i], points[i] = merge.method, #(merge.curve or { 1 }) end
        assert.same({ "task_arithmetic", "elementwise", "elementwise-2", "blank", "whole" }, names)
        assert.same({ 1, 1, 2, 1, 1 }, points)
        local function merged(name) return distac.load(root .. "/runs/own/merged-" .. name .. ".safetensors") end
        local want, base, blank = merged "task_arithmetic", distac.load(root .. "/base.safetensors"),
            merged "blank"
        local first = distac.load(root .. "/" .. r.models.alpha.source)
        for _, name in ipairs(want:names()) do
            for _, other in ipairs { "elementwise", "whole" } do
                local far = (merged(other)[name] - want[name]):norm():item()
                assert.is_true(far <= 1e-6 * want[name]:norm():item(), other .. " " .. name .. " " .. far)
            end
            assert.is_true(name == "logit_scale" or (want[name] - base[name]):norm():item() > 0, name)
            local kept = name:find(".ln_1.", 1, true) and base[name] or name == "visual.proj" and first[name]
            local far = (kept and blank[name] - kept or blank[name]):norm():item()
            assert.is_true(far <= 1e-6, "blank " .. name .. " " .. far)
        end
        local before = tiny.files(root .. "/runs/own")
        status, _, err = run { "run", "own.lua" }
        assert.equal(0, status, err)
        assert.same(before["results.json"], tiny.files(root .. "/runs/own")["results.json"])
        for change, want_text in pairs {
            [{ "chunk = 100", "chnk = 100" }] = 'did you mean "chunk"?',
            [{ "elementwise%(sum, {", "elementwise(7, {" }] = "function",
            [{ '"blank"', '"a/b"' }] = "files are called by it",
        } do
            tiny.write(root .. "/own.lua", (text:gsub(change[1], change[2])))
            status, _, err = run { "plan", "own.lua" }
            assert.equal(2, status)
            assert.truthy(err:find("merge[", 1, true) and err:find(want_text, 1, true), err)
        end
    end)

    it("runs the same recipe once per variant and gives the means", function()
        tiny.recipe(root, function(text)
            return (text:gsub("curves = 10,", [[scaling = distac.grid(0, 2, 1),
    variants = { { name = "plain" }, { name = "long", set = { ["finetune.tasks.beta.lr"] = 1e-2 } } },]])
                :gsub("kappa = 1,", 'kappa = distac.match_norm("mean"), also_scaled = true,')
                :gsub("teacher = 1, student = 10", "teacher = 10, student = 10"))
        end)
        local status, _, err = run { "run", "tiny.lua" }
        assert.equal(0, status, err)
        local r = results "runs/tiny"
        assert.equal(2, #r.variants)
        assert.equal("long", r.variants[2].name)
        -- alpha is trained once for both variants
        local _, trained = err:gsub("fine%-tuning alpha", "")
        assert.equal(1, trained)
        assert.equal(6, #r.merges)
        for i, merge in ipairs(r.merges) do
            local a, b = r.variants[1].merges[i], r.variants[2].merges[i]
            assert.equal(a.method, merge.method)
            assert.is_true(math.abs((a.mean_accuracy + b.mean_accuracy) / 2 - merge.mean_accuracy) < 1e-12)
        end
        local long = r.variants[2]
        assert.is_true(long.individual.norm.beta > long.individual.norm.alpha)
        local norm = long.individual.norm
        assert.is_true(math.abs(long.conditioned.kappa.beta - norm.alpha / norm.beta) < 1e-9)
        assert.equal(1, long.conditioned.kappa.alpha)
        assert.is_false(long.conditioned.distilled.alpha)
        assert.equal(3, #long.scaling)
        assert.equal(r.zero_shot.accuracy.alpha, long.scaling[1].accuracy.alpha)
        assert.equal(long.individual.accuracy.beta, long.scaling[2].accuracy.beta)
        assert.equal("file", distac.fs.kind(root .. "/runs/tiny/long/merged-ties.safetensors"))
    end)
end)
