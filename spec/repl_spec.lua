-- repl_spec.lua: the prompt through a pipe: results, help, completion, errors, Ctrl-C, history as a script,
-- pictures, background jobs.
local tiny = require "spec.tiny"

local build = os.getenv("DISTAC_BUILD") or "build"
local program = build:match "^/" and build .. "/distac" or os.getenv "PWD" .. "/" .. build .. "/distac"
local quote = tiny.quote

-- Types lines into the prompt: what it printed and said, exit status.
local function typed(lines, environment, folder)
    local input = os.tmpname()
    tiny.write(input, lines .. "\n")
    local pipe = assert(io.popen(string.format("cd %s && { %s %s <%s; } 2>&1; echo \" status=$?\"", folder or ".",
        environment or "", quote(program), input)))
    local text = pipe:read "*a"
    pipe:close()
    os.remove(input)
    local said, status = text:match "^(.*) status=(%d+)\n$"
    return said, tonumber(status)
end

local function has(said, ...)
    for _, text in ipairs { ... } do
        assert.is_truthy(said:find(text, 1, true), "'" .. text .. "' is wanted in:\n" .. said)
    end
end

local function lacks(said, text) assert.is_nil(said:find(text, 1, true), said) end

describe("the prompt's results", function()
    it("are values of all kinds, several at once, the last one in _", function()
        local said, status = typed "1 + 1, nil, 'a'\n_ + 1\ndistac.ones{2}, {1, 'b', c = {true}}\n-- nothing\n= 7"
        assert.are.equal(0, status)
        assert.are.equal('2\tnil\ta\n3\nTensor [2] f32\n 1  1\n{1, "b", c = {true}}\n7\n', said)
        has((typed "distac"), "adamw", "merge", "zero_shot_head", "?distac tells")
        has((typed "distac.load\nfunction f() end\nf\nprint"), "function distac.load(path, options)\n",
            "function of stdin:1\n", "function\n")
    end)

    it("are models and task vectors, readable", function()
        local said = typed([[
small = { image = 8, patch = 4, channels = 1, width = 8, layers = 1, heads = 2, dim = 4, activation = "gelu" }
m = distac.vit(small)
m
c = m:checkpoint()
c - c
distac.plot {}]])
        has(said, "Model ViT 1x8x8, patch 4", "TaskVector of ", "Plot; show(plot) draws it")
    end)

    it("tell the time of slow lines only", function()
        local said = typed "require('distac.terminal').sleep(0.6)\n1"
        assert.is_truthy(said:match "^%(0%.%d%d s%)\n1\n$" or said:match "^1\n%(0%.%d%d s%)\n$", said)
    end)
end)

describe("statements of several lines", function()
    it("are read until they end", function()
        has((typed "for i = 1, 2 do\nprint(i)\nend\nt = {\n1,\n\n2 }\n#t\ns = [[a\nb]]\n#s"), "1\n2\n2\n3\n")
    end)

    it("that do not end are an error at the end of input", function() has((typed "f(\n1"), "<eof>") end)
end)

describe("errors", function()
    it("show the user's frames and none of the prompt's, and the session goes on", function()
        local said, status = typed("function f(n)\nlocal t\nreturn t.x\nend\n"
            .. "function g() local x = f(1) return x end\ng()\n5")
        assert.are.equal(0, status)
        has(said, "stdin:3: attempt to index", "    stdin:3: in ", "\n5\n")
        lacks(said, "repl/")
        lacks(said, "__values")
    end)

    it("tell the nearest name of a typo", function()
        has((typed "colour = 1\ncolor\ntenso\nx = nil\n"), "'color' is not defined; did you mean 'colour'?",
            "did you mean 'distac.tensor'?")
        has((typed "local kept = 1\nkept\nq"), "'kept' is not defined; it was local to its line",
            "'q' is not defined\n")
        has((typed "distac.lod"), "there is no distac.lod; did you mean distac.load?", "nil\n")
        has((typed "distac.ones{1}:summ()"), 'did you mean "sum"')
        has((typed "distac.fs.lst 'x'"), "hint: did you mean distac.fs.list?")
    end)

    it("are not made of what libraries look for", function()
        local said = typed "rawget(_G, 'nothing_there')\nload('return nothing_there')()"
        assert.are.equal("nil\nnil\n", said)
    end)
end)

