"""Fine-tuning: schedule, what trains, learning, interruption at any update."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from eval import finetune, protocols
from eval.context import Context
from eval.data import Classification, Labelled, Normalisation
from eval.invariants import check_invariants
from eval.protocols.finetune import FinetuneProtocol
from eval.scores import unpack
from eval.training import trainable

pytestmark = pytest.mark.trains

COLOURS = Normalisation((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


class Tiny(nn.Module):
    """Batch norm and dropout on board: state and randomness that an interrupted run must get right."""

    dim, channels, strides = 16, (16,), (4,)

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, 4)
        self.norm, self.drop, self.mix = nn.BatchNorm2d(16), nn.Dropout(0.1), nn.Conv2d(16, 16, 1)
        self.cls_token = nn.Parameter(torch.zeros(1, 16, 1, 1))
        self.pos_embed = nn.Parameter(torch.zeros(1, 16, 1, 1), requires_grad=False)
        self.patches.requires_grad_(False)  # as MoCo-v3 leaves it

    def feature_maps(self, x: Tensor) -> list[Tensor]:
        return [self.mix(self.drop(self.norm(self.patches(x)).relu())) + self.cls_token + self.pos_embed]

    def features(self, x: Tensor) -> Tensor:
        return self.feature_maps(x)[0].relu().mean((2, 3))


@pytest.fixture
def encoder() -> Tiny:
    torch.manual_seed(0)
    return Tiny()


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    """Six classes, told apart by colour and direction of stripes: train, labels, test, labels."""
    rng = np.random.default_rng(0)
    parts = []
    for n in (360, 240):
        y = np.arange(n) % 6
        stripes = 60 * np.sin(np.arange(8) * np.pi / 2)
        x = rng.normal(128, 25, (n, 3, 8, 8))
        x[np.arange(n), y % 3] += np.where((y < 3)[:, None, None], stripes, stripes[:, None])
        parts += [x.clip(0, 255).astype(np.uint8), y]
    return parts


def protocol(**changes: object) -> FinetuneProtocol:
    quick = {"epochs": 3, "batch": 32, "lr": 0.02, "crop_padding": 1, "hflip": False, "warmup_epochs": 0.5}
    return protocols.load_as(FinetuneProtocol, "mini", {"train_pictures": 0, "precision": "fp32", **quick, **changes})


def run(encoder: nn.Module, pictures: list[np.ndarray], p: FinetuneProtocol, **more: Any) -> dict[str, Any]:
    data = Classification(Labelled(*pictures[:2]), Labelled(*pictures[2:]), 6)
    return finetune.evaluate(encoder, data, COLOURS, p, Context(**more))


def test_learns_and_reports(encoder: Tiny, pictures: list[np.ndarray]) -> None:
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    state = torch.get_rng_state()
    seen = []
    p = protocol(epochs=6, test_every=2)
    result = run(encoder, pictures, p, progress=lambda done, total, info: seen.append((done, total)))
    metrics, details = result["metrics"], result["details"]
    assert metrics["top1"] > 60  # 16.7 is chance
    assert check_invariants(metrics) == []
    assert metrics["top1"] == metrics["top1_last"]
    assert 100 * unpack(details["correct"], 240).mean() == pytest.approx(metrics["top1"])
    assert (details["n_train"], details["n_split"]) == (324, 36)
    assert seen == [(i + 1, 60) for i in range(60)]
    history = details["history"]
    assert [entry["epoch"] for entry in history] == [1, 2, 3, 4, 5, 6]
    assert all("split_top1" in entry for entry in history)
    assert {2, 4, 6} <= {entry["epoch"] for entry in history if "test_top1" in entry}
    assert history[-1]["loss"] < history[0]["loss"]
    # the encoder, its modes and torch's generator are as they were
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())
    assert encoder.training and not encoder.patches.weight.requires_grad
    assert torch.equal(torch.get_rng_state(), state)


def test_selected_epoch_is_the_split_s_choice(encoder: Tiny, pictures: list[np.ndarray]) -> None:
    p = protocol(epochs=4, test_every=1, lr=0.2, optimizer="sgd")
    last, selected = (
        run(encoder, pictures, protocols.dataclasses.replace(p, reported=r)) for r in ("last", "selected")
    )
    history = selected["details"]["history"]
    best = max(history, key=lambda entry: (entry["split_top1"], entry["epoch"]))
    assert selected["metrics"]["top1"] == selected["metrics"]["top1_selected"] == best["test_top1"]
    assert last["metrics"]["top1"] == history[-1]["test_top1"]
    assert last["metrics"]["top1_best_on_test"] == max(entry["test_top1"] for entry in history)
    assert last["metrics"]["optimism"] == pytest.approx(last["metrics"]["top1_best_on_test"] - last["metrics"]["top1"])


def test_weights_of_an_earlier_epoch_are_what_is_judged(
    encoder: Tiny, pictures: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rate that jumps at the end spoils the last epochs: the selected one must still score as it did."""
    monkeypatch.setattr(finetune, "learning_rates", lambda p, n: [0.02] * 4 * n + [3.0] * n)
    p = protocol(epochs=5, test_every=1, reported="selected", optimizer="sgd")
    result = run(encoder, pictures, p)
    history = result["details"]["history"]
    best = max(history, key=lambda entry: (entry["split_top1"], entry["epoch"]))
    assert best["epoch"] < 5
    whole = run(encoder, pictures, protocols.dataclasses.replace(p, epochs=best["epoch"], reported="last"))
    assert result["metrics"]["top1"] == whole["metrics"]["top1_last"]
    assert result["details"]["correct"] == whole["details"]["correct"]


