/* test_restricted_script.c: the restricted mode of scripts: what works, what is out of reach, what is stopped, and
 * how soon. LuaJIT has no such mode, and says so. */
#include "script_job.h"

#ifdef WITH_LUAJIT
static void luajit_refuses(void **state) {
    (void)state;
    const char *const paths[] = {"spec", NULL};
    const distac_context_desc engine = {.threads = 1};
    const distac_script_desc asked[] = {
        {.restricted = 1},
        {.restricted = 1, .readable = paths, .writable = paths},
        {.restricted = 1, .engine = &engine, .memory_limit = 1 << 20, .instruction_limit = 1000},
        {.restricted = -1},
    };
    for (size_t i = 0; i < sizeof asked / sizeof asked[0]; i++) {
        distac_script *script = (distac_script *)state;
        assert_int_equal(distac_script_open(&asked[i], &script), DISTAC_EUNSUPPORTED);
        assert_null(script);
        assert_non_null(strstr(distac_script_error(NULL), "LuaJIT has no restricted mode"));
        assert_non_null(strstr(distac_script_error(NULL), "Lua 5.4"));
    }
}

/* Neither does a script get it by asking for the module behind it. */
static void nor_from_inside(void **state) {
    (void)state;
    static const char text[] =
        "local ok, why = pcall(function() return require('distac.restricted').enter({}) end)\n"
        "return { ok, tostring(why) }\n";
    distac_script *script = NULL;
    const char *json = "";
    OK(distac_script_open(NULL, &script));
    if (distac_script_run_string(script, text, (int64_t)sizeof text - 1, "=job") == DISTAC_OK)
        OK(distac_script_result(script, &json));
    if (strncmp(json, "[false,", 7) != 0 || !strstr(json, "LuaJIT has no restricted mode"))
        fail_msg("%s %s", json, distac_script_error(script));
    distac_script_close(script);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(luajit_refuses),
        cmocka_unit_test(nor_from_inside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
#else

static distac_status run(distac_script *script, const char *text) {
    return distac_script_run_string(script, text, (int64_t)strlen(text), "=job");
}

static distac_script *opened(int64_t memory, int64_t instructions) {
    char in[256], given[256], out[256];
    const char *const readable[] = {in_root(in, "data"), in_root(given, "given"), NULL};
    const char *const writable[] = {in_root(out, "out"), NULL};
    const distac_context_desc engine = {.threads = 1, .memory_limit = (int64_t)64 << 20};
    const distac_script_desc desc = {.engine = &engine, .restricted = 1, .readable = readable,
                                     .writable = writable, .memory_limit = memory,
                                     .instruction_limit = instructions};
    distac_script *script = NULL;
    if (distac_script_open(&desc, &script) != DISTAC_OK) fail_msg("%s", distac_script_error(NULL));
    return script;
}

static int setup_restricted(void **state) {
    char command[700];
    if (setup_script(state) != 0) return -1;
    snprintf(command, sizeof command,
             "cd %s && mkdir out given && mv base.safetensors m1.safetensors m2.safetensors given/ && "
             "echo secret > secret && "
             "ln -s ../secret given/link && ln -s .. given/up && ln -s ../secret out/link", root);
    return system(command);
}

/* The whole job works on what was given. */
static void what_works(void **state) {
    (void)state;
    static const char job_given[] =
        "local distac = require 'distac'\n"
        "local base = distac.load 'ROOT/given/base.safetensors'\n"
        "local model = distac.vit(base)\n"
        "local head = distac.head(distac.randn({ 2, 8 }, { seed = 3 }))\n"
        "local data = distac.dataset.folder('ROOT/data', { size = 8, channels = 3 })\n"
        "local loader = distac.loader(data, { batch = 2, seed = 1 })\n"
        "local step = distac.finetune_step { model = model, head = head, "
        "optimizer = distac.adamw { lr = 1e-3 } }\n"
        "for batch in loader:batches(2) do step(batch.images, batch.labels) end\n"
        "local models = { distac.load 'ROOT/given/m1.safetensors', distac.load 'ROOT/given/m2.safetensors' }\n"
        "distac.merge.ties {}:files(base, models, 'ROOT/out/deep.safetensors')\n"
        "distac.fs.make 'ROOT/out/a/b/c'\n"
        "distac.fs.write('ROOT/out/a/b/c/x', 'written')\n"
        "print(('%5.2f %s'):format(3.14159, table.concat({ 1, 2 }, ',')), ('a,b'):gsub(',', ';'))\n"
        "local words = {} for w in ('one two'):gmatch '%a+' do words[#words + 1] = w end\n"
        "assert(#words == 2 and words[2] == 'two' and ('key = 1'):match '^(%w+)%s*=%s*(%d)' == 'key')\n"
        "assert(coroutine.wrap(function() coroutine.yield(5) end)() == 5)\n"
        "assert(pcall(error, 'x') == false and select('#', 1, 2) == 2 and math.max(1, 2) == 2)\n"
        "answer = name\n"
        "return { hash = distac.hash.file 'ROOT/out/deep.safetensors', x = distac.fs.read 'ROOT/out/a/b/c/x' }\n";
    distac_script *script = opened(0, 0);
    const char *json;
    char *text = with_root(job_given);
    assert_int_equal(distac_script_set_string(script, "name", "given"), DISTAC_OK);
    if (run(script, text) != DISTAC_OK) fail_msg("%s", distac_script_error(script));
    assert_int_equal(distac_script_result(script, &json), DISTAC_OK);
    assert_non_null(strstr(json, "\"written\""));
    assert_string_equal(distac_script_output(script), " 3.14 1,2\ta;b\t1\n");
    assert_int_equal(run(script, "return answer == 'given' and name == 'given'"), DISTAC_OK);
    assert_int_equal(distac_script_result(script, &json), DISTAC_OK);
    assert_string_equal(json, "true");
    free(text);
    distac_script_close(script);
}

/* A recipe of a colleague, with a function of its own, run inside a restricted state. */
static void recipes(void **state) {
    (void)state;
    static const char given[] =
        "local distac = require 'distac'\n"
        "assert(rawget(_G, 'io') == nil and rawget(_G, 'load') == nil and pcall(require, 'os') == false)\n"
        "return distac.recipe {\n"
        "    name = 'tiny', suite = distac.folder_suite { root = 'ROOT/suite', "
        "model = 'ROOT/given/base.safetensors', scale = 20 },\n"
        "    finetune = { steps = 2, batch = 2, lr = 1e-3 },\n"
        "    condition = { kappa = 1, temperature = { teacher = 1, student = 10 }, "
        "beta = 0.5, steps = 2, batch = 2, lr = 1e-3 },\n"
        "    merge = { 'task_arithmetic' }, lambda = distac.grid(0, 1, 0.5),\n"
        "}\n";
    static const char host[] =
        "local distac = require 'distac'\n"
        "local recipe, mistakes = distac.recipe.load 'ROOT/suite/recipe.lua'\n"
        "if not recipe then error(tostring(mistakes), 0) end\n"
        "local results = recipe:run { out = 'ROOT/out/run', quiet = true }\n"
        "assert(pcall(recipe.run, recipe, { out = 'ROOT/elsewhere' }) == false)\n"
        "return #results.merges\n";
    char suite[256], base[256], out[256], path[256];
    const char *const readable[] = {in_root(suite, "suite"), in_root(base, "given"), NULL};
    const char *const writable[] = {in_root(out, "out"), NULL};
    const distac_script_desc desc = {.restricted = 1, .readable = readable, .writable = writable};
    char *text = with_root(given);
    FILE *file = fopen(in_root(path, "suite/recipe.lua"), "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    free(text);
    distac_script *script = NULL;
    if (distac_script_open(&desc, &script) != DISTAC_OK) fail_msg("%s", distac_script_error(NULL));
    text = with_root(host);
    if (run(script, text) != DISTAC_OK) fail_msg("%s", distac_script_error(script));
    free(text);
    distac_script_close(script);
    assert_int_equal(access(in_root(path, "elsewhere"), F_OK), -1);
    assert_int_equal(access(in_root(path, "out/run/results.json"), F_OK), 0);
}

/* Each of these tries to get at something; it has to give true: it could not. `no` runs f and wants an error. */
static const char *const attempts[] = {
    "return io == nil and os == nil and debug == nil and package == nil and collectgarbage == nil",
    "return load == nil and loadstring == nil and loadfile == nil and dofile == nil and string.dump == nil",
    "return ('').dump == nil and math.random == nil and math.randomseed == nil and getfenv == nil",
    "return no(function() require 'io' end) and no(function() require 'os' end) and "
    "no(function() require 'debug' end)",
    "return no(function() require 'distac.raw' end) and no(function() require '/etc/passwd' end)",
    "return no(function() require 'distac.restricted' end) and no(function() require 'package' end)",
    "return getmetatable('') == nil and getmetatable(print) == nil and getmetatable(1) == nil",
    "return no(function() setmetatable('', {}) end) and no(function() setmetatable(1, {}) end)",
    "return no(function() setmetatable({}, { __gc = function() end }) end)",
    "local m = setmetatable({}, { __metatable = { __gc = 1 } }) return no(function() setmetatable(m, {}) end)",
    "return getmetatable(d.tensor { 1 }) == nil and getmetatable(d.load(inside)) == nil",
    "return _G.io == nil and _ENV.os == nil and _G._G == _G",
    "local f = function() return io end return f() == nil",
    "local seen = {} local function walk(t, n) if type(t) ~= 'table' or seen[t] or n > 6 then return end "
    "seen[t] = true "
    "for k, v in next, t do assert(k ~= 'execute' and k ~= 'popen' and k ~= 'getregistry' and k ~= 'sethook' and "
    "k ~= 'loadlib' and k ~= 'searchers') walk(v, n + 1) end end walk(_G, 0) walk(d, 0) return true",
    "return no(function() d.load '/etc/passwd' end) and no(function() d.fs.read '/etc/passwd' end)",
    "return no(function() d.fs.read(root .. '/secret') end) and "
    "no(function() d.fs.read(inside .. '/../../secret') end)",
    "return no(function() d.fs.read(root .. '/given/../secret') end) and "
    "no(function() d.fs.read(root .. '/given/link') end)",
    "return no(function() d.fs.read(root .. '/given/up/secret') end) and "
    "no(function() d.fs.read(root .. '/out/link') end)",
    "return no(function() d.fs.list(root) end) and no(function() d.fs.list '/' end) and "
    "no(function() d.fs.list '.' end)",
    "return no(function() d.fs.write(root .. '/secret', 'x') end) and no(function() d.fs.write(inside, 'x') end)",
    "return no(function() d.fs.write(root .. '/given/new', 'x') end) and "
    "no(function() d.fs.write('new', 'x') end)",
    "return no(function() d.fs.write(root .. '/out/../new', 'x') end) and "
    "no(function() d.fs.remove(root .. '/secret') end)",
    "return no(function() d.fs.rename(root .. '/secret', root .. '/out/x') end)",
    "return no(function() d.fs.rename(root .. '/out/x', root .. '/secret') end)",
    "return no(function() d.fs.make(root .. '/other') end) and "
    "no(function() d.fs.remove(root .. '/given/base.safetensors') end)",
    "return no(function() d.save(root .. '/x.safetensors', d.load(inside)) end)",
    "return no(function() d.hash.file(root .. '/secret') end) and "
    "no(function() d.hash.file '/proc/self/environ' end)",
    "return no(function() d.image.load(root .. '/secret') end) and "
    "no(function() d.tokenizer(root .. '/secret') end)",
    "return no(function() d.dataset.folder(root, {}) end) and "
    "no(function() d.dataset.task('/', 'mnist', 'train') end)",
    "return no(function() d.dataset.idx(root .. '/secret', root .. '/secret') end)",
    "return no(function() d.merge.ties {}:files(d.load(inside), { d.load(inside) }, "
    "root .. '/x.safetensors') end)",
    "return no(function() d.image.from_tensor(d.tensor({ { 1 } }, { dtype = 'u8' })):save(root .. '/x.png') end)",
    "return no(function() d.plot { title = 'x' }:save(root .. '/x.png') end)",
    "return d.fs.kind(root .. '/secret') == nil or d.fs.kind(root .. '/secret') ~= 'file'",
    "return no(function() d.fs.read 'a\\0b' end) and no(function() d.fs.read '' end) and "
    "no(function() d.fs.read {} end)",
    "return no(function() d.fs.read(setmetatable({}, { __tostring = function() return inside end })) end)",
    "return no(function() d.configure { memory = '64GB' } end) and "
    "no(function() d.configure { threads = 64 } end)",
    "return no(function() d.zeros { 1 << 28 } end)",
    "return no(function() string.rep('x', 1 << 40) end) and no(function() ('x'):rep(1 << 27) end)",
    "return no(function() ('x'):rep(1 << 20, ('y'):rep(1 << 20)) end)",
    "return no(function() ('%99999d'):format(1) end) and no(function() ('%'):format(1) end)",
    "return no(function() table.concat({}, 'x', 1, math.maxinteger) end)",
    "return no(function() table.concat({}, 'x', math.mininteger, math.maxinteger) end)",
    "return no(function() table.unpack({}, 1, math.maxinteger) end) and "
    "no(function() table.unpack({}, 1, 1 << 30) end)",
    "return no(function() table.move({}, 1, 1 << 50, 2) end) and "
    "no(function() table.move({}, -1 << 62, 1 << 62, 2) end)",
    "local long = setmetatable({}, { __len = function() return 1 << 60 end }) "
    "return no(function() table.remove(long, 1) end) and no(function() table.insert(long, 1, 1) end) and "
    "no(function() table.sort(long) end) and no(function() table.concat(long) end)",
    "return no(function() table.sort({ 3, 1, 2, 5, 4, 9, 8, 7, 6, 0, 11, 12 }, function() error 'x' end) end)",
    "table.sort({ 3, 1, 2, 5, 4, 9, 8, 7, 6, 0 }, function(a, b) return a < b end) return true",
    "return no(function() ('a'):rep(300):find(('a?'):rep(300) .. ('a'):rep(300)) end)",
    "return no(function() ('a'):rep(30000):find '.-.-.-.-b' end)",
    "return no(function() ('a'):rep(3000):match(('(a*)'):rep(20) .. 'b') end)",
    "return no(function() ('a'):rep(30000):gsub('a*a*a*b', '') end)",
    "return no(function() for _ in ('a'):rep(30000):gmatch 'a*a*a*b' do end end)",
    "return no(function() (('('):rep(100000)):find(('('):rep(100000)) end)",
    "return no(function() ('x'):find(('('):rep(40) .. (')'):rep(40)) end)",
    "local t = {} for i = 1, 100000 do t = setmetatable({}, { __index = t }) end "
    "return no(function() return t.x.y end)",
    "local function f() return f() + 1 end return no(f)",
    "local function f(...) return pcall(f, ...) end f() return true",
    "local co co = coroutine.create(function() coroutine.resume(co) end) coroutine.resume(co) return true",
    "local s = ('x'):rep(200) "
    "local function nest(n) return coroutine.wrap(function() if n > 0 then nest(n - 1) end end)() end "
    "pcall(nest, 10000) return #s == 200",
    "return no(function() error(setmetatable({}, { __tostring = function() error 'again' end })) end)",
    "return select(2, xpcall(error, function(e) error(e) end)) ~= nil",
    "return no(function() local x <close> = setmetatable({}, { __close = function() error 'x' end }) end)",
    "string.find = nil distac_x = 1 d.load = nil return no(function() d.fs.read '/etc/passwd' end)",
    "string.sub = function() return root end table.unpack = nil ipairs = nil "
    "return no(function() d.fs.read '/etc/passwd' end)",
    "local r = rawset rawset(d, 'fs', nil) return true",
    "for _, n in next, { math.mininteger, math.maxinteger, -1, 0, 0 / 0, 1 / 0 } do pcall(d.zeros, { n }) "
    "pcall(d.randn, { 2, n }) pcall(string.sub, 'abc', n, n) "
    "pcall(string.byte, 'abc', n, n) pcall(string.rep, 'abc', n) "
    "pcall(utf8.char, n) pcall(select, n, 1) pcall(table.insert, {}, n, 1) pcall(string.find, 'a', 'a', n) "
    "pcall(string.gmatch, 'a', 'a', n) pcall(string.gsub, 'a', 'a', 'b', n) end return true",
};

static void what_is_out_of_reach(void **state) {
    (void)state;
    int bad = 0;
    for (size_t i = 0; i < sizeof attempts / sizeof attempts[0]; i++) {
        distac_script *script = opened((int64_t)96 << 20, 0);
        const char *json;
        char text[4096], path[256];
        snprintf(text, sizeof text,
                 "local d, root, inside = require 'distac', '%s', '%s'\n"
                 "local function no(f) local ok, why = pcall(f) if ok then return false end return true end\n%s\n",
                 root, in_root(path, "given/base.safetensors"), attempts[i]);
        double start = distac_clock();
        distac_status status = run(script, text);
        if (status == DISTAC_OK) status = distac_script_result(script, &json);
        if (status != DISTAC_OK || strcmp(json, "true") != 0 || distac_clock() - start > 20) {
            printf("  %s\n    gave %s, %s, %.1f s\n", attempts[i], status == DISTAC_OK ? json : "an error",
                   distac_script_error(script), distac_clock() - start);
            bad++;
        }
        distac_script_close(script);
    }
    char path[256];
    FILE *file = fopen(in_root(path, "secret"), "r");
    assert_non_null(file);
    char text[16] = "";
    assert_non_null(fgets(text, sizeof text, file));
    assert_string_equal(text, "secret\n");
    fclose(file);
    assert_int_equal(bad, 0);
}

/* What does not end by itself is stopped, and the next run works. */
static void what_is_stopped(void **state) {
    (void)state;
    static const struct {
        const char *text;
        distac_status status;
    } endless[] = {
        {"while true do end", DISTAC_ECANCELED},
        {"while true do pcall(function() while true do end end) end", DISTAC_ECANCELED},
        {"local function f() while true do end end while true do xpcall(f, f) end", DISTAC_ECANCELED},
        {"while true do coroutine.wrap(function() while true do end end)() end", DISTAC_ECANCELED},
        {"while true do pcall(coroutine.wrap(function() while true do end end)) end", DISTAC_ECANCELED},
        {"local t = setmetatable({}, {__index = function(t, k) return t[k + 1] end}) "
         "while true do pcall(function() return t[1] end) end",
         DISTAC_ECANCELED},
        {"local x <close> = setmetatable({}, {__close = function() while true do end end})", DISTAC_ECANCELED},
        {"error(setmetatable({}, {__tostring = function() while true do end end}))", DISTAC_ECANCELED},
        {"table.sort({3, 2, 1, 4}, function() while true do end end)", DISTAC_ECANCELED},
        {"return ('x'):gsub('x', function() while true do end end)", DISTAC_ECANCELED},
        {"while true do pcall(string.find, ('a'):rep(30000), '.-.-.-.-b') end", DISTAC_ECANCELED},
        {"local t = {} while true do t[#t + 1] = {} end", DISTAC_ENOMEM},
        {"local t = {} for i = 1, 1e9 do t[i] = ('x'):rep(1000000) .. i end", DISTAC_ENOMEM},
        {"local s = 'x' while true do s = s .. s end", DISTAC_ENOMEM},
        {"local t = {} for i = 1, 1e9 do t[i] = coroutine.create(function() end) end", DISTAC_ENOMEM},
        {"local t = {} "
         "while true do pcall(function() while true do t[#t + 1] = ('x'):rep(100000) .. #t end end) end",
         DISTAC_ENOMEM},
    };
    int bad = 0;
    for (size_t i = 0; i < sizeof endless / sizeof endless[0]; i++) {
        distac_script *script = opened((int64_t)32 << 20, 3000000);
        double start = distac_clock();
        distac_status status = run(script, endless[i].text);
        double took = distac_clock() - start;
        if (status != endless[i].status && !(status == DISTAC_ECANCELED && endless[i].status == DISTAC_ENOMEM)) {
            printf("  %s\n    %s: %s\n", endless[i].text, distac_status_name(status), distac_script_error(script));
            bad++;
        }
        if (took > 20) fail_msg("%s: %.1f s", endless[i].text, took);
        if (run(script, "return 1") != DISTAC_OK)
            fail_msg("after %s: %s", endless[i].text, distac_script_error(script));
        distac_script_close(script);
    }
    assert_int_equal(bad, 0);
}

static void patterns_are_those_of_lua(void **state) {
    (void)state;
    /* Text, pattern, start. Both states give the same lists, the one with the library's, the other with ours. */
    static const char script_text[] =
        "local cases = { {'hello world', 'o w'}, {'hello', 'l+'}, {'hello', '(h)(.)'}, "
        "{'key = value', '^(%w+)%s*=%s*(%w+)$'},\n"
        "{'THE (quick) fox', '%((%a+)%)'}, {'f(a(b)c)d', '%b()'}, {'THE fox', '%f[%a]%a+'}, "
        "{'abc', '()b()'}, {'aXb', '%u'},\n"
        "{'x^y', '^x%^'}, {'[[x]]', '[[]'}, {'a-b', '[a%-]+'}, {'a]b', '[]]'}, "
        "{'a^b', '[%^]'}, {'abc', '[^a]+'},\n"
        "{'2024-01-02', '(%d+)-(%d+)-(%d+)'}, {'aaa', 'a-'}, {'aaa', '^a-$'}, "
        "{'', '.*'}, {'abc', '.-'}, {'abcabc', '(abc)%1'},\n"
        "{'\\0a\\0', '%z'}, {'a\\0b', '%c'}, {'a.b', '.', 2}, {'héllo', '[\\xc3\\xa9]+'}, {'a,b,,c', '([^,]*)'},\n"
        "{'  trim  ', '^%s*(.-)%s*$'}, {'abc', 'b', -2}, {'abc', '', 10}, {'abc', '', 4}, "
        "{'x=1, y=2', '(%w)=(%w)'}, {'aaab', 'a*b?'},\n"
        "{'ab', 'a?b?c?'}, {'%d', '%%d'}, {'a$', 'a$$'}, {'a$b', 'a$b'}, {'abc', '[a-]'}, "
        "{'a-c', '[a-c]+'}, {'0xFf', '^0[xX](%x+)$'},\n"
        "{'a(', '%('}, {'abc', '(', 1}, {'abc', '%', 1}, {'abc', '[a', 1}, "
        "{'abc', '%1', 1}, {'abc', '%b', 1}, {'abc', '%f', 1},\n"
        "{'abc', 'a)', 1}, {'word word', '(%w+) %1'}, {'--[[x]]', '^%-%-%[(=*)%['}, {'abc', '()'}, {'aé', '.'} }\n"
        "local out = {}\n"
        "local function add(...) local t = {...} "
        "for i = 1, select('#', ...) do t[i] = tostring(t[i]):gsub('^.-:%d+: ', '') end\n"
        "    out[#out + 1] = table.concat(t, '|') end\n"
        "for _, c in ipairs(cases) do\n"
        "    add(pcall(string.find, c[1], c[2], c[3])) add(pcall(string.match, c[1], c[2], c[3]))\n"
        "    add(pcall(string.gsub, c[1], c[2], '<%0>')) add(pcall(string.gsub, c[1], c[2], '%1%%', 1))\n"
        "    add(pcall(string.gsub, c[1], c[2], function(a) return a == 'a' and 'A' or nil end))\n"
        "    add(pcall(string.gsub, c[1], c[2], { a = 'T', key = 7, b = false }))\n"
        "    add(pcall(string.find, c[1], c[2], c[3], true))\n"
        "    add(pcall(function() local all = {} "
        "for a, b in c[1]:gmatch(c[2], c[3]) do all[#all + 1] = tostring(a) .. ':' .. tostring(b) end\n"
        "        return table.concat(all, ';') end))\n"
        "end\n"
        "add(pcall(string.gsub, 'x', 'x', '%2')) add(pcall(string.gsub, 'x', 'x', '%')) "
        "add(pcall(string.gsub, 'x', 'x', true))\n"
        "add(pcall(string.gsub, 'x', 'x', function() return {} end)) "
        "add(pcall(string.find)) add(pcall(string.gsub, 'abc', '%w', '%0%0', 2))\n"
        "return out\n";
    distac_script *plain = NULL, *restricted = opened(0, 0);
    const char *a, *b;
    assert_int_equal(distac_script_open(NULL, &plain), DISTAC_OK);
    if (run(plain, script_text) != DISTAC_OK) fail_msg("%s", distac_script_error(plain));
    if (run(restricted, script_text) != DISTAC_OK) fail_msg("%s", distac_script_error(restricted));
    assert_int_equal(distac_script_result(plain, &a), DISTAC_OK);
    assert_int_equal(distac_script_result(restricted, &b), DISTAC_OK);
    if (strcmp(a, b) != 0) {
        size_t i = 0;
        while (a[i] && a[i] == b[i]) i++;
        fail_msg("they differ at %zu:\n%.200s\n%.200s", i, a + (i > 60 ? i - 60 : 0), b + (i > 60 ? i - 60 : 0));
    }
    distac_script_close(plain);
    distac_script_close(restricted);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_works),
        cmocka_unit_test(recipes),
        cmocka_unit_test(what_is_out_of_reach),
        cmocka_unit_test(what_is_stopped),
        cmocka_unit_test(patterns_are_those_of_lua),
    };
    return cmocka_run_group_tests(tests, setup_restricted, teardown);
}
#endif
