-- Files, folders and hashes.
local raw = require "distac.raw"
local check = require "distac.check"
local errors = require "distac.error"

local M = {}

local KINDS = { [1] = "file", [2] = "folder", [3] = "other" }

-- "file", "folder", "other", or nil where nothing is.
function M.kind(path)
    return KINDS[raw.path_kind(check.string("distac.fs.kind", "path", path))]
end

-- Bytes of a regular file, nil if it is none.
function M.bytes(path)
    local n = raw.path_bytes(check.string("distac.fs.bytes", "path", path))
    return n >= 0 and n or nil
end

-- Makes a folder and its parents.
function M.make(path)
    raw.path_make(check.string("distac.fs.make", "path", path))
end

-- Names in a folder, sorted.
function M.list(path)
    return check.strings(raw.path_list(check.string("distac.fs.list", "path", path)))
end

-- Removes a file or an empty folder; fine if it is not there.
function M.remove(path)
    raw.path_remove(check.string("distac.fs.remove", "path", path))
end

-- The absolute path of something that is there.
function M.absolute(path)
    return check.strings(raw.path_absolute(check.string("distac.fs.absolute", "path", path)))[1]
end

-- Gives a file or folder another name. A file of that name is replaced; a folder changes places with it.
function M.rename(from, to)
    raw.path_rename(check.string("distac.fs.rename", "from", from), check.string("distac.fs.rename", "to", to))
end

-- Replaces a file's content; its name never shows half of it.
function M.write(path, text)
    check.string("distac.fs.write", "path", path)
    raw.path_write(path, check.string("distac.fs.write", "text", text))
end

-- A file's bytes as a string.
function M.read(path)
    check.string("distac.fs.read", "path", path)
    local file, message = io.open(path, "rb")
    if not file then
        errors.raise("EIO", "distac.fs.read: %s", message)
    end
    local text = file:read("*a")
    file:close()
    if not text then
        errors.raise("EIO", "distac.fs.read: %s: cannot be read", path)
    end
    return text
end

-- The files of a model: itself, or an index or folder with all that belongs to it, sorted.
function M.model_files(path)
    check.string("distac.fs.model_files", "path", path)
    local folder, index = path, nil
    if M.kind(path) ~= "folder" then
        if not path:find("%.index%.json$") then
            return { path }
        end
        folder, index = path:match("^(.*)/[^/]*$") or ".", path:match("[^/]*$")
    end
    local files = {}
    for _, name in ipairs(M.list(folder)) do
        local config = not index and name:find("config%.json$")
        if (name:find("%.safetensors$") or name:find("%.bin$") or name:find("%.index%.json$") or config)
            and M.kind(folder .. "/" .. name) == "file" then
            files[#files + 1] = folder .. "/" .. name
        end
    end
    return files
end

-- SHA-256 as 64 hexadecimal digits.
M.hash = {
    -- SHA-256 of a text, 64 hexadecimal digits.
    text = function(text)
        check.string("distac.hash.text", "text", text)
        return check.strings(raw.hash_text(text))[1]
    end,
    -- Of a file's bytes.
    file = function(path)
        return check.strings(raw.hash_file(check.string("distac.hash.file", "path", path)))[1]
    end,
}

-- Of a model in one file: that file's; of one in several: of all their names and hashes.
function M.hash.model(path)
    local files = M.model_files(check.string("distac.hash.model", "path", path))
    if #files == 1 and files[1] == path then
        return M.hash.file(path)
    end
    local lines = {}
    for i, file in ipairs(files) do
        lines[i] = file:match("[^/]*$") .. " " .. M.hash.file(file)
    end
    return M.hash.text(table.concat(lines, "\n"))
end

return M