describe("help", function()
    it("comes from the sources, by ?name and by help(thing)", function()
        local by_name, by_value = typed "?distac.load", typed "help(distac.load)"
        has(by_name, "distac.load(path, options)", "a file of tensors")
        assert.are.equal(by_name, by_value)
        has((typed "?Tensor:svd"), "Tensor:svd()", "u diag(s) vt")
        has((typed "t = distac.ones{1}\n?t:svd"), "u diag(s) vt")
        has((typed "t = distac.ones{1}\nhelp(t.svd)\n"), "u diag(s) vt")
        has((typed "t = distac.ones{1}\n?t"), "Tensor:reshape(...)")
        has((typed "?ties"), "distac.merge.ties", "keep = 0.2")
        has((typed "?raw.tensor_binary"), "distac_tensor_binary(")
        has((typed "?history"), "runs again")
        has((typed "?"), "help(thing)")
        has((typed "help"), "help(thing)")
        has((typed "?loss"), "distac.loss\n", "distac.loss.cross_entropy(options)")
        has((typed "?merge"), "distac.merge.ties{}", "trim, elect signs")
        has((typed "?kappa"), "'kappa' is spoken of in: ", "distac.match_norm")
    end)

    it("names the nearest for what is unknown", function()
        has((typed "?distac.laod"), "did you mean 'distac.load'?")
        has((typed "help 'no such thing at all'\n1"), "nothing is known about", "\n1\n")
    end)

    it("reads the comment above a function of the user's", function()
        local path = os.tmpname()
        tiny.write(path, "-- Doubles x.\nfunction twice(x) return 2 * x end\n")
        has((typed("dofile " .. string.format("%q", path) .. "\n?twice")), "twice(x)", "Doubles x.")
        os.remove(path)
    end)
end)

describe("completion", function()
    it("knows globals, fields, methods and keywords", function()
        assert.are.equal("load\nload_head\nloader\nloss\n", (typed ":complete x = distac.lo"))
        assert.are.equal("svd\n", (typed "t = distac.ones{1}\n:complete t:sv"))
        assert.are.equal("names\n",
            (typed "a = {b = {distac.checkpoint{x = distac.ones{1}}}}\n:complete a.b[1]:nam"))
        assert.are.equal("while\n", (typed ":complete whi"))
        assert.are.equal("ties\n", (typed ":complete distac.merge.ti"))
        assert.are.equal("upper\n", (typed "s = 'x'\n:complete s:upp"))
        assert.are.equal("red\nrest\n", (typed "v = {red = 1, rest = 2, [3] = 3, blue = 4}\n:complete print(v.re"))
        assert.are.equal("", (typed ":complete -- distac.lo"))
    end)

    it("knows paths inside strings, of folders too", function()
        local folder = tiny.folder()
        tiny.write(folder .. "/model.safetensors", "")
        os.execute("mkdir " .. quote(folder .. "/models"))
        assert.are.equal(folder .. "/model.safetensors\n" .. folder .. "/models/\n",
            (typed(':complete distac.load("' .. folder .. "/mod")))
        assert.are.equal("model.safetensors\n", (typed(":complete distac.load('model.", nil, folder)))
        tiny.remove(folder)
    end)

    it("runs none of the user's code", function()
        local said = typed("t = setmetatable({}, {__index = function() print 'ran' end})\n"
            .. ":complete t.x.y\n:complete t:a\n1")
        assert.are.equal("1\n", said)
    end)

    it("is a function as well, and what the Tab key inserts", function()
        assert.are.equal('{"load", "load_head", "loader", "loss"}\n', (typed "complete 'distac.lo'"))
        assert.are.equal("or\tnil\n", (typed "require('distac.repl.complete').at_cursor('math.flo', 80)"))
    end)
end)

