"""Fine-tuned re-ID: losses against loops, how batches are made, learning, interruption."""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from eval import protocols, reid, reid_finetune
from eval.context import Context
from eval.data import Identified, Normalisation
from eval.features import extract
from eval.invariants import check_invariants
from eval.protocols.reid_finetune import ReidFinetuneProtocol
from eval.reid_finetune import Identifier, batches, triplet_loss

MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


class Tiny(nn.Module):
    dim = 24

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 24, 3, 2, 1), nn.BatchNorm2d(24)
        self.second, self.drop = nn.Conv2d(24, 24, 3, 2, 1), nn.Dropout(0.05)

    def features(self, x: Tensor) -> Tensor:
        return self.second(self.drop(self.norm(self.first(x)).relu())).relu().mean((2, 3))


@pytest.fixture
def encoder() -> Tiny:
    torch.manual_seed(0)
    return Tiny()


def protocol(**changes: object) -> ReidFinetuneProtocol:
    quick = {"identities": 8, "epochs": 12, "lr": 0.01, "crop_padding": 1, "precision": "fp32", "hflip": False}
    return protocols.load_as(ReidFinetuneProtocol, "embedded", {**quick, **changes})


def split(pids: np.ndarray, cams: np.ndarray, seed: int) -> Identified:
    """12 x 12 pictures: an identity is its colours in four quarters, a camera is a tint over all of them."""
    rng = np.random.default_rng(seed)
    x = rng.normal(128, 12, (len(pids), 3, 12, 12))
    for i, (pid, cam) in enumerate(zip(pids, cams, strict=True)):
        quarters = np.random.default_rng([7, pid + 1]).normal(0, 25, (3, 2, 2))
        x[i] += np.kron(quarters, np.ones((6, 6))) + np.random.default_rng([8, cam]).normal(0, 40, (3, 1, 1))
    return Identified(x.clip(0, 255).astype(np.uint8), pids, cams)


@pytest.fixture(scope="module")
def pictures() -> tuple[Identified, Identified, Identified]:
    """Train (identities 1-24, and one junk picture), query and gallery (31-50, distractors, junk)."""
    train = np.append(np.repeat(np.arange(1, 25), 6), -1)
    test = np.arange(31, 51)
    gallery = np.concatenate([test.repeat(2), np.zeros(10, int), [-1, -1]])
    return (
        split(train, np.arange(len(train)) % 3 + 1, 0),
        split(test, np.ones(20, int), 1),
        split(gallery, np.arange(len(gallery)) % 2 + 2, 2),
    )


def run(encoder: nn.Module, pictures: tuple[Identified, Identified, Identified], **more: Any) -> dict[str, Any]:
    p = more.pop("p", protocol())
    return reid_finetune.evaluate(encoder, *pictures, Normalisation(MEAN, STD), p, Context(**more))


@pytest.mark.parametrize("seed", range(5))
def test_triplet_loss_equals_the_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(14, 5)).astype(np.float32)
    y = rng.permutation(np.arange(14) % 4)
    expected = 0.0
    for a in range(14):
        to = [math.dist(x[a].tolist(), x[j].tolist()) for j in range(14)]
        hardest = max(to[j] for j in range(14) if y[j] == y[a])
        easiest = min(to[j] for j in range(14) if y[j] != y[a])
        expected += max(0.0, 0.3 + hardest - easiest) / 14
    found = triplet_loss(torch.from_numpy(x), torch.from_numpy(y), 0.3)
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_triplet_loss_has_a_gradient_where_pictures_coincide() -> None:
    x = torch.ones(6, 3, requires_grad=True)
    loss = triplet_loss(x, torch.tensor([0, 0, 1, 1, 2, 2]), 0.3)
    loss.backward()
    assert loss.item() == pytest.approx(0.3)
    assert torch.isfinite(x.grad).all()
    apart = torch.eye(3).repeat_interleave(2, 0) * 10
    assert float(triplet_loss(apart, torch.tensor([0, 0, 1, 1, 2, 2]), 0.3)) == 0


def test_smoothed_labels_are_those_of_the_paper() -> None:
    """q = 1 - (N - 1) / N epsilon for the identity itself, epsilon / N for the others."""
    logits, y, n = torch.randn(5, 7, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 3, 6, 2, 2]), 7
    expected = 0.0
    for row, label in zip(logits.double().tolist(), y.tolist(), strict=True):
        total = math.log(sum(map(math.exp, row)))
        for j, value in enumerate(row):
            q = 1 - (n - 1) / n * 0.1 if j == label else 0.1 / n
            expected -= q * (value - total) / 5
    found = torch.nn.functional.cross_entropy(logits, y, label_smoothing=protocol().label_smoothing)
    assert float(found) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("identities", "pictures"), [(4, 3), (16, 4), (100, 2)])
