"""A trained encoder under the keys of another library: `repro export`.

Every target is built by that library, loaded strictly, and compared with the encoder on a batch before anything is
written. What the library cannot represent is refused. Libraries are imported when they are asked for, not before.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from methods.parts.encoders import build_encoder
from repro.errors import UserError
from repro.store import encoder_file
from repro.store.encoder_file import Trained
from repro.weights import libraries
from repro.weights.layouts import VIT, Weights
from repro.weights.libraries import LIBRARIES

TOLERANCE = 1e-5
_PICTURES = 4


@dataclass(frozen=True)
class Target:
    """A network of another library.

    weights: ours under its keys.  model: built by the library, not loaded yet.  features: model, pictures -> [B, D].
    lines: of code, by which a reader builds the model and gets the features `f` of pictures `x` from the `weights`.
    """

    weights: Weights
    model: nn.Module
    features: Callable[[Any, Tensor], Tensor]
    lines: Sequence[str]


def write(source: Path, to: str, out: Path) -> str:
    """Export the encoder.pt at `source` to the file `out`; returns what to tell the user."""
    libraries.require(to)
    trained = encoder_file.load(source)
    trained.encoder.cpu()
    if trained.network["arch"] not in ("resnet", "vit"):
        raise UserError(
            f"{source}: nothing to export, because its encoder ({trained.network['arch']}) is not a network"
        )
    trained.network.setdefault("pool", "class")  # encoders of before there was a choice
    try:
        target = TARGETS[to](trained)
    except ImportError as error:
        raise UserError(f"cannot export to {to}: {error}; pip install {LIBRARIES[to]}") from None
    difference = compare(trained, target)
    if not difference <= TOLERANCE:
        raise UserError(
            f"not written: the features of {to}'s network differ by {difference:.1e}, more than {TOLERANCE:g}"
        )
    _save(target.weights, to, out, trained)
    count = sum(tensor.numel() for tensor in target.weights.values())
    mean, std = (", ".join(f"{value:.4f}" for value in values) for values in (trained.mean, trained.std))
    lines = (f"import functools, torch, {_IMPORT[to]}", "weights = " + _READ[to].format(file=str(out)), *target.lines)
    return "\n".join(
        [
            f"wrote {out}: {len(target.weights)} tensors, {count / 1e6:.2f} M numbers,"
            f" for {LIBRARIES[to]} {version(LIBRARIES[to])}",
            f"features of {_PICTURES} images differ from the encoder's by at most {difference:.1e}"
            f" (allowed: {TOLERANCE:g})",
            f"images x are RGB in [0, 1], minus mean ({mean}), divided by std ({std})",
            "",
            *(f"    {line}" for line in lines),
        ]
    )


@torch.no_grad()
def compare(trained: Trained, target: Target) -> float:
    """Load `target` strictly; largest difference of its features from the encoder's, computed in float64."""
    target.model.load_state_dict(target.weights)
    network = trained.network
    side = network["size"] if network["arch"] == "vit" else 64
    x = torch.randn(_PICTURES, 3, side, side, generator=torch.Generator().manual_seed(0)).double()
    ours = build_encoder(network)
    ours.load_state_dict(trained.encoder.state_dict())
    want, got = ours.eval().double().features(x), target.features(target.model.eval().double(), x)
    return float((want - got).abs().max()) if want.shape == got.shape else float("inf")


def _save(weights: Weights, to: str, out: Path, trained: Trained) -> None:
    fresh = out.with_name(f".{out.name}.{os.getpid()}")
    weights = {
        name: tensor.detach().float().contiguous() if tensor.is_floating_point() else tensor
        for name, tensor in weights.items()
    }
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        if to == "safetensors":
            from safetensors.torch import save_file

            about = {"network": trained.network, "mean": trained.mean, "std": trained.std}
            save_file(weights, fresh, {"format": "pt", **{key: json.dumps(value) for key, value in about.items()}})
        else:
            torch.save({"state_dict": weights} if to == "mmpretrain" else weights, fresh)
        fresh.replace(out)
    except OSError as error:
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise UserError(f"cannot write {out} ({error.strerror or error}); choose another --out") from None


# ---------------------------------------------------------------------------------------------- the libraries


_LIBRARY_DEPTHS = (18, 34, 50)
"""Of the ResNets here, those that the libraries can build by name."""


def _known_depth(library: str, network: Mapping[str, Any]) -> None:
    if network["depth"] not in _LIBRARY_DEPTHS:
        raise UserError(f"{library} has no ResNet-{network['depth']}; choose torchvision or safetensors")


def _plain(model: Any, x: Tensor) -> Tensor:
    result: Tensor = model(x)
    return result


def _first(model: Any, x: Tensor) -> Tensor:
    result: Tensor = model.backbone(x)[0]
    return result


def _mean_of_first(model: Any, x: Tensor) -> Tensor:
    return _first(model, x).mean(dim=(2, 3))


def _resnet(trained: Trained, library: str, model: Any, constructor: str) -> Target:
    """torchvision's and timm's ResNets, whose keys are ours; the stem for small pictures takes two lines."""
    lines = [f"net = {constructor}"]
    if library == "torchvision":
        model.fc = nn.Identity()
        lines.append("net.fc = torch.nn.Identity()")
    if trained.network["stem"] == "cifar":
        model.conv1, model.maxpool = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()
        lines.append("net.conv1, net.maxpool = torch.nn.Conv2d(3, 64, 3, 1, 1, bias=False), torch.nn.Identity()")
    lines += ["net.load_state_dict(weights)", "f = net.eval()(x)"]
    return Target(dict(trained.encoder.state_dict()), model, _plain, lines)


