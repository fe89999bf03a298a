-- distac.cli_options: reads a command's options as its table describes them, with the nearest name for a mistake,
-- and writes its help from the same table.
--
-- An option is { "name", kind, argument, text }: kind is "flag", "text", "number", "integer" or "list" (may be
-- given several times); "-o" style short names are listed under short.

local nearest = require "distac.nearest"

local options = {}

options.common = {
    { "set", "list", "PATH=VALUE", "any key of the recipe", only = "recipe" },
    { "out", "text", "DIR", "where results go", only = "recipe" },
    { "device", "text", "DEVICE", "cpu, cuda or cuda:N" },
    { "threads", "integer", "N", "worker threads" },
    { "memory", "text", "SIZE", "limit, such as 512MB or 1GiB" },
    { "seed", "integer", "N", "initialisation, batches and augmentation" },
    { "kernels", "text", "NAME", "auto, scalar, avx2 or avx512" },
    { "products", "text", "TYPE", "factors of a model's matrix products: f32, bf16 (sums and weights stay "
        .. "f32), or tf32 on CUDA" },
    { "json", "flag", nil, "print the result as JSON and nothing else" },
    { "quiet", "flag", nil, "no progress" },
    { "help", "flag", nil, "this text" },
}

local short = { o = "output", h = "help", q = "quiet" }

local function all_options(command)
    local list, by_name, names = {}, {}, {}
    local function add(option)
        if not by_name[option[1]] then
            list[#list + 1] = option
            by_name[option[1]] = option
            names[#names + 1] = "--" .. option[1]
        end
    end
    for _, option in ipairs(command.options or {}) do add(option) end
    for _, option in ipairs(options.common) do
        if not option.only or command[option.only] then add(option) end
    end
    return list, by_name, names
end

local function convert(option, text)
    local kind = option[2]
    if kind == "number" or kind == "integer" then
        local value = tonumber(text)
        if not value or value ~= value or (kind == "integer" and (value ~= math.floor(value) or value < 0)) then
            return nil, "--" .. option[1] .. ": wanted " .. (kind == "integer" and "a whole number" or "a number")
                .. ", got '" .. text .. "'"
        end
        return value
    end
    return text
end

-- argv -> table of values by name (with "-" as "_"), positional arguments in .args; or nil and what is wrong.
-- A command with extra = function(name) may take options that depend on others (they land in .extra, as text).
function options.parse(command, name, argv)
    local o, _, by_name, names = { command = name, args = {}, extra = {}, extra_order = {} }, all_options(command)
    local i = 1
    while i <= #argv do
        local word = argv[i]
        local key, value = word:match("^%-%-([%w][%w_%-]*)=(.*)$")
        key = key or word:match("^%-%-([%w][%w_%-]*)$")
        local letter = word:match("^%-(%a)$")
        if letter then
            key = short[letter]
            if not key then
                return nil, "unknown option '" .. word .. "'; of one letter there are -h, -o and -q"
            end
        end
        if word == "--" then
            for k = i + 1, #argv do o.args[#o.args + 1] = argv[k] end
            break
        elseif not key then
            if word:find("^%-.") and not tonumber(word) then return nil, "unknown option '" .. word .. "'" end
            o.args[#o.args + 1] = word
        else
            local option = by_name[key]
            if not option and not command.extra then
                local near = nearest("--" .. key, names)
                local hint = near and "; did you mean '" .. near .. "'?" or ""
                return nil, "unknown option '" .. word .. "'" .. hint
            end
            if option and option[2] == "flag" then
                if value then return nil, "--" .. key .. " takes no value" end
                value = true
            elseif not value then
                i = i + 1
                value = argv[i]
                local another = value and value:match("^%-[%a%-]") and not tonumber(value)
                if not option and (another or value == nil) then -- the command knows if there is such an option
                    value, i = "", another and i - 1 or i
                elseif value == nil or another then
                    return nil, "--" .. key .. " needs a value" .. (another and ", and '" .. value
                        .. "' is an option (--" .. key .. "=" .. value .. " if it is meant)" or "")
                end
            end
            if not option then
                o.extra[key] = value
                o.extra_order[#o.extra_order + 1] = key
            elseif option[2] == "flag" then
                o[(key:gsub("%-", "_"))] = true
            elseif option[2] == "list" then
                local field = (key:gsub("%-", "_"))
                o[field] = o[field] or {}
                table.insert(o[field], value)
            else
                local converted, why = convert(option, value)
                if converted == nil then return nil, why end
                o[(key:gsub("%-", "_"))] = converted
            end
        end
        i = i + 1
    end
    return o
end

-- All options of a command, its own before those that all have.
function options.list(command) return (all_options(command)) end

-- The letter that stands for an option, nil if it has none.
function options.short_of(name)
    for letter, long in pairs(short) do
        if long == name then return letter end
    end
end

function options.names(command)
    local _, _, names = all_options(command)
    return names
end

local WIDTH, COLUMN = 100, 31

-- Adds left and a text beside it to lines, the text broken into a column.
function options.entry(lines, left, text, column)
    column = column or #left + 1
    local line = left .. (" "):rep(math.max(1, column - #left))
    local fresh = true
    for word in text:gmatch "%S+" do
        if not fresh and #line + 1 + #word > WIDTH then
            lines[#lines + 1] = line
            line, fresh = (" "):rep(column), true
        end
        line = line .. (fresh and "" or " ") .. word
        fresh = false
    end
    lines[#lines + 1] = line
end

function options.help(command, name)
    local usage = "usage: distac " .. name .. (command.usage ~= "" and " " .. command.usage or "")
    local lines, own = { usage, "", command.text }, {}
    for _, option in ipairs(command.options or {}) do own[option] = true end
    local heading
    for _, option in ipairs((all_options(command))) do
        local this = (own[option] or option.only) and "options" or "options of every command"
        if this ~= heading then
            lines[#lines + 1] = ""
            lines[#lines + 1] = this
            heading = this
        end
        local letter = options.short_of(option[1])
        local left = "  " .. (letter and "-" .. letter .. ", " or "") .. "--" .. option[1]
            .. (option[3] and " " .. option[3] or "")
        options.entry(lines, left, option[4], COLUMN)
    end
    if command.more then lines[#lines + 1] = "\n" .. command.more() end
    if command.example then lines[#lines + 1] = "\nexample\n  distac " .. name .. " " .. command.example end
    return table.concat(lines, "\n")
end

return options
