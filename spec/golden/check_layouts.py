"""Needs: torch, transformers (>= 4.31), open_clip, safetensors.

Proves that `distac convert` reads and writes CLIP checkpoints as their publishers do: models with random weights,
made by transformers and open_clip, go through every layout and back, are compared bit for bit, and are loaded by both
libraries, which must compute the same features.

  python spec/golden/check_layouts.py [--program build/distac] [--full] [--size NAME]... [--tmp DIR]

Without --full: tiny models. --full: ViT-B/32 and ViT-L/14 too (L/14 needs 12 GB of disk and 6 GB of memory). open_clip
must read safetensors files: 2.32 does, 2.24 does not.

Seen with torch 1.13, transformers 4.36.2, open_clip 2.32.0: tiny 60 of 60; ViT-B/32 38 of 38; ViT-L/14 22 of 22
(without the tiny ones)."""

import argparse
import copy
import os
import shutil
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("TQDM_DISABLE", "1")
import open_clip
import open_clip.model
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file, save_file

# The size of a model: image, patch, width, layers, text width, text layers, features, vocabulary, context.
SIZES = {
    "tiny": dict(image=32, patch=8, width=64, layers=2, text_width=64, text_layers=2, dim=24, vocab=120,
        context=12),
    "ViT-B-32": dict(image=224, patch=32, width=768, layers=12, text_width=512, text_layers=12, dim=512,
        vocab=49408,
                     context=77),
    "ViT-L-14": dict(image=224, patch=14, width=1024, layers=24, text_width=768, text_layers=12, dim=768,
        vocab=49408,
                     context=77),
}
TOLERANCE = 2e-5  # on normalised features, between the two libraries

counts = {"passed": 0, "failed": 0}


def check(what, good, detail=""):
    counts["passed" if good else "failed"] += 1
    print(("  ok      " if good else "  FAILED  ") + what + (f"  {detail}" if detail else ""), flush=True)


class Files:
    """The tensors of safetensors files, read one at a time: two models of ViT-L/14 never lie in memory together."""

    def __init__(self, *paths):
        self.at = {}
        for path in paths:
            file = safe_open(path, "pt")
            self.at.update({k: file for k in file.keys()})

    def __iter__(self):
        return iter(self.at)

    def __len__(self):
        return len(self.at)

    def __getitem__(self, name):
        return self.at[name].get_tensor(name)


def same(what, a, b):
    """Two state dicts, bit for bit, types and shapes too."""
    problems = [k for k in sorted(set(a) ^ set(b))]
    for k in sorted(set(a) & set(b)):
        x, y = a[k], b[k]
        if x.dtype != y.dtype or x.shape != y.shape or not torch.equal(
                x.contiguous().view(torch.uint8) if x.dim() else x.reshape(1).view(torch.uint8),
                y.contiguous().view(torch.uint8) if y.dim() else y.reshape(1).view(torch.uint8)):
            problems.append(k)
    check(what, not problems and len(a) > 0, f"{len(a)} tensors" if not problems else f"differ: {problems[:6]}")


def unit(x):
    return x / x.norm(dim=-1, keepdim=True)


def near(what, a, b, tolerance=TOLERANCE):
    gap = (unit(a.float()) - unit(b.float())).abs().max().item()
    check(what, gap <= tolerance, f"max difference {gap:.2e}")  # NaN fails


