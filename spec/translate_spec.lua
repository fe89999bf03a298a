-- mergekit configurations as merges of this engine: the command that comes out and the differences that are named;
-- the YAML reader behind it.
local distac = require "distac"
local json = require "distac.json"
local tiny = require "spec.tiny"
local translate = require "distac.translate"
local yaml = require "distac.yaml"

local function has(text, ...)
    for _, piece in ipairs { ... } do
        assert.truthy(text:find(piece, 1, true), text .. " lacks " .. piece)
    end
end

local function lines(...) return table.concat({ ... }, "\n") .. "\n" end

-- { name, configuration, command behind "distac merge --base base ", words of the comments ... }
local golden = {
    { "linear", lines("models:", "  - model: a", "    parameters:", "      weight: 1.0", "  - model: b",
        "    parameters:", "      weight: 3.0", "merge_method: linear", "dtype: float16"),
      "distac merge --base a --method average --weights 1,3 --dtype f16 -o merged.safetensors a b",
      "mergekit computes in float16", "linear has no base" },
    { "linear with equal weights and a base that is a model", lines("merge_method: linear", "base_model: base",
        "parameters: { weight: 0.5 }", "models: [ base, a, { model: b } ]", "dtype: float32"),
      "distac merge --base base --method average --dtype f32 -o merged.safetensors base a b" },
    { "task_arithmetic", lines("base_model: base", "merge_method: task_arithmetic", "models:", "- model: base",
        "- model: a", "  parameters:", "    weight: 0.3", "- model: b", "  parameters:", "    weight: -0.7",
        "parameters:", "  lambda: 0.5", "dtype: bfloat16", "out_dtype: float32"),
      "distac merge --base base --method task_arithmetic --lambda 0.5 --weights 0.3,-0.7 --dtype f32 "
          .. "-o merged.safetensors a b", "computes in bfloat16", "the base among the models adds nothing" },
    { "task_arithmetic, normalised", lines("base_model: base", "merge_method: task_arithmetic", "models:",
        "- { model: a, parameters: { weight: 1 } }", "- { model: b, parameters: { weight: 3 } }",
        "parameters: { normalize: true }", "dtype: float32"),
      "distac merge --base base --method task_arithmetic --weights 0.25,0.75 --dtype f32 "
          .. "-o merged.safetensors a b",
      "divided by their sum, 4" },
    { "task_arithmetic with filters", lines("base_model: base", "merge_method: task_arithmetic",
        "models: [ a, b ]",
        "parameters:", "  weight:", "    - filter: vector", "      value: 0.25", "    - value: 0.5",
        "dtype: float32"),
      "distac merge --base base --method task_arithmetic --scale '*=0.5,*vector*=0.25' --dtype f32 "
          .. "-o merged.safetensors a b" },
    { "task_arithmetic with a gradient", lines("base_model: base", "merge_method: task_arithmetic", "slices:",
        "- sources:", "  - model: a", "    layer_range: [0, 3]", "  - model: b", "    layer_range: [0, 3]",
        "parameters: { weight: 1, lambda: [0, 1] }", "dtype: float32"),
      "distac merge --base base --method task_arithmetic --scale "
          .. "'*=0,*layers.0.*=0,*layers.1.*=0.5,*layers.2.*=1' --dtype f32 -o merged.safetensors a b",
      "tensors outside the layers", "layer_range is taken to be all layers" },
    { "ties", lines("models:", "  - model: base", "    # no parameters necessary", "  - model: a",
        "    parameters:",
        "      density: 0.5 # of all", "      weight: 0.5", "  - model: b", "    parameters:",
        "      density: 0.5",
        "      weight: 0.5", "merge_method: ties", "base_model: base", "parameters:", "  normalize: true",
        "  int8_mask: true", "dtype: float16"),
      "distac merge --base base --method ties --combine mean --dialect mergekit --keep 0.5 --dtype f16 "
          .. "-o merged.safetensors a b", "one weight for all models has no effect", "int8_mask",
          "trims every tensor" },
    { "ties, not normalised", lines("models: [ a, b ]", "merge_method: ties", "base_model: base", "parameters:",
        "  normalize: false", "  weight: 0.5", "  lambda: 0.8", "  density: 0.2"),
      "distac merge --base base --method ties --combine sum --dialect mergekit --keep 0.2 --lambda 0.4 "
          .. "-o merged.safetensors a b", "computes in the type of the files" },
    { "dare_ties", lines("models:", "- model: a", "  parameters: { density: 0.53, weight: 0.4 }", "- model: b",
        "  parameters: { density: 0.53, weight: 0.4 }", "merge_method: dare_ties", "base_model: base",
        "parameters: { int8_mask: yes }", "dtype: bfloat16"),
      "distac merge --base base --method dare_ties --combine sum --lambda 0.4 --p 0.47 --rescale norm "
          .. "--dtype bf16 -o merged.safetensors a b", "which elements are dropped" },
    { "dare_linear", lines("models:", "- model: a", "  parameters: { density: 0.5 }", "- model: b",
        "  parameters: { density: 0.75 }", "merge_method: dare_linear", "base_model: base",
        "parameters: { weight: 0.5, rescale: false }", "dtype: float32"),
      "distac merge --base base --method dare --lambda 0.5 --p 0.5,0.25 --rescale no --dtype f32 "
          .. "-o merged.safetensors a b" },
    { "della", lines("models:", "- model: a", "  parameters: { density: 0.5 }", "- model: b",
        "  parameters: { density: 0.75 }", "merge_method: della", "base_model: base",
        "parameters: { weight: 0.5, epsilon: 0.1, lambda: 1.1, normalize: false }", "dtype: float32"),
      "distac merge --base base --method della --combine sum --density 0.5,0.75 --epsilon 0.1 --lambda 0.55 "
          .. "--rescale norm --dtype f32 -o merged.safetensors a b", "which elements are dropped" },
    { "della_linear", lines("models: [ a, b ]", "merge_method: della_linear", "base_model: base",
        "parameters: { weight: 0.5, density: 0.6, rescale: false }", "dtype: float32"),
      "distac merge --base base --method della --density 0.6 --elect all --epsilon 0.15 --lambda 0.5 --rescale no "
          .. "--dtype f32 -o merged.safetensors a b" },
    { "breadcrumbs", lines("models: [ base, a, b ]", "merge_method: breadcrumbs", "base_model: base",
        "parameters: { weight: 0.4, density: 0.9 }", "dtype: float32"),
      "distac merge --base base --method breadcrumbs --beta 0.9 --gamma 0.01 --lambda 0.4 --scope tensor "
          .. "--dtype f32 -o merged.safetensors a b" },
    { "breadcrumbs_ties", lines("models: [ a, b ]", "merge_method: breadcrumbs_ties", "base_model: base",
        "parameters: { weight: 0.4, density: 0.9, gamma: 0.3, rescale: true }", "dtype: float32"),
      "distac merge --base base --method breadcrumbs --beta 0.9 --combine sum --elect sum --gamma 0.3 "
          .. "--lambda 0.4 --rescale norm --scope tensor --dtype f32 -o merged.safetensors a b" },
    { "model_stock", lines("models:", "  - model: a", "  - model: b", "base_model: base",
        "merge_method: model_stock", "dtype: float32", "tokenizer_source: union"),
      "distac merge --base base --method model_stock --dtype f32 -o merged.safetensors a b",
      "line 7: tokenizer_source is not done" },
    { "slerp", lines("slices:", "  - sources:", "      - model: base", "        layer_range: [0, 32]",
        "      - model: a", "        layer_range: [0, 32]", "merge_method: slerp", "base_model: base",
        "parameters:", "  t: 0.25", "dtype: float32"),
      "distac merge --base base --method slerp --t 0.25 --dtype f32 -o merged.safetensors base a" },
    { "slerp, the base last", lines("models: [ a, base ]", "merge_method: slerp", "base_model: base",
        "parameters: { t: [0.25] }", "dtype: float32"),
      "distac merge --base base --method slerp --t 0.25 --dtype f32 -o merged.safetensors base a" },
    { "nuslerp", lines("models:", "- {model: a, parameters: {weight: 1}}", "- {model: b, parameters: {weight: 3}}",
        "merge_method: nuslerp", "base_model: base", "dtype: float32"),
      "distac merge --base base --method nuslerp --weights 1,3 --dtype f32 -o merged.safetensors a b" },
    { "nuslerp without a base", lines("models:", "- {model: a, parameters: {weight: 1}}",
        "- {model: b, parameters: {weight: 3}}", "merge_method: nuslerp", "dtype: float32"),
      "distac merge --base a --method nuslerp --of models --weights 1,3 --dtype f32 -o merged.safetensors a b" },
    { "nuslerp by columns", lines("models:", "- {model: a, parameters: {weight: 1}}",
        "- {model: b, parameters: {weight: 1}}", "merge_method: nuslerp", "base_model: base",
        "parameters: { nuslerp_row_wise: true, nuslerp_flatten: false }", "dtype: float32"),
      "distac merge --base base --method nuslerp --angle column --weights 1 --dtype f32 "
          .. "-o merged.safetensors a b" },
    { "model_stock by filters", lines("models: [ a, b ]", "base_model: base", "merge_method: model_stock",
        "parameters: { filter_wise: true }", "dtype: float32"),
      "distac merge --base base --method model_stock --filter_wise yes --dtype f32 -o merged.safetensors a b" },
    { "ties with weights and densities", lines("models:", "- {model: a, parameters: {weight: 1, density: 0.5}}",
        "- {model: b, parameters: {weight: 0.25, density: 0.2}}", "merge_method: ties", "base_model: base",
        "dtype: float32"),
      "distac merge --base base --method ties --combine mean --dialect mergekit --keep 0.5,0.2 --weights 1,0.25 "
          .. "--dtype f32 -o merged.safetensors a b" },
}

