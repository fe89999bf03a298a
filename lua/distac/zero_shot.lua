-- zero_shot_head: a classifier made of words. For class c and template k the text encoder gives e_k; row c of the
-- head is exp(logit_scale) times the unit mean of the unit e_k (Radford et al. 2021).
local raw = require "distac.raw"
local check = require "distac.check"
local errors = require "distac.error"
local format = require "distac.format"
local fs = require "distac.fs"
local head = require "distac.head"
local prompts = require "distac.prompts"

local M = {}

local FNAME = "distac.zero_shot_head"
local AT_ONCE = 256 -- texts, or one class's if that is more

local function strings(name, list)
    check.table(FNAME, name, list)
    if #list == 0 then
        errors.raise("EINVAL", "%s: %s is an empty list", FNAME, name)
    end
    for i, text in ipairs(list) do
        check.string(FNAME, string.format("%s[%.0f]", name, i), text)
    end
    return list
end

local function fill(template, class)
    local from, to = template:find("{}", 1, true)
    local out, at = {}, 1
    while from do
        out[#out + 1] = template:sub(at, from - 1) .. class
        at = to + 1
        from, to = template:find("{}", at, true)
    end
    return table.concat(out) .. template:sub(at)
end

-- Rows over their norms.
local function unit(t)
    return t / t:norm(2, true)
end

-- The weight [C,D] in the encoder's type.
local function weight(text, tokenizer, classes, templates)
    local length = raw.text_get_config(text).context
    local scale = raw.text_logit_scale(text)
    local group = math.max(1, math.floor(AT_ONCE / #templates))
    local rows, kind = {}, nil
    for first = 1, #classes, group do
        local texts, last = {}, math.min(first + group - 1, #classes)
        for c = first, last do
            for _, template in ipairs(templates) do
                texts[#texts + 1] = fill(template, classes[c])
            end
        end
        local features = raw.text_features(text, tokenizer:rows(texts, { length = length }))
        kind = raw.dtype_name(raw.tensor_dtype(features))
        local dim = raw.tensor_size(features, 1)
        local each = unit(features:to "f64"):reshape(last - first + 1, #templates, dim)
        rows[#rows + 1] = unit(each:mean(2)) * scale
    end
    local all = #rows == 1 and rows[1] or require("distac.tensor").cat(rows, 1)
    return all:to(kind), scale
end

local function json(list)
    return require("distac.json").encode(list)
end

-- What a head is made of; the hash of it all names the file in the cache.
local function recipe(text, tokenizer, classes, templates, dataset)
    local info = {
        ["head.classes"] = json(classes), ["head.templates"] = json(templates),
        ["head.text"] = text:hash(), ["head.tokenizer"] = tokenizer:hash(), ["head.dataset"] = dataset,
    }
    local parts = { "zero-shot head 1" }
    for _, key in ipairs { "head.classes", "head.templates", "head.text", "head.tokenizer" } do
        parts[#parts + 1] = info[key]
    end
    info["head.hash"] = fs.hash.text(table.concat(parts, "\n"))
    return info
end

-- The head in a file of the cache, nil if there is none that is whole and made of the same.
local function cached(path, info, classes)
    if not path or fs.kind(path) ~= "file" then
        return nil
    end
    local ok, found = pcall(head.load, path)
    if ok and head.metadata(found)["head.hash"] == info["head.hash"] and found:classes() == #classes then
        return found
    end
end

-- Names that the data set gives itself decide; where ours differ it is told.
local function names_of(data, ours)
    local names, notes = data:class_names(), {}
    if ours and #ours ~= #names then
        notes[1] = string.format("the data has %.0f classes, the list of names %.0f", #names, #ours)
    end
    for i, name in ipairs(names) do
        if ours and ours[i] and ours[i] ~= name then
            notes[#notes + 1] = string.format("class %.0f is %q in the data and %q in the list of names", i, name,
                ours[i])
        end
    end
    return names, notes
end

local OPTIONS = {
    text = { "text", required = true }, tokenizer = { "any", required = true }, dataset = { "string" },
    classes = { "table" }, templates = { "table" }, data = { "dataset" }, cache = { "string" },
}

-- What the options ask for: classes, templates, notes, the opened tokenizer, what the head is made of, and the
-- path of its file in the cache (nil without one).
local function wanted(options)
    local o = check.options(FNAME, options, OPTIONS)
    local set = o.dataset and prompts[o.dataset]
    local tokenizer = o.tokenizer
    if type(tokenizer) == "string" then
        tokenizer = require("distac.tokenizer").tokenizer(tokenizer)
    end
    check.handle(FNAME, "tokenizer", tokenizer, "tokenizer")
    local classes, notes = o.classes or set and set.classes, {}
    if o.data then
        classes, notes = names_of(o.data, classes)
    elseif not classes then
        errors.raise("EINVAL", "%s: wanted dataset (one of %s) or classes", FNAME,
            table.concat(prompts.names(), ", "))
    end
    strings("classes", classes)
    local templates = strings("templates", o.templates or set and set.templates or { "a photo of a {}." })
    for i, template in ipairs(templates) do
        if not template:find("{}", 1, true) then
            errors.raise("EINVAL", "%s: templates[%.0f] is %q, it has no {} for the class", FNAME, i, template)
        end
    end
    local symbols, ids = raw.tokenizer_size(tokenizer), raw.text_get_config(o.text).vocabulary
    if symbols ~= ids then
        errors.raise("EINVAL", "%s: the tokenizer has %.0f symbols, the text encoder %.0f ids", FNAME, symbols,
            ids)
    end
    local info = recipe(o.text, tokenizer, classes, templates, o.dataset)
    local path = o.cache and string.format("%s/%s-%s.safetensors", o.cache, o.dataset or "head",
        info["head.hash"]:sub(1, 32))
    return { text = o.text, tokenizer = tokenizer, classes = classes, templates = templates, notes = notes,
             info = info, cache = o.cache, path = path }
end

-- zero_shot_head{ text =, tokenizer =, dataset = "mnist" | classes = {...} [, templates = {...}] [, data =
-- Dataset]
-- [, cache = FOLDER] } -> Head, notes. dataset gives the class names and templates of distac.prompts; classes and
-- templates replace them. With data, its own class names are used, and notes (a list of texts) says where they
-- differ. templates default to "a photo of a {}.".
function M.zero_shot_head(options)
    local w = wanted(options)
    local found = cached(w.path, w.info, w.classes)
    if found then
        return found, w.notes
    end
    local matrix, scale = weight(w.text, w.tokenizer, w.classes, w.templates)
    w.info["head.logit_scale"] = format.number(scale)
    local made = head.head(matrix, { metadata = w.info })
    if w.path then
        fs.make(w.cache)
        made:save(w.path)
    end
    return made, w.notes
end

-- Is the head that zero_shot_head would give for these options in the cache?
function M.is_cached(options)
    local w = wanted(options)
    return cached(w.path, w.info, w.classes) ~= nil
end

return M
