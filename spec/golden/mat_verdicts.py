#!/usr/bin/env python3
"""What scipy reads in MATLAB files: the oracle of test_mat. Needs numpy and scipy.

    mat_verdicts.py FOLDER > spec/golden/mat_verdicts.tsv

One line per .mat file below FOLDER: path, verdict (ok, unsupported, damaged), SHA-256 over all variables that the
reader accepts: name, then of each array its kind, rank, sizes and elements as doubles, cells and structures
element by element."""
import hashlib
import os
import struct
import sys
import warnings

import numpy as np
import scipy.io
import scipy.sparse
from scipy.io.matlab import MatlabFunction, MatlabObject, MatlabOpaque


# scipy mends broken UTF-8 and renames a second field of the same name; the reader refuses both.
STRICTER = {"broken_utf8.mat", "nasty_duplicate_fieldnames.mat"}


class Unsupported(Exception):
    pass


def put(h, array):
    if scipy.sparse.issparse(array) or isinstance(array, (MatlabFunction, MatlabObject, MatlabOpaque)):
        raise Unsupported
    array = np.asarray(array)
    if array.dtype.kind == "c":
        raise Unsupported
    kind = b"s" if array.dtype.names is not None else {"O": b"x", "U": b"c"}.get(array.dtype.kind, b"n")
    flat = array.flatten("F")
    if kind == b"x" and array.size and flat[0] is None:  # a structure without fields
        kind, flat = b"s", []
    h.update(kind + struct.pack("<%dd" % (array.ndim + 1), array.ndim, *array.shape))
    if kind == b"s":
        for name in array.dtype.names or ():
            h.update(name.encode() + b"\0")
        for element in flat:
            for name in array.dtype.names:
                put(h, element[name])
    elif kind == b"x":
        for element in flat:
            put(h, element)
    elif kind == b"c":
        for element in flat:
            h.update(struct.pack("<d", ord(element) if element else 0))
    else:
        h.update(flat.astype("<f8").tobytes())


def verdict(path):
    if os.path.basename(path) in STRICTER:
        return "damaged", "-"
    head = open(path, "rb").read(128)
    if head[124:128] in (b"\0\2IM", b"\2\0MI") or head[1:4] == b"HDF":  # version 7.3
        return "unsupported", "-"
    if len(head) < 128 or head[124:128] not in (b"\0\1IM", b"\1\0MI"):
        version4 = len(head) >= 20 and (head[0] == 0 or head[3] == 0)
        return ("unsupported" if version4 else "damaged"), "-"
    h = hashlib.sha256()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            variables = scipy.io.loadmat(path, chars_as_strings=False)
        if any(isinstance(v, MatlabOpaque) for v in variables.values()):
            raise Unsupported
        for name in [v[0] for v in scipy.io.whosmat(path)]:
            h.update(name.encode() + b"\0")
            put(h, variables[name])
    except (Unsupported, NotImplementedError):
        return "unsupported", "-"
    except Exception:
        return "damaged", "-"
    return "ok", h.hexdigest()


def main(folder):
    for where, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            if name.endswith(".mat"):
                path = os.path.join(where, name)
                print("\t".join((os.path.relpath(path, folder),) + verdict(path)))


main(sys.argv[1])