def everything_on(**more: object) -> FinetuneProtocol:
    """All augmentations of the APS recipe."""
    return protocol(
        randaugment=True, erasing=0.25, mixup=0.8, cutmix=1.0, label_smoothing=0.1, hflip=True, clip_grad=1.0, **more
    )


@pytest.mark.parametrize(
    ("at", "every", "said"),
    [
        (1, 1, ""),
        (4, 1, "resumed after update 3 of epoch 1"),
        (10, 1, "resumed after update 9 of epoch 1"),
        (11, 1, "resumed after epoch 1"),
        (18, 5, "resumed after update 4 of epoch 2"),
        (30, 1, "resumed after update 9 of epoch 3"),
        (30, 1000, ""),
    ],
)
def test_interrupted_anywhere_is_uninterrupted(
    at: int,
    every: int,
    said: str,
    encoder: Tiny,
    pictures: list[np.ndarray],
    interrupted: Callable[..., Any],
) -> None:
    """Ten updates an epoch; killed in the middle of an epoch, the first too, at its end, and at the very end."""
    p = everything_on()
    found, whole, store = interrupted(functools.partial(run, encoder, pictures, p), at, 30, every)
    assert found == said and list(store.kept) == [finetune.CHECKPOINT]

    seen: list[tuple[int, dict[str, Any]]] = []
    finished = run(encoder, pictures, p, store=store, progress=lambda done, total, info: seen.append((done, info)))
    assert finished["metrics"] == whole["metrics"]
    assert finished["details"]["resumed"] == "resumed after epoch 3"
    assert seen == [(30, {"note": "resumed after epoch 3"})]


def test_what_another_run_kept_is_not_taken_up(
    encoder: Tiny, pictures: list[np.ndarray], memory: Callable[..., Any]
) -> None:
    store = memory()
    run(encoder, pictures, protocol(epochs=1), store=store)
    p = protocol(epochs=1, lr=0.01)
    for _ in range(2):
        other = run(encoder, pictures, p, store=store)
        assert other["details"].pop("resumed") == "started afresh: finetune.pt is from another fine-tuning"
        plain = run(encoder, pictures, p)
        assert plain["details"].pop("resumed") == "" and other == plain
        encoder.mix.weight.data += 0.01


def test_seed_matters_and_nothing_else(encoder: Tiny, pictures: list[np.ndarray]) -> None:
    p = everything_on(epochs=1)
    first = run(encoder, pictures, p)
    torch.manual_seed(99)
    assert run(encoder, pictures, p) == first
    other = run(encoder, pictures, protocols.dataclasses.replace(p, seed=1))
    assert other["details"]["history"][0]["loss"] != first["details"]["history"][0]["loss"]


def test_divergence_is_one_line(encoder: Tiny, pictures: list[np.ndarray]) -> None:
    with pytest.raises(ValueError, match=r"diverged in epoch 1 \(loss nan\): lower finetune\.lr") as refusal:
        run(encoder, pictures, protocol(epochs=1, lr=1e30, optimizer="sgd", warmup_epochs=0.0))
    assert "\n" not in str(refusal.value)


def test_subset_is_class_balanced(encoder: Tiny, pictures: list[np.ndarray]) -> None:
    details = run(encoder, pictures, protocol(epochs=1, train_pictures=120, holdout=0.25))["details"]
    assert (details["n_train"], details["n_split"]) == (90, 30)
    whole = run(encoder, pictures, protocol(epochs=1, holdout=0.0))
    assert whole["details"]["n_train"] == 360
    assert "top1_selected" not in whole["metrics"]


def test_resized_bf16_channels_last(encoder: Tiny, pictures: list[np.ndarray]) -> None:
    p = protocol(epochs=8, size=[12, 12], precision="bf16", channels_last=True)
    assert run(encoder, pictures, p)["metrics"]["top1"] > 40


