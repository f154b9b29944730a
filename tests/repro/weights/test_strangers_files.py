"""Checkpoints of anybody's: however they are wrapped they are read whole, or one line says why not."""

from __future__ import annotations

import bz2
import gzip
import json
import pickle
import random
import subprocess
import sys
import warnings
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from methods.parts.encoders import build_encoder
from repro.errors import UserError
from repro.weights import files, fitting, wording
from repro.weights.architectures import ARCHS
from repro.weights.matching import Match

NETWORK = {**ARCHS["resnet18"], "width": 4}
CONV = "conv1.weight"
Weights = dict[str, Tensor]


@pytest.fixture(scope="module")
def weights() -> Weights:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return dict(build_encoder(NETWORK).state_dict())


def below(prefix: str, state: Weights, shift: float = 0.0) -> Weights:
    return {prefix + key: value + shift if value.is_floating_point() else value for key, value in state.items()}


def saved(state: Any, path: Path) -> files.File:
    with warnings.catch_warnings(action="ignore"):  # torch's, of what it calls beta
        torch.save(state, path)
    return files.read(path)


def found_in(state: Any, path: Path) -> Match:
    return fitting.find(saved(state, path), NETWORK, "a ResNet-18")


def same(found: Match, weights: Weights) -> bool:
    return found.weights.keys() == weights.keys() and all(
        torch.equal(value, weights[name]) for name, value in found.weights.items()
    )


def in_the_middle(state: Weights) -> Weights:
    """Every block compiled, and every first convolution a DataParallel of its own."""
    blocks = {
        f"layer{i}.{j}.": f"layer{i}.{j}._checkpoint_wrapped_module._orig_mod." for i in (1, 2, 3, 4) for j in (0, 1)
    }
    renamed = {}
    for key, value in state.items():
        for plain, wrapped in blocks.items():
            key = key.replace(plain, wrapped)
        renamed[key.replace("conv1.weight", "conv1.module.weight")] = value
    return renamed


def channels_last(value: Tensor) -> Tensor:
    return value.to(memory_format=torch.channels_last) if value.dim() == 4 else value


