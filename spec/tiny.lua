-- What the specs of recipes and of the command line share: a folder suite of a few tiny images, a tiny ViT, and
-- a way to run the command line in a process of its own.
local assert = require "luassert"
local distac = require "distac"

local tiny = {}

local function quote(text) return "'" .. text:gsub("'", "'\\''") .. "'" end
tiny.quote = quote

function tiny.folder()
    local name = os.tmpname()
    os.remove(name)
    distac.fs.make(name)
    return name
end

function tiny.remove(path) os.execute("rm -rf " .. quote(path)) end

function tiny.read(path)
    local file = io.open(path, "rb")
    if not file then return nil end
    local text = file:read("*a")
    file:close()
    return text
end

function tiny.write(path, text)
    local file = assert(io.open(path, "wb"))
    file:write(text)
    file:close()
    return path
end

-- An 8x8 grey picture of class c: a bar whose place and direction tell the class, and noise.
local function picture(task, class, index)
    local rng = distac.rng(100 * task + class, index)
    local rows = {}
    for y = 1, 8 do
        rows[y] = {}
        for x = 1, 8 do
            local at = task % 2 == 0 and x or y
            local bright = at == 2 * class or at == 2 * class + 1
            rows[y][x] = math.floor((bright and 75 or 25) + 180 * rng:uniform())
        end
    end
    return distac.image.from_tensor(distac.tensor(rows, { dtype = "u8" }))
end

-- root/data/TASK/{train,validation,test}/CLASS/*.png and root/base.safetensors. Returns root.
function tiny.suite(tasks, per_class)
    local root = tiny.folder()
    for t, task in ipairs(tasks) do
        for split, n in pairs { train = per_class, validation = 6, test = 6 } do
            for class = 0, 2 do
                local folder = string.format("%s/data/%s/%s/class%d", root, task, split, class)
                distac.fs.make(folder)
                for i = 1, n do
                    picture(t, class, i + 1000 * #split):save(string.format("%s/%03d.png", folder, i))
                end
            end
        end
    end
    local model = distac.vit { image = 8, patch = 4, channels = 1, width = 32, layers = 2, heads = 2, dim = 16,
                               activation = "gelu", seed = 5 }
    distac.save(root .. "/base.safetensors", model:checkpoint())
    return root
end

tiny.recipe_text = [[
local distac = require "distac"

return distac.recipe {
    name  = "tiny",
    suite = distac.folder_suite { root = "ROOT/data", model = "ROOT/base.safetensors", scale = 20 },

    finetune = {
        steps = 30, batch = 8, lr = 3e-3, weight_decay = 0.1,
        loss  = distac.loss.cross_entropy { label_smoothing = 0.1 },
    },

    condition = {
        kappa = 1, temperature = { teacher = 1, student = 10 },
        beta = 0.5, steps = 20, batch = 8, lr = 1e-3,
    },
    curves = 10,

    merge  = { "task_arithmetic", "ties" },
    lambda = distac.grid(0, 1, 0.25),
}
]]

function tiny.recipe(root, change)
    local text = tiny.recipe_text:gsub("ROOT", root)
    if change then text = change(text) end
    return tiny.write(root .. "/tiny.lua", text)
end

local runtime = distac.runtime == "luajit" and "luajit" or "lua5.4"

-- The shell command that runs the command line with these words; prelude is Lua that is run first.
function tiny.command(words, prefix, prelude)
    local list = {}
    for i, word in ipairs(words) do list[i] = quote(word) end
    local program = os.getenv "DISTAC_TEST_PROGRAM" -- where there is no interpreter
    if program and not prelude then
        return (prefix or "") .. " " .. quote(program) .. " " .. table.concat(list, " ")
    end
    return string.format("%s env LUA_PATH=%s LUA_CPATH=%s %s -e %s dummy %s", prefix or "", quote(package.path),
        quote(package.cpath), runtime, quote((prelude or "") .. ' arg[0] = "distac" ' ..
            'os.exit(require("distac.cli").main(arg))'), table.concat(list, " "))
end

-- Runs the command line in its own process: status, stdout, stderr.
function tiny.run(words, folder)
    local out, err = os.tmpname(), os.tmpname()
    local status = os.execute(string.format("cd %s && %s >%s 2>%s; echo $? >%s.rc", quote(folder or "."),
        tiny.command(words), out, err, out))
    local _ = status
    local result = { tonumber(tiny.read(out .. ".rc")), tiny.read(out), tiny.read(err) }
    os.remove(out)
    os.remove(err)
    os.remove(out .. ".rc")
    return result[1], result[2], result[3]
end

-- The command fails with this status and says so; nothing comes of it.
function tiny.refused(root, status, piece, words)
    local before = distac.fs.list(root)
    local is, out, err = tiny.run(words, root)
    assert.equal(status, is, err)
    assert.equal("", out)
    assert.truthy(err:find(piece, 1, true), err .. " lacks " .. piece)
    assert.same(before, distac.fs.list(root))
end

-- The results of a run in a folder.
function tiny.results(folder) return require("distac.json").decode(tiny.read(folder .. "/results.json")) end

-- The same as text, without what differs from run to run.
function tiny.without_time(results)
    results.timing = nil
    results.models = nil
    return require("distac.json").encode(results)
end

-- Names in a folder and the bytes of its files.
function tiny.files(folder)
    local out = {}
    for _, name in ipairs(distac.fs.list(folder)) do out[name] = tiny.read(folder .. "/" .. name) end
    return out
end

function tiny.count(t)
    local n = 0
    for _ in pairs(t) do n = n + 1 end
    return n
end

return tiny