describe("mergekit configurations", function()
    local root

    setup(function()
        root = tiny.folder()
        for i, name in ipairs { "base", "a", "b" } do
            distac.save(root .. "/" .. name, distac.checkpoint {
                vector = distac.randn { 7, seed = i }, ["layers.0.m"] = distac.randn { 3, 4, seed = 10 + i },
                ["layers.1.m"] = distac.randn { 3, 4, seed = 20 + i },
                ["layers.2.m"] = distac.randn { 3, 4, seed = 30 + i },
            })
        end
    end)
    teardown(function() tiny.remove(root) end)

    for _, case in ipairs(golden) do
        it("are translated: " .. case[1], function()
            local t, why, line = translate.mergekit(case[2])
            assert.truthy(t, tostring(line) .. ": " .. tostring(why))
            local text = translate.text(t)
            assert.equal(case[3], text:match("[^\n]*$"))
            for i = 4, #case do has(text, case[i]) end
            for comment in text:gmatch("([^\n]*)\n") do assert.equal("# ", comment:sub(1, 2)) end
            local words = translate.command(t)
            table.remove(words, 1)
            table.insert(words, 2, "--force")
            local status, _, err = tiny.run(words, root)
            assert.equal(0, status, err)
            assert(load and (loadstring or load)(translate.script(t)))
        end)
    end

    it("give the numbers that mergekit defines", function()
        local function of(text)
            local words = translate.command(assert(translate.mergekit(text)))
            table.remove(words, 1)
            table.insert(words, 2, "--force")
            local status, _, err = tiny.run(words, root)
            assert.equal(0, status, err)
            return distac.load(root .. "/merged.safetensors").vector
        end
        local base, a, b = distac.load(root .. "/base").vector, distac.load(root .. "/a").vector,
            distac.load(root .. "/b").vector
        local function near(want, got)
            local far = (want - got):norm():item()
            assert.truthy(far <= 1e-6, far)
        end
        near(a * 0.25 + b * 0.75, of(golden[1][2]:gsub("float16", "float32")))
        near(base + ((a - base) * 0.3 - (b - base) * 0.7) * 0.5, of(golden[3][2]))
        near(base + (a - base) * 0.25 + (b - base) * 0.75, of(golden[4][2]))
        near(base + (a + b - base * 2) * 0.25, of(golden[5][2]))
    end)

    it("with mistakes say the line and the nearest name", function()
        local function wrong(line, piece, text, options)
            local t, why, at = translate.mergekit(text, options)
            assert.is_nil(t)
            has(why, piece)
            assert.equal(line, at)
        end
        wrong(1, "did you mean 'ties'?", "merge_method: tise\nbase_model: b\nmodels: [a]\n")
        wrong(1, "no equivalent of 'karcher'", "merge_method: karcher\nmodels: [a]\n")
        wrong(1, "no merge_method", "models: [a]\n")
        wrong(1, "ties wants base_model", "merge_method: ties\nmodels: [a]\n")
        wrong(3, "'flaot16' is not one of", "merge_method: linear\nmodels: [{model: a, parameters: {weight: 1}}]\n"
            .. "dtype: flaot16\n")
        wrong(3, "the adapter behind '+'", "merge_method: ties\nbase_model: b\nmodels: [a+lora]\n")
        wrong(5, "model 'a' has no weight",
            "merge_method: task_arithmetic\nbase_model: b\nmodels:\n\n- model: a\n")
        wrong(4, "--layers N", "merge_method: task_arithmetic\nbase_model: b\nmodels: [a]\n"
            .. "parameters: {weight: [0, 1]}\n")
        wrong(3, "epsilon differs", "merge_method: della\nbase_model: x\nmodels: [{model: a, parameters: "
            .. "{epsilon: 0.1, weight: 1}}, {model: b, parameters: {epsilon: 0.2, weight: 1}}]\n")
        wrong(3, "weight differs between models and by layer", "merge_method: task_arithmetic\nbase_model: x\n"
            .. "models: [{model: a, parameters: {weight: 1}}, {model: b, parameters: {weight: [0, 1]}}]\n")
        wrong(7, "several slices", "merge_method: slerp\nbase_model: a\nslices:\n- sources:\n"
            .. "  - {model: a, layer_range: [0, 2]}\n\n- sources:\n  - {model: b, layer_range: [1, 3]}\n")
    end)

    it("with keys that mergekit would ignore say so", function()
        local t = assert(translate.mergekit("merge_method: task_arithmetic\nbase_model: x\nmodels: [a]\n"
            .. "normalise: true\nparameters: {weight: 1, lamda: 2, t: 3}\n"))
        local text = table.concat(t.differences, "\n")
        has(text, "line 4: the configuration has no key 'normalise'; did you mean 'normalize' below 'parameters'?",
            "no parameter 'lamda'; did you mean 'lambda'?", "'t' is no parameter of task_arithmetic")
    end)

    it("are printed by distac translate", function()
        distac.fs.write(root .. "/c.yml", golden[3][2])
        local status, out = tiny.run({ "translate", "c.yml" }, root)
        assert.equal(0, status)
        has(out, golden[3][3])
        status, out = tiny.run({ "translate", "--json", "c.yml" }, root)
        assert.equal(0, status)
        assert.equal("task_arithmetic", json.decode(out).method)
        status, out = tiny.run({ "translate", "--lua", "c.yml" }, root)
        assert.equal(0, status)
        has(out, "distac.merge.task_arithmetic {", "weights = { 0.3, -0.7 }")
        distac.fs.write(root .. "/c.yml", "merge_method: linear\n\tmodels: 3\n")
        local err
        status, out, err = tiny.run({ "translate", "c.yml" }, root)
        assert.equal(1, status)
        assert.equal("", out)
        has(err, "c.yml:2: a tab as indentation")
    end)
end)

