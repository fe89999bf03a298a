-- distac.report: what a run leaves behind: results.json, report.md, the resolved recipe, the table at the end.
-- The charts are in report_charts.

local json = require "distac.json"
local settings = require "distac.settings"

local report = {}

local function engine() return require "distac" end

local order = { "recipe", "suite", "seed", "device", "engine", "tasks", "name", "zero_shot", "individual",
                "mtl", "conditioned", "merges", "scaling", "variants", "models", "timing" }
local merge_order = { "method", "params", "conditioned", "scaled", "lambda", "mean_accuracy",
                      "mean_normalized_accuracy", "distilled_accuracy", "accuracy", "entropy", "ece", "curve" }
local part_order = { "accuracy", "mean", "entropy", "norm", "kappa", "temperature" }

-- The results with their keys in the documented order.
function report.ordered(results)
    local out = json.ordered(order, {})
    for key, value in pairs(results) do out[key] = value end
    for _, name in ipairs { "zero_shot", "individual", "mtl", "conditioned" } do
        if out[name] then
            local part = json.ordered(part_order, {})
            for key, value in pairs(out[name]) do part[key] = value end
            out[name] = part
        end
    end
    out.merges = json.array {}
    for i, merge in ipairs(results.merges or {}) do
        local entry = json.ordered(merge_order, {})
        for key, value in pairs(merge) do entry[key] = value end
        out.merges[i] = entry
    end
    if results.variants then
        out.variants = json.array {}
        for i, variant in ipairs(results.variants) do out.variants[i] = report.ordered(variant) end
    end
    return out
end

-- results.json as text: the results of a run with their keys in order.
function report.json(results)
    return json.encode(report.ordered(results), { indent = 2, nonfinite = "null" }) .. "\n"
end

local function percent(v) return v and string.format("%.1f", 100 * v) or "-" end

local titles = { average = "Average", task_arithmetic = "Task arithmetic", ties = "TIES",
                 consensus_ta = "Consensus TA", tsvm = "TSVM" }
-- A method's name as reports show it.
function report.title(method)
    local base, rest = method:match("^(.-)(%-%d+)$")
    return (titles[base or method] or base or method) .. (rest or "")
end

