"""make_npy.py: arrays as numpy writes them, and what they are, for spec/npy_spec.lua. Needs: numpy.
usage: make_npy.py      writes spec/golden/npy/"""
import json
import pathlib

import numpy as np
from numpy.lib import format as npy

folder = pathlib.Path(__file__).parent / "npy"
folder.mkdir(exist_ok=True)
rng = np.random.default_rng(5)
cases = {}


def put(name, array, version=None):
    with open(folder / (name + ".npy"), "wb") as file:
        npy.write_array(file, array, version=version, allow_pickle=True)
    if array.dtype.hasobject or array.dtype.kind not in "biuf":
        cases[name] = None  # to be refused
        return
    row_major = np.ascontiguousarray(array)
    name_of = {"b": "bool"}.get(array.dtype.kind, array.dtype.kind + str(8 * array.dtype.itemsize))
    # As text: 64-bit integers are no doubles.
    cases[name] = {"dtype": name_of, "shape": list(array.shape),
                   "values": [repr(v) if array.dtype.kind != "b" else str(int(v)) for v in row_major.ravel().tolist()]}


for kind in ["b1", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8"]:
    if kind[0] == "f":
        values = (rng.standard_normal((2, 3, 4)) * 100).astype(kind)
    elif kind == "b1":
        values = rng.integers(0, 2, (2, 3, 4)).astype(bool)
    else:
        info = np.iinfo(kind)
        values = rng.integers(info.min, info.max, (2, 3, 4), dtype=kind, endpoint=True)
    put(kind + "_little", values)
    put(kind + "_big", values.astype(values.dtype.newbyteorder(">")))
    put(kind + "_fortran", np.asfortranarray(values.astype(values.dtype.newbyteorder(">"))))
put("scalar", np.float32(1.5).reshape(()))
put("empty", np.zeros((3, 0, 2), np.int16))
put("empty_fortran", np.asfortranarray(np.zeros((3, 0), np.int16)))
put("one", np.arange(5, dtype="<i4"))
put("version_2", np.arange(6, dtype="<f4").reshape(2, 3), (2, 0))
put("version_3", np.arange(6, dtype=">f8").reshape(3, 2), (3, 0))
put("objects", np.array([1, "x"], dtype=object))
put("records", np.zeros(3, [("a", "<f4"), ("b", "<i2")]))
put("texts", np.array(["a", "bc"]))
put("bytes", np.array([b"a", b"bc"]))
put("complex", np.array([1 + 2j]))
put("dates", np.array(["2020-01-01"], dtype="M8[D]"))
put("void", np.zeros(2, "V2"))
(folder / "cases.json").write_text(json.dumps(cases, indent=0, sort_keys=True) + "\n")
