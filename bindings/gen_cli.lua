-- gen_cli.lua: the manual page and the completions of three shells from the command line's own tables:
--   lua5.4 bindings/gen_cli.lua OUTDIR LUAFOLDER PAGE REGISTRY
-- PAGE is distac.1 with a line @COMMANDS@; REGISTRY is core/merge/registry.c, which names the merge methods.
-- OUTDIR receives distac.1, completion.bash, _distac (zsh) and distac.fish. The engine is not needed.

local here = arg[0]:match("^(.*)/[^/]*$") or "."
local outdir, folder, page, registry = arg[1], arg[2], arg[3], arg[4]
if not registry then
    io.stderr:write("usage: gen_cli.lua OUTDIR LUAFOLDER PAGE REGISTRY\n")
    os.exit(2)
end
package.path = here .. "/gen/?.lua;" .. folder .. "/?.lua;" .. folder .. "/?/init.lua;" .. package.path
local files = require "files"
local read = files.read
local function write(name, text) files.write(outdir .. "/" .. name, text) end
local cli, options = require "distac.cli", require "distac.cli_options"

local methods = {}
for name in read(registry):match("methods%[%] = {(.-)}"):gmatch "&di_merge_([%w_]+)" do
    methods[#methods + 1] = name
end
for name in read(folder .. "/distac/methods/init.lua"):match("ipairs {(.-)}"):gmatch '"([%w_]+)"' do
    methods[#methods + 1] = name
end

-- What may follow an option: words, or "file", or nil where it is anyone's guess.
local WORDS = {
    method = methods, device = { "cpu", "cuda" }, split = { "train", "validation", "test" },
    kernels = { "auto", "scalar", "avx2", "avx512" }, products = { "f32", "bf16", "tf32" },
    dtype = { "f32", "f16", "bf16" }, loss = { "cross_entropy", "focal", "mixup" },
    to = { "open_clip", "hf", "custom_text", "plain" }, suite = { "mini8", "clip8" },
    activation = { "gelu", "quick_gelu" }, ["text-activation"] = { "gelu", "quick_gelu" },
}
local function follows(option)
    if option[2] == "flag" then return nil end
    local argument = option[3] or ""
    if WORDS[option[1]] then return WORDS[option[1]] end
    for _, word in ipairs { "FILE", "DIR", "PATH$", "CLIP", "OUT" } do
        if argument:find(word) then return "file" end
    end
end

local commands = {}
for i, name in ipairs(cli.commands()) do
    local command = cli.command(name)
    local list = {}
    for k, option in ipairs(options.list(command)) do list[k] = option end
    if name == "merge" then -- the one parameter that all methods have
        table.insert(list, 3, { "lambda", "number", "X", "factor of the merged direction" })
    end
    commands[i] = { name = name, text = command.text, usage = command.usage, options = list,
                    example = command.example }
end
-- Words that come second.
local SECOND = { data = { "check", "split" }, help = cli.commands() }
local LEADING = { "-e", "-i", "-l", "-v", "--help" }

-- ---- bash ---------------------------------------------------------------------------------------------

local function bash()
    local names, cases, values, seen = {}, {}, {}, {}
    for i, command in ipairs(commands) do
        names[i] = command.name
        local list = {}
        for _, option in ipairs(command.options) do
            list[#list + 1] = "--" .. option[1]
            if options.short_of(option[1]) then list[#list + 1] = "-" .. options.short_of(option[1]) end
            local after = follows(option)
            if type(after) == "table" and not seen[option[1]] then
                seen[option[1]] = true
                values[#values + 1] = ("        --%s) words=\"%s\" ;;"):format(option[1], table.concat(after, " "))
            end
        end
        cases[i] = ("        %s) words=\"%s\" ;;"):format(command.name, table.concat(list, " "))
    end
    local second = {}
    for name, list in pairs(SECOND) do
        second[#second + 1] = ("        %s) words=\"%s\" ;;"):format(name, table.concat(list, " "))
    end
    table.sort(second)
    return ([=[
# Completion of distac(1) for bash: written by bindings/gen_cli.lua; do not edit.
_distac() {
    local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} words=""
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        if [[ $current == -* ]]; then
            mapfile -t COMPREPLY < <(compgen -W "@LEADING@" -- "$current")
            return
        fi
        mapfile -t COMPREPLY < <(compgen -W "@NAMES@ help" -- "$current"; compgen -f -X '!*.lua' -- "$current"
            compgen -d -- "$current")
        return
    fi
    case $before in
@VALUES@
    esac
    if [ -z "$words" ] && [[ $current == -* ]]; then
        case ${COMP_WORDS[1]} in
@CASES@
        esac
    fi
    if [ -z "$words" ] && [ "$COMP_CWORD" -eq 2 ]; then
        case ${COMP_WORDS[1]} in
@SECOND@
        esac
    fi
    if [ -n "$words" ]; then
        mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
        return
    fi
    mapfile -t COMPREPLY < <(compgen -f -- "$current")
}
complete -o filenames -F _distac distac
]=]):gsub("@(%u+)@", { LEADING = table.concat(LEADING, " "), NAMES = table.concat(names, " "),
                      VALUES = table.concat(values, "\n"), CASES = table.concat(cases, "\n"),
                      SECOND = table.concat(second, "\n") })
end

-- ---- zsh ----------------------------------------------------------------------------------------------

local function zsh_text(text) return (text:gsub("'", "'\\''"):gsub("[%[%]:]", "\\%0")) end

local function zsh()
    local names, cases = {}, {}
    for i, command in ipairs(commands) do
        names[i] = ("        '%s:%s'"):format(command.name, zsh_text(command.text))
        local list = {}
        for _, option in ipairs(command.options) do
            local after, action = follows(option), ""
            if option[2] ~= "flag" then
                local kind = type(after) == "table" and "(" .. table.concat(after, " ") .. ")"
                    or after == "file" and "_files" or ""
                action = (":%s:%s"):format(zsh_text(option[3] or option[1]):lower(), kind)
            end
            local short = options.short_of(option[1])
            local many = option[2] == "list" and "*" or ""
            list[#list + 1] = ("'%s--%s[%s]%s'"):format(many, option[1], zsh_text(option[4] or ""), action)
            if short then list[#list + 1] = ("'-%s[%s]%s'"):format(short, zsh_text(option[4] or ""), action) end
        end
        local first = SECOND[command.name]
        if first then list[#list + 1] = ("'1:what:(%s)'"):format(table.concat(first, " ")) end
        list[#list + 1] = "'*:file:_files'"
        cases[i] = ("        %s) _arguments %s ;;"):format(command.name, table.concat(list, " \\\n            "))
    end
    return ([=[
#compdef distac
# Completion of distac(1) for zsh: written by bindings/gen_cli.lua; do not edit.
_distac() {
    local -a commands
    commands=(
@NAMES@
        'help:the options of a command'
    )
    if (( CURRENT == 2 )); then
        if [[ $words[2] == -* ]]; then
            compadd -- @LEADING@
        else
            _describe command commands
            _files -g '*.lua'
        fi
        return
    fi
    local command=$words[2]
    shift words
    (( CURRENT-- ))
    case $command in
@CASES@
        help) compadd -- @WORDS@ ;;
        *) _files ;;
    esac
}
_distac "$@"
]=]):gsub("@(%u+)@", { NAMES = table.concat(names, "\n"), CASES = table.concat(cases, "\n"),
                      LEADING = table.concat(LEADING, " "), WORDS = table.concat(cli.commands(), " ") })
end

-- ---- fish ---------------------------------------------------------------------------------------------

local function fish_text(text) return (text:gsub("\\", "\\\\"):gsub("'", "\\'")) end

local function fish()
    local out = { "# Completion of distac(1) for fish: written by bindings/gen_cli.lua; do not edit.",
                  "complete -c distac -n __fish_use_subcommand -s e -x -d 'run a piece of Lua'",
                  "complete -c distac -n __fish_use_subcommand -s i -d 'show the prompt afterwards'",
                  "complete -c distac -n __fish_use_subcommand -s l -x -d 'require a module'",
                  "complete -c distac -n __fish_use_subcommand -s v -d 'show the version'",
                  "complete -c distac -n __fish_use_subcommand -l help -d 'show the commands'",
                  "complete -c distac -n __fish_use_subcommand -a help -d 'the options of a command'" }
    for _, command in ipairs(commands) do
        out[#out + 1] = ("complete -c distac -n __fish_use_subcommand -a %s -d '%s'"):format(command.name,
            fish_text(command.text))
        local when = "'__fish_seen_subcommand_from " .. command.name .. "'"
        for _, option in ipairs(command.options) do
            local after = follows(option)
            local short = options.short_of(option[1])
            local value = option[2] == "flag" and "" or after == "file" and " -r -F"
                or type(after) == "table" and (" -x -a '%s'"):format(table.concat(after, " ")) or " -x"
            out[#out + 1] = ("complete -c distac -n %s%s -l %s%s -d '%s'"):format(when,
                short and " -s " .. short or "", option[1], value, fish_text(option[4] or ""))
        end
        if SECOND[command.name] then
            out[#out + 1] = ("complete -c distac -n %s -a '%s'"):format(when,
                table.concat(SECOND[command.name], " "))
        end
    end
    return table.concat(out, "\n") .. "\n"
end

-- ---- the manual ---------------------------------------------------------------------------------------

local function roff(text) return (text:gsub("\\", "\\e"):gsub("%-", "\\-"):gsub("^([%.'])", "\\&%1")) end

local function manual()
    local out, common = {}, {}
    for _, option in ipairs(options.common) do common[option[1]] = option end
    local function add(text) out[#out + 1] = text end
    local function entry(option)
        local short = options.short_of(option[1])
        add ".TP"
        add((".B %s\\-\\-%s%s"):format(short and "\\-" .. short .. ", " or "", roff(option[1]),
            option[3] and " \\fI" .. roff(option[3]) .. "\\fR" or ""))
        add(roff(option[4] or "") .. (option[2] == "list" and " (may be given several times)" or ""))
    end
    for _, command in ipairs(commands) do
        local usage = command.usage:gsub("%s*\n%s*", " | "):gsub('"', "")
        add((".SS \"distac %s %s\""):format(command.name, roff(usage)))
        add(roff(command.text:sub(1, 1):upper() .. command.text:sub(2) .. "."))
        for _, option in ipairs(command.options) do
            if common[option[1]] ~= option then entry(option) end
        end
        if command.name == "merge" then
            add ".TP"
            add ".B \\-\\-\\fIPARAMETER VALUE\\fR"
            add("a parameter of the method; distac merge \\-\\-help lists the methods ("
                .. roff(table.concat(methods, ", ")) .. ") and theirs")
        end
        if command.example then
            add ".PP"
            add "Example:"
            add ".RS"
            add(".B distac " .. roff(command.name .. " " .. command.example))
            add ".RE"
        end
    end
    add ".SH COMMON OPTIONS OF COMMANDS"
    for _, option in ipairs(options.common) do entry(option) end
    return table.concat(out, "\n")
end

write("completion.bash", (bash()))
write("_distac", (zsh()))
write("distac.fish", fish())
local text = read(page)
local from, to = text:find("@COMMANDS@\n", 1, true)
assert(from, page .. " has no line @COMMANDS@")
write("distac.1", text:sub(1, from - 1) .. manual() .. "\n" .. text:sub(to + 1))
