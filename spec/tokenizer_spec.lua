-- CLIP's tokenizer: ids equal to the reference's under a tiny vocabulary of our own, which comes with the specs,
-- and under CLIP's, which does not (DISTAC_CLIP_VOCAB or DISTAC_TEST_DATA names it).
local distac = require "distac"
local helper = require "spec.helper"
local json = distac.json

local folder = "spec/golden/bpe"

-- The file or folder of CLIP's own vocabulary, nil if it is not there.
local function clip_vocabulary()
    local path = os.getenv "DISTAC_CLIP_VOCAB"
    local data = os.getenv "DISTAC_TEST_DATA"
    path = path or data and data .. "/tokenizer"
    return path and distac.fs.kind(path) and path or nil
end

local function cases(path)
    local list = {}
    for line in io.lines(path) do
        list[#list + 1] = json.decode(line)
    end
    return list
end

local function same_ids(tokenizer, list, field)
    for _, case in ipairs(list) do
        local ids = table.concat(tokenizer:encode(case.text, { specials = false }), " ")
        assert.equal(table.concat(case[field], " "), ids, string.format("%q", case.text))
    end
end

local function fails(code, text, f, ...)
    local ok, err = pcall(f, ...)
    assert.is_false(ok)
    assert.equal(code, err.code, err.message)
    assert.truthy(err.message:find(text, 1, true), err.message .. " lacks " .. text)
end

describe("The tokenizer", function()
    local goldens = cases "spec/golden/tokens.jsonl"
    local tiny = distac.tokenizer(folder)

    it("gives the reference's ids under a tiny vocabulary", function()
        assert.is_true(#goldens >= 200)
        same_ids(tiny, goldens, "tiny")
    end)

    it("reads both file formats, each by several names", function()
        for _, name in ipairs { "tiny_vocab.txt.gz", "vocab.json", "merges.txt" } do
            local other = distac.tokenizer(folder .. "/" .. name)
            assert.equal(tiny:hash(), other:hash())
            assert.equal(634, other:size())
        end
        local start, stop = tiny:specials()
        assert.equal(632, start)
        assert.equal(633, stop)
        assert.equal("Tokenizer of 634 symbols", tostring(tiny))
    end)

    it("gives the texts back that the reference does", function()
        local seen = 0
        for _, case in ipairs(goldens) do
            if case.back then
                seen = seen + 1
                assert.equal(case.back, tiny:decode(case.tiny))
            end
        end
        assert.is_true(seen >= 200)
        assert.equal("<|startoftext|>a <|endoftext|>", tiny:decode { 632, 320, 633 })
        fails("EINVAL", "id 634 at index 1", tiny.decode, tiny, { 0, 634 })
    end)

    it("gives the reference's ids under CLIP's vocabulary", function()
        local path = clip_vocabulary()
        if not path then
            pending "neither DISTAC_CLIP_VOCAB nor DISTAC_TEST_DATA names CLIP's vocabulary"
            return
        end
        local clip = distac.tokenizer(path)
        assert.equal(49408, clip:size())
        same_ids(clip, goldens, "clip")
        assert.equal("49406 320 1125 539 320 1929 269 49407", table.concat(clip:encode "a photo of a dog.", " "))
        local more = (os.getenv "DISTAC_TEST_DATA" or "") .. "/tokenizer/golden_tokens.jsonl"
        if distac.fs.kind(more) == "file" then
            local list = cases(more)
            assert.is_true(#list > 1000)
            same_ids(clip, list, "ids")
        end
    end)

    it("makes rows with start, end and zeros", function()
        local ids = tiny:encode("a cat", { specials = false })
        local rows = tiny:rows({ "a cat", "" }, { length = #ids + 3 })
        assert.same({ 2, #ids + 3 }, rows:shape())
        local values = rows:table()
        assert.equal("632 " .. table.concat(ids, " ") .. " 633 0", table.concat(values[1], " "))
        assert.equal(633, values[2][2])
        assert.equal(0, values[2][3])
        assert.same({ 1, 77 }, tiny:rows("a cat"):shape())
        -- exactly full, and one too many
        assert.equal(633, tiny:rows("a cat", { length = #ids + 2 }):table()[1][#ids + 2])
        fails("EINVAL", "a text needs " .. #ids + 2 .. " positions, there are " .. #ids + 1 .. ": 'a cat'",
            tiny.rows, tiny, "a cat", { length = #ids + 1 })
        local cut = tiny:rows("a cat", { length = #ids + 1, truncate = true }):table()[1]
        assert.equal(#ids + 1, #cut)
        assert.equal(633, cut[#cut])
        assert.equal(ids[#ids - 1], cut[#cut - 1])
    end)

    it("puts start and end around a text, as the text encoder wants it", function()
        local start, stop = tiny:specials()
        local ids, bare = tiny:encode "a photo", tiny:encode("a photo", { specials = false })
        assert.equal(#bare + 2, #ids)
        assert.equal(start, ids[1])
        assert.equal(stop, ids[#ids])
        assert.same(bare, { (table.unpack or unpack)(ids, 2, #ids - 1) })
        assert.same({ start, stop }, tiny:encode "")
        local row = tiny:rows("a photo", { length = #ids + 2 }):table()[1]
        for i = 1, #ids + 2 do assert.equal(ids[i] or 0, row[i]) end
    end)

    it("refuses what is no UTF-8, by offset", function()
        for bytes, offset in pairs { ["a\255"] = 1, ["\192\128"] = 0, ["ab\237\160\128"] = 2,
            ["\244\144\128\128"] = 0,
            ["\226\130"] = 0, ["é\128"] = 2 } do
            fails("EINVAL", "offset " .. offset, tiny.encode, tiny, bytes)
        end
    end)

    it("takes texts of megabytes in time that grows little faster than they", function()
        local function seconds(n)
            local text = ("ab"):rep(n / 2)
            local start = os.clock()
            local ids = tiny:encode(text)
            assert.is_true(#ids > n / 4)
            return os.clock() - start
        end
        seconds(20000)
        local small, large = seconds(20000), seconds(640000)
        -- 32 times as long: a quadratic way would take 1024 times as long
        assert.is_true(large < 250 * small + 0.5, large .. " against " .. small)
        fails("EINVAL", "more than 16 MiB", tiny.encode, tiny, ("a"):rep(2 ^ 24 + 1))
    end)
end)

describe("Damaged vocabularies", function()
    local dir = helper.path "vocabularies"
    distac.fs.make(dir)
    local function read(name)
        local file = assert(io.open(folder .. "/" .. name, "rb"))
        local text = file:read "*a"
        file:close()
        return text
    end
    local function write(name, text)
        local file = assert(io.open(dir .. "/" .. name, "wb"))
        file:write(text)
        file:close()
        return dir .. "/" .. name
    end
    local merges, vocab = read "merges.txt", read "vocab.json"
    local function refused(text, json_text, merges_text)
        write("vocab.json", json_text or vocab)
        write("merges.txt", merges_text or merges)
        fails("EFORMAT", text, distac.tokenizer, dir)
    end

    it("are refused by line and rule", function()
        refused("line 1: wanted a header", nil, merges:gsub("#version", "#v"))
        refused("the file is empty", nil, "")
        local second = merges:match "\n([^\n]*)\n"
        refused("line 2: wanted two symbols", nil, (merges:gsub(second:gsub("%p", "%%%0"), second:gsub(" ", ""),
            1)))
        refused("line 122: the merge of line 2 again", nil, merges .. second .. "\n")
        refused("line 122: wanted two symbols", nil, merges .. "\na b\n")
        refused("line 122: wanted two symbols", nil, merges .. "a b c\n")
        refused("line 122: a symbol holds something that stands for no byte", nil, merges .. "a \t\n")
        refused("line 122: a symbol holds something that stands for no byte", nil, merges .. "a \255\n")
        refused("line 122: 'zz' is no symbol", nil, merges .. "zz z\n")
        refused("line 122: 'zq' is no symbol", nil, merges .. "z q\n")
        refused("line 122: a symbol is too long", nil, merges .. ("a"):rep(2000) .. " b\n")
    end)

    it("are refused by what their JSON lacks", function()
        refused("vocab.json, byte", vocab:sub(1, -5))
        refused("wanted an object", "[1]")
        refused("wanted an object", "{}")
        refused("have the same id", (vocab:gsub('"a":64', '"a":65')))
        refused("has no id from 0 to 633", (vocab:gsub('"a":64', '"a":-1')))
        refused("has no id from 0 to 633", (vocab:gsub('"a":64', '"a":634')))
        refused("has no id from 0 to 633", (vocab:gsub('"a":64', '"a":"64"')))
        refused("twice", (vocab:gsub('"a":64', '"b":64')))
        refused("no symbol 'a', which stands for byte 97", (vocab:gsub('"a":64', '"aaaa":64')))
        refused("has no '<|endoftext|>'", (vocab:gsub("<|endoftext|>", "<|end|>")))
    end)

    it("are refused when their gzip stream is cut or unpacks to too much", function()
        local whole = read "tiny_vocab.txt.gz"
        fails("EFORMAT", "cut", distac.tokenizer, write("cut.gz", whole:sub(1, -20)))
        fails("EFORMAT", "broken gzip stream", distac.tokenizer,
            write("bad.gz", whole:sub(1, 40) .. "\255\255\255\255" .. whole:sub(45)))
        assert(os.execute("head -c 100000000 /dev/zero | gzip -9 > '" .. dir .. "/bomb.gz'"))
        fails("EFORMAT", "unpacks to more than 32 MiB", distac.tokenizer, dir .. "/bomb.gz")
    end)

    it("are refused when they are not there", function()
        local empty = dir .. "/empty"
        distac.fs.make(empty)
        fails("ENOTFOUND", "holds neither", distac.tokenizer, empty)
        fails("ENOTFOUND", "cannot open", distac.tokenizer, dir .. "/nothing.txt.gz")
        os.remove(dir .. "/merges.txt")
        fails("ENOTFOUND", "both vocab.json and merges.txt", distac.tokenizer, dir .. "/vocab.json")
    end)

    it("with a file that numbers its own symbols need no JSON", function()
        local own = distac.tokenizer(write("tiny.txt", '"tiny.txt' .. merges))
        assert.equal(distac.tokenizer(folder):hash(), own:hash())
        assert.equal(own:hash(), distac.tokenizer(write("crlf.txt", (merges:gsub("\n", "\r\n")))):hash())
    end)
end)
