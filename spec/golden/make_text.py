#!/usr/bin/env python3
"""Makes spec/golden/text/: a tiny text tower over the vocabulary of make_tokens.py, and zero-shot heads made with it.

  clip.safetensors             the text tower of a CLIP in open_clip's names, float32, with logit_scale
  expected_ACTIVATION.safetensors   ids of the prompts, their features, and a head [classes, dim], in float64:
                               rows exp(logit_scale) * unit mean of unit template features
  prompts.json                 the class names and templates of the head

open_clip and transformers must agree to 1e-12 for the files to be written. Needs torch, open_clip_torch and
transformers (made with 1.13, 2.24 and 4.36); run make_tokens.py before.
"""
import json
import os
import sys

import torch

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import clip_reference as ref  # noqa: E402
import make_tokens  # noqa: E402

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "text")
SHAPE = dict(dim=10, vision=dict(image=8, patch=4, width=8, layers=1, heads=2, mlp=16),
             text=dict(width=16, layers=3, heads=2, mlp=40, context=48, vocab=512 + make_tokens.MERGES + 2))
CLASSES = ["cat", "polka-dotted", "Lake or Sea", "crème brûlée", "7", "end / de-restriction"]
TEMPLATES = ["a photo of a {}.", 'a photo of the number: "{}".', "i love my {}!"]


def unit(x):
    return x / x.norm(dim=-1, keepdim=True)


def main():
    os.makedirs(HERE, exist_ok=True)
    encode = make_tokens.tokenizer(os.path.join(HERE, "..", "bpe", "tiny_vocab.txt.gz"))
    texts = [t.replace("{}", c) for c in CLASSES for t in TEMPLATES]
    ids = encode(texts, context_length=SHAPE["text"]["context"])
    last = SHAPE["text"]["vocab"] - 1
    assert encode.eot_token_id == last and int((ids == last).sum()) == len(texts), "a prompt does not fit"
    twice = ids[0].clone()  # two ends: the first counts; no end at all: the largest id, here the first of two
    at = int(twice.argmax())
    twice[at + 1], twice[at + 2] = 5, last
    none = ids[1].clone()
    none[int(none.argmax())] = 0
    full = torch.arange(SHAPE["text"]["context"]) % 300
    ids = torch.cat([ids, twice[None], none[None], full[None]])

    model = ref.open_clip_model(SHAPE, "quick_gelu")
    ref.fill(model, 11)
    state = {n: t for n, t in model.state_dict().items() if n != "attn_mask"}
    for activation in ("quick_gelu", "gelu"):
        ours, theirs = ref.open_clip_model(SHAPE, activation), ref.transformers_model(SHAPE, activation)
        ours.load_state_dict(state)
        theirs.load_state_dict(ref.to_transformers(state), strict=False)
        theirs.text_model.eos_token_id = 2  # as OpenAI's files have it: the largest id counts, not this one
        ours, theirs = ours.double(), theirs.double()
        torch.set_default_dtype(torch.float64)
        with torch.no_grad():
            features = ours.encode_text(ids)
            gap = float((theirs.get_text_features(ids) - features).norm() / features.norm())
            assert gap <= 1e-12, gap
            per_class = unit(features[:len(texts)]).view(len(CLASSES), len(TEMPLATES), -1)
            head = ours.logit_scale.exp() * unit(per_class.mean(dim=1))
        torch.set_default_dtype(torch.float32)
        ref.save(os.path.join(HERE, f"expected_{activation}.safetensors"),
                 dict(ids=ids, features=features, head=head))
    ref.save(os.path.join(HERE, "clip.safetensors"),
             {n: t for n, t in state.items() if not n.startswith("visual.")}, {"text.heads": "2"})
    with open(os.path.join(HERE, "prompts.json"), "w") as file:
        json.dump(dict(classes=CLASSES, templates=TEMPLATES), file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
