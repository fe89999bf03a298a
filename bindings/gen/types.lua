-- types.lua: the documentation as a file for editors (LuaLS): declarations without bodies, with the comments of
-- the sources. What a name says of a parameter's type is used; results are known for what makes or returns
-- objects.

local types = {}

-- Types of parameters by their names; others are any.
local PARAMETERS = {
    path = "string", folder = "string", name = "string", text = "string", file = "string", root = "string",
    task = "string", split = "string", code = "string", message = "string", device = "string", title = "string",
    n = "integer", count = "integer", first = "integer", dim = "integer", index = "integer", step = "integer",
    steps = "integer", size = "integer", width = "integer", height = "integer", batch = "integer",
    seed = "integer",
    classes = "integer", channels = "integer", start = "number", stop = "number", value = "any", lr = "number",
    shape = "integer[]", options = "table", rules = "table", fn = "function", model = "distac.Model",
    head = "distac.Head", image = "distac.Image", ds = "distac.Dataset", tensor = "distac.Tensor",
    checkpoint = "distac.Checkpoint|distac.Model", images = "distac.Tensor", labels = "distac.Tensor|integer[]",
    logits = "distac.Tensor", keepdim = "boolean", base = "distac.Checkpoint", taus = "distac.Checkpoint[]",
    other = "distac.Tensor|number", list = "table",
}

-- Parameters of these names may always be left out.
local OPTIONAL = { options = true, keepdim = true, dim = true, first = true, count = true, shape = true,
    seed = true }

local RESULTS = {
    ["distac.load"] = "distac.Checkpoint", ["distac.checkpoint"] = "distac.Checkpoint",
    ["distac.taskvector"] = "distac.Checkpoint", ["distac.vit"] = "distac.Model", ["distac.head"] = "distac.Head",
    ["distac.load_head"] = "distac.Head", ["distac.tokenizer"] = "distac.Tokenizer",
    ["distac.text"] = "distac.TextEncoder", ["distac.adamw"] = "distac.Optimizer",
    ["distac.loader"] = "distac.Loader",
    ["distac.finetune_step"] = "distac.FinetuneStep", ["distac.kd_step"] = "distac.KDStep",
    ["distac.plot"] = "distac.Plot", ["distac.rng"] = "distac.Rng", ["distac.recipe"] = "distac.Recipe",
    ["distac.suite"] = "distac.Suite", ["distac.metrics"] = "table", ["distac.devices"] = "table[]",
    ["distac.context_info"] = "table", ["distac.clock"] = "number", ["distac.type"] = "string?",
    ["distac.image.load"] = "distac.Image", ["distac.image.from_tensor"] = "distac.Image",
    ["distac.image.clip"] = "distac.Tensor", ["distac.merge.custom"] = "distac.MergeOperator",
    ["distac.merge.elementwise"] = "distac.MergeOperator", ["distac.fs.read"] = "string",
    ["distac.fs.list"] = "string[]", ["distac.fs.bytes"] = "integer", ["distac.fs.kind"] = "string?",
    ["Tensor:shape"] = "integer[]", ["Tensor:size"] = "integer", ["Tensor:numel"] = "integer",
    ["Tensor:rank"] = "integer", ["Tensor:dim"] = "integer", ["Tensor:dtype"] = "string",
    ["Tensor:device"] = "string", ["Tensor:item"] = "number", ["Tensor:table"] = "table",
    ["Tensor:data"] = "ffi.cdata*?, string?", ["Tensor:readonly"] = "boolean", ["Tensor:sharers"] = "integer",
    ["Tensor:is_contiguous"] = "boolean", ["Tensor:equal"] = "boolean", ["Tensor:stride"] = "integer",
    ["Tensor:nonfinite"] = "integer, integer?", ["Tensor:svd"] = "distac.Tensor, distac.Tensor, distac.Tensor",
    ["Tensor:eigh"] = "distac.Tensor, distac.Tensor", ["Checkpoint:names"] = "string[]",
    ["Checkpoint:norm"] = "number", ["Checkpoint:norms"] = "table<string, number>",
    ["Checkpoint:tensor"] = "distac.Tensor", ["Checkpoint:has"] = "boolean", ["Checkpoint:path"] = "string",
    ["Dataset:subset"] = "distac.Dataset", ["Dataset:map"] = "distac.Dataset",
    ["Dataset:normalize"] = "distac.Dataset",
    ["Dataset:images"] = "distac.Tensor", ["Dataset:pixels"] = "distac.Tensor",
    ["Dataset:labels"] = "distac.Tensor",
    ["Dataset:logits"] = "distac.Tensor", ["Dataset:features"] = "distac.Tensor", ["Dataset:size"] = "integer",
    ["Dataset:classes"] = "integer", ["Dataset:hash"] = "string", ["Loader:batch"] = "table",
    ["Loader:batches"] = "fun(): table?, integer?", ["Model:features"] = "distac.Tensor",
    ["Model:with"] = "distac.Model",
    ["Model:clone"] = "distac.Model", ["Model:checkpoint"] = "distac.Checkpoint",
    ["Model:params"] = "distac.Tensor",
    ["MergeOperator:with"] = "distac.MergeOperator", ["MergeOperator:delta"] = "distac.Checkpoint",
    ["Image:pixels"] = "distac.Tensor", ["Image:tensor"] = "distac.Tensor", ["Image:resize"] = "distac.Image",
    ["Image:fit"] = "distac.Image", ["Image:crop"] = "distac.Image", ["Image:rgb"] = "distac.Image",
    ["Image:width"] = "integer", ["Image:height"] = "integer", ["Image:channels"] = "integer",
    ["Image:bytes"] = "string", ["Suite:head"] = "distac.Head", ["Suite:dataset"] = "distac.Dataset",
    ["Suite:base"] = "distac.Checkpoint", ["Rng:uniform"] = "number", ["Rng:normal"] = "number",
}
-- These give tensors, all of them.
for name in ("zeros ones full randn rand arange eye matmul cat tensor tensor.zeros tensor.ones tensor.full "
    .. "tensor.randn tensor.rand tensor.arange tensor.eye tensor.matmul tensor.cat tensor.adopt"):gmatch "%S+" do
    RESULTS["distac." .. name] = "distac.Tensor"