def _torchvision(trained: Trained) -> Target:
    import torchvision

    network, weights = trained.network, dict(trained.encoder.state_dict())
    if network["arch"] == "resnet" and network["width"] == 64 and network["depth"] in _LIBRARY_DEPTHS:
        name = f"resnet{network['depth']}"
        return _resnet(trained, "torchvision", getattr(torchvision.models, name)(), f"torchvision.models.{name}()")
    if network["arch"] == "resnet":  # torchvision has no such constructor; our subclass of its class has its keys
        ours = f"methods.parts.encoders.ResNet({network['depth']}, {network['width']}, {network['stem']!r}, False)"
        return Target(weights, build_encoder(network), _plain, [f"net = {ours}", *_LOAD])
    if network["pool"] != "class":
        raise UserError("torchvision's ViT outputs the class token, this encoder the mean of its patches; choose timm")
    depth, dim, eps = network["depth"], network["dim"], network["eps"]
    shape = (network["size"], network["patch"], depth, network["heads"], dim, 4 * dim)
    model = torchvision.models.VisionTransformer(*shape, norm_layer=partial(nn.LayerNorm, eps=eps))
    model.heads = nn.Identity()
    for i in range(depth):  # its attention has always a bias
        weights.setdefault(f"blocks.{i}.qkv.bias", torch.zeros(3 * dim))
    lines = [
        f"norm = functools.partial(torch.nn.LayerNorm, eps={eps})",
        f"net = torchvision.models.VisionTransformer(*{shape}, norm_layer=norm)",
        "net.heads = torch.nn.Identity()",
        *_LOAD,
    ]
    return Target(VIT["torchvision"].theirs(weights), model, _plain, lines)


def _timm(trained: Trained) -> Target:
    import timm

    network = trained.network
    if network["arch"] == "resnet":
        _known_depth("timm", network)
        if network["width"] != 64:
            raise UserError(
                f"timm has no ResNet of width {network['width']}, only of 64;"
                " choose torchvision, mmpretrain or safetensors"
            )
        name = f"resnet{network['depth']}"
        model = timm.create_model(name, num_classes=0)
        return _resnet(trained, "timm", model, f"timm.create_model({name!r}, num_classes=0)")
    options = {
        "img_size": network["size"],
        "patch_size": network["patch"],
        "embed_dim": network["dim"],
        "depth": network["depth"],
        "num_heads": network["heads"],
        "qkv_bias": network["qkv_bias"],
        "num_classes": 0,
    }
    if network["pool"] == "mean":
        options |= {"global_pool": "avg", "fc_norm": False}
    model = timm.models.VisionTransformer(**options, norm_layer=partial(nn.LayerNorm, eps=network["eps"]))
    lines = [
        f"norm = functools.partial(torch.nn.LayerNorm, eps={network['eps']})",
        f"net = timm.models.VisionTransformer(**{options}, norm_layer=norm)",
        *_LOAD,
    ]
    return Target(VIT["timm"].theirs(trained.encoder.state_dict()), model, _plain, lines)


def _mmpretrain(trained: Trained) -> Target:
    from eval import mmcv_ops

    mmcv_ops.install()
    from mmpretrain.registry import MODELS

    network, weights = trained.network, dict(trained.encoder.state_dict())
    config: dict[str, Any]
    if network["arch"] == "resnet":
        _known_depth("mmpretrain", network)
        width, means = network["width"], True
        kind = "ResNet" if network["stem"] == "imagenet" else "ResNet_CIFAR"
        config = {"type": kind, "depth": network["depth"], "stem_channels": width, "base_channels": width}
    else:
        dim, means = network["dim"], network["pool"] == "mean"
        arch = {"embed_dims": dim, "num_layers": network["depth"], "num_heads": network["heads"]}
        config = {
            "type": "VisionTransformer",
            "arch": {**arch, "feedforward_channels": 4 * dim},
            "img_size": network["size"],
            "patch_size": network["patch"],
            "qkv_bias": network["qkv_bias"],
            "norm_cfg": {"type": "LN", "eps": network["eps"]},
            "out_type": "featmap" if means else "cls_token",
        }
        weights = VIT["mmpretrain"].theirs(weights)
    lines = [
        "# where mmcv has no compiled operators, before the imports: from eval import mmcv_ops; mmcv_ops.install()",
        f"net = mmpretrain.registry.MODELS.build({config})",
        "net.load_state_dict({name.removeprefix('backbone.'): value for name, value in weights.items()})",
        "net.eval()",
        "f = net(x)[0]" + (".mean(dim=(2, 3))" if means else ""),
    ]
    model = nn.ModuleDict({"backbone": MODELS.build(config)})
    features = _mean_of_first if means else _first
    return Target({f"backbone.{name}": value for name, value in weights.items()}, model, features, lines)


def _safetensors(trained: Trained) -> Target:
    import safetensors.torch  # noqa: F401

    lines = [f"net = methods.parts.encoders.build_encoder({trained.network})", *_LOAD]
    return Target(dict(trained.encoder.state_dict()), build_encoder(trained.network), _plain, lines)


_LOAD = ("net.load_state_dict(weights)", "f = net.eval()(x)")
TARGETS: dict[str, Callable[[Trained], Target]] = {
    "torchvision": _torchvision,
    "timm": _timm,
    "mmpretrain": _mmpretrain,
    "safetensors": _safetensors,
}
_IMPORT = {
    "torchvision": "torchvision, methods.parts.encoders",
    "timm": "timm",
    "mmpretrain": "mmpretrain.models, mmpretrain.registry",
    "safetensors": "safetensors.torch, methods.parts.encoders",
}
_READ = dict.fromkeys(TARGETS, "torch.load({file!r}, weights_only=True)")
_READ["mmpretrain"] += "['state_dict']"
_READ["safetensors"] = "safetensors.torch.load_file({file!r})"
