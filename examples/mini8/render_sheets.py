#!/usr/bin/env python3
"""Renders the glyph sheets of the embedded benchmark from installed fonts.

The benchmark does not need this script or any font: the sheets it writes are kept in sheets/. To make them
again, install the packages of font-packages.txt (apt), python3-pil, python3-numpy, fontconfig and
python3-sklearn (for the handwritten digits), then run

    python3 render_sheets.py [FOLDER]          (default: sheets/ beside the script)

A sheet is NAME.png, a grey 4-bit PNG of square cells, and NAME.txt, which says what each cell shows:

    sheet NAME cell SIDE columns N glyphs N classes N
    class TEXT                     one line a class, in order
    family HASH SPLIT NAME         split: 0 train, 1 validation, 2 test; a family is never in two splits
    face CLASSES                   the next cells, in order: classes of one face of the family above, "0-9 12"

A glyph is rendered at 64 px, cropped to its ink, scaled to a longer side of 26 pixels and centred.
"""
import hashlib
import os
import subprocess
import sys
from multiprocessing import Pool

import numpy as np
from PIL import Image, ImageDraw, ImageFont

HERE = os.path.dirname(os.path.abspath(__file__))
CELL, INK, COLUMNS = 32, 26, 64
# Mean correlation of two faces above which their families count as one.
SAME_DESIGN = 0.95
# Share of a face's glyphs that are nearest to the mean of their own class; below, it is ornament, no writing.
READABLE = 0.3


def span(first, last, skip=()):
    return [c for c in range(first, last + 1) if c not in skip]


def letters(text):
    return [ord(c) for c in text]


HIRAGANA = letters("あいうえおかきくけこさしすせそたちつてとなにぬねのはひふへほまみむめもやゆよらりるれろわをん")
KATAKANA = letters("アイウエオカキクケコサシスセソタチツテトナニヌネノハヒフホマミムメモヤユヨラリルレロワヲン")
ARABIC = letters("ابتثجحخدذرزسشصضطظعغفقكلمنهوىي")
# without vav, yod, final kaf and final nun, which look alike once scaled to their ink
HEBREW = [c for c in span(0x5D0, 0x5EA) if c not in (0x5D5, 0x5D9, 0x5DA, 0x5DF)]
# without the capitals that are also Latin capitals
CYRILLIC_UPPER = letters("БГДЖЗИЙЛПУФЦЧШЩЪЫЬЭЮЯ")

# name: (characters, classes kept, most families, faces a family, share of the characters a face must have)
TASKS = {
    "digit": (letters("0123456789"), 10, 150, 2, 1.0),
    "latin": (letters("ABCDEFGHIJKLMNOPQRSTUVWXYZ"), 26, 170, 1, 1.0),
    "kana": (HIRAGANA, 46, 90, 4, 1.0),
    "arabic": (ARABIC, 29, 90, 2, 1.0),
    "hebrew": (HEBREW, 23, 70, 4, 1.0),
}
PRETRAINING = {
    "kanji": (span(0x4E00, 0x6FFF), 250, 16, 1, 0.15),
    "hangul": (span(0xAC00, 0xD7A3), 80, 20, 1, 0.2),
    "katakana": (KATAKANA, 46, 24, 2, 1.0),
    "symbols": (span(0x25A0, 0x266F) + span(0x2701, 0x27BF), 120, 20, 1, 0.3),
    "math": (span(0x2190, 0x21D5) + span(0x2200, 0x22FF), 120, 20, 1, 0.3),
    "accented": (span(0xC0, 0x17F, (0xD7, 0xF7))[::3], 64, 40, 1, 0.9),
    "georgian": (span(0x10D0, 0x10F0), 33, 20, 2, 0.9),
    "armenian": (span(0x531, 0x556) + span(0x561, 0x586), 76, 20, 1, 0.9),
    "malayalam": (span(0xD05, 0xD0C) + span(0xD15, 0xD28) + span(0xD2A, 0xD39), 44, 20, 2, 0.9),
    "cyrillic_upper": (CYRILLIC_UPPER, 21, 40, 1, 1.0),
    "cyrillic_lower": (span(0x430, 0x44F), 32, 60, 1, 1.0),
    "latin_lower": (letters("abcdefghijklmnopqrstuvwxyz"), 26, 80, 1, 1.0),
    "greek": (span(0x3B1, 0x3C9, (0x3C2,)), 24, 60, 1, 1.0),
    "thai": (span(0xE01, 0xE2E, (0xE24, 0xE26)), 44, 40, 1, 1.0),
    "devanagari": (span(0x915, 0x928) + span(0x92A, 0x930) + [0x932, 0x933] + span(0x935, 0x939), 34, 40, 2, 1.0),
}
LOWER = PRETRAINING["latin_lower"][0]
FEWEST_FAMILIES = 8


