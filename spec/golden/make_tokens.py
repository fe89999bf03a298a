#!/usr/bin/env python3
"""Makes bpe/ (a tiny vocabulary of our own in both file formats) and tokens.jsonl (texts and their ids) with
open_clip's SimpleTokenizer as the reference. Needs open_clip_torch (with regex) and Python 3.

    python3 spec/golden/make_tokens.py

Each line of tokens.jsonl has the text, its ids under the tiny vocabulary ("tiny") and under CLIP's own ("clip"),
which open_clip brings along. It differs from open_clip as it comes in two things: ftfy.fix_text is off, because it
repairs encoding mistakes that a tokenizer should not guess at, and the special texts are spelled as OpenAI's CLIP and
the transformers library spell them."""
import collections
import gzip
import json
import os
import random

import open_clip.tokenizer as reference
import regex

reference.ftfy.fix_text = lambda text: text
HERE = os.path.dirname(os.path.abspath(__file__))
SPECIALS = ["<|startoftext|>", "<|endoftext|>"]
MERGES = 120

CORPUS = """a photo of a cat. a photo of a small dog on the grass. a photo of the number seven. this is not the
photo that we wanted. a satellite photo of a lake and of the forest around it. the old car, the new car, my car!
it's hers, they're ours, we've been there, i'd go, you'll see, i'm in, don't. the texture of a woven pattern.
die straße und der fluss über dem tal. le café où nous étions. 我们的照片 東京の写真 фото кота и собаки
η φωτογραφία της πόλης τέλος 2024 1999 100 20 30 40 50 60 70 80 photophoto lalalalala banana"""

