#!/usr/bin/env python3
"""Makes spec/golden/images/: small pictures in every format that is read, and images.tsv, what Pillow makes of them.

The pictures are drawn here. Each line of images.tsv is one of
  load FILE CHANNELS WIDTH HEIGHT SHA256            the decoded pixels, as RGB (3) or grey (1)
  fit FILE SIZE SHA256                              shortest side to SIZE, bicubic, centre crop
  resize FILE WIDTH HEIGHT SHA256                   bicubic
  crop FILE SEED STREAM SIZE X Y W H SHA256         the box of RandomResizedCrop, cut out and resized
  box WIDTH HEIGHT SEED STREAM S0 S1 R0 R1 X Y W H  the box alone
The random crop is torchvision's rule, written out again; its uniform numbers are Philox 4x32-10 as the engine draws
them, number 4*try+k for area, ratio, row and column.

Needs python3-pil and python3-numpy (made with Pillow 9.4.0, libjpeg-turbo 2.1.5, numpy 1.24.2).
"""
import hashlib
import io
import math
import os
import struct
import zlib

import numpy as np
from PIL import Image

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "images")
CLIP = (0.9, 1.0, 3 / 4, 4 / 3)


# ---- pictures ----

def picture(width, height, seed, channels=3):
    """Slopes, waves, a disc, some grain: smooth enough to be small, rough enough to show every rounding."""
    rng = np.random.RandomState(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    planes = []
    for _ in range(channels):
        a, b, c, d = rng.rand(4)
        plane = 128 + 90 * np.sin(x * (0.05 + 0.2 * a) + 6 * b) * np.cos(y * (0.04 + 0.25 * c) + 6 * d)
        plane[(x - width * a) ** 2 + (y - height * b) ** 2 < (0.2 * min(width, height)) ** 2] = 255 * (c > 0.5)
        plane += rng.randint(-4, 5, plane.shape) * (rng.rand(*plane.shape) < 0.2)
        planes.append(np.clip(np.rint(plane), 0, 255))
    return np.stack(planes, 2).astype(np.uint8)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(samples, depth, kind, interlaced=False, palette=None, transparent=None):
    """A PNG of samples [H,W,S]; rows have the filters 0 to 4 in turn where that is simple."""
    height, width, _ = samples.shape
    raw = b""
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    for x0, y0, dx, dy in passes if interlaced else [(0, 0, 1, 1)]:
        part = samples[y0::dy, x0::dx]
        if part.size == 0:
            continue
        before = None
        for i, row in enumerate(part):
            if depth == 16:
                line = row.astype(">u2").tobytes()
            elif depth == 8:
                line = row.astype(np.uint8).tobytes()
            else:
                bits = "".join(format(v, "0%db" % depth) for v in row.flatten())
                bits += "0" * (-len(bits) % 8)
                line = bytes(int(bits[k:k + 8], 2) for k in range(0, len(bits), 8))
            step = max(1, depth * samples.shape[2] // 8)
            if i % 3 == 1:  # Sub
                data = bytes((line[k] - (line[k - step] if k >= step else 0)) & 255 for k in range(len(line)))
                raw += b"\1" + data
            elif i % 3 == 2:  # Up
                raw += b"\2" + bytes((line[k] - before[k]) & 255 for k in range(len(line)))
            else:
                raw += b"\0" + line
            before = line
    out = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0,
        interlaced))
    if palette is not None:
        out += chunk(b"PLTE", palette.astype(np.uint8).tobytes())
    if transparent is not None:
        out += chunk(b"tRNS", transparent)
    return out + chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b"")


def jpeg(pixels, mode="RGB", **options):
    out = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(out, "JPEG", **options)
    return out.getvalue()


