-- distac.translate.sources: the models of a configuration and the type it is merged to.
-- Requiring it gives the reader these methods.

local Reader = require "distac.translate.reader"
local json = require "distac.json"
local nearest = require "distac.nearest"
local yaml = require "distac.yaml"

local fail, text_of = Reader.fail, Reader.text_of

-- models: or one slice with sources.
function Reader:sources(root)
    local models = {}
    local function add(item, what)
        local path = self:model(item.kind == "map" and item.at.model or item, what)
        models[#models + 1] = { path = path, line = item.line, node = item.kind == "map" and item or nil }
    end
    if root.at.models then
        if root.at.slices then fail(root.at.slices.key_line, "models and slices: mergekit takes one of them") end
        if root.at.models.kind ~= "list" then fail(root.at.models.line, "models: wanted a list") end
        for _, item in ipairs(root.at.models) do
            if item.kind == "map" then self:known(item, { "model", "parameters" }, "a model") end
            if item.kind == "map" and not item.at.model then fail(item.line, "a model without 'model:'") end
            add(item, "model")
        end
        return models
    end
    local slices = root.at.slices
    if not slices or slices.kind ~= "list" or #slices == 0 then fail(root.line, "there are no models") end
    if #slices > 1 then
        fail(slices[2].line, "several slices stack layers of models to a new architecture; here models of the "
            .. "same shapes are merged")
    end
    local slice = slices[1]
    self:known(slice, { "sources", "parameters", "base_model" }, "a slice")
    if not slice.at.sources or slice.at.sources.kind ~= "list" then fail(slice.line, "a slice without sources") end
    local range
    for _, item in ipairs(slice.at.sources) do
        self:known(item, { "model", "layer_range", "parameters" }, "a source")
        if not item.at.model then fail(item.line, "a source without 'model:'") end
        local r = item.at.layer_range and yaml.plain(item.at.layer_range)
        if type(r) ~= "table" or type(r[1]) ~= "number" or type(r[2]) ~= "number" then
            fail(item.line, "a source without layer_range: [first, end]")
        end
        if range and (range[1] ~= r[1] or range[2] ~= r[2]) then
            fail(item.line, "the sources' layer_range differ: layers are merged with layers of the same "
                .. "number here")
        end
        if r[1] ~= 0 then
            fail(item.line, "layer_range begins at %s: leaving layers out is no merge of equal models",
                json.number(r[1]))
        end
        range = r
        add(item, "source")
    end
    self.layers = self.layers or range[2]
    self:differ("layer_range is taken to be all layers of the models (%s); mergekit leaves out those behind",
        json.number(range[2]))
    self.slice = slice
    return models
end

local types = { float32 = "f32", float16 = "f16", bfloat16 = "bf16" }

function Reader:dtype(root)
    local name = root.at.dtype and text_of(root.at.dtype, "dtype")
    local out = root.at.out_dtype and text_of(root.at.out_dtype, "out_dtype") or name
    for _, key in ipairs { "dtype", "out_dtype" } do
        local given = root.at[key] and root.at[key].text
        if given and not types[given] then
            local near = nearest(given, { "float32", "float16", "bfloat16" })
            fail(root.at[key].line, "%s: '%s' is not one of float32, float16, bfloat16%s", key, given,
                near and "; did you mean '" .. near .. "'?" or "")
        end
    end
    if name ~= "float32" then
        self:differ("mergekit computes in %s; here it is done in double and rounded once, to %s",
            name or "the type of the files", out or "the base's type")
    end
    return out and types[out]
end

return Reader
