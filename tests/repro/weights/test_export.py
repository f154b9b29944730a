"""`repro export`: what is written loads in the other library and gives the encoder's features there."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from methods.parts.encoders import build_encoder
from repro import settings
from repro.cli.dispatch import main
from repro.plan.builder import make
from repro.plan.request import Request
from repro.store import checkpoints
from repro.store.encoder_file import ENCODER
from repro.store.workspace import Workspace
from repro.weights import export
from repro.weights.libraries import LIBRARIES

RESNET = {"arch": "resnet", "depth": 18, "width": 64, "stem": "cifar", "zero_init_residual": False}
VIT: dict[str, Any] = {
    "arch": "vit",
    "size": 32,
    "dim": 24,
    "depth": 2,
    "heads": 3,
    "patch": 8,
    "qkv_bias": False,
    "eps": 1e-5,
    "positions": "learned",
    "init": "torch",
    "freeze_patches": False,
    "pool": "class",
}
NETWORKS = {
    "resnet18": RESNET,
    "resnet50-imagenet": RESNET | {"depth": 50, "stem": "imagenet"},
    "slim": RESNET | {"width": 8},
    "slim10": RESNET | {"depth": 10, "width": 8},
    "resnet10": RESNET | {"depth": 10},
    "slim50-imagenet": RESNET | {"depth": 50, "width": 8, "stem": "imagenet"},
    "vit": VIT,
    "vit-mean-bias": VIT | {"pool": "mean", "qkv_bias": True, "eps": 1e-6, "positions": "sincos"},
}
REFUSED = {
    ("timm", "slim"): "no ResNet of width 8",
    ("timm", "slim50-imagenet"): "no ResNet of width 8",
    ("timm", "slim10"): "no ResNet-10",
    ("timm", "resnet10"): "no ResNet-10",
    ("mmpretrain", "slim10"): "no ResNet-10",
    ("mmpretrain", "resnet10"): "no ResNet-10",
    ("torchvision", "vit-mean-bias"): "the mean of its patches",
}
CASES = [
    (library, name)
    for library in sorted(export.TARGETS)
    for name in NETWORKS
    if library == "timm" or name == "resnet10" or not name.startswith("resnet")  # to the others, 64 channels are as 8
]
PACKAGE = {"timm": "timm", "safetensors": "safetensors", "mmpretrain": "mmpretrain"}

pytestmark = pytest.mark.usefixtures("own_folder")


def trained(network: Mapping[str, Any], path: Path = Path("encoder.pt")) -> nn.Module:
    """An encoder without a number that another starts with, in BatchNorm's statistics neither; saved at `path`."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = build_encoder(network)
        for name, tensor in encoder.state_dict().items():
            if tensor.is_floating_point() and tensor.ndim < 4:  # kernels are random as they are
                tensor.add_(torch.rand_like(tensor) * 0.5 if tensor.ndim == 1 and "var" in name else 0.0)
                tensor.mul_(1 + 0.2 * torch.rand_like(tensor)).add_(torch.rand_like(tensor) - 0.5, alpha=0.02)
    state = {"form": ENCODER, "network": dict(network), "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.25]}
    checkpoints.save(path, {**state, "weights": encoder.state_dict()})
    return encoder.eval()


def need(library: str) -> None:
    if library in PACKAGE and importlib.util.find_spec(PACKAGE[library]) is None:
        pytest.skip(f"{library} is not installed (extra 'export')")


@pytest.mark.seconds  # it imports each library
@pytest.mark.parametrize(("library", "name"), CASES)
def test_features_there_are_features_here(library: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    need(library)
    encoder = trained(NETWORKS[name])
    line = ["export", "--to", library, "--checkpoint", "encoder.pt", "--out", "out/net.bin"]
    if (library, name) in REFUSED:
        assert main(line) == 2
        said = capsys.readouterr().err
        assert REFUSED[library, name] in said and said.count("\n") == 1 and not Path("out").exists()
        return
    assert main(line) == 0
    out = capsys.readouterr().out
    difference = re.search(r"differ from the encoder's by at most (\S+) ", out)
    assert difference and float(difference[1]) <= 1e-5
    assert "mean (0.5000, 0.4000, 0.3000)" in out
    x = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(5))
    place: dict[str, Any] = {"x": x}
    with torch.no_grad():
        exec("\n".join(row[4:] for row in out.splitlines() if row.startswith("    ")), place)
        want: Tensor = encoder.features(x)  # type: ignore[operator]
    torch.testing.assert_close(place["f"], want, atol=1e-5, rtol=1e-5)
    assert sorted(path.name for path in Path("out").iterdir()) == ["net.bin"]


def test_safetensors_say_what_they_hold(capsys: pytest.CaptureFixture[str]) -> None:
    safetensors = pytest.importorskip("safetensors", reason="safetensors is not installed (extra 'export')")
    trained(VIT)
    assert main("export --to safetensors --checkpoint encoder.pt --out vit.safetensors".split()) == 0
    with safetensors.safe_open("vit.safetensors", "pt") as stream:
        about = stream.metadata()
    assert '"patch": 8' in about["network"] and about["mean"] == "[0.5, 0.4, 0.3]"


def test_a_network_that_differs_is_not_written(refused: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    trained(VIT)
    right = export.TARGETS["torchvision"]

    def wrong(source: Any) -> export.Target:
        target = right(source)
        target.weights["encoder.ln.bias"] = target.weights["encoder.ln.bias"] + 2e-5
        return target

    monkeypatch.setitem(export.TARGETS, "torchvision", wrong)
    assert "differ by 2.0e-05" in refused("export --to torchvision --checkpoint encoder.pt --out vit.pth")
    assert not Path("vit.pth").exists()


def test_an_encoder_of_the_workspace(capsys: pytest.CaptureFixture[str]) -> None:
    line = "export --to torchvision --method random --seed 3 --out net.pth --set network.width=8".split()
    assert main(line) == 2
    assert "python -m repro run --method random --track embedded --seed 3" in capsys.readouterr().err
    request = Request(("random",), "embedded", (), (3,), overrides=("network.width=8",))
    here = settings.load({})
    path = Workspace(here.workspace).encoder(make(request, here).jobs[0].fingerprint)
    encoder = trained(NETWORKS["slim"], path)
    assert main(line) == 0
    weights = torch.load("net.pth", weights_only=True)
    assert weights.keys() == encoder.state_dict().keys()


def test_a_library_that_is_not_there(refused: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    trained(VIT)
    monkeypatch.setitem(sys.modules, "timm", None)
    assert "pip install timm" in refused("export --to timm --checkpoint encoder.pt --out vit.pth")


def test_every_library_has_its_package_and_its_target() -> None:
    assert export.TARGETS.keys() == LIBRARIES.keys() == export._IMPORT.keys() == export._READ.keys()


def test_raw_pixels_are_no_network(refused: Callable[[str], str]) -> None:
    state = {"form": ENCODER, "network": VIT | {"arch": "pixels"}, "mean": [0.5] * 3, "std": [0.2] * 3, "weights": {}}
    checkpoints.save(Path("encoder.pt"), state)
    assert "is not a network" in refused("export --to torchvision --checkpoint encoder.pt --out x.pth")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--to tim --checkpoint encoder.pt", "did you mean 'timm'"),
        ("--to tim --method aps", "did you mean 'timm'"),
        ("--to tim --checkpoint nothing.pt", "did you mean 'timm'"),
        ("--to torchvision --checkpoint nothing.pt", "no such file: nothing.pt"),
        ("--to torchvision --checkpoint other.pt", "not a repro-encoder checkpoint"),
        ("--to torchvision", "either --method NAME or --checkpoint FILE"),
        ("--to torchvision --method aps --checkpoint encoder.pt", "either --method NAME or --checkpoint FILE"),
        ("--to torchvision --method apss", "did you mean 'aps'"),
        ("--to torchvision --checkpoint encoder.pt --out encoder.pt/below", "choose another --out"),
    ],
)
def test_wrong_use(refused: Callable[[str], str], words: str, said: str) -> None:
    trained(NETWORKS["slim"])
    checkpoints.save(Path("other.pt"), {"form": "something"})
    assert said in refused(f"export --out x.pth {words}") and not Path("x.pth").exists()
