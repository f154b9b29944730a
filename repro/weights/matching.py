"""Where in a file the weights of a network are, and what of both has no counterpart: facts, no words.

Every layout is tried below every prefix that the keys of a file have (`state_dict.module.encoder_q.`,
`teacher.backbone.`), and the place is taken where most weights of the encoder are. Wrappers of PyTorch may stand
anywhere in a key (`layer1._orig_mod.0.conv1.weight`).
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from methods.parts.encoders import build_encoder
from repro.weights.files import File, oddity, plain_dtype
from repro.weights.layouts import LAYOUTS, Layout, Weights

_HEAD = re.compile(
    r"(fc|heads?|head_dist|classifier|linear|projectors?|projection\w*|proj_head|predictors?|prediction\w*|neck|mlp|"
    r"prototypes|queue\w*|decoder\w*|mask_token|last_layer|contrastive\w*)(\.|$)"
)
# What PyTorch puts into the keys of a module that it wraps: DDP, torch.compile, FSDP, checkpointing of activations.
_WRAPPERS = frozenset(
    {"module", "_orig_mod", "_fsdp_wrapped_module", "_fpw_module", "_checkpoint_wrapped_module", "_forward_module"}
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
class Unfit:
    """A weight of the file whose numbers cannot be used. what: why, as the end of a sentence."""

    key: str
    what: str


@dataclass(frozen=True)
class Grid:
    """The patches that a file's positions are for: their number a side, and pixels a patch where the file tells."""

    side: int
    patch: int | None


@dataclass(frozen=True)
class Match:
    """How a file fits a network; names are the file's own.

    weights: complete, under our keys, float32; empty unless `whole` and of possible values.
    missing, misshapen, unfit, inside: of the encoder, not in the file; of another shape; of numbers that are no
        weights; in the file alone.
    filled: counters of BatchNorm that old files lack, set to 0: no result depends on them.
    recounted: such counters that are no 64-bit scalars in the file, and become ones.
    cast: how many weights were of which other precision.
    heads: classifiers, projectors and the like beside the encoder.  others: everything else in the file.
    infinite: weights of a whole encoder with values that are not finite.
    negative: variances of a whole encoder with values below 0.
    blank: whether all kernels and matrices of a whole encoder are 0, so that every picture has the same features.
    """

    layout: str
    part: str
    parts: tuple[str, ...]  # where most weights of such a network are, the chosen one too
    matched: int
    weights: Weights
    missing: tuple[str, ...]
    misshapen: tuple[Misshapen, ...]
    unfit: tuple[Unfit, ...]
    inside: tuple[str, ...]
    filled: tuple[str, ...]
    recounted: tuple[str, ...]
    cast: Mapping[str, int]
    heads: tuple[str, ...]
    others: tuple[str, ...]
    infinite: tuple[str, ...]
    negative: tuple[str, ...]
    blank: bool

    @property
    def whole(self) -> bool:
        """Whether the encoder is all there, and wholly used."""
        return not (self.missing or self.misshapen or self.unfit or self.inside)

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
            "cast": dict(self.cast),
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
    want = _weights_of(tuple(sorted(network.items())))
    places = [place for layout in LAYOUTS[network["arch"]].values() for place in _places(file, layout, want)]
    if not any(place.score[1] for place in places):
        return None
    if part is not None:
        part = part and part.rstrip(".") + "."
        there = [place for place in places if place.prefix == part]
        if not there:
            near = sorted(places, key=lambda place: place.score, reverse=True)
            return Elsewhere(tuple(dict.fromkeys(place.prefix for place in near)))
        places = there
    most = max(place.score for place in places)
    best = [place for place in places if place.score == most]
    plain = [place for place in best if not _shadow(place.prefix)] or best
    half = sum(not _counts(name) for name in want) // 2
    if (
        part is None
        and most[1] > half
        and len({place.prefix for place in plain}) > 1
        and not all(_same(file, place, plain[0]) for place in plain)
    ):
        return Several(tuple(sorted({place.prefix for place in best})))
    prefixes = {place.prefix for place in places if place in best or place.score[1] > half}
    return _compare(file, plain[0], tuple(sorted(prefixes)), want)


@cache
def _weights_of(network: tuple[tuple[str, Any], ...]) -> Mapping[str, Tensor]:
    """Names and shapes of a network's weights, without values. A file is held against a dozen networks."""
    with torch.device("meta"):
        return build_encoder(dict(network)).state_dict()


@dataclass(frozen=True)
class _Place:
    """Where weights of the network are in a file.

    names: the file's, by our key; several for one where wrappers alone tell them apart.  score: how many weights
    have the network's shape, and how many its name.
    """

    layout: Layout
    prefix: str
    names: Mapping[str, Sequence[str]]
    score: tuple[int, int]


