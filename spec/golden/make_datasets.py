#!/usr/bin/env python3
"""Tiny data sets in the true formats of the eight tasks, and what a reader must find in them. Needs numpy, Pillow,
scipy and torch (whose randperm is the oracle of the validation split).

    make_datasets.py spec/golden/datasets

Every image has one grey level of its own, so that an image tells which one it is. expected.lua lists, for every set
and split, label and level in order."""
import gzip
import os
import shutil
import struct
import sys

import numpy as np
import scipy.io
import torch
from PIL import Image

ROOT = sys.argv[1]


class Level:
    def __init__(self):
        self.n = 0

    def next(self):
        self.n += 1
        return 2 + self.n * 3


def image(path, level, fmt="JPEG", size=(9, 8)):
    path = os.path.join(ROOT, path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    picture = Image.new("RGB", size, (level, level, level))
    picture.save(path, fmt, **({"quality": 95} if fmt == "JPEG" else {}))


def text(path, lines, end="\n"):
    path = os.path.join(ROOT, path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", newline="") as file:
        file.write(end.join(lines) + end)


def mat(path, variables, compress):
    path = os.path.join(ROOT, path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    scipy.io.savemat(path, variables, do_compression=compress)
    with open(path, "r+b") as file:  # the date of the header, so that files stay the same
        file.write(b"MATLAB 5.0 MAT-file".ljust(116))


def idx(path, array):
    path = os.path.join(ROOT, path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    head = bytes([0, 0, 8, array.ndim]) + struct.pack(">%dI" % array.ndim, *array.shape)
    with open(path, "wb") as raw, gzip.GzipFile("", "wb", mtime=0, fileobj=raw) as file:
        file.write(head + array.astype(np.uint8).tobytes())


def splits(train):
    n = len(train)
    held = min(int(0.1 * n), 5000)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(0)).tolist()
    return {"train": [train[i] for i in order[: n - held]], "validation": [train[i] for i in order[n - held:]]}


def cars():
    level, out = Level(), {}
    names = np.array(["Make_%d Car 2012" % (i + 1) for i in range(196)], dtype=object).reshape(1, -1)
    mat("stanford_cars/devkit/cars_meta.mat", {"class_names": names}, True)
    for part, n, table in (("train", 12, "devkit/cars_train_annos.mat"),
        ("test", 3, "cars_test_annos_withlabels.mat")):
        rows, found = [], []
        for i in range(n):
            label, value = (i * 53 + 195) % 196, level.next()
            name = "%05d.jpg" % (n - i)  # the order is the table's, not the names'
            image("stanford_cars/cars_%s/%s" % (part, name), value)
            rows.append((1, 1, 9, 8, label + 1, name))
            found.append((label, value))
        fields = ["bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname"]
        annotations = np.array([rows], dtype=[(f, object) for f in fields])
        mat("stanford_cars/" + table, {"annotations": annotations}, part == "train")
        out[part] = found
    return dict(splits(out["train"]), test=out["test"])


def walk(files):
    """files: (class number, path, level) -> in the order of a sorted walk"""
    return [(c, v) for c, _, v in sorted(files)]


def dtd():
    level, files = Level(), {"train": [], "val": [], "test": []}
    for first, (part, n) in enumerate((("val", 2), ("train", 5), ("test", 2))):
        lines = []
        for number, name in ((33, "scaly"), (0, "banded"), (30, "polka-dotted")):
            for i in range(n):
                base = "%s_%04d.jpg" % (name, (i * 7 + first * 13) % 40)
                value = level.next()
                image("dtd/images/%s/%s" % (name, base), value)
                files[part].append((number, base, value))
                lines.append(name + "/" + base)
        text("dtd/labels/%s1.txt" % part, lines)
    return dict(splits(walk(files["train"] + files["val"])), test=walk(files["test"]))


def eurosat():
    level, out = Level(), {}
    for part, split in (("train", "train"), ("val", "validation"), ("test", "test")):
        files = []
        for number, name in ((8, "River"), (0, "AnnualCrop"), (5, "Pasture")):
            for i in range(3 if part == "train" else 1):
                base, value = "%s_%d.jpg" % (name, i + 9), level.next()
                image("EuroSAT_splits/%s/%s/%s" % (part, name, base), value)
                files.append((number, base, value))
        out[split] = walk(files)
    return out


def gtsrb():
    level, files, test = Level(), [], []
    for number in (42, 0, 7):
        for i in range(4):
            base, value = "%05d_%05d.ppm" % (i % 2, 9 - i), level.next()
            image("gtsrb/GTSRB/Training/%05d/%s" % (number, base), value, "PPM", (5 + i, 6))
            files.append((number, base, value))
    rows = ["Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"]
    for i in range(3):
        value = level.next()
        image("gtsrb/GTSRB/Final_Test/Images/%05d.ppm" % i, value, "PPM", (6, 5))
        rows.append("%05d.ppm;6;5;0;0;5;4;%d" % (i, 42 - 20 * i))
        test.append((42 - 20 * i, value))
    text("gtsrb/GT-final_test.csv", rows, "\r\n")
    return dict(splits(walk(files)), test=test)


def mnist():
    level, out = Level(), {}
    for part, stem, n in (("train", "train", 21), ("test", "t10k", 4)):
        values = [level.next() for _ in range(n)]
        labels = [(i * 7) % 10 for i in range(n)]
        idx("MNIST/raw/%s-images-idx3-ubyte.gz" % stem, np.repeat(values, 28 * 28).reshape(n, 28, 28))
        idx("MNIST/raw/%s-labels-idx1-ubyte.gz" % stem, np.array(labels))
        out[part] = list(zip(labels, values))
    return dict(splits(out["train"]), test=out["test"])


def resisc45():
    level, out = Level(), {}
    for part, n in (("train", 5), ("val", 1), ("test", 1)):
        files, lines = [], []
        for number, name in ((30, "railway_station"), (29, "railway"), (44, "wetland")):
            for i in range(n):
                base, value = "%s_%03d.jpg" % (name, {"train": 1, "val": 50, "test": 90}[part] + i), level.next()
                image("resisc45/NWPU-RESISC45/%s/%s" % (name, base), value)
                files.append((number, base, value))
                lines.append(base)
        text("resisc45/resisc45-%s.txt" % part, lines[::-1])
        out[part] = walk(files)
    return dict(splits(out["train"]), test=out["test"])


def sun397():
    level, out = Level(), {}
    places = ["a/abbey", "a/apartment_building/outdoor", "b/bar"]
    for part, name, n in (("train", "Training", 5), ("test", "Testing", 2)):
        files, lines = [], []
        for number, place in reversed(list(enumerate(places))):
            for i in range(n):
                base, value = "sun_%s%d.jpg" % ("ab"[part == "test"], 9 - i), level.next()
                image("sun397/SUN397/%s/%s" % (place, base), value)
                files.append((number, base, value))
                lines.append("/%s/%s" % (place, base))
        text("sun397/%s_01.txt" % name, lines)
        out[part] = walk(files)
    return dict(splits(out["train"]), test=out["test"])


def svhn():
    level, out = Level(), {}
    for part, n in (("train", 11), ("test", 3)):
        values = [level.next() for _ in range(n)]
        labels = [(i * 3) % 10 for i in range(n)]
        x = np.tile(np.array(values, np.uint8), (32, 32, 3, 1))
        y = np.array([[d if d else 10] for d in labels], np.uint8 if part == "train" else np.float64)
        mat("svhn/%s_32x32.mat" % part, {"X": x, "y": y}, True)
        out[part] = list(zip(labels, values))
    return dict(splits(out["train"]), test=out["test"])


def main():
    shutil.rmtree(ROOT, ignore_errors=True)
    os.makedirs(ROOT)
    with open(os.path.join(ROOT, "expected.lua"), "w") as file:
        file.write("-- Written by make_datasets.py: { label, grey level } of every image, in order.\nreturn {\n")
        for make in (cars, dtd, eurosat, gtsrb, mnist, resisc45, sun397, svhn):
            file.write("    %s = {\n" % make.__name__)
            for split, found in make().items():
                pairs = ", ".join("{ %d, %d }" % pair for pair in found)
                file.write("        %s = { %s },\n" % (split, pairs))
            file.write("    },\n")
        file.write("}\n")


main()
