-- gen_spec.lua: the generator refuses what is outside its grammar and names the function.
local runtime = rawget(_G, "jit") and "luajit" or "lua5.4"

local function read(path)
    local file = assert(io.open(path))
    local text = file:read("*a")
    file:close()
    return text
end

local header = read("core/distac.h")

-- Runs the generator on the header with `extra` in the block: success, what it said.
local function generate(extra, edit)
    local folder = os.tmpname()
    os.remove(folder)
    assert(os.execute("mkdir -p " .. folder))
    local text = header:gsub("/%* fence: end %*/", function() return extra .. "\n/* fence: end */" end)
    if edit then text = edit(text) end
    local file = assert(io.open(folder .. "/distac.h", "w"))
    file:write(text)
    file:close()
    local command = "%s bindings/gen.lua %s/distac.h %s 2>&1; echo status $?"
    local pipe = io.popen(command:format(runtime, folder, folder))
    local said = pipe:read("*a")
    pipe:close()
    os.execute("rm -r " .. folder)
    return said:match("status (%d+)") == "0", said
end

describe("gen.lua", function()
    it("takes the header as it is", function()
        local ok, said = generate("")
        assert.is_true(ok, said)
    end)

    local bad = {
        { "an unknown parameter type", "DISTAC_API distac_status distac_bad(float x);",
          "distac_bad: parameter 'float x'" },
        { "a struct by value", "DISTAC_API distac_status distac_bad(distac_event x);", "distac_bad" },
        { "a callback", "DISTAC_API void distac_bad(void (*f)(int));", "distac_bad" },
        { "varargs", "DISTAC_API void distac_bad(int32_t a, ...);", "distac_bad" },
        { "an unknown result", "DISTAC_API float distac_bad(void);", "distac_bad: result" },
        { "a count without its array", "DISTAC_API void distac_bad(int32_t n_x, const double *y);", "distac_bad" },
        { "a handle without tag", "DISTAC_API distac_status distac_bad(distac_tensor **out);", "distac_bad" },
        { "a handle without release", "typedef struct distac_bad distac_bad;", "distac_bad" },
        { "an unknown tag", "/* [odd] x */\nDISTAC_API void distac_bad(int32_t x);", "distac_bad: tag [odd]" },
        { "a number that may be NULL", "DISTAC_API void distac_bad(DISTAC_NULLABLE double x);", "distac_bad" },
        { "a second declaration", "DISTAC_API double distac_clock(void);", "distac_clock" },
        { "a macro", "#define DISTAC_X 1", "preprocessor" },
        { "an enum without numbers", "enum { DISTAC_X };", "DISTAC_X" },
        { "an unknown field", "typedef struct distac_s { float x; } distac_s;", "distac_s" },
    }
    for _, case in ipairs(bad) do
        it("refuses " .. case[1], function()
            local ok, said = generate(case[2])
            assert.is_false(ok)
            assert.is_truthy(said:find(case[3], 1, true), said)
        end)
    end

    it("refuses a header without fence", function()
        local ok = generate("", function(text) return (text:gsub("fence", "hedge")) end)
        assert.is_false(ok)
    end)
end)