def test_batches(identities: int, pictures: int) -> None:
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(np.arange(20), rng.integers(1, 12, 20)))
    made = [batches(labels, identities, pictures, np.random.default_rng(seed)) for seed in range(6)]
    size = min(identities, 20)
    for epoch in made:
        for batch in epoch:
            assert set(Counter(labels[batch].tolist()).values()) == {pictures}
            assert len(set(labels[batch].tolist())) == size
            for label in set(labels[batch].tolist()):  # repeats only where an identity has too few
                mine = batch[labels[batch] == label]
                assert len(set(mine.tolist())) == min(pictures, int((labels == label).sum()))
    groups = Counter()
    for label in range(20):
        groups.update(range(-(-int((labels == label).sum()) // pictures)))
    assert {len(epoch) for epoch in made} == {sum(number // size for number in groups.values())}
    assert len({np.concatenate(epoch).tobytes() for epoch in made}) == 6
    used = np.unique(np.concatenate([np.concatenate(epoch) for epoch in made]))
    assert len(used) > 0.6 * len(labels)


def test_bnneck_is_what_is_ranked(encoder: Tiny) -> None:
    model = Identifier(encoder, 5, torch.Generator().manual_seed(0))
    assert "neck.bias" not in model.state_dict() and "head.bias" not in model.state_dict()
    model.neck.running_mean.normal_()
    model.neck.running_var.uniform_(0.5, 2)
    model.neck.weight.data.uniform_(0.5, 2)
    images = np.random.default_rng(0).integers(0, 256, (4, 3, 12, 12), dtype=np.uint8)
    plain, found = (extract(m, images, MEAN, STD) for m in (encoder, model))
    mean, var, weight = (
        t.detach().numpy() for t in (model.neck.running_mean, model.neck.running_var, model.neck.weight)
    )
    np.testing.assert_allclose(found, (plain - mean) / np.sqrt(var + 1e-5) * weight, rtol=1e-4, atol=1e-5)


@pytest.mark.trains
def test_learns_to_see_through_the_cameras(encoder: Tiny, pictures: tuple[Identified, ...], tmp_path: Path) -> None:
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    state, seen = torch.get_rng_state(), []
    result = run(encoder, pictures, folder=tmp_path, progress=lambda done, total, info: seen.append((done, total)))
    _, query, gallery = pictures
    frozen = [Identified(extract(encoder, part.x, MEAN, STD), part.pid, part.cam) for part in (query, gallery)]
    plain = reid.evaluate(*frozen, protocol())
    assert result["metrics"]["mAP"] > plain["metrics"]["mAP"] + 20
    assert check_invariants(result["metrics"], "reid_finetune", 2) == []
    details = result["details"]
    assert (details["n_identities"], details["n_train"], details["n_query"]) == (24, 144, 20)
    history = details["history"]
    assert len(history) == 12
    for key in ("loss_identity", "loss_triplet"):
        assert history[-1][key] < history[0][key]
    assert seen[:72] == [(i + 1, 72) for i in range(72)]  # 24 identities in groups of 4 of 6 pictures: 6 batches of 8
    assert Path(result["artifacts"]["ranking"]).is_file()
    # the encoder and torch's generator are as they were
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.trains
@pytest.mark.parametrize(
    ("at", "every", "said"),
    [
        (3, 1, "resumed after update 2 of epoch 1"),
        (6, 1, "resumed after update 5 of epoch 1"),
        (7, 1, "resumed after epoch 1"),
        (18, 4, "resumed after update 2 of epoch 3"),
    ],
)
def test_interrupted_anywhere_is_uninterrupted(
    at: int,
    every: int,
    said: str,
    encoder: Tiny,
    pictures: tuple[Identified, ...],
    interrupted: Callable[..., Any],
) -> None:
    """Six updates an epoch; killed within an epoch, the first too, at its end, and after the last update."""
    p = protocol(epochs=3, erasing=0.5, hflip=True)
    found, _, store = interrupted(functools.partial(run, encoder, pictures, p=p), at, 18, every)
    assert found == said
    other = run(encoder, pictures, p=protocol(epochs=1), store=store)
    assert other["details"]["resumed"] == "started afresh: reid_finetune.pt is from another fine-tuning"


def test_refusals(encoder: Tiny, pictures: tuple[Identified, ...]) -> None:
    train, query, gallery = pictures
    nobody = Identified(train.x[:0], train.pid[:0], train.cam[:0])  # as SYSU-30k has it
    for part in (nobody, Identified(train.x[:6], train.pid[:6], train.cam[:6])):
        with pytest.raises(ValueError, match=r"[01] training identities, but fine-tuning needs two .* --eval reid"):
            run(encoder, (part, query, gallery))
    with pytest.raises(ValueError, match=r"diverged in epoch 1 \(loss nan\): lower reid_finetune\.lr"):
        run(encoder, pictures, p=protocol(lr=1e30, warmup_epochs=0.0))
    with pytest.raises(ValueError, match=r"reid_finetune\.identities must be 2 or more, not 1"):
        protocol(identities=1)
