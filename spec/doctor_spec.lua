-- distac doctor: models that each have one thing wrong with them, and what it says; the recipe it suggests is
-- taken by distac plan.
local distac = require "distac"
local json = require "distac.json"
local tiny = require "spec.tiny"

local root, base

local function run(words) return tiny.run(words, root) end

-- Writes NAME.safetensors: the base and noise of this size, changed by change(name, tensor, noise) -> tensor or
-- nil.
local function model(name, seed, size, change, metadata)
    local tensors, at = {}, 0
    for _, key in ipairs(base:names()) do
        at = at + 1
        local t = base[key]
        local noise = size * distac.randn(t:shape(), { seed = 1000 * seed + at })
        tensors[key] = change and change(key, t, noise)
        if tensors[key] == nil then tensors[key] = t + noise end
        if tensors[key] == false then tensors[key] = nil end
    end
    local all = {}
    for key, value in pairs(base:metadata()) do all[key] = value end
    for key, value in pairs(metadata or {}) do all[key] = value end
    distac.save(root .. "/" .. name .. ".safetensors", distac.checkpoint(tensors, all))
    return name .. ".safetensors"
end

-- The decoded report on these models, and the exit status.
local function doctor(models, ...)
    local words = { "doctor", "--json", "--base", "base.safetensors" }
    for _, word in ipairs { ... } do words[#words + 1] = word end
    for _, name in ipairs(models) do words[#words + 1] = name end
    local status, out, err = run(words)
    assert.is_true(status == 0 or status == 1, err)
    return json.decode(out), status
end

local function has(report, i, what)
    for _, f in ipairs(report.models[i].findings) do
        if f.what == what then return f.text end
    end
end

-- Model i has this finding and no other, the others have none.
local function only(report, i, what)
    for k, r in ipairs(report.models) do
        local words = {}
        for n, f in ipairs(r.findings) do words[n] = f.what end
        assert.equal(k == i and what or "", table.concat(words, " "), r.model)
    end
    assert.is_false(report.healthy)
    return has(report, i, what)
end

describe("distac doctor", function()
    local a, b, c
    setup(function()
        root = tiny.suite({ "alpha", "beta", "gamma" }, 8)
        base = distac.load(root .. "/base.safetensors")
        distac.save(root .. "/base.safetensors", distac.checkpoint((function()
            local tensors = { logit_scale = distac.tensor(4.6) }
            for _, name in ipairs(base:names()) do tensors[name] = base[name] + 0 end
            return tensors
        end)(), base:metadata()))
        base = distac.load(root .. "/base.safetensors")
        local function quiet(name) -- the scale of the logits stays
            if name == "logit_scale" then return base[name] end
        end
        a, b, c = model("alpha", 1, 0.003, quiet), model("beta", 2, 0.003, quiet), model("gamma", 3, 0.003, quiet)
    end)
    teardown(function() tiny.remove(root) end)

    local function quiet(name)
        if name == "logit_scale" then return base[name] end
    end

    it("finds nothing wrong with models that are well", function()
        local report, status = doctor { a, b, c }
        assert.equal(0, status)
        assert.is_true(report.healthy)
        local _, out = run { "norms", "--json", "--base", "base.safetensors", a, b, c }
        local norms = json.decode(out)
        for i, r in ipairs(report.models) do
            assert.equal(0, #r.findings)
            assert.equal(1, r.kappa)
            assert.is_nil(r.temperature)
            assert.is_true(math.abs(r.norm - norms.models[i].norm) < 1e-5 * r.norm)
            local sum = 0
            for _, norm in pairs(r.layers) do sum = sum + norm ^ 2 end
            assert.is_true(math.abs(math.sqrt(sum) - r.norm) < 1e-5 * r.norm)
            assert.is_true(r.layers["visual.transformer.resblocks.1"] > 0)
            assert.is_true(r.cosine > 0.99 and r.relative < 0.2)
            assert.equal(r.tensors - 1, r.moved)
            for j, cosine in ipairs(r.cosines) do assert.is_true(i == j or math.abs(cosine) < 0.05) end
        end
        assert.equal("alpha", report.models[1].task)
    end)

    it("shortens the longest vector to the mean norm of the others", function()
        local long = model("long", 4, 0.02, quiet)
        local report, status = doctor { a, long, c }
        assert.equal(1, status)
        only(report, 2, "norm")
        local n = { report.models[1].norm, report.models[2].norm, report.models[3].norm }
        assert.is_true(math.abs(report.models[2].kappa - (n[1] + n[3]) / 2 / n[2]) < 1e-9)
        assert.equal(10, report.models[2].temperature.teacher)
        assert.equal(10, report.models[2].temperature.student)
        assert.equal(1, report.models[1].kappa)
    end)

    it("finds numbers that are none, by tensor and element", function()
        local bad = model("bad", 5, 0.003, function(name, t, noise)
            if name == "visual.ln_pre.weight" then
                local out = t + noise
                out[3], out[5] = 0 / 0, 1 / 0
                return out
            end
            return quiet(name)
        end)
        local report = doctor { a, bad, c }
        local text = only(report, 2, "nonfinite")
        assert.truthy(text:find("2 numbers are NaN or infinite, in visual.ln_pre.weight (the first: element 2)", 1,
            true))
        assert.equal(2, report.models[2].nonfinite[1].count)
    end)

    it("finds another architecture, and tensors more", function()
        local part = model("part", 6, 0.003, function(name)
            if name == "visual.ln_post.bias" then return distac.zeros { 5 } end
            return quiet(name)
        end)
        local status, out, err = run { "doctor", "--json", "--base", "base.safetensors", a, part, c }
        if status == 1 and out ~= "" then
            assert.truthy(has(json.decode(out), 2, "tensors"))
        else -- refused when it is opened: the text names the tensor
            assert.truthy(err:find("visual.ln_post.bias", 1, true), err)
        end
        local more = model("more", 6, 0.003, quiet)
        local ck, tensors = distac.load(root .. "/" .. more), { ["probe.weight"] = distac.ones { 2 } }
        for _, name in ipairs(ck:names()) do tensors[name] = ck[name] + 0 end
        distac.save(root .. "/more2.safetensors", distac.checkpoint(tensors, ck:metadata()))
        local report = doctor { a, "more2.safetensors", c }
        assert.truthy(only(report, 2, "extra"):find("probe.weight", 1, true))
    end)

    it("finds the wrong activation", function()
        local wrong = model("wrong", 7, 0.003, quiet, { ["vit.activation"] = "quick_gelu" })
        local report = doctor { a, wrong, c }
        assert.truthy(only(report, 2, "activation"):find("the model says quick_gelu, the base gelu", 1, true))
    end)

    it("finds a model of another base", function()
        local other = distac.vit { image = 8, patch = 4, channels = 1, width = 32, layers = 2, heads = 2, dim = 16,
                                   activation = "gelu", seed = 77 }
        local tensors, ck = { logit_scale = distac.tensor(4.6) }, other:checkpoint()
        for _, name in ipairs(ck:names()) do tensors[name] = ck[name] end
        distac.save(root .. "/other.safetensors", distac.checkpoint(tensors, ck:metadata()))
        local report = doctor { a, "other.safetensors", c }
        assert.truthy(has(report, 2, "base"):find("does not look like a model fine-tuned from this base", 1, true))
        assert.is_nil(has(report, 1, "base"))
        assert.is_true(report.models[2].cosine < 0.9)
    end)

    it("finds a base that all models have in common", function()
        local list = {}
        for k = 1, 3 do
            list[k] = model("shared" .. k, 10 + k, 0.001, function(name, t, noise)
                local at = #name
                return quiet(name) or t + noise + 0.004 * distac.randn(t:shape(), { seed = 7000 + at })
            end)
        end
        local report = doctor(list)
        for k = 1, 3 do assert.truthy(has(report, k, "common"):find("another base", 1, true)) end
    end)

    it("finds the same model twice, and the base among the models", function()
        distac.fs.write(root .. "/twin.safetensors", tiny.read(root .. "/" .. a))
        local report = doctor { a, "twin.safetensors", c }
        assert.truthy(only(report, 2, "same"):find("the same change as " .. a, 1, true))
        report = doctor { a, "base.safetensors", c }
        assert.truthy(has(report, 2, "equal"))
    end)

    it("finds frozen tensors that moved, and what moved in one model alone", function()
        local scaled = model("scaled", 8, 0.003)
        local report = doctor { a, scaled, c }
        assert.truthy(only(report, 2, "frozen"):find("(logit_scale)", 1, true))
        local still = {}
        for k = 1, 2 do
            still[k] = model("still" .. k, 20 + k, 0.003, function(name, t)
                return quiet(name) or name == "visual.ln_post.bias" and t or nil
            end)
        end
        report = doctor { still[1], a, still[2] }
        assert.truthy(only(report, 2, "alone"):find("(visual.ln_post.bias)", 1, true))
    end)

    it("finds changes of low rank", function()
        local lora = model("lora", 9, 1, function(name, t)
            local shape = t:shape()
            if #shape ~= 2 then return t end
            return t + 0.003 * distac.randn({ shape[1], 2 }, { seed = #name }):matmul(
                distac.randn({ 2, shape[2] }, { seed = #name + 50 }))
        end)
        local report = doctor { a, lora, c }
        assert.truthy(has(report, 2, "rank"):find("low rank", 1, true))
        assert.is_true(report.models[2].rank <= 2)
        assert.is_nil(has(report, 1, "rank"))
        assert.is_nil(report.models[1].rank)
    end)

    describe("with data", function()
        local function head(name, factor)
            local suite = distac.suite(distac.folder_suite { root = root .. "/data",
                model = root .. "/base.safetensors", scale = 20 })
            local weight = suite:head "alpha":weight()
            distac.save(root .. "/" .. name, { weight = factor * weight })
            return name
        end

        it("finds models that are less sure than they are right", function()
            local report = doctor({ a }, "--data", "data/alpha/test", "--head", head("shy.safetensors", 0.02))
            local m = report.models[1]
            assert.is_true(m.confidence.accuracy > 0.5)
            assert.is_true(m.confidence.entropy > 0.9 * math.log(3))
            assert.is_true(m.confidence.temperature < 0.9)
            assert.truthy(only(report, 1, "unsure"):find("less sure than they are right", 1, true))
            assert.equal(1, m.kappa)
            assert.equal(1, m.temperature.teacher)
            assert.equal(10, m.temperature.student)
            report = doctor({ a }, "--data", "data/alpha/test", "--head", head("bold.safetensors", 50))
            assert.equal(0, #report.models[1].findings)
            assert.is_nil(report.models[1].temperature)
        end)

        it("judges by entropy where there are no labels", function()
            distac.fs.make(root .. "/flat")
            for k = 0, 2 do
                for _, name in ipairs(distac.fs.list(root .. "/data/alpha/test/class" .. k)) do
                    distac.fs.write(root .. "/flat/" .. k .. name,
                        tiny.read(root .. "/data/alpha/test/class" .. k .. "/" .. name))
                end
            end
            local report = doctor({ a }, "--data", "flat", "--head", head("shy.safetensors", 0.02))
            assert.truthy(only(report, 1, "unsure"):find("there are no labels", 1, true))
            assert.is_nil(report.models[1].confidence.accuracy)
        end)

        it("suggests a recipe that distac plan takes", function()
            tiny.recipe(root)
            local long = model("long_beta", 4, 0.02, quiet)
            local report = doctor({ a, long, c }, "--suite", "tiny.lua", "--split", "test", "--recipe", "cure.lua",
                "--plot", "norms.png")
            assert.equal("beta", report.models[2].task)
            assert.is_true(report.models[2].confidence.accuracy >= 0)
            assert.equal(report.recipe, tiny.read(root .. "/cure.lua"))
            assert.equal("\137PNG", tiny.read(root .. "/norms.png"):sub(1, 4))
            local status, out, err = run { "plan", "--json", "cure.lua" }
            assert.equal(0, status, err)
            assert.truthy(out:find('"beta"', 1, true))
            local kappa = report.recipe:match '%["beta"%] = { kappa = ([%d%.]+)'
            assert.is_true(math.abs(tonumber(kappa) / report.models[2].kappa - 1) < 1e-3)
            -- without data and suite the text is a recipe all the same, once its folder is named
            report = doctor { a, long, c }
            local text = report.recipe:gsub('root = "tasks"', 'root = "' .. root .. '/data"')
                :gsub('%["long_beta"%]', '["beta"]'):gsub('"alpha", "long_beta", "gamma"',
                    '"alpha", "beta", "gamma"')
            tiny.write(root .. "/cure2.lua", text)
            status, _, err = run { "plan", "cure2.lua" }
            assert.equal(0, status, err)
        end)
    end)

    it("says it in words, too, and what is wrong with the command", function()
        local long = model("long", 4, 0.02, quiet)
        local status, out = run { "doctor", "--base", "base.safetensors", a, long, c }
        assert.equal(1, status)
        for _, text in ipairs { "visual.transformer.resblocks.0", "times as long as the mean of the others",
            "temperatures 10 (teacher) and 10 (student)", "distac.recipe {", "nothing wrong" } do
            assert.truthy(out:find(text, 1, true), text .. " is not in\n" .. out)
        end
        for _, case in ipairs {
            { { a }, "--base is missing" }, { { "--base", "base.safetensors" }, "no model given" },
            { { "--base", "base.safetensors", a, "--data", "data/alpha/test" }, "--head is missing" },
            { { "--base", "base.safetensors", a, b, "--data", "data/alpha/test", "--head", a },
                "one for each of 2 models" },
            { { "--base", "base.safetensors", a, "--plot", "x.jpg" }, ".png" },
            { { "--base", "none.safetensors", a }, "there is no file" },
            { { "--base", "base.safetensors", a, "--suite", "mini9" }, "mini8" },
            { { "--base", "base.safetensors", a, "--tasks", "x,y" }, "2 names for 1 model" },
        } do
            local words = { "doctor" }
            for _, word in ipairs(case[1]) do words[#words + 1] = word end
            local code, _, err = run(words)
            assert.equal(2, code, err)
            assert.truthy(err:find(case[2], 1, true), err)
        end
        local code, text = run { "doctor", "--help" }
        assert.equal(0, code)
        assert.truthy(text:find("--recipe FILE.lua", 1, true))
    end)
end)