TEXTS = [
    # English, punctuation, contractions
    "", " ", "a", "A", "a photo of a cat.", "A Photo Of A Cat.", "Hello, world!", "it's", "IT'S", "It'S it's 'S",
    "they're we've i'd you'll i'm don't", "THEY'RE WE'VE I'D YOU'LL I'M DON'T", "'tis the season", "rock 'n' roll",
    "o'clock o'neill's", "''s", "'s's", "'", "''", "'re're", "'r", "'l", "'ll'd've", "don’t it’s", "x'y'z",
    "it'start", "'story 'tree 'reap 'vent 'mom 'llama 'dog", "well-known state-of-the-art", "e.g. i.e. etc.",
    "wait... what?!", "(a) [b] {c} <d>", "50% of $100 is £50 or €45", "a/b\\c|d",
    "snake_case camelCase kebab-case",
    "#hashtag @mention", "http://example.org/path?query=1&other=2#part", "me@example.org", "C++ and C#", "~`^*_+=",
    "…—–‒", "«quoted» „so“ “and” ‘so’", "a.b,c;d:e!f?g", "!!!!!!!!!!!!!!!!!!!!!", "----------", "a\"b\"c",
    "the the the the", "lalalalalalalala", "banana bananas", "photophotophoto", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "abababababababababab", "a" * 300, "photo" * 100, "supercalifragilisticexpialidocious" * 8, "l" * 77,
    # numbers
    "0", "7", "42", "2024", "3.14159", "1,000,000", "1e-5", "0x1F", "1st 2nd 3rd", "٠١٢٣٤٥٦٧٨٩", "०१२३", "½ ¼ ¾",
    "x² y³",
    "Ⅷ ⅻ", "①②③", "12ab34cd", "4'33", "１２３", "一二三", "𝟘𝟙𝟚",
    # whitespace
    "  leading", "trailing  ", "two  spaces", "tab\ttab", "line\nline", "line\r\nline", "a\u00a0b", "a\u2003b",
    "a\u3000b",
    "a\u200bb", "a\ufeffb", "\ufeffa", "a\u2028b\u2029c", "a\x0bb\x0cc", "a\x85b", "a\u1680b", "a\x1cb",
    "\x1ca\x1f", "a \x1d \x1e b",
    "\t\n\r ", "a\u202fb\u205fc", "a\u180eb", "\u00a0", "a\x00b", "\x01\x02\x7f",
    # HTML
    "&amp;", "&lt;b&gt;", "&amp;lt;", "&amp;amp;lt;", "&amp;amp;amp;", "AT&T", "a & b", "&", "&&", "&;", "&#",
    "&#;", "&#x;", "&#xg;",
    "&#65;", "&#65", "&#x41;", "&#X41", "&#x1F600;", "&#128512;", "&#0;", "&#x0;", "&#13;", "&#128;", "&#x80;",
    "&#x9f;", "&#150;",
    "&#xd800;", "&#x110000;", "&#99999999999999999999;", "&#xfdd0;", "&#1;", "&#11;", "&#127;", "&#xfffe;x",
    "&eacute;", "&eacute",
    "caf&eacute;s", "&notit;", "&notin;", "&not", "&notinx", "&ampx", "&amp;#65;", "&amp;eacute;", "&copy;&reg",
    "&nbsp;a&nbsp;",
    "&CounterClockwiseContourIntegral;", "&fjlig;", "&NotEqualTilde;", "&acE;", "&nvlt;", "&lang;x&rang;",
    "&Hat;", "&hat;",
    "&unknown;", "&unknownverylongnamethatgoesonandon;", "&gtx", "&ltx;", "&x", "&ampé", "&é;", "&quot;q&quot;",
    "&apos;s", "&#39;s",
    "it&#39;s", "&Idot;", "&Sigma;&sigma;&sigmaf;", "&#x130;", "&#931;", "&lt;|endoftext|&gt;",
    "&amp;lt;|endoftext|&amp;gt;",
    "<b>bold</b> <br/>", "<!-- note -->", "&amp&amp&amp", "&Tab;a&NewLine;b", "&ZeroWidthSpace;", "&zwj;&zwnj;",
    # letter case
    "İstanbul", "ISTANBUL ıİiI", "DİYARBAKIR", "ΣΑΣ", "ΟΔΥΣΣΕΥΣ", "ΟΔΟΣ ΣΟΦΙΑΣ", "Σ", "ΑΣ.", "ΑΣ.Α", "Α'Σ",
    "ΑΣ'Α", "Σ Σ", "ΑΣ\u0301", "ΑΣ\u0301Α",
    "\u0301Σ", "ΣΣΣ", "STRASSE Straße ẞ", "ÆØÅ æøå", "ÀÉÎÕÜ", "ǅ ǈ ǋ", "K Å Ω", "ſ", "'ſ", "it'ſ", "Ⅻ Ⓐ", "Ꙋꙋᲀᲁ",
    "Ჿ Ა", "Ꭰ ꭰ",
    "ЁЖИК ёжик", "ԱԲԳ աբգ", "𐐀𐐨", "Ａｂｃ", "Ⱥ Ⱦ", "ẞß",
    # scripts
    "ein großer Hund", "où est le café ?", "el niño y la niña", "coração", "żółć gęślą jaźń",
    "příliš žluťoučký kůň", "Đường phố Hà Nội",
    "öğrenci çalışıyor", "фотография кота", "Київ", "η φωτογραφία", "ἄνθρωπος", "שלום עולם", "שָׁלוֹם",
    "مرحبا بالعالم", "اَلْعَرَبِيَّةُ", "فارسی می‌خواهم",
    "नमस्ते दुनिया", "क्षत्रिय", "বাংলা ভাষা", "தமிழ் மொழி", "తెలుగు", "ภาษาไทย", "ລາວ", "မြန်မာ", "ქართული",
    "አማርኛ", "ᐃᓄᒃᑎᑐᑦ", "中文照片", "繁體中文字", "日本語の写真",
    "カタカナ", "ﾊﾝｶｸ", "한국어 사진", "한국어", "ᄒ", "བོད་སྐད", "ខ្មែរ", "ᠮᠣᠩᠭᠣᠯ", "𠜎𠜱𠝹", "𓀀𓁐", "𝒳𝓎",
    "mixed 中文 and русский text",
    # marks, symbols, emoji
    "e\u0301", "é", "n\u0303o", "a\u0308\u0323", "\u0301", "\u0301a", "a\u0301b\u0302c", "Z͑ͫa̴lgo", "☃", "♥ ♦",
    "→ ⇒", "∑∫√", "°C", "™®©", "😀", "😀😀😀", "👍🏽", "👨‍👩‍👧‍👦",
    "🏳️‍🌈", "🇩🇪🇫🇷", "1️⃣", "a😀b", "😀 smile", "☺️", "✂️ cut", "🤖🧠 ai", "\ufffd", "\ue000", "\U000f0000", "\u200d",
    "\u00ad soft", "\u2060",
    "\u0345", "a\u0345b", "!\u0345?", "ᾳ Ἀ\u0345", "\u03b1\u0345\u03a3",
    # special texts
    "<|startoftext|>", "<|endoftext|>", "a <|endoftext|> b", "a<|endoftext|>b", "<|ENDOFTEXT|>",
    "<|endoftext|><|endoftext|>", "<|endoftext|", "<endoftext>",
    "<|ſtartoftext|>", "!<|endoftext|>", "<<|endoftext|>>", "<start_of_text>", "<end_of_text>", "</w>", "a</w>b",
    "Ġ", "Ġa Ċ", "#version: 0.2",
    # prompts
    'a photo of the number: "7".', "a photo of a 2012 Audi S5 Coupe.",
    "a centered satellite photo of annual crop land.",
    "end / de-restriction of 80 kph speed limit", "i love my AM General Hummer SUV 2000!",
    'a zoomed in photo of a "stop" traffic sign.',
]
ALPHABET = ("aabcdeeilnorst   '&;#<>|/.,!?-_0123456789ABCΣΑσİıſßéñç&amp;&lt; \t\n\u00a0\u2003"
            "中文日本語фотоμαשלםعرबनम한국😀👍\u0301\u200d½²\x1c\x85\u3000")


