-- The layers of a model by the names of its tensors: which one a tensor belongs to, their order, and a chart of
-- their norms.
local layers = {}

-- The part of a model that a tensor belongs to: its block, or what stands before its last name.
function layers.of(name)
    local block = name:match "^(.-%f[%w]%a+%.%d+)%."
    if block and (block:find "blocks%.%d+$" or block:find "layers?%.%d+$" or block:find "%f[%w]h%.%d+$") then
        return block
    end
    return name:match "^(.*)%.[^%.]+$" or name
end

-- In the order of a model: blocks by their numbers, what stands before them first.
function layers.in_order(groups)
    local list = {}
    for i, group in ipairs(groups) do
        local head, n = group:match "^(.*)%.(%d+)$"
        list[i] = { name = group, head = head or group, n = tonumber(n) or -1, block = n ~= nil }
    end
    table.sort(list, function(a, b)
        if a.block ~= b.block then return b.block end
        if a.head ~= b.head then return a.head < b.head end
        if a.n ~= b.n then return a.n < b.n end
        return a.name < b.name
    end)
    local out = {}
    for i, entry in ipairs(list) do out[i] = entry.name end
    return out
end

-- The blocks of the tower that has most of them, { { number, group }, ... }; all parts where there are no blocks.
local function drawn(groups)
    local towers, best = {}, nil
    for _, group in ipairs(groups) do
        local head, n = group:match "^(.*)%.(%d+)$"
        if head then
            towers[head] = towers[head] or {}
            table.insert(towers[head], { tonumber(n), group })
            if not best or #towers[head] > #towers[best] then best = head end
        end
    end
    if best and #towers[best] > 1 then return towers[best], "block of " .. best end
    local all = {}
    for i, group in ipairs(groups) do all[i] = { i, group } end
    return all, "part of the model, in its order"
end

-- Norms of the blocks as a chart, one line a model. report: of examine().
function layers.plot(report, path)
    local places, label = drawn(report.layers)
    local plot = require("distac").plot { title = "Task vectors, block by block", x_label = label,
                                          y_label = "norm of the change", width = 1000, height = 560 }
    for _, r in ipairs(report.models) do
        local x, y = {}, {}
        for i, place in ipairs(places) do x[i], y[i] = place[1], r.layers[place[2]] or 0 end
        plot:line { label = r.task or r.model, x = x, y = y, style = "points" }
    end
    plot:range(0)
    plot:save(path)
end

return layers
