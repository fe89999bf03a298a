-- distac.report_charts: the charts of a run: merge accuracy, norms and entropies, distillation curves, accuracy
-- over kappa, reliability and calibration, lambda curves.

local charts = {}

local nan = 0 / 0
local function engine() return require "distac" end
local function number(v) return type(v) == "number" and v or nan end

local function merge_bars(results, report)
    local rows = report.rows(results)
    if #rows == 0 or not results.zero_shot.mean then return nil end
    local p = engine().plot { title = "Accuracy of merged models (mean over tasks)", y_label = "accuracy" }
    local states = { { "merged", results.conditioned and "as they are" or "merged" }, { "scaled", "scaled only" },
                     { "conditioned", "with DisTaC" } }
    for _, row in ipairs(rows) do p:category(row.title) end
    for _, state in ipairs(states) do
        local values, any = {}, false
        for i, row in ipairs(rows) do
            values[i] = number(row[state[1]] and row[state[1]].mean_accuracy)
            any = any or row[state[1]] ~= nil
        end
        if any then p:bars { label = state[2], values = values } end
    end
    p:level("zero-shot", results.zero_shot.mean)
    if results.individual.mean then p:level("individual", results.individual.mean) end
    p:range(0, 1)
    return p
end

-- Where every variant distils one task, each task is shown as it is in its own turn, not as a mean over turns.
local function own_turns(results, field)
    local before, after, turns = {}, {}, 0
    for _, variant in ipairs(results.variants or {}) do
        local distilled
        for _, task in ipairs(results.tasks) do
            if ((variant.conditioned or {}).distilled or {})[task] then
                if distilled then return nil end
                distilled = task
            end
        end
        if not distilled then return nil end
        before[distilled], after[distilled] = variant.individual[field][distilled],
            variant.conditioned[field][distilled]
        turns = turns + 1
    end
    if turns > 0 then return before, after end
end

local function task_bars(results, field, title, label)
    local before, after = own_turns(results, field)
    if not before then before, after = results.individual[field], (results.conditioned or {})[field] end
    if not before or next(before) == nil then return nil end
    local p = engine().plot { title = title, y_label = label }
    local first, second = {}, {}
    for i, task in ipairs(results.tasks) do
        p:category(task)
        first[i] = number(before[task])
        second[i] = number(after and after[task])
    end
    p:bars { label = after and "before" or "sources", values = first }
    if after then p:bars { label = "conditioned", values = second } end
    p:range(0, nil)
    return p
end

-- Mean over tasks of a field of the distillation curves.
local function curve_chart(results, fields, title, label, log_y)
    local curves = results.conditioned and results.conditioned.curves
    if type(curves) ~= "table" then return nil end
    local p, any = engine().plot { title = title, x_label = "step", y_label = label, log_y = log_y }, false
    for _, field in ipairs(fields) do
        local sums, counts, steps = {}, {}, {}
        for _, task in ipairs(results.tasks) do
            for _, point in ipairs(type(curves[task]) == "table" and curves[task] or {}) do
                if type(point[field[1]]) == "number" then
                    if not sums[point.step] then steps[#steps + 1] = point.step end
                    sums[point.step] = (sums[point.step] or 0) + point[field[1]]
                    counts[point.step] = (counts[point.step] or 0) + 1
                end
            end
        end
        table.sort(steps)
        local x, y = {}, {}
        for i, step in ipairs(steps) do x[i], y[i] = step, sums[step] / counts[step] end
        if #x > 0 then
            any = true
            p:line { label = field[2], x = x, y = y, style = "points" }
        end
    end
    return any and p or nil
end

local function scaling_chart(results)
    if type(results.scaling) ~= "table" or #results.scaling == 0 then return nil end
    local p = engine().plot { title = "Accuracy of base + kappa tau", x_label = "kappa", y_label = "accuracy" }
    local x, mean = {}, {}
    for i, point in ipairs(results.scaling) do x[i], mean[i] = point.kappa, number(point.mean) end
    if results.variants then
        for _, variant in ipairs(results.variants) do
            local y = {}
            for i, point in ipairs(variant.scaling or {}) do y[i] = number(point.mean) end
            if #y == #x then p:line { label = variant.name .. " (mean over tasks)", x = x, y = y,
                style = "points" } end
        end
    else
        for _, task in ipairs(results.tasks) do
            local y = {}
            for i, point in ipairs(results.scaling) do y[i] = number(point.accuracy[task]) end
            p:line { label = task, x = x, y = y }
        end
        p:line { label = "mean", x = x, y = mean, style = "points" }
    end
    if results.zero_shot.mean then p:level("zero-shot", results.zero_shot.mean) end
    return p
end

