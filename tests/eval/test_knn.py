"""k-NN against a brute force written out, ties included, and against scikit-learn."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from eval import knn, protocols
from eval.context import Context
from eval.data import Classification
from eval.invariants import check_invariants
from eval.protocols.knn import KnnProtocol
from eval.scores import unpack
from eval.splits import holdout


def protocol(**changes: object) -> KnnProtocol:
    return protocols.load_as(KnnProtocol, "fast", changes)


def brute_ranks(train_x, train_y, test_x, test_y, classes, k, temperature):
    """The rules of the module's docstring, one picture at a time, in Python floats."""
    ranks = []
    for x, y in zip(test_x.tolist(), test_y.tolist(), strict=True):
        length = math.sqrt(sum(v * v for v in x))
        near = []
        for i, z in enumerate(train_x.tolist()):
            cosine = sum(a * b for a, b in zip(x, z, strict=True)) / (length * math.sqrt(sum(v * v for v in z)))
            near.append((-cosine, i))
        votes: dict[int, float] = {}
        for minus, i in sorted(near)[:k]:
            votes[train_y[i]] = votes.get(train_y[i], 0.0) + math.exp(-minus / temperature)
        order = sorted(votes, key=lambda c: (-votes[c], c))
        ranks.append(order.index(y) if y in order else classes)
    return ranks


def test_equals_brute_force_with_ties() -> None:
    # Corners of a cube in 16 dimensions: all lengths are 4, all cosines multiples of 1/8, exact in float32; many tie.
    rng = np.random.default_rng(0)
    train_x = rng.choice([-1.0, 1.0], (150, 16)).astype(np.float32)
    train_x[100:] = train_x[:50]
    test_x = rng.choice([-1.0, 1.0], (60, 16)).astype(np.float32)
    test_x[:20] = train_x[:20]
    train_y, test_y = rng.integers(0, 7, 150), rng.integers(0, 7, 60)
    ks = [1, 3, 10, 40, 150]
    got = knn.true_ranks(train_x, train_y, test_x, test_y, 7, ks, protocol(temperature=0.5))
    for row, k in zip(got, ks, strict=True):
        assert row.tolist() == brute_ranks(train_x, train_y, test_x, test_y, 7, k, 0.5), k


def test_equals_brute_force_on_ordinary_features() -> None:
    rng = np.random.default_rng(1)
    train_y, test_y = rng.integers(0, 5, 200), rng.integers(0, 5, 80)
    centres = rng.normal(size=(5, 12))
    train_x, test_x = ((centres[y] + rng.normal(size=(len(y), 12))).astype(np.float32) for y in (train_y, test_y))
    got = knn.true_ranks(train_x, train_y, test_x, test_y, 5, [1, 7, 50], protocol())
    for row, k in zip(got, [1, 7, 50], strict=True):
        assert row.tolist() == brute_ranks(train_x, train_y, test_x, test_y, 5, k, 0.07), k


def test_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    x, y = rng.choice([-1.0, 1.0], (90, 16)).astype(np.float32), rng.integers(0, 3, 90)
    whole = knn.true_ranks(x, y, x, y, 3, [1, 9], protocol())
    monkeypatch.setattr(knn, "CHUNK", 700)  # seven rows at a time
    assert (knn.true_ranks(x, y, x, y, 3, [1, 9], protocol()) == whole).all()


def test_nearest_where_all_is_one() -> None:
    values, indices = knn.nearest(torch.ones(3, 50), 4)
    assert indices.tolist() == [[0, 1, 2, 3]] * 3
    assert (values == 1).all()


