-- distac.translate: a mergekit configuration as the merge of this engine that means the same, with every
-- difference in meaning named. The meanings are those of mergekit 0.1.5
-- (merge_methods/generalized_task_arithmetic.py, linear.py, slerp.py, nuslerp.py, model_stock.py, config.py).
--
-- translate.mergekit(text [, { layers = N }]) -> { base =, method =, params =, models =, dtype =,
-- differences =, notes = } or raises { line =, message = } where it cannot be read or has no equivalent.

local Reader = require "distac.translate.sources"
local build = require "distac.translate.methods"
local known = require "distac.translate.known"
local nearest = require "distac.nearest"
local print_as = require "distac.translate.print"
local yaml = require "distac.yaml"

local fail, text_of = Reader.fail, Reader.text_of

local translate = { command = print_as.command, script = print_as.script, text = print_as.text }

local function convert(text, options)
    local root, why, line = yaml.read(text)
    if not root then fail(line, "%s", why) end
    local reader = setmetatable({
        differences = {}, notes = {}, layers = options and options.layers, params = {},
    }, Reader)
    reader:known(root, known.TOP, "the configuration")
    if root.at.modules then fail(root.at.modules.key_line, "modules: merging parts of several architectures") end
    if not root.at.merge_method then fail(root.line, "there is no merge_method") end
    reader.method = text_of(root.at.merge_method, "merge_method")
    if not known.METHODS[reader.method] then
        local names = {}
        for name in pairs(known.METHODS) do names[#names + 1] = name end
        table.sort(names)
        local real = known.contains(known.OTHERS, reader.method)
        local near = not real and nearest(reader.method, names)
        fail(root.at.merge_method.line, "merge_method: %s '%s'%s; those are %s",
            real and "this engine has no equivalent of" or "mergekit has no", reader.method,
            near and "; did you mean '" .. near .. "'?" or "", table.concat(names, ", "))
    end
    local base_node = root.at.base_model
    reader.base = base_node and reader:model(base_node, "base_model")
    local models = reader:sources(root)
    reader.common = {}
    for _, level in ipairs { root, reader.slice or {} } do
        local node = level.at and level.at.parameters
        for key, value in pairs(reader:parameters(node, "parameters")) do reader.common[key] = value end
    end
    local changed = {}
    for _, model in ipairs(models) do
        local node = model.node and model.node.at.parameters
        model.parameters = reader:parameters(node, "parameters of " .. model.path)
        if model.path ~= reader.base then changed[#changed + 1] = model end
    end
    local free = reader.method == "linear" or reader.method == "nuslerp" or reader.method == "slerp"
    if not free and not reader.base then fail(root.line, "%s wants base_model", reader.method) end
    if not free and #changed < 1 then fail(root.line, "there is no model beside the base") end
    for name in pairs(reader.common) do
        if name == "int8_mask" then
            reader:note("int8_mask saves memory in mergekit and has no effect on the numbers; nothing is needed "
                .. "here")
        end
    end
    local method, merged = build[reader.method](reader, models, changed)
    if not free and #changed < #models then
        reader:note("the base among the models adds nothing, its change is zero: it is left out")
    end
    local out = { base = reader.base, method = method, params = reader.params, models = {}, from = reader.method,
                  dtype = reader:dtype(root), differences = reader.differences, notes = reader.notes }
    for i, model in ipairs(merged) do out.models[i] = model.path end
    if out.params.lambda == 1 then out.params.lambda = nil end
    for _, key in ipairs { "tokenizer_source", "tokenizer", "chat_template" } do
        if root.at[key] then
            reader:differ("line %d: %s is not done: tensors are merged, tokenizers and templates are copied "
                .. "by you", root.at[key].key_line, key)
        end
    end
    for _, path in ipairs { reader.base, (table.unpack or unpack)(out.models) } do
        if path:find("^[%w%-_.]+/[%w%-_.]+$") then
            reader:note("'%s' may be a name on the hub: give the path of its folder or safetensors file", path)
            break
        end
    end
    return out
end

-- The translation; or nil, what is wrong, and the line.
function translate.mergekit(text, options)
    local fine, out = pcall(convert, text, options)
    if fine then return out end
    if type(out) ~= "table" or not out.line then error(out, 0) end
    return nil, out.message, out.line
end

return translate
