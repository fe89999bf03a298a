# Makes spec/golden/pickles/*: small files written by PyTorch, and what they hold as safetensors.
# usage: python3 spec/golden/make_pickles.py    needs: torch (1.13 wrote the committed files)
import argparse
import collections
import enum
import functools
import json
import os
import pickle
import struct

import torch
from torch import nn

folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "pickles")
os.makedirs(folder, exist_ok=True)
torch.manual_seed(1)

# A legacy file of a whole module holds every class's source text and the path it came from: neither belongs here.
torch.serialization.get_source_lines_and_file = lambda obj, *rest: (
    ["class %s:\n" % obj.__name__, "    '''é'''\n"], 0, "made.py")

names = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64",
         torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL"}


def raw(tensor):
    tensor = tensor.detach().contiguous()
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.view(torch.int16)
    return tensor.numpy().tobytes()


def write_safetensors(path, tensors):
    header, data = {}, b""
    for name in sorted(tensors):
        part = raw(tensors[name])
        header[name] = {"dtype": names[tensors[name].dtype], "shape": list(tensors[name].shape),
                        "data_offsets": [len(data), len(data) + len(part)]}
        data += part
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)


class Mode(enum.Enum):
    CUBIC = "cubic"

    def __reduce_ex__(self, protocol):  # as some versions of Python write every enumeration
        return getattr, (self.__class__, self._name_)


def gelu(x):
    return x * torch.sigmoid(1.702 * x)


class Resize:
    def __init__(self):
        self.size, self.mode, self.mean = 224, Mode.CUBIC, (0.48, 0.46, 0.41)


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.attn = nn.MultiheadAttention(width, 2)
        self.ln_1 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(collections.OrderedDict(c_fc=nn.Linear(width, 2), act=nn.GELU()))
        self.drop = None


class Visual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 2, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(width))
        self.blocks = nn.ModuleList([Block(width) for _ in range(2)])
        self.norm = nn.BatchNorm1d(width)
        self.proj = nn.Parameter(torch.randn(width, 3).t())
        self.register_parameter("absent", None)
        self.register_buffer("mask", torch.ones(2, 2), persistent=False)
        self.register_buffer("nothing", None)
        self.register_module("no_module", None)


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = nn.Module()
        self.model.visual = Visual(4)
        self.model.logit_scale = nn.Parameter(torch.tensor(4.6))
        self.model.tied = self.model.visual.class_embedding
        self.preprocess = [Resize(), gelu, functools.partial(gelu, x=None)]
        self.device, self.kind, self.size = torch.device("cpu"), torch.float16, torch.Size([1, 2])
        self.names, self.args = {"a", "b"}, argparse.Namespace(lr=1e-5, epochs=[1, 2],
            deep={3: None, (1, 2): True})


storage = torch.arange(24, dtype=torch.float32) / 7
tied = storage[:6].view(2, 3)
tensors = {
    "f64": torch.randn(3, dtype=torch.float64), "f32": torch.randn(2, 5), "f16": torch.randn(7).half(),
    "bf16": torch.randn(2, 2).bfloat16(), "i64": torch.tensor([-1, 2 ** 60, 7]), "i32": torch.tensor([3],
    dtype=torch.int32),
    "i16": torch.tensor([-300, 300], dtype=torch.int16), "i8": torch.tensor([-5], dtype=torch.int8),
    "u8": torch.arange(5, dtype=torch.uint8), "bool": torch.tensor([True, False]),
    "slice": storage[5:11], "turned": storage.view(4, 6).t(), "part": storage.view(2, 3, 4)[:, 1:, ::2],
    "spread": torch.arange(3.).expand(2, 3), "row": torch.arange(4).expand(1, -1), "tied.a": tied, "tied.b": tied,
    "scalar": torch.tensor(2.5), "empty": torch.zeros(0, 3), "parameter": nn.Parameter(torch.randn(2, 2)),
}
encoder = Encoder()
optimizer = torch.optim.AdamW(encoder.parameters())
for parameter in encoder.parameters():
    parameter.grad = torch.ones_like(parameter)
optimizer.step()
optimizer.zero_grad()
training = {"epoch": 3, "state_dict": encoder.state_dict(), "optimizer": optimizer.state_dict(),
            "args": encoder.args, "best": 0.5, "name": None}


def save(name, value, **options):
    with open(os.path.join(folder, name), "wb") as file:
        torch.save(value, file, **options)


write_safetensors(os.path.join(folder, "tensors.safetensors"), tensors)
write_safetensors(os.path.join(folder, "module.safetensors"), encoder.state_dict())
legacy = {"_use_new_zipfile_serialization": False}
save("tensors.pt", tensors)
save("tensors_legacy.pt", tensors, **legacy)
save("training.pt", training)
save("module.pt", encoder)
save("module_legacy.pt", encoder, **legacy)
save("module_wrapped.pt", {"model": encoder, "epoch": 1})


# By pickle.dump, as the first task vectors and heads were published.
def dump(name, value, protocol):
    with open(os.path.join(folder, name), "wb") as file:
        pickle.dump(value, file, protocol=protocol)


dump("module_plain.pkl", encoder, 4)
dump("tensors_plain3.pkl", tensors, 3)
dump("tensors_plain5.pkl", tensors, 5)