WRAPPED: dict[str, tuple[Callable[[Weights], Any], str]] = {  # how it is stored, and the part
    "compiled, then DDP": (lambda s: below("module._orig_mod.", s), "module._orig_mod."),
    "DDP, then compiled": (lambda s: below("_orig_mod.module.", s), "_orig_mod.module."),
    "FSDP": (lambda s: {"model": below("_fsdp_wrapped_module.", s)}, "model._fsdp_wrapped_module."),
    "regional": (in_the_middle, ""),
    "regional in DDP": (lambda s: below("module.", in_the_middle(s)), "module."),
    "averaged": (lambda s: {**below("module.", s), "n_averaged": torch.tensor(5)}, "module."),
    "deep": (lambda s: {"a": {"model": {"ema_model": below("module.backbone.encoder.", s)}}}, "a.model.ema_model."),
    "DeepSpeed": (lambda s: {"module": s, "ds_config": {"fp16": {"enabled": True}}}, "module."),
    "two keys for one": (lambda s: {"model": s, "state_dict": s}, "model."),
    "student of another width": (
        lambda s: {"teacher": build_encoder({**NETWORK, "width": 8}).state_dict(), "student": s},
        "student.",
    ),
    "shadow with counters": (
        lambda s: {
            **below("encoder_k.", s, 1.0),
            **below("encoder_q.", {key: value for key, value in s.items() if "num_batches" not in key}),
        },
        "encoder_q.",
    ),
    "NumPy": (lambda s: {"net": {key: value.numpy() for key, value in s.items()}, "best": np.float64(3)}, "net."),
    "plain values": (lambda s: {"net": s, "log": defaultdict(list), "out": Path("runs")}, "net."),
    "channels last": (lambda s: {key: channels_last(value) for key, value in s.items()}, ""),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_wrapped(name: str, weights: Weights, tmp_path: Path) -> None:
    wrap, part = WRAPPED[name]
    found = found_in(wrap(weights), tmp_path / "x.pth")
    assert found.part.startswith(part) and found.whole
    filled = {key: torch.zeros((), dtype=torch.int64) for key in weights if "num_batches" in key and found.filled}
    assert same(found, {**weights, **filled})
    every = files.read(tmp_path / "x.pth").tensors
    assert found.matched + len(found.heads) + len(found.others) == len(every), "nothing is dropped in silence"


def test_safetensors_by_its_content(weights: Weights, tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch", reason="safetensors is not installed (extra 'export')")
    for name in ("x.safetensors", "x.bin"):
        safetensors.save_file(weights, tmp_path / name)
        assert same(fitting.find(files.read(tmp_path / name), NETWORK, "it"), weights)


SAID = {"network": json.dumps(NETWORK), "mean": "[0.5, 0.5, 0.5]", "std": "[0.2, 0.2, 0.2]"}


def test_what_safetensors_say_of_themselves(weights: Weights, tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch", reason="safetensors is not installed (extra 'export')")
    path = tmp_path / "x.safetensors"
    safetensors.save_file(weights, path, metadata=SAID)
    assert files.read(path).about == {"network": NETWORK, "mean": [0.5] * 3, "std": [0.2] * 3}
    for change, words in (
        ({"mean": "[0.5"}, "its description of the network is not JSON"),
        ({"network": "[" * 9999}, "its description of the network is not JSON"),
        ({"network": "3"}, "its network is not a table"),
        ({"std": "[NaN, 1, 1]"}, "its std is not three numbers"),
    ):
        safetensors.save_file(weights, path, metadata=SAID | change)
        with pytest.raises(UserError, match=words):
            files.read(path)
    safetensors.save_file({}, path)
    with pytest.raises(UserError, match="contains no tensors"):
        files.read(path)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_another_precision_is_converted_and_said(kind: torch.dtype, weights: Weights, tmp_path: Path) -> None:
    stored = {key: value.to(kind) for key, value in weights.items()}  # the counters too
    found = found_in(stored, tmp_path / "x.pth")
    assert same(found, {key: stored[key].to(value.dtype) for key, value in weights.items()})
    name = str(kind).removeprefix("torch.")
    said = wording.listing(found)
    assert f"converted to float32: 100 of {name}" in said and found.sheet()["cast"] == {name: 100}
    assert "converted to whole numbers: 20 BatchNorm counters (no result uses them)" in said


def test_a_counter_of_one_number_is_one(weights: Weights, tmp_path: Path) -> None:
    stored = {key: value.reshape(1) + 7 if value.dim() == 0 else value for key, value in weights.items()}
    found = found_in(stored, tmp_path / "x.pth")
    assert found.weights["bn1.num_batches_tracked"].shape == () and int(found.weights["bn1.num_batches_tracked"]) == 7


def test_a_wrapper_does_not_say_which_of_two_is_meant(weights: Weights, tmp_path: Path) -> None:
    twin = "layer1._orig_mod.0.conv1.weight"
    found = found_in({**weights, twin: weights["layer1.0.conv1.weight"].clone()}, tmp_path / "x.pth")
    assert same(found, weights) and found.others == (twin,)
    with pytest.raises(UserError, match=rf"unexpected \({twin}\)"):
        found_in({**weights, twin: weights["layer1.0.conv1.weight"] + 1}, tmp_path / "x.pth")


def quantized(value: Tensor) -> Tensor:
    with warnings.catch_warnings(action="ignore"):
        return torch.quantize_per_tensor(value, 0.1, 0, torch.qint8)


def nested(value: Tensor) -> Tensor:
    with warnings.catch_warnings(action="ignore"):
        return torch.nested.nested_tensor([value, value[:1]])


UNUSABLE: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "sparse": (lambda v: v.to_sparse(), r"conv1.weight is sparse \(sparse_coo\)"),
    "quantized": (quantized, r"conv1.weight is quantized \(qint8\)"),
    "nested": (nested, "conv1.weight is a nested tensor"),
    "complex": (lambda v: v.to(torch.complex64), r"conv1.weight holds complex numbers \(complex64\)"),
    "meta": (lambda v: v.to("meta"), "conv1.weight has no values"),
    "whole": (lambda v: v.to(torch.int8), r"conv1.weight holds whole numbers \(int8\)"),
    "float8": (lambda v: v.to(torch.float8_e4m3fn), "conv1.weight holds 8-bit numbers"),
    "nan": (
        lambda v: v * torch.nan,
        r"1 of its 120 weights contain values that are not finite in float32 \(conv1.weight\)",
    ),
    "too large": (lambda v: v.double() * 1e300, "not finite in float32"),
    "empty": (lambda v: v[:0], "conv1.weight is 0x3x7x7, not 4x3x7x7"),
    "scalar": (lambda v: v.sum(), "conv1.weight is a number, not 4x3x7x7"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_weights_that_cannot_be_used_are_refused_by_name(name: str, weights: Weights, tmp_path: Path) -> None:
    change, words = UNUSABLE[name]
    with pytest.raises(UserError, match=words) as caught:
        found_in({**weights, CONV: change(weights[CONV])}, tmp_path / "x.pth")
    assert str(caught.value).startswith("x.pth: ") and "\n" not in str(caught.value)
    if name not in ("nan", "too large"):
        assert "its encoder does not match a ResNet-18: 119 weights match; 1 " in str(caught.value)
    # Beside the encoder it does not matter.
    found = found_in({**weights, "other": change(weights[CONV])}, tmp_path / "x.pth")
    assert same(found, weights) and found.others == ("other",)


def test_values_that_no_training_leaves_are_refused_by_name(weights: Weights, tmp_path: Path) -> None:
    name = "layer1.0.bn1.running_var"
    below_0 = weights[name].clone()
    below_0[1] = -1e-3
    with pytest.raises(UserError, match=rf"x.pth: 1 of its variances contain negative values \({name}\)"):
        found_in({**weights, name: below_0}, tmp_path / "x.pth")
    with pytest.raises(UserError, match=r"x.pth: all kernels and matrices of its encoder are 0"):
        found_in({key: torch.zeros_like(value) for key, value in weights.items()}, tmp_path / "x.pth")
    # A layer that training has switched off is one of a trained network, and a variance of 0 one of a dead channel.
    off = {**weights, CONV: torch.zeros_like(weights[CONV]), name: torch.zeros_like(weights[name])}
    assert same(found_in(off, tmp_path / "x.pth"), off)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_of_pytorch_that_is_called_safetensors_is_renamed(
    zipped: bool, weights: Weights, tmp_path: Path
) -> None:
    path = tmp_path / "net.safetensors"
    torch.save(weights, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match=r"net.safetensors: not a safetensors file, .*; rename it to net\.pth"):
        files.read(path)
    assert same(fitting.find(files.read(path.rename(tmp_path / "net.pth")), NETWORK, "it"), weights)


def own(**change: Any) -> dict[str, Any]:
    """A file as repro writes it."""
    return {"form": "repro-encoder", "network": NETWORK, "mean": [0.5] * 3, "std": [0.2] * 3, **change}


def holding_itself() -> Any:
    state: dict[str, Any] = {"w": torch.zeros(2)}
    state["again"] = [state]
    return state


TABLES: dict[str, tuple[Callable[[Weights], Any], str]] = {
    "one tensor": (lambda s: s[CONV], "contains Tensor, not a table of weights"),
    "one name for two": (lambda s: {"a.b": s[CONV], "a": {"b": s[CONV]}}, "two of its tensors have the same name, a.b"),
    "ring": (lambda s: holding_itself(), "contains itself"),
    "escape": (lambda s: below("\x1b[31m", s), r"unprintable characters: '\\x1b\[31mconv1.weight'"),
    "line": (lambda s: below("a\nb.", s), r"unprintable characters: 'a\\nb.conv1.weight'"),
    "long": (lambda s: below("a" * 600, s), "name is too long"),
    "FSDP's": (lambda s: {"net._flat_param": torch.zeros(9)}, "FSDP flattened its weights"),
    "nameless": (lambda s: {"shadow_params": list(s.values())}, "averaged weights in it have no names"),
    "network": (lambda s: own(weights=s, network=3), "damaged, its network is not a table"),
    "depth": (
        lambda s: own(weights=s, network={**NETWORK, "depth": "18"}),
        "its network.depth does not have the type of",
    ),
    "mean": (lambda s: own(weights=s, mean=[0.5, 0.5]), "its mean is not three numbers"),
    "std": (lambda s: own(weights=s, std=[0.5, 0.0, 0.2]), "its std is not three numbers"),
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_that_are_none_are_refused(name: str, weights: Weights, tmp_path: Path) -> None:
    make, words = TABLES[name]
    with pytest.raises(UserError, match=words) as caught:
        found_in(make(weights), tmp_path / "x.pth")
    assert "x.pth: " in str(caught.value) and str(caught.value).isprintable()


def npz(path: Path) -> None:
    with path.open("wb") as stream:
        np.savez(stream, a=np.zeros(3))


def program(path: Path) -> None:
    with warnings.catch_warnings(action="ignore"):
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), path)


OTHERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "pointer": (lambda p: p.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), "git lfs pull"),
    "page": (lambda p: p.write_text("\n<!DOCTYPE html><html>"), "a web page"),
    "nothing": (lambda p: p.write_bytes(b""), "empty"),
    "gzip": (lambda p: p.write_bytes(gzip.compress(b"abc")), "gunzip"),
    "bzip2": (lambda p: p.write_bytes(bz2.compress(b"abc")), "bunzip2"),
    "npz": (npz, "NumPy archive"),
    "hdf5": (lambda p: p.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(99)), "HDF5"),
    "json": (lambda p: p.write_text('{"weight_map": {}}'), "JSON file, not the weights"),
    "program": (program, "TorchScript program"),
    "pickle": (lambda p: p.write_bytes(pickle.dumps({"a": np.zeros(3)})), "a pickle that PyTorch did not write"),
    "pieces": (lambda p: (p.mkdir(), (p / ".metadata").touch()), "dcp_to_torch"),
    "DeepSpeed": (lambda p: (p.mkdir(), (p / "zero_to_fp32.py").touch()), "zero_to_fp32.py"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_files_are_refused_by_what_they_are(name: str, tmp_path: Path) -> None:
    write, words = OTHERS[name]
    write(tmp_path / "x.pth")
    with pytest.raises(UserError, match=words) as caught:
        files.read(tmp_path / "x.pth")
    assert "x.pth" in str(caught.value) and "\n" not in str(caught.value)


def refused_or_the_same(path: Path, weights: Weights) -> bool:
    """Whether it is refused, in one line; anything else must be the weights as they were."""
    try:
        found = fitting.find(files.read(path), NETWORK, "a ResNet-18")
    except UserError as error:
        assert path.name in str(error) and "\n" not in str(error)
        return True
    assert same(found, weights)
    return False


PIECES = """
import sys, torch, torch.distributed as dist
from torch.distributed.tensor import distribute_tensor, init_device_mesh

dist.init_process_group("gloo", init_method=f"file://{sys.argv[1]}.group", rank=0, world_size=1)
torch.save({"conv1.weight": distribute_tensor(torch.zeros(3), init_device_mesh("cpu", (1,)))}, sys.argv[1])
"""


@pytest.mark.processes
def test_tensors_in_pieces_are_refused(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", PIECES, str(tmp_path / "x.pth")], check=True, capture_output=True)
    with pytest.raises(UserError, match=r"sharded over several processes|is a DTensor") as caught:
        fitting.find(files.read(tmp_path / "x.pth"), NETWORK, "it")
    assert "\n" not in str(caught.value)


@pytest.mark.seconds
def test_a_file_cut_anywhere_or_with_one_bit_flipped_is_never_read_wrongly(weights: Weights, tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save(weights, path)
    whole = path.read_bytes()
    draw = random.Random(0)
    for at in [0, 1, 4, len(whole) - 1, *(draw.randrange(len(whole)) for _ in range(30))]:
        path.write_bytes(whole[:at])
        assert refused_or_the_same(path, weights)
    refused = 0
    for at in (draw.randrange(len(whole)) for _ in range(120)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << draw.randrange(8)]) + whole[at + 1 :])
        refused += refused_or_the_same(path, weights)
    assert refused > 60  # the rest hit padding between the parts, and headers that nobody reads


def test_a_file_without_checksums_is_read(weights: Weights, tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        assert same(found_in(weights, tmp_path / "x.pth"), weights)
    finally:
        torch.serialization.set_crc32_options(True)
