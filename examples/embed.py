#!/usr/bin/env python3
"""embed.py: a Python host through ctypes, nothing to install: which pictures look alike to a model?

    python3 embed.py MODEL PICTURE PICTURE...

prints each picture's nearest other one by the cosine of their features. libdistac.so is found as the system finds
libraries; DISTAC_LIBRARY=/path/to/libdistac.so names another one. ctypes gives up Python's lock during calls, so
other Python threads run on while the engine works.
"""
import ctypes
import os
import sys
from ctypes import POINTER, Structure, byref, c_char_p, c_double, c_float, c_int32, c_int64, c_void_p

lib = ctypes.CDLL(os.environ.get("DISTAC_LIBRARY", "libdistac.so.0"))
F32, NO_ACTIVATION = 1, -1


class VitConfig(Structure):
    _fields_ = [(name, c_int32) for name in "image patch channels width layers heads mlp dim activation".split()]


class DistacError(Exception):
    def __init__(self, status):
        super().__init__(lib.distac_last_error().decode())
        self.code = lib.distac_status_name(status).decode()


def declare(name, *arguments, result=c_int32):
    function = getattr(lib, name)
    function.argtypes, function.restype = arguments, result
    if result is c_int32:  # a status
        def check(status, *_):
            if status != 0:
                raise DistacError(status)
        function.errcheck = check
    return function


declare("distac_last_error", result=c_char_p)
declare("distac_abi_version")
lib.distac_abi_version.errcheck = lambda value, *_: value
lib.distac_status_name.restype = c_char_p
declare("distac_context_create", c_void_p, POINTER(c_void_p))
declare("distac_checkpoint_open", c_void_p, c_char_p, POINTER(c_void_p))
declare("distac_vit_open", c_void_p, c_void_p, c_int32, c_int32, c_int32, POINTER(c_void_p))
declare("distac_vit_get_config", c_void_p, POINTER(VitConfig))
declare("distac_vit_features", c_void_p, c_void_p, POINTER(c_void_p))
declare("distac_image_load", c_void_p, c_char_p, c_int32, POINTER(c_void_p))
declare("distac_image_fit", c_void_p, c_int32, POINTER(c_void_p))
declare("distac_image_tensor", c_void_p, c_int32, POINTER(c_double), c_int32, POINTER(c_double), POINTER(c_void_p))
declare("distac_tensor_create", c_void_p, c_int32, c_int32, POINTER(c_int64), POINTER(c_void_p))
declare("distac_tensor_select", c_void_p, c_int32, c_int64, POINTER(c_void_p))
declare("distac_tensor_copy", c_void_p, c_void_p)
declare("distac_tensor_data", c_void_p, result=c_void_p)


class Handle:
    """An object of the engine: made by the last parameter of a call, released with this one."""

    def __init__(self, kind, function, *arguments):
        self._as_parameter_ = c_void_p()
        self._release = getattr(lib, f"distac_{kind}_release")
        self._release.argtypes, self._release.restype = [c_void_p], None
        function(*arguments, byref(self._as_parameter_))

    def __del__(self):
        self._release(self._as_parameter_)


def load_batch(context, config, paths):
    """The pictures as [B,C,S,S]; each is written into its place of one tensor."""
    n, size = config.channels, config.image
    clip = ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])
    mean, deviation = clip if n == 3 else ([0.0], [1.0])
    numbers = c_double * n
    shape = (c_int64 * 4)(len(paths), n, size, size)
    batch = Handle("tensor", lib.distac_tensor_create, context, F32, 4, shape)
    for i, path in enumerate(paths):
        picture = Handle("image", lib.distac_image_load, context, os.fsencode(path), n)
        fitted = Handle("image", lib.distac_image_fit, picture, size)
        pixels = Handle("tensor", lib.distac_image_tensor, fitted, n, numbers(*mean), n, numbers(*deviation))
        place = Handle("tensor", lib.distac_tensor_select, batch, 0, i)
        lib.distac_tensor_copy(place, pixels)
    return batch


def main(model_path, paths):
    if lib.distac_abi_version() != 1:
        sys.exit("embed.py was written for another interface of libdistac")
    context = Handle("context", lib.distac_context_create, None)
    weights = Handle("checkpoint", lib.distac_checkpoint_open, context, os.fsencode(model_path))
    vit = Handle("vit", lib.distac_vit_open, context, weights, NO_ACTIVATION, 0, F32)
    config = VitConfig()
    lib.distac_vit_get_config(vit, byref(config))
    features = Handle("tensor", lib.distac_vit_features, vit, load_batch(context, config, paths))

    # The engine's own memory, not a copy; numpy.ctypeslib.as_array(view) would make an array of it.
    view = (c_float * config.dim * len(paths)).from_address(lib.distac_tensor_data(features))
    unit = []
    for row in view:
        length = sum(x * x for x in row) ** 0.5
        unit.append([x / length for x in row])
    for i, path in enumerate(paths):
        cosine, j = max((sum(a * b for a, b in zip(unit[i], unit[j])), j) for j in range(len(paths)) if j != i)
        print(f"{path}  {paths[j]}  {cosine:.4f}")


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit("usage: embed.py MODEL PICTURE PICTURE...")
    try:
        main(sys.argv[1], sys.argv[2:])
    except DistacError as error:
        sys.exit(f"{error.code}: {error}")
