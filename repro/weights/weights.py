"""Weights under the keys of other libraries, in both directions: `repro export` writes them, `repro eval` reads them.

A layout says what another library calls each weight of our networks. To read a file, every layout is tried below every
prefix that its keys have (`state_dict.module.encoder_q.`, `teacher.backbone.`), and the place is taken where most
weights of the encoder are. What is missing, of another shape, or left over inside the encoder is an error: a network
that is not wholly the author's gives a number that nobody has earned. Heads and other networks are left out by name.
"""

from __future__ import annotations

import math
import mmap
import pickle
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from methods.parts.encoders import build_encoder
from repro.errors import UserError

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Layout:
    """What a library calls the weights of our ResNet or ViT.

    top: first part of our key -> what stands for it, with its separator; what is not there keeps its name.
    block: what stands before the number of a transformer block; inside: a block's layers, with separators.
    positions: how those of P patches of D channels are held. "rows": [P, D], as with us; "class": [1, 1 + P, D], the
        first row for the class token, which with us has none; "column": [P, 1, D].
    """

    name: str
    top: Mapping[str, str] = field(default_factory=dict)
    block: str = "blocks."
    inside: Mapping[str, str] = field(default_factory=dict)
    positions: Literal["rows", "class", "column"] = "rows"

    def key(self, ours: str) -> str:
        """The library's key for a key of ours."""
        layer, _, kind = ours.rpartition(".")
        if ours.startswith("blocks.") and self.inside:
            _, number, layer = layer.split(".", 2)
            return f"{self.block}{number}.{self.inside[layer]}{kind}"
        first, _, rest = ours.partition(".")
        return self.top.get(first, f"{first}." if rest else first) + rest

    def theirs(self, weights: Mapping[str, Tensor]) -> Weights:
        """Our weights as the library holds them; a class token's position is zero."""
        named = {self.key(name): value for name, value in weights.items()}
        if self.positions == "class":
            place = weights["positions"]
            named[self.key("positions")] = torch.cat([torch.zeros_like(place[:1]), place])[None]
        elif self.positions == "column":
            named[self.key("positions")] = weights["positions"][:, None]
        return named

    def ours(self, weights: Mapping[str, Tensor]) -> Weights:
        """The inverse, of values under our keys: what the class token's position adds to it becomes part of it."""
        named = dict(weights)
        if self.positions == "class":
            place = named["positions"]
            named["positions"] = place[0, 1:]
            named["class_token"] = named["class_token"] + place[:, :1]
        elif self.positions == "column":
            named["positions"] = named["positions"][:, 0]
        return named

    def shape(self, name: str, value: Tensor) -> tuple[int, ...]:
        """The shape that the library gives our weight `name`."""
        if self.positions == "rows" or name != "positions":
            return tuple(value.shape)
        rows, width = value.shape
        return (1, rows + 1, width) if self.positions == "class" else (rows, 1, width)