local function lambda_chart(results)
    local p = engine().plot { title = "Lambda search on validation data", x_label = "lambda",
                              y_label = "mean normalised accuracy" }
    local any = false
    local report = require "distac.report"
    local function add(merge, style, ending)
        local x, y = {}, {}
        for _, point in ipairs(merge and merge.curve or {}) do
            if type(point.score) == "number" then x[#x + 1], y[#y + 1] = point.lambda, point.score end
        end
        if #x > 1 then
            any = true
            p:line { label = report.title(merge.method) .. ending, x = x, y = y, style = style }
        end
    end
    -- One colour a method: dashed as it is, with points where it was conditioned.
    local order, methods = {}, {}
    for _, merge in ipairs(results.merges) do
        local of = methods[merge.method]
        if not of then
            of = {}
            methods[merge.method], order[#order + 1] = of, of
        end
        of[merge.conditioned and "conditioned" or merge.scaled and "scaled" or "plain"] = merge
    end
    for _, of in ipairs(order) do
        add(of.scaled, "line", " scaled")
        add(of.plain, of.conditioned and "before" or "line", "")
        add(of.conditioned, "points", " + DisTaC")
    end
    return any and p or nil
end

-- Bin-wise reliability of several tasks together. Bins with less than a thousandth of the images say nothing.
local function pooled(results, part)
    local list, images = {}, 0
    for _, task in ipairs(results.tasks) do
        for b, bin in ipairs((part.reliability or {})[task] or {}) do
            local sum = list[b] or { count = 0, confidence = 0, accuracy = 0 }
            if bin.count > 0 then
                images = images + bin.count
                sum.count = sum.count + bin.count
                sum.confidence = sum.confidence + bin.count * bin.confidence
                sum.accuracy = sum.accuracy + bin.count * bin.accuracy
            end
            list[b] = sum
        end
    end
    local x, y = {}, {}
    for _, bin in ipairs(list) do
        if bin.count > 0 and bin.count >= images / 1000 then
            x[#x + 1], y[#y + 1] = bin.confidence / bin.count, bin.accuracy / bin.count
        end
    end
    return x, y
end

local function reliability_chart(results)
    local p = engine().plot { title = "Reliability of the single-task models", x_label = "confidence",
        y_label = "accuracy" }
    p:line { label = "perfect", x = { 0, 1 }, y = { 0, 1 }, style = "dashed" }
    local any = false
    local function add(label, part)
        if not part then return end
        local x, y = pooled(results, part)
        if #x > 0 then
            any = true
            p:line { label = label, x = x, y = y, style = "points" }
        end
    end
    if results.variants and #results.variants <= 6 then
        for _, variant in ipairs(results.variants) do add(variant.name, variant.individual) end
    else
        add("sources", results.individual)
        add("conditioned", results.conditioned)
    end
    p:range(0, 1)
    return any and p or nil
end

local function mean_of(results, values)
    local sum, n = 0, 0
    for _, task in ipairs(results.tasks) do
        if type((values or {})[task]) == "number" then sum, n = sum + values[task], n + 1 end
    end
    return n > 0 and sum / n or nan
end

-- One group of bars per variant: merged accuracies and the sources' calibration error.
local function variant_bars(results, report)
    if not results.variants then return nil end
    local methods = report.rows(results)
    local merged = #methods > 0
    local p = engine().plot { title = merged and "Merged accuracy by variant" or "Calibration by variant",
                              y_label = merged and "accuracy, ECE" or "ECE" }
    for _, variant in ipairs(results.variants) do p:category(variant.name) end
    for m, row in ipairs(methods) do
        local values = {}
        for i, variant in ipairs(results.variants) do
            local here = report.rows(variant)[m]
            values[i] = number(here and here.merged and here.merged.mean_accuracy)
        end
        p:bars { label = row.title, values = values }
    end
    local ece = {}
    for i, variant in ipairs(results.variants) do ece[i] = number(mean_of(results, variant.individual.ece)) end
    p:bars { label = "ECE of the sources", values = ece }
    p:range(0, merged and 1 or nil)
    return p
end

-- Draws what the results can show; returns the list of { file =, text = }. Pictures are drawn anew only if the
-- results changed or the file is missing.
function charts.draw(results, folder, changed)
    local report = require "distac.report"
    local list = {
        { "merge.png", "Accuracy of the merged models", function() return merge_bars(results, report) end },
        { "norms.png", "Norms of the task vectors", function()
            return task_bars(results, "norm", "Norms of the task vectors", "norm") end },
        { "entropies.png", "Entropy of the single-task models", function()
            return task_bars(results, "entropy", "Prediction entropy", "entropy (nats)") end },
        { "distillation.png", "Distillation: what the student keeps", function()
            return curve_chart(results, { { "accuracy_ratio", "accuracy / teacher's" },
                { "norm_ratio", "norm / norm at the start" } }, "Distillation (mean over tasks)", "ratio") end },
        { "distillation_loss.png", "Distillation: loss and entropy", function()
            return curve_chart(results, { { "loss", "KD loss" }, { "entropy", "entropy" } },
                "Distillation (mean over tasks)", "nats (logarithmic)", true) end },
        { "scaling.png", "Accuracy over kappa", function() return scaling_chart(results) end },
        { "lambda.png", "Lambda search", function() return lambda_chart(results) end },
        { "reliability.png", "Reliability", function() return reliability_chart(results) end },
        { "variants.png", "Accuracy and calibration by variant", function()
            return variant_bars(results, report) end },
    }
    local out = {}
    for _, entry in ipairs(list) do
        local path = folder .. "/" .. entry[1]
        local plot = entry[3]()
        if plot then
            if changed or not engine().fs.kind(path) then plot:save(path) end
            out[#out + 1] = { file = entry[1], text = entry[2] }
        end
    end
    return out
end

return charts
