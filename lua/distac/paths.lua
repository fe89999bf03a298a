-- Where the files that come with the engine are: found from the place of this file, in a source tree, a build
-- tree or an installation.
local raw = require "distac.raw"
local check = require "distac.check"

local function here()
    local source = debug and debug.getinfo and debug.getinfo(1, "S").source or ""
    return source:match("^@(.*)[/\\][^/\\]*$") or "."
end

local home = here()

-- Without "x/.." and "." parts, so that messages can be read.
local function tidy(path)
    local parts = {}
    for part in path:gmatch("[^/]+") do
        if part == ".." and #parts > 0 and parts[#parts] ~= ".." then
            parts[#parts] = nil
        elseif part ~= "." then
            parts[#parts + 1] = part
        end
    end
    local text = table.concat(parts, "/")
    if path:sub(1, 1) == "/" then
        return "/" .. text
    end
    return text == "" and "." or text
end

-- source: lua/distac; build: build/lua/VERSION/distac; installed: share/lua/VERSION/distac beside share/distac.
local function find(source_name, installed_name)
    local candidates = {
        home .. "/../../" .. source_name, home .. "/../../../../" .. source_name,
        home .. "/../../../distac/" .. installed_name, home .. "/../../share/distac/" .. installed_name,
        home .. "/" .. installed_name,
    }
    for _, path in ipairs(candidates) do
        if raw.path_kind(path) == 2 then
            return check.strings(raw.path_absolute(path))[1] -- links resolved: what ".." is depends on them
        end
    end
    return tidy(candidates[1])
end

return { mini8 = find("examples/mini8", "mini8"), recipes = find("recipes", "recipes"), lua = tidy(home) }
