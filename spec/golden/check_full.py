#!/usr/bin/env python3
"""Compares the engine with PyTorch at full size, on request: a CLIP ViT-B/32 and ViT-L/14 with random weights.

  check_full.py [--distac build/distac] [--folder DIR] [--batch 2] [--recompute] [ViT-B-32] [ViT-L-14]

For each size it writes one checkpoint with open_clip and one with transformers, lets the engine read both and compute
image features, text features, and every gradient of the image tower for one cross-entropy and one distillation step,
and prints a table. It also takes the checkpoint through transformers' layout and back (distac convert): both
libraries must load what is theirs, with every bit the same. Everything is measured against open_clip in float64; the rows of PyTorch in float32 show what
rounding alone does. It ends with status 1 unless the engine keeps to 2e-5 on normalised features and 1e-4 of its
tensor's norm on every gradient.

ViT-L/14 takes about 12 GB of memory, 8 GB of disk in the folder (removed at the end) and a few minutes.

Needs torch, open_clip_torch and transformers (made with 1.13, 2.24 and 4.36).
"""
import argparse
import gc
import os
import shutil
import subprocess
import sys
import tempfile
import time

import torch
import torch.nn.functional as F

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import clip_reference as ref  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
ACTIVATION, CLASSES, TEXTS = "quick_gelu", 10, 6
FEATURE_LIMIT, GRADIENT_LIMIT = 2e-5, 1e-4


def losses_of(inputs):
    return {"ce": lambda z: ref.cross_entropy(z, inputs["labels"]),
            "kd": lambda z: ref.distillation(z, inputs["teacher"].to(z.dtype))}


def run_torch(encode_image, encode_text, parameters, to_ours, inputs, dtype):
    """What the engine's script computes, by PyTorch."""
    torch.set_default_dtype(dtype)
    images, head = inputs["images"].to(dtype), inputs["head"].to(dtype)
    out = {}
    with torch.no_grad():
        out["features"], out["text_features"] = encode_image(images), encode_text(inputs["tokens"])
    for label, loss in losses_of(inputs).items():
        value, grads = ref.gradients(encode_image, parameters, images, head, loss)
        out[label + ".loss"] = torch.tensor([value], dtype=torch.float64)
        out.update({f"{label}.{n}": g for n, g in to_ours(grads).items()})
    torch.set_default_dtype(torch.float32)
    return out


def by_open_clip(shape, state, inputs, dtype):
    model = ref.open_clip_model(shape, ACTIVATION)
    model.load_state_dict(state)
    model = model.to(dtype)
    if dtype == torch.float64:
        model.attn_mask = model.attn_mask.double()
    visual = {n: p for n, p in model.named_parameters() if n.startswith("visual.")}
    return run_torch(model.encode_image, model.encode_text, visual, lambda g: g, inputs, dtype)


def by_transformers(shape, state, inputs, dtype, folder):
    model = ref.transformers_model(shape, ACTIVATION)
    model.load_state_dict(ref.to_transformers(state), strict=False)
    model.save_pretrained(folder, safe_serialization=True)
    names = [n for n in state if n.startswith("visual.")]
    visual = {n: p for n, p in model.named_parameters() if n.startswith("visi") or n.startswith("visual_")}
    return run_torch(model.get_image_features, model.get_text_features, visual,
                     lambda g: ref.from_transformers(g, names), inputs, dtype)


def by_engine(program, checkpoint, inputs_path, out_path):
    from safetensors.torch import load_file
    start = time.time()
    subprocess.run([program, os.path.join(HERE, "check_full.lua"), checkpoint, inputs_path, out_path], check=True)
    print(f"  ({time.time() - start:.0f} s for {os.path.basename(checkpoint)})", file=sys.stderr)
    out = load_file(out_path)
    os.remove(out_path)
    return out


def feature_error(got, want):
    gap = F.normalize(got.double(), dim=-1) - F.normalize(want, dim=-1)
    return float(gap.abs().max())


def gradient_error(got, want, label):
    """Worst distance of a tensor over its norm, and the tensor's name; a NaN is the worst of all."""
    worst, where = 0.0, "nothing compared"
    for name in want:
        if name.startswith(label + ".visual."):
            gap = float((got[name].double() - want[name]).norm() / want[name].norm())
            if not gap <= worst:
                worst, where = gap, name[len(label) + 1:]
    return worst, where


def row(size, what, got, want):
    cells = [size, what, f"{feature_error(got['features'], want['features']):.1e}"]
    text = "text_features" in got
    cells.append(f"{feature_error(got['text_features'], want['text_features']):.1e}" if text else "not there")
    kept = feature_error(got["features"], want["features"]) <= FEATURE_LIMIT
    if text:
        kept = kept and feature_error(got["text_features"], want["text_features"]) <= FEATURE_LIMIT
    for label in ("ce", "kd"):
        worst, where = gradient_error(got, want, label)
        kept = kept and worst <= GRADIENT_LIMIT
        cells += [f"{worst:.1e}", f"`{where.replace('visual.', '', 1).replace('transformer.resblocks', 'block')}`"]
    print("| " + " | ".join(cells) + " |", flush=True)
    return kept


def same_bits(got, want, what):
    assert set(got) == set(want), f"{what}: {sorted(set(got) ^ set(want))[:5]} are in one of the two only"
    for name in want:
        assert got[name].dtype == want[name].dtype and torch.equal(
            got[name].view(torch.int32), want[name].view(torch.int32)), f"{what}: {name} has other bits"