describe("Ctrl-C at the prompt", function()
    -- Starts the line, presses Ctrl-C while it runs; seconds until the next line's result is there.
    local function interrupt(line, before)
        local folder = tiny.folder()
        local script = string.format([[
cd %s; mkfifo in; %s <in >out 2>&1 & p=$!; exec 5>in
printf '%%s\n' %s "print('we' .. 'nt')" >&5
until grep -q went out; do sleep 0.02; done
printf '%%s\n' %s >&5; sleep 0.7
a=$(date +%%s%%N); kill -INT $p; printf '%%s\n' "print('ba' .. 'ck')" >&5
i=0; until grep -q back out || [ $i -gt 400 ]; do sleep 0.02; i=$((i + 1)); done
b=$(date +%%s%%N); exec 5>&-; kill -0 $p && [ $i -gt 400 ] && kill -KILL $p; wait $p
cat out; echo " ms=$(( (b - a) / 1000000 ))"]],
            quote(folder), quote(program), quote(before or "x = 1"), quote(line))
        local pipe = io.popen("bash -c " .. quote(script) .. " 2>/dev/null")
        local text = pipe:read "*a"
        pipe:close()
        tiny.remove(folder)
        local said, ms = text:match "^(.*) ms=(%d+)\n$"
        has(said or "", "interrupted", "back")
        return tonumber(ms), said
    end

    local lines = {
        ["a loop that does nothing"] = "while true do end",
        ["a loop that counts"] = "local n = 0 while true do n = n + 1 end",
        ["a loop that catches errors"] = "while true do pcall(function() while true do end end) end",
        ["a coroutine"] = "coroutine.wrap(function() while true do end end)()",
        ["tail calls"] = "local function f() return f() end f()",
        ["jumps"] = "::a:: goto a",
        ["a loop over the engine"] = "local t = distac.ones{64,64} while true do local u = t:matmul(t) end",
    }
    for name, line in pairs(lines) do
        it("ends " .. name .. " within half a second", function()
            local ms = interrupt(line)
            assert.is_true(ms < 500, ms .. " ms")
        end)
    end

    it("ends a training loop, and what was trained so far is there", function()
        local ms, said = interrupt([[while true do n = n + 1 s(images, labels, 1e-3) end]], [[
a = "gelu"
m = distac.vit { image = 32, patch = 4, channels = 1, width = 64, layers = 4, heads = 2, dim = 16, activation = a }
h = distac.head(distac.randn({10, 16}, {seed = 1}))
o = distac.adamw { lr = 1e-3 }
s = distac.finetune_step { model = m, head = h, loss = distac.loss.cross_entropy {}, optimizer = o }
n, images, labels = 0, distac.randn({32, 1, 32, 32}, {seed = 2}), distac.zeros({32}, {dtype = "i64"})]])
        assert.is_true(ms < 500, ms .. " ms")
        lacks(said, "attempt to")
    end)
end)

