-- distac.cli: the command line. main(argv) reads the options, runs one command and returns the exit status:
-- 0 done, 1 the work failed, 2 the command or recipe is wrong (nothing was started), 130 interrupted (state
-- saved). The engine is loaded only when a command needs it. Each command is a table in distac.commands.*:
-- { usage =, text =, options =, run = function(o) -> result for --json, text for people }.

local options_of = require "distac.cli_options"

local cli = {}

local modules = {
    run = "recipes", plan = "recipes", merge = "merge", condition = "train", finetune = "train", eval = "eval",
    norms = "inspect", inspect = "inspect", convert = "convert", head = "head", data = "data",
    version = "inspect", doctor = "doctor", translate = "translate",
}
local listed = {
    "run", "plan", "merge", "translate", "condition", "eval", "finetune", "norms", "inspect", "convert", "head",
    "data", "doctor", "version",
}

function cli.command(name)
    return modules[name] and require("distac.commands." .. modules[name])[name]
end

-- All commands, in the order of the help.
function cli.commands() return listed end

-- Is this word a command, or asks for help?
function cli.is_command(name) return modules[name] ~= nil or name == "help" end

local function help()
    local lines = {
        "usage: distac                                       the prompt",
        "       distac [-i] [-e CODE] [-l MODULE] FILE.lua [ARG...]",
        "       distac COMMAND [options]",
        "",
        "commands; distac COMMAND --help tells their options",
    }
    for _, name in ipairs(listed) do
        options_of.entry(lines, string.format("  %-10s", name), cli.command(name).text)
    end
    lines[#lines + 1] = [[

options for scripts, as lua(1) has them
  -e CODE     run CODE                 -l MODULE   require MODULE into a global
  -i          the prompt afterwards    -v          show the version
  -           run standard input       --          end of options

exit status: 0 done, 1 the work failed, 2 the command is wrong, 130 interrupted]]
    return table.concat(lines, "\n")
end

-- A mistake in the command: told on stderr, exit status 2.
local Usage = {}
Usage.__index = Usage
Usage.__tostring = function(self) return self.message end
function cli.usage(message) error(setmetatable({ message = message }, Usage), 0) end

-- Without the name of the function of the engine: who types a command has called none.
local function message_of(err)
    if type(err) == "table" and err.message then return (tostring(err.message):gsub("^distac_[%l_]+: ", "")) end
    return tostring(err)
end
cli.message_of = message_of

local function configure(o)
    local distac = require "distac"
    local ok, err = pcall(distac.configure, { threads = o.threads, device = o.device, memory = o.memory,
                                              seed = o.seed, kernels = o.kernels, products = o.products })
    if ok then ok, err = pcall(distac.context) end
    if not ok then -- in the words of the command line
        cli.usage((message_of(err):gsub("^distac%.configure: (%a+):", "--%1:")
            :gsub("^no such device", "--device: no such device")))
    end
end

-- A result that does not arrive is a failure.
local function say(...)
    local fine, why = io.stdout:write(...)
    if fine then fine, why = io.stdout:flush() end
    if not fine then error("standard output: " .. tostring(why), 0) end
end

local function print_result(o, result, text)
    if o.json then
        local json = require "distac.json"
        local encode = type(result) == "string" and result
            or json.encode(result, { indent = 2, nonfinite = "null" }) .. "\n"
        say(encode)
    elseif text and not (o.quiet and o.command == "run") then
        say(text, "\n")
    end
end

local function show_warnings(o)
    local loaded = package.loaded["distac"]
    if type(loaded) ~= "table" or o.quiet then return end
    for event in loaded.events() do
        if event.kind == "warning" then io.stderr:write("distac: warning: ", event.what, "\n") end
    end
end

local function execute(command, name, argv)
    local o, wrong = options_of.parse(command, name, argv)
    if not o then cli.usage(wrong) end
    if o.help then
        io.stdout:write(options_of.help(command, name), "\n")
        return 0
    end
    if not command.light then configure(o) end
    local result, text, status = command.run(o)
    show_warnings(o)
    print_result(o, result, text)
    return status or 0
end

local function traced(err)
    -- A plain text is a mistake of our own or a user's function: the trace says where. Error values speak for
    -- themselves.
    if type(err) == "string" and os.getenv("DISTAC_TRACE") then return debug.traceback(err, 2) end
    return err
end

function cli.main(argv)
    local name = argv[1]
    if name == nil or name == "--help" or name == "-h" or name == "help" and not argv[2] then
        io.stdout:write(help(), "\n")
        return 0
    end
    if name == "help" then argv, name = { argv[2], "--help" }, argv[2] end
    if name == "--version" or name == "-V" then name = "version" end
    local command = cli.command(name)
    if not command then
        local near = require "distac.nearest"(name, listed)
        io.stderr:write("distac: '", name, "' is neither a command nor a file",
            near and "; did you mean '" .. near .. "'?" or "", " (distac --help lists the commands)\n")
        return 2
    end
    local rest = {}
    for i = 2, #argv do rest[i - 1] = argv[i] end
    local ok, status = xpcall(function() return execute(command, name, rest) end, traced)
    if ok then return status end
    local err = status
    io.stdout:flush()
    if getmetatable(err) == Usage then
        io.stderr:write("distac ", name, ": ", err.message, "\n")
        return 2
    end
    local code = type(err) == "table" and err.code or nil
    if code == "ERECIPE" then
        io.stderr:write(err.message, "\n")
        return 2
    elseif code == "ECANCELED" then
        io.stderr:write("\ndistac: interrupted; what was done is saved, the same command continues\n")
        return 130
    end
    io.stderr:write("distac ", name, ": ", message_of(err), "\n")
    return 1
end

return cli
