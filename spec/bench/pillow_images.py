#!/usr/bin/env python3
"""The other side of image_pipeline.sh: CLIP's preprocessing by Pillow and numpy, and photos to try it on.
  pillow_images.py make FOLDER
  pillow_images.py SECONDS FILE...
Needs python3-pil and python3-numpy."""
import io
import os
import sys
import time

import numpy as np
from PIL import Image

MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
STD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)
SIDE = 224


def make(folder):
    """Pictures with the spectrum of photos: noise whose amplitude falls with the frequency, edges, some grain."""
    rng = np.random.RandomState(1)
    for width, height, count in ((1600, 1200, 8), (500, 375, 24), (256, 256, 32), (64, 64, 64)):
        os.makedirs(os.path.join(folder, "%dx%d" % (width, height)))
        fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :]
        fall = 1 / np.maximum(np.hypot(fx, fy), 1 / max(width, height)) ** 1.1
        for k in range(count):
            planes = []
            shared = np.fft.irfft2(np.fft.rfft2(rng.randn(height, width)) * fall, (height, width))
            for _ in range(3):
                own = np.fft.irfft2(np.fft.rfft2(rng.randn(height, width)) * fall, (height, width))
                plane = shared + 0.3 * own
                planes.append(plane / plane.std() * 50 + 118 + rng.randn(height, width) * 2)
            pixels = np.clip(np.stack(planes, 2), 0, 255).astype(np.uint8)
            name = os.path.join(folder, "%dx%d" % (width, height), "%d.jpg" % k)
            Image.fromarray(pixels).save(name, quality=90)


def convert(data, t):
    t0 = time.perf_counter()
    image = Image.open(io.BytesIO(data)).convert("RGB")
    t1 = time.perf_counter()
    width, height = image.size
    long = int(SIDE * max(width, height) / min(width, height))
    size = (SIDE, long) if width <= height else (long, SIDE)
    if size != image.size:
        image = image.resize(size, Image.BICUBIC)
    left, top = int(round((size[0] - SIDE) / 2.0)), int(round((size[1] - SIDE) / 2.0))
    image = image.crop((left, top, left + SIDE, top + SIDE))
    t2 = time.perf_counter()
    a = np.asarray(image, np.float32)
    a /= 255
    a -= MEAN
    a /= STD
    a = np.ascontiguousarray(a.transpose(2, 0, 1))
    t3 = time.perf_counter()
    t[0] += t1 - t0
    t[1] += t2 - t1
    t[2] += t3 - t2
    return a


def main():
    if sys.argv[1] == "make":
        return make(sys.argv[2])
    files = []
    for name in sys.argv[2:]:
        with open(name, "rb") as f:
            files.append(f.read())
    for data in files[:20]:
        convert(data, [0, 0, 0])
    t, n, start = [0, 0, 0], 0, time.perf_counter()
    while time.perf_counter() - start < float(sys.argv[1]):
        for data in files:
            convert(data, t)
            n += 1
    seconds = time.perf_counter() - start
    print("Pillow %d images: %.0f images/s; ms each: decoding %.3f, resizing and cropping %.3f, to floats %.3f"
          % (n, n / seconds, *(1e3 * x / n for x in t)))


main()