end
for name in ("add sub mul div pow eq lt le gt ge maximum minimum neg abs sqrt exp log tanh sign sigmoid erf gelu "
    .. "quick_gelu isfinite sum mean max min norm argmax softmax log_softmax matmul rows reshape view narrow "
    .. "select transpose t clone to fill copy contiguous"):gmatch "%S+" do
    RESULTS["Tensor:" .. name] = "distac.Tensor"
end

-- What else is to be said of a class.
local CLASSES = {
    Tensor = { "---@operator add(distac.Tensor|number): distac.Tensor",
        "---@operator sub(distac.Tensor|number): distac.Tensor",
               "---@operator mul(distac.Tensor|number): distac.Tensor",
               "---@operator div(distac.Tensor|number): distac.Tensor",
               "---@operator pow(distac.Tensor|number): distac.Tensor", "---@operator unm: distac.Tensor",
               "---@operator len: integer", "---@field [integer|table] number|distac.Tensor" },
    Checkpoint = { "---@operator add(distac.Checkpoint): distac.Checkpoint",
                   "---@operator sub(distac.Checkpoint): distac.Checkpoint",
                   "---@operator mul(number): distac.Checkpoint",
                   "---@field [string] distac.Tensor" },
    MergeOperator = { "---@overload fun(base: distac.Checkpoint, taus: distac.Checkpoint[]): distac.Checkpoint" },
    FinetuneStep = {
        "---@overload fun(images: distac.Tensor, labels: distac.Tensor|integer[], lr?: number): number",
    },
    KDStep = { "---@overload fun(images: distac.Tensor, options?: table): number" },
    ["distac.merge"] = { "---@field [string] fun(options?: table): distac.MergeOperator" },
}