def files():
    made = {}
    rgb = picture
    made["base_420.jpg"] = jpeg(rgb(97, 64, 1), quality=85, subsampling="4:2:0")
    made["base_422.jpg"] = jpeg(rgb(61, 83, 2), quality=85, subsampling="4:2:2")
    made["base_444.jpg"] = jpeg(rgb(75, 50, 3), quality=85, subsampling="4:4:4")
    made["base_odd.jpg"] = jpeg(rgb(33, 31, 4), quality=60, subsampling="4:2:0")
    made["base_wide.jpg"] = jpeg(rgb(180, 40, 5), quality=70, subsampling="4:2:0")
    made["base_tall.jpg"] = jpeg(rgb(37, 150, 6), quality=70, subsampling="4:2:0")
    made["base_photo.jpg"] = jpeg(rgb(150, 100, 7), quality=75, subsampling="4:2:0")
    made["base_tiny.jpg"] = jpeg(rgb(1, 1, 8), quality=90)
    made["base_7x9.jpg"] = jpeg(rgb(7, 9, 9), quality=90, subsampling="4:2:0")
    made["base_17x1.jpg"] = jpeg(rgb(17, 1, 10), quality=90, subsampling="4:2:2")
    made["base_optimized.jpg"] = jpeg(rgb(64, 64, 11), quality=95, optimize=True, subsampling="4:4:4")
    made["prog_420.jpg"] = jpeg(rgb(90, 70, 12), quality=80, progressive=True, subsampling="4:2:0")
    made["prog_444.jpg"] = jpeg(rgb(55, 77, 13), quality=80, progressive=True, subsampling="4:4:4")
    made["prog_grey.jpg"] = jpeg(rgb(80, 45, 14), "L", quality=80, progressive=True)
    made["grey.jpg"] = jpeg(rgb(66, 91, 15), "L", quality=80)
    made["cmyk.jpg"] = jpeg(rgb(60, 44, 16), "CMYK", quality=85)
    made["cmyk_prog.jpg"] = jpeg(rgb(41, 52, 17), "CMYK", quality=85, progressive=True)
    rng = np.random.RandomState(3)
    palette = rng.randint(0, 256, (16, 3))
    made["palette4.png"] = png((rgb(50, 38, 18, 1) // 16), 4, 3, palette=palette)
    made["palette4_i.png"] = png((rgb(43, 29, 19, 1) // 16), 4, 3, True, palette=palette,
                                 transparent=bytes(range(0, 160, 10)))
    made["palette8.png"] = png((rgb(47, 61, 20, 1) % 200), 8, 3, palette=rng.randint(0, 256, (200, 3)))
    made["palette1.png"] = png((rgb(45, 23, 21, 1) // 128), 1, 3, palette=palette[:2])
    made["grey1.png"] = png((rgb(49, 35, 22, 1) // 128), 1, 0)
    made["grey2_i.png"] = png((rgb(31, 35, 23, 1) // 64), 2, 0, True)
    made["grey8.png"] = png(rgb(40, 60, 24, 1), 8, 0, transparent=b"\0\x80")
    made["grey16.png"] = png(rgb(26, 22, 25, 1).astype(np.uint32) * 257 - 3 & 65535, 16, 0)
    made["greyalpha8.png"] = png(rgb(34, 27, 26, 2), 8, 4)
    made["greyalpha16_i.png"] = png(rgb(19, 24, 27, 2).astype(np.uint32) * 256 + 77, 16, 4, True)
    made["rgb8.png"] = png(rgb(52, 34, 28), 8, 2)
    made["rgb8_i.png"] = png(rgb(29, 46, 29), 8, 2, True)
    made["rgb16.png"] = png(rgb(24, 17, 30).astype(np.uint32) * 256 + 200, 16, 2)
    made["rgba8.png"] = png(rgb(44, 32, 31, 4), 8, 6)
    made["rgba16_i.png"] = png(rgb(15, 21, 32, 4).astype(np.uint32) * 255, 16, 6, True)
    pixels = rgb(31, 22, 33)
    made["six.ppm"] = b"P6 31 22\n# colour\n255\n" + pixels.tobytes()
    made["six_100.ppm"] = b"P6\n31\n22\n100\n" + (pixels % 101).tobytes()
    made["six_16.ppm"] = b"P6 31 22 65535\n" + (pixels.astype(np.uint32) * 257 + 100 & 65535).astype(">u2").tobytes()
    made["five.pgm"] = b"P5\r\n30 33 255\n" + rgb(30, 33, 34, 1).tobytes()
    made["four.pbm"] = b"P4\n37 21\n" + np.packbits(rgb(37, 21, 35, 1)[:, :, 0] > 127, axis=1).tobytes()
    made["three.ppm"] = b"P3 # plain\n12 9 63\n" + " ".join(str(v) for v in rgb(12, 9, 36).flatten() // 4).encode()
    made["two.pgm"] = b"P2 9 14 200\n" + "\n".join(str(v % 201) for v in rgb(9, 14, 37, 1).flatten()).encode()
    made["one.pbm"] = b"P1\n11 7\n" + "".join(str(v // 128) for v in rgb(11, 7, 38, 1).flatten()).encode() + b"\n"
    return made


# ---- the random crop ----

def philox(seed, stream, counter):
    low = 0xFFFFFFFF
    a, b, c, d = counter & low, counter >> 32, stream & low, stream >> 32
    k0, k1 = seed & low, seed >> 32
    for _ in range(10):
        first, second = 0xD2511F53 * a, 0xCD9E8D57 * c
        a, b, c, d = (second >> 32) ^ b ^ k0, second & low, (first >> 32) ^ d ^ k1, first & low
        k0, k1 = (k0 + 0x9E3779B9) & low, (k1 + 0xBB67AE85) & low
    return a, b, c, d


def uniform(seed, stream, index):
    block = philox(seed, stream, index >> 1)
    half = index & 1
    return ((block[2 * half + 1] << 32 | block[2 * half]) >> 11) * 2.0 ** -53


def crop_box(width, height, seed, stream, scale_min, scale_max, ratio_min, ratio_max):
    area = width * height
    for i in range(10):
        target = area * (scale_min + (scale_max - scale_min) * uniform(seed, stream, 4 * i))
        low, high = math.log(ratio_min), math.log(ratio_max)
        ratio = math.exp(low + (high - low) * uniform(seed, stream, 4 * i + 1))
        w, h = int(round(math.sqrt(target * ratio))), int(round(math.sqrt(target / ratio)))
        if 0 < w <= width and 0 < h <= height:
            y = int(uniform(seed, stream, 4 * i + 2) * (height - h + 1))
            x = int(uniform(seed, stream, 4 * i + 3) * (width - w + 1))
            return x, y, w, h
    ratio = width / height
    if ratio < ratio_min:
        w, h = width, int(round(width / ratio_min))
    elif ratio > ratio_max:
        w, h = int(round(height * ratio_max)), height
    else:
        w, h = width, height
    return (width - w) // 2, (height - h) // 2, w, h


# ---- what Pillow makes of them ----

def sha(image):
    return hashlib.sha256(image.tobytes()).hexdigest()


def rgb_of(name, data):
    image = Image.open(io.BytesIO(data))
    if image.mode == "I":  # 16-bit grey: Pillow would cut at 255, the engine keeps the high byte
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image.convert("RGB"), image.convert("L")


def fit(image, size):
    width, height = image.size
    short, long = min(width, height), max(width, height)
    other = int(size * long / short)
    image = image.resize((size, other) if width <= height else (other, size), Image.BICUBIC)
    left, top = int(round((image.size[0] - size) / 2.0)), int(round((image.size[1] - size) / 2.0))
    return image.crop((left, top, left + size, top + size))


def main():
    os.makedirs(HERE, exist_ok=True)
    lines = []
    for number, (name, data) in enumerate(files().items()):
        with open(os.path.join(HERE, name), "wb") as f:
            f.write(data)
        rgb, grey = rgb_of(name, data)
        lines.append(("load", name, 3, rgb.size[0], rgb.size[1], sha(rgb)))
        lines.append(("load", name, 1, rgb.size[0], rgb.size[1], sha(grey)))
        short = min(rgb.size)
        for size in sorted({16, 20 + number % 17, short, 96 if number % 3 else 224}):
            if max(rgb.size) * size / short < 2000:
                lines.append(("fit", name, size, sha(fit(rgb, size))))
        for size in ((13, 40), (rgb.size[0], 9), (5, rgb.size[1])):
            lines.append(("resize", name, size[0], size[1], sha(rgb.resize(size, Image.BICUBIC))))
        for stream in range(3):
            seed, size = 1000 + number, (24, 31, 64)[stream]
            x, y, w, h = crop_box(rgb.size[0], rgb.size[1], seed, stream, *CLIP)
            cut = rgb.crop((x, y, x + w, y + h)).resize((size, size), Image.BICUBIC)
            lines.append(("crop", name, seed, stream, size, x, y, w, h, sha(cut)))
    sizes = ((224, 224), (256, 256), (64, 64), (28, 28), (500, 375), (375, 500), (600, 400), (400, 600),
        (1000, 100),
             (100, 1000), (1, 1), (2, 3), (3, 1), (640, 481))
    for width, height in sizes:
        for stream in range(6):
            for scale in (CLIP, (0.08, 1.0, 3 / 4, 4 / 3), (0.5, 0.5, 0.2, 5.0)):
                seed = 0x123456789ABC if stream == 5 else 7
                far = stream + (1 << 40) * (stream == 4)
                box = crop_box(width, height, seed, far, *scale)
                lines.append(("box", width, height, seed, far) + tuple(repr(float(v)) for v in scale) + box)
    with open(os.path.join(HERE, "images.tsv"), "w") as f:
        for line in lines:
            f.write("\t".join(str(v) for v in line) + "\n")


main()
