-- The method of `distac merge` as the command line gives it: --method, a name or a Lua file, its parameters, and
-- the rules by pattern. Every mistake is the command's (exit status 2).

local common = require "distac.commands.common"
local json = require "distac.json"

local M = {}

local function methods() return require("distac").merge.methods() end

-- The method of this name.
function M.find(name)
    local names = {}
    for i, method in ipairs(methods()) do
        if method.name == name then
            if method.data then common.usage("--method: " .. require("distac.driven").refusal(name)) end
            return method
        end
        names[i] = method.name
    end
    common.usage("--method: unknown method '" .. name .. "'" .. common.did_you_mean(name, names))
end

-- Options that neither the command nor any method knows: told before anything else, with the nearest of all.
function M.check_known(o, command)
    local known, names = {}, require("distac.cli_options").names(command)
    for _, method in ipairs(methods()) do
        for _, p in ipairs(method.params) do -- those of methods that are refused, too: they are no misspellings
            if not known[p.name] then names[#names + 1] = "--" .. p.name end
            known[p.name] = true
        end
    end
    for _, key in ipairs(o.extra_order) do
        if not known[key] then
            common.usage("unknown option '--" .. key .. "'" .. common.did_you_mean("--" .. key, names))
        end
        if o.extra[key] == "" then common.usage("--" .. key .. " needs a value") end
    end
end

-- ---- Parameters ---------------------------------------------------------------------------------------

-- A mean has no factor: half of one is another method.
local function takes(method, key) return not (method.name == "average" and key == "lambda") end

local function range_of(p)
    if p.min == -math.huge and p.max == math.huge then return "a number" end
    return "a number from " .. (json.number(p.min) or "-inf") .. " to " .. (json.number(p.max) or "inf")
end

-- "0.4" or, where a list is allowed, "0.4,0.5,0.3".
local function numbers(p, option, text, n_models)
    local values = {}
    for i, part in ipairs(common.list(text)) do
        local value = tonumber(part)
        if not value or not (value >= p.min and value <= p.max) then
            common.usage(option .. ": wanted " .. range_of(p) .. ", got '" .. part .. "'")
        end
        values[i] = value
    end
    if #values == 1 then return values[1] end
    if not p.list then common.usage(option .. ": wanted one number, got '" .. text .. "'") end
    if #values ~= n_models then
        common.usage(string.format("%s: wanted one number or one per model (%d), got %d", option, n_models,
            #values))
    end
    return values
end

local function parameter(method, key, text, n_models)
    if not takes(method, key) then
        common.usage("--lambda: average is the mean of the models and takes no factor; task_arithmetic --lambda "
            .. "scales the sum of their changes")
    end
    local names = {}
    for _, p in ipairs(method.params) do
        if p.name == key and p.choices then return common.choice("--" .. key, text, p.choices) end
        if p.name == key and not p.ours then return numbers(p, "--" .. key, text, n_models) end
        if not p.ours then names[#names + 1] = p.name end
    end
    common.usage("unknown option '--" .. key .. "' for the method " .. method.name
        .. common.did_you_mean(key, names))
end

-- What the command line gives of a method's parameters, by name.
function M.parameters(method, o)
    local params = {}
    for _, key in ipairs(o.extra_order) do params[key] = parameter(method, key, o.extra[key], #o.args) end
    return params
end

-- Parameters of a method in a file: numbers where they are numbers, lists where there are commas.
function M.free_parameters(o)
    local params = {}
    for _, key in ipairs(o.extra_order) do
        if o.extra[key] == "" then common.usage("--" .. key .. " needs a value") end
        local list = common.list(o.extra[key])
        for i, part in ipairs(list) do list[i] = tonumber(part) or part end
        params[key] = #list == 1 and list[1] or list
    end
    return params
end

-- ---- Rules by pattern ---------------------------------------------------------------------------------

local function patterns(text, option)
    if not text then return nil end
    local list = {}
    for _, part in ipairs(common.list(text)) do
        if part ~= "" then list[#list + 1] = part end
    end
    if #list == 0 then
        common.usage(option .. ": wanted patterns of tensor names, separated by commas, got '" .. text .. "'")
    end
    return list
end

local function factors(text)
    local list = patterns(text, "--scale")
    for i, part in ipairs(list or {}) do
        local pattern, factor = part:match("^(.+)=([^=]+)$")
        if not pattern or not tonumber(factor) then
            common.usage("--scale: wanted PATTERN=FACTOR, got '" .. part .. "'")
        end
        list[i] = { pattern, tonumber(factor) }
    end
    return list
end

-- Adds --only, --except and --scale to the parameters.
function M.add_rules(params, o)
    params.only, params.except = patterns(o.only, "--only"), patterns(o.except, "--except")
    params.scale = factors(o.scale)
    return params
end

-- ---- Operators ----------------------------------------------------------------------------------------

-- The operator of a method of this name; parameters that do not go together are a mistake in the command.
function M.named(name, params)
    local good, operator = pcall(require("distac").merge[name], params)
    if not good then common.usage(operator.message or tostring(operator)) end
    return operator
end

-- Runs a function of the user's.
local function run(what, ...)
    local fine, result = pcall(what, ...)
    if not fine then error(type(result) == "table" and result.message or tostring(result), 0) end
    return result
end

-- A method in a Lua file: it returns an operator (distac.merge.elementwise(...), distac.merge.custom(...)), or a
-- function that makes one of the parameters on the command line. The text is a program of the user's, with all a
-- script may do. Returns the operator and what the output's metadata say of it.
function M.in_file(path, params, wanted_hash)
    local distac = require "distac"
    common.file(path, "--method")
    local text = distac.fs.read(path)
    local hash = distac.hash.text(text)
    if wanted_hash and hash ~= wanted_hash then
        error(path .. " is another method: its text has the SHA-256 " .. hash .. ", the one that merged had "
            .. wanted_hash, 0)
    end
    if text:sub(1, 1) == "\27" then common.usage("--method: '" .. path .. "' is compiled; the text is wanted") end
    local chunk, why = (loadstring or load)(text, "@" .. path)
    if not chunk then common.usage("--method: " .. why) end
    local operator, own = run(chunk), {}
    for key, value in pairs(params) do own[key] = value end
    if type(operator) == "function" then
        operator = run(operator, own)
        own = {}
    end
    if not distac.merge.is(operator) then
        common.usage("--method: '" .. path .. "' returned " .. require("distac.check").describe(operator)
            .. "; wanted an operator, as of distac.merge.elementwise(function(tau, out, n) ... end)")
    end
    local rules = {}
    for _, key in ipairs { "lambda", "only", "except", "scale" } do
        rules[key], own[key] = params[key], nil
    end
    local extra = next(own)
    if extra then
        common.usage("unknown option '--" .. extra .. "': the method in " .. path .. " takes no parameters")
    end
    if next(rules) then operator = operator:with(rules) end
    return operator, { file = path, sha256 = hash, params = params }
end

-- ---- Help ---------------------------------------------------------------------------------------------

-- The methods and their parameters, for --help.
function M.help()
    local entry = require("distac.cli_options").entry
    local lines = { "methods and their parameters" }
    for _, method in ipairs(methods()) do
        entry(lines, "  " .. method.name .. ":", method.text, 6)
        if method.data then
            lines[#lines + 1] = "      (looks at images: in recipes and scripts only)"
        end
        for _, p in ipairs(method.data and {} or method.params) do
            if not p.ours and takes(method, p.name) then
                local text = p.choices and table.concat(p.choices, ", ") .. ": " .. p.text or p.text
                local default = p.choices and p.default or json.number(p.default) or "none"
                entry(lines, "      --" .. p.name, text .. " (default " .. default .. ")", 23)
            end
        end
    end
    return table.concat(lines, "\n")
end

return M
