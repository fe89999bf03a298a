#!/usr/bin/env python3
"""Trains CLIP's ViT-B/32 from the same random weights on the same batches in PyTorch and in the engine, and prints the
losses side by side: the same products must give the same losses. Needs torch (the distribution's 1.13 does).

  losses.py DISTAC [PRODUCTS [STEPS [BATCH]]]     DISTAC: the program; defaults bf16 100 8
"""
import importlib.util
import json
import pathlib
import struct
import subprocess
import sys
import tempfile

import torch
import torch.nn.functional as F

here = pathlib.Path(__file__).parent
program, arguments = sys.argv[1], sys.argv[2:]
products = arguments[0] if arguments else "bf16"
steps, batch = (int(x) for x in (arguments[1:3] + ["100", "8"][len(arguments[1:3]):]))
sys.argv = ["torch_steps.py", "2", "b32", products, "none", "1"]
spec = importlib.util.spec_from_file_location("torch_steps", here / "torch_steps.py")
torch_steps = importlib.util.module_from_spec(spec)
spec.loader.exec_module(torch_steps)
model, head = torch_steps.model, torch_steps.head

BATCHES, LR = 8, 1e-5
SMOOTHING = 0.1  # keeps the loss of labels learnt by heart away from 0, where ratios say nothing
torch.manual_seed(1)
images, labels = torch.randn(BATCHES * batch, 3, 224, 224), torch.randint(0, len(head), (BATCHES * batch,))


def canonical():
    names = {"cls": "class_embedding", "pos": "positional_embedding"}
    parts = {"qkv.": "attn.in_proj_", "out.": "attn.out_proj.", "c_fc.": "mlp.c_fc.", "c_proj.": "mlp.c_proj."}
    for name, tensor in model.state_dict().items():
        if name.startswith("blocks."):
            _, layer, rest = name.split(".", 2)
            for ours, theirs in parts.items():
                if rest.startswith(ours):
                    rest = theirs + rest[len(ours):]
            name = f"transformer.resblocks.{layer}.{rest}"
        if name == "conv1.weight":
            tensor = tensor.view(-1, 3, 32, 32)
        yield "visual." + names.get(name, name), tensor


def save(path):
    tensors = dict(canonical(), head=head, images=images)
    tensors["labels"] = labels
    header, offset = {}, 0
    for name, tensor in tensors.items():
        size = tensor.numel() * tensor.element_size()
        header[name] = {"dtype": "I64" if tensor.dtype == torch.int64 else "F32", "shape": list(tensor.shape),
                        "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors.values():
            file.write(tensor.detach().contiguous().numpy().tobytes())


def ours(path):
    script = here / "losses.lua"
    out = subprocess.run([program, script, path, products, str(steps), str(batch), str(LR), str(SMOOTHING)],
                         check=True, capture_output=True, text=True).stdout
    return json.loads(out)


def theirs():
    optimizer, losses = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=0.1), []
    for step in range(steps):
        first = step % BATCHES * batch
        torch_steps.images = images[first:first + batch]
        optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(torch_steps.logits(model), labels[first:first + batch],
                               label_smoothing=SMOOTHING)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses


with tempfile.TemporaryDirectory() as folder:
    path = f"{folder}/start.safetensors"
    save(path)
    mine = ours(path)
other = theirs()
print(f"{products}, batch {batch}, losses after steps of training\nstep    distac   PyTorch  difference")
for step in sorted({0, 1, *range(9, steps, 10), steps - 1}):
    print(f"{step + 1:4d} {mine[step]:9.5f} {other[step]:9.5f} {100 * (mine[step] / other[step] - 1):+9.3f} %")
last = [sum(x[-BATCHES:]) / BATCHES for x in (mine, other)]
worst = max(range(steps), key=lambda k: abs(mine[k] / other[k] - 1))
print(f"farthest apart of all steps: {100 * (mine[worst] / other[worst] - 1):+.3f} % at step {worst + 1}")
print(f"mean of the last {BATCHES}: {last[0]:.5f} and {last[1]:.5f}, {100 * (last[0] / last[1] - 1):+.3f} %")
