-- What the specs of the suite clip8 share: a root folder with two of the eight data sets in their own formats
-- (MNIST as IDX.gz, EuroSAT as class folders), a tiny CLIP checkpoint with a text tower, a tiny vocabulary.
local distac = require "distac"
local tiny = require "spec.tiny"

local data = {}

local function byte(n) return string.char(math.floor(n) % 256) end
local function word(n) return byte(n / 16777216) .. byte(n / 65536) .. byte(n / 256) .. byte(n) end

-- A grey 28x28 digit of class c: a bar whose height tells the class.
local function digit(c, rng)
    local rows = {}
    for y = 0, 27 do
        for x = 0, 27 do
            local bright = x >= 10 and x < 18 and y >= 27 - 2 * c - 4
            rows[#rows + 1] = byte((bright and 180 or 0) + math.floor(60 * rng:uniform()))
        end
    end
    return table.concat(rows)
end

local function idx(path, magic, dims, bytes)
    local head = { word(magic) }
    for _, n in ipairs(dims) do head[#head + 1] = word(n) end
    tiny.write(path, table.concat(head) .. bytes)
    assert(os.execute("gzip -n -f " .. tiny.quote(path)))
end

function data.mnist(root, train, test)
    local folder = root .. "/MNIST/raw"
    distac.fs.make(folder)
    for stem, n in pairs { train = train, t10k = test } do
        local rng, images, labels = distac.rng(7, n), {}, {}
        for i = 1, n do
            local class = (3 * i) % 10
            images[i], labels[i] = digit(class, rng), byte(class)
        end
        idx(folder .. "/" .. stem .. "-images-idx3-ubyte", 2051, { n, 28, 28 }, table.concat(images))
        idx(folder .. "/" .. stem .. "-labels-idx1-ubyte", 2049, { n }, table.concat(labels))
    end
end

local lands = { "AnnualCrop", "Forest", "HerbaceousVegetation", "Highway", "Industrial", "Pasture",
                "PermanentCrop", "Residential", "River", "SeaLake" }

-- A 24x20 colour picture: two of its channels tell the class.
local function land(class, rng)
    local rows = {}
    for y = 1, 20 do
        rows[y] = {}
        for x = 1, 24 do
            rows[y][x] = { math.floor(20 * class + 50 * rng:uniform()), math.floor(200 * rng:uniform()),
                           math.floor(220 - 20 * class + 30 * rng:uniform()) }
        end
    end
    return distac.image.from_tensor(distac.tensor(rows, { dtype = "u8" }))
end

function data.eurosat(root, per_class)
    for split, n in pairs { train = per_class, val = 1, test = 2 } do
        for c, name in ipairs(lands) do
            local folder = root .. "/EuroSAT_splits/" .. split .. "/" .. name
            distac.fs.make(folder)
            for i = 1, n do
                local rng = distac.rng(11 * c, i + 100 * #split)
                land(c - 1, rng):save(string.format("%s/%s_%d.png", folder, name, i))
            end
        end
    end
end

-- Open_clip names and shapes of a text tower of random numbers.
local function text_tower(tensors, vocabulary, width, layers, dim)
    local function random(name, shape, scale)
        tensors[name] = distac.tensor.randn(shape, { seed = 3 + #name + shape[1] }) * scale
    end
    local function norm(name)
        tensors[name .. ".weight"] = distac.tensor.ones { width }
        tensors[name .. ".bias"] = distac.tensor.zeros { width }
    end
    random("token_embedding.weight", { vocabulary, width }, 0.5)
    random("positional_embedding", { 77, width }, 0.1)
    random("text_projection", { width, dim }, 0.3)
    norm "ln_final"
    tensors.logit_scale = distac.tensor(math.log(100))
    for i = 0, layers - 1 do
        local at = "transformer.resblocks." .. i .. "."
        norm(at .. "ln_1")
        norm(at .. "ln_2")
        random(at .. "attn.in_proj_weight", { 3 * width, width }, 0.2)
        random(at .. "attn.in_proj_bias", { 3 * width }, 0.01)
        random(at .. "attn.out_proj.weight", { width, width }, 0.2)
        random(at .. "attn.out_proj.bias", { width }, 0.01)
        random(at .. "mlp.c_fc.weight", { 4 * width, width }, 0.2)
        random(at .. "mlp.c_fc.bias", { 4 * width }, 0.01)
        random(at .. "mlp.c_proj.weight", { width, 4 * width }, 0.1)
        random(at .. "mlp.c_proj.bias", { width }, 0.01)
    end
end

-- A CLIP with both towers at `path`; its activation is in the metadata unless told otherwise.
function data.model(path, options)
    local o = options or {}
    local vit = distac.vit { image = 32, patch = 8, width = 32, layers = 2, heads = 2, dim = 16,
                             activation = "quick_gelu", seed = 5 }
    local ck, tensors = vit:checkpoint(), {}
    for _, name in ipairs(ck:names()) do tensors[name] = ck[name] end
    if o.text ~= false then text_tower(tensors, 514, 16, 1, 16) end
    local metadata = { ["vit.heads"] = "2", ["text.heads"] = "2" }
    if o.activation ~= false then metadata["vit.activation"] = "quick_gelu" end
    distac.save(path, tensors, { metadata = metadata })
end

-- vocab.json and merges.txt of single bytes: the 256 letters of byte-level BPE, the same at a word's end, and the
-- marks of start and end.
function data.vocabulary(folder)
    distac.fs.make(folder)
    local letters, ordered, n = {}, {}, 0
    local function utf8_of(code)
        if code < 128 then return string.char(code) end
        return string.char(192 + math.floor(code / 64), 128 + code % 64)
    end
    local function printable(b) return (b >= 33 and b <= 126) or (b >= 161 and b <= 172) or b >= 174 end
    for b = 0, 255 do
        if printable(b) then ordered[#ordered + 1] = utf8_of(b) end
    end
    for b = 0, 255 do
        if not printable(b) then
            ordered[#ordered + 1] = utf8_of(256 + n)
            n = n + 1
        end
    end
    local function add(text)
        letters[#letters + 1] = string.format('"%s": %d', text:gsub('[\\"]', "\\%0"), #letters)
    end
    for _, text in ipairs(ordered) do add(text) end
    for _, text in ipairs(ordered) do add(text .. "</w>") end
    add "<|startoftext|>"
    add "<|endoftext|>"
    tiny.write(folder .. "/vocab.json", "{" .. table.concat(letters, ", ") .. "}")
    tiny.write(folder .. "/merges.txt", "#version: 0.2\n")
end

-- Everything in one new folder: root/data, root/clip/model.safetensors with its vocabulary beside it.
function data.make()
    local root = tiny.folder()
    data.mnist(root .. "/data", 60, 20)
    data.eurosat(root .. "/data", 4)
    data.vocabulary(root .. "/clip")
    data.model(root .. "/clip/model.safetensors")
    return root
end

return data
