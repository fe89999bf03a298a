-- What the engine must not do to the program it lives in, looked up in its text and in what was built: no output,
-- no exit, no memory that is not asked for in one place, no names of others, no variables that change.
local build = os.getenv("DISTAC_BUILD") or "build"

local function lines_of(command)
    local pipe = assert(io.popen("LD_PRELOAD= " .. command .. " 2>/dev/null"))
    local list = {}
    for line in pipe:lines() do list[#list + 1] = line end
    pipe:close()
    return list
end

-- The text without comments and what stands in quotes; lines stay where they are.
local function code_of(text)
    local out, at = {}, 1
    while at <= #text do
        local two, stop = text:sub(at, at + 1), nil
        if two == "/*" then
            stop = select(2, text:find("*/", at + 2, true)) or #text
        elseif two == "//" then
            stop = (text:find("\n", at, true) or #text + 1) - 1
        elseif two:find "^[\"']" then
            stop = at + 1
            while stop <= #text and text:sub(stop, stop) ~= two:sub(1, 1) do
                stop = stop + (text:sub(stop, stop) == "\\" and 2 or 1)
            end
        end
        out[#out + 1] = stop and text:sub(at, stop):gsub("[^\n]", "") or text:sub(at, at)
        at = (stop or at) + 1
    end
    return table.concat(out)
end

-- Calls of these functions, as NAME:LINE.
local function calls(text, names)
    local found, number = {}, 0
    for line in (code_of(text) .. "\n"):gmatch "(.-)\n" do
        number = number + 1
        for name in line:gmatch "([%a_][%w_]*)%s*%(" do
            if names[name] then found[#found + 1] = name .. ":" .. number end
        end
    end
    return found
end

local function set(text)
    local names = {}
    for name in text:gmatch "%S+" do names[name] = true end
    return names
end

local never = set [[printf fprintf vprintf vfprintf puts fputs putchar perror dprintf exit _exit _Exit quick_exit
    abort assert atexit signal sigaction raise setlocale chdir umask putenv setenv unsetenv srand rand strtok
    system popen fork gets sprintf vsprintf strcpy strcat]]
local memory = set "malloc calloc realloc reallocarray aligned_alloc posix_memalign memalign strdup strndup alloca"

local function sources()
    local list = lines_of "find core -name '*.c' -o -name '*.h' | sort"
    assert(#list > 60, "the engine's files are not here")
    return list
end

local function read(path)
    local file = assert(io.open(path, "rb"))
    local text = file:read "*a"
    file:close()
    return text
end

describe("the engine's text", function()
    it("is searched for calls, not for words in comments and quotes", function()
        local text = "/* printf(1) */ \"exit(\" 'x'\n// abort()\nx = abort (2); my_exit(1); "
            .. "\"\\\"\" exit(1);\n\nassert(x);"
        assert.same({ "abort:3", "exit:3", "assert:5" }, calls(text, never))
    end)

    it("never prints, ends the program or changes what belongs to all of it", function()
        for _, path in ipairs(sources()) do assert.same({}, calls(read(path), never), path) end
    end)

    it("asks for memory in core/base only", function()
        for _, path in ipairs(sources()) do
            -- the module for CUDA is a library of its own; libpng's memory is libpng's
            if not path:find "^core/base/" and not path:find "^core/backend/cuda/"
                and path ~= "core/data/png.c" then
                assert.same({}, calls(read(path), memory), path)
            end
        end
    end)
end)

describe("the built libraries", function()
    local function exported(name) return lines_of("nm -D --defined-only " .. build .. "/" .. name
        .. " | awk '{print $3}'") end
    local instrumented = false
    setup(function()
        instrumented = #lines_of("nm -D " .. build .. "/libdistac.so | grep -E '__(asan|tsan|ubsan)_'") > 0
    end)

    it("export the names of the header and no others", function()
        local header = code_of(read "core/distac.h")
        local declared = {}
        for name in header:gmatch "([%w_]+)%s*%(" do declared[name] = true end
        for _, library in ipairs { "libdistac.so", "libdistac-script.so" } do
            local names = exported(library)
            assert.is_true(#names > 5, library)
            for _, name in ipairs(names) do
                assert.truthy(name:find "^distac_", name)
                if library == "libdistac.so" then assert.truthy(declared[name], name) end
            end
        end
    end)

    it("take nothing from the C library that prints, ends the program or changes what belongs to all of it",
        function()
        if instrumented then return pending "sanitizers bring functions of their own" end
        local forbidden = {}
        for name in ([[abort exit _exit quick_exit atexit printf __printf_chk vprintf __vprintf_chk puts putchar
            perror stdout stderr signal sigaction raise setlocale system fork setenv putenv chdir umask srand rand
            fesetenv feenableexcept __assert_fail longjmp]]):gmatch "%S+" do
            forbidden[name] = true
        end
        -- libpng and libjpeg return from their errors by longjmp, inside one call of ours
        local allowed = { ["libdistac.so"] = { longjmp = true }, ["libdistac-script.so"] = {} }
        for library, may in pairs(allowed) do
            local names = lines_of("nm -D --undefined-only " .. build .. "/" .. library .. " | awk '{print $2}'")
            assert.is_true(#names > 20, library)
            for _, name in ipairs(names) do
                name = name:gsub("@.*", "")
                assert.is_true(not forbidden[name] or may[name] == true, library .. " uses " .. name)
            end
        end
    end)

    -- Writable data that is not constant after loading; thread-local variables are their thread's own.
    -- The matrix library's buffers are the process's, so who has made them is, too.
    it("have no variables that change but those of what is looked up or made once", function()
        if instrumented then return pending "sanitizers add variables of their own" end
        local found, file = {}, ""
        for _, line in ipairs(lines_of("objdump -t " .. build .. "/libdistac.a")) do
            file = line:match "^(%S+):%s+file format" or file
            local section, name = line:match " O (%S+)%s+%x+%s+(.*)$"
            if section and (section:find "^%.bss" or section:find "^%.data" or section == "*COM*") and
                not section:find "^%.data%.rel%.ro" then
                found[#found + 1] = file .. " " .. name:gsub("^%.hidden ", ""):gsub("%.%d+$", "")
            end
        end
        table.sort(found)
        assert.same({ "devices.c.o cuda", "lapack.c.o blas", "lapack.c.o di_lapack", "lapack.c.o lock",
            "lapack.c.o made",
            "lapack.c.o once" }, found)
    end)
end)