# timm's and mmpretrain's ResNets, MoCo's, SwAV's and ours have torchvision's keys; an nn.Sequential of a ResNet's
# children, which lightly and many scripts keep, has numbers.
RESNET = {
    "torchvision": Layout("torchvision"),
    "children": Layout(
        "children",
        {"conv1": "0.", "bn1": "1.", "layer1": "4.", "layer2": "5.", "layer3": "6.", "layer4": "7."},
    ),
}
_TIMM_BLOCK = {
    "norm1": "norm1.",
    "qkv": "attn.qkv.",
    "proj": "attn.proj.",
    "norm2": "norm2.",
    "mlp.0": "mlp.fc1.",
    "mlp.2": "mlp.fc2.",
}
VIT = {
    "repro": Layout("repro"),
    "timm": Layout(  # also DeiT's, DINO's, MAE's and MoCo-v3's
        "timm",
        {"class_token": "cls_token", "positions": "pos_embed", "patches": "patch_embed.proj.", "norm": "norm."},
        "blocks.",
        _TIMM_BLOCK,
        positions="class",
    ),
    "mmpretrain": Layout(
        "mmpretrain",
        {"class_token": "cls_token", "positions": "pos_embed", "patches": "patch_embed.projection.", "norm": "ln1."},
        "layers.",
        {
            "norm1": "ln1.",
            "qkv": "attn.qkv.",
            "proj": "attn.proj.",
            "norm2": "ln2.",
            "mlp.0": "ffn.layers.0.0.",
            "mlp.2": "ffn.layers.1.",
        },
        positions="class",
    ),
    "torchvision": Layout(
        "torchvision",
        {
            "class_token": "class_token",
            "positions": "encoder.pos_embedding",
            "patches": "conv_proj.",
            "norm": "encoder.ln.",
        },
        "encoder.layers.encoder_layer_",
        {
            "norm1": "ln_1.",
            "qkv": "self_attention.in_proj_",
            "proj": "self_attention.out_proj.",
            "norm2": "ln_2.",
            "mlp.0": "mlp.0.",
            "mlp.2": "mlp.3.",
        },
        positions="class",
    ),
    "aps": Layout(  # as released; the blocks are timm's
        "aps",
        {"class_token": "cls_token", "positions": "pos_embedding", "patches": "patchify.", "norm": "layer_norm."},
        "transformer.",
        _TIMM_BLOCK,
        positions="column",
    ),
}
_LAYOUTS = {"resnet": RESNET, "vit": VIT}

# --------------------------------------------------------------------------------------------- networks by their names


def _resnet(depth: int, stem: str) -> dict[str, Any]:
    return {"arch": "resnet", "depth": depth, "width": 64, "stem": stem, "zero_init_residual": False}


def _vit(dim: int, heads: int) -> dict[str, Any]:
    return {
        "arch": "vit",
        "size": 224,
        "dim": dim,
        "depth": 12,
        "heads": heads,
        "patch": 16,
        "qkv_bias": True,
        "eps": 1e-6,
        "positions": "learned",
        "init": "torch",
        "freeze_patches": False,
        "pool": "class",
    }


ARCHS: Mapping[str, Mapping[str, Any]] = {
    **{f"resnet{depth}": _resnet(depth, "imagenet") for depth in (18, 34, 50)},
    **{f"resnet{depth}-cifar": _resnet(depth, "cifar") for depth in (18, 34, 50)},
    "vit_tiny": _vit(192, 3),
    "vit_small": _vit(384, 6),
    "vit_base": _vit(768, 12),
}
"""What `--arch` may say: the table [network] of each; any key may be changed with --set network.KEY=VALUE."""

# ---------------------------------------------------------------------------------------------------------------- files


@dataclass(frozen=True)
class File:
    """A checkpoint of anybody's.

    name: of the file, without folders.  tensors: by dotted path through the tables that the file holds.
    about: network, mean and std, where we wrote the file ourselves and it says them; else empty.
    """

    name: str
    tensors: Mapping[str, Tensor]
    about: Mapping[str, Any]


def read(path: Path) -> File:
    """The tensors of a file of PyTorch or safetensors, on the CPU; nothing in it is executed.

    Raises UserError, in one line, where there is no such file, it is damaged, would have to be unpickled in full, or
    holds no tensors.
    """
    if path.is_dir():
        raise UserError(f"{path} is a folder; give the file of weights in it")
    if not path.is_file():
        raise UserError(f"no checkpoint {path}")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "GLOBAL" not in str(error) and "global" not in str(error):
            raise UserError(f"{path}: damaged, or no checkpoint of PyTorch") from None
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        state, note = "['state_dict']", "the table may have another name"
        if _holds_module(path):
            state, note = ".state_dict()", "of a module in a table: ['NAME'].state_dict()"
        raise UserError(
            f"{path}: refused, to read it would run code that it brings along"
            f" ({found[1] if found else 'more than tensors and plain values'}); where its author's code is at hand,"
            ' and trusted, keep the weights alone, and give that file: python -c "import torch; torch.save('
            f"torch.load('{path.name}', weights_only=False){state}, 'weights.pth')\" ({note})"
        ) from None
    except Exception as error:  # torch has many for a file that is cut off or of another kind
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(f"{path}: damaged, or no checkpoint of PyTorch ({reason[:100]})") from None
    about: dict[str, Any] = {}
    if isinstance(state, Mapping) and {"form", "network", "mean", "std", "weights"} <= state.keys():
        about = {key: state[key] for key in ("network", "mean", "std")}
    tensors = dict(_flat(state, ""))
    if not tensors:
        raise UserError(f"{path}: no table of weights in it, but {type(state).__name__}")
    return File(path.name, tensors, about)


