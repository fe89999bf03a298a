-- distac data check and distac data split: are the data sets whole, and a split for the one that has none.

local common = require "distac.commands.common"
local json = require "distac.json"

local SPLITS = { "train", "validation", "test" }

local function engine() return require "distac" end

-- What went wrong, without the function that noticed it.
local function text_of(err)
    local text = type(err) == "table" and err.message or tostring(err)
    return (text:gsub("^distac_[%l_]+: ", ""):gsub("^verify: ", ""):gsub("^open: ", ""))
end

-- Names of the classes of which `counts` (by class number from 0) has no image.
local function without_images(ds, counts)
    local list = json.array {}
    for i, name in ipairs(ds:class_names()) do
        if not counts[i - 1] then list[#list + 1] = name end
    end
    return list
end

local function count_labels(ds, counts)
    if ds:size() == 0 then return counts end
    for _, label in ipairs(ds:labels():table()) do counts[label] = (counts[label] or 0) + 1 end
    return counts
end

local function problem(entry, format, ...)
    entry.problems[#entry.problems + 1] = string.format(format, ...)
end

local function shown(list)
    local text = table.concat(list, ", ", 1, math.min(#list, 10))
    return #list > 10 and text .. ", ..." or text
end

-- Reads the files of one data set; what cannot be read goes into entry.
local function read_files(entry, ds, decode)
    local bad, n = ds:verify { decode = decode, most = math.max(0, 10 - #entry.unreadable_files) }
    entry.unreadable = entry.unreadable + n
    for _, what in ipairs(bad) do entry.unreadable_files[#entry.unreadable_files + 1] = text_of(what) end
end

local function new_entry(name)
    return { name = name, state = "ok", splits = {}, missing = {}, problems = json.array {}, unreadable = 0,
             unreadable_files = json.array {} }
end

local function finish(entry)
    if entry.unreadable > 0 then
        problem(entry, "%.0f unreadable file%s", entry.unreadable, entry.unreadable == 1 and "" or "s")
    end
    if #entry.problems > 0 then entry.state = "wrong" end
    return entry
end

-- One of the eight tasks below root.
local function check_task(root, name, decode)
    local entry, info, absent = new_entry(name), engine().dataset.task_info(name), 0
    local counts, classes, elsewhere = {}, nil, 0
    for _, split in ipairs(SPLITS) do
        local part = { expected = info[split], found = 0 }
        entry.splits[split] = part
        local ok, ds = pcall(engine().dataset.task, root, name, split, { size = 32 })
        if ok then
            part.found, classes = ds:size(), ds
            counts[split] = count_labels(ds, {})
            if part.found ~= part.expected then
                problem(entry, "%s: %.0f images, published are %.0f", split, part.found, part.expected)
            end
            read_files(entry, ds, decode)
        elseif ds.code == "ENOTFOUND" then
            absent = absent + 1
            entry.looked_for = ds.message:match("looked for (.*)$")
            problem(entry, "%s: not there", split)
        else
            problem(entry, "%s: %s", split, text_of(ds))
            -- Folders of another set, unpacked without a folder of its own.
            local what = text_of(ds)
            local at = what:match "^(.*)/%l+: '.*' is none of the"
                or what:match "^(.*)/%l+: '.*' is no class folder"
            if at and at == root:gsub("(.)/+$", "%1") then elsewhere = elsewhere + 1 end
        end
    end
    if absent + elsewhere == #SPLITS then
        entry.state, entry.problems = "absent", json.array {}
        return entry
    end
    if classes and classes:classes() ~= info.classes then
        problem(entry, "%.0f classes, published are %.0f", classes:classes(), info.classes)
    end
    for _, split in ipairs { "train", "test" } do
        local missing = counts[split] and without_images(classes, counts[split])
        entry.missing[split] = missing
        if missing and #missing > 0 then
            problem(entry, "%s: no image of %.0f class%s: %s", split, #missing, #missing == 1 and "" or "es",
                shown(missing))
        end
    end
    table.sort(entry.problems)
    return finish(entry)
end

-- Any folder of class folders, or one of train, val(idation) and test folders of such.
local function check_folder(root, decode)
    local fs, parts = engine().fs, {}
    for _, pair in ipairs { { "train", "train" }, { "val", "validation" }, { "validation", "validation" },
        { "valid", "validation" }, { "test", "test" } } do
        if fs.kind(root .. "/" .. pair[1]) == "folder" then parts[#parts + 1] = pair end
    end
    if #parts == 0 then parts[1] = { nil, "all" } end
    local entry, names, first = new_entry("folder"), nil, nil
    for _, pair in ipairs(parts) do
        local path = pair[1] and root .. "/" .. pair[1] or root
        local ok, ds = pcall(engine().dataset.folder, path, { size = 32, lazy = true })
        if not ok then
            problem(entry, "%s: %s", pair[2], text_of(ds))
        else
            entry.splits[pair[2]] = { found = ds:size() }
            entry.classes = math.max(entry.classes or 0, ds:classes())
            entry.flat = entry.flat or not ds:labelled()
            read_files(entry, ds, decode)
            local here = table.concat(ds:class_names(), "\n")
            if names and here ~= names then
                problem(entry, "%s and %s have other class folders", first, pair[2])
            end
            names, first = names or here, first or pair[2]
        end
    end
    return finish(entry)
end

local function describe(entry)
    local cells = { string.format("%-9s", entry.name) }
    for _, split in ipairs { "train", "validation", "test", "all" } do
        local part = entry.splits[split]
        if part then
            cells[#cells + 1] = split .. " " .. json.number(part.found)
                .. (part.expected and "/" .. json.number(part.expected) or "")
        end
    end
    if entry.state == "absent" then cells = { cells[1] } end
    if entry.flat then
        cells[#cells + 1] = "no class folders: images without labels"
    elseif entry.classes then
        cells[#cells + 1] = string.format("%.0f class%s", entry.classes, entry.classes == 1 and "" or "es")
    end
    cells[#cells + 1] = entry.state
    local lines = { table.concat(cells, "  ") }
    for _, what in ipairs(entry.problems) do lines[#lines + 1] = "    " .. what end
    for _, what in ipairs(entry.unreadable_files) do lines[#lines + 1] = "    unreadable: " .. what end
    return table.concat(lines, "\n")
end

local function check(o)
    local root = common.folder(o.args[2], "DIR")
    local names, list, found, ok, lines = engine().dataset.tasks(), json.array {}, false, true, {}
    if o.set then names = { common.choice("--set", o.set, names) } end
    for _, name in ipairs(names) do
        list[#list + 1] = check_task(root, name, o.decode)
        found = found or list[#list].state ~= "absent"
    end
    if not found and not o.set then
        local folder = check_folder(root, o.decode)
        if next(folder.splits) then list = json.array { folder } end
    end
    for i, entry in ipairs(list) do
        ok = ok and entry.state ~= "wrong"
        lines[i] = describe(entry)
    end
    if not found then
        local roots = require "distac.roots"
        local near = roots.near(root)
        if list[1].state == "absent" then ok = false end
        if near then
            lines[#lines + 1] = "the data sets are in '" .. near .. "': distac data check " .. near
        elseif not ok and not o.set then
            lines[#lines + 1] = "'" .. root .. "' holds none of " .. table.concat(roots.names, ", ")
        end
    end
    return { path = root, ok = ok, sets = list }, table.concat(lines, "\n"), ok and 0 or 1
end

-- Lists eurosat-{train,val,test}.txt: of every class a tenth for validation, a tenth for the test, drawn by the
-- permutation of the published validation splits.
local function split(o)
    local fs = engine().fs
    local home = common.folder(o.args[2], "DIR")
    local images
    for _, name in ipairs { "2750", "EuroSAT/2750", "EuroSAT_RGB" } do
        if not images and fs.kind(home .. "/" .. name) == "folder" then images = home .. "/" .. name end
    end
    if not images then common.usage("'" .. home .. "' holds no EuroSAT archive: wanted 2750/CLASS/*.jpg in it") end
    local parts = { train = {}, val = {}, test = {} }
    for _, class in ipairs(fs.list(images)) do
        if fs.kind(images .. "/" .. class) == "folder" then
            local files = {}
            for _, name in ipairs(fs.list(images .. "/" .. class)) do
                if name:sub(1, 1) ~= "." then files[#files + 1] = name end
            end
            local order, tenth = engine().dataset.randperm(#files, o.seed or 0), math.floor(#files / 10)
            for i, k in ipairs(order) do
                local part = i <= tenth and parts.val or i <= 2 * tenth and parts.test or parts.train
                part[#part + 1] = files[k]
            end
        end
    end
    local out, lines = {}, {}
    for _, name in ipairs { "train", "val", "test" } do
        local path = home .. "/eurosat-" .. name .. ".txt"
        if fs.kind(path) and not o.force then common.usage("'" .. path .. "' exists; --force overwrites it") end
        out[name] = #parts[name]
    end
    for _, name in ipairs { "train", "val", "test" } do
        local path = home .. "/eurosat-" .. name .. ".txt"
        table.sort(parts[name])
        fs.write(path, table.concat(parts[name], "\n") .. "\n")
        lines[#lines + 1] = path .. ": " .. json.number(out[name]) .. " images"
    end
    return out, table.concat(lines, "\n")
end

return { data = {
    usage = "check DIR [--set NAME] [--decode] | split DIR",
    text = "are the data sets below DIR whole; a split for EuroSAT, which has none",
    example = "check data",
    options = {
        { "set", "text", "NAME", "only this one: cars, dtd, eurosat, gtsrb, mnist, resisc45, sun397 or svhn" },
        { "decode", "flag", nil, "decode every image (default: heads and ends of the files)" },
        { "force", "flag", nil, "split: overwrite lists" },
    },
    run = function(o)
        local what = o.args[1]
        if what ~= "check" and what ~= "split" then
            common.usage("wanted data check DIR or data split DIR, got '" .. (what or "nothing") .. "'")
        end
        if #o.args ~= 2 then common.usage("wanted one folder, got " .. #o.args - 1) end
        return (what == "check" and check or split)(o)
    end,
} }
