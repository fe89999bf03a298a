-- What `distac doctor` finds out about fine-tuned models before they are merged: norms of task vectors, numbers
-- that are none, tensors that should not have moved, a base that is another, changes of low rank, unsure answers;
-- and what to do about it, by the rules of the paper (sections 3, 4 and 5.1). Tensors are looked at one after the
-- other in pieces, so that models may be larger than the memory.
local raw = require "distac.raw"
local format = require "distac.format"

local doctor = {}

-- From where on something is told, in one place.
local LIMITS = {
    piece = 2 ^ 17,         -- elements of every model that are in memory at a time
    longer = 1.5,           -- times the mean norm of the others: a norm mismatch
    relative = 0.5,         -- norm of a task vector against the base's: another base
    cosine = 0.9,           -- between a model and the base, below it: another base
    alike = 0.5,            -- between task vectors, above it: a change in common
    same = 0.9999,          -- above it: the same model twice
    sketch = 96,            -- most directions that a change's rank is measured with
    energy = 0.99,          -- of a change's square, that lies in its rank
    temperature = 0.9,      -- that calibrates a model, below it: it is less sure than it is right
    entropy = 0.15,         -- share of the largest possible, above it: unsure (told where there are no labels)
}
doctor.limits = LIMITS

-- The part of a model that a tensor belongs to: its block, or what stands before its last name.
local function group_of(name)
    local block = name:match "^(.-%f[%w]%a+%.%d+)%."
    if block and (block:find "blocks%.%d+$" or block:find "layers?%.%d+$" or block:find "%f[%w]h%.%d+$") then
        return block
    end
    return name:match "^(.*)%.[^%.]+$" or name
end
doctor.group_of = group_of

local function is_float(t)
    local name = t:dtype()
    return name == "f32" or name == "f64" or name == "f16" or name == "bf16"
end

local function same_shape(a, b) return format.shape_of(a) == format.shape_of(b) end

-- ---- One pass over the tensors ------------------------------------------------------------------------

local function number(t)
    local value = raw.tensor_item(t)
    raw.release(t)
    return value
end