local KEYWORDS = {}
for word in ("and break do else elseif end false for function goto if in local nil not or repeat return then "
    .. "true until while"):gmatch "%a+" do KEYWORDS[word] = true end

-- The parameters of a call as names: from "f(a, b [, c])" a, b, c with c optional; "{ ... }" is one table.
local function parameters(call)
    local inside = call:match "%((.*)%)$"
    if not inside then return call:find "{" and { { name = "options" } } or {} end
    local list, optional = {}, false
    for piece in (inside .. ","):gmatch "([^,]*)," do
        optional = optional or piece:find("[", 1, true) ~= nil
        local name = piece:match "^[%s%[]*([%a_][%w_]*)[%s%]]*$"
        if piece:find "^[%s%[]*%.%.%." then name = "..." end
        if name and not KEYWORDS[name] then list[#list + 1] = { name = name, optional = optional } end
    end
    return list
end

-- The file: entries as docs.collect gives them.
function types.file(list)
    local out = { "---@meta distac",
                  "-- distac.d.lua: written by bindings/gen_docs.lua from the sources; do not edit.",
                  "", "---@class distac", "---@field version string",
                  "---@field runtime \"lua54\"|\"luajit\"" }
    local made, bodies = { distac = true }, {}
    local function body(text) bodies[#bodies + 1] = text end
    local function class(name)
        if made[name] then return end
        made[name] = true
        local full = name:find "^distac%." and name or "distac." .. name
        body(""); body("---@class " .. full)
        for _, line in ipairs(CLASSES[name] or {}) do body(line) end
        body((name:find "^distac%." and name or "local " .. name) .. " = {}")
    end
    local function text_of(entry)
        for line in (entry.text .. "\n"):gmatch "(.-)\n" do
            body("---" .. (line ~= "" and " " .. line or ""))
        end
    end
    -- namespaces are tables with functions in them
    local holds = {}
    for _, entry in ipairs(list) do
        local owner = entry.name:match "^(distac%..*)%.[%w_]+$"
        if owner then holds[owner] = true end
    end
    for _, entry in ipairs(list) do
        local owner, sep, key = entry.name:match "^(.-)([%.:])([%w_]+)$"
        if entry.name:find "^distac%..*%." then owner, sep, key = entry.name:match "^(.*)(%.)([%w_]+)$" end
        if owner and owner ~= "raw" and (owner:find "^distac" or owner:find "^%u") then
            class(owner)
            if entry.call == entry.name then -- a namespace
                class(entry.name)
            elseif not (holds[entry.name] and made[entry.name]) then
                body("")
                text_of(entry)
                local names = {}
                for i, parameter in ipairs(parameters(entry.call)) do
                    names[i] = parameter.name
                    local optional = parameter.optional or OPTIONAL[parameter.name] or parameter.name == "..."
                    body(("---@param %s%s %s"):format(parameter.name,
                        optional and parameter.name ~= "..." and "?" or "",
                        PARAMETERS[parameter.name] or "any"))
                end
                if RESULTS[entry.name] then body("---@return " .. RESULTS[entry.name]) end
                if holds[entry.name] then -- called, and a table of functions
                    local arguments = {}
                    for i, name in ipairs(names) do arguments[i] = name == "..." and "...: any"
                        or name .. "?: any" end
                    made[entry.name] = true
                    body(("---@class %s"):format(entry.name))
                    body(("---@overload fun(%s)%s"):format(table.concat(arguments, ", "),
                        RESULTS[entry.name] and ": " .. RESULTS[entry.name] or ""))
                    body(entry.name .. " = {}")
                else
                    body(("function %s%s%s(%s) end"):format(owner, sep, key, table.concat(names, ", ")))
                end
            end
        end
    end
    out[#out + 1] = "local distac = {}"
    return table.concat(out, "\n") .. "\n" .. table.concat(bodies, "\n") .. "\n\nreturn distac\n"
end

types.results = RESULTS

return types