def test_rates_of_the_aps_recipe() -> None:
    """Sheet 7.1: five epochs of warm-up from 1e-6, stepped late: epochs 0 and 1 both run at 1e-6; down to 1e-5."""
    p = protocols.load_as(FinetuneProtocol, "aps")
    rates = np.array(finetune.learning_rates(p, 7)).reshape(100, 7)
    assert (rates == rates[:, :1]).all()  # constant within an epoch
    epochs = rates[:, 0]
    assert epochs[0] == epochs[1] == 1e-6
    assert epochs[2] == pytest.approx(1e-6 + (5e-4 - 1e-6) / 5)
    assert epochs[6] == pytest.approx(1e-5 + (5e-4 - 1e-5) * 0.5 * (1 + math.cos(math.pi * 5 / 100)))
    assert epochs[99] == pytest.approx(1e-5 + (5e-4 - 1e-5) * 0.5 * (1 + math.cos(math.pi * 98 / 100)))


def test_rates_per_update() -> None:
    rates = finetune.learning_rates(protocol(epochs=4, lr=0.4, base_batch=64, batch=32, warmup_epochs=1.0), 10)
    assert rates[0] == 1e-6
    assert rates[5] == pytest.approx(0.1, rel=1e-4)
    assert max(rates) == rates[10] == pytest.approx(0.2)  # the cosine begins at the top
    assert rates[25] == pytest.approx(0.1)
    assert 0 < rates[-1] < 0.002


def test_what_trains_and_what_decays(encoder: Tiny) -> None:
    model = finetune.Classifier(encoder, 6, torch.Generator().manual_seed(0))
    decayed, others = trainable(model, 0.05)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert {names[id(q)] for q in decayed["params"]} == {"encoder.patches.weight", "encoder.mix.weight", "head.weight"}
    inside = ("patches.bias", "mix.bias", "norm.weight", "norm.bias", "cls_token")
    assert {names[id(q)] for q in others["params"]} == {"head.bias", *(f"encoder.{name}" for name in inside)}
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.05, 0.0)


def test_normalised_as_the_protocol_says(pictures: list[np.ndarray]) -> None:
    p = protocol(crop_padding=0)
    x, targets = finetune.training_batch(
        torch.from_numpy(pictures[0][:8]), pictures[1][:8], 6, COLOURS, p, np.random.default_rng(0)
    )
    np.testing.assert_allclose(x.numpy(), (pictures[0][:8] / 255 - 0.5) / 0.25, atol=1e-5)
    assert targets.argmax(1).tolist() == pictures[1][:8].tolist()


def test_crops_share_and_a_rate_of_its_own_for_the_head(encoder: Tiny, pictures: list[np.ndarray]) -> None:
    p = protocols.load_as(
        FinetuneProtocol, "glnet_10pct", {"epochs": 3, "batch": 12, "base_batch": 12, "milestones": [2]}
    )
    result = run(encoder, pictures, protocols.dataclasses.replace(p, size=(8, 8), lr=0.02, seed=3))
    assert (result["details"]["n_train"], result["details"]["n_split"]) == (36, 0)
    assert [entry["lr"] for entry in result["details"]["history"]] == pytest.approx([0.02, 0.02, 0.002])
    assert check_invariants(result["metrics"]) == []
    few = protocols.dataclasses.replace(p, train_share=0.01)  # 4 pictures of 6 classes
    with pytest.raises(ValueError, match="leaves a class without images") as refusal:
        run(encoder, pictures, few)
    assert "\n" not in str(refusal.value)


def test_the_head_steps_at_its_own_rate(encoder: Tiny) -> None:
    model = finetune.Classifier(encoder, 6, torch.Generator().manual_seed(0))
    factors = {id(v): group["factor"] for group in trainable(model, 0.0, 20.0) for v in group["params"]}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert factors[id(parameter)] == (20.0 if name.startswith("head.") else 1.0), name


def test_semi_supervised_recipes_are_the_sheets() -> None:
    for name, share, lr, head in (("glnet_1pct", 0.01, 0.02, 5.0), ("glnet_10pct", 0.1, 0.01, 0.2)):
        p = protocols.load_as(FinetuneProtocol, name)
        assert (p.train_share, p.lr, p.head_lr, p.weight_decay, p.momentum) == (share, lr, head, 0.0, 0.9)
        assert (p.optimizer, p.batch, p.base_batch, p.epochs, p.milestones) == ("sgd", 256, 256, 100, (30, 60, 90))
        assert (p.holdout, p.test_every, p.test_crop, p.crop_scale) == (0.0, 2, 0.875, (0.08, 1.0))
    rates = finetune.learning_rates(p, 2)
    assert rates == pytest.approx([0.01 * 0.1 ** ((e >= 30) + (e >= 60) + (e >= 90)) for e in range(100) for _ in "ab"])