def _holds_module(path: Path) -> bool:
    """Whether a module of PyTorch was pickled, by the attributes that each has: nothing is unpickled to find out."""
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return all(content.find(name) >= 0 for name in (b"_parameters", b"_modules"))


def _flat(value: Any, path: str) -> Iterable[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield path, value
    elif isinstance(value, (Mapping, list, tuple)):
        for key, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _flat(item, f"{path}.{key}" if path else str(key))


def _read_safetensors(path: Path) -> File:
    import json

    try:
        import safetensors
    except ImportError as error:
        raise UserError(f"{path}: {error}; pip install safetensors") from None
    try:
        with safetensors.safe_open(path, "pt") as stream:
            said, names = stream.metadata() or {}, stream.keys()
            tensors = {name: stream.get_tensor(name) for name in names}
    except (safetensors.SafetensorError, OSError) as error:
        raise UserError(f"{path}: damaged, or no file of safetensors ({str(error).splitlines()[0][:80]})") from None
    about = {key: json.loads(said[key]) for key in ("network", "mean", "std")} if "network" in said else {}
    return File(path.name, tensors, about)


# ------------------------------------------------------------------------------------------------------------- matching

_HEAD = re.compile(
    r"(fc|heads?|head_dist|classifier|linear|projectors?|projection\w*|proj_head|predictors?|prediction\w*|neck|mlp|"
    r"prototypes|queue\w*|decoder\w*|mask_token|last_layer|contrastive\w*)(\.|$)"
)
# Parts that some encoders have, ours not, and without which features are others.
_TRUNK = re.compile(r"(norm_pre|fc_norm|pre_norm|reg_token|register_tokens|dist_token|rel_pos\w*|attn_pool|rope)(\.|$)")
# Where a file holds a network twice, the second one of these is the one that its authors do not evaluate.
_SHADOWS = ("encoder_k", "momentum", "target", "student", "ema", "key", "offline")
_SHOWN = 3


@dataclass(frozen=True)
class Match:
    """How a file fits a network; names are the file's own.

    weights: complete, under our keys, float32; empty unless `fits`.
    missing, misshapen, inside: of the encoder, not in the file; of another shape, with both; in the file alone.
    filled: counters of BatchNorm that old files lack, set to 0: no result depends on them.
    heads: classifiers, projectors and the like beside the encoder.  others: everything else in the file.
    """

    layout: str
    part: str
    parts: tuple[str, ...]  # all that fit as well as the chosen one
    matched: int
    weights: Weights
    missing: tuple[str, ...]
    misshapen: tuple[str, ...]
    inside: tuple[str, ...]
    filled: tuple[str, ...]
    heads: tuple[str, ...]
    others: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Whether the encoder is whole, and wholly used."""
        return not (self.missing or self.misshapen or self.inside)


def match(file: File, network: Mapping[str, Any], part: str | None = None) -> Match | None:
    """Find the network's weights in a file; None where none of its keys is there.

    part: the prefix of the keys, for a file that holds several networks; None: the one with most weights of the
    encoder, of equals the one that is evaluated (query, online, base, teacher: not key, target, momentum, student).
    Raises UserError for a part that there is not, or a choice that only the user can make.
    """
    with torch.device("meta"):
        want = build_encoder(network).state_dict()
    counts: Counter[tuple[str, str]] = Counter()
    for layout in _LAYOUTS[network["arch"]].values():
        known = {layout.key(name) for name in want}
        for name in file.tensors:
            starts = [0, *(found.end() for found in re.finditer(r"\.", name))]
            counts.update((layout.name, name[:start]) for start in starts if name[start:] in known)
    if not counts:
        return None
    if part is not None:
        part = part and part.rstrip(".") + "."
        there = Counter({key: count for key, count in counts.items() if key[1] == part})
        if not there:
            places = list(dict.fromkeys(prefix.rstrip(".") or "''" for (_, prefix), _ in counts.most_common()))
            raise UserError(f"{file.name}: --part {part.rstrip('.')}: no such weights there, but below {_few(places)}")
        counts = there
    most = max(counts.values())
    best = [key for key, count in counts.items() if count == most]
    plain = [key for key in best if not _shadow(key[1])] or best
    layout = _LAYOUTS[network["arch"]][plain[0][0]]
    prefixes = tuple(sorted({prefix for _, prefix in best}))
    if part is None and most > len(want) // 2 and len({prefix for _, prefix in plain}) > 1:
        raise UserError(
            f"{file.name}: it holds several such networks, below {_few([p.rstrip('.') for p in prefixes], 9)};"
            " choose one with --part PREFIX"
        )
    return _compare(file, layout, plain[0][1], prefixes, want)


def _shadow(prefix: str) -> bool:
    words = re.split(r"[._]", prefix)
    return any(name in prefix if "_" in name else name in words for name in _SHADOWS)


def _compare(file: File, layout: Layout, part: str, parts: tuple[str, ...], want: Mapping[str, Tensor]) -> Match:
    found: Weights = {}
    missing, misshapen, filled = [], [], []
    for name, value in want.items():
        theirs = part + layout.key(name)
        there = file.tensors.get(theirs)
        if there is None and name.endswith("num_batches_tracked"):
            filled.append(theirs)
            found[name] = torch.zeros((), dtype=torch.int64)
        elif there is None:
            missing.append(theirs)
        elif tuple(there.shape) != (shape := layout.shape(name, value)):
            misshapen.append(f"{theirs} is {_size(there.shape)}, not {_size(shape)}")
        else:
            found[name] = there.float() if there.is_floating_point() else there
    used = {part + layout.key(name) for name in want}
    trunk = {layout.key(name).split(".")[0] for name in want}
    above = re.sub(r"[^.]+\.$", "", part)
    inside: list[str] = []
    heads: list[str] = []
    others: list[str] = []
    for name in file.tensors:
        if name in used:
            continue
        rest = name.removeprefix(part)
        if name.startswith(part) and (rest.split(".")[0] in trunk or _TRUNK.match(rest)):
            inside.append(name)
        else:
            (heads if _HEAD.match(rest) or _HEAD.match(name.removeprefix(above)) else others).append(name)
    whole = not (missing or misshapen or inside)
    if whole and (bad := [n for n, v in found.items() if v.is_floating_point() and not bool(v.isfinite().all())]):
        raise UserError(f"{file.name}: {part + layout.key(bad[0])} holds values that are not finite")
    return Match(
        layout=layout.name,
        part=part,
        parts=parts,
        matched=len(found) - len(filled),
        weights=layout.ours(found) if whole else {},
        missing=tuple(missing),
        misshapen=tuple(misshapen),
        inside=tuple(inside),
        filled=tuple(filled),
        heads=tuple(heads),
        others=tuple(others),
    )


class Misfit(UserError):
    """A file whose encoder is not wholly the network's.  names: a line for every key without counterpart, and why."""

    def __init__(self, text: str, names: Iterable[tuple[str, Iterable[str]]]) -> None:
        super().__init__(text)
        self.names = [f"{why}: {name}" for why, some in names for name in some]


def find(file: File, network: Mapping[str, Any], said: str, part: str | None = None) -> Match:
    """`match`, and Misfit, in one line, where the encoder of the file is not wholly that network's.

    said: the network as the user named it.
    """
    found = match(file, network, part)
    if found is None:
        names = [name for name, _ in _biggest(file.tensors)]
        raise Misfit(
            f"{file.name}: none of its {len(names)} tensors is a weight of {said}"
            f" (it has {_counted(names)}){_hint(file)}",
            [("no weight of it", file.tensors)],
        )
    if found.fits:
        return found
    kinds = {
        "missing": (found.missing, "of its weights are missing"),
        "of another shape": (found.misshapen, "are of another shape"),
        "no place in it": (found.inside, "of the file's encoder have no place in it"),
        "left out": (found.heads + found.others, "of the file are no part of it"),
    }
    faults = [f"{len(names)} {what} ({_counted(names, found.part)})" for names, what in kinds.values() if names]
    raise Misfit(
        f"{file.name}: not a whole {said}, {found.matched} weights fit but {'; '.join(faults)}"
        f"{_positions(found, network)}{_hint(file, part)}",
        [(why, names) for why, (names, _) in kinds.items()],
    )


def _positions(found: Match, network: Mapping[str, Any]) -> str:
    """What to do about positions of another grid, and about the biases that ViTs have or lack."""
    text = ""
    shapes = " ".join(found.misshapen)
    rows = re.search(r"(?:pos_embed|pos_embedding|positions) is (?:1x)?(\d+)x", shapes)
    if network["arch"] == "vit" and rows:
        kernel = re.search(r" is \d+x3x(\d+)x\1, not", shapes)  # the one weight of four axes: of the patches
        patch = int(kernel[1]) if kernel else network["patch"]
        side = network["size"] // network["patch"]
        grid = math.isqrt(int(rows[1]))  # a row for the class token makes no other square
        text += (
            f"; its positions are those of a {grid} x {grid} grid of patches, size {network['size']} with patch"
            f" {network['patch']} has {side} x {side}: they are not interpolated, say"
            f" --set network.size={grid * patch}" + (f" network.patch={patch}" if kernel else "")
        )
    for names, value in ((found.missing, "false"), (found.inside, "true")):
        if names and network["arch"] == "vit" and all("qkv.bias" in name or "in_proj_bias" in name for name in names):
            text += f"; say --set network.qkv_bias={value}"
    return text


def _hint(file: File, part: str | None = None) -> str:
    """The architectures that the file does fit."""
    fitting = []
    for name, network in ARCHS.items():
        try:
            found = match(file, network, part)
        except UserError:  # several networks: any of them will do to say so
            fitting.append(name)
            continue
        if found is not None and found.fits:
            fitting.append(name)
    return f"; it fits --arch {' or '.join(fitting)}" if fitting else ""


def _biggest(tensors: Mapping[str, Tensor]) -> Sequence[tuple[str, int]]:
    return sorted(((name, value.numel()) for name, value in tensors.items()), key=lambda item: -item[1])


def _size(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "a number"


def _few(names: Sequence[str], count: int = _SHOWN) -> str:
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")


def _counted(names: Sequence[str], part: str = "") -> str:
    """The first names; of more than are shown also how many each table has, by the first word behind `part`."""
    tables = Counter(name.removeprefix(part).split(" is ")[0].split(".")[0] for name in names)
    counts = [f"{name} {count}" for name, count in tables.most_common()]
    return _few(names) + (f"; by table: {_few(counts, 9)}" if len(names) > _SHOWN else "")


def listing(found: Match) -> list[str]:
    """Lines that say what of a file is used and what is not."""
    below = f" below {found.part.rstrip('.')}" if found.part else ""
    lines = [f"{found.matched} weights matched: keys of {found.layout}{below}"]
    if len(found.parts) > 1:
        others = [part.rstrip(".") for part in found.parts if part != found.part]
        lines.append(f"also there, not taken: {_few(others, 9)} (choose with --part)")
    if found.heads:
        lines.append(f"left out, heads and classifiers: {len(found.heads)} tensors ({_few(found.heads)})")
    if found.others:
        lines.append(f"left out, others: {len(found.others)} tensors ({_counted(found.others)})")
    if found.filled:
        lines.append(f"not in the file: {len(found.filled)} counters of BatchNorm, set to 0 (no result uses them)")
    return lines


def sheet(found: Match) -> dict[str, Any]:
    """What a record says of a match: every name."""
    return {
        "layout": found.layout,
        "part": found.part,
        "matched": found.matched,
        "filled": list(found.filled),
        "heads": list(found.heads),
        "others": list(found.others),
    }
