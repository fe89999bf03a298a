-- repl_terminal_spec.lua: the prompt in a real terminal, which tmux plays: keys go in, the screen is read.
local tiny = require "spec.tiny"

local build = os.getenv("DISTAC_BUILD") or "build"
local program = build:match "^/" and build .. "/distac" or os.getenv "PWD" .. "/" .. build .. "/distac"
local quote = tiny.quote

local function output(command)
    local pipe = assert(io.popen(command .. " 2>/dev/null"))
    local text = pipe:read "*a"
    pipe:close()
    return text
end

local has_tmux = output "command -v tmux" ~= ""

describe("the prompt in a terminal", function()
    local home, socket
    local started = 0

    local function tmux(words) return output("env -u TMUX tmux -L " .. socket .. " " .. words) end
    local function start(environment) -- a server of its own each time: one that ends takes a moment
        started = started + 1
        socket = "distac-" .. home:gsub("%W", "") .. started
        tmux("new-session -d -x 90 -y 40 " .. quote("cd " .. home .. " && env HOME=" .. home .. " XDG_STATE_HOME="
            .. home
            .. "/state TERM=xterm-256color " .. (environment or "") .. " " .. program
            .. "; echo it has left; sleep 30"))
    end
    local function screen() return tmux "capture-pane -p" end
    -- Waits until the screen shows the text; at most so many seconds.
    local function see(text, seconds)
        local shown
        for _ = 1, (seconds or 10) * 50 do
            shown = screen()
            if shown:find(text, 1, true) then return shown end
            os.execute "sleep 0.02"
        end
        error("'" .. text .. "' is wanted on the screen:\n" .. shown, 2)
    end
    local function keys(names) tmux("send-keys " .. names) end
    local function type_text(text) tmux("send-keys -l " .. quote(text)) end
    local function enter(text)
        type_text(text)
        keys "Enter"
    end
    local function leave()
        keys "C-u"
        keys "C-d"
        see "it has left"
        tmux "kill-server"
    end

    setup(function()
        home = tiny.folder()
    end)
    teardown(function() tiny.remove(home) end)
    before_each(function()
        if not has_tmux then return end
        start()
        see "Ctrl-D leaves"
    end)
    after_each(function() tmux "kill-server" end)

    local function case(name, f)
        it(name, function()
            if not has_tmux then return pending "tmux is not installed" end
            f()
        end)
    end

    case("gives a statement of several lines back as one", function()
        enter "for i = 5, 6 do"
        see ">>"
        enter "print('line ' .. i)"
        enter "end"
        see "line 6"
        keys "Up"
        see "> for i = 5, 6 do print('line ' .. i) end"
    end)

    case("completes by Tab: one word, a list, a path", function()
        type_text "distac.vers"
        keys "Tab Enter"
        see "distac.version\n"
        type_text "distac.lo"
        keys "Tab"
        see "load_head  loader"
        keys "C-u"
        tiny.write(home .. "/weights.safetensors", "")
        type_text 'name = "wei'
        keys "Tab Enter"
        enter "#name"
        see "\n19\n"
    end)

    case("prompts for the rest of a statement, and Ctrl-C drops it", function()
        enter "for i = 1, 2 do"
        see "\n>>"
        enter "print(i * 11)"
        enter "end"
        see "\n11\n22\n"
        enter "t = {"
        keys "C-c"
        enter "'a' .. 'b'"
        see "\nab\n"
    end)

    case("stops what runs by Ctrl-C within half a second", function()
        for _, line in ipairs { "while true do end",
            "local t = distac.ones{64,64} while true do u = t:matmul(t) end" } do
            enter("print('we' .. 'nt') " .. line)
            see "went"
            os.execute "sleep 0.5"
            local begun = output "date +%s%N"
            keys "C-c"
            see "interrupted"
            local ms = (tonumber(output "date +%s%N") - tonumber(begun)) / 1e6
            assert.is_true(ms < 500, ms .. " ms")
            keys "C-l"
        end
        enter "6 * 7"
        see "42"
    end)

    case("keeps its lines between runs", function()
        enter "remembered = 1234"
        leave()
        start()
        see "Ctrl-D leaves"
        keys "Up Enter"
        see "> remembered = 1234"
        enter "remembered + 1"
        see "1235"
        assert.is_truthy(tiny.read(home .. "/state/distac/history"):find("remembered = 1234\n", 1, true))
    end)

    case("starts where nothing can be kept", function()
        leave()
        start("XDG_STATE_HOME=/dev/null/nowhere")
        see "Ctrl-D leaves"
        enter "1 + 1"
        see "\n2\n"
    end)

    case("draws a plot in half blocks, and the prompt stands below", function()
        enter "p = distac.plot { title = 't' }"
        enter "_ = p:line { label = 'a', x = {0, 1, 2}, y = {0, 1, 0.5} }"
        enter "show(p)"
        local shown = see("saved as " .. home .. "/state/distac/plot.png")
        assert.is_true(select(2, shown:gsub("\226\150\128", "")) > 500, shown)
        assert.are.equal("\137PNG", tiny.read(home .. "/state/distac/plot.png"):sub(1, 4))
        enter "'be' .. 'low'"
        see "\nbelow\n"
    end)

    case("shows the progress of jobs while nobody types, and they survive Ctrl-C", function()
        local root = tiny.suite({ "bars" }, 8)
        tiny.recipe(root, function(text) return (text:gsub("steps = 30", "steps = 100000")) end)
        enter("job = start '" .. root .. "/tiny.lua'")
        see("[1 fine-tuning bars", 20)
        enter "while true do end"
        os.execute "sleep 0.3"
        keys "C-c"
        see "interrupted"
        enter "job:pause():status()"
        see "\npaused\n"
        see "paused] >"
        enter "'still ' .. job:resume():status()"
        see "still running"
        keys "C-d"
        see("job 1 tiny: cancelled", 20)
        tiny.remove(root)
    end)
end)