def merges_of(corpus):
    """Byte-pair encoding trained in the plain way: the most frequent pair first, ties by text."""
    byte = reference.bytes_to_unicode()
    words = collections.Counter()
    for word in regex.findall(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+", corpus.lower()):
        symbols = [byte[b] for b in word.encode()]
        words[tuple(symbols[:-1] + [symbols[-1] + "</w>"])] += 1
    merges = []
    while len(merges) < MERGES:
        pairs = collections.Counter()
        for word, count in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += count
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        fresh = collections.Counter()
        for word, count in words.items():
            out, i = [], 0
            while i < len(word):
                if word[i:i + 2] == best:
                    out.append(word[i] + word[i + 1])
                    i += 2
                else:
                    out.append(word[i])
                    i += 1
            fresh[tuple(out)] += count
        words = fresh
    return merges


def tokenizer(path):
    made = reference.SimpleTokenizer(path)
    first = len(made.encoder) - 2
    for name, old in zip(SPECIALS, ["<start_of_text>", "<end_of_text>"]):
        del made.encoder[old]
        made.encoder[name] = first + SPECIALS.index(name)
    made.decoder = {i: s for s, i in made.encoder.items()}
    made.cache = {s: s for s in SPECIALS}
    pattern = made.pat.pattern
    assert pattern.startswith("<start_of_text>|<end_of_text>|")
    made.pat = regex.compile("|".join(map(regex.escape, SPECIALS)) + pattern[29:], regex.IGNORECASE)
    return made


def main():
    os.makedirs(os.path.join(HERE, "bpe"), exist_ok=True)
    merges = merges_of(CORPUS)
    lines = "\n".join(" ".join(pair) for pair in merges)
    own = os.path.join(HERE, "bpe", "tiny_vocab.txt.gz")
    with open(own, "wb") as file:
        file.write(gzip.compress(('"tiny_vocab.txt#version: 0.2\n' + lines).encode(), mtime=0))
    with open(os.path.join(HERE, "bpe", "merges.txt"), "w", encoding="utf-8") as file:
        file.write("#version: 0.2\n" + lines + "\n")
    tiny, clip = tokenizer(own), tokenizer(reference.default_bpe())
    assert len(tiny.encoder) == 512 + MERGES + 2 and len(clip.encoder) == 49408
    with open(os.path.join(HERE, "bpe", "vocab.json"), "w", encoding="utf-8") as file:
        json.dump(tiny.encoder, file, ensure_ascii=False, separators=(",", ":"))
        file.write("\n")

    rng = random.Random(7)
    texts = list(dict.fromkeys(TEXTS))
    for _ in range(100):
        texts.append("".join(rng.choice(ALPHABET) for _ in range(rng.randrange(1, 40))))
    with open(os.path.join(HERE, "tokens.jsonl"), "w", encoding="ascii") as file:
        for text in texts:
            case = {"text": text, "tiny": tiny.encode(text), "clip": clip.encode(text)}
            if "\x00" not in text:
                case["back"] = tiny.decode(case["tiny"])
            file.write(json.dumps(case, separators=(",", ":")) + "\n")
    print(len(texts), "texts")


if __name__ == "__main__":
    main()
