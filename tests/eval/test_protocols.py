"""Protocols: names, overrides, refusals, and what may be hashed."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from eval import protocols
from eval.invariants import check_invariants
from eval.protocols.base import Counts, Features, Probability, Protocol
from eval.protocols.detection import DetectionProtocol
from eval.protocols.finetune import FinetuneProtocol
from eval.protocols.knn import KnnProtocol
from eval.protocols.reid import ReidProtocol

ALL = [(evaluation, name) for evaluation in protocols.KINDS for name in protocols.names(evaluation)]


@pytest.mark.parametrize(("evaluation", "name"), ALL)
def test_every_named_protocol_survives_json(evaluation: str, name: str) -> None:
    protocol = protocols.load(evaluation, name)
    values = protocol.values()
    assert "name" not in values
    # A record holds the values as JSON; read back they must give the same protocol.
    again = protocols.load(evaluation, name, json.loads(json.dumps(values)))
    assert again == protocol


def test_every_evaluation_has_the_tracks_sets() -> None:
    for evaluation in protocols.KINDS:
        assert {"embedded", "mini", "fast"} <= set(protocols.names(evaluation))


def test_overrides_and_defaults() -> None:
    protocol = protocols.load_as(KnnProtocol, "fast", {"ks": [3, 7], "temperature": 1})
    assert protocol.ks == (3, 7)
    assert protocol.temperature == 1.0
    assert isinstance(protocol.temperature, float)
    with pytest.raises(dataclasses.FrozenInstanceError):
        protocol.temperature = 2.0


def test_a_label_is_not_a_constant() -> None:
    one = protocols.load("linear", "mini")
    assert one.values() == dataclasses.replace(one, name="other").values()


def test_a_later_field_leaves_old_hashes_alone() -> None:
    values = protocols.load("knn", "fast").values()
    assert values["test_crop"] == 1.0 and values["ks"]
    assert protocols.hashed("knn", values) == {key: value for key, value in values.items() if key != "test_crop"}
    cut = protocols.load("knn", "fast", {"test_crop": 0.875}).values()
    assert protocols.hashed("knn", cut) == cut
    # A probe had the field from the beginning.
    values = protocols.load("linear", "fast").values()
    assert protocols.hashed("linear", values) == values and values["test_crop"] == 1.0


def test_aps_is_the_sheets_recipe() -> None:
    """The table of section 7.1 of the APS sheet, tiny ViT."""
    p = protocols.load_as(FinetuneProtocol, "aps")
    assert (p.epochs, p.batch, p.optimizer, p.weight_decay) == (100, 128, "adamw", 0.05)
    assert p.lr * p.batch / p.base_batch == pytest.approx(5e-4)
    assert (p.warmup_epochs, p.warmup_lr, p.min_lr) == (5, 1e-6, 1e-5)
    assert (p.mixup, p.cutmix, p.mix_switch, p.label_smoothing, p.erasing) == (0.8, 1.0, 0.5, 0.1, 0.25)
    assert p.randaugment and p.hflip and p.crop_padding == 4 and p.normalise == "imagenet"


def test_triplet_is_the_released_script() -> None:
    """Section 6.4 of the sheet of the truncated triplet loss."""
    p = protocols.load_as(ReidProtocol, "triplet")
    assert (p.size, p.interpolation, p.normalise, p.precision) == ((256, 128), "bicubic", "imagenet", "fp32")
    assert (p.flip, p.metric, p.no_match, p.rerank) == ("triplet", "cosine", "zero", False)
    usual = protocols.load("reid", "sysu")
    assert isinstance(usual, ReidProtocol) and usual.flip == "sum"
    assert dataclasses.replace(usual, name=p.name, flip=p.flip) == p


# What the sheets state of each; what they leave out is left out here. "papers/X.md N": section N of that sheet.
SIDES = {  # short sides of training pictures
    "640-800": (640, 672, 704, 736, 768, 800),
    "640-880": (640, 672, 704, 736, 768, 800, 832, 864, 880),
}
STATED = [
    # papers/glnet.md 4: "R50-FPN, 4conv1fc box head, SyncBN in backbone, FPN and head, ... FREEZE_AT 0, lr 0.01 at
    # batch 8, 180k iterations, steps 120k/160k (= the "1x" budget at batch 16), PreciseBN on, min side 640-800"
    ("detection", "glnet", {"detector": "fpn", "masks": True, "box_head": "4conv1fc", "norm": "trained"}),
    ("detection", "glnet", {"head_norm": True, "lr": 0.01, "batch": 8, "iterations": 180000}),
    ("detection", "glnet", {"schedule": "step", "milestones": (120000, 160000), "train_sides": SIDES["640-800"]}),
    # papers/glnet.md 4: "VOC detection: same, trainval07+12, 24k iterations, steps 18k/22k, warm-up 100"
    ("detection", "glnet_voc", {"detector": "fpn", "masks": False, "box_head": "4conv1fc", "norm": "trained"}),
    ("detection", "glnet_voc", {"head_norm": True, "lr": 0.01, "batch": 8, "iterations": 24000, "warmup": 100}),
    ("detection", "glnet_voc", {"schedule": "step", "milestones": (18000, 22000), "train_sides": SIDES["640-800"]}),
    # papers/truncated_triplet.md 6.2: "Mask R-CNN R50-C4, 2x (180k iterations), 16 images per batch, ... MoCo-style:
    # all layers trained (FREEZE_AT 0), SyncBN everywhere, extra BN after res5 in the ROI head"
    ("detection", "triplet", {"detector": "c4", "masks": True, "iterations": 180000, "batch": 16}),
    ("detection", "triplet", {"norm": "trained", "head_norm": True}),
    # the same: "base lr 0.05 with WarmupCosineLR, linear warmup 10000 iterations from factor 1e-4; ... train short
    # side in {640, 672, ..., 800, 832, 864, 880}; MAX_SIZE_TRAIN 1200"
    ("detection", "triplet", {"lr": 0.05, "schedule": "cosine", "warmup": 10000, "warmup_factor": 1e-4}),
    ("detection", "triplet", {"train_sides": SIDES["640-880"], "train_long_side": 1200}),
    # the same: "(stock: lr 0.02, steps at 120k/160k)", "(stock: up to 800)", in all else as above
    ("detection", "c4_2x", {"detector": "c4", "masks": True, "iterations": 180000, "batch": 16}),
    ("detection", "c4_2x", {"norm": "trained", "head_norm": True}),
    ("detection", "c4_2x", {"lr": 0.02, "schedule": "step", "milestones": (120000, 160000)}),
    ("detection", "c4_2x", {"train_sides": SIDES["640-800"]}),
    # papers/truncated_triplet.md 6.3: "Faster R-CNN R50-C4, ... lr 0.2, 24000 iterations, warmup 1200, cosine"
    ("detection", "triplet_voc", {"detector": "c4", "masks": False, "lr": 0.2, "iterations": 24000}),
    ("detection", "triplet_voc", {"warmup": 1200, "schedule": "cosine"}),
    # papers/baselines.md 5: "VOC 07+12, Faster R-CNN R50-C4, 24k iterations"
    ("detection", "voc", {"detector": "c4", "masks": False, "iterations": 24000}),
    # papers/baselines.md 5: "Mask R-CNN R50-FPN", 2x, "(multi-scale)"; papers/truncated_triplet.md 6.2: "2x (180k
    # iterations), 16 images per batch", "(stock: lr 0.02, steps at 120k/160k)"
    ("detection", "fpn_2x", {"detector": "fpn", "masks": True, "box_head": "2fc", "iterations": 180000, "batch": 16}),
    ("detection", "fpn_2x", {"lr": 0.02, "schedule": "step", "milestones": (120000, 160000)}),
    ("detection", "fpn_2x", {"train_sides": SIDES["640-800"]}),
    # no sheet has a recipe for ViTs; Li et al. (arXiv:2203.16527), appendix: AdamW, lr 1e-4, decay 0.1, warm-up 250
    ("detection", "vit", {"optimizer": "adamw", "lr": 1e-4, "weight_decay": 0.1, "warmup": 250, "detector": "fpn"}),
    # papers/aps.md 6: "ViT-S/16 and ViT-B/16, ... 100 epochs fine-tuning"; the rest from its table 7.1
    ("finetune", "imagenet_vit", {"epochs": 100, "optimizer": "adamw", "weight_decay": 0.05, "base_batch": 512}),
    ("finetune", "imagenet_vit", {"warmup_epochs": 5.0, "warmup_lr": 1e-6, "min_lr": 1e-5, "randaugment": True}),
    ("finetune", "imagenet_vit", {"erasing": 0.25, "mixup": 0.8, "cutmix": 1.0, "mix_switch": 0.5}),
    ("finetune", "imagenet_vit", {"label_smoothing": 0.1, "lr": 5e-4}),  # lr: that of ViT-B
    # papers/aps.md 7.1: trains on all pictures, "top-1 on the test set every epoch"
    ("finetune", "imagenet_vit", {"holdout": 0.0, "test_every": 1, "reported": "last"}),
    ("finetune", "imagenet_resnet", {"holdout": 0.0, "test_every": 1, "reported": "last"}),  # likewise
]


@pytest.mark.parametrize(("evaluation", "name", "stated"), STATED)
def test_papers_protocols_are_the_sheets(evaluation: str, name: str, stated: dict) -> None:
    protocol = protocols.load(evaluation, name)
    assert {key: getattr(protocol, key) for key in stated} == stated


@pytest.mark.parametrize("name", ["voc", "triplet_voc"])
def test_short_sides_of_voc(name: str) -> None:
    """papers/truncated_triplet.md 6.3: "Short side 480..880", of the stock up to 800 (6.2)."""
    protocol = protocols.load_as(DetectionProtocol, name)
    assert (min(protocol.train_sides), max(protocol.train_sides)) == (480, 800 if name == "voc" else 880)


@pytest.mark.parametrize("name", ["glnet", "glnet_voc", "triplet", "c4_2x"])
def test_statistics_are_set_anew(name: str) -> None:
    """papers/glnet.md 4: "PreciseBN on"; papers/truncated_triplet.md 6.2: "PreciseBN at test"."""
    protocol = protocols.load("detection", name)
    assert isinstance(protocol, DetectionProtocol) and protocol.precise_norm > 0


@pytest.mark.parametrize(
    ("evaluation", "name", "overrides", "message"),
    [
        ("lineer", "fast", {}, "no evaluation 'lineer'; did you mean 'linear'?"),
        ("knn", "mni", {}, "did you mean 'mini'?"),
        ("knn", "zzz", {}, "valid: embedded, mini, fast"),
        ("knn", "fast", {"tempersture": 1.0}, "did you mean 'temperature'?"),
        ("knn", "fast", {"name": "x"}, "no key 'name'"),
        ("knn", "fast", {"ks": 5}, "knn.ks must be a list of int, not 5"),
        ("knn", "fast", {"ks": [True]}, "knn.ks must be int, not bool True"),
        ("knn", "fast", {"seed": 1.0}, "knn.seed must be int, not float 1.0"),
        ("finetune", "fast", {"hflip": 1}, "finetune.hflip must be bool, not int 1"),
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
        assert isinstance(protocol, Features)
        assert set(protocol.transform()) <= set(taken)


@pytest.mark.parametrize(
    ("evaluation", "overrides", "message"),
    [
        ("knn", {"ks": []}, "knn.ks must be a list of 1 or more, not []"),
        ("knn", {"ks": [5, 0]}, "knn.ks must be above 0, not 0"),
        ("knn", {"ks": [5, 5]}, "knn.ks must be distinct, not (5, 5)"),
        ("knn", {"holdout": 1.0}, "knn.holdout must be above 0 and below 1, not 1.0"),
        ("knn", {"temperature": "cold"}, "knn.temperature must be float, not str 'cold'"),
        ("linear", {"learning_rates": [0.1, float("nan")]}, "linear.learning_rates must be above 0, not nan"),
        ("linear", {"ridge": 1.0}, "linear.ridge must be a list of float, not 1.0"),
        ("linear", {"optimizer": 3}, "linear.optimizer must be one of sgd, lars, not 3; valid: sgd, lars"),
        ("finetune", {"erasing": 1.5}, "finetune.erasing must be 0 or more and at most 1, not 1.5"),
        ("reid_finetune", {"pictures": 1}, "reid_finetune.pictures must be 2 or more, not 1"),
        (
            "detection",
            {"strides": [4, 9]},
            "detection.strides must be a list in which each value is twice the one before it",
        ),
    ],
)
def test_bounds_are_told_of_the_key_that_breaks_them(evaluation: str, overrides: dict, message: str) -> None:
    with pytest.raises(ValueError) as refusal:
        protocols.load(evaluation, "fast", overrides)
    assert str(refusal.value).startswith(message) and "\n" not in str(refusal.value)


def test_a_protocol_is_checked_however_it_is_made() -> None:
    with pytest.raises(ValueError, match=r"knn\.temperature must be above 0, not -1"):
        KnnProtocol(name="mine", temperature=-1)
    with pytest.raises(ValueError, match=r"knn\.seed must be int, not float 0\.5"):
        dataclasses.replace(protocols.load("knn", "fast"), seed=0.5)
    made = KnnProtocol(name="mine", size=[8, 8], temperature=1)
    assert made.size == (8, 8) and isinstance(made.temperature, float)


@pytest.mark.parametrize(
    ("kind", "stated", "missing"),
    [
        ("knn", {}, "top1_nearest"),
        ("linear", {"crop_scale": [0.08, 1.0]}, "test_effective_rank"),
        ("linear", {"crop_scale": []}, ""),
        ("reid", {}, "query_effective_rank"),
        ("reid_finetune", {}, "query_effective_rank"),
        ("finetune", {}, ""),
        ("detection", {}, ""),
        ("pretrain", {}, ""),
    ],
)
def test_what_records_of_a_kind_must_have(kind: str, stated: dict, missing: str) -> None:
    assert check_invariants({"top1": 1.0}, kind, 2, stated) == ([f"{missing} is missing"] if missing else [])
    assert check_invariants({"top1": 1.0}, kind, 1, stated) == []


# ----------------------------------------------------------------------------------------- a further kind of evaluation


@dataclass(frozen=True, kw_only=True)
class DepthProtocol(Protocol):
    kind: ClassVar[str] = "depth"
    sides: Counts = (64,)
    cut: Probability = 0.5

    @classmethod
    def required(cls, stated: Mapping[str, Any]) -> tuple[str, ...]:
        return ("rmse_cut",) if stated.get("cut") else ("rmse",)


@pytest.fixture
def depth(tmp_path: Path) -> Iterator[protocols.ProtocolTable]:
    """A made-up kind of evaluation, known as long as the test lasts."""
    source = tmp_path / "depth.toml"
    source.write_text("[fast]\nsides = [32, 64]\n[whole]\ncut = 0\n")
    table = protocols.ProtocolTable(DepthProtocol, source)
    protocols.KINDS["depth"] = table
    yield table
    del protocols.KINDS["depth"]


def test_a_further_kind_needs_no_edit_here(depth: protocols.ProtocolTable) -> None:
    assert protocols.names("depth") == ("fast", "whole")
    whole = protocols.load("depth", "whole", {"sides": [8]})
    assert whole == DepthProtocol(name="whole", sides=(8,), cut=0.0)
    assert protocols.hashed("depth", whole.values()) == {"sides": [8], "cut": 0.0}
    for name, overrides, message in (
        ("fsat", {}, "no depth protocol 'fsat'; did you mean 'fast'?"),
        ("fast", {"sidse": [1]}, "depth protocol has no key 'sidse'; did you mean 'sides'?"),
        ("fast", {"cut": 2}, "depth.cut must be 0 or more and at most 1, not 2"),
    ):
        with pytest.raises(ValueError) as refusal:
            protocols.load("depth", name, overrides)
        assert str(refusal.value) == message


def test_a_further_kind_says_which_metrics_it_must_have(depth: protocols.ProtocolTable) -> None:
    assert check_invariants({"rmse": 1.0}, "depth", 2, {"cut": 0.0}) == []
    assert check_invariants({"rmse": 1.0}, "depth", 2, {"cut": 0.5}) == ["rmse_cut is missing"]
    assert check_invariants({}, "depth", 1, {"cut": 0.5}) == []


def test_every_file_of_protocols_is_of_a_kind() -> None:
    folder = Path(protocols.__file__).parent
    assert {path.stem for path in folder.glob("*.toml")} == set(protocols.KINDS)


@pytest.mark.processes
def test_torch_free() -> None:
    code = (
        "import sys; import eval.protocols, eval.invariants; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