def check_layouts(shape, arguments, folder, open_clip_file):
    """open_clip's file through transformers' layout and back, by distac convert: each library must load its own, and
    every bit must be where it was."""
    from safetensors.torch import load_file
    from transformers import CLIPModel
    converted, back = os.path.join(folder, "converted"), os.path.join(folder, "back.safetensors")
    tell = ["--activation", ACTIVATION, "--attention-heads", str(shape["vision"]["heads"]),
            "--text-heads", str(shape["text"]["heads"]), "-q"]
    subprocess.run([arguments.distac, "convert", open_clip_file, converted, "--to", "hf", "--shard", "300MB"]
                   + tell, check=True)
    state = load_file(open_clip_file)
    model, info = CLIPModel.from_pretrained(converted, output_loading_info=True)
    assert not any(info.values()), info
    assert model.config.vision_config.hidden_act == ACTIVATION == model.config.text_config.hidden_act
    assert model.config.vision_config.num_attention_heads == shape["vision"]["heads"]
    assert model.config.text_config.num_attention_heads == shape["text"]["heads"]
    same_bits({n: t for n, t in model.state_dict().items() if not n.endswith("position_ids")},
              ref.to_transformers(state), "transformers' layout")
    del model
    subprocess.run([arguments.distac, "convert", converted, back, "--to", "open_clip", "-q"], check=True)
    shutil.rmtree(converted)
    loaded = load_file(back)
    same_bits(loaded, state, "back in open_clip's layout")
    ref.open_clip_model(shape, ACTIVATION).load_state_dict(loaded, strict=True)
    print("  (through transformers' layout and back: both libraries load it, every bit is the same)",
        file=sys.stderr)


def check(size, arguments, folder):
    shape = ref.SHAPES[size]
    model = ref.open_clip_model(shape, ACTIVATION)
    ref.fill(model, 1)
    state = {n: t.clone() for n, t in model.state_dict().items() if n != "attn_mask"}
    del model
    open_clip_file, hf_folder = os.path.join(folder, "open_clip.safetensors"), os.path.join(folder, "hf")
    inputs_path, out_path = os.path.join(folder, "inputs.safetensors"), os.path.join(folder, "out.safetensors")
    head = ref.head_of(CLASSES, shape["dim"], 100.0, 4)
    inputs = dict(images=ref.images_of(arguments.batch, shape["vision"]["image"], 2),
                  tokens=ref.tokens_of(TEXTS, shape, 3), head=head, labels=torch.arange(arguments.batch) % CLASSES,
                  teacher=ref.logits_of(torch.randn(arguments.batch, shape["dim"],
                                                    generator=torch.Generator().manual_seed(5)), head))
    ref.save(open_clip_file, state)
    ref.save(inputs_path, inputs, {
        "vit.activation": ACTIVATION, "vit.heads": str(shape["vision"]["heads"]),
        "text.heads": str(shape["text"]["heads"]), "label_smoothing": repr(ref.SMOOTHING), "t_teacher": repr(ref.T_TEACHER),
        "t_student": repr(ref.T_STUDENT), "recompute": "yes" if arguments.recompute else "no"})

    want = by_open_clip(shape, state, inputs, torch.float64)
    gc.collect()
    unit = F.normalize(want["features"], dim=-1)
    spread = float((unit @ unit.t()).fill_diagonal_(0).max())
    print(f"  (largest cosine between two images' features: {spread:.3f}; losses {float(want['ce.loss']):.3f}, "
          f"{float(want['kd.loss']):.3f})", file=sys.stderr)
    row(size, "open_clip, f32", by_open_clip(shape, state, inputs, torch.float32), want)
    gc.collect()
    row(size, "transformers, f32", by_transformers(shape, state, inputs, torch.float32, hf_folder), want)
    del state
    gc.collect()
    kept = row(size, "distac, f32, open_clip's file",
               by_engine(arguments.distac, open_clip_file, inputs_path, out_path), want)
    gc.collect()
    if not arguments.no_hf:
        kept = row(size, "distac, f32, transformers' folder",
                   by_engine(arguments.distac, hf_folder, inputs_path, out_path), want) and kept
    del want
    gc.collect()
    if not arguments.no_hf:
        check_layouts(shape, arguments, folder, open_clip_file)
    return kept


def main():
    parser = argparse.ArgumentParser(description="the engine against PyTorch at full size")
    parser.add_argument("sizes", nargs="*", default=["ViT-B-32", "ViT-L-14"], help=", ".join(ref.SHAPES))
    parser.add_argument("--distac", default=os.path.join(HERE, "..", "..", "build", "distac"))
    parser.add_argument("--folder", help="where the files go for a while (default: the temporary folder)")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--recompute", action="store_true", help="the engine computes activations again")
    parser.add_argument("--no-hf", action="store_true", help="leave transformers' naming out")
    arguments = parser.parse_args()
    print("| model | computed by | image features | text features | CE gradients | worst | KD gradients | worst |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    kept = True
    for size in arguments.sizes:
        folder = tempfile.mkdtemp(prefix="distac-full-", dir=arguments.folder)
        try:
            kept = check(size, arguments, folder) and kept
        finally:
            shutil.rmtree(folder)
    sys.exit(0 if kept else 1)


if __name__ == "__main__":
    main()
