#!/usr/bin/env python3
"""Makes spec/golden/clip/: one tiny CLIP in every naming in use, and what PyTorch computes with it.

  hf/                          as transformers' save_pretrained writes it (config.json, model.safetensors)
  open_clip.safetensors        open_clip's names, float32
  custom_text.safetensors      open_clip's names where the text tower is a module of its own (CustomTextCLIP)
  openai.pt                    OpenAI's names and types: matrices in half precision, three integers besides
  prefixed.safetensors         "model.visual.…" without the text tower's blocks, as task-vector repositories save it
  expected_ACTIVATION.safetensors   images, tokens, a head, a teacher's logits; image and text features, and every
                               gradient of the image tower for one cross-entropy and one distillation step

All hold the same weights (numbers of half precision). The expected values are in float64, computed by transformers and
by open_clip, which must agree to 1e-12 for the file to be written.

Needs torch, open_clip_torch and transformers (made with 1.13, 2.24 and 4.36). Run it again to get the same files up to
their versions.
"""
import copy
import json
import os
import sys

import torch

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import clip_reference as ref  # noqa: E402

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "clip")
BATCH, CLASSES, TEXTS = 4, 5, 9


def agree(a, b, what):
    gap = float((a - b).norm() / b.norm().clamp_min(1e-300))
    assert gap <= 1e-12, f"{what}: transformers and open_clip differ by {gap:.3g}"


def expected(state, activation, shape):
    ours, theirs = ref.open_clip_model(shape, activation), ref.transformers_model(shape, activation)
    ours.load_state_dict(state)
    missing, unexpected = theirs.load_state_dict(ref.to_transformers(state), strict=False)
    assert not unexpected and all("position_ids" in n for n in missing), (missing, unexpected)
    ours, theirs = ours.double(), theirs.double()
    images = ref.images_of(BATCH, shape["vision"]["image"], 2).double()
    tokens, head = ref.tokens_of(TEXTS, shape, 3), ref.head_of(CLASSES, shape["dim"], 10.0, 4).double()
    labels = torch.tensor([3, 0, 4, 1])
    teacher = ref.logits_of(torch.randn(BATCH, shape["dim"], dtype=torch.float64,
                                        generator=torch.Generator().manual_seed(5)), head)
    torch.set_default_dtype(torch.float64)  # transformers makes its causal mask in the default type
    with torch.no_grad():
        features, text = theirs.get_image_features(images), theirs.get_text_features(tokens)
        agree(ours.encode_image(images), features, "image features")
        agree(ours.encode_text(tokens), text, "text features")
    out = dict(images=images, tokens=tokens, head=head, labels=labels, teacher=teacher, features=features,
               text_features=text)
    visual = {n: p for n, p in ours.named_parameters() if n.startswith("visual.")}
    for label, loss in (("ce", lambda z: ref.cross_entropy(z, labels)),
        ("kd", lambda z: ref.distillation(z, teacher))):
        value, grads = ref.gradients(ours.encode_image, visual, images, head, loss)
        value_2, grads_2 = ref.gradients(theirs.get_image_features, dict(theirs.named_parameters()), images, head,
            loss)
        grads_2 = ref.from_transformers(grads_2, visual)
        assert abs(value - value_2) <= 1e-12 * abs(value) and set(grads) == set(visual)
        for name in visual:
            agree(grads[name], grads_2[name], f"{label} gradient of {name}")
            out[f"{label}.{name}"] = grads_2[name]
        out[f"{label}.loss"] = torch.tensor([value_2], dtype=torch.float64)
    torch.set_default_dtype(torch.float32)
    ref.save(os.path.join(HERE, f"expected_{activation}.safetensors"), out, {
        "vit.activation": activation, "vit.heads": str(shape["vision"]["heads"]),
        "text.heads": str(shape["text"]["heads"]), "label_smoothing": repr(ref.SMOOTHING),
        "t_teacher": repr(ref.T_TEACHER), "t_student": repr(ref.T_STUDENT)})


def custom_text(model, state, shape):
    """The same CLIP as a CustomTextCLIP; its own state_dict gives the names."""
    custom = ref.open_clip_model(shape, "quick_gelu", custom_text=True)
    theirs = {n if n in state else n[len("text."):]: n for n in custom.state_dict() if "attn_mask" not in n}
    assert set(theirs) == set(state), set(theirs) ^ set(state)
    custom.load_state_dict({theirs[n]: t for n, t in state.items()}, strict=False)
    images, tokens = ref.images_of(BATCH, shape["vision"]["image"], 2), ref.tokens_of(TEXTS, shape, 3)
    with torch.no_grad():
        agree(custom.encode_image(images), model.encode_image(images), "image features")
        agree(custom.encode_text(tokens), model.encode_text(tokens), "text features")
    ref.save(os.path.join(HERE, "custom_text.safetensors"),
             {n: t for n, t in custom.state_dict().items() if "attn_mask" not in n})


def main():
    import open_clip
    shape = ref.SHAPES["tiny"]
    model = ref.open_clip_model(shape, "quick_gelu")
    ref.fill(model, 1)
    state = {n: t for n, t in model.state_dict().items() if n != "attn_mask"}
    for activation in ("quick_gelu", "gelu"):
        expected(state, activation, shape)

    ref.save(os.path.join(HERE, "open_clip.safetensors"), state)
    custom_text(model, state, shape)
    kept = ("visual.", "positional_embedding", "text_projection", "logit_scale", "token_embedding", "ln_final")
    ref.save(os.path.join(HERE, "prefixed.safetensors"),
             {"model." + n: t for n, t in state.items() if n.startswith(kept)})

    half = copy.deepcopy(model)
    open_clip.model.convert_weights_to_lp(half, torch.float16)
    mixed = {n: t.clone() for n, t in half.state_dict().items() if n != "attn_mask"}
    assert mixed["visual.conv1.weight"].dtype == torch.float16 and mixed["visual.ln_pre.weight"].dtype == torch.float32
    mixed.update(input_resolution=torch.tensor(shape["vision"]["image"]),
                 context_length=torch.tensor(shape["text"]["context"]), vocab_size=torch.tensor(shape["text"]["vocab"]))
    torch.save(mixed, os.path.join(HERE, "openai.pt"))

    theirs = ref.transformers_model(shape, "quick_gelu")
    theirs.load_state_dict(ref.to_transformers(state), strict=False)
    theirs.save_pretrained(os.path.join(HERE, "hf"), safe_serialization=True)
    config = os.path.join(HERE, "hf", "config.json")
    with open(config) as f:
        fields = json.load(f)
    with open(config, "w") as f:
        json.dump(fields, f, indent=1, sort_keys=True)


if __name__ == "__main__":
    main()
