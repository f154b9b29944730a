"""Files of weights: every layout's features are the library's own, and what does not fit is refused by name."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from methods.parts.encoders import build_encoder
from repro.errors import UserError
from repro.store.encoder_file import Trained
from repro.weights import export, files, fitting, layouts, wording
from repro.weights.architectures import ARCHS
from repro.weights.matching import Match

RESNET18 = dict(ARCHS["resnet18"])
SLIM = {**RESNET18, "width": 8}
VIT = {**ARCHS["vit_tiny"], "size": 32, "patch": 8, "dim": 24, "depth": 2, "heads": 3}


def shaken(model: nn.Module) -> nn.Module:
    """No number is the one that another starts with, nor statistics of BatchNorm or positions; in eval mode."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point() and tensor.ndim < 4:  # kernels are random as they are
                tensor.mul_(1 + 0.2 * torch.rand(tensor.shape, generator=generator))
                tensor.add_(0.02 * torch.rand(tensor.shape, generator=generator))
    model.eval()  # mmpretrain's returns None
    return model


def features(found: Match, network: Mapping[str, Any], x: Tensor) -> Tensor:
    encoder = build_encoder(network)
    encoder.load_state_dict(found.weights)
    with torch.inference_mode():
        return encoder.eval().features(x)


def noise(side: int) -> Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))


def saved(state: Any, path: Path) -> files.File:
    torch.save(state, path)
    return files.read(path)


def below(prefix: str, state: Mapping[str, Any], shift: float = 0.0) -> dict[str, Any]:
    return {prefix + key: value + shift if value.is_floating_point() else value for key, value in state.items()}


WRAPPED: dict[str, tuple[Callable[[dict[str, Tensor]], Any], str, int]] = {  # how it is stored, the part, heads
    "torchvision": (lambda s: s, "", 2),
    "table": (lambda s: {"epoch": 3, "model": s}, "model.", 2),
    "mmpretrain": (lambda s: {"meta": {}, "state_dict": below("backbone.", s)}, "state_dict.backbone.", 2),
    "moco": (
        lambda s: {
            "state_dict": {
                **below("module.encoder_k.", s, 1.0),
                **below("module.encoder_q.", s),
                "module.queue": torch.zeros(4, 8),
            },
            "optimizer": {"state": {0: {"momentum_buffer": torch.zeros(3)}}},
        },
        "state_dict.module.encoder_q.",
        3,
    ),
    "moco_v3": (
        lambda s: {
            "state_dict": {
                **below("module.momentum_encoder.", s, 1.0),
                **below("module.base_encoder.", s),
                "module.predictor.0.weight": torch.zeros(4, 8),
            }
        },
        "state_dict.module.base_encoder.",
        3,
    ),
    "swav": (lambda s: {**below("module.", s), "module.prototypes.weight": torch.zeros(4, 8)}, "module.", 3),
    "byol": (
        lambda s: {**below("target_encoder.net.", s, 1.0), **below("online_encoder.net.", s)},
        "online_encoder.net.",
        2,
    ),
    "dino": (
        lambda s: {"student": below("module.backbone.", s, 1.0), "teacher": below("module.backbone.", s)},
        "teacher.module.backbone.",
        2,
    ),
    "one of two": (lambda s: {"student": below("module.backbone.", s)}, "student.module.backbone.", 2),
}


@pytest.fixture(scope="module")
def resnet18() -> dict[str, Tensor]:
    return shaken(torchvision.models.resnet18()).state_dict()


