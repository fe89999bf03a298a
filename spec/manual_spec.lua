-- The manual page and the completions of three shells know every command and every option of the command line.
local cli = require "distac.cli"
local options = require "distac.cli_options"

local build = os.getenv "DISTAC_BUILD" or "build"

local read = require("distac").fs.read

-- f(command's name, command, option) for every option.
local function every(f)
    local count = 0
    for _, name in ipairs(cli.commands()) do
        for _, option in ipairs(options.list(cli.command(name))) do
            f(name, cli.command(name), option)
            count = count + 1
        end
    end
    assert.is_true(count > 150)
end

local function plain(text) return (text:gsub("\\%-", "-"):gsub("\\f%u", "")) end

-- What bash offers after these words; the last is the one being written.
local function offered(words)
    local quoted = {}
    for i, word in ipairs(words) do quoted[i] = "'" .. word .. "'" end
    local pipe = io.popen(("bash -c 'source %s/gen/completion.bash; COMP_WORDS=(%s); COMP_CWORD=%d; _distac; "
        .. 'printf "%%s\\n" "${COMPREPLY[@]}"' .. "'"):format(build, table.concat(words, " "):gsub('""$', '""'),
        #words - 1))
    local list = {}
    for line in pipe:lines() do list[line] = true end
    pipe:close()
    return list
end

describe("the manual page", function()
    local page = read(build .. "/gen/distac.1")

    it("has every command with its text and its options", function()
        local text = plain(page)
        for _, name in ipairs(cli.commands()) do
            local from = text:find('.SS "distac ' .. name .. " ", 1, true)
            assert.truthy(from, name)
        end
        local common = {}
        for _, option in ipairs(options.common) do common[option] = true end
        every(function(name, _, option)
            local from = text:find('.SS "distac ' .. name .. " ", 1, true)
            local to = text:find("\n.S", from + 1, true)
            local where = text:sub(from, to)
            if common[option] then where = text:match ".SH COMMON OPTIONS OF COMMANDS\n(.-)\n.SH" end
            assert.truthy(where:find("--" .. option[1], 1, true), name .. " --" .. option[1])
            assert.truthy(where:find(option[4]:sub(1, 20), 1, true), name .. " --" .. option[1] .. ": its text")
        end)
        for _, word in ipairs { ".B distac", "\\-e", "\\-i", "\\-l", "\\-v", "EXIT STATUS", "THE PROMPT",
            "job:pause()", "job:cancel()", "history", "show(" } do
            assert.truthy(page:find(word, 1, true), word)
        end
    end)

    it("has what the prompt adds", function()
        for name in pairs(require "distac.repl.commands") do
            if type(name) == "string" then assert.truthy(page:find(name, 1, true), name) end
        end
    end)

    it("is without mistakes for the formatter, where there is one", function()
        local pipe = io.popen("unset LD_PRELOAD; command -v groff >/dev/null && groff -man -Tutf8 -ww " .. build
            .. "/gen/distac.1 2>&1 >/dev/null")
        local said = pipe:read "*a"
        pipe:close()
        assert.equal("", said)
    end)
end)

describe("completions", function()
    it("know every option in each shell", function()
        local bash, zsh, fish = read(build .. "/gen/completion.bash"), read(build .. "/gen/_distac"),
            read(build .. "/gen/distac.fish")
        every(function(name, _, option)
            local what = name .. " --" .. option[1]
            local line = bash:match("\n        " .. name .. "%) words=\"([^\"]*)\"")
            assert.truthy((" " .. line .. " "):find(" --" .. option[1] .. " ", 1, true), "bash: " .. what)
            local arguments = zsh:match("\n        " .. name .. "%) _arguments (.-) ;;")
            assert.truthy(arguments:find("--" .. option[1] .. "[", 1, true), "zsh: " .. what)
            assert.truthy(fish:find("from " .. name .. "' -l " .. option[1] .. " ", 1, true)
                or fish:find("from " .. name .. "' %-s %a %-l " .. option[1]:gsub("%-", "%%-") .. " "),
                "fish: " .. what)
        end)
        for _, name in ipairs(cli.commands()) do
            assert.truthy(zsh:find("'" .. name .. ":", 1, true), name)
            assert.truthy(fish:find("-a " .. name .. " -d", 1, true), name)
        end
    end)

    it("offer what fits in bash", function()
        local first = offered { "distac", "" }
        for _, name in ipairs(cli.commands()) do assert.is_true(first[name], name) end
        assert.same({ merge = true }, offered { "distac", "merg" })
        local after = offered { "distac", "merge", "--method", "ti" }
        assert.same({ ties = true }, after)
        for _, method in ipairs(require("distac.merge_methods").list()) do
            assert.is_true(offered { "distac", "merge", "--method", method.name }[method.name], method.name)
        end
        assert.same({ ["--lambda"] = true }, offered { "distac", "merge", "--lam" })
        assert.same({ ["--t-teacher"] = true, ["--t-student"] = true }, offered { "distac", "condition", "--t-" })
        assert.same({ check = true }, offered { "distac", "data", "ch" })
    end)
end)