local function add_bad(list, name, t)
    local count, first = t:nonfinite()
    if count > 0 then list[#list + 1] = { name = name, count = count, first = first - 1 } end
    return count > 0
end

-- Numbers of one tensor in f32, piece by piece: squares of the base, of the changes, products between them.
local function measure(mine, others, sums)
    local n, count = mine:numel(), #others
    local flat = { [0] = mine:contiguous():reshape(n) }
    for i = 1, count do flat[i] = others[i] and others[i]:contiguous():reshape(n) end
    local squares = {}
    for i = 1, count do squares[i] = 0 end
    for first = 1, n, LIMITS.piece do
        local length = math.min(LIMITS.piece, n - first + 1)
        local base = flat[0]:narrow(1, first, length):to "f32"
        sums.base = sums.base + number(base:norm()) ^ 2
        local rows, which = {}, {}
        for i = 1, count do
            if flat[i] then
                local tau = flat[i]:narrow(1, first, length):to "f32" - base
                squares[i] = squares[i] + number(tau:norm()) ^ 2
                sums.along[i] = sums.along[i] + number((base * tau):sum())
                rows[#rows + 1], which[#which + 1] = tau:reshape(1, length), i
            end
        end
        if #rows > 1 then
            local all = require("distac.tensor").cat(rows)
            local products = all:matmul(all:t()):table()
            for a = 1, #which do
                for b = 1, a - 1 do
                    local i, j = which[a], which[b]
                    sums.products[i][j] = sums.products[i][j] + products[a][b]
                end
            end
            raw.release(all)
        end
        for _, row in ipairs(rows) do raw.release(row) end
        if base ~= flat[0] then raw.release(base) end
    end
    return squares
end

-- How many directions hold nearly all of a change [m,n], measured with a few random ones: exact for a low rank,
-- the number of directions asked for anything else. nil for small tensors.
local function rank(mine, other, seed)
    local m, n = mine:size(1), mine:size(2)
    local k = math.min(LIMITS.sketch, math.floor(math.min(m, n) / 2))
    if k < 4 then return nil end
    local tau = other:to "f32" - mine:to "f32"
    local sketch = tau:matmul(require("distac.tensor").randn({ n, k }, { seed = seed })):to "f64"
    local values = (sketch:t():contiguous():matmul(sketch)):eigh():table()
    raw.release(tau)
    local total, sum = 0, 0
    for _, v in ipairs(values) do total = total + math.max(v, 0) end
    for i = k, 1, -1 do
        sum = sum + math.max(values[i], 0)
        if sum >= LIMITS.energy * total then return k - i + 1, k end
    end
    return k, k
end

-- ---- The examination ----------------------------------------------------------------------------------

local function new_model(path, count)
    return { model = path, norm = 0, layers = {}, moved = 0, tensors = 0, nonfinite = {}, missing = {}, extra = {},
             misshaped = {}, frozen = {}, ranks = {}, cosines = {}, index = count }
end

-- A tensor that fine-tuning an image model leaves alone: the text tower's and the scale of the logits.
local function is_frozen_kind(name, has_tower) return has_tower and not name:find "visual%." end

-- examine(base, models, names): checkpoints and what they are called -> { base =, models = }: numbers, no
-- opinions.
function doctor.examine(base, models, names, progress)
    local T = #models
    local report = { base = { nonfinite = {} }, models = {} }
    local sums = { base = 0, along = {}, products = {} }
    local norms, by_layer = {}, {}
    for i = 1, T do
        report.models[i] = new_model(names[i], i)
        sums.along[i], sums.products[i], norms[i], by_layer[i] = 0, {}, 0, {}
        for j = 1, T do sums.products[i][j] = 0 end
    end
    local has_tower, order, seen = false, {}, {}
    local all = base:names()
    for _, name in ipairs(all) do has_tower = has_tower or name:find "visual%." ~= nil end
    for at, name in ipairs(all) do
        if progress then progress(at, #all, name) end
        local mine = base:tensor(name)
        local group = group_of(name)
        local usable = is_float(mine) and not add_bad(report.base.nonfinite, name, mine)
        local others, any = {}, false
        for i, model in ipairs(models) do
            local r = report.models[i]
            local other = model:has(name) and model:tensor(name)
            if not other then
                r.missing[#r.missing + 1] = name
            elseif not same_shape(mine, other) then
                r.misshaped[#r.misshaped + 1] = { name = name, base = mine:shape(), model = other:shape() }
                other = nil
            elseif is_float(other) and add_bad(r.nonfinite, name, other) then
                other = nil
            end
            others[i] = usable and other and is_float(other) and other or false
            any = any or others[i]
        end
        if any then
            if not seen[group] then
                seen[group], order[#order + 1] = true, group
            end
            local squares = measure(mine, others, sums)
            local movers = 0
            for i = 1, T do
                local r = report.models[i]
                if others[i] then
                    r.tensors = r.tensors + 1
                    norms[i] = norms[i] + squares[i]
                    by_layer[i][group] = (by_layer[i][group] or 0) + squares[i]
                    if squares[i] > 0 then
                        r.moved, movers = r.moved + 1, movers + 1
                        if mine:rank() == 2 then
                            local low, of = rank(mine, others[i], at)
                            if low then
                                r.ranks[#r.ranks + 1] = { name = name, rank = low, of = of,
                                                          full = math.min(mine:size(1), mine:size(2)) }
                            end
                        end
                        if is_frozen_kind(name, has_tower) then
                            r.frozen[#r.frozen + 1] = { name = name, norm = math.sqrt(squares[i]), why = "kind" }
                        end
                    end
                end
            end
            for i = 1, T do -- one moved what all the others left alone
                if movers == 1 and T > 2 and others[i] and squares[i] > 0
                    and not is_frozen_kind(name, has_tower) then
                    table.insert(report.models[i].frozen, { name = name, norm = math.sqrt(squares[i]),
                        why = "alone" })
                end
            end
        end
    end
    report.layers = order
    report.base.norm = math.sqrt(sums.base)
    for i, model in ipairs(models) do
        local r = report.models[i]
        r.norm = math.sqrt(norms[i])
        for group, square in pairs(by_layer[i]) do r.layers[group] = math.sqrt(square) end
        r.relative = sums.base > 0 and r.norm / report.base.norm or nil
        local length = math.sqrt(math.max(0, sums.base + 2 * sums.along[i] + norms[i]))
        r.cosine = sums.base > 0 and length > 0 and (sums.base + sums.along[i]) / (report.base.norm * length)
            or nil
        for j = 1, T do
            if j ~= i and norms[i] > 0 and norms[j] > 0 then
                r.cosines[j] = sums.products[math.max(i, j)][math.min(i, j)] / math.sqrt(norms[i] * norms[j])
            end
        end
        local known = {}
        for _, name in ipairs(all) do known[name] = true end
        for _, name in ipairs(model:names()) do
            if not known[name] then r.extra[#r.extra + 1] = name end
        end
        r.activation = model:metadata "vit.activation"
    end
    report.base.activation = base:metadata "vit.activation"
    return report
end

-- How sure a model is of its answers: { accuracy, entropy, ece, temperature, largest (entropy), samples }.
function doctor.confidence(dataset, model, head, samples)
    local distac = require "distac"
    if dataset:size() > samples then -- spread over the whole: class folders lie one after the other
        local list = {}
        for i = 1, samples do list[i] = 1 + math.floor((i - 1) * dataset:size() / samples) end
        dataset = dataset:subset(list)
    end
    local logits = dataset:logits(model, head, { batch = 128 })
    local labels = dataset:labelled() and dataset:labels() or nil
    local m = distac.metrics(logits, labels)
    return { accuracy = m.accuracy, entropy = m.entropy, ece = m.ece, samples = dataset:size(),
             largest = math.log(head:classes()), temperature = labels and distac.temperature(logits, labels)
             or nil }
end

-- ---- Opinions -----------------------------------------------------------------------------------------

local function finding(model, what, text, ...)
    model.findings[#model.findings + 1] = { what = what, text = string.format(text, ...) }
end

local function some(list, field)
    local words = {}
    for i = 1, math.min(3, #list) do words[i] = field and list[i][field] or list[i] end
    return table.concat(words, ", ") .. (#list > 3 and string.format(" and %.0f more", #list - 3) or "")
end

local function median(list)
    table.sort(list)
    return list[math.floor((#list + 1) / 2)]
end

local function bad_numbers(list)
    local total = 0
    for _, entry in ipairs(list) do total = total + entry.count end
    return total
end

local function look_at(r, report, T)
    if #r.nonfinite > 0 then
        finding(r, "nonfinite", "%.0f numbers are NaN or infinite, in %s (the first: element %.0f); they were left out "
            .. "of what follows, and no merge will take the model", bad_numbers(r.nonfinite),
            some(r.nonfinite, "name"),
            r.nonfinite[1].first)
    end
    if #r.missing + #r.misshaped > 0 then
        finding(r, "tensors", "%.0f tensors of the base are missing (%s), %.0f have another shape (%s): another "
            .. "architecture, or a part of a model", #r.missing, #r.missing > 0 and some(r.missing) or "none",
            #r.misshaped, #r.misshaped > 0 and some(r.misshaped, "name") or "none")
    elseif #r.extra > 0 then
        finding(r, "extra", "%.0f tensors are not in the base (%s); merges leave them out", #r.extra,
            some(r.extra))
    end
    if r.norm == 0 and r.tensors > 0 then
        finding(r, "equal", "the model is the base itself: nothing moved")
        return
    end
    if r.activation and report.base.activation and r.activation ~= report.base.activation then
        finding(r, "activation", "the model says %s, the base %s: one of them computes with the wrong activation; set "
            .. "--activation when it is evaluated, and save it again with the right metadata", r.activation,
            report.base.activation)
    end
    if (r.cosine and r.cosine < LIMITS.cosine) or (r.relative and r.relative > LIMITS.relative) then
        finding(r, "base", "this does not look like a model fine-tuned from this base: its difference is %.2f times as "
            .. "long as the base itself (fine-tuning gives some hundredths), its cosine with the base %.2f. Which "
            .. "checkpoint was it trained from?", r.relative, r.cosine)
    end
    local alike, least, others = 0, math.huge, 0
    for j, cosine in pairs(r.cosines) do
        others, least = others + 1, math.min(least, cosine)
        if cosine > LIMITS.same and j < r.index then
            finding(r, "same", "the same change as %s: merging both counts it twice", report.models[j].model)
        end
        if cosine > LIMITS.alike then alike = alike + 1 end
    end
    if alike > 0 and alike == others and T > 2 and least <= LIMITS.same then
        finding(r, "common", "its change has a cosine of %.2f or more with those of all other models; independent tasks "
            .. "give about 0. They may all come from another base, such as this one trained further: give that as "
            .. "--base", least)
    end
    local kinds, alone = {}, {}
    for _, entry in ipairs(r.frozen) do table.insert(entry.why == "kind" and kinds or alone, entry) end
    if #kinds > 0 then
        finding(r, "frozen", "%.0f tensors outside the image tower moved (%s): they are frozen when tasks are "
            .. "fine-tuned with fixed heads; --only 'visual.*' merges the image tower alone", #kinds,
            some(kinds, "name"))
    end
    if #alone > 0 then
        finding(r, "alone", "%.0f tensors moved here and in no other model (%s)", #alone, some(alone, "name"))
    end
    if #r.ranks > 0 then
        local ranks, low = {}, 0
        for i, entry in ipairs(r.ranks) do
            ranks[i] = entry.rank
            if entry.rank <= entry.of / 2 then low = low + 1 end
        end
        r.rank = median(ranks)
        r.low_rank = low * 10 >= 9 * #r.ranks
        if r.low_rank then
            finding(r, "rank", "its changes have a low rank: %.0f %% of their square lies in %.0f directions (the median "
                .. "of %.0f matrices), as a merged LoRA's does. Methods made for full updates by sign and size (ties, "
                .. "breadcrumbs) see it as dense; knots and the spectral methods suit it", 100 * LIMITS.energy,
                r.rank,
                #r.ranks)
        end
    end
end

-- Is a model less sure than it is right? nil where nothing is known.
local function unsure(c)
    if not c then return nil end
    if c.temperature then return c.temperature < LIMITS.temperature end
    return c.entropy > LIMITS.entropy * c.largest
end

local function look_at_confidence(r)
    local c = r.confidence
    if not unsure(c) then return end
    if c.temperature then
        finding(r, "unsure", "its answers are less sure than they are right: accuracy %.1f %%, mean entropy %.3f of at "
            .. "most %.2f, and dividing the logits by %.2f would calibrate it (below 1: underconfident, as label "
            .. "smoothing, Mixup and focal loss make models)", 100 * c.accuracy, c.entropy, c.largest,
            c.temperature)
    else
        finding(r, "unsure", "its answers are unsure: the mean entropy is %.3f of at most %.2f (there are no labels to "
            .. "say whether rightly so)", c.entropy, c.largest)
    end
end

-- Adds findings to a report of examine(), with confidences already in it, and what to do: kappa and temperatures.
function doctor.judge(report)
    local T, sum, longest = #report.models, 0, nil
    for _, r in ipairs(report.models) do
        r.findings = {}
        sum = sum + r.norm
        if not longest or r.norm > longest.norm then longest = r end
    end
    if #report.base.nonfinite > 0 then
        report.base.finding = string.format("the base has %.0f numbers that are NaN or infinite, in %s",
            bad_numbers(report.base.nonfinite), some(report.base.nonfinite, "name"))
    end
    for _, r in ipairs(report.models) do
        look_at(r, report, T)
        look_at_confidence(r)
        local others = T > 1 and (sum - r.norm) / (T - 1) or r.norm
        r.kappa, r.temperature, r.why = 1, nil, nil
        local long = r == longest and T > 1 and others > 0 and r.norm > LIMITS.longer * others
        local shy = unsure(r.confidence)
        if long then
            r.kappa = others / r.norm
            finding(r, "norm", "its task vector is %.1f times as long as the mean of the others (%.4g): it would drown "
                .. "them in a merge", r.norm / others, others)
        end
        if long and shy then
            r.temperature = { teacher = 1, student = 10 }
            r.why = "shortened to the mean norm of the others and taught to be sure, in one distillation"
        elseif long then
            r.temperature = { teacher = 10, student = 10 }
            r.why = "shortened to the mean norm of the others (shrinking keeps accuracy where stretching loses it), at "
                .. "equal temperatures: what shrinking lost is distilled back"
        elseif shy then
            r.temperature = { teacher = 1, student = 10 }
            r.why = "length is fine; a student at a higher temperature than its teacher becomes surer than it"
        else
            r.why = r.confidence and "length and confidence are fine: merge it as it is"
                or "length is fine; confidence is not known without data"
        end
    end
    report.healthy = report.base.finding == nil
    for _, r in ipairs(report.models) do report.healthy = report.healthy and #r.findings == 0 end
    return report
end

-- ---- The recipe ---------------------------------------------------------------------------------------

local function quote(text) return (string.format("%q", text):gsub("\\\n", "\\n")) end

local function short(x) return (string.format("%.4g", x)) end

-- A recipe that does what is suggested. suite: the text of the key's value; tasks: each model's task, by its
-- number.
function doctor.recipe(report, suite, tasks)
    local lines = { 'local distac = require "distac"', "", "return distac.recipe {", '    name  = "doctor",',
                    "    suite = " .. suite .. ",", "", "    sources = {" }
    for i, r in ipairs(report.models) do
        lines[#lines + 1] = ("        [%s] = %s,"):format(quote(tasks[i]), quote(r.model))
    end
    lines[#lines + 1] = "    },"
    local any = false
    for _, r in ipairs(report.models) do any = any or r.temperature ~= nil end
    if any then
        lines[#lines + 1] = ""
        lines[#lines + 1] = "    condition = {"
        lines[#lines + 1] = "        kappa = 1, beta = 0.5,"
        lines[#lines + 1] = "        tasks = {"
        for i, r in ipairs(report.models) do
            local t = r.temperature
            lines[#lines + 1] = t and ("            [%s] = { kappa = %s, temperature = { teacher = %d, student = %d } },")
                :format(quote(tasks[i]), short(r.kappa), t.teacher, t.student)
                or ("            [%s] = false,"):format(quote(tasks[i]))
        end
        lines[#lines + 1] = "        },"
        lines[#lines + 1] = "    },"
    end
    lines[#lines + 1] = ""
    lines[#lines + 1] = '    merge = { "task_arithmetic", "ties", "consensus_ta", "tsvm" },'
    lines[#lines + 1] = "}"
    return table.concat(lines, "\n") .. "\n"
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

-- Norms of the blocks as a chart, one line a model.
function doctor.plot(report, path)
    local places, label = drawn(report.blocks)
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

-- Groups in the order of a model: blocks by their numbers, what stands before them first.
function doctor.in_order(groups)
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

return doctor
