-- distac.stages: results of the parts of a run, kept under a hash of everything they depend on. A part whose
-- key exists is done; an edit changes the keys of what it touches and of nothing else. Every file appears whole
-- under its final name (written aside, flushed, renamed), so a kill at any moment leaves old or new, never half.
--
--   KEY.json                 the result, written last: it makes the stage done
--   KEY.safetensors          its model, if it makes one
--   KEY.partial.safetensors  where an interrupted training goes on

local json = require "distac.json"

local stages = {}
local Store = {}
Store.__index = Store

-- Raised whenever the engine's numbers change for the same inputs: all old stages then count as not done.
stages.numerics = 3

local function engine() return require "distac" end

-- folder is made at the first write.
function stages.open(folder)
    local info = engine().context_info()
    local kind = tostring(info.device):match("^%a+")
    local origin = table.concat({ engine().version, stages.numerics, kind, tostring(info.kernels),
        info.products ~= "f32" and info.products or nil }, "/")
    return setmetatable({ folder = folder, origin = origin, made = false }, Store)
end

-- The key of a stage: desc is a plain table that holds all that the result depends on.
function Store:key(desc)
    return engine().hash.text(json.encode { desc = desc, origin = self.origin }):sub(1, 32)
end

function Store:path(key, suffix) return self.folder .. "/" .. key .. suffix end

function Store:prepare()
    if not self.made then
        engine().fs.make(self.folder)
        self.made = true
    end
end

local function exists(path)
    local file = io.open(path, "rb")
    if file then file:close() end
    return file ~= nil
end

-- The result of a finished stage, or nil. A file that is not one of ours counts as not done.
function Store:get(key, with_model)
    local file = io.open(self:path(key, ".json"), "rb")
    if not file then return nil end
    local text = file:read("*a")
    file:close()
    local ok, value = pcall(json.decode, text or "")
    if not ok or type(value) ~= "table" or value.key ~= key or value.result == nil then return nil end
    if with_model and not exists(self:path(key, ".safetensors")) then return nil end
    return value.result
end

-- The result of a finished training with its model, or nil. A kill between the result and the end of put leaves
-- the partial state behind: it goes now.
function Store:finished(key)
    local result = self:get(key, true)
    if result then self:drop_partial(key) end
    return result
end

-- Keeps a result (and its model); desc is kept beside it so that a person can see what it was.
function Store:put(key, desc, result, model, metadata)
    self:prepare()
    if model then
        engine().save(self:path(key, ".safetensors"), model, metadata and { metadata = metadata } or nil)
    end
    local text = json.encode({ key = key, desc = desc, result = result }, { indent = 1, nonfinite = "null" })
    engine().fs.write(self:path(key, ".json"), text .. "\n")
    self:drop_partial(key)
    return result
end

-- The saved state of an interrupted training: (tensors, info), or nil.
function Store:partial(key)
    local path = self:path(key, ".partial.safetensors")
    if not exists(path) then return nil end
    local ok, state = pcall(engine().load, path)
    if not ok then return nil end
    local good, info = pcall(json.decode, state:metadata().info or "")
    if not good or info.key ~= key then return nil end
    return state, info
end

function Store:save_partial(key, tensors, info)
    self:prepare()
    info.key = key
    engine().save(self:path(key, ".partial.safetensors"), tensors, { metadata = { info = json.encode(info) } })
end

function Store:drop_partial(key)
    local path = self:path(key, ".partial.safetensors")
    if exists(path) then engine().fs.remove(path) end
end

function Store:model_path(key) return self:path(key, ".safetensors") end

return stages