def number(text):
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16)


def split_of(family):
    share = number("split " + family) / 2.0**32
    return 0 if share < 0.6 else 1 if share < 0.75 else 2


def package_files():
    with open(os.path.join(HERE, "font-packages.txt"), encoding="utf-8") as lines:
        packages = lines.read().split()
    listed = subprocess.run(["dpkg", "-L"] + packages, capture_output=True, text=True, check=True).stdout
    return {os.path.realpath(line) for line in listed.splitlines() if line.startswith("/")}


def faces():
    """All faces of the listed packages: (file, index, family, set of code points)."""
    ours = package_files()
    fields = "%{file}\t%{index}\t%{family[0]}\t%{variable}\t%{charset}\n"
    listing = subprocess.run(["fc-list", "--format", fields], capture_output=True, text=True, check=True).stdout
    found = []
    for line in sorted(set(listing.splitlines())):
        path, index, family, _, charset = line.split("\t")
        if os.path.realpath(path) not in ours or int(index) > 15:
            continue
        if not path.lower().endswith((".ttf", ".otf", ".ttc", ".pfb")):
            continue
        points = set()
        for first, _, last in (part.partition("-") for part in charset.split()):
            points.update(range(int(first, 16), int(last or first, 16) + 1))
        found.append((path, int(index), family, points))
    return found


