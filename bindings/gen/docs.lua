-- docs.lua: the comments of the Lua sources and of distac.h as one table, from which help at the prompt and the
-- Lua part of the reference are made. A function's documentation is the comment block right above it.
--
-- An entry: { name = "distac.load" | "Tensor:sum" | "raw.tensor_sum", call = "distac.load(path, options)", text =,
-- where = "distac/checkpoint.lua" }.

local docs = {}

local function lines_of(text)
    local list = {}
    for line in (text .. "\n"):gmatch "(.-)\r?\n" do list[#list + 1] = line end
    return list
end

-- The comment lines right above line i, without their dashes; rulers are none.
local function comment_above(lines, i)
    local out = {}
    local k = i - 1
    while k >= 1 and lines[k]:find "^%s*%-%-" and not lines[k]:find "%-%-%-%-%-%-%-%-" do
        table.insert(out, 1, (lines[k]:gsub("^%s*%-%- ?", "")))
        k = k - 1
    end
    if k == 0 then return "" end -- the file's own comment
    return table.concat(out, "\n")
end

local function first_comment(lines)
    local out = {}
    for _, line in ipairs(lines) do
        if not line:find "^%-%-" then break end
        out[#out + 1] = line:gsub("^%-%- ?", "")
    end
    return table.concat(out, "\n")
end

-- What a file defines: { ["M"] = { load = { call =, text = } }, ["methods"] = {...}, ... } by the table's name.
local function functions_of(text)
    local lines, found = lines_of(text), {}
    local block
    local function add(table_name, name, parameters, i, sep)
        found[table_name] = found[table_name] or {}
        parameters = parameters:gsub(",?%s*fname$", "") -- whose name errors tell: for callers inside
        found[table_name][name] = { parameters = parameters, text = comment_above(lines, i), sep = sep,
                                    order = i }
    end
    for i, line in ipairs(lines) do
        local t, sep, name, parameters = line:match "^%s*function ([%w_]+)([%.:])([%w_]+)%((.-)%)"
        if t then add(t, name, parameters, i, sep) end
        t, name, parameters = line:match "^([%w_]+)%.([%w_]+) = function%((.-)%)"
        if t then add(t, name, parameters, i, ".") end
        t, name = line:match "^([%w_]+)%.([%w_]+) = family"
        if t then add(t, name, "", i, ".") end
        block = line:match "^[%w_]+%.([%w_]+) = {$" or (line:find "^}" and "" or block)
        name, parameters = line:match "^    ([%w_]+) = function%((.-)%)"
        if block and block ~= "" and name then add(block, name, parameters, i, ".") end
        t, name, parameters = line:match "^function ([%w_]+%.[%w_]+)%.([%w_]+)%((.-)%)"
        if t then add(t:match "%.(.*)", name, parameters, i, ".") end
    end
    return found, lines
end

-- Which table of a file holds what the module returns.
local function exports_of(text)
    return text:match "\nreturn setmetatable%(([%w_]+)" or text:match "\nreturn ([%w_]+)%s*$" or "M"
end

-- Functions that loops make are documented by lines "-- Tensor:add(other): the sum." of their own.
local function spelled_out(text)
    local list, last = {}, nil
    for _, line in ipairs(lines_of(text)) do
        local name, parameters, words = line:match "^%s*%-%- ([%a_][%w_%.]*[%.:][%w_]+)(%b()): (.*)$"
        local more = line:match "^%s*%-%- (.*)$"
        if name then
            last = { name = name, call = name .. parameters, text = words }
            list[#list + 1] = last
        elseif last and more then
            last.text = last.text .. "\n" .. more
        else
            last = nil
        end
    end
    return list
end

-- Classes that no user meets.
local INTERNAL = { Progress = true, Told = true, Evaluator = true, Store = true }

-- docs.collect(api, { { path = "distac/load.lua", text = }, ... }) -> ordered list of entries, list of modules
function docs.collect(api, files)
    local list, seen, by_module = {}, {}, {}
    local kinds, titles = {}, {}
    for _, file in ipairs(files) do
        local found, lines = functions_of(file.text)
        local module = file.path:gsub("^distac/", ""):gsub("%.lua$", ""):gsub("/init$", "")
        by_module[module] = { found = found, text = file.text, path = file.path, about = first_comment(lines),
                              main = exports_of(file.text) }
    end
    local check = by_module.check
    for kind, name in (check and check.text:match "local KIND = {(.-)\n}" or ""):gmatch '([%w_]+) = "([%w_]+)"' do
        kinds[kind], titles[name] = name, true
    end
    local function add(name, call, text, path)
        local there = seen[name]
        if there and (there.text ~= "" or text == "") then return end
        if there then
            there.call, there.text, there.where = call, text, path
            return
        end
        seen[name] = { name = name, call = call, text = text, where = path }
        list[#list + 1] = seen[name]
    end
    local function public(name, module, table_name, key)
        local m = by_module[module]
        local entry = m and m.found[table_name or m.main] and m.found[table_name or m.main][key]
        if entry then add(name, name .. "(" .. entry.parameters .. ")", entry.text, m.path) end
    end
    local function sorted(found)
        local names = {}
        for name in pairs(found or {}) do names[#names + 1] = name end
        table.sort(names, function(a, b) return found[a].order < found[b].order end)
        return names
    end
    local function namespace(prefix, module, table_name)
        local m = by_module[module]
        if not m then return end
        if not table_name and m.about ~= "" then add(prefix, prefix, m.about, m.path) end
        for _, key in ipairs(sorted(m.found[table_name or m.main])) do
            public(prefix .. "." .. key, module, table_name, key)
        end
    end

    -- distac.*, as init.lua puts it together
    local init = by_module.init or by_module[""] or { text = "" }
    local required = {}
    for name, module in init.text:gmatch 'local ([%w_]+) = %l+ "distac%.([%w_]+)"' do required[name] = module end
    local makers = init.text:match 'local makers = strict%("distac.tensor", {(.-)}%)' or ""
    local body = init.text:match "\nlocal distac = {\n(.-)\n}\n" or ""
    -- one entry a piece: lines that go deeper belong to the one before
    for piece in (body:gsub("\n        +", " ") .. "\n"):gmatch "    (.-),?\n" do
        local key, value = piece:match "^([%w_]+) = (.*)$"
        if key then
            local name = "distac." .. key
            local variable, member = value:match "^([%w_]+)%.([%w_]+)$"
            local module, part = value:match '^require%("distac%.([%w_]+)"%)%.([%w_]+)$'
            local whole = value:match '^require "distac%.([%w_]+)"$' or (value:find "^[%w_]+$" and required[value])
            if variable and required[variable] then
                public(name, required[variable], nil, member)
                if not seen[name] then namespace(name, required[variable], member) end
            elseif module then
                public(name, module, nil, part)
            elseif whole then
                namespace(name, whole)
            elseif value == "makers" then
                public(name, "tensor_make", nil, "tensor")
                public(name, "tensor", nil, "tensor")
                for k, v, f in makers:gmatch "([%w_]+) = ([%w_]+)%.([%w_]+)" do
                    public(name .. "." .. k, required[v], nil, f)
                    public(name .. "." .. k, "tensor_make", nil, f)
                    public(name .. "." .. k, "tensor_math", nil, f)
                end
            elseif value:find "{" then
                for k, v, f in value:gmatch "([%w_]+) = ([%w_]+)%.([%w_]+)" do
                    public(name .. "." .. k, required[v], nil, f)
                end
            end
            if not seen[name] and variable == "tensor" then
                public(name, "tensor_make", nil, member)
                public(name, "tensor_math", nil, member)
            end
        end
    end
    public("distac.type", "init", "distac", "type")
    add("distac.release", "distac.release(object)",
        "Frees an object's memory now instead of at the next collection; later use raises.", "distac/init.lua")
    for key, module in (init.text:match "local LATER = {(.-)}" or ""):gmatch '([%w_]+) = "distac%.([%w_]+)"' do
        namespace("distac." .. key, module)
    end
    for _, key in ipairs { "grid", "match_norm", "folder_suite" } do public("distac." .. key, "parts", nil,
        key) end
    public("distac.zero_shot_head", "zero_shot", nil, "zero_shot_head")
    if by_module.recipe then
        public("distac.recipe", "recipe", "recipe", "new")
        if list[#list] and list[#list].name == "distac.recipe" then list[#list].call = "distac.recipe { ... }" end
        namespace("distac.recipe", "recipe")
    end
    public("distac.suite", "suites", nil, "open")

    -- methods
    local order = {}
    for module in pairs(by_module) do order[#order + 1] = module end
    table.sort(order)
    for _, module in ipairs(order) do
        local m = by_module[module]
        local of = {}
        for kind, variable in m.text:gmatch 'check%.class%("([%w_]+)", ([%w_]+)' do of[variable] = kinds[kind] end
        for kind, variable in m.text:gmatch 'raw%.set_metatable%("([%w_]+)", ([%w_]+)' do
            of[variable] = kinds[kind]
        end
        if module:find "^tensor_" then of.methods = kinds.tensor end
        if module == "checkpoint_inside" then of.methods = kinds.checkpoint end
        for variable, name in m.text:gmatch 'local (%u[%w_]*) = { __name = "([%w_]+)"' do of[variable] = name end
        for variable in m.text:gmatch 'local (%u[%w_]+) = {' do
            if m.text:find("setmetatable%(.-, " .. variable .. "%)") then of[variable] = of[variable]
                or variable end
        end
        if module == "merge" then of.Operator = kinds.merge end
        for variable, name in pairs(of) do
            if INTERNAL[name] or module == "driven" and name == "Job" then of[variable] = nil end
        end
        local variables = {}
        for variable in pairs(of) do variables[#variables + 1] = variable end
        table.sort(variables)
        for _, variable in ipairs(variables) do
            for _, key in ipairs(sorted(m.found[variable])) do
                local entry = m.found[variable][key]
                if not key:find "^__" then
                    local parameters = entry.parameters
                    if entry.sep == "." then parameters = parameters:gsub("^[^,]*,?%s*", "") end
                    local name = of[variable] .. ":" .. key
                    add(name, name .. "(" .. parameters .. ")", entry.text, m.path)
                end
            end
        end
    end

    for _, module in ipairs(order) do
        for _, entry in ipairs(spelled_out(by_module[module].text)) do
            local kind = entry.name:match "^(%u%w*):"
            if kind and titles[kind] or entry.name:find "^distac%." then
                add(entry.name, entry.call, entry.text, by_module[module].path)
            end
        end
    end

    -- what the prompt adds
    local prompt = by_module["repl/commands"]
    for _, key in ipairs(sorted(prompt and prompt.found.commands)) do public(key, "repl/commands", "commands",
        key) end
    local job = by_module["repl/jobs"]
    if job then
        for _, key in ipairs(sorted(job.found.Job)) do
            if not key:find "^__" and not seen["Job:" .. key] then
                add("Job:" .. key, "Job:" .. key .. "(" .. job.found.Job[key].parameters .. ")",
                    job.found.Job[key].text, job.path)
            end
        end
    end

    -- raw.*
    for _, fn in ipairs(api.functions) do
        local args = {}
        for i, arg in ipairs(fn.args) do args[i] = arg.name .. (arg.nullable and "?" or "") end
        add("raw." .. fn.name, "raw." .. fn.name .. "(" .. table.concat(args, ", ") .. ")",
            fn.declaration:gsub("DISTAC_%u+ ", "") .. ";" .. (fn.text ~= "" and "\n" .. fn.text or ""), "distac.h")
    end
    return list
end

-- The table as a Lua module.
function docs.module(list)
    local out = { "-- docs.lua: written by bindings/gen_docs.lua from the sources; do not edit.", "return {" }
    for _, e in ipairs(list) do
        out[#out + 1] = ("    { name = %q, call = %q, where = %q,\n      text = %q },"):format(e.name, e.call,
            e.where, e.text):gsub("\\\n", "\\n")
    end
    out[#out + 1] = "}\n"
    return table.concat(out, "\n")
end

-- The Lua part of the reference.
function docs.page(list)
    local out = { "# distac: reference of the Lua interface\n",
                  "Made from the comments of the Lua sources; the same texts as `help` at the prompt. Those",
                  "of `distac.raw` and of C are in api.md.\n" }
    for _, e in ipairs(list) do
        if not e.name:find "^raw%." then
            out[#out + 1] = "### " .. e.name .. "\n"
            if e.call ~= e.name then out[#out + 1] = "`" .. e.call .. "`\n" end
            if e.text ~= "" then out[#out + 1] = e.text .. "\n" end
        end
    end
    return table.concat(out, "\n")
end

return docs