describe("the YAML reader", function()
    local function plain(text)
        local node, why, line = yaml.read(text)
        assert.truthy(node, tostring(line) .. ": " .. tostring(why))
        return yaml.plain(node)
    end

    it("reads maps, lists, flows and scalars", function()
        assert.same({ a = 1, b = { "x", 2.5, true }, c = { d = "e: f", g = {} } },
            plain 'a: 1\nb:\n- x\n- 2.5\n- yes\nc:\n  d: "e: f"\n  g: []\n')
        assert.same({ { a = 1, b = 2 }, { { 1, 2 }, "x" }, "y # no" },
            plain "- a: 1\n  b: 2\n- - [1, 2]\n  - x\n- 'y # no' # comment\n")
        assert.same({ k = { 1, { a = "b" }, 3 } }, plain "---\nk: [1, {a: b},\n  3]\n...\n")
        assert.same({ a = { b = { c = "it's" } } }, plain "a:\n  b:\n    c: 'it''s'\r\n")
        assert.same({ n = -1e-3, m = 7, s = "1.2.3", path = "/a/b:c", t = "a\nb" },
            plain 'n: -1e-3\nm: +7\ns: 1.2.3\npath: /a/b:c\nt: "a\\nb"\nz: ~\ny:\n')
    end)

    it("refuses the rest with its line", function()
        for text, want in pairs {
            ["a: 1\na: 2\n"] = "2 a stands twice, first in line 1", ["a: &x 1\n"] = "1 anchors",
                ["a: !!str 1\n"] = "1 tags",
            ["a: |\n  text\n"] = "1 block text", ["a: 1\n---\nb: 2\n"] = "2 a second document",
                [""] = "1 there is nothing",
            ["a: 1\n\tb: 2\n"] = "2 a tab", ["a: [1, 2\n"] = "1 '[' is not closed",
                ["a: 'x\n"] = "1 a quoted text",
            ["a: 1\n   b: 2\n"] = "2 is indented", ["a\n"] = "1 wanted 'key: value'",
                ["a: {b: 1, b: 2}\n"] = "1 b stands",
            ["a: [1] 2\n"] = "1 text after", ["  a: 1\nb: 2\n"] = "2 is indented less", ["a: 1\n- b\n"] = "2 ",
            ["%YAML 1.2\n"] = "1 directives",
        } do
            local node, why, line = yaml.read(text)
            assert.is_nil(node, text)
            has(line .. " " .. why, want)
        end
        local node, why = yaml.read(("- "):rep(200) .. "a: 1\n")
        assert.is_nil(node)
        has(why, "nested deeper")
    end)

    it("ends every mangled configuration in a node or a reason with a line", function()
        local seed = 7
        local function draw(n)
            seed = (seed * 16807) % 2147483647
            return seed % n + 1
        end
        local pieces = { " ", "\n", ":", "-", "[", "]", "{", "}", "'", '"', "#", "a", "1", ",", "\t", "\255", "  ",
            "- ", "|" }
        local read, refused = 0, 0
        for i = 1, 3000 do
            local text = golden[i % #golden + 1][2]
            for _ = 1, draw(4) do
                local at = draw(#text)
                text = text:sub(1, at - 1) .. (draw(2) == 1 and "" or pieces[draw(#pieces)])
                    .. text:sub(at + draw(2) - 1)
            end
            local t, why, line = translate.mergekit(text)
            if t then read = read + 1 else
                refused = refused + 1
                assert.equal("string", type(why))
                assert.equal("number", type(line), why)
            end
        end
        assert.truthy(read > 100 and refused > 100, read .. " " .. refused)
    end)
end)
