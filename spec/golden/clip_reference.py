"""What make_clip.py and check_full.py share: CLIP by open_clip and by transformers with the same weights, the two
losses, and a safetensors writer. Names of tensors are OpenAI's ("visual.conv1.weight") unless it is said otherwise.

Needs torch, open_clip_torch and transformers (made with 1.13, 2.24 and 4.36).
"""
import json
import struct

import torch
import torch.nn.functional as F

T_TEACHER, T_STUDENT, SMOOTHING = 1.0, 10.0, 0.1
KINDS = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.int64: "I64"}


def save(path, tensors, metadata=None):
    """A safetensors file; the tensors are written one by one, so that nothing is held twice."""
    header, offset, names = ({"__metadata__": metadata} if metadata else {}), 0, sorted(tensors)
    for name in names:
        t = tensors[name]
        size = t.numel() * t.element_size()
        header[name] = {"dtype": KINDS[t.dtype], "shape": list(t.shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for name in names:
            f.write(memoryview(tensors[name].detach().contiguous().view(-1).numpy()).cast("B"))


def open_clip_model(shape, activation, custom_text=False):
    """A CLIP of open_clip; shape as in SHAPES below. custom_text: its text tower is a module of its own."""
    import open_clip
    v, t = shape["vision"], shape["text"]
    return (open_clip.CustomTextCLIP if custom_text else open_clip.CLIP)(
        embed_dim=shape["dim"], quick_gelu=activation == "quick_gelu",
        vision_cfg=dict(layers=v["layers"], width=v["width"], head_width=v["width"] // v["heads"],
                        mlp_ratio=v["mlp"] / v["width"], patch_size=v["patch"], image_size=v["image"]),
        text_cfg=dict(context_length=t["context"], vocab_size=t["vocab"], width=t["width"], heads=t["heads"],
                      layers=t["layers"], mlp_ratio=t["mlp"] / t["width"])).eval()


def transformers_model(shape, activation):
    """The same by transformers."""
    from transformers import CLIPConfig, CLIPModel
    v, t = shape["vision"], shape["text"]
    last = t["vocab"] - 1
    return CLIPModel(CLIPConfig(
        projection_dim=shape["dim"],
        vision_config=dict(hidden_size=v["width"], intermediate_size=v["mlp"], num_hidden_layers=v["layers"],
                           num_attention_heads=v["heads"], image_size=v["image"], patch_size=v["patch"],
                           hidden_act=activation, projection_dim=shape["dim"]),
        text_config=dict(hidden_size=t["width"], intermediate_size=t["mlp"], num_hidden_layers=t["layers"],
                         num_attention_heads=t["heads"], vocab_size=t["vocab"],
                         max_position_embeddings=t["context"], hidden_act=activation, projection_dim=shape["dim"],
                         bos_token_id=last - 1, eos_token_id=last, pad_token_id=0))).eval()


SHAPES = {
    "ViT-B-32": dict(dim=512, vision=dict(image=224, patch=32, width=768, layers=12, heads=12, mlp=3072),
                     text=dict(width=512, layers=12, heads=8, mlp=2048, context=77, vocab=49408)),
    "ViT-L-14": dict(dim=768, vision=dict(image=224, patch=14, width=1024, layers=24, heads=16, mlp=4096),
                     text=dict(width=768, layers=12, heads=12, mlp=3072, context=77, vocab=49408)),
    "tiny": dict(dim=6, vision=dict(image=8, patch=4, width=8, layers=2, heads=2, mlp=16),
                 text=dict(width=12, layers=2, heads=2, mlp=24, context=9, vocab=40)),
}


def fill(model, seed):
    """Random weights that a wrong layer could not hide behind: the libraries' own initialisations leave biases zero
    and LayerNorms one. All are numbers of half precision, so that every storage type holds the same weights."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            value = torch.randn(p.shape, generator=generator)
            if name == "logit_scale":
                value = torch.tensor(4.6052)
            elif ".ln_" in "." + name:
                value = value * 0.1 + (1.0 if name.endswith("weight") else 0.0)
            elif name.endswith("bias"):
                value *= 0.05
            elif name.endswith(("class_embedding", "positional_embedding", "token_embedding.weight")):
                value *= 0.4
            else:  # proj and text_projection are stored [in, out]
                fan_in = p.shape[0] if name.endswith("proj") or name == "text_projection" else p[0].numel()
                value *= (0.7 if "out_proj" in name or "c_proj" in name else 1.2) * fan_in ** -0.5
            p.copy_(value.half().float())


BLOCK = (("ln_1", "layer_norm1"), ("ln_2", "layer_norm2"), ("attn.out_proj", "self_attn.out_proj"),
         ("mlp.c_fc", "mlp.fc1"), ("mlp.c_proj", "mlp.fc2"))


def pairs(names):
    """(OpenAI name, list of transformers' names, transposed) of every tensor in names."""
    for name in names:
        tower, rest = ("vision_model", name[7:]) if name.startswith("visual.") else ("text_model", name)
        if name == "logit_scale":
            yield name, [name], False
        elif name in ("visual.proj", "text_projection"):
            yield name, [("visual_projection" if tower == "vision_model" else name) + ".weight"], True
        elif rest.startswith("transformer.resblocks."):
            _, _, layer, part = rest.split(".", 3)
            where = f"{tower}.encoder.layers.{layer}."
            if part.startswith("attn.in_proj_"):
                yield name, [where + f"self_attn.{x}_proj." + part[13:] for x in "qkv"], False
            else:
                ours, theirs = next(p for p in BLOCK if part.startswith(p[0] + "."))
                yield name, [where + theirs + part[len(ours):]], False
        else:
            theirs = {"class_embedding": "embeddings.class_embedding",
                "conv1.weight": "embeddings.patch_embedding.weight",
                      "positional_embedding": "embeddings.position_embedding.weight",
                      "token_embedding.weight": "embeddings.token_embedding.weight"}.get(rest)
            if theirs is None:
                part, kind = rest.split(".")
                theirs = {"ln_pre": "pre_layrnorm", "ln_post": "post_layernorm",
                    "ln_final": "final_layer_norm"}[part]
                theirs += "." + kind
            yield name, [f"{tower}.{theirs}"], False


def to_transformers(state):
    out = {}
    for name, theirs, transposed in pairs(state):
        t = state[name].t().contiguous() if transposed else state[name]
        for their_name, part in zip(theirs, t.chunk(len(theirs)) if len(theirs) > 1 else [t]):
            out[their_name] = part.contiguous()
    return out


def from_transformers(theirs, names):
    out = {}
    for name, parts, transposed in pairs(names):
        t = torch.cat([theirs[p] for p in parts]) if len(parts) > 1 else theirs[parts[0]]
        out[name] = t.t().contiguous() if transposed else t
    return out


def images_of(count, size, seed):
    """Smooth fields with some noise, in the range of normalised photographs."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 3, 4, 4, generator=generator)
    noise = torch.randn(count, 3, size, size, generator=generator)
    return F.interpolate(coarse, size=(size, size), mode="bicubic", align_corners=False) + 0.3 * noise


def tokens_of(count, shape, seed):
    """Start token, some words, the end token, and zeros up to the context."""
    generator = torch.Generator().manual_seed(seed)
    context, vocab = shape["text"]["context"], shape["text"]["vocab"]
    out = torch.zeros(count, context, dtype=torch.int64)
    for row in range(count):
        length = 2 + row % (context - 2)  # with start and end
        out[row, 0] = vocab - 2
        out[row, 1:length - 1] = torch.randint(1, vocab - 2, (length - 2,), generator=generator)
        out[row, length - 1] = vocab - 1
    out[count - 1, context - 1] = vocab - 1  # the longest text that fits; or a second end token: the first counts
    return out


def head_of(classes, dim, scale, seed):
    generator = torch.Generator().manual_seed(seed)
    return scale * F.normalize(torch.randn(classes, dim, generator=generator), dim=-1)


def cross_entropy(logits, labels):
    return F.cross_entropy(logits, labels, label_smoothing=SMOOTHING)


def distillation(logits, teacher):
    return T_TEACHER * T_STUDENT * F.kl_div(F.log_softmax(logits / T_STUDENT, -1),
                                            F.softmax(teacher / T_TEACHER, -1), reduction="batchmean")


def logits_of(features, head):
    return F.normalize(features, dim=-1, eps=0.0) @ head.t()


def gradients(encode, parameters, images, head, loss):
    """Loss and gradients {name: tensor} of the image tower; parameters: {name: parameter}."""
    for p in parameters.values():
        p.grad = None
    value = loss(logits_of(encode(images), head))
    value.backward()
    grads = {n: p.grad for n, p in parameters.items() if p.grad is not None}
    for p in parameters.values():
        p.grad = None
    return float(value), grads
