"""Truncated triplet: the loss against loops, its check values, deputies and their ranks, blocks, sizes, recipes."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from methods.base import Batch, DataInfo, Views
from methods.byol import BYOL
from methods.truncated_triplet import PASSES, TruncatedTriplet, false_negatives, scaled, truncated_triplet
from repro.plan import recipes, registry
from small import DATA, LABELLED, SLIM, built, pictures, streams

ROWS = 16


def recipe(track: str = "cifar", variant: str = "", **method: Any) -> recipes.Recipe:
    tables = recipes.resolve(registry.methods()["truncated_triplet"], variant, track, {})
    tables["network"] |= SLIM
    tables["method"] |= {"projector_hidden": 32, "predictor_hidden": 24, "head_dim": 16} | method
    return tables


def build(
    variant: str = "", *, batch: int = ROWS, devices: int = 1, data: DataInfo = LABELLED, **method: Any
) -> TruncatedTriplet:
    tables = recipe("cifar", variant, **method)
    tables["pretrain"] |= {"batch": batch, "devices": devices}
    return built(TruncatedTriplet, tables, data)


def views(method: TruncatedTriplet, load: int = 0, micro: int = 0, rows: slice = slice(0, ROWS)) -> Views:
    batch = Batch(pictures(ROWS, seed=load)[rows], (torch.arange(ROWS) % 4)[rows])
    (step,) = method.steps(batch, streams(ROWS, load, rows, micro))
    return step


def by_loops(q: Tensor, t: Tensor, deputy: str, lo: int = 2, hi: int = 10) -> Tensor:
    """One device's L(q, t), differentiable, row by row.  q, t: [n, D]."""
    total = torch.zeros((), dtype=q.dtype)
    for i in range(len(q)):
        d = [-2 * F.cosine_similarity(q[i], t[j].detach(), dim=0) for j in range(len(q))]
        others = torch.stack([d[j] for j in range(len(q)) if j != i])
        order = others.sort().values
        if deputy == "mean_ranks":
            value = sum(order[r - 1] for r in range(lo, hi + 1)) / (hi - lo + 1)
        elif deputy == "rank_k":
            value = order[5 - 1]
        elif deputy == "median":
            value = others.median()
        else:
            value = others.min()
        total = total + (2 * d[i] - value + 100).clamp(min=0)
    return total / len(q)


@pytest.mark.parametrize("deputy", ["mean_ranks", "rank_k", "median", "hardest"])
@pytest.mark.parametrize("n", [14, 15])
def test_loss_and_gradient_are_the_formula(deputy: str, n: int) -> None:
    method = build(batch=2 * n, devices=2, deputy=deputy, ranks="literal")
    torch.manual_seed(0)
    q = torch.randn(2 * n, 8, dtype=torch.float64, requires_grad=True)
    t = torch.randn(2 * n, 8, dtype=torch.float64, requires_grad=True)
    blocks = q.unflatten(0, (2, n)), t.unflatten(0, (2, n))
    got, _ = truncated_triplet(*blocks, method.first, method.last)
    want = (by_loops(q[:n], t[:n], deputy) + by_loops(q[n:], t[n:], deputy)) / 2
    assert got.item() == pytest.approx(want.item(), abs=1e-5)
    mine, theirs = torch.autograd.grad(got, q, retain_graph=True)[0], torch.autograd.grad(want, q)[0]
    torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)
    assert theirs.abs().max() > 0.01
    got.backward()
    assert t.grad is None


def test_other_gamma_margin_and_ranks_count() -> None:
    """A margin that lets the hinge close, against the loop's own arithmetic."""
    torch.manual_seed(0)
    q, t = torch.randn(2, 1, 12, 8).unbind()
    d = -2 * F.normalize(q[0], dim=1) @ F.normalize(t[0], dim=1).T
    want = 0.0
    for i in range(12):
        others = sorted(float(d[i, j]) for j in range(12) if j != i)
        want += max(0.0, 1.5 * float(d[i, i]) - sum(others[2:6]) / 4 + 0.3) / 12
    assert truncated_triplet(q, t, 3, 6, 1.5, 0.3)[0].item() == pytest.approx(want, abs=1e-5)


@pytest.mark.parametrize(
    ("q", "t", "total"),
    [
        (torch.eye(32)[:16], torch.eye(32)[16:], 200.0),  # all cosines 0
        (torch.eye(32)[:16], torch.eye(32)[:16], 192.0),  # perfect positives, orthogonal negatives
        (torch.ones(16, 32), torch.ones(16, 32), 196.0),  # all cosines 1
    ],
)
def test_check_values_of_both_directions(q: Tensor, t: Tensor, total: float) -> None:
    outputs = build("literal").compare(q, q, t, t, Views())
    assert (outputs["loss_1to2"] + outputs["loss_2to1"]).item() == pytest.approx(total, abs=1e-5)


