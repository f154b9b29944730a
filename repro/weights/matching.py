"""Where in a file the weights of a network are, and what of both has no counterpart: facts, no words.

Every layout is tried below every prefix that the keys of a file have (`state_dict.module.encoder_q.`,
`teacher.backbone.`), and the place is taken where most weights of the encoder are.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from methods.parts.encoders import build_encoder
from repro.weights.files import File
from repro.weights.layouts import LAYOUTS, Layout, Weights

_HEAD = re.compile(
    r"(fc|heads?|head_dist|classifier|linear|projectors?|projection\w*|proj_head|predictors?|prediction\w*|neck|mlp|"
    r"prototypes|queue\w*|decoder\w*|mask_token|last_layer|contrastive\w*)(\.|$)"
)
# Parts that some encoders have, ours not, and without which features are others.
_TRUNK = re.compile(r"(norm_pre|fc_norm|pre_norm|reg_token|register_tokens|dist_token|rel_pos\w*|attn_pool|rope)(\.|$)")
# Where a file holds a network twice, the second one of these is the one that its authors do not evaluate.
_SHADOWS = ("encoder_k", "momentum", "target", "student", "ema", "key", "offline")


@dataclass(frozen=True)
class Misshapen:
    """A weight that the file and the network hold in other shapes. key: the file's; ours: its name with us."""

    key: str
    ours: str
    shape: tuple[int, ...]
    wanted: tuple[int, ...]


@dataclass(frozen=True)
class Grid:
    """The patches that a file's positions are for: their number a side, and pixels a patch where the file tells."""

    side: int
    patch: int | None


@dataclass(frozen=True)
class Match:
    """How a file fits a network; names are the file's own.

    weights: complete, under our keys, float32; empty unless `whole` and finite.
    missing, misshapen, inside: of the encoder, not in the file; of another shape; in the file alone.
    filled: counters of BatchNorm that old files lack, set to 0: no result depends on them.
    heads: classifiers, projectors and the like beside the encoder.  others: everything else in the file.
    infinite: weights of a whole encoder with values that are not finite.
    """

    layout: str
    part: str
    parts: tuple[str, ...]  # all that fit as well as the chosen one
    matched: int
    weights: Weights
    missing: tuple[str, ...]
    misshapen: tuple[Misshapen, ...]
    inside: tuple[str, ...]
    filled: tuple[str, ...]
    heads: tuple[str, ...]
    others: tuple[str, ...]
    infinite: tuple[str, ...]

    @property
    def whole(self) -> bool:
        """Whether the encoder is all there, and wholly used."""
        return not (self.missing or self.misshapen or self.inside)

    @property
    def grid(self) -> Grid | None:
        """Of positions of another shape than the network's; None where those are not misshapen."""
        for weight in self.misshapen:
            if weight.ours == "positions" and len(axes := _without_first_one(weight.shape)) > 1:
                # a row for the class token makes no other square
                return Grid(math.isqrt(axes[0]), self._patch())
        return None

    def _patch(self) -> int | None:
        """Side of the one weight of four axes, that of the patches, where it is misshapen."""
        for weight in self.misshapen:
            if len(weight.shape) == 4 and weight.shape[1] == 3 and weight.shape[2] == weight.shape[3]:
                return weight.shape[3]
        return None

    def sheet(self) -> dict[str, Any]:
        """What a record says of it: every name."""
        return {
            "layout": self.layout,
            "part": self.part,
            "matched": self.matched,
            "filled": list(self.filled),
            "heads": list(self.heads),
            "others": list(self.others),
        }


@dataclass(frozen=True)
class Several:
    """A file that holds several such networks, none of which is more likely meant: the prefixes of all."""

    parts: tuple[str, ...]


@dataclass(frozen=True)
class Elsewhere:
    """A file whose weights of the network are not below the prefix that was asked for, but below these."""

    parts: tuple[str, ...]


def match(file: File, network: Mapping[str, Any], part: str | None = None) -> Match | Several | Elsewhere | None:
    """Find the network's weights in a file; None where none of its keys is there.

    part: the prefix of the keys, for a file that holds several networks; None: the one with most weights of the
    encoder, of equals the one that is evaluated (query, online, base, teacher: not key, target, momentum, student).
    """
    with torch.device("meta"):
        want = build_encoder(network).state_dict()
    counts: Counter[tuple[str, str]] = Counter()
    for layout in LAYOUTS[network["arch"]].values():
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
            return Elsewhere(tuple(dict.fromkeys(prefix for (_, prefix), _ in counts.most_common())))
        counts = there
    most = max(counts.values())
    best = [key for key, count in counts.items() if count == most]
    plain = [key for key in best if not _shadow(key[1])] or best
    layout = LAYOUTS[network["arch"]][plain[0][0]]
    prefixes = tuple(sorted({prefix for _, prefix in best}))
    if part is None and most > len(want) // 2 and len({prefix for _, prefix in plain}) > 1:
        return Several(prefixes)
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
            misshapen.append(Misshapen(theirs, name, tuple(there.shape), shape))
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
    infinite = [
        part + layout.key(name)
        for name, value in (found.items() if whole else ())
        if value.is_floating_point() and not bool(value.isfinite().all())
    ]
    return Match(
        layout=layout.name,
        part=part,
        parts=parts,
        matched=len(found) - len(filled),
        weights=layout.ours(found) if whole and not infinite else {},
        missing=tuple(missing),
        misshapen=tuple(misshapen),
        inside=tuple(inside),
        filled=tuple(filled),
        heads=tuple(heads),
        others=tuple(others),
        infinite=tuple(infinite),
    )


def _without_first_one(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[1:] if len(shape) > 2 and shape[0] == 1 else shape
