"""Checkpoints of generated forms: every tensor is accounted for and the weights are the author's, or one line."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from methods.parts.encoders import build_encoder
from repro.errors import UserError
from repro.weights import files, fitting, wording
from repro.weights.architectures import ARCHS
from repro.weights.layouts import LAYOUTS

NETWORKS: dict[str, dict[str, Any]] = {
    "resnet": {**ARCHS["resnet18"], "width": 4},
    "vit": {**ARCHS["vit_tiny"], "size": 16, "patch": 8, "dim": 12, "depth": 1, "heads": 3},
}
FORMS = [(arch, layout) for arch in NETWORKS for layout in LAYOUTS[arch]]
TABLES = "state_dict model teacher network model_state_dict ema encoder_q online_network nets 0".split()
PREFIXES = [*TABLES, *"module _orig_mod _fsdp_wrapped_module backbone encoder ema_model base_encoder net".split()]
WRAPPERS = "_orig_mod module _fsdp_wrapped_module _checkpoint_wrapped_module _forward_module".split()
BESIDE = "fc.weight fc.bias head.0.weight projector.0.bias queue prototypes.weight n_averaged loss_scale".split()
SHADOWS = ["", "student", "momentum_encoder", "model_ema"]
HARMLESS = ("", "no counter")
DAMAGES = {  # of one weight, or of the file
    "": lambda value: value,
    "missing": lambda value: None,
    "shape": lambda value: torch.zeros(*value.shape, 2),
    "empty": lambda value: torch.zeros(0),
    "nan": lambda value: value.float() * torch.nan,
    "inf": lambda value: value.float() + torch.inf,
    "sparse": lambda value: value.to_sparse(),
    "complex": lambda value: value.to(torch.complex64),
    "whole": lambda value: value.to(torch.int32),
    "meta": lambda value: value.to("meta"),
    "no counter": lambda value: value,
    "another layer": lambda value: value,
    "flip": lambda value: value,
    "cut": lambda value: value,
}


@dataclass(frozen=True)
class Case:
    """A file. tables, prefix: words above the network's keys.  inside: (which table of it, wrapper of that)."""

    form: tuple[str, str]
    tables: Sequence[str] = ()
    prefix: Sequence[str] = ()
    inside: Sequence[tuple[int, str]] = ()
    dtype: torch.dtype = torch.float32
    arrays: bool = False
    counter: str = ""
    beside: Sequence[str] = ()
    shadow: str = ""
    optimizer: bool = False
    damage: str = ""
    which: int = 0
    written: str = "zip"


CASES = st.builds(
    Case,
    form=st.sampled_from(FORMS),
    tables=st.lists(st.sampled_from(TABLES), max_size=3),
    prefix=st.lists(st.sampled_from(PREFIXES), max_size=4),
    inside=st.lists(st.tuples(st.integers(0, 30), st.sampled_from(WRAPPERS)), max_size=3),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.float64]),
    arrays=st.booleans(),
    counter=st.sampled_from(["", "one", "float"]),
    beside=st.lists(st.sampled_from(BESIDE), unique=True, max_size=4),
    shadow=st.sampled_from(SHADOWS),
    optimizer=st.booleans(),
    damage=st.one_of(st.just(""), st.sampled_from(sorted(DAMAGES))),
    which=st.integers(0, 10**6),
    written=st.sampled_from(["zip", "old", "safetensors"]),
)


