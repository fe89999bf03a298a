-- Files that are no model, given as one: every command says what they are and what is read instead.
local distac = require "distac"
local tiny = require "spec.tiny"

local root

-- First bytes as the formats define them, behind them whatever comes.
local files = {
    ["photo.jpg"] = { "\255\216\255\224\0\16JFIF\0", "a JPEG image" },
    ["photo.png"] = { "\137PNG\r\n\26\n\0\0\0\13IHDR", "a PNG image" },
    ["photo.webp"] = { "RIFF\1\2\0\0WEBPVP8 ", "a WebP image" },
    ["model.gz"] = { "\31\139\8\0\0\0\0\0", "packed by gzip; unpack it first" },
    ["model.xz"] = { "\2537zXZ\0\0\4", "packed by xz; unpack it first" },
    ["model.zst"] = { "\40\181\47\253", "packed by zstd; unpack it first" },
    ["array.npy"] = { "\147NUMPY\1\0v\0", "a NumPy array (.npy)" },
    ["arrays.npz"] = { "PK\3\4\20" .. ("\0"):rep(21) .. "\5\0\0\0a.npyxxxx", "NumPy arrays (.npz)" },
    ["some.zip"] = { "PK\3\4\20", "zip archive" },
    ["llama.gguf"] = { "GGUF\3\0\0\0", "a GGUF model" },
    ["keras.h5"] = { "\137HDF\r\n\26\n", "an HDF5 file" },
    ["pointer.safetensors"] = { "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
        "a pointer of Git LFS; `git lfs pull` fetches the file itself" },
    ["page.safetensors"] = { "<!DOCTYPE html>\n<html><body>Not found</body></html>\n", "an HTML page" },
    ["notes.txt"] = { "the model is on the other machine\n", "a text" },
    ["config.json"] = { '{"architectures": ["CLIPModel"]}\n', "*.safetensors.index.json" },
    ["recipe.lua"] = { 'local distac = require "distac"\n', "a Lua script" },
    ["empty.safetensors"] = { "", "an empty file" },
}

local function refused(text, name, what)
    assert.truthy(text:find(name, 1, true), text)
    assert.truthy(text:find(what, 1, true), text)
    assert.is_nil(text:find("header claims", 1, true), text)
end

describe("a file that is no model", function()
    setup(function()
        root = tiny.folder()
        for name, file in pairs(files) do
            tiny.write(root .. "/" .. name, file[1] .. (file[1] ~= "" and file[2] == "a JPEG image"
                and ("\1\2\3\4"):rep(50) or ""))
        end
        distac.save(root .. "/base.safetensors", { w = distac.ones { 2, 2 } })
    end)
    teardown(function() tiny.remove(root) end)

    it("is told by its first bytes", function()
        for name, file in pairs(files) do
            local ok, err = pcall(distac.load, root .. "/" .. name)
            assert.is_false(ok, name)
            assert.equal("EFORMAT", err.code)
            refused(err.message, root .. "/" .. name, file[2])
            if name ~= "some.zip" then refused(err.message, name, "read from safetensors and PyTorch files") end
        end
    end)

    it("is told by every command that opens a model", function()
        local jpeg = "photo.jpg"
        os.execute("mkdir -p " .. root .. "/images")
        distac.save(root .. "/head.safetensors", { weight = distac.ones { 2, 4 } })
        for _, words in ipairs {
            { "inspect", jpeg },
            { "norms", "--base", jpeg, "base.safetensors" },
            { "norms", "--base", "base.safetensors", jpeg },
            { "merge", "--base", jpeg, "--method", "ties", "-o", "out.safetensors", "base.safetensors" },
            { "merge", "--base", "base.safetensors", "--method", "ties", "-o", "out.safetensors", jpeg },
            { "merge", "--replay", jpeg },
            { "convert", jpeg, "out.safetensors" },
            { "eval", jpeg, "--data", "images", "--head", "head.safetensors" },
            { "condition", "--base", jpeg, "--head", "head.safetensors", "--images", "images", "-o",
                "out.safetensors", "base.safetensors" },
            { "finetune", "--base", jpeg, "--head", "head.safetensors", "--data", "images", "-o",
                "out.safetensors" },
            { "doctor", "--base", jpeg, "base.safetensors" },
        } do
            local status, out, err = tiny.run(words, root)
            local said = table.concat(words, " ") .. "\n" .. err
            assert.equal(1, status, said)
            assert.equal("", out, said)
            refused(said, jpeg, "distac " .. words[1] .. ": photo.jpg: a JPEG image")
            assert.is_nil(distac.fs.kind(root .. "/out.safetensors"), said)
        end
    end)

    it("is none of these where its header begins like a model's, whatever its length is", function()
        -- A header of 0x4D42 bytes has a length that reads "BM", of 0x8b1f bytes one that gzip begins with.
        for _, length in ipairs { 0x8b1f, 0xd8ff, 0x5a42 } do
            local entry = '{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
            local path = root .. "/odd.safetensors"
            tiny.write(path, string.char(length % 256, math.floor(length / 256)) .. ("\0"):rep(6) .. entry
                .. (" "):rep(length - #entry) .. "\0\0\128\63")
            assert.equal(1, distac.load(path).w:item())
        end
    end)
end)
