-- Opinions on what examine() measured, and what to do about it, by the rules of the paper (sections 3, 4 and 5.1).
local energy = require("distac.doctor.examine").energy

local M = {}

-- From where on something is told.
local LIMITS = {
    longer = 1.5,      -- times the mean norm of the others: a norm mismatch
    relative = 0.5,    -- norm of a task vector against the base's: another base
    cosine = 0.9,      -- between a model and the base, below it: another base
    alike = 0.5,       -- between task vectors, above it: a change in common
    same = 0.9999,     -- above it: the same model twice
    temperature = 0.9, -- that calibrates a model, below it: it is less sure than it is right
    entropy = 0.15,    -- share of the largest possible, above it: unsure (told where there are no labels)
}

-- What a finding says to people, by its name.
local TEXTS = {
    nonfinite = "%.0f numbers are NaN or infinite, in %s (the first: element %.0f); they were left out of what "
        .. "follows, and no merge will take the model",
    tensors = "%.0f tensors of the base are missing (%s), %.0f have another shape (%s): another architecture, or "
        .. "a part of a model",
    extra = "%.0f tensors are not in the base (%s); merges leave them out",
    equal = "the model is the base itself: nothing moved",
    activation = "the model says %s, the base %s: one of them computes with the wrong activation; set "
        .. "--activation when it is evaluated, and save it again with the right metadata",
    base = "this does not look like a model fine-tuned from this base: its difference is %.2f times as long as "
        .. "the base itself (fine-tuning gives some hundredths), its cosine with the base %.2f. Which checkpoint "
        .. "was it trained from?",
    same = "the same change as %s: merging both counts it twice",
    common = "its change has a cosine of %.2f or more with those of all other models; independent tasks give "
        .. "about 0. They may all come from another base, such as this one trained further: give that as --base",
    frozen = "%.0f tensors outside the image tower moved (%s): they are frozen when tasks are fine-tuned with "
        .. "fixed heads; --only 'visual.*' merges the image tower alone",
    alone = "%.0f tensors moved here and in no other model (%s)",
    rank = "its changes have a low rank: %.0f %% of their square lies in %.0f directions (the median of %.0f "
        .. "matrices), as a merged LoRA's does. Methods made for full updates by sign and size (ties, "
        .. "breadcrumbs) see it as dense; knots and the spectral methods suit it",
    unsure = "its answers are less sure than they are right: accuracy %.1f %%, mean entropy %.3f of at most %.2f, "
        .. "and dividing the logits by %.2f would calibrate it (below 1: underconfident, as label smoothing, "
        .. "Mixup and focal loss make models)",
    unlabelled = "its answers are unsure: the mean entropy is %.3f of at most %.2f (there are no labels to say "
        .. "whether rightly so)",
    norm = "its task vector is %.1f times as long as the mean of the others (%.4g): it would drown them in a "
        .. "merge",
}

-- Why a model is conditioned as it is.
local WHY = {
    both = "shortened to the mean norm of the others and taught to be sure, in one distillation",
    long = "shortened to the mean norm of the others (shrinking keeps accuracy where stretching loses it), at "
        .. "equal temperatures: what shrinking lost is distilled back",
    unsure = "length is fine; a student at a higher temperature than its teacher becomes surer than it",
    fine = "length and confidence are fine: merge it as it is",
    unknown = "length is fine; confidence is not known without data",
}