@cache
def trained(arch: str) -> dict[str, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return dict(build_encoder(NETWORKS[arch]).state_dict())


@dataclass(frozen=True)
class Made:
    """state: what is saved.  main: the network's weights by name in the file.  ours: what they are to us."""

    state: dict[str, Any]
    main: dict[str, Tensor]
    ours: dict[str, Tensor]
    shadow: dict[str, Tensor]


def make(case: Case) -> Made:
    arch, name = case.form
    layout = LAYOUTS[arch][name]

    def stored(value: Tensor) -> Tensor:
        if value.is_floating_point():
            return value.to(case.dtype)
        return {"": value, "one": value.reshape(1), "float": value.float()}[case.counter]

    theirs = {key: stored(value) for key, value in layout.theirs(trained(arch)).items()}
    read = {layout.key(key): theirs[layout.key(key)] for key in trained(arch)}
    ours = layout.ours({key: _read(read[layout.key(key)]) for key in trained(arch)})
    for at, wrapper in case.inside:
        places = sorted({key.rpartition(".")[0] for key in theirs if "." in key})
        place = places[at % len(places)] + "."
        theirs = {key.replace(place, f"{place}{wrapper}.", 1) if key.startswith(place) else key: value
                  for key, value in theirs.items()}  # fmt: skip
    weights = [key for key in theirs if "num_batches" not in key]
    struck = weights[case.which % len(weights)]
    changed = DAMAGES[case.damage](theirs[struck])
    theirs = {key: changed if key == struck else value for key, value in theirs.items()}
    theirs = {key: value for key, value in theirs.items() if value is not None}
    if case.damage == "no counter":
        theirs = {key: value for key, value in theirs.items() if "num_batches" not in key}
    if case.damage == "another layer":
        theirs[f"{struck}.more"] = torch.zeros(2)
    dotted = "".join(f"{word}." for word in case.prefix)
    net = {dotted + key: value for key, value in theirs.items()}
    state: dict[str, Any] = {**net, **{dotted + key: torch.zeros(2) for key in case.beside}}
    for table in reversed(case.tables):
        state = {table: state, "epoch": 3}
    above = "".join(f"{table}." for table in case.tables)
    shadow = {}
    if case.shadow:
        shifted = {key: value + 1 for key, value in layout.theirs(trained(arch)).items()}
        state[f"{case.shadow}"] = {**state.get(case.shadow, {}), "module": shifted}
        shadow = layout.ours({key: shifted[layout.key(key)] for key in trained(arch)})
    if case.optimizer:
        state["optimizer"] = {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
    return Made(state, {above + key: value for key, value in net.items()}, ours, shadow)


def _read(value: Tensor) -> Tensor:
    return value.float() if (value.is_floating_point() and value.numel() > 1) or value.dim() else value


def tensors_in(value: Any, name: str = "") -> dict[str, Tensor]:
    """By hand, what `files` calls each tensor."""
    if isinstance(value, Tensor):
        return {name: value}
    if not isinstance(value, dict | list):
        return {}
    items = value.items() if isinstance(value, dict) else enumerate(value)
    return {
        key: tensor
        for part, item in items
        for key, tensor in tensors_in(item, f"{name}.{part}" if name else str(part)).items()
    }


def write(case: Case, made: Made, path: Path) -> None:
    plain = all(not value.is_sparse and not value.is_meta for value in tensors_in(made.state).values())
    if case.written == "safetensors" and plain:
        from safetensors.torch import save_file

        save_file({key: value.clone().contiguous() for key, value in tensors_in(made.state).items()}, path)
    else:
        state = with_arrays(made.state) if case.arrays else made.state
        torch.save(state, path, _use_new_zipfile_serialization=case.written != "old")
    content = bytearray(path.read_bytes())
    at = case.which % len(content)
    if case.damage == "cut":
        path.write_bytes(content[:at])
    elif case.damage == "flip":
        content[at] ^= 1 << case.which % 8
        path.write_bytes(content)


def with_arrays(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: with_arrays(item) for key, item in value.items()}
    if isinstance(value, Tensor) and not value.is_sparse and not value.is_meta and value.dtype != torch.bfloat16:
        return np.asarray(value)
    return value


def equal(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(
        bool((left[key] == right[key]).all()) for key in left if "num_batches" not in key
    )


seen: Counter[str] = Counter()


def check(case: Case) -> None:
    made = make(case)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.pth"
        write(case, made, path)
        seen["all"] += 1
        try:
            file = files.read(path)
            seen["read"] += 1
            found = fitting.find(file, NETWORKS[case.form[0]], "that network")
        except UserError as error:
            assert "x.pth" in str(error) and str(error).isprintable(), str(error)
            assert case.damage not in HARMLESS or "several such networks" in str(error), str(error)
            return
    seen["loaded"] += 1
    wording.listing(found)
    left_out = [*found.heads, *found.others]
    assert found.matched + len(left_out) == len(file.tensors) and len(set(left_out)) == len(left_out)
    if case.damage == "flip":  # only the archive of PyTorch has checksums
        assert case.written != "zip" or equal(found.weights, made.ours)
        return
    assert file.tensors.keys() == tensors_in(made.state).keys()
    if made.shadow and equal(found.weights, made.shadow):
        # Said, and never in place of a whole one.
        assert case.damage not in HARMLESS and len(found.parts) > 1
        return
    assert case.damage in HARMLESS
    assert equal(found.weights, made.ours)
    assert file.tensors.keys() - set(left_out) == made.main.keys()


# What once went wrong: a header of safetensors whose length begins like a pickle.
LENGTH_LIKE_A_PICKLE = Case(
    form=("resnet", "torchvision"),
    prefix=["state_dict", "model_state_dict"],
    inside=[(0, "_orig_mod"), (0, "_orig_mod")],
    beside=["fc.weight"],
    shadow="model_ema",
    written="safetensors",
)


def run(count: int) -> None:
    seen.clear()
    test = example(LENGTH_LIKE_A_PICKLE)(given(CASES)(check))
    settings(max_examples=count, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))(test)()
    assert 2 * seen["read"] > seen["all"] and 3 * seen["loaded"] > seen["all"], dict(seen)


@pytest.mark.seconds
def test_any_checkpoint() -> None:
    run(15)


@pytest.mark.slow
def test_two_thousand_checkpoints() -> None:
    run(2000)