@pytest.fixture(scope="module")
def slim(resnet18: dict[str, Tensor]) -> dict[str, Tensor]:
    """What a ResNet-18 of an eighth of the channels would have under torchvision's names."""
    return {
        key: value[tuple(slice(size // 8 if size >= 64 else size) for size in value.shape[:2])].clone()
        for key, value in resnet18.items()
    }


@pytest.mark.parametrize("name", WRAPPED)
def test_a_resnet_however_it_is_wrapped(name: str, slim: dict[str, Tensor], tmp_path: Path) -> None:
    wrap, part, heads = WRAPPED[name]
    found = fitting.find(saved(wrap(slim), tmp_path / "x.pth"), SLIM, "resnet18")
    assert (found.part, found.matched, len(found.heads)) == (part, 120, heads)
    assert all(torch.equal(value, slim[key]) for key, value in found.weights.items()) and len(found.weights) == 120
    every = {*found.heads, *found.others}
    assert len(every) + 120 == len(files.read(tmp_path / "x.pth").tensors), "nothing is dropped in silence"
    said = "\n".join(wording.listing(found))
    assert "120 weights matched" in said and f"heads and classifiers: {heads} tensors" in said


@pytest.mark.seconds
@pytest.mark.parametrize("depth", [18, 50])
def test_torchvisions_features(depth: int, tmp_path: Path) -> None:
    model: Any = shaken(getattr(torchvision.models, f"resnet{depth}")())
    network = ARCHS[f"resnet{depth}"]
    found = fitting.find(saved(model.state_dict(), tmp_path / "x.pth"), network, "it")
    assert found.heads == ("fc.weight", "fc.bias") and not found.others
    children = nn.Sequential(*list(model.children())[:-1])
    by_number = fitting.find(saved(children.state_dict(), tmp_path / "y.pth"), network, "it")
    assert by_number.layout == "children"
    model.fc = nn.Identity()
    with torch.inference_mode():
        want = model(noise(64))
    for match in (found, by_number):
        torch.testing.assert_close(features(match, network, noise(64)), want, atol=1e-5, rtol=1e-5)


@pytest.mark.seconds
def test_mmpretrains_features(tmp_path: Path) -> None:
    from eval import mmcv_ops

    mmcv_ops.install()
    from mmpretrain.registry import MODELS

    model = shaken(MODELS.build({"type": "ResNet", "depth": 18}))
    state = {**below("backbone.", model.state_dict()), "head.fc.weight": torch.zeros(2, 512)}
    found = fitting.find(saved({"state_dict": state}, tmp_path / "x.pth"), RESNET18, "resnet18")
    assert found.heads == ("state_dict.head.fc.weight",)
    with torch.inference_mode():
        want = model(noise(64))[0].mean(dim=(2, 3))
    torch.testing.assert_close(features(found, RESNET18, noise(64)), want, atol=1e-5, rtol=1e-5)


@pytest.mark.seconds
def test_timms_features(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm", reason="timm is not installed (extra 'export')")
    model = shaken(timm.create_model("vit_tiny_patch16_224"))
    file = saved({"model": model.state_dict()}, tmp_path / "x.pth")
    with torch.inference_mode():
        patches = model.forward_features(noise(224))
    for pool, want in (("class", patches[:, 0]), ("mean", patches[:, 1:].mean(1))):
        network = {**ARCHS["vit_tiny"], "pool": pool}
        found = fitting.find(file, network, "vit_tiny")
        assert found.heads == ("model.head.weight", "model.head.bias") and found.layout == "timm"
        torch.testing.assert_close(features(found, network, noise(224)), want, atol=1e-5, rtol=1e-5)


def timm_keys(bias: bool = True) -> dict[str, Tensor]:
    """A ViT as timm, DINO and MoCo-v3 store it, by hand."""
    shapes: dict[str, tuple[int, ...]] = {"cls_token": (1, 1, 24), "pos_embed": (1, 17, 24)}
    shapes |= {"patch_embed.proj.weight": (24, 3, 8, 8), "patch_embed.proj.bias": (24,)}
    for i in range(2):
        layers = {"norm1": (24,), "attn.qkv": (72, 24), "attn.proj": (24, 24), "norm2": (24,)}
        layers |= {"mlp.fc1": (96, 24), "mlp.fc2": (24, 96)}
        for layer, shape in layers.items():
            shapes |= {f"blocks.{i}.{layer}.weight": shape, f"blocks.{i}.{layer}.bias": shape[:1]}
    shapes |= {"norm.weight": (24,), "norm.bias": (24,), "head.weight": (5, 24)}
    generator = torch.Generator().manual_seed(0)
    state = {key: torch.randn(shape, generator=generator) for key, shape in shapes.items()}
    return state if bias else {key: value for key, value in state.items() if "qkv.bias" not in key}


def test_timms_keys(tmp_path: Path) -> None:
    state = timm_keys()
    found = fitting.find(saved(state, tmp_path / "x.pth"), VIT, "vit")
    assert found.matched == len(state) - 1 and found.heads == ("head.weight",)
    ours = found.weights
    torch.testing.assert_close(ours["class_token"][0, 0], state["cls_token"][0, 0] + state["pos_embed"][0, 0])
    assert torch.equal(ours["positions"], state["pos_embed"][0, 1:])
    assert torch.equal(ours["blocks.1.mlp.2.bias"], state["blocks.1.mlp.fc2.bias"])
    assert torch.equal(ours["blocks.0.qkv.weight"], state["blocks.0.attn.qkv.weight"])


def test_aps_as_released(tmp_path: Path) -> None:
    """The keys of the authors' file by hand; the sheet's forward pass, section 4, with timm's own blocks."""
    timm = pytest.importorskip("timm", reason="timm is not installed (extra 'export')")
    block, patches = timm.models.vision_transformer.Block, nn.Conv2d(3, 24, 2, 2)
    blocks = nn.Sequential(*(block(24, 3, qkv_bias=False, norm_layer=nn.LayerNorm) for _ in range(2)))
    model = nn.ModuleDict({"patchify": patches, "transformer": blocks, "layer_norm": nn.LayerNorm(24)})
    model.register_parameter("cls_token", nn.Parameter(torch.zeros(1, 1, 24)))
    model.register_parameter("pos_embedding", nn.Parameter(torch.zeros(64, 1, 24)))
    shaken(model)
    heads = {"base_encoder.fc.0.weight": torch.zeros(8, 24), "predictor.0.weight": torch.zeros(8, 8)}
    file = saved({**below("base_encoder.", model.state_dict()), **heads}, tmp_path / "x.pth")
    network = {**ARCHS["vit_tiny"], "size": 16, "patch": 2, "dim": 24, "depth": 2, "heads": 3}
    network |= {"qkv_bias": False, "eps": 1e-5}
    found = fitting.find(file, network, "it")
    assert (found.layout, found.part, set(found.heads)) == ("aps", "base_encoder.", set(heads)) and not found.others
    with torch.inference_mode():
        tokens = patches(noise(16)).flatten(2).permute(2, 0, 1) + model.pos_embedding  # [64, B, D]
        tokens = torch.cat([model.cls_token.expand(-1, 2, -1), tokens])
        want = model["layer_norm"](blocks(tokens.transpose(0, 1)))[:, 0]
    torch.testing.assert_close(features(found, network, noise(16)), want, atol=1e-5, rtol=1e-5)
    again = layouts.VIT["aps"].theirs(found.weights)
    assert all(torch.equal(value, again[key]) for key, value in model.state_dict().items())
    with pytest.raises(UserError, match=r"8 x 8 grid, .*--set network.size=16 network.patch=2"):
        fitting.find(file, {**network, "size": 224, "patch": 16}, "it")


@pytest.mark.parametrize("name", ["resnet", "vit"])
@pytest.mark.parametrize("library", sorted(export.TARGETS))
def test_there_and_back(library: str, name: str, tmp_path: Path) -> None:
    pytest.importorskip(library, reason=f"{library} is not installed (extra 'export')")
    network = VIT if name == "vit" else SLIM if library in ("mmpretrain", "safetensors") else RESNET18
    encoder: Any = shaken(build_encoder(network))
    target = export.TARGETS[library](Trained(encoder, (0.5,) * 3, (0.2,) * 3, dict(network)))
    found = fitting.find(saved(target.weights, tmp_path / "x.pth"), network, name)
    assert found.whole and not found.infinite and not found.heads and not found.others
    with torch.inference_mode():
        assert torch.equal(features(found, network, noise(32)), encoder.features(noise(32)))


def test_halves_and_old_files_and_lost_counters(slim: dict[str, Tensor], tmp_path: Path) -> None:
    state = {k: v.half() for k, v in slim.items() if not k.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "x.pth", _use_new_zipfile_serialization=False)
    found = fitting.find(files.read(tmp_path / "x.pth"), SLIM, "resnet18")
    assert (
        len(found.filled) == 20
        and found.matched == 100
        and "20 BatchNorm counters" in "\n".join(wording.listing(found))
    )
    assert {value.dtype for value in found.weights.values()} == {torch.float32, torch.int64}
    assert torch.equal(found.weights["conv1.weight"], state["conv1.weight"].float())


def test_the_user_says_which_of_several(slim: dict[str, Tensor], tmp_path: Path) -> None:
    file = saved({**below("left.", slim), **below("right.", slim, 1.0)}, tmp_path / "x.pth")
    with pytest.raises(UserError, match=r"several such networks, under left, right; choose one with --part") as caught:
        fitting.find(file, SLIM, "resnet18")
    assert "\n" not in str(caught.value)
    for part in ("right", "right."):
        found = fitting.find(file, SLIM, "resnet18", part)
        assert torch.equal(found.weights["conv1.weight"], slim["conv1.weight"] + 1) and len(found.others) == 122
    with pytest.raises(UserError, match="--part middle: no such weights under this prefix, only under left"):
        fitting.find(file, SLIM, "resnet18", "middle")


def test_what_fits_is_looked_for_in_the_chosen_part(resnet18: dict[str, Tensor], tmp_path: Path) -> None:
    """Not below another: a ViT beside the part that was asked for is no network that this part fits."""
    vit = build_encoder(ARCHS["vit_tiny"]).state_dict()
    file = saved({**below("a.", vit), **below("b.", resnet18)}, tmp_path / "x.pth")
    with pytest.raises(UserError, match=r"it fits --arch resnet18$"):
        fitting.find(file, ARCHS["resnet34"], "resnet34", "b")


def test_tensors_in_lists_have_names_too(slim: dict[str, Tensor], tmp_path: Path) -> None:
    state = {"nets": [slim], "more": ({"a": torch.zeros(1)}, torch.zeros(2), 3)}
    found = fitting.find(saved(state, tmp_path / "x.pth"), SLIM, "resnet18")
    assert found.part == "nets.0." and found.others == ("more.0.a", "more.1")


def without(state: dict[str, Tensor], *names: str) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if key not in names}


@pytest.mark.parametrize(
    ("change", "network", "words"),
    [
        (
            lambda s: {"a": torch.zeros(2), "b.c": torch.zeros(3)},
            SLIM,
            r"no weights of it, but 2 tensors \(b.c, a\)",
        ),
        (
            lambda s: without(s, "layer2.0.conv1.weight"),
            SLIM,
            r"does not match it: 119 weights match; 1 missing \(layer2.0.conv1.weight",
        ),
        (lambda s: s, ARCHS["resnet34"], r"missing \(layer1.2.conv1.weight.*it fits --arch resnet18"),
        (
            lambda s: s,
            {**ARCHS["resnet18-cifar"], "width": 8},
            r"1 of another shape \(conv1.weight is 8x3x7x7, not 8x3x3x3",
        ),
        (lambda s: {**s, "layer4.2.conv1.weight": torch.zeros(3)}, SLIM, r"1 unexpected \(layer4.2.conv1"),
        (
            lambda s: {**s, "bn1.bias": s["bn1.bias"] / 0},
            SLIM,
            r"1 of its 120 weights contain values that are not finite in float32 \(bn1.bias\)",
        ),
        (lambda s: s, VIT, r"no weights of it, but 122 tensors .*it fits --arch resnet18"),
        (lambda s: timm_keys(), {**VIT, "size": 64}, r"for a 4 x 4 grid.* 8 x 8.*--set network.size=32"),
        (lambda s: timm_keys(), {**VIT, "qkv_bias": False}, r"unexpected.*--set network.qkv_bias=true"),
        (lambda s: timm_keys(bias=False), VIT, r"missing.*--set network.qkv_bias=false"),
        (lambda s: {**timm_keys(), "reg_token": torch.zeros(1, 4, 24)}, VIT, r"unexpected \(reg_token\)"),
        (
            lambda s: {**timm_keys(), "blocks.0.ls1.gamma": torch.ones(24)},
            VIT,
            r"unexpected \(blocks.0.ls1.gamma\)",
        ),
    ],
)
def test_what_is_not_wholly_that_network_is_refused(
    change: Any, network: Any, words: str, resnet18: dict[str, Tensor], slim: dict[str, Tensor], tmp_path: Path
) -> None:
    state = resnet18 if "--arch" in words else slim  # which fits one that has a name
    file = saved(change(dict(state)), tmp_path / "x.pth")
    with pytest.raises(UserError, match=words) as caught:
        fitting.find(file, network, "it")
    assert str(caught.value).startswith("x.pth: ") and "\n" not in str(caught.value)


def _junk(path: Path) -> None:
    path.write_bytes(b"not a checkpoint at all" * 50)


def _cut(path: Path) -> None:
    torch.save({"w": torch.zeros(10000)}, path)
    path.write_bytes(path.read_bytes()[:20000])


@pytest.mark.parametrize(
    ("name", "write", "words"),
    [
        ("none.pth", lambda path: None, "no such file"),
        ("junk.pth", _junk, "damaged, or not a PyTorch checkpoint"),
        ("cut.pth", _cut, "damaged, or not a PyTorch checkpoint"),
        ("junk.safetensors", _junk, "damaged, or not a safetensors file"),
        ("list.pth", lambda path: torch.save([1, 2], path), "contains list, not a table of weights"),
        (
            "args.pth",
            lambda path: torch.save({"args": argparse.Namespace(lr=1), "model": {"w": torch.zeros(2)}}, path),
            r"would run code in it \(argparse.Namespace\).*weights_only=False\)\['state_dict'\]",
        ),
        ("folder.pth", lambda path: path.mkdir(), "is a folder"),
        ("module.pth", lambda path: torch.save(nn.Linear(2, 2), path), r"weights_only=False\)\.state_dict\(\)"),
        (
            "old.pth",
            lambda path: torch.save(nn.Linear(2, 2), path, _use_new_zipfile_serialization=False),
            r"weights_only=False\)\.state_dict\(\)",
        ),
    ],
)
def test_what_cannot_be_read_is_refused(name: str, write: Any, words: str, tmp_path: Path) -> None:
    if name.endswith("safetensors"):
        pytest.importorskip("safetensors", reason="safetensors is not installed (extra 'export')")
    write(tmp_path / name)
    with pytest.raises(UserError, match=words) as caught:
        files.read(tmp_path / name)
    assert re.search(name, str(caught.value)) and "\n" not in str(caught.value)