@pytest.mark.parametrize("columns", [1, 7, 64, 1003, 4000])
@pytest.mark.parametrize("levels", [2, 9, 10**6])
@pytest.mark.parametrize("search", [knn.nearest_by_groups, knn.nearest_without_waiting])
def test_nearest_is_a_stable_sort(columns: int, levels: int, search: Callable[..., Any]) -> None:
    """Few levels: many tie with the k-th, above it and below it; a sorted row and a row of one value among them."""
    rng = np.random.default_rng(columns)
    similarity = (rng.integers(0, levels, (40, columns)) / levels).astype(np.float32)
    similarity[0] = 0.5
    similarity[1] = np.sort(similarity[1])
    similarity[2] = np.sort(similarity[2])[::-1]
    similarity[3, : columns // 2] = 1  # half of the row is in front
    order = np.argsort(-similarity, axis=1, kind="stable")
    for k in {1, min(5, columns), min(200, columns), columns}:
        values, indices = search(torch.from_numpy(similarity), k)
        assert (indices.numpy() == order[:, :k]).all()
        assert (values.numpy() == np.take_along_axis(similarity, order[:, :k], axis=1)).all()


def test_nearest_of_a_part_of_a_matrix() -> None:
    similarity = torch.from_numpy(np.random.default_rng(0).normal(size=(300, 30)).astype(np.float32)).T
    assert not similarity.is_contiguous()
    values, indices = knn.nearest(similarity, 7)
    wanted = similarity.sort(dim=1, descending=True, stable=True)
    assert torch.equal(values, wanted.values[:, :7]) and torch.equal(indices, wanted.indices[:, :7])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: the branches that a CPU does not take")
def test_a_gpu_finds_what_the_cpu_finds() -> None:
    """Corners of a cube, whose cosines are exact on both: ties within and beyond the k-th, crowded rows too."""
    rng = np.random.default_rng(3)
    similarity = torch.from_numpy(rng.integers(0, 5, (40, 1003)) / 8).float()
    similarity[0] = 0.5
    for k in (1, 20, 1003):
        for here, there in zip(knn.nearest(similarity, k), knn.nearest(similarity.cuda(), k), strict=True):
            assert there.is_cuda and torch.equal(here, there.cpu())
    # Ordinary features: sums of votes that tie exactly may differ in the last bit, since a GPU adds in any order.
    y = rng.integers(0, 7, 600)
    x = (rng.normal(size=(7, 12))[y] + rng.normal(size=(600, 12))).astype(np.float32)
    plain = np.empty((2, 200), bool)
    ranks = [
        knn.true_ranks(x[:400], y[:400], x[400:], y[400:], 7, [1, 9, 400], protocol(), device, plain=row)
        for device, row in zip(("cpu", "cuda"), plain, strict=True)
    ]
    assert (ranks[0] == ranks[1]).all() and (plain[0] == plain[1]).all()


@pytest.mark.seconds
def test_one_search_for_all_k_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """2,000 queries of 6,000 pictures: 48 MB of similarities at once, 2.4 MB at a time here."""
    rng = np.random.default_rng(4)
    train_x, test_x = (rng.normal(size=(n, 8)).astype(np.float32) for n in (6000, 2000))
    train_y, test_y = rng.integers(0, 4, 6000), rng.integers(0, 4, 2000)
    shapes, search = [], knn.nearest
    monkeypatch.setattr(knn, "nearest", lambda s, k: (shapes.append((*s.shape, k)), search(s, k))[1])
    monkeypatch.setattr(knn, "CHUNK", 600_000)
    ks = [1, 20, 100]
    with profiling() as profile:
        knn.true_ranks(train_x, train_y, test_x, test_y, 4, ks, protocol())
    assert shapes == [(100, 6000, 100)] * 20  # each query once, with the largest k
    largest = max(event.self_cpu_memory_usage for event in profile.events())
    assert largest <= 4 * 600_000  # one operation's own memory, in bytes
    monkeypatch.setattr(knn, "CHUNK", 1 << 24)
    shapes.clear()
    knn.true_ranks(train_x, train_y, test_x, test_y, 4, ks, protocol())
    assert [rows for rows, *_ in shapes] == [512, 512, 512, 464]


def profiling() -> torch.profiler.profile:
    cpu = torch.profiler.ProfilerActivity.CPU
    return torch.profiler.profile(activities=[cpu], profile_memory=True)


@pytest.fixture(scope="module")
def blobs():
    rng = np.random.default_rng(3)
    train_y, test_y = np.arange(600) % 8, np.arange(400) % 8
    centres = rng.normal(size=(8, 32))
    return [
        part
        for y in (train_y, test_y)
        for part in ((centres[y] * 0.6 + rng.normal(size=(len(y), 32))).astype(np.float32), y)
    ]


def test_evaluate(blobs, labelled: Callable[..., Classification[Any]]) -> None:
    seen = []
    result = knn.evaluate(
        labelled(*blobs, 8), protocol(), Context(progress=lambda done, total, info: seen.append((done, total)))
    )
    metrics, details = result["metrics"], result["details"]
    assert check_invariants(metrics) == []
    assert seen[-1] == (520, 520)
    # k chosen on the split, not on the test pictures
    assert details["split_top1"][str(details["k"])] == max(details["split_top1"].values())
    assert metrics["top1"] == metrics[f"top1_k{details['k']}"]
    assert metrics["top1_best_on_test"] == max(v for key, v in metrics.items() if key.startswith("top1_k"))
    assert metrics["optimism"] == pytest.approx(metrics["top1_best_on_test"] - metrics["top1"])
    assert 100 * unpack(details["correct"], 400).mean() == pytest.approx(metrics["top1"])
    assert {key for key in metrics if key.startswith("top1_k")} == {f"top1_k{k}" for k in (1, 5, 10, 20, 50, 100, 200)}


def test_against_scikit_learn(blobs, labelled: Callable[..., Classification[Any]]) -> None:
    neighbors = pytest.importorskip("sklearn.neighbors")
    metrics = knn.evaluate(labelled(*blobs, 8), protocol())["metrics"]
    train_x, train_y, test_x, test_y = blobs
    for k in (1, 20, 200):
        peer = neighbors.KNeighborsClassifier(k, metric="cosine", weights=lambda d: np.exp((1 - d) / 0.07))
        assert metrics[f"top1_k{k}"] == pytest.approx(100 * peer.fit(train_x, train_y).score(test_x, test_y), abs=1e-6)


def test_k_of_one_is_the_nearest_neighbour(blobs, labelled: Callable[..., Classification[Any]]) -> None:
    train_x, train_y, test_x, test_y = blobs
    unit_train, unit_test = (x.astype(np.float64) / np.linalg.norm(x, axis=1, keepdims=True) for x in (train_x, test_x))
    # Of unit length the nearest in angle is the nearest in space.
    distances = ((unit_test[:, None] - unit_train[None]) ** 2).sum(2)
    right = train_y[distances.argmin(1)] == test_y
    for temperature in (0.07, 5.0):  # one voter wins at any weight
        assert (
            knn.evaluate(labelled(*blobs, 8), protocol(temperature=temperature))["metrics"]["top1_k1"]
            == 100 * right.mean()
        )


def test_k_is_chosen_without_the_test_pictures(blobs, labelled: Callable[..., Classification[Any]]) -> None:
    train_x, train_y, test_x, test_y = blobs
    one = knn.evaluate(labelled(*blobs, 8), protocol())
    other = knn.evaluate(labelled(train_x, train_y, test_x[::-1], test_y, 8), protocol())
    assert one["details"]["k"] == other["details"]["k"]
    assert one["details"]["split_top1"] == other["details"]["split_top1"]
    assert one["metrics"]["top1"] != other["metrics"]["top1"]
    # By hand: fit on the one part, judge the other.
    fit, held = holdout(train_y, 0.2, 0)
    ks = [1, 5, 10, 20, 50, 100, 200]
    ranks = [
        brute_ranks(train_x[fit], train_y[fit], train_x[held], train_y[held], 8, k, 0.07)
        for k in (1, one["details"]["k"])
    ]
    shares = [100 * np.mean([rank == 0 for rank in row]) for row in ranks]
    assert one["details"]["split_top1"]["1"] == pytest.approx(shares[0])
    assert one["details"]["split_top1"][str(one["details"]["k"])] == pytest.approx(shares[1])
    assert sorted(map(int, one["details"]["split_top1"])) == ks


def test_few_pictures_leave_out_large_k(blobs, labelled: Callable[..., Classification[Any]]) -> None:
    train_x, train_y, test_x, test_y = blobs
    metrics = knn.evaluate(labelled(train_x[:40], train_y[:40], test_x, test_y, 8), protocol())["metrics"]
    assert {key for key in metrics if key.startswith("top1_k")} == {"top1_k1", "top1_k5", "top1_k10", "top1_k20"}
    with pytest.raises(ValueError, match=r"all values of knn\.ks exceed the 32 training images"):
        knn.evaluate(labelled(train_x[:40], train_y[:40], test_x, test_y, 8), protocol(ks=[100]))


def test_bad_input_is_refused(blobs, labelled: Callable[..., Classification[Any]]) -> None:
    train_x, train_y, test_x, test_y = blobs
    with pytest.raises(ValueError, match="outside the 3 classes"):
        knn.evaluate(labelled(train_x, train_y, test_x, test_y, 3), protocol())
    spoilt = test_x.copy()
    spoilt[7, 0] = np.nan
    with pytest.raises(ValueError, match="1 of 400 features are not finite"):
        knn.evaluate(labelled(train_x, train_y, spoilt, test_y, 8), protocol())


def test_a_tiny_temperature_does_not_overflow(blobs, labelled: Callable[..., Classification[Any]]) -> None:
    metrics = knn.evaluate(labelled(*blobs, 8), protocol(temperature=1e-4, ks=[1, 50]))["metrics"]
    # All weight on the nearest neighbour: any k is k = 1.
    assert metrics["top1_k50"] == pytest.approx(metrics["top1_k1"], abs=1.0)


def test_the_nearest_neighbour_is_recorded_beside_k_1(labelled: Callable[..., Classification[Any]]) -> None:
    rng = np.random.default_rng(3)
    train_x, test_x = (rng.choice([-1.0, 1.0], (n, 16)).astype(np.float32) for n in (300, 200))  # many exact ties
    train_y, test_y = rng.integers(0, 4, 300), rng.integers(0, 4, 200)
    right = 0
    for row, label in zip(test_x, test_y, strict=True):
        products = [float(row @ other) for other in train_x]
        right += int(train_y[products.index(max(products))] == label)  # of equals the first
    metrics = knn.evaluate(labelled(train_x, train_y, test_x, test_y, 4), protocol(ks=(1, 5)))["metrics"]
    assert metrics["top1_nearest"] == metrics["top1_k1"] == pytest.approx(right / 2)
    assert check_invariants(metrics) == []
    without = knn.evaluate(labelled(train_x, train_y, test_x, test_y, 4), protocol(ks=(5,)))["metrics"]
    assert without["top1_nearest"] == metrics["top1_nearest"] and "top1_k1" not in without
