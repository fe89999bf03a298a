-- Tokenizer: CLIP's byte-level BPE, from texts to ids and back. Ids are the vocabulary's own numbers, from 0.
local raw = require "distac.raw"
local check = require "distac.check"
local context = require "distac.context"
local tensor = require "distac.tensor"

local M = {}
local methods, meta = {}, {}

-- tokenizer(path): bpe_simple_vocab_16e6.txt.gz, vocab.json or merges.txt, or a folder with one or the other.
function M.tokenizer(path)
    return raw.tokenizer_open(context.get(), check.string("distac.tokenizer", "path", path))
end

-- Ids of a text as a list between those of start and end, of any length; encode(text, { specials = false }) leaves
-- start and end out.
function methods.encode(t, text, options)
    local o = check.options("Tokenizer:encode", options, { specials = { "boolean", default = true } })
    local ids = raw.tokenizer_encode(t, check.string("Tokenizer:encode", "text", text))
    local list = raw.tensor_numel(ids) > 0 and tensor.read(ids) or {}
    if not o.specials then
        return list
    end
    local out = { raw.tokenizer_start(t) }
    for i, id in ipairs(list) do
        out[i + 1] = id
    end
    out[#out + 1] = raw.tokenizer_end(t)
    return out
end

-- Rows [B,length] i64 for the text encoder of a text or a list of texts: start, ids, end, zeros. A text that does
-- not fit is an error unless truncate is true.
function methods.rows(t, texts, options)
    local fname = "Tokenizer:rows"
    local o = check.options(fname, options, {
        length = { "integer", min = 2, default = 77 }, truncate = { "boolean", default = false },
    })
    if type(texts) == "string" then
        texts = { texts }
    end
    check.table(fname, "texts", texts)
    local out = raw.tensor_create(context.get(), raw.I64, { #texts, o.length })
    for i, text in ipairs(texts) do
        check.string(fname, string.format("texts[%.0f]", i), text)
        local row = raw.tokenizer_row(t, text, o.length, o.truncate and 1 or 0)
        raw.tensor_copy(raw.tensor_narrow(out, 0, i - 1, 1), raw.tensor_reshape(row, { 1, o.length }))
    end
    return out
end

-- The text of a list of ids.
function methods.decode(t, ids)
    check.table("Tokenizer:decode", "ids", ids)
    for i, id in ipairs(ids) do
        check.integer("Tokenizer:decode", string.format("ids[%.0f]", i), id)
    end
    return check.strings(raw.tokenizer_decode(t, ids))[1]
end

-- Number of tokens known.
function methods.size(t)
    return raw.tokenizer_size(t)
end

-- Ids of the start and of the end of a text.
function methods.specials(t)
    return raw.tokenizer_start(t), raw.tokenizer_end(t)
end

-- SHA-256 of the vocabulary.
function methods.hash(t)
    return raw.tokenizer_hash(t)
end

function meta.__tostring(t)
    return string.format("Tokenizer of %.0f symbols", raw.tokenizer_size(t))
end

check.class("tokenizer", methods, meta)

return M
