-- How numbers and tensors look as text, the same on every Lua VM.
local raw = require "distac.raw"

local M = {}

local EDGE = 3 -- elements shown on each side of an elision
local FULL = 8 -- of a row or column that are shown without one

local function special(x)
    if x ~= x then
        return "nan"
    elseif x == math.huge then
        return "inf"
    elseif x == -math.huge then
        return "-inf"
    end
end

-- A number as text: 3 and 3.0 are both "3".
function M.number(x)
    local text = special(x)
    if text then
        return text
    end
    if x == math.floor(x) and x > -1e15 and x < 1e15 then
        return string.format("%.0f", x)
    end
    return string.format("%.10g", x)
end

-- "[2, 3]" for { 2, 3 }.
function M.shape(shape)
    local parts = {}
    for i, n in ipairs(shape) do
        parts[i] = string.format("%.0f", n)
    end
    return "[" .. table.concat(parts, ",") .. "]"
end

-- The same of a tensor.
function M.shape_of(tensor)
    local shape = {}
    for i = 1, raw.tensor_rank(tensor) do
        shape[i] = raw.tensor_size(tensor, i - 1)
    end
    return M.shape(shape)
end

-- "Tensor [2,3] f32", with the device when it is not the CPU.
function M.head(tensor)
    local text = "Tensor " .. M.shape_of(tensor) .. " " .. raw.dtype_name(raw.tensor_dtype(tensor))
    local device = raw.tensor_device(tensor)
    if device ~= "cpu" then
        text = text .. " " .. device
    end
    return text
end

-- The numbers that are shown, nested as the shape is; false stands for what was left out.
local function shown(tensor)
    local rank = raw.tensor_rank(tensor)
    if rank == 0 then
        return raw.tensor_item(tensor)
    end
    local n = raw.tensor_size(tensor, 0)
    local out = {}
    local function range(first, count)
        if rank == 1 then
            local part = raw.tensor_narrow(tensor, 0, first, count)
            for _, v in ipairs(raw.tensor_read(part, count)) do
                out[#out + 1] = v
            end
        else
            for i = first, first + count - 1 do
                out[#out + 1] = shown(raw.tensor_select(tensor, 0, i))
            end
        end
    end
    if n > (rank > 2 and 2 * EDGE or FULL) then
        range(0, EDGE)
        out[#out + 1] = false
        range(n - EDGE, EDGE)
    elseif n > 0 then
        range(0, n)
    end
    return out
end

local function each_number(tree, f)
    if type(tree) == "table" then
        for _, v in ipairs(tree) do
            each_number(v, f)
        end
    elseif tree then
        f(tree)
    end
end

-- One format for all numbers of a tensor, so that columns can be compared by eye.
local function pick_format(tree)
    local integral, largest, smallest = true, 0, math.huge
    each_number(tree, function(x)
        if not special(x) then
            local a = math.abs(x)
            if x ~= math.floor(x) then
                integral = false
            end
            if a > largest then
                largest = a
            end
            if a > 0 and a < smallest then
                smallest = a
            end
        end
    end)
    if integral and largest < 1e15 then
        return "%.0f"
    elseif largest >= 1e5 or largest < 1e-3 then
        return "%.4e"
    end
    return "%.4f"
end

local function rows_of(lines, tree, rank, prefix, format)
    if rank > 2 then
        local index = 0
        for _, part in ipairs(tree) do
            index = index + 1
            if part == false then
                lines[#lines + 1] = prefix .. "..."
                index = tree.size - EDGE
            else
                rows_of(lines, part, rank - 1, prefix .. string.format("%.0f", index) .. ",", format)
            end
        end
        return
    end
    if prefix ~= "" then
        lines[#lines + 1] = "(" .. prefix .. ".,.)"
    end
    local cells, width = {}, 0
    for r, row in ipairs(rank == 1 and { tree } or tree) do
        cells[r] = {}
        for c, x in ipairs(row or { false }) do
            local text = x == false and "..." or special(x) or string.format(format, x)
            cells[r][c] = text
            width = math.max(width, x == false and 0 or #text)
        end
    end
    for _, row in ipairs(cells) do
        for c, text in ipairs(row) do
            local gap = text == "..." and #row > 1
            row[c] = gap and text or string.rep(" ", width - #text) .. text
        end
        lines[#lines + 1] = " " .. table.concat(row, "  ")
    end
end

-- Sizes of elided levels, needed to number what comes after the gap.
local function note_sizes(tree, tensor)
    local rank = raw.tensor_rank(tensor)
    if rank > 2 and raw.tensor_size(tensor, 0) > 0 then
        tree.size = raw.tensor_size(tensor, 0)
        local sample = raw.tensor_select(tensor, 0, 0)
        for _, part in ipairs(tree) do
            if part then
                note_sizes(part, sample)
            end
        end
    end
end

-- What print shows of a tensor: type, shape, and the numbers in columns, the middle left out.
function M.tensor(tensor)
    local rank = raw.tensor_rank(tensor)
    local lines = { M.head(tensor) }
    if raw.tensor_numel(tensor) == 0 then
        return lines[1]
    end
    local tree = shown(tensor)
    if rank == 0 then
        return lines[1] .. " " .. M.number(tree)
    end
    note_sizes(tree, tensor)
    rows_of(lines, tree, rank, "", pick_format(tree))
    return table.concat(lines, "\n")
end

return M
