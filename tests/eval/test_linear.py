"""The linear probe against torch's own SGD, scikit-learn and closed forms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from eval import linear, linear_heads, protocols, ridge
from eval.context import Context
from eval.data import Classification
from eval.invariants import check_invariants
from eval.protocols.linear import LinearProtocol
from eval.scores import unpack


def protocol(**changes: object) -> LinearProtocol:
    return protocols.load_as(LinearProtocol, "fast", changes)


def blobs(n_train: int, n_test: int, classes: int, dim: int, spread: float):
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(classes, dim)) * spread
    parts = []
    for n in (n_train, n_test):
        y = np.arange(n) % classes
        # correlated columns of different scale and offset, as features have
        x = (centres[y] + rng.normal(size=(n, dim))) @ np.diag(np.linspace(0.2, 5, dim)) + 3
        parts += [x.astype(np.float32), y]
    return parts


@pytest.mark.trains
def test_all_heads_at_once_equal_one_at_a_time() -> None:
    train_x, train_y, _, _ = blobs(300, 10, 6, 20, 0.5)
    p = protocol(epochs=3, batch=64, learning_rates=[0.01, 0.3], weight_decays=[0.0, 0.05], base_batch=128)
    grid = [(rate, decay) for rate in p.learning_rates for decay in p.weight_decays]
    x, y = torch.from_numpy(linear.normalised(train_x, train_x, "standardise")[0]), torch.from_numpy(train_y)
    *_, (weight, bias) = linear_heads.train(x, y, 6, grid, p)

    for h, (rate, decay) in enumerate(grid):
        head = nn.Linear(20, 6)
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        groups = [{"params": [head.weight], "weight_decay": decay}, {"params": [head.bias], "weight_decay": 0.0}]
        sgd = torch.optim.SGD(groups, lr=rate * 64 / 128, momentum=0.9)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(sgd, 15)
        for epoch in range(3):
            order = torch.from_numpy(np.random.default_rng([p.seed, epoch]).permutation(300))
            for rows in order.split(64):
                sgd.zero_grad()
                nn.functional.cross_entropy(head(x[rows]), y[rows]).backward()
                sgd.step()
                schedule.step()
        torch.testing.assert_close(weight[:, :, h].T, head.weight.detach(), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(bias[:, h], head.bias.detach(), atol=1e-5, rtol=1e-4)


def test_agrees_with_logistic_regression(labelled: Callable[..., Classification[Any]]) -> None:
    peer = pytest.importorskip("sklearn.linear_model")
    parts = blobs(2000, 1500, 8, 30, 0.4)
    train_x, train_y, test_x, test_y = parts
    result = linear.evaluate(labelled(*parts, 8), protocol())
    metrics, details = result["metrics"], result["details"]
    mean, std = train_x.mean(0), train_x.std(0)
    at = details["grid"].index([details["learning_rate"], details["weight_decay"]])
    assert details["split_top1_last_epoch"][at] == max(details["split_top1_last_epoch"])
    assert details["test_top1_last_epoch"][at] == pytest.approx(metrics["top1"], abs=1e-3)
    best = max(
        peer.LogisticRegression(C=c, max_iter=500)
        .fit((train_x - mean) / std, train_y)
        .score((test_x - mean) / std, test_y)
        for c in (0.003, 0.03, 0.3)
    )
    assert 60 < 100 * best < 95  # neither trivial nor hopeless
    assert metrics["top1"] == pytest.approx(100 * best, abs=1.0)
    assert check_invariants(metrics) == []
    assert metrics["optimism"] >= 0
    assert 100 * unpack(details["correct"], 1500).mean() == pytest.approx(metrics["top1"])


def test_choice_is_made_on_the_split_alone(labelled: Callable[..., Classification[Any]]) -> None:
    train_x, train_y, test_x, test_y = blobs(600, 400, 4, 10, 0.4)
    p = protocol(epochs=4, low_shot=[])
    one = linear.evaluate(labelled(train_x, train_y, test_x, test_y, 4), p)["details"]
    rng = np.random.default_rng(0)
    other = linear.evaluate(labelled(train_x, train_y, test_x, rng.permutation(test_y), 4), p)["details"]
    chosen = ("learning_rate", "weight_decay", "selected", "split_top1_last_epoch")
    assert all(one[key] == other[key] for key in chosen)
    assert one["test_top1_last_epoch"] != other["test_top1_last_epoch"]


def test_same_seed_same_numbers(labelled: Callable[..., Classification[Any]]) -> None:
    parts = blobs(400, 200, 6, 12, 0.4)
    p = protocol(epochs=3)
    seen = []
    first = linear.evaluate(
        labelled(*parts, 6), p, Context(progress=lambda done, total, info: seen.append((done, total)))
    )
    assert first == linear.evaluate(labelled(*parts, 6), p)
    assert seen[-1] == (12, 12)  # updates: two trainings of three epochs, 2 and 2 updates each
    assert first["metrics"] != linear.evaluate(labelled(*parts, 6), protocol(epochs=3, seed=1))["metrics"]


def test_normalisations() -> None:
    train, test = np.random.default_rng(0).normal(3, 2, (2, 100, 5)).astype(np.float32)
    train[:, 2] = test[:, 2] = 1000.1  # a dead unit
    ours, applied = linear.normalised(train, test, "standardise")
    live = [0, 1, 3, 4]
    np.testing.assert_allclose(ours[:, live].mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(ours[:, live].std(0), 1, atol=1e-5)
    assert (ours[:, 2] == 0).all() and (applied[:, 2] == 0).all()
    np.testing.assert_allclose(applied[:, live], ((test - train.mean(0)) / train.std(0))[:, live], atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(linear.normalised(train, test, "l2")[1], axis=1), 1, atol=1e-6)
    assert linear.normalised(train, test, "none")[0] is train


def test_ridge_is_scikit_learns_leave_one_out() -> None:
    peer = pytest.importorskip("sklearn.linear_model")
    for n, dim in ((40, 100), (200, 30)):  # more dimensions than pictures, and fewer
        x, y, test_x, _ = blobs(n, 50, 4, dim, 0.3)
        strengths = (0.001, 0.01, 0.1, 1.0, 10.0)
        weight, bias, strength = ridge.ridge(torch.from_numpy(x), torch.from_numpy(y), 4, strengths)
        exact = x.astype(np.float64)
        scale = np.mean(np.linalg.svd(exact - exact.mean(0), compute_uv=False) ** 2)
        cv = peer.RidgeCV(alphas=[s * scale for s in strengths], gcv_mode="svd").fit(exact, np.eye(4)[y])
        assert strength * scale == pytest.approx(cv.alpha_)
        ours = test_x @ weight[:, :, 0].numpy() + bias[:, 0].numpy()
        np.testing.assert_allclose(ours, cv.predict(test_x.astype(np.float64)), atol=1e-4)


def test_low_shot_is_the_mean_over_fixed_splits(labelled: Callable[..., Classification[Any]]) -> None:
    parts = blobs(600, 400, 6, 24, 0.5)
    result = linear.evaluate(labelled(*parts, 6), protocol(epochs=1, low_shot=[10, 90, 200]))
    metrics, low_shot = result["metrics"], result["details"]["low_shot"]
    assert metrics["top1_10_per_class"] == pytest.approx(np.mean([run["top1"] for run in low_shot["10_per_class"]]))
    assert len(low_shot["10_per_class"]) == 5
    assert metrics["top1_90_per_class"] > metrics["top1_10_per_class"] + 1
    # 100 pictures a class: no probe with 200, and it says so
    assert "top1_200_per_class" not in metrics
    assert "fewer than 200" in low_shot["200_per_class"]


def test_a_rate_far_too_high_harms_nobody(labelled: Callable[..., Classification[Any]]) -> None:
    parts = blobs(300, 200, 6, 12, 0.5)
    alone = linear.evaluate(
        labelled(*parts, 6), protocol(learning_rates=[0.1], weight_decays=[0.01], epochs=5, low_shot=[])
    )
    # 1e9 times a decay of 0.01 multiplies the weights until they are no numbers any more.
    rates = [0.1, 1e9]
    beside = linear.evaluate(
        labelled(*parts, 6), protocol(learning_rates=rates, weight_decays=[0.01], epochs=5, low_shot=[])
    )
    assert beside["details"]["test_top1_last_epoch"][1] == 0
    assert beside["details"]["learning_rate"] == 0.1
    assert beside["metrics"]["top1"] == pytest.approx(alone["metrics"]["top1"], abs=0.6)