class ImageEncoder(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model


class ImageClassifier(torch.nn.Module):
    def __init__(self, image_encoder, dim):
        super().__init__()
        self.image_encoder = image_encoder
        self.classification_head = torch.nn.Linear(dim, 5)


class Proof:
    def __init__(self, program, folder, size, quick):
        self.program, self.folder, self.size, self.s, self.quick = program, folder, size, SIZES[size], quick
        torch.manual_seed(11)
        s = self.s
        self.images = torch.randn(2, 3, s["image"], s["image"])
        self.ids = torch.zeros(3, s["context"], dtype=torch.long)
        for i, n in enumerate((3, 5, s["context"])):
            self.ids[i, :n] = torch.randint(1, s["vocab"] - 2, (n,))
            self.ids[i, 0], self.ids[i, n - 1] = s["vocab"] - 2, s["vocab"] - 1

    # ---- models ----
    def hf_config(self, act):
        s = self.s
        config = transformers.CLIPConfig(
            projection_dim=s["dim"],
            vision_config=dict(hidden_size=s["width"], intermediate_size=4 * s["width"], image_size=s["image"],
                               patch_size=s["patch"], num_hidden_layers=s["layers"], hidden_act=act,
                               num_attention_heads=s["width"] // 64, projection_dim=s["dim"]),
            text_config=dict(hidden_size=s["text_width"], intermediate_size=4 * s["text_width"],
                             num_hidden_layers=s["text_layers"], hidden_act=act, vocab_size=s["vocab"],
                             num_attention_heads=s["text_width"] // 64, max_position_embeddings=s["context"],
                             projection_dim=s["dim"], bos_token_id=s["vocab"] - 2, eos_token_id=s["vocab"] - 1,
                             pad_token_id=s["vocab"] - 1))
        return config

    def hf_model(self, act="quick_gelu"):
        torch.manual_seed(5)
        model = transformers.CLIPModel(self.hf_config(act)).eval()
        with torch.no_grad():  # biases and norms away from 0 and 1: no mistake may hide there
            for p in model.parameters():
                p.add_(torch.randn_like(p) * 0.02)
        return model

    def oc_model(self, quick=True, pretrained=None):
        s = self.s
        torch.manual_seed(7)
        if self.size != "tiny":
            name = self.size + ("-quickgelu" if quick else "")
            model = open_clip.create_model(name, pretrained=pretrained)
        else:
            model = open_clip.model.CLIP(
                s["dim"], dict(image_size=s["image"], layers=s["layers"], width=s["width"], patch_size=s["patch"]),
                dict(context_length=s["context"], vocab_size=s["vocab"], width=s["text_width"],
                     heads=s["text_width"] // 64, layers=s["text_layers"]), quick_gelu=quick)
            if pretrained:
                open_clip.factory.load_checkpoint(model, pretrained)
        if not pretrained:
            with torch.no_grad():
                for p in model.parameters():
                    p.add_(torch.randn_like(p) * 0.02)
        return model.eval()

    def features(self, model):
        with torch.no_grad():
            if isinstance(model, transformers.CLIPModel):
                return (model.get_image_features(pixel_values=self.images), model.get_text_features(self.ids))
            if isinstance(model, transformers.CLIPVisionModelWithProjection):
                return (model(self.images).image_embeds, None)
            if isinstance(model, transformers.CLIPVisionModel):
                return (model(self.images).pooler_output, None)
            return model.encode_image(self.images), model.encode_text(self.ids)

    # ---- the program ----
    def path(self, name):
        return os.path.join(self.folder, name)

    def run(self, *args, status=0):
        done = subprocess.run([self.program, *args], capture_output=True, text=True, cwd=self.folder)
        if done.returncode != status:
            raise SystemExit(f"distac {' '.join(args)}: status {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    def convert(self, source, target, *options):
        begun = time.time()
        text = self.run("convert", source, target, "--force", *options)
        return text, time.time() - begun

    def folder_state(self, name):
        return Files(*(self.path(f"{name}/{file}") for file in sorted(os.listdir(self.path(name)))
                       if file.endswith(".safetensors")))

    def clean(self, *names):
        for name in names:
            if os.path.isdir(self.path(name)):
                shutil.rmtree(self.path(name))
            elif os.path.exists(self.path(name)):
                os.remove(self.path(name))

    # ---- proofs ----
    def from_transformers(self):
        print(f"{self.size}: transformers' CLIPModel -> open_clip -> hf")
        model = self.hf_model()
        expected = self.features(model)
        model.save_pretrained(self.path("hf"), max_shard_size="100GB", safe_serialization=True)
        shards = "300KB" if self.size == "tiny" else "300MB"
        model.save_pretrained(self.path("hf4"), max_shard_size=shards, safe_serialization=True)
        model.save_pretrained(self.path("bin1"), max_shard_size="100GB", safe_serialization=False)
        if not self.quick:
            model.save_pretrained(self.path("bin2"), max_shard_size=shards, safe_serialization=False)
        del model
        state = self.folder_state("hf")
        _, seconds = self.convert("hf", "oc.safetensors", "--to", "open_clip")
        text = self.run("inspect", "oc.safetensors")
        check("inspect tells layout and activation", "layout open_clip" in text
            and "activation quick_gelu" in text)
        self.convert("oc.safetensors", "hf2", "--to", "hf")
        same(f"round trip, bit for bit ({seconds:.1f} s to open_clip)", state, self.folder_state("hf2"))
        again = transformers.CLIPModel.from_pretrained(self.path("hf2")).eval()
        for name, a, b in zip(("image", "text"), expected, self.features(again)):
            check(f"transformers: {name} features equal", torch.equal(a, b))
        del again
        other = self.oc_model(quick=True, pretrained=self.path("oc.safetensors"))
        for name, a, b in zip(("image", "text"), expected, self.features(other)):
            near(f"open_clip: {name} features", a, b)
        del other
        self.clean("hf2")
        self.convert("oc.safetensors", "hf3", "--to", "hf", "--shard", "300kB" if self.size == "tiny" else "300MB")
        check("several files", os.path.exists(self.path("hf3/model.safetensors.index.json")))
        again = transformers.CLIPModel.from_pretrained(self.path("hf3")).eval()
        check("transformers loads the parts", torch.equal(expected[0], self.features(again)[0]))
        del again
        self.convert("hf3/model.safetensors.index.json", "oc3.safetensors", "--to", "open_clip")
        same("from the index, bit for bit", Files(self.path("oc.safetensors")),
             Files(self.path("oc3.safetensors")))
        self.clean("hf3", "oc3.safetensors")
        self.convert("hf4", "oc4.safetensors", "--to", "open_clip")
        same("transformers' own parts, bit for bit", Files(self.path("oc.safetensors")),
             Files(self.path("oc4.safetensors")))
        self.clean("hf4", "oc4.safetensors")
        for name in ("bin1",) if self.quick else ("bin1", "bin2"):
            self.convert(name, "oc5.safetensors", "--to", "open_clip")
            files = sum(f.endswith(".bin") for f in os.listdir(self.path(name)))
            same(f"pytorch_model.bin in {files} files, bit for bit", Files(self.path("oc.safetensors")),
                 Files(self.path("oc5.safetensors")))
            self.clean(name, "oc5.safetensors")
        if self.size != "tiny":
            self.clean("hf", "oc.safetensors")
            return
        old = {k: state[k] for k in state}  # as files of old versions have them
        old["text_model.embeddings.position_ids"] = torch.arange(self.s["context"])[None]
        old["vision_model.embeddings.position_ids"] = torch.arange(17)[None]
        save_file(old, self.path("old.safetensors"), {"format": "pt"})
        self.convert("old.safetensors", "oc6.safetensors", "--to", "open_clip")
        same("position_ids are left out", Files(self.path("oc.safetensors")),
             Files(self.path("oc6.safetensors")))
        self.clean("hf", "oc.safetensors", "old.safetensors", "oc6.safetensors")

    def published(self):
        """Files as task-vector repositories have them: whole modules, training states, stacked pickles."""
        print(f"{self.size}: files of training scripts")
        encoder = ImageEncoder(self.oc_model())
        state = {k: v.contiguous() for k, v in encoder.model.state_dict().items() if k != "attn_mask"}
        classifier = ImageClassifier(encoder, self.s["dim"])
        stripped = copy.deepcopy(encoder)
        del stripped.model.transformer
        cases = {
            "a whole module": (encoder, {}, "CLIPModel", ()),
            "a classifier": (classifier, {}, "CLIPModel", ("classification_head.weight",
            "classification_head.bias")),
            "a module without the text blocks": (stripped, {}, "CLIPVisionModelWithProjection", ()),
            "a training state": ({"epoch": 3, "state_dict": {"module." + k: v for k, v in state.items()}}, {},
                                 "CLIPModel", ()),
            "a state dict from before 1.6": (state, {"_use_new_zipfile_serialization": False}, "CLIPModel", ()),
        }
        for what, (saved, options, kind, more) in cases.items():
            torch.save(saved, self.path("in.pt"), **options)
            self.convert("in.pt", "oc.safetensors", "--to", "open_clip")
            got = Files(self.path("oc.safetensors"))
            want = {k: v for k, v in state.items() if saved is not stripped or not k.startswith("transformer.")}
            want.update({k: classifier.state_dict()[k] for k in more})
            same(f"{what}, bit for bit", want, got)
            self.convert("in.pt", "hf", "--to", "hf", "--activation", "quick_gelu")
            again, info = getattr(transformers, kind).from_pretrained(self.path("hf"), output_loading_info=True)
            check(f"{what}: transformers' {kind} lacks nothing", not info["missing_keys"])
            near(f"{what}: image features", self.features(encoder.model)[0], self.features(again.eval())[0])
            self.clean("in.pt", "oc.safetensors", "hf")

    def merged(self):
        print(f"{self.size}: merging what transformers published")
        model = self.hf_model()
        for name in ("a", "b", "c"):
            with torch.no_grad():
                for p in model.parameters():
                    p.add_(torch.randn_like(p) * 0.01)
            model.save_pretrained(self.path(name), safe_serialization=True)
            self.convert(name, name + ".safetensors", "--to", "open_clip")
        for method in ("task_arithmetic", "ties", "tsvm"):
            self.run("merge", "--base", "a", "--method", method, "-o", "m.safetensors", "--force", "b",
                "c.safetensors")
            self.run("merge", "--base", "a.safetensors", "--method", method, "-o", "n.safetensors", "--force",
                     "b.safetensors", "c.safetensors")
            self.convert("m.safetensors", "m2.safetensors", "--to", "open_clip")
            names = set(Files(self.path("m.safetensors")))
            check(f"{method}: the base's names", names == set(self.folder_state("a")))
            same(f"{method}: as among canonical names", Files(self.path("m2.safetensors")),
                 Files(self.path("n.safetensors")))
        self.clean("a", "b", "c", *(n + ".safetensors" for n in "a b c m n m2".split()))

    def from_open_clip(self):
        print(f"{self.size}: open_clip's state dict -> hf -> open_clip")
        for quick in (True, False):
            act = "quick_gelu" if quick else "gelu"
            model = self.oc_model(quick)
            expected = self.features(model)
            state = {k: v.contiguous() for k, v in model.state_dict().items() if k != "attn_mask"}
            torch.save(model.state_dict(), self.path("oc.pt"))
            save_file(state, self.path("state.safetensors"))
            state = Files(self.path("state.safetensors"))
            del model
            text = self.run("convert", "oc.pt", "hf", "--to", "hf", status=1)
            check("the activation is never guessed", "--activation" in text
                and not os.path.exists(self.path("hf")))
            self.convert("oc.pt", "hf", "--to", "hf", "--activation", act)
            again = transformers.CLIPModel.from_pretrained(self.path("hf")).eval()
            for name, a, b in zip(("image", "text"), expected, self.features(again)):
                near(f"transformers ({act}): {name} features", a, b)
            del again
            self.convert("hf", "back.safetensors", "--to", "open_clip")
            same("round trip, bit for bit", state, Files(self.path("back.safetensors")))
            other = self.oc_model(quick, pretrained=self.path("back.safetensors"))
            check("open_clip.create_model(pretrained = FILE): features equal",
                  all(torch.equal(a, b) for a, b in zip(expected, self.features(other))))
            del other
            self.clean("hf", "back.safetensors", "oc.pt", "state.safetensors")
            if self.quick:
                break

    def vision_only(self):
        print(f"{self.size}: the image tower alone")
        torch.manual_seed(9)
        config = self.hf_config("quick_gelu").vision_config
        for kind in (transformers.CLIPVisionModelWithProjection, transformers.CLIPVisionModel):
            model = kind(config).eval()
            expected = self.features(model)[0]
            model.save_pretrained(self.path("hf"), safe_serialization=True)
            del model
            state = self.folder_state("hf")
            text, _ = self.convert("hf", "oc.safetensors", "--to", "open_clip")
            check(f"{kind.__name__}: what open_clip will miss is told", "the text tower" in text)
            text, _ = self.convert("oc.safetensors", "hf2", "--to", "hf")
            check("the class is known by what is there", text.rstrip().endswith(f"({kind.__name__})"))
            same("round trip, bit for bit", state, self.folder_state("hf2"))
            again = kind.from_pretrained(self.path("hf2")).eval()
            check("transformers: features equal", torch.equal(expected, self.features(again)[0]))
            self.clean("hf", "hf2", "oc.safetensors")
            del again
            if self.quick:
                break

    def types_and_prefixes(self):
        print(f"{self.size}: element types and prefixes")
        source = {k: v.contiguous() for k, v in self.oc_model().state_dict().items() if k != "attn_mask"}
        half = lambda k, v: v.half() if v.dim() > 1 and "embedding" not in k else v
        openai = {k: half(k, v) for k, v in source.items()}
        variants = {
            "fp16 as OpenAI stores it": (openai, {"input_resolution": torch.tensor(self.s["image"]),
                                                  "context_length": torch.tensor(self.s["context"]),
                                                  "vocab_size": torch.tensor(self.s["vocab"])}, ""),
            "bf16, prefix model.": ({k: v.bfloat16() for k, v in source.items()}, {}, "model."),
            "f16, prefix module.image_encoder.model.": ({k: v.half() for k, v in source.items()}, {},
                                                        "module.image_encoder.model."),
            "f64, prefix clip.": ({k: v.double() for k, v in source.items()}, {}, "clip."),
        }
        for what, (state, extra, prefix) in variants.items():
            stored = {prefix + k: v for k, v in state.items()}
            stored.update(extra)
            if self.size == "ViT-L-14" and "f64" in what:
                continue
            save_file(stored, self.path("in.safetensors"))
            self.convert("in.safetensors", "hf", "--to", "hf", "--activation", "quick_gelu")
            self.convert("hf", "back.safetensors", "--to", "open_clip")
            same(f"{what}: round trip, bit for bit", state, Files(self.path("back.safetensors")))
            again, info = transformers.CLIPModel.from_pretrained(self.path("hf"), output_loading_info=True)
            check("transformers loads all of it and nothing else",
                  not any(info[k] for k in ("missing_keys", "unexpected_keys", "mismatched_keys")))
            del again
            self.clean("hf", "back.safetensors", "in.safetensors")
            if self.quick:
                break


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", default="build/distac")
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--size", action="append", choices=list(SIZES))
    parser.add_argument("--tmp")
    args = parser.parse_args()
    torch.set_num_threads(2)
    sizes = args.size or (list(SIZES) if args.full else ["tiny"])
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, open_clip {open_clip.__version__}")
    begun = time.time()
    one = {"a": torch.ones(3)}
    same("(control: equal)", one, {"a": torch.ones(3)})
    same("(control: must differ)", one, {"a": torch.ones(3) + 2 ** -23})
    same("(control: must differ)", one, {"a": torch.ones(3), "b": torch.ones(1)})
    near("(control: must differ)", torch.ones(3), torch.full((3,), float("nan")))
    if counts != {"passed": 1, "failed": 3}:
        raise SystemExit("the comparisons themselves are wrong")
    counts.update(passed=0, failed=0)
    for size in sizes:
        folder = tempfile.mkdtemp(prefix="layouts-", dir=args.tmp)
        try:
            proof = Proof(os.path.abspath(args.program), folder, size, quick=size == "ViT-L-14")
            for step in (proof.from_transformers, proof.from_open_clip, proof.vision_only,
                proof.types_and_prefixes,
                         *([proof.published, proof.merged] if size == "tiny" else [])):
                step()
        finally:
            shutil.rmtree(folder)
    print(f"{counts['passed']} passed, {counts['failed']} failed, {time.time() - begun:.0f} s")
    sys.exit(1 if counts["failed"] or not counts["passed"] else 0)


if __name__ == "__main__":
    main()
