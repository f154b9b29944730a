"""Class-balanced splits, ranks of the true class, packed flags, invariants."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from eval.features import summary
from eval.invariants import check_invariants
from eval.scores import check_labelled, pack, standard_error, true_rank, unpack
from eval.splits import holdout, per_class, shares, stratified


def test_stratified_keeps_the_proportions() -> None:
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [600, 300, 100]))
    chosen, rest = stratified(labels, 100, seed=1)
    assert np.bincount(labels[chosen]).tolist() == [60, 30, 10]
    assert sorted([*chosen, *rest]) == list(range(1000))
    again, _ = stratified(labels, 100, seed=1)
    other, _ = stratified(labels, 100, seed=2)
    assert (chosen == again).all()
    assert (chosen != other).any()


def test_stratified_rounds_by_largest_remainder() -> None:
    labels = np.repeat([0, 1, 2], [5, 4, 1])
    chosen, _ = stratified(labels, 3, seed=0)  # ideal 1.5, 1.2, 0.3
    assert np.bincount(labels[chosen], minlength=3).tolist() == [2, 1, 0]
    everything, rest = stratified(labels, 99, seed=0)
    assert len(everything) == 10
    assert len(rest) == 0


def test_holdout_leaves_one_of_every_class() -> None:
    labels = np.array([0, 0, 0, 1])
    fit, held = holdout(labels, 0.9, seed=0)
    assert set(labels[fit]) == {0, 1}
    assert set(labels[held]) == {0}
    with pytest.raises(ValueError, match="leave none to hold out"):
        holdout(np.arange(5), 0.5, seed=0)


def test_low_shot_splits_are_disjoint_and_balanced() -> None:
    labels = np.random.default_rng(0).integers(0, 4, 500)
    splits = per_class(labels, 10, 5, seed=3)
    assert all(np.bincount(labels[s]).tolist() == [10] * 4 for s in splits)
    assert len(np.unique(np.concatenate(splits))) == 5 * 40
    assert per_class(labels, 400, 5, seed=3) == []


def test_shares_keep_the_proportions_and_are_disjoint() -> None:
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [600, 300, 100]))
    splits = shares(labels, 0.1, 5, seed=3)
    assert [np.bincount(labels[s]).tolist() for s in splits] == [[60, 30, 10]] * 5
    assert len(np.unique(np.concatenate(splits))) == 5 * 100
    assert all((a == b).all() for a, b in zip(splits, shares(labels, 0.1, 5, seed=3), strict=True))
    assert [np.bincount(labels[s]).tolist() for s in shares(labels, 0.01, 2, seed=0)] == [[6, 3, 1]] * 2
    assert shares(labels, 0.003, 5, seed=0) == []  # 2, 1 and 0 pictures
    halves = shares(labels, 0.5, 3, seed=0)  # the third begins again where the pictures are used up
    assert (halves[0] == halves[2]).all() and not set(halves[0]) & set(halves[1])


def test_true_rank_against_a_sort() -> None:
    scores = torch.randint(0, 4, (200, 7), generator=torch.Generator().manual_seed(0)).float()  # many ties
    labels = torch.arange(200) % 7
    pairs = zip(scores.tolist(), labels.tolist(), strict=True)
    naive = [sorted(range(7), key=lambda c: (-row[c], c)).index(y) for row, y in pairs]
    assert true_rank(scores, labels).tolist() == naive
    assert true_rank(torch.stack([scores, -scores], 1), labels)[:, 0].tolist() == naive


def test_not_a_number_is_never_right() -> None:
    scores = torch.full((3, 4), torch.nan)
    assert (true_rank(scores, torch.tensor([0, 1, 3])) == 4).all()


@pytest.mark.parametrize("n", [1, 8, 13])
def test_packed_flags(n: int) -> None:
    flags = np.random.default_rng(n).random(n) < 0.5
    assert (unpack(pack(flags), n) == flags).all()


def test_standard_error() -> None:
    assert standard_error(50.0, 10_000) == pytest.approx(0.5)
    # 162 queries: the sampling deviation that the verdicts reckon with
    assert standard_error(40.0, 162) == pytest.approx(3.85, abs=0.01)


def test_labels_out_of_range() -> None:
    x, y = np.zeros((3, 2), np.float32), np.array([0, 1, 5])
    with pytest.raises(ValueError, match="labels run from 0 to 5, outside the 3 classes"):
        check_labelled(x, y, 3, "test features")
    with pytest.raises(ValueError, match="3 rows and 2 labels"):
        check_labelled(x, y[:2], 3, "test features")


@pytest.mark.parametrize(
    ("metrics", "broken"),
    [
        ({"top1": 50.0, "top5": 80.0, "top1_best_on_test": 51.0, "optimism": 1.0}, 0),
        ({"top1": 50.0, "top5": 49.0}, 1),
        ({"top1": 52.0, "top1_best_on_test": 51.0}, 1),
        ({"rank1": 10.0, "rank5": 9.0, "rank10": 8.0}, 2),
        ({"bbox_AP": 5.0, "bbox_AP50": 4.0, "segm_AP": 1.0, "segm_AP50": 4.0}, 1),
        ({"mAP": 40.0, "mAP_trapezoid": 41.0}, 1),
        ({"top1": float("nan")}, 2),
        ({"top1": 101.0}, 1),
        ({"optimism": -0.5, "effective_rank": 300.0, "norm_mean": 1e4}, 0),
        ({"rank1": 1.0, "rank5": 2.0, "rank10": 3.0, "rank20": 2.5}, 1),
        ({"bbox_AP50": 4.0, "bbox_AP75": 4.5}, 1),
        ({"top1_k1": 40.0, "top1_nearest": 40.0, "top1_k5": 39.0}, 0),
        ({"top1_k1": 40.0, "top1_nearest": 40.1}, 1),
        ({"top1_nearest": 40.1}, 0),
        ({"train_effective_rank": 0.5}, 1),
        ({"query_effective_rank": 1.0, "query_feature_std": 0.0}, 1),
        ({"test_feature_std": 1.2}, 1),
        ({"test_feature_std": float("nan")}, 2),
    ],
)
def test_invariants(metrics: dict[str, float], broken: int) -> None:
    assert len(check_invariants(metrics)) == broken


def test_a_record_of_features_says_whether_they_collapsed() -> None:
    said = {"effective_rank": 30.0, "feature_std": 0.4, "norm_mean": 2.0}
    whole = {f"{split}_{key}": value for split in ("train", "test") for key, value in said.items()}
    assert check_invariants(whole, "features") == []
    for key in whole:
        rest = {name: value for name, value in whole.items() if name != key}
        assert check_invariants(rest, "features") == [f"{key} is missing"] and check_invariants(rest, "knn") == []
    rng = np.random.default_rng(0)
    alike = np.ones((50, 16), np.float32) + 1e-5 * rng.normal(size=(50, 16)).astype(np.float32)
    for split in ("train", "test"):
        measured = {f"{split}_{key}": value for key, value in summary(alike).items()}
        assert [line for line in check_invariants({**whole, **measured}, "features") if "collapsed" in line]
    apart = {f"train_{key}": v for key, v in summary(rng.normal(size=(50, 16)).astype(np.float32)).items()}
    assert check_invariants({**whole, **apart}, "features") == []
