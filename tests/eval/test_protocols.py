"""Protocols: names, overrides, refusals, and what may be hashed."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import pytest

from eval import protocols

ALL = [(evaluation, name) for evaluation in protocols.KINDS for name in protocols.names(evaluation)]


@pytest.mark.parametrize(("evaluation", "name"), ALL)
def test_every_named_protocol_survives_json(evaluation: str, name: str) -> None:
    protocol = protocols.load(evaluation, name)
    values = protocols.values(protocol)
    assert "name" not in values
    # A record holds the values as JSON; read back they must give the same protocol.
    again = protocols.load(evaluation, name, json.loads(json.dumps(values)))
    assert again == protocol


def test_every_evaluation_has_the_tracks_sets() -> None:
    for evaluation in protocols.KINDS:
        assert {"embedded", "mini", "fast"} <= set(protocols.names(evaluation))


def test_overrides_and_defaults() -> None:
    protocol = protocols.load("knn", "fast", {"ks": [3, 7], "temperature": 1})
    assert isinstance(protocol, protocols.KnnProtocol)
    assert protocol.ks == (3, 7)
    assert protocol.temperature == 1.0
    assert isinstance(protocol.temperature, float)
    with pytest.raises(dataclasses.FrozenInstanceError):
        protocol.temperature = 2.0


def test_a_label_is_not_a_constant() -> None:
    one = protocols.load("linear", "mini")
    assert protocols.values(one) == protocols.values(dataclasses.replace(one, name="other"))


def test_aps_is_the_sheets_recipe() -> None:
    """The table of section 7.1 of the APS sheet, tiny ViT."""
    p = protocols.load("finetune", "aps")
    assert isinstance(p, protocols.FinetuneProtocol)
    assert (p.epochs, p.batch, p.optimizer, p.weight_decay) == (100, 128, "adamw", 0.05)
    assert p.lr * p.batch / p.base_batch == pytest.approx(5e-4)
    assert (p.warmup_epochs, p.warmup_lr, p.min_lr) == (5, 1e-6, 1e-5)
    assert (p.mixup, p.cutmix, p.mix_switch, p.label_smoothing, p.erasing) == (0.8, 1.0, 0.5, 0.1, 0.25)
    assert p.randaugment and p.hflip and p.crop_padding == 4 and p.normalise == "imagenet"


def test_triplet_is_the_released_script() -> None:
    """Section 6.4 of the sheet of the truncated triplet loss."""
    p = protocols.load("reid", "triplet")
    assert isinstance(p, protocols.ReidProtocol)
    assert (p.size, p.interpolation, p.normalise, p.precision) == ((256, 128), "bicubic", "imagenet", "fp32")
    assert (p.flip, p.metric, p.no_match, p.rerank) == ("triplet", "cosine", "zero", False)
    usual = protocols.load("reid", "sysu")
    assert isinstance(usual, protocols.ReidProtocol) and usual.flip == "sum"
    assert dataclasses.replace(usual, name=p.name, flip=p.flip) == p


@pytest.mark.parametrize(
    ("evaluation", "name", "overrides", "message"),
    [
        ("lineer", "fast", {}, "no evaluation 'lineer'; did you mean 'linear'?"),
        ("knn", "mni", {}, "did you mean 'mini'?"),
        ("knn", "zzz", {}, "there are: embedded, mini, fast"),
        ("knn", "fast", {"tempersture": 1.0}, "did you mean 'temperature'?"),
        ("knn", "fast", {"name": "x"}, "no key 'name'"),
        ("knn", "fast", {"ks": 5}, "knn.ks is a list of int, not 5"),
        ("knn", "fast", {"ks": [True]}, "knn.ks is int, not bool True"),
        ("knn", "fast", {"seed": 1.0}, "knn.seed is int, not float 1.0"),
        ("finetune", "fast", {"hflip": 1}, "finetune.hflip is bool, not int 1"),
        ("linear", "fast", {"normalise": "L2"}, "did you mean 'l2'?"),
        ("linear", "fast", {"holdout": 1.5}, "linear.holdout must be 0 or more and below 1, not 1.5"),
        ("finetune", "fast", {"holdout": 0.0, "reported": "selected"}, "finetune.holdout"),
        ("reid", "fast", {"size": [3]}, "reid.size must be [] or [height, width]"),
    ],
)
def test_refusals_are_one_line_with_the_fix(evaluation: str, name: str, overrides: dict, message: str) -> None:
    with pytest.raises(ValueError) as refusal:
        protocols.load(evaluation, name, overrides)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_transform_is_what_extract_takes() -> None:
    import inspect

    from eval.features import extract

    taken = inspect.signature(extract).parameters
    for evaluation in ("knn", "linear", "reid"):
        protocol = protocols.load(evaluation, "fast")
        assert isinstance(protocol, protocols.Features)
        assert set(protocols.transform(protocol)) <= set(taken)


def test_torch_free() -> None:
    code = (
        "import sys; import eval.protocols, eval.invariants; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
