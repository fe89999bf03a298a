-- program_spec.lua: the program: options, exit statuses, the prompt through a pipe, Ctrl-C.
local build = os.getenv("DISTAC_BUILD") or "build"
local program = build .. "/distac"

-- Runs a shell command: output with errors, exit status.
local function shell(command)
    local pipe = assert(io.popen("{ " .. command .. "\n} 2>&1; echo \" status=$?\""))
    local text = pipe:read("*a")
    pipe:close()
    local said, status = text:match("^(.*) status=(%d+)\n$")
    return said, tonumber(status)
end

local function distac(arguments) return shell(program .. " " .. arguments) end

local function typed(lines) return shell("printf '%s\\n' '" .. lines:gsub("'", "'\\''") .. "' | " .. program) end

local function script(text)
    local path = os.tmpname()
    local file = assert(io.open(path, "w"))
    file:write(text)
    file:close()
    return path
end

describe("options", function()
    it("run code, scripts, standard input, modules", function()
        assert.are.equal("3\n", (distac "-e 'print(1+2)'"))
        assert.are.equal("a\n5\n", (distac "-e 'x=5 print(\"a\")' -e 'print(x)'"))
        local path = script("print(arg[1], select('#', ...), ...)")
        assert.are.equal("p\t2\tp\tq\n", (distac(path .. " p q")))
        assert.are.equal("p\t1\tp\n", (shell(program .. " - p <" .. path)))
        assert.are.equal("p\t1\tp\n", (distac("-- " .. path .. " p")))
        assert.are.equal("aa\n", (distac "-l s=string -e 'print(s.rep(\"a\",2))'"))
        os.remove(path)
    end)

    it("know distac in -e, and scripts require it", function()
        local said = distac "-e 'print(distac.version)'"
        assert.is_truthy(said:match("^%d+%.%d+%.%d+\n$"))
        local path = script("assert(rawget(_G, 'distac') == nil) print(require('distac').version)")
        assert.are.equal(said, (distac(path)))
        os.remove(path)
    end)

    it("work from any folder without environment variables", function()
        local here = build:match("^/") and program or "$PWD/" .. program
        local code = "'print(distac.tensor({7}):item() == 7)'"
        local said, status = shell("P=" .. here .. "; cd / && env -i $P -e " .. code)
        assert.are.equal("true\n", said)
        assert.are.equal(0, status)
    end)

    it("show help and version", function()
        local said, status = distac "--help"
        assert.are.equal(0, status)
        assert.is_truthy(said:find("usage: distac", 1, true))
        for _, name in ipairs(require("distac.cli").commands()) do
            name = type(name) == "table" and name.name or name
            assert.is_truthy(said:find("\n  " .. name .. " ", 1, true), name .. " is not listed")
        end
        assert.is_truthy((distac "-v"):match("^distac %d"))
    end)
end)

describe("exit status", function()
    it("is 1 for failed work, with a traceback", function()
        local said, status = distac "-e 'local function f() error(\"broken\") end f()'"
        assert.are.equal(1, status)
        assert.is_truthy(said:find("broken", 1, true) and said:find("stack traceback", 1, true))
        assert.are.equal(1, (select(2, distac "-e 'x = ='")))
        assert.are.equal(2, (select(2, distac "/nowhere/x.lua")))
        assert.are.equal(1, (select(2, distac "-l nowhere_to_be_found")))
        assert.are.equal(7, (select(2, distac "-e 'os.exit(7)'")))
        assert.are.equal(1, (select(2, distac "version --json >/dev/full")))
    end)

    it("is 2 for a wrong command, which names the nearest", function()
        local said, status = distac "inspekt x"
        assert.are.equal(2, status)
        assert.is_truthy(said:find("did you mean 'inspect'", 1, true))
        assert.are.equal(2, (select(2, distac "-z")))
        assert.are.equal(2, (select(2, distac "-e")))
    end)

    it("is 130 after Ctrl-C, in Lua and in the engine", function()
        local endless = { "local t = distac.tensor({1}) while true do t = t + 1 end" }
        if distac("-v"):find("Lua 5.4", 1, true) then -- loops that LuaJIT compiled ask nobody
            endless[2] = "while true do string.rep(\"x\", 10) end"
        end
        -- The signal may come only once the loop runs: a shell's background jobs ignore it until then.
        local started = os.tmpname()
        for _, code in ipairs(endless) do
            os.remove(started)
            local _, status = shell(program .. " -e 'io.open(\"" .. started .. "\", \"w\"):close() " .. code
                .. "' >/dev/null & p=$!; until [ -e " .. started .. " ]; do sleep 0.05; done; sleep 0.3; "
                .. "kill -INT $p; wait $p")
            assert.are.equal(130, status)
        end
        os.remove(started)
    end)
end)

describe("the prompt", function()
    it("prints values of expressions, joins lines, survives errors", function()
        local said, status = typed("1 + 1\nx = 5\nx\nfor i = 1, 2 do\nprint(i)\nend\n"
            .. "error('oops')\nx, nil, 'a'\n= 7")
        assert.are.equal(0, status)
        assert.is_truthy(said:find("2\n5\n1\n2\n", 1, true), said)
        assert.is_truthy(said:find("oops", 1, true))
        assert.is_truthy(said:find("5\tnil\ta\n7\n", 1, true), said)
    end)

    it("shows tables, and tensors as they print themselves", function()
        local said = typed("{1, 'b', c = {d = true}}\ndistac.tensor({1, 2})")
        assert.is_truthy(said:find('{1, "b", c = {d = true}}', 1, true), said)
        assert.is_truthy(said:find("Tensor [2]", 1, true), said)
        said = typed("{f = print, long = {('a'):rep(60), ('b'):rep(60)}}")
        assert.is_truthy(said:find('f = function,\n    long = {\n        "aa', 1, true), said)
    end)

    it("reports an unfinished statement at the end of input", function()
        local said, status = typed("for i = 1, 2 do")
        assert.are.equal(0, status)
        assert.is_truthy(said:find("eof", 1, true), said)
    end)
end)