local function finding(model, what, ...)
    model.findings[#model.findings + 1] = { what = what, text = string.format(TEXTS[what], ...) }
end

-- The first three of a list, or of a field of its entries, as text.
local function some(list, field)
    if #list == 0 then return "none" end
    local words = {}
    for i = 1, math.min(3, #list) do words[i] = field and list[i][field] or list[i] end
    return table.concat(words, ", ") .. (#list > 3 and string.format(" and %.0f more", #list - 3) or "")
end

local function median(list)
    table.sort(list)
    return list[math.floor((#list + 1) / 2)]
end

local function count_bad(list)
    local total = 0
    for _, entry in ipairs(list) do total = total + entry.count end
    return total
end

-- Is it whole, and does it come from this base?
local function look_at_origin(r, report)
    if #r.nonfinite > 0 then
        finding(r, "nonfinite", count_bad(r.nonfinite), some(r.nonfinite, "name"), r.nonfinite[1].first)
    end
    if #r.missing + #r.misshaped > 0 then
        finding(r, "tensors", #r.missing, some(r.missing), #r.misshaped, some(r.misshaped, "name"))
    elseif #r.extra > 0 then
        finding(r, "extra", #r.extra, some(r.extra))
    end
    if r.norm == 0 and r.tensors > 0 then
        finding(r, "equal")
        return
    end
    local activation = report.base.activation
    if r.activation and activation and r.activation ~= activation then
        finding(r, "activation", r.activation, activation)
    end
    if (r.cosine and r.cosine < LIMITS.cosine) or (r.relative and r.relative > LIMITS.relative) then
        finding(r, "base", r.relative, r.cosine or 0)
    end
end

-- Is its change that of others?
local function look_at_angles(r, report)
    local alike, least, others = 0, math.huge, 0
    for j, cosine in pairs(r.cosines) do
        others, least = others + 1, math.min(least, cosine)
        if cosine > LIMITS.same and j < r.index then finding(r, "same", report.models[j].model) end
        if cosine > LIMITS.alike then alike = alike + 1 end
    end
    if alike > 0 and alike == others and #report.models > 2 and least <= LIMITS.same then
        finding(r, "common", least)
    end
end

-- Which tensors moved, and in how many directions?
local function look_at_moves(r)
    local kinds, alone = {}, {}
    for _, entry in ipairs(r.frozen) do table.insert(entry.why == "kind" and kinds or alone, entry) end
    if #kinds > 0 then finding(r, "frozen", #kinds, some(kinds, "name")) end
    if #alone > 0 then finding(r, "alone", #alone, some(alone, "name")) end
    if #r.ranks == 0 then return end
    local ranks, low = {}, 0
    for i, entry in ipairs(r.ranks) do
        ranks[i] = entry.rank
        if entry.rank <= entry.of / 2 then low = low + 1 end
    end
    r.rank = median(ranks)
    r.low_rank = low * 10 >= 9 * #r.ranks
    if r.low_rank then finding(r, "rank", 100 * energy, r.rank, #r.ranks) end
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
        finding(r, "unsure", 100 * c.accuracy, c.entropy, c.largest, c.temperature)
    else
        r.findings[#r.findings + 1] = { what = "unsure", text = TEXTS.unlabelled:format(c.entropy, c.largest) }
    end
end

-- kappa and temperatures for a model whose vector is long against the mean norm of the others, or not.
local function advise(r, long, others)
    local shy = unsure(r.confidence)
    r.kappa, r.temperature = 1, nil
    if long then
        r.kappa = others / r.norm
        finding(r, "norm", r.norm / others, others)
    end
    if shy then
        r.temperature = { teacher = 1, student = 10 }
        r.why = long and WHY.both or WHY.unsure
    elseif long then
        r.temperature = { teacher = 10, student = 10 }
        r.why = WHY.long
    else
        r.why = r.confidence and WHY.fine or WHY.unknown
    end
end

-- Adds findings to a report of examine(), with confidences already in it, and what to do: kappa and temperatures.
function M.judge(report)
    local T, sum, longest = #report.models, 0, nil
    for _, r in ipairs(report.models) do
        r.findings = {}
        sum = sum + r.norm
        if not longest or r.norm > longest.norm then longest = r end
    end
    local bad = report.base.nonfinite
    if #bad > 0 then
        report.base.finding = string.format("the base has %.0f numbers that are NaN or infinite, in %s",
            count_bad(bad), some(bad, "name"))
    end
    report.healthy = #bad == 0
    for _, r in ipairs(report.models) do
        look_at_origin(r, report)
        if r.norm > 0 or r.tensors == 0 then
            look_at_angles(r, report)
            look_at_moves(r)
        end
        look_at_confidence(r)
        local others = T > 1 and (sum - r.norm) / (T - 1) or r.norm
        advise(r, r == longest and T > 1 and others > 0 and r.norm > LIMITS.longer * others, others)
        report.healthy = report.healthy and #r.findings == 0
    end
    return report
end

return M
