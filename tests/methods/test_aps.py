"""APS against the facts of its sheet: geometry by rasterising, sampling by numpy's, the loss by loops."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from methods import aps
from methods.base import Batch
from methods.parts.views import Boxes
from repro.plan import recipes, registry
from small import built, pictures, streams


def recipe(**method: Any) -> dict[str, dict[str, Any]]:
    tables = recipes.resolve(registry.methods()["aps"], "", "cifar", {})
    tables["network"] |= {"dim": 24, "depth": 2, "heads": 2, "patch": 4}
    tables["method"] |= method
    return tables


def build(**method: Any) -> aps.APS:
    return built(aps.APS, recipe(**method))


def boxes(*rows: tuple[int, int, int, int], flipped: bool = False) -> Boxes:
    top, left, height, width = torch.tensor(rows).T
    return Boxes(top, left, height, width, torch.full((len(rows),), flipped))


def rasterised(selected: Tensor, one: Boxes, two: Boxes, g: int, aware: bool, fine: int = 20) -> Tensor:
    """Uncovered share of each patch of view 2, [B, P], by looking at fine x fine points in each of them.

    selected: bool [B, P].
    """
    share = torch.zeros(len(selected), g * g)
    for b in range(len(selected)):
        top1, left1, h1, w1, flip1 = (float(t[b]) for t in vars(one).values())
        top2, left2, h2, w2, flip2 = (float(t[b]) for t in vars(two).values())
        for j in range(g * g):
            row, column = divmod(j, g)
            if aware and flip2:
                column = g - 1 - column
            covered = 0
            for a in range(fine):
                for c in range(fine):
                    y = top2 + (row + (a + 0.5) / fine) * h2 / g
                    x = left2 + (column + (c + 0.5) / fine) * w2 / g
                    row1, column1 = math.floor((y - top1) * g / h1), math.floor((x - left1) * g / w1)
                    if 0 <= row1 < g and 0 <= column1 < g:
                        if aware and flip1:
                            column1 = g - 1 - column1
                        covered += bool(selected[b, row1 * g + column1])
            share[b, j] = 1 - covered / fine**2
    return share


@pytest.mark.parametrize("aware", [False, True])
@pytest.mark.parametrize(("flip1", "flip2"), [(False, False), (True, False), (False, True)])
def test_overlap_equals_rasterised_overlap(aware: bool, flip1: bool, flip2: bool) -> None:
    g = 4
    one = boxes((0, 0, 32, 32), (3, 5, 20, 11), (10, 10, 9, 13), flipped=flip1)
    two = boxes((8, 4, 16, 24), (0, 0, 32, 30), (0, 0, 32, 32), flipped=flip2)
    selected = torch.rand(3, 1, g * g, generator=torch.Generator().manual_seed(0)) < 0.4
    got = aps.uncovered(selected, one, two, aware)[:, 0]
    want = rasterised(selected[:, 0], one, two, g, aware)
    assert (got - want).abs().max() < 0.08  # a point grid of 20 x 20 can miss a line of points on each side
    assert (got - want).abs().mean() < 0.02


def test_identical_boxes_give_disjoint_subsets_uniform_over_the_rest() -> None:
    method, rows = build(), 400
    same = boxes(*[(2, 3, 20, 26)] * rows)
    index1, index2 = method.sample(same, same, method.draw(streams(rows)))
    chosen = Counter()
    for b in range(rows):
        for t in range(4):
            first, second = set(index1[b, t].tolist()), set(index2[b, t].tolist())
            assert len(second) == 16 and not first & second
        chosen.update(index2[b].flatten().tolist())
    counts = np.array([chosen[j] for j in range(64)])
    expected = rows * 4 * 16 / 64
    assert abs(counts - expected).max() < 5 * math.sqrt(expected)


@pytest.mark.parametrize(("gamma", "second"), [(3.0, (20, 20, 12, 12)), (0.0, (0, 0, 16, 16))])
def test_uniform_over_all_patches_for_disjoint_boxes_and_for_gamma_zero(
    gamma: float, second: tuple[int, int, int, int]
) -> None:
    method, rows = build(gamma=gamma), 400
    drawn = method.draw(streams(rows))
    index1, index2 = method.sample(boxes(*[(0, 0, 16, 16)] * rows), boxes(*[second] * rows), drawn)
    counts = torch.bincount(index2.flatten(), minlength=64).double()
    expected = rows * 4 * 16 / 64
    assert (counts - expected).abs().max() < 5 * math.sqrt(expected)
    shared = sum(len(set(index1[b, 0].tolist()) & set(index2[b, 0].tolist())) for b in range(rows))
    assert abs(shared / rows - 4) < 0.5  # 16 of 64 at random: 4 in common, so no avoidance


@pytest.mark.seconds
def test_race_has_the_distribution_of_numpys_sequential_choice() -> None:
    r, gamma, n, draws = np.array([1.0, 0.9, 0.5, 0.3, 0.0, 0.7]), 2.0, 3, 40_000
    p = r**gamma / (r**gamma).sum()
    e = torch.empty(draws, 6).exponential_(generator=torch.Generator().manual_seed(0))
    ours = aps.race(torch.tensor(r).expand(draws, 6), e, gamma, n).numpy()
    # probability of an ordered pair of first draws: p_a p_b / (1 - p_a)
    pairs = Counter(map(tuple, ours[:, :2].tolist()))
    chi2 = 0.0
    for a in range(6):
        for b in range(6):
            expected = draws * p[a] * p[b] / (1 - p[a]) if a != b else 0.0
            if expected:
                chi2 += (pairs[a, b] - expected) ** 2 / expected
            else:
                assert pairs[a, b] == 0
    assert chi2 < 43.8  # 19 degrees of freedom, p = 0.001
    # and whole subsets against numpy itself
    generator = np.random.default_rng(0)
    theirs = [generator.choice(6, n, replace=False, p=p) for _ in range(20_000)]
    sets1 = Counter(tuple(sorted(row)) for row in ours.tolist())
    sets2 = Counter(tuple(sorted(row.tolist())) for row in theirs)
    assert sets1.keys() == sets2.keys()
    share = sum(sets1.values()) / (draws + 20_000)
    chi2 = 0.0
    for key in sets1:
        both = sets1[key] + sets2[key]
        chi2 += (sets1[key] - both * share) ** 2 / (both * share)
        chi2 += (sets2[key] - both * (1 - share)) ** 2 / (both * (1 - share))
    assert chi2 < 27.9  # 9 degrees of freedom, p = 0.001


def test_too_few_uncovered_patches_are_all_taken_and_the_rest_is_filled() -> None:
    r = torch.zeros(500, 16)
    r[:, [3, 8]] = torch.tensor([1e-5, 0.5])
    index = aps.race(r, torch.empty(500, 16).exponential_(generator=torch.Generator().manual_seed(0)), 3.0, 4)
    assert all({3, 8} <= set(row) and len(set(row)) == 4 for row in index.tolist())
    assert len({tuple(sorted(row)) for row in index.tolist()}) > 60  # of 91 ways to fill up
    everything = aps.race(torch.zeros(2, 16), torch.ones(2, 16), 3.0, 16)
    assert torch.equal(everything.sort(dim=1).values, torch.arange(16).expand(2, 16))


@pytest.mark.parametrize("gamma", [0.05, 1.0, 3.0])
def test_covered_patches_wait_for_the_others_whatever_the_exponent(gamma: float) -> None:
    """As numpy.random.choice, which gives them no probability; 0.05 makes the least uncovered a third as likely."""
    r = torch.zeros(2000, 16, dtype=torch.float64)
    r[:, :6] = torch.tensor([1e-9, 1e-3, 0.1, 0.5, 0.9, 1.0])
    index = aps.race(r, torch.empty(2000, 16).exponential_(generator=torch.Generator().manual_seed(0)), gamma, 6)
    assert torch.equal(index.sort(dim=1).values, torch.arange(6).expand(2000, 6))


def test_four_updates_on_the_same_pixels_with_disjoint_blocks_that_cover_view_one() -> None:
    method = build()
    images = pictures()
    steps = list(method.steps(Batch(images), streams()))
    assert len(steps) == method.updates_per_load == 4
    for step in steps:
        assert step["pixels1"] is steps[0]["pixels1"] and step["pixels2"] is steps[0]["pixels2"]
        assert step["index1"].shape == step["index2"].shape == (6, 16)
        assert all(len(set(row)) == 16 for row in step["index2"].tolist())
    together = torch.cat([step["index1"] for step in steps], dim=1).sort(dim=1).values
    assert torch.equal(together, torch.arange(64).expand(6, 64))
    assert not torch.equal(steps[0]["pixels1"], steps[0]["pixels2"])
    assert not torch.equal(steps[0]["index2"], steps[1]["index2"])


def test_blocks_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"method\.repeats = 5"):
        build(repeats=5)


def test_loss_is_the_sheets_formula_written_out() -> None:
    method, b = build(), 7
    method.train()
    step = next(method.steps(Batch(pictures(b)), streams(b)))
    outputs = method(step)
    z = [method.projector(method.encoder.forward_subset(step[f"pixels{k}"], step[f"index{k}"])) for k in (1, 2)]
    p = [method.predictor(zk) for zk in z]
    want = 0.0
    for predicted, keys in ((p[0], z[1]), (p[1], z[0])):
        for i in range(b):
            similar = []
            for j in range(b):
                dot = sum(x.item() * y.item() for x, y in zip(predicted[i], keys[j], strict=True))
                size = math.sqrt(sum(x.item() ** 2 for x in predicted[i]) * sum(y.item() ** 2 for y in keys[j]))
                similar.append(math.exp(dot / size / 0.1))
            want -= math.log(similar[i] / sum(similar)) / b
    got = sum(float(value) for name, value in outputs.items() if name.startswith("loss_"))
    assert got == pytest.approx(want, abs=1e-5)
    assert len([name for name in outputs if name.startswith("loss_")]) == 2


def test_loss_at_the_start_is_about_ln_b_per_direction_and_keys_get_no_gradient() -> None:
    q, k = (torch.randn(512, 128, generator=torch.Generator().manual_seed(s)).requires_grad_() for s in (0, 1))
    loss = aps.info_nce(q, k, 0.1)
    # ln B + (std of a cosine / T)^2 / 2 for random directions in 128 dimensions
    assert loss.item() == pytest.approx(math.log(512) + 0.5 / 128 / 0.01, abs=0.1)
    loss.backward()
    assert q.grad is not None and k.grad is None


def test_heads_are_as_tabled() -> None:
    method = build()
    shapes = [tuple(p.shape) for p in method.projector.parameters()]
    assert shapes == [(512, 24), (512,), (512,), (512, 512), (512,), (512,), (128, 512)]
    assert next(tuple(p.shape) for p in method.predictor.parameters()) == (512, 128)
    for head in (method.projector, method.predictor):
        assert not any(getattr(layer, "bias", None) is not None for layer in head if isinstance(layer, torch.nn.Linear))
        assert isinstance(head[-1], torch.nn.BatchNorm1d) and not head[-1].affine
    groups = method.param_groups(0.05)
    assert len(groups) == 1 and len(groups[0]["params"]) == len(list(method.parameters()))
