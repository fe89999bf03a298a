-- Transforms of images as plain Lua loops: a function of the user's over the elements of one image after the
-- other. LuaJIT gives it a typed pointer into the tensor itself, so that the loop compiles to loads and stores;
-- Lua 5.4 a table that is written back. Both are indexed from 1.
local raw = require "distac.raw"
local check = require "distac.check"
local errors = require "distac.error"

local M = {}

-- Elements that a Lua 5.4 function left, checked as a pointer's type would hold them.
local function checked(fname, where, values, n, bytes)
    for i = 1, n do
        local v = values[i]
        if type(v) ~= "number" then
            errors.raise("EINVAL", "%s: sample %.0f: element %.0f of %.0f: wanted a number, got %s", fname,
                where.index, i, n, check.describe(v))
        end
        if bytes then
            v = v - v % 1
            if not (v >= 0 and v <= 255) then
                errors.raise("EINVAL", "%s: sample %.0f: element %.0f of %.0f: wanted 0 to 255, got %s", fname,
                    where.index, i, n, check.describe(values[i]))
            end
            values[i] = v
        end
    end
    for i = #values, n + 1, -1 do
        values[i] = nil
    end
    return values
end

-- images [B,C,H,W], u8 or f32, contiguous: fn(elements, n, where) for each; where_of(where, i) fills in what is
-- known of image i (from 1).
function M.each(fname, images, fn, where_of)
    local count, n = raw.tensor_size(images, 0), 1
    local where = { channels = raw.tensor_size(images, 1), height = raw.tensor_size(images, 2),
                    width = raw.tensor_size(images, 3) }
    n = where.channels * where.height * where.width
    if raw.runtime == "luajit" then
        local pointer = images:data() - 1
        for i = 1, count do
            where_of(where, i)
            fn(pointer + (i - 1) * n, n, where)
        end
        return images
    end
    local bytes = raw.tensor_dtype(images) == raw.U8
    for i = 1, count do
        local image = raw.tensor_reshape(raw.tensor_select(images, 0, i - 1), { n })
        local values = image:table()
        where_of(where, i)
        fn(values, n, where)
        raw.tensor_write(image, checked(fname, where, values, n, bytes))
    end
    return images
end

return M