describe("history", function()
    it("is a script that runs again to the same result", function()
        local folder = tiny.folder()
        local first = typed([[
a = distac.randn{3}
error(distac.randn{2})
b = distac.randn{3}
oops(distac.randn{1})
function f(x)
  return x:sum() -- of all
end
local k = 2
f(a), f(b) -- two
{1, 'x'}
?distac.load
math.random(1000)
history "session.lua"]], nil, folder)
        local results = {}
        for line in first:gmatch "[^\n]+" do results[#results + 1] = line end
        has(first, "session.lua: 7 statements, without 2 that failed")
        local pipe = io.popen(string.format("cd %s && %s session.lua 2>&1", folder, quote(program)))
        local again = pipe:read "*a"
        pipe:close()
        assert.are.equal(3, select(2, again:gsub("\n", "\n")))
        for line in again:gmatch "[^\n]+" do has(first, "\n" .. line .. "\n") end
        lacks(tiny.read(folder .. "/session.lua"), "?distac")
        tiny.remove(folder)
    end)

    it("of a pipe is no file, and a home that is not there stops nothing", function()
        local folder = tiny.folder()
        assert.are.equal("2\n", (typed("1 + 1", "HOME=" .. folder .. " XDG_STATE_HOME=" .. folder)))
        local left = io.popen("ls -A " .. folder):read "*a"
        assert.are.equal("", left)
        assert.are.equal("2\n", (typed("1 + 1", "env -i")))
        tiny.remove(folder)
    end)
end)

describe("show", function()
    local plot = [[
p = distac.plot { title = "t" }
p:line { label = "a", x = {0, 1, 2}, y = {0, 1, 0.5} }
show(p, "p.png")]]
    local function drawn(mode, lines)
        local folder = tiny.folder()
        local said = typed(lines or plot, "DISTAC_GRAPHICS=" .. mode .. " COLORTERM=truecolor", folder)
        local png = tiny.read(folder .. "/p.png")
        tiny.remove(folder)
        return said, png
    end

    it("saves a plot as PNG, and only that where nothing can be drawn", function()
        local said, png = drawn "none"
        has(said, "saved as p.png")
        lacks(said, "\27")
        assert.are.equal("\137PNG", png:sub(1, 4))
    end)

    it("draws half blocks in colours", function()
        local said = drawn "blocks"
        has(said, "\226\150\128", "\27[38;2;")
        local pixels = drawn("blocks", [[
i = distac.image.from_tensor(distac.tensor({{{255, 0, 0}, {0, 255, 0}}, {{0, 0, 255}, {9, 8, 7}}}, {dtype = "u8"}))
show(i, "p.png")]])
        has(pixels, "\27[38;2;255;0;0m\27[48;2;0;0;255m\226\150\128"
            .. "\27[38;2;0;255;0m\27[48;2;9;8;7m\226\150\128\27[0m\n")
    end)

    it("draws by sixels: an image of two colours, letter by letter", function()
        local said = drawn("sixel", [[
pixels = distac.tensor({{{255, 0, 0}, {0, 0, 255}}, {{255, 0, 0}, {255, 0, 0}}}, {dtype = "u8"})
i = distac.image.from_tensor(pixels)
show(i, "p.png")]])
        has(said, '\27Pq"1;1;2;2#0;2;100;0;0#1;2;0;0;100#0BA$#1?@-\27\\')
    end)

    it("gives kitty the file", function()
        local said, png = drawn "kitty"
        local text = {}
        for part in said:gmatch "\27_G[^;]*;([%w+/=]*)\27\\" do text[#text + 1] = part end
        local path = os.tmpname()
        tiny.write(path, table.concat(text))
        local pipe = io.popen("base64 -d " .. path)
        assert.is_true(pipe:read "*a" == png)
        pipe:close()
        os.remove(path)
    end)
end)

describe("background jobs", function()
    local root
    setup(function()
        root = tiny.suite({ "bars", "lines" }, 12)
        tiny.recipe(root, function(text) return (text:gsub("steps = 30", "steps = STEPS")) end)
    end)
    teardown(function() tiny.remove(root) end)

    local function recipe(steps)
        local text = tiny.read(root .. "/tiny.lua"):gsub("STEPS", steps)
        tiny.write(root .. "/job.lua", text)
    end

    it("run beside the prompt to the same results as the command", function()
        recipe "30"
        local said = typed([[
job = start "job.lua"
job:wait()
job:status()
job:results().suite
#jobs()]], nil, root)
        has(said, "Job 1 tiny: finished, results in runs/tiny", "\nfinished\n", "\nfolders\n", "\n1\n")
        local results = tiny.read(root .. "/runs/tiny/results.json")
        os.execute("cd " .. quote(root) .. " && " .. quote(program)
            .. " run job.lua --quiet --out again >/dev/null 2>&1")
        local function body(text)
            for _, part in ipairs { '"timing".-}', '"seconds"[^,}]*', "runs/tiny", "runs/stages", "again/stages",
                "again" } do
                text = text:gsub(part, "")
            end
            return text
        end
        assert.are.equal(body(results), body(tiny.read(root .. "/again/results.json")))
    end)

    it("pause, answer, go on, are cancelled and continue", function()
        recipe "20000"
        local said = typed([[
function reach(n) repeat job:listen(50) until job.done >= n or not job:alive() end
job = start "job.lua"
reach(20)
job:pause():status()
d = job.done
require("distac.terminal").sleep(0.5)
job:status(), job.done == d
p = job:probe()
p.task, p.accuracy >= 0 and p.accuracy <= 1, p.step == d
job:resume():status()
reach(d + 50)
job:cancel():status()
job:alive()
job = start "job.lua"
reach(d + 51)
job.done > d + 50, job.what
job:cancel()
job:resume()]], nil, root)
        has(said, "paused\n", "paused\ttrue\n", "bars\ttrue\ttrue\n", "running\n", "cancelled\nfalse\n",
            "true\tfine-tuning bars", "Job:resume: job 2 is cancelled")
    end)

    it("end with the prompt, saved", function()
        recipe "20001"
        local said = typed([[
job = start(dofile "job.lua")
repeat job:listen(50) until job.done > 5
job.process]], nil, root)
        has(said, "job 1 tiny: cancelled; its state is saved")
        local pid = said:match "(%d+)\n"
        assert.are_not.equal(0, (os.execute("kill -0 " .. pid .. " 2>/dev/null")) == true and 0 or 1)
    end)

    it("tell mistakes", function()
        has((typed("start 'nothing.lua'\nstart(7)\n1")), "nothing.lua: cannot be read", "wanted a Recipe", "\n1\n")
    end)
end)