def render(font, text):
    """A cell, or None where the font draws nothing sensible."""
    image = Image.new("L", (192, 192), 0)
    ImageDraw.Draw(image).text((56, 40), text, font=font, fill=255)
    box = image.getbbox()
    if box is None:
        return None
    width, height = box[2] - box[0], box[3] - box[1]
    if max(width, height) < 6 or box[0] == 0 or box[1] == 0 or box[2] == 192 or box[3] == 192:
        return None
    scale = INK / max(width, height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    glyph = image.crop(box).resize(size, Image.LANCZOS if scale < 1 else Image.BICUBIC)
    cell = Image.new("L", (CELL, CELL), 0)
    cell.paste(glyph, ((CELL - size[0]) // 2, (CELL - size[1]) // 2))
    return np.asarray(cell)


def render_face(job):
    path, index, characters = job
    try:
        font = ImageFont.truetype(path, 64, index=index, layout_engine=ImageFont.Layout.BASIC)
        missing = render(font, "\U0010fffe")
        cells = {}
        for c in characters:
            cell = render(font, chr(c))
            if cell is not None and not (missing is not None and np.array_equal(cell, missing)):
                cells[c] = cell
        if characters == LOWER and capitals(font, cells):
            return {}
    except OSError:
        return {}
    if len({cell.tobytes() for cell in cells.values()}) < 0.8 * len(cells):
        return {}  # boxes instead of letters
    return cells


def unit(cells):
    flat = cells.reshape(len(cells), -1).astype(np.float64)
    flat -= flat.mean(1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-9)


def capitals(font, cells):
    """Fonts that draw capitals for small letters: a task's classes have no place in pretraining."""
    pairs = [(cells[ord(c)], render(font, c.upper())) for c in "abdeghnqrt" if ord(c) in cells]
    pairs = [(a, b) for a, b in pairs if b is not None]
    if not pairs:
        return False
    same = unit(np.stack([a for a, _ in pairs])) * unit(np.stack([b for _, b in pairs]))
    return np.mean(same.sum(1) > 0.9) > 0.3


def collect(found, characters, share):
    """[(family, {character: cell})] of all faces that draw the characters and nothing else in their place."""
    jobs, owners = [], []
    for path, index, family, points in found:
        has = [c for c in characters if c in points]
        if len(has) >= share * len(characters):
            jobs.append((path, index, has))
            owners.append(family)
    with Pool(2) as pool:
        drawn = pool.map(render_face, jobs, chunksize=4)
    rendered = [(family, cells) for family, cells in zip(owners, drawn) if cells]
    total, count = {}, {}
    for _, cells in rendered:
        for c, cell in cells.items():
            total[c] = total.get(c, 0.0) + cell
            count[c] = count.get(c, 0) + 1
    order = sorted(total)
    means = np.stack([total[c] / count[c] for c in order])
    means = unit(means - means.mean(0))
    kept = []
    for family, cells in rendered:
        own = sorted(cells)
        faces_cells = np.stack([cells[c] for c in own]).astype(np.float64)
        nearest = (unit(faces_cells - faces_cells.mean(0)) @ means.T).argmax(1)
        if np.mean([order[k] == c for k, c in zip(nearest, own)]) >= READABLE:
            kept.append((family, cells))
    return kept


def common(found, characters, classes, share):
    """Of many characters, those that most families have (ties by hash), a few more than wanted."""
    if len(characters) <= classes:
        return characters
    families = {}
    for _, _, family, points in found:
        has = [c for c in characters if c in points]
        if len(has) >= share * len(characters):
            families[family] = has
    count = {c: 0 for c in characters}
    for has in families.values():
        for c in has:
            count[c] += 1
    return sorted(sorted(characters, key=lambda c: (-count[c], number("class %x" % c)))[: classes + classes // 4])


def same_designs(kept):
    """Family name -> name of its group: families whose faces are nearly the same drawings count as one. Asked
    for each sheet alone, because fonts of different Arabic may share their Latin."""
    parent = {}

    def root(name):
        while parent.setdefault(name, name) != name:
            name = parent[name]
        return name

    most = max(len(cells) for _, cells in kept)
    full = [(family, cells) for family, cells in kept if len(cells) == most]
    vectors = np.stack([unit(np.stack([cells[c] for c in sorted(cells)])).ravel() for _, cells in full])
    alike = vectors @ vectors.T / most > SAME_DESIGN
    for i, j in zip(*np.nonzero(np.triu(alike, 1))):
        a, b = root(full[i][0]), root(full[j][0])
        parent[max(a, b)] = min(a, b)
    return root


def choose(kept, group, characters, classes, families, per_family):
    """(characters, {group: [cells, ...]}): at most `families` groups with `per_family` faces each."""
    by_group = {}
    for family, cells in kept:
        by_group.setdefault(group(family), []).append((family, cells))
    chosen = {}
    for name in sorted(by_group, key=number)[:families]:
        faces_of = sorted(by_group[name], key=lambda f: hashlib.sha256(b"".join(
            f[1][c].tobytes() for c in sorted(f[1]))).digest())
        chosen[name] = [cells for _, cells in faces_of[:per_family]]
    having = {c: sum(any(c in cells for cells in faces_of) for faces_of in chosen.values()) for c in characters}
    enough = sorted((c for c in characters if having[c] >= FEWEST_FAMILIES),
                    key=lambda c: (-having[c], number("class %x" % c)))[:classes]
    enough = [c for c in characters if c in set(enough)]
    chosen = {name: [{c: cells[c] for c in enough if c in cells} for cells in faces_of]
              for name, faces_of in chosen.items()}
    return enough, chosen


def ranges_text(numbers):
    parts, i = [], 0
    while i < len(numbers):
        j = i
        while j + 1 < len(numbers) and numbers[j + 1] == numbers[j] + 1:
            j += 1
        parts.append("%d" % numbers[i] if i == j else "%d-%d" % (numbers[i], numbers[j]))
        i = j + 1
    return " ".join(parts)


def write(folder, name, cells, side, names, body, depth=4):
    columns = COLUMNS
    rows = (len(cells) + columns - 1) // columns
    sheet = np.zeros((rows * side, columns * side), np.uint8)
    for k, cell in enumerate(cells):
        y, x = k // columns * side, k % columns * side
        sheet[y:y + side, x:x + side] = cell
    path = os.path.join(folder, name + ".png")
    write_grey(path, sheet, depth)
    with open(os.path.join(folder, name + ".txt"), "w", encoding="utf-8") as out:
        counts = (name, side, columns, len(cells), len(names))
        out.write("sheet %s cell %d columns %d glyphs %d classes %d\n" % counts)
        out.writelines("class %s\n" % text for text in names)
        out.writelines(line + "\n" for line in body)
    size = os.path.getsize(path)
    print("%-15s %5d glyphs %4d classes %8d bytes" % (name, len(cells), len(names), size), flush=True)


def write_grey(path, pixels, depth):
    """A grey PNG of 4 or 8 bits (Pillow writes grey as 8 bits only)."""
    import struct
    import zlib

    height, width = pixels.shape
    if depth == 4:
        levels = ((pixels.astype(np.uint32) * 15 + 127) // 255).astype(np.uint8)
        rows = (levels[:, 0::2] << 4) | levels[:, 1::2]
    else:
        rows = pixels
    raw = np.concatenate([np.zeros((height, 1), np.uint8), rows], 1).tobytes()  # filter 0 suits packed pixels best

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    packer = zlib.compressobj(9, zlib.DEFLATED, 15, 9)
    with open(path, "wb") as out:
        out.write(b"\x89PNG\r\n\x1a\n")
        out.write(chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)))
        out.write(chunk(b"IDAT", packer.compress(raw) + packer.flush()))
        out.write(chunk(b"IEND", b""))


def write_glyphs(folder, name, characters, chosen):
    cells_out, body, number_of = [], [], {c: i for i, c in enumerate(characters)}
    splits = [0, 0, 0]
    for family in sorted(chosen, key=number):
        split = split_of(family)
        splits[split] += 1
        body.append("family %08x %d %s" % (number(family), split, family))
        for cells in chosen[family]:
            present = sorted(cells, key=number_of.get)
            if present:
                body.append("face " + ranges_text([number_of[c] for c in present]))
                cells_out += [cells[c] for c in present]
    print("%-15s families %s" % (name, splits))
    write(folder, name, cells_out, CELL, [chr(c) for c in characters], body)


def write_handwriting(folder):
    """The 1,797 handwritten digits of UCI (8x8, 17 levels, kept exactly), split 1000/200/597."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = sorted(range(len(digits.target)), key=lambda i: number("handwritten digit %d" % i))
    body = []
    for split, (a, b) in enumerate(((0, 1000), (1000, 1200), (1200, len(order)))):
        body.append("family %08x %d writers of part %d" % (split, split, split))
        body.append("face " + " ".join("%d" % digits.target[i] for i in order[a:b]))
    cells = [np.round(digits.images[i] * 255 / 16).astype(np.uint8) for i in order]
    write(folder, "handwritten", cells, 8, list("0123456789"), body, depth=8)


def main():
    folder = sys.argv[1] if len(sys.argv) > 1 else os.path.join(HERE, "sheets")
    os.makedirs(folder, exist_ok=True)
    found = faces()
    print(len(found), "faces,", len({f[2] for f in found}), "families")
    for name, (characters, classes, families, per_family, share) in {**TASKS, **PRETRAINING}.items():
        candidates = common(found, characters, classes, share)
        kept = collect(found, candidates, share if len(candidates) == len(characters) else 0.5)
        write_glyphs(folder, name, *choose(kept, same_designs(kept), candidates, classes, families, per_family))
    write_handwriting(folder)


if __name__ == "__main__":
    main()