-- Rows of the table: { { title, { state = merge entry } } } with states "merged", "scaled", "conditioned".
function report.rows(results)
    local rows, by_name = {}, {}
    for _, merge in ipairs(results.merges or {}) do
        local row = by_name[merge.method]
        if not row then
            row = { title = report.title(merge.method), method = merge.method }
            rows[#rows + 1] = row
            by_name[merge.method] = row
        end
        row[merge.conditioned and "conditioned" or merge.scaled and "scaled" or "merged"] = merge
    end
    return rows
end

local function cell(merge)
    if not merge then return "-" end
    return percent(merge.mean_accuracy) .. " (" .. percent(merge.mean_normalized_accuracy) .. ")"
end

local function columns(results)
    local list, rows = { { "merged", "merged" } }, report.rows(results)
    for _, row in ipairs(rows) do
        if row.scaled and #list == 1 then list[2] = { "scaled", "scaled only" } end
    end
    if results.conditioned then list[#list + 1] = { "conditioned", "+ DisTaC" } end
    return list, rows
end

-- The joint model as a row of the table.
local function joint(results)
    return { mean_accuracy = results.mtl.mean, mean_normalized_accuracy = results.mtl.mean_normalized_accuracy }
end

-- The table that a run prints at its end: methods x merged, + DisTaC; absolute % (normalised %).
function report.table(results)
    local cols, rows = columns(results)
    local lines = {}
    local function line(first, cells)
        local text = string.format("%-18s", first)
        for _, c in ipairs(cells) do text = text .. string.format("  %14s", c) end
        lines[#lines + 1] = (text:gsub("%s+$", ""))
    end
    lines[#lines + 1] = string.format("%s on %s: mean test accuracy over %d tasks, %% (normalised %%)",
        results.recipe, results.suite, #results.tasks)
    local head = {}
    for i, col in ipairs(cols) do head[i] = col[2] end
    line("", head)
    line("Zero-shot", { percent(results.zero_shot.mean) })
    local individual = { percent(results.individual.mean) }
    for i = 2, #cols do individual[i] = cols[i][1] == "conditioned" and percent(results.conditioned.mean) or "" end
    line("Individual", individual)
    if results.mtl then line("MTL", { cell(joint(results)) }) end
    for _, row in ipairs(rows) do
        local cells = {}
        for i, col in ipairs(cols) do cells[i] = cell(row[col[1]]) end
        line(row.title, cells)
    end
    return table.concat(lines, "\n")
end

local function markdown_table(head, rows)
    local lines = { "| " .. table.concat(head, " | ") .. " |", "|" .. (" --- |"):rep(#head) }
    for _, row in ipairs(rows) do lines[#lines + 1] = "| " .. table.concat(row, " | ") .. " |" end
    return table.concat(lines, "\n")
end

local function merge_section(results, out)
    local cols, rows = columns(results)
    if #rows == 0 then return end
    local head, body = { "Method" }, {}
    for _, col in ipairs(cols) do
        head[#head + 1] = col[2]
        head[#head + 1] = "λ"
    end
    -- The rows above the merges, as the paper's first table has them: only the sources differ between columns.
    local function reference(title, of)
        local line = { title }
        for _, col in ipairs(cols) do
            line[#line + 1] = of(col[1]) or "-"
            line[#line + 1] = "-"
        end
        body[#body + 1] = line
    end
    reference("Zero-shot", function(state) return state == "merged" and percent(results.zero_shot.mean) end)
    reference("Individual", function(state)
        return state == "merged" and percent(results.individual.mean)
            or state == "conditioned" and percent(results.conditioned.mean)
    end)
    if results.mtl then
        reference("MTL", function(state) return state == "merged" and cell(joint(results)) end)
    end
    for _, row in ipairs(rows) do
        local line = { row.title }
        for _, col in ipairs(cols) do
            local merge = row[col[1]]
            line[#line + 1] = cell(merge)
            line[#line + 1] = merge and string.format("%.3g", merge.lambda) or "-"
        end
        body[#body + 1] = line
    end
    out[#out + 1] = "## Merged models\n\nMean test accuracy over the tasks in %, in brackets the mean of accuracy "
        .. "over the single-task model's accuracy. λ was chosen on validation data; test data was read once."
        .. (results.mtl and " MTL: one model trained on all tasks, a batch of each in turn." or "") .. "\n"
    out[#out + 1] = markdown_table(head, body) .. "\n"
    local own, other = {}, false -- the same figures again where all tasks are conditioned
    for _, row in ipairs(rows) do
        local line, any = { row.title }, false
        for _, col in ipairs(cols) do
            local merge = row[col[1]]
            any = any or (merge and merge.distilled_accuracy ~= nil)
            other = other or (merge and merge.distilled_accuracy ~= merge.mean_accuracy)
            line[#line + 1] = percent(merge and merge.distilled_accuracy)
        end
        if any then own[#own + 1] = line end
    end
    if #own > 0 and other then
        local names = { "Method" }
        for _, col in ipairs(cols) do names[#names + 1] = col[2] end
        out[#out + 1] = "Accuracy in % on the conditioned tasks alone:\n"
        out[#out + 1] = markdown_table(names, own) .. "\n"
    end
end

local function task_section(results, out)
    local head = { "Task", "zero-shot", "individual", "entropy", "norm" }
    local after = results.conditioned
    if results.mtl then head[#head + 1] = "MTL" end
    if after then
        for _, name in ipairs { "conditioned", "entropy", "norm", "κ" } do head[#head + 1] = name end
    end
    local function three(v) return type(v) == "number" and string.format("%.3f", v) or "-" end
    local rows = {}
    for i, task in ipairs(results.tasks) do
        local of = results.individual
        local row = { task, percent(results.zero_shot.accuracy[task]), percent(of.accuracy[task]),
                      three(of.entropy[task]), three(of.norm[task]) }
        if results.mtl then row[#row + 1] = percent(results.mtl.accuracy[task]) end
        if after then
            row[#row + 1] = percent(after.accuracy[task])
            row[#row + 1] = three(after.entropy[task])
            row[#row + 1] = three(after.norm[task])
            row[#row + 1] = three(after.kappa[task])
        end
        rows[i] = row
    end
    out[#out + 1] = "## Tasks\n"
    out[#out + 1] = markdown_table(head, rows) .. "\n"
end

local function variants_section(results, out)
    if not results.variants then return end
    out[#out + 1] = "## Variants\n\nAll numbers above are means over these.\n"
    local rows = {}
    for _, variant in ipairs(results.variants) do
        for _, row in ipairs(report.rows(variant)) do
            rows[#rows + 1] = { variant.name, row.title, cell(row.merged), cell(row.scaled),
                                cell(row.conditioned) }
        end
    end
    out[#out + 1] = markdown_table({ "Variant", "Method", "merged", "scaled only", "+ DisTaC" }, rows) .. "\n"
end

-- report.md as text; pictures: a list of file names.
function report.markdown(results, pictures)
    local t = results.timing
    local out = { "# " .. results.recipe .. "\n",
        string.format("Suite %s, seed %s, device %s, distac %s. Seconds: fine-tuning %.1f, conditioning %.1f, "
            .. "merging %.1f, evaluation %.1f.\n", results.suite, json.number(results.seed), results.device,
            results.engine, t.finetune, t.condition, t.merge, t.evaluate) }
    merge_section(results, out)
    task_section(results, out)
    variants_section(results, out)
    if #pictures > 0 then
        out[#out + 1] = "## Charts\n"
        for _, picture in ipairs(pictures) do
            out[#out + 1] = string.format("%s\n\n![%s](%s)\n", picture.text, picture.text, picture.file)
        end
    end
    return table.concat(out, "\n")
end

-- Writes a file only when its content differs, so that a run that does nothing changes nothing.
local function write_text(path, text)
    local file = io.open(path, "rb")
    if file then
        local old = file:read("*a")
        file:close()
        if old == text then return false end
    end
    engine().fs.write(path, text)
    return true
end

-- Everything about a finished run in its folder.
function report.write(run, results)
    engine().fs.make(run.out)
    local plain = settings.plain(run.recipe.values)
    local changed = write_text(run.out .. "/results.json", report.json(results))
    write_text(run.out .. "/recipe.json", json.encode(plain, { indent = 2 }) .. "\n")
    if run.recipe.text then write_text(run.out .. "/recipe.lua", run.recipe.text) end
    local charts = require "distac.report_charts"
    local pictures = charts.draw(results, run.out, changed)
    write_text(run.out .. "/report.md", report.markdown(results, pictures))
end

return report