def test_a_process_emulates_its_devices_exactly() -> None:
    """Four devices' rows on one process: the mean of what each would compute alone, labels and directions in place."""
    torch.manual_seed(0)
    q1, q2, t1, t2 = torch.randn(4, 64, 8).unbind()
    labels = torch.randint(10, (64,))
    four, one = build("literal", batch=64, devices=4), build("literal", batch=16)
    whole = four.compare(q1, q2, t1, t2, Views({"labels": labels}))
    blocks = [slice(s, s + 16) for s in (0, 16, 32, 48)]
    parts = [one.compare(q1[s], q2[s], t1[s], t2[s], Views({"labels": labels[s]})) for s in blocks]
    for key in ("loss_1to2", "loss_2to1", "false_negatives"):
        assert whole[key].item() == pytest.approx(sum(p[key].item() for p in parts) / 4, rel=1e-6), key
    for key, q, t in (("loss_1to2", q1, t2), ("loss_2to1", q2, t1)):
        want = sum(by_loops(q[s], t[s], "mean_ranks").item() for s in blocks) / 4
        assert whole[key].item() == pytest.approx(want, abs=1e-5)
    with pytest.raises(ValueError, match=r"40 rows, not a multiple of the 16 rows per device"):
        four.compare(q1[:40], q2[:40], t1[:40], t2[:40], Views())


def test_one_step_is_the_networks_on_the_resized_views() -> None:
    method = build("literal")
    step = views(method)
    want = []
    for a, b in ((1, 2), (2, 1)):
        q = method.predictor(method.projector(method.encoder.features(step[f"online{a}"])))
        want.append(by_loops(q.detach(), method.target(step[f"target{b}"]), "mean_ranks").item())
    outputs = method(step)
    assert [outputs["loss_1to2"].item(), outputs["loss_2to1"].item()] == pytest.approx(want, abs=1e-4)
    assert (outputs["rank_first"], outputs["rank_last"]) == (2, 10)


def test_distances_are_float32_under_autocast() -> None:
    q, t = torch.randn(2, 1, 16, 8).unbind()
    want = truncated_triplet(q, t, 2, 10)[0]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(truncated_triplet(q, t, 2, 10)[0], want)


def test_false_negatives_are_counted_by_label() -> None:
    torch.manual_seed(0)
    q, t = torch.randn(2, 2, 13, 8).unbind()
    labels = torch.randint(3, (2, 13))
    _, chosen = truncated_triplet(q, t, 2, 6)
    hits = 0
    for g in range(2):
        for i in range(13):
            near = {j: float(F.cosine_similarity(q[g, i], t[g, j], dim=0)) for j in range(13) if j != i}
            deputies = sorted(near, key=lambda j: -near[j])[1:6]
            assert deputies == chosen[g, i].tolist()
            hits += sum(int(labels[g, j] == labels[g, i]) for j in deputies)
    assert false_negatives(labels, chosen).item() == pytest.approx(100 * hits / (2 * 13 * 5))


@pytest.mark.parametrize(
    ("negatives", "prior", "want"),
    [
        (195, 0.001, (2, 10)),  # ImageNet: what the authors took
        (103, 0.001, (2, 10)),
        (127, 0.01, (5, 13)),
        (255, 0.01, (8, 16)),
        (127, 0.1, (24, 32)),
        (255, 0.1, (41, 49)),
        (511, 0.1, (73, 81)),
        (11, 0.1, (5, 11)),  # no room for nine
        (15, 1e-9, (2, 10)),  # never harder than literal
    ],
)
def test_scaled_ranks_leave_the_expected_false_negatives_out(
    negatives: int, prior: float, want: tuple[int, int]
) -> None:
    assert scaled(2, 10, negatives, prior) == want
    # exact binomial chance that the first of these ranks is still false, if the false ones are the hardest
    chance = sum(
        math.comb(negatives, x) * prior**x * (1 - prior) ** (negatives - x) for x in range(want[0], negatives + 1)
    )
    assert chance < 0.02


def test_prior_comes_from_the_classes_or_the_recipe() -> None:
    assert (build(batch=128).first, build(batch=128).last) == (24, 32)
    assert build(batch=128, data=replace(DATA, classes=100)).first == 5
    assert build(batch=128, data=replace(DATA, classes=100), class_prior=0.1).first == 24
    assert (build("literal", batch=128).first, build("literal", batch=128).last) == (2, 10)
    assert (build("rank_5", batch=128).first, build("rank_5", batch=128).last) == (24, 24)
    assert (build("median", batch=128).first, build("hardest", batch=128).last) == (64, 1)
    with pytest.raises(ValueError, match=r"set method\.class_prior"):
        build(data=DATA)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch": 10, "ranks": "literal"}, r"ranks 2 \.\. 10, but a device has 9 negatives: raise pretrain\.batch"),
        ({"batch": 64, "devices": 8, "class_prior": 0.5}, r"but a device has 7 negatives"),
        ({"deputy": "easiest"}, r"method\.deputy = 'easiest'"),
        ({"ranks": "half"}, r"method\.ranks = 'half'"),
        ({"rank_lo": 11, "ranks": "literal"}, r"method\.rank_lo"),
        ({"online_size": [16, 64]}, r"method\.online_size = \[16, 64\]"),
        ({"target_size": [33, 32]}, r"method\.target_size = \[33, 32\]"),
        ({"one_forward": True}, r"method\.one_forward = true: .* method\.random_size = false"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**changes)


