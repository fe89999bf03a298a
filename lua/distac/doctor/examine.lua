-- One pass over fine-tuned models and their base: norms of task vectors, by layer and in all, products between
-- them, numbers that are none, tensors that should not have moved, ranks of changes. Numbers, no opinions. Tensors
-- are looked at one after the other in pieces, so that models may be larger than the memory.
local raw = require "distac.raw"
local format = require "distac.format"
local layers = require "distac.doctor.layers"

local PIECE = 2 ^ 17 -- elements of every model that are in memory at a time
local SKETCH = 96    -- most directions that a change's rank is measured with

local M = {}

-- The share of a change's square that lies in its rank.
M.energy = 0.99

local FLOATS = { f32 = true, f64 = true, f16 = true, bf16 = true }

local function is_float(t) return FLOATS[t:dtype()] == true end

local function same_shape(a, b) return format.shape_of(a) == format.shape_of(b) end

-- ---- One tensor ---------------------------------------------------------------------------------------

local function number(t)
    local value = raw.tensor_item(t)
    raw.release(t)
    return value
end

-- Has it numbers that are none? They are noted in the list.
local function note_nonfinite(list, name, t)
    local count, first = t:nonfinite()
    if count > 0 then list[#list + 1] = { name = name, count = count, first = first - 1 } end
    return count > 0
end

-- Products between the changes (rows [1,n]) of models number which[1], which[2], ...
local function add_products(products, rows, which)
    local all = require("distac.tensor").cat(rows)
    local values = all:matmul(all:t()):table()
    for a = 2, #which do
        local of = products[which[a]]
        for b = 1, a - 1 do of[which[b]] = of[which[b]] + values[a][b] end
    end
    raw.release(all)
end

-- Adds one tensor's numbers, in f32 and piece by piece, to sums: squares of the base, of the changes, products
-- between them. Returns the squares of this tensor's changes. others[i]: the tensor of model i, or false.
local function measure(mine, others, sums)
    local n, count = mine:numel(), #others
    local base_flat, flat, squares = mine:contiguous():reshape(n), {}, {}
    for i = 1, count do
        flat[i], squares[i] = others[i] and others[i]:contiguous():reshape(n), 0
    end
    for first = 1, n, PIECE do
        local length = math.min(PIECE, n - first + 1)
        local base = base_flat:narrow(1, first, length):to "f32"
        local rows, which = {}, {}
        sums.base = sums.base + number(base:norm()) ^ 2
        for i = 1, count do
            if flat[i] then
                local tau = flat[i]:narrow(1, first, length):to "f32" - base
                squares[i] = squares[i] + number(tau:norm()) ^ 2
                sums.along[i] = sums.along[i] + number((base * tau):sum())
                rows[#rows + 1], which[#which + 1] = tau:reshape(1, length), i
            end
        end
        if #rows > 1 then add_products(sums.products, rows, which) end
        for _, row in ipairs(rows) do raw.release(row) end
        if base ~= base_flat then raw.release(base) end
    end
    return squares
end

-- How many directions hold nearly all of a change [m,n], measured with a few random ones: exact for a low rank,
-- the number of directions asked for anything else. nil for small tensors.
local function rank(mine, other, seed)
    local m, n = mine:size(1), mine:size(2)
    local k = math.min(SKETCH, math.floor(math.min(m, n) / 2))
    if k < 4 then return nil end
    local tau = other:to "f32" - mine:to "f32"
    local sketch = tau:matmul(require("distac.tensor").randn({ n, k }, { seed = seed })):to "f64"
    local values = (sketch:t():contiguous():matmul(sketch)):eigh():table()
    raw.release(tau)
    local total, sum = 0, 0
    for _, v in ipairs(values) do total = total + math.max(v, 0) end
    for i = k, 1, -1 do
        sum = sum + math.max(values[i], 0)
        if sum >= M.energy * total then return k - i + 1, k end
    end
    return k, k
end

-- ---- All tensors --------------------------------------------------------------------------------------

local function new_model(path, count)
    return { model = path, norm = 0, layers = {}, moved = 0, tensors = 0, nonfinite = {}, missing = {}, extra = {},
             misshaped = {}, frozen = {}, ranks = {}, cosines = {}, index = count }
end

-- A model's tensor where it can be compared with the base's; else it is noted what it is, and false.
local function comparable(r, model, name, mine)
    if not model:has(name) then
        r.missing[#r.missing + 1] = name
        return false
    end
    local other = model:tensor(name)
    if not same_shape(mine, other) then
        r.misshaped[#r.misshaped + 1] = { name = name, base = mine:shape(), model = other:shape() }
        return false
    end
    return is_float(other) and not note_nonfinite(r.nonfinite, name, other) and other
end

-- A tensor that fine-tuning an image model leaves alone: the text tower's and the scale of the logits.
local function is_frozen_kind(name, has_tower) return has_tower and not name:find "visual%." end

-- Notes what one tensor tells of the models that moved it.
local function note_moves(report, name, mine, others, squares, seed, frozen_kind)
    local group, movers, last = layers.of(name), 0, nil
    for i, r in ipairs(report.models) do
        if others[i] then
            r.tensors = r.tensors + 1
            r.square = r.square + squares[i]
            r.layers[group] = (r.layers[group] or 0) + squares[i]
            if squares[i] > 0 then
                r.moved, movers, last = r.moved + 1, movers + 1, i
                if mine:rank() == 2 then
                    local low, of = rank(mine, others[i], seed)
                    if low then
                        local full = math.min(mine:size(1), mine:size(2))
                        r.ranks[#r.ranks + 1] = { name = name, rank = low, of = of, full = full }
                    end
                end
                if frozen_kind then
                    table.insert(r.frozen, { name = name, norm = math.sqrt(squares[i]), why = "kind" })
                end
            end
        end
    end
    if movers == 1 and #report.models > 2 and not frozen_kind then -- all the others left it alone
        table.insert(report.models[last].frozen, { name = name, norm = math.sqrt(squares[last]), why = "alone" })
    end
end

-- Lengths and angles of model i's task vector, from the sums over all tensors.
local function note_angles(report, i, sums)
    local r, base = report.models[i], sums.base
    r.norm = math.sqrt(r.square)
    for group, square in pairs(r.layers) do r.layers[group] = math.sqrt(square) end
    if base > 0 then
        local length = math.sqrt(math.max(0, base + 2 * sums.along[i] + r.square))
        r.relative = r.norm / report.base.norm
        r.cosine = length > 0 and (base + sums.along[i]) / (report.base.norm * length) or nil
    end
    for j, other in ipairs(report.models) do
        if j ~= i and r.square > 0 and other.square > 0 then
            r.cosines[j] = sums.products[math.max(i, j)][math.min(i, j)] / math.sqrt(r.square * other.square)
        end
    end
end

-- examine(base, models, names): checkpoints and what they are called -> { base =, models =, layers = }.
function M.examine(base, models, names)
    local report = { base = { nonfinite = {} }, models = {}, layers = {} }
    local sums = { base = 0, along = {}, products = {} }
    for i = 1, #models do
        report.models[i] = new_model(names[i], i)
        report.models[i].square, sums.along[i], sums.products[i] = 0, 0, {}
        for j = 1, i - 1 do sums.products[i][j] = 0 end
    end
    local all, known, has_tower, seen = base:names(), {}, false, {}
    for _, name in ipairs(all) do
        known[name], has_tower = true, has_tower or name:find "visual%." ~= nil
    end
    for at, name in ipairs(all) do
        local mine = base:tensor(name)
        local usable = is_float(mine) and not note_nonfinite(report.base.nonfinite, name, mine)
        local others, any = {}, false
        for i, model in ipairs(models) do
            local other = comparable(report.models[i], model, name, mine)
            others[i] = usable and other
            any = any or others[i]
        end
        if any then
            local group = layers.of(name)
            if not seen[group] then seen[group], report.layers[#report.layers + 1] = true, group end
            local squares = measure(mine, others, sums)
            note_moves(report, name, mine, others, squares, at, is_frozen_kind(name, has_tower))
        end
    end
    report.base.norm = math.sqrt(sums.base)
    report.base.activation = base:metadata "vit.activation"
    for i, model in ipairs(models) do
        local r = report.models[i]
        note_angles(report, i, sums)
        for _, name in ipairs(model:names()) do
            if not known[name] then r.extra[#r.extra + 1] = name end
        end
        r.activation = model:metadata "vit.activation"
    end
    report.layers = layers.in_order(report.layers)
    return report
end

return M