def _places(file: File, layout: Layout, want: Mapping[str, Tensor]) -> list[_Place]:
    known = {layout.key(ours): ours for ours in want}
    found: defaultdict[str, defaultdict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name in file.tensors:
        words = name.split(".")
        start = 0
        for at, word in enumerate(words):
            # A wrapper of the whole network belongs to the prefix.
            if word not in _WRAPPERS and (ours := known.get(_unwrapped(words[at:]))):
                found[name[:start]][ours].append(name)
            start += len(word) + 1
    places = []
    for prefix, names in found.items():
        weights = [ours for ours in names if not _counts(ours)]
        fitting = sum(_shape(file.tensors[names[ours][0]]) == layout.shape(ours, want[ours]) for ours in weights)
        places.append(_Place(layout, prefix, names, (fitting, len(weights))))
    return places


def _unwrapped(words: Sequence[str]) -> str:
    return ".".join(word for word in words if word not in _WRAPPERS)


def _counts(ours: str) -> bool:
    """Whether it is a counter of BatchNorm, which no result depends on."""
    return ours.endswith("num_batches_tracked")


def _shape(value: Tensor) -> tuple[int, ...]:
    return () if value.is_nested else tuple(value.shape)


def _same(file: File, one: _Place, other: _Place) -> bool:
    """Whether two places hold the same values."""
    if one.layout != other.layout or one.names.keys() != other.names.keys():
        return False
    pairs = [(file.tensors[one.names[ours][0]], file.tensors[other.names[ours][0]]) for ours in one.names]
    return all(_equal(left, right) for left, right in pairs)


def _equal(left: Tensor, right: Tensor) -> bool:
    return not oddity(left) and not oddity(right) and left.dtype == right.dtype and torch.equal(left, right)


def _shadow(prefix: str) -> bool:
    words = re.split(r"[._]", prefix)
    return any(name in prefix if "_" in name else name in words for name in _SHADOWS)


def _compare(file: File, place: _Place, parts: tuple[str, ...], want: Mapping[str, Tensor]) -> Match:
    layout, part = place.layout, place.prefix
    taken: dict[str, str] = {}  # the file's name by ours
    inside: list[str] = []
    for ours, names in place.names.items():
        taken[ours] = names[0]
        # Wrappers do not say which of two is meant; of equal ones it does not matter.
        inside += [name for name in names[1:] if not _equal(file.tensors[name], file.tensors[names[0]])]
    found: Weights = {}
    missing: list[str] = []
    misshapen: list[Misshapen] = []
    unfit: list[Unfit] = []
    filled: list[str] = []
    for ours, value in want.items():
        if ours in taken:
            used_as = _used(file.tensors[taken[ours]], taken[ours], ours, layout.shape(ours, value))
            if isinstance(used_as, Misshapen):
                misshapen.append(used_as)
            elif isinstance(used_as, Unfit):
                unfit.append(used_as)
            else:
                found[ours] = used_as
        elif _counts(ours):
            filled.append(part + layout.key(ours))
            found[ours] = torch.zeros((), dtype=torch.int64)
        else:
            missing.append(part + layout.key(ours))
    given = {ours: file.tensors[taken[ours]] for ours in found if ours in taken}
    cast = Counter(plain_dtype(value) for ours, value in given.items() if not _counts(ours))
    del cast["float32"]
    recounted = [taken[ours] for ours, value in given.items() if _counts(ours) and not _is_counter(value)]
    used = set(taken.values())
    trunk = {layout.key(ours).split(".")[0] for ours in want}
    above = re.sub(r"[^.]+\.$", "", part)
    heads: list[str] = []
    others: list[str] = []
    for name in file.tensors:
        if name in used or name in inside:
            continue
        rest = _unwrapped(name.removeprefix(part).split("."))
        twin = any(name in names for names in place.names.values())
        if not twin and name.startswith(part) and (rest.split(".")[0] in trunk or _TRUNK.match(rest)):
            inside.append(name)
        else:
            (heads if _HEAD.match(rest) or _HEAD.match(name.removeprefix(above)) else others).append(name)
    whole = not (missing or misshapen or unfit or inside)
    infinite = [
        taken[ours]
        for ours, value in (found.items() if whole else ())
        if value.is_floating_point() and not bool(value.isfinite().all())
    ]
    negative = [
        taken[ours]
        for ours, value in (found.items() if whole else ())
        if ours.endswith("running_var") and bool((value < 0).any())
    ]
    kernels = [value for ours, value in found.items() if ours.endswith("weight") and value.dim() > 1]
    blank = whole and not any(bool(value.any()) for value in kernels)
    sound = whole and not infinite and not negative and not blank
    return Match(
        layout=layout.name,
        part=part,
        parts=parts,
        matched=len(found) - len(filled),
        weights=layout.ours(found) if sound else {},
        missing=tuple(missing),
        misshapen=tuple(misshapen),
        unfit=tuple(unfit),
        inside=tuple(inside),
        filled=tuple(filled),
        recounted=tuple(recounted),
        cast=dict(cast),
        heads=tuple(heads),
        others=tuple(others),
        infinite=tuple(infinite),
        negative=tuple(negative),
        blank=blank,
    )


def _used(there: Tensor, name: str, ours: str, shape: tuple[int, ...]) -> Tensor | Misshapen | Unfit:
    """A tensor of a file as our weight of that name and shape, or why it is none."""
    if why := oddity(there):
        return Unfit(name, why)
    if _counts(ours) and there.numel() == 1:
        return there.reshape(()).long() if _is_whole(there) else Unfit(name, "is not a whole number")
    if tuple(there.shape) != shape:
        return Misshapen(name, ours, tuple(there.shape), shape)
    if not there.is_floating_point():
        return Unfit(name, f"holds whole numbers ({plain_dtype(there)})")
    return there.float()


def _is_counter(value: Tensor) -> bool:
    """Whether a counter is held as PyTorch holds one."""
    return value.dtype == torch.int64 and not value.shape


def _is_whole(value: Tensor) -> bool:
    """Whether a tensor of one number holds a whole one that 64 bits can hold."""
    number = value.item()
    return math.isfinite(number) and number == int(number) and abs(number) < 2**63


def _without_first_one(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[1:] if len(shape) > 2 and shape[0] == 1 else shape