def test_sizes_are_four_independent_uniform_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    method = build()
    images, pixels = torch.zeros(1, 3, 32, 32, dtype=torch.uint8), torch.zeros(1, 1, 32, 32)
    # only sizes matter here, and views take their time
    monkeypatch.setattr(BYOL, "steps", lambda *_: iter([Views({"pixels1": pixels, "pixels2": pixels})]))
    sides: dict[str, list[int]] = {name: [] for name in PASSES}
    for load in range(400):
        rng = streams(1, load)
        (step,) = method.steps(Batch(images), rng)
        for name in PASSES:
            assert step[name].shape[2] == step[name].shape[3]
            sides[name].append(step[name].shape[2])
    for name in PASSES:
        low = 16 if name.startswith("online") else 20
        assert set(sides[name]) == set(range(low, 33))  # both ends included
    pairs = torch.corrcoef(torch.tensor([sides[name] for name in PASSES], dtype=torch.float32))
    assert (pairs - torch.eye(4)).abs().max() < 0.2  # four standard errors


def test_sizes_are_those_of_the_micro_batch_and_of_all_its_rows() -> None:
    method = build()
    whole, half, other = views(method), views(method, rows=slice(8, 16)), [views(method, micro=m) for m in (1, 2, 3)]
    sizes = [tuple(step[name].shape[2] for name in PASSES) for step in (whole, half, *other)]
    assert sizes[0] == sizes[1] and len(set(sizes)) > 2
    for name in PASSES:
        pixels = whole[f"pixels{name[-1]}"]
        want = F.interpolate(pixels, size=whole[name].shape[2:], mode="bilinear", align_corners=False)
        assert torch.equal(whole[name], want) and pixels.shape[2] == 32
    assert [x.shape[2] for x in method.rotatable(whole)] == [32, 32]


def test_fixed_size_shows_the_views_themselves() -> None:
    method = build("fixed_size")
    step = views(method)
    assert set(step.tensors) == {"pixels1", "pixels2", "labels"}
    assert [x.data_ptr() for x in method.inputs(step)] == 2 * [step["pixels1"].data_ptr(), step["pixels2"].data_ptr()]


def test_a_vit_draws_multiples_of_its_patch() -> None:
    info = registry.methods()["truncated_triplet"]
    tables = recipes.resolve(info, "", "cifar", {"network": {"arch": "vit"}, "pretrain": {"batch": ROWS}})
    tables["network"] |= {"dim": 24, "depth": 1, "heads": 2, "patch": 8}
    tables["method"] |= {"projector_hidden": 32, "predictor_hidden": 32, "head_dim": 16}
    method = TruncatedTriplet(tables, LABELLED)
    assert [list(method.sides[name]) for name in ("online1", "target2")] == [[16, 24, 32], [24, 32]]
    for load in range(3):
        assert method(views(method, load))["loss_1to2"].isfinite()


@pytest.mark.parametrize(("variant", "rows", "epochs"), [("", 196, 1000), ("memory12", 104, 1000), ("sysu", 196, 10)])
def test_imagenet_recipes_are_the_released_ones(variant: str, rows: int, epochs: int) -> None:
    tables = recipe("imagenet", variant)
    pretrain = tables["pretrain"]
    method = TruncatedTriplet(tables, replace(DATA, size=224, classes=1000))
    assert (method.rows, method.first, method.last, method.gamma, method.margin) == (rows, 2, 10, 2.0, 100.0)
    assert method.sides["online2"] == range(96, 225) and method.sides["target1"] == range(128, 225)
    assert pretrain["lr"] * pretrain["batch"] / pretrain["base_batch"] == pytest.approx(4.8)
    assert pretrain["epochs"] == epochs and method.exclusion == "released"


@pytest.mark.parametrize("track", ["embedded", "mini", "cifar", "imagenet100", "imagenet"])
def test_fixed_size_differs_from_byol_in_the_loss_alone(track: str) -> None:
    mine = recipe(track, "fixed_size")
    byol = recipes.resolve(registry.methods()["byol"], "", track, {})
    tuned = set()
    if track in ("embedded", "mini"):
        tuned = {"momentum", "crop_scale", "batch", "lr", "epochs", "tuning_trials"}
    shared = set(byol["method"]) - {"projector_hidden", "predictor_hidden", "head_dim"} - tuned
    assert {key: mine["method"][key] for key in shared} == {key: byol["method"][key] for key in shared}
    longer = {"epochs", "batch", "base_batch", "accumulate"} if track == "imagenet" else set()
    rest = set(byol["pretrain"]) - longer - tuned
    assert {key: mine["pretrain"][key] for key in rest} == {key: byol["pretrain"][key] for key in rest}
