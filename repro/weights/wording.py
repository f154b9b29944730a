"""What a match of a file with a network is in words: what is used, what is left out, why it is refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from repro.terminal.text import SHOWN, some
from repro.weights.files import File
from repro.weights.layouts import LAYOUTS
from repro.weights.matching import Elsewhere, Match, Misshapen, Several

_LONGEST = 160  # characters of a name in a message


def several(file: File, found: Several) -> str:
    """Of a choice that only the user can make."""
    parts = _few(_places(found.parts), 9)
    return f"{file.name}: it contains several such networks, under {parts}; choose one with --part PREFIX"


def elsewhere(file: File, found: Elsewhere, part: str) -> str:
    """Of a part that there is not."""
    places = _few(_places(found.parts))
    return f"{file.name}: --part {part.rstrip('.')}: no such weights under this prefix, only under {places}"


def _places(prefixes: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(prefix.rstrip(".") or "''" for prefix in prefixes))


def infinite(file: File, found: Match) -> str:
    """Of weights that are no numbers."""
    return (
        f"{file.name}: {len(found.infinite)} of its {found.matched} weights contain values that are not finite in"
        f" float32 ({_few(found.infinite)}); give a checkpoint from before the training failed"
    )


def negative(file: File, found: Match) -> str:
    """Of variances that are none."""
    return (
        f"{file.name}: {len(found.negative)} of its variances contain negative values ({_few(found.negative)});"
        " download it or save it again"
    )


def blank(file: File) -> str:
    """Of a network that tells no picture from another."""
    return f"{file.name}: all kernels and matrices of its encoder are 0; give a checkpoint of a trained network"


def no_weight(file: File, said: str, fitting: Sequence[str]) -> str:
    """Of a file without any weight of the network `said`. fitting: the architectures that it does hold."""
    biggest = sorted(file.tensors, key=lambda name: -file.tensors[name].numel())
    return (
        f"{file.name}: it contains no weights of {said}, but {_number(biggest)}"
        f" ({_counted(biggest)}){_nameless(biggest)}{_fits(fitting)}"
    )


def _nameless(names: Sequence[str]) -> str:
    """What to do about weights that a wrapper has robbed of their names."""
    if any(name.endswith("flat_param") for name in names):
        return "; FSDP flattened its weights: save them again with StateDictType.FULL_STATE_DICT"
    if any("shadow_params." in name for name in names):
        return "; the averaged weights in it have no names: save the network's state_dict() after ema.copy_to()"
    return ""


def names_of_no_weight(file: File) -> list[str]:
    """A line for each tensor of such a file."""
    return [f"not a weight of this network: {name}" for name in file.tensors]


@dataclass(frozen=True)
class _Fault:
    """Keys without counterpart. lines: each key with what is wrong with it."""

    why: str
    keys: Sequence[str]
    lines: Sequence[str]


def _faults(found: Match) -> list[_Fault]:
    misshapen, unfit, left_out = found.misshapen, found.unfit, found.heads + found.others
    return [
        _Fault("missing", found.missing, found.missing),
        _Fault("of another shape", [weight.key for weight in misshapen], [_shapes(weight) for weight in misshapen]),
        _Fault("unusable", [weight.key for weight in unfit], [f"{weight.key} {weight.what}" for weight in unfit]),
        _Fault("unexpected", found.inside, found.inside),
        _Fault("left out", left_out, left_out),
    ]


def not_whole(file: File, said: str, network: Mapping[str, Any], found: Match, fitting: Sequence[str]) -> str:
    """Of a file with some of the weights of the network `said`. fitting: the architectures that it holds wholly."""
    faults = [
        f"{len(fault.keys)} {fault.why} ({_counted(fault.keys, found.part, fault.lines)})"
        for fault in _faults(found)
        if fault.keys
    ]
    return (
        f"{file.name}: its encoder does not match {said}: {found.matched} weights match; {'; '.join(faults)}"
        f"{_settings(found, network)}{_fits(fitting)}"
    )


def names(found: Match) -> list[str]:
    """A line for each key without counterpart."""
    return [f"{fault.why}: {line}" for fault in _faults(found) for line in fault.lines]


def _settings(found: Match, network: Mapping[str, Any]) -> str:
    """What to do about positions of another grid, and about the biases that ViTs have or lack."""
    if network["arch"] != "vit":
        return ""
    text = ""
    if grid := found.grid:
        patch = grid.patch or network["patch"]
        side = network["size"] // network["patch"]
        text += (
            f"; its position embeddings are for a {grid.side} x {grid.side} grid, but size {network['size']} with"
            f" patch {network['patch']} gives {side} x {side}: they are not interpolated, use"
            f" --set network.size={grid.side * patch}" + (f" network.patch={patch}" if grid.patch else "")
        )
    layout = LAYOUTS["vit"][found.layout]
    for keys, value in ((found.missing, "false"), (found.inside, "true")):
        if keys and all(map(layout.is_qkv_bias, keys)):
            text += f"; use --set network.qkv_bias={value}"
    return text


def _fits(architectures: Sequence[str]) -> str:
    return f"; it fits --arch {' or '.join(architectures)}" if architectures else "; check --arch and --part"


def _shapes(weight: Misshapen) -> str:
    return f"{weight.key} is {_size(weight.shape)}, not {_size(weight.wanted)}"


def _size(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "a number"


def _number(names: Sequence[str]) -> str:
    return f"{len(names)} tensor{'' if len(names) == 1 else 's'}"


def _few(names: Sequence[str], count: int = SHOWN) -> str:
    return some(names, count, _LONGEST)


def _counted(keys: Sequence[str], part: str = "", lines: Sequence[str] = ()) -> str:
    """The first keys, or their lines; of many also how many each table has, by the first word behind `part`."""
    tables = Counter(key.removeprefix(part).split(".")[0] for key in keys)
    counts = [f"{name} {count}" for name, count in tables.most_common()]
    return _few(lines or keys) + (f"; by prefix: {_few(counts, 9)}" if len(keys) > SHOWN else "")


def listing(found: Match) -> list[str]:
    """Lines that say what of a file is used and what is not."""
    below = f" under {found.part.rstrip('.')}" if found.part else ""
    lines = [f"{found.matched} weights matched: keys of {found.layout}{below}"]
    if len(found.parts) > 1:
        others = _places([part for part in found.parts if part != found.part])
        lines.append(f"also in the file, not used: {_few(others, 9)} (choose with --part)")
    if found.heads:
        lines.append(f"left out, heads and classifiers: {_number(found.heads)} ({_few(found.heads)})")
    if found.others:
        lines.append(f"left out, others: {_number(found.others)} ({_counted(found.others)})")
    if found.cast:
        kinds = " and ".join(f"{count} of {kind}" for kind, count in found.cast.items())
        lines.append(f"converted to float32: {kinds}")
    if found.filled:
        lines.append(f"not in the file: {len(found.filled)} BatchNorm counters, set to 0 (no result uses them)")
    if found.recounted:
        lines.append(f"converted to whole numbers: {len(found.recounted)} BatchNorm counters (no result uses them)")
    return lines
