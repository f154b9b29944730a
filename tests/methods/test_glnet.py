"""GLNet against the facts of its sheet: quadrants and montages by brute force, losses by loops, who gets a gradient."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.base import Batch, Clock
from methods.glnet import GLNet, accuracies, contrast, one_crop
from methods.parts.montage import assemble, cell_means, deal, quadrants
from repro.plan import recipes, registry
from small import DATA, ROWS, built, pictures, streams, total, views

RESNET = {"arch": "resnet", "width": 8}


def build(variant: str = "", *, network: dict[str, Any] | None = None, **method: Any) -> GLNet:
    """A variant with tiny heads on a tiny ViT, which costs less than a ResNet, unless `network` says RESNET."""
    tables = recipes.resolve(registry.methods()["glnet"], variant, "cifar", {})
    tables["network"] |= network or {"arch": "vit", "dim": 24, "depth": 1, "heads": 2, "patch": 4}
    tables["method"] |= {"head_hidden": 32, "head_dim": 16} | method
    return built(GLNet, tables)


def supcon_by_loops(z: Tensor, labels: list[int], temperature: float, base: float) -> float:
    z, n = F.normalize(z, dim=1), len(z)
    loss = 0.0
    for j in range(n):
        below = sum(math.exp(float(z[j] @ z[a]) / temperature) for a in range(n) if a != j)
        positives = [p for p in range(n) if p != j and labels[p] == labels[j]]
        for p in positives:
            loss -= math.log(math.exp(float(z[j] @ z[p]) / temperature) / below) / len(positives)
    return temperature / base * loss / n


# ------------------------------------------------------------------------------------------ crops and montages


def test_quadrants_follow_the_pixel_rule() -> None:
    upper, lower = slice(0, 179), slice(45, 224)
    assert quadrants(224, 224, 0.3) == [(upper, upper), (lower, upper), (upper, lower), (lower, lower)]
    assert quadrants(375, 224, 0.3)[3] == (slice(74, 375), slice(45, 224))
    assert quadrants(375, 224, 0.3)[0] == (slice(0, 300), slice(0, 179))
    assert quadrants(32, 32, 0.3)[0] == (slice(0, 26), slice(0, 26))


def test_classes_are_top_left_bottom_left_top_right_bottom_right() -> None:
    """On a picture whose red grows to the right and whose green grows downwards, cut without any other change."""
    method = build(flip_p=[0.0, 0.0], crop_scale=[1.0, 1.0], jitter_p=0.0, gray_p=0.0, solarize_p=[0.0, 0.0])
    image = torch.zeros(3, 40, 40, dtype=torch.uint8)
    image[0], image[1] = torch.arange(40), torch.arange(40)[:, None]
    (step,) = method.steps(Batch(image.expand(ROWS, 3, 40, 40)), streams())
    cells = assemble_back(step["pixels1"])
    mean = torch.tensor(DATA.mean).view(3, 1, 1)
    for crop, location in zip(cells, step["location"].tolist(), strict=True):
        red, green, _ = 255 * (crop * 0.2 + mean).mean(dim=(1, 2))  # means of [0, 32) and [8, 40): 15.5 and 23.5
        assert red.item() == pytest.approx(23.5 if location in (2, 3) else 15.5, abs=0.01)
        assert green.item() == pytest.approx(23.5 if location in (1, 3) else 15.5, abs=0.01)


def assemble_back(montages: Tensor) -> Tensor:
    """The crops of montages [b, C, 2s, 2s], cell by cell: all top left, all top right, all bottom left, ..."""
    s = montages.shape[-1] // 2
    corners = ((0, 0), (0, s), (s, 0), (s, s))
    return torch.cat([montages[:, :, top : top + s, left : left + s] for top, left in corners])


def test_montages_hold_every_crop_once_in_the_order_of_one_permutation() -> None:
    method = build()
    rng = streams()
    step = views(method)
    permutation = torch.randperm(4 * ROWS, generator=rng.stream("montage").shared).tolist()
    for name, crops in zip(("pixels1", "pixels2"), method.sample(pictures(), rng)[0], strict=True):
        assert crops.shape == (ROWS, 4, 3, 16, 16) and step[name].shape == (ROWS, 3, 32, 32)
        got = assemble_back(step[name])
        for j, number in enumerate(permutation):
            k, i = divmod(number, ROWS)
            assert torch.equal(got[j], crops[i, k])
            assert (step["picture"][j], step["location"][j]) == (i, k)
    assert torch.equal(assemble(assemble_back(step["pixels1"])), step["pixels1"])
    assert not torch.equal(views(method, load=1)["picture"], step["picture"])


def test_crops_lie_in_their_quadrant() -> None:
    """Pictures are bright in one corner, 6 pixels that only its quadrant reaches: no other crop may see it."""
    method = build(jitter_p=0.0, gray_p=0.0, solarize_p=[0.0, 0.0], crop_scale=[1.0, 1.0])
    for k, (rows, columns) in enumerate([(0, 0), (26, 0), (0, 26), (26, 26)]):
        images = torch.zeros(ROWS, 3, 32, 32, dtype=torch.uint8)
        images[:, :, rows : rows + 6, columns : columns + 6] = 255
        crops = method.sample(images, streams())[0][0]
        bright = (crops * 0.2 + torch.tensor(DATA.mean).view(3, 1, 1)).amax(dim=(0, 2, 3, 4)) > 0.5
        assert bright.tolist() == [c == k for c in range(4)]


def test_processes_get_their_montages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes with 3 montages each: process r shows the crops pi(c B + m), m = 3 r .. 3 r + 2."""
    monkeypatch.setattr("methods.parts.montage.world", lambda: 2)
    permutation = torch.randperm(24)
    want = [[int(permutation[c * 6 + 3 * r + m]) for c in range(4) for m in range(3)] for r in range(2)]
    assert deal(permutation).tolist() == want


@pytest.mark.parametrize("side", [4, 7, 8])
def test_pooled_cells_are_means_of_quarters(side: int) -> None:
    maps = torch.randn(3, 5, side, side, generator=torch.Generator().manual_seed(0))
    even = maps
    if side == 7:  # the linear map that resizes a line of 7 to 8: pixel centres at (x + 1/2) 7/8 - 1/2, edges held
        line = torch.zeros(8, 7)
        for x in range(8):
            place = max((x + 0.5) * 7 / 8 - 0.5, 0.0)
            low, high = int(place), min(int(place) + 1, 6)
            line[x, low] += 1 - (place - low)
            line[x, high] += place - low
        even = line @ maps @ line.T
    h = even.shape[-1] // 2
    quarters = [even[:, :, :h, :h], even[:, :, :h, h:], even[:, :, h:, :h], even[:, :, h:, h:]]
    torch.testing.assert_close(cell_means(maps), torch.cat([q.mean(dim=(2, 3)) for q in quarters]))


def test_a_vit_averages_the_patches_of_each_cell_and_of_the_picture() -> None:
    method = build("vit")
    x = torch.randn(2, 3, 32, 32)
    tokens = method.encoder.feature_maps(x)[0]
    assert tokens.shape == (2, 24, 8, 8)
    cells = method.cells(method.encoder, x).view(4, 2, 24)
    torch.testing.assert_close(cells[1, 0], tokens[0, :, :4, 4:].mean(dim=(1, 2)))
    torch.testing.assert_close(cells.mean(dim=0), method.encoder.features(x))


# ------------------------------------------------------------------------------------------ losses


def test_loss_is_the_formula_written_out() -> None:
    q, k = torch.randn(2, 4 * 5, 8, dtype=torch.float32, generator=torch.Generator().manual_seed(0)).unbind()
    ids = torch.randperm(20, generator=torch.Generator().manual_seed(1)) % 5
    want = supcon_by_loops(torch.cat([q, k]).double(), [*ids.tolist(), *ids.tolist()], 0.3, 0.07)
    assert contrast(q, k, ids, 0.3, 0.07).item() == pytest.approx(want, rel=1e-5)


def test_one_crop_is_infonce_between_the_chosen_rows() -> None:
    q, k = torch.randn(2, 4 * 3, 8, generator=torch.Generator().manual_seed(0)).unbind()
    chosen = [7, 0, 10]
    want = 0.0
    for i in chosen:
        similar = {j: math.exp(float(F.cosine_similarity(q[i], k[j], dim=0)) / 0.3) for j in chosen}
        want -= math.log(similar[i] / sum(similar.values())) / 3
    assert one_crop(q, k, torch.tensor(chosen), 0.3).item() == pytest.approx(want, abs=1e-5)


def test_initial_values() -> None:
    """ln 4 for the location, 2 (T / 0.07) ln(8B - 1) for the contrast, which is 65.3 for 256 pictures."""
    q, k = torch.randn(2, 1024, 1024, generator=torch.Generator().manual_seed(0)).unbind()
    ids = torch.arange(1024) % 256
    both = contrast(q, k, ids, 0.3, 0.07) + contrast(k, q, ids, 0.3, 0.07)
    assert both.item() == pytest.approx(2 * (0.3 / 0.07) * math.log(8 * 256 - 1), rel=2e-3)
    assert both.item() == pytest.approx(65.3, abs=0.2)
    method = build(network=RESNET, head_dim=256)
    outputs = method(views(method, 16))
    assert outputs["loss_location"].item() == pytest.approx(math.log(4), abs=0.15)
    contrasts = outputs["loss_1to2"] + outputs["loss_2to1"]
    assert contrasts.item() == pytest.approx(2 * (0.3 / 0.07) * math.log(8 * 16 - 1), rel=0.1)


def test_outputs_are_the_sheets_terms() -> None:
    """All of loss() from the networks' outputs: which view, which network, which heads, and the weights."""
    method = build(network=RESNET, w_loc=3.0, w_con=0.5)
    step = views(method)
    with torch.no_grad():
        u1, u2 = (method.cells(method.encoder, step[name]) for name in ("pixels1", "pixels2"))
        q1, q2 = (method.predictor(method.projector(u)) for u in (u1, u2))
        assert method.target is not None
        k1, k2 = (method.target[1](method.cells(method.target[0], step[n])) for n in ("pixels1", "pixels2"))
        outputs = method(step)
        ids = 2 * step["picture"].tolist()
        location = F.cross_entropy(u1 @ method.locate.weight.T + method.locate.bias, step["location"])
    assert outputs["loss_location"].item() == pytest.approx(3 * location.item(), rel=1e-5)
    one, two = (supcon_by_loops(torch.cat(pair).double(), ids, 0.3, 0.07) for pair in ((q1, k2), (q2, k1)))
    assert outputs["loss_1to2"].item() == pytest.approx(one / 2, rel=1e-5)
    assert outputs["loss_2to1"].item() == pytest.approx(two / 2, rel=1e-5)


def test_heads_are_the_sheets() -> None:
    def shape(head: nn.Module) -> list[str]:
        return [type(layer).__name__ for layer in head.children()]

    method = build()
    assert shape(method.projector) == ["Linear", "BatchNorm1d", "ReLU", "Linear", "BatchNorm1d"]
    assert shape(method.predictor) == ["Linear", "BatchNorm1d", "ReLU", "Linear"]
    assert not method.projector[4].affine
    linear = [m for head in (method.projector, method.predictor) for m in head if isinstance(m, nn.Linear)]
    assert all(m.bias is None for m in linear)
    assert isinstance(method.locate, nn.Linear) and method.locate.weight.shape == (4, method.encoder.dim)


def test_accuracies_are_those_of_the_two_bits() -> None:
    """Of the labels top left, bottom left, top right, bottom right: one answer for all, mirrored, half upside down."""
    location = torch.arange(4)
    got = accuracies(F.one_hot(torch.tensor([0, 0, 0, 0]), 4).float(), location)
    assert [got[f"location_{name}"].item() for name in ("accuracy", "up_down", "left_right")] == [25.0, 50.0, 50.0]
    got = accuracies(F.one_hot(torch.tensor([2, 3, 0, 1]), 4).float(), location)  # all mirrored
    assert [got[f"location_{name}"].item() for name in ("accuracy", "up_down", "left_right")] == [0.0, 100.0, 0.0]
    got = accuracies(F.one_hot(torch.tensor([1, 0, 2, 3]), 4).float(), location)
    assert [got[f"location_{name}"].item() for name in ("accuracy", "up_down", "left_right")] == [50.0, 50.0, 100.0]


# ------------------------------------------------------------------------------------------ gradients


def test_gradient_comes_through_the_queries_alone() -> None:
    q, k = torch.randn(2, 12, 8, generator=torch.Generator().manual_seed(0)).unbind()
    q, k = q.clone().requires_grad_(), k.clone().requires_grad_()
    for loss in (contrast(q, k, torch.arange(12) % 3, 0.3, 0.07), one_crop(q, k, torch.tensor([0, 4, 8]), 0.3)):
        (loss + 0 * k.sum()).backward()
        assert q.grad is not None and q.grad.abs().sum() > 0
        assert k.grad is not None and torch.equal(k.grad, torch.zeros_like(k))


def test_the_location_is_learnt_from_view_1_on_the_pooled_vectors() -> None:
    method = build()
    step = views(method)
    for name in ("pixels1", "pixels2"):
        step[name].requires_grad_()
    method(step)["loss_location"].backward()
    assert step["pixels1"].grad is not None and step["pixels1"].grad.abs().sum() > 0
    assert step["pixels2"].grad is None
    assert all(p.grad is None for head in (method.projector, method.predictor) for p in head.parameters())


@pytest.mark.parametrize("variant", ["", "no_momentum", "byol", "simsiam", "clustering"])
def test_no_gradient_reaches_the_keys(variant: str) -> None:
    """View 2 gives view 1's queries their keys: it gets no gradient from that term."""
    method = build(variant, network=None if variant else RESNET)
    step = views(method)
    step["pixels2"].requires_grad_()
    method(step)["loss_1to2"].backward()
    assert step["pixels2"].grad is None
    assert all(p.grad is None for p in method.parameters() if not p.requires_grad)
    assert (method.target is None) == (variant in ("no_momentum", "simsiam"))


# ------------------------------------------------------------------------------------------ momentum and ablations


def test_target_follows_encoder_and_projector_by_the_cosine() -> None:
    method = build()
    assert method.target is not None
    online = [*method.encoder.parameters(), *method.projector.parameters()]
    before = [p.clone() for p in method.target.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(before, online, strict=True))
    with torch.no_grad():
        for p in online:
            p.add_(1.0)
    method.after_update(Clock(1, 4), [{}])
    m = 1 - 0.01 * (math.cos(math.pi * 0.25) + 1) / 2
    for old, new, mine in zip(before, method.target.parameters(), online, strict=True):
        torch.testing.assert_close(new, m * old + (1 - m) * mine)


def test_without_momentum_the_keys_are_the_online_projections() -> None:
    method = build("no_momentum")
    step = views(method)
    with torch.no_grad():
        outputs = method(step)
        z1, z2 = (method.projector(method.cells(method.encoder, step[name])) for name in ("pixels1", "pixels2"))
        want = contrast(method.predictor(z1), z2, step["picture"], 0.3, 0.07)
    torch.testing.assert_close(outputs["loss_1to2"], want)


def test_no_location_takes_the_gradient_of_the_location_away() -> None:
    with_it, without = build(), build("no_location")
    for method in (with_it, without):
        total(method(views(method))).backward()
    assert without.locate.weight.grad is not None and not without.locate.weight.grad.any()
    assert with_it.locate.weight.grad is not None and with_it.locate.weight.grad.any()


def test_labels_of_the_location_variants() -> None:
    full, mirrored, chance, still = (build(v) for v in ("", "flip_labels", "random_labels", "no_flip"))
    rows = 32
    images = pictures(rows)
    steps = [views(method, rows) for method in (full, mirrored, chance)]
    assert all(torch.equal(step["pixels1"], steps[0]["pixels1"]) for step in steps)
    _, flipped, _ = full.sample(images, streams(rows))
    of_row = flipped[steps[0]["picture"], steps[0]["location"]]
    other_side = torch.tensor([2, 3, 0, 1])  # top left <-> top right, bottom left <-> bottom right
    want = torch.where(of_row, other_side[steps[0]["location"]], steps[0]["location"])
    assert torch.equal(steps[1]["location"], want) and 0.3 < of_row.float().mean() < 0.7
    agree = (steps[2]["location"] == steps[0]["location"]).float().mean().item()
    assert 0.1 < agree < 0.4 and set(steps[2]["location"].tolist()) == {0, 1, 2, 3}
    assert still.augment1.flip_p == 0.0 and still.augment2.flip_p == 0.5
    assert not still.sample(images, streams(rows))[1].any()


def test_info_nce_takes_one_crop_of_each_picture() -> None:
    method = build("info_nce")
    step = views(method, 16)
    assert step["picture"][step["chosen"]].tolist() == list(range(16))
    assert len(set(step["location"][step["chosen"]].tolist())) > 1
    with torch.no_grad():
        outputs = method(step)
        z1, z2 = (method.projector(method.cells(method.encoder, step[name])) for name in ("pixels1", "pixels2"))
        want = 0.3 / 0.07 * one_crop(method.predictor(z1), z2, step["chosen"], 0.3)  # the target is still a copy
    torch.testing.assert_close(outputs["loss_1to2"], want)


def test_without_montage_each_crop_passes_the_encoder_alone() -> None:
    method, full = build("no_montage"), build()
    step = views(method)
    assert step["pixels1"].shape == (4 * ROWS, 3, 16, 16)
    assert torch.equal(step["pixels1"], assemble_back(views(full)["pixels1"]))
    torch.testing.assert_close(
        method.cells(method.encoder.eval(), step["pixels1"]), method.encoder.features(step["pixels1"])
    )
    with pytest.raises(ValueError, match="full-size"):
        method.rotatable(step)
    both = views(full)
    assert [x.shape for x in full.rotatable(both)] == 2 * [torch.Size([ROWS, 3, 32, 32])]


@pytest.mark.parametrize(("variant", "scale", "shift"), [("byol", -2.0, 2.0), ("simsiam", -0.5, 0.0)])
def test_other_bases_compare_a_crop_with_its_partner(variant: str, scale: float, shift: float) -> None:
    method = build(variant)
    step = views(method)
    with torch.no_grad():
        outputs = method(step)
        z1, z2 = (method.projector(method.cells(method.encoder, step[name])) for name in ("pixels1", "pixels2"))
        q = method.predictor(z1)  # the target still equals the online network
        want = sum(shift + scale * float(F.cosine_similarity(q[j], z2[j], dim=0)) for j in range(len(q))) / len(q)
    assert outputs["loss_1to2"].item() == pytest.approx(want, abs=1e-5)


def test_clustering_is_the_earlier_three_losses() -> None:
    method = build("clustering")
    step = views(method)
    with torch.no_grad():
        outputs = method(step)
        u1, u2 = (method.cells(method.encoder, step[name]) for name in ("pixels1", "pixels2"))
        q1, k2 = method.predictor(method.projector(u1)), method.projector(u2)
        assert method.cluster is not None
        clusters = supcon_by_loops(method.cluster(u1).double(), step["picture"].tolist(), 0.3, 0.07)
        logits = F.normalize(q1, dim=1) @ F.normalize(k2, dim=1).T
        between = 2 * F.cross_entropy(logits, torch.arange(len(q1)))
    assert [type(m).__name__ for m in method.cluster] == ["Linear", "ReLU", "Linear"]
    assert outputs["loss_clustering"].item() == pytest.approx(clusters, rel=1e-5)
    assert outputs["loss_1to2"].item() == pytest.approx(0.25 * between.item(), rel=1e-5)


def test_pipelines_are_the_sheets_table() -> None:
    tables = recipes.resolve(registry.methods()["glnet"], "", "imagenet", {})
    with torch.device("meta"):
        method = GLNet(tables, replace(DATA, size=224))
    one, two = method.augment1, method.augment2
    assert (one.blur_p, two.blur_p, one.solarize_p, two.solarize_p) == (0.5, 0.1, 0.5, 0.2)
    for pipeline in (one, two):
        assert (pipeline.size, pipeline.scale, pipeline.flip_p) == (112, (0.2, 1.0), 0.5)
        assert (pipeline.jitter, pipeline.jitter_p, pipeline.gray_p) == ((0.4, 0.4, 0.4, 0.1), 0.8, 0.2)
    pretrain = tables["pretrain"]
    assert (pretrain["epochs"], pretrain["batch"], pretrain["lr"], pretrain["warmup_epochs"]) == (200, 256, 0.6, 0)
    assert (pretrain["optimizer"], pretrain["lars_form"], pretrain["weight_decay"]) == ("lars", "moco_v3", 1e-6)


@pytest.mark.parametrize(
    ("changes", "network", "message"),
    [
        ({"objective": "moco"}, {}, "method.objective = 'moco'"),
        ({"location": "left"}, {}, "method.location = 'left'"),
        ({}, RESNET | {"stem": "imagenet"}, "network.stem = 'cifar'"),
    ],
)
def test_recipes_that_cannot_be_are_refused(changes: dict[str, Any], network: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace(".", r"\.")):
        build(network=network, **changes)


# ------------------------------------------------------------------------------------------ two processes

RANK = """
from methods.glnet import contrast, one_crop
from methods.parts.montage import deal
q, k = torch.randn(2, 4 * 6, 5).unbind()
permutation, crop = torch.randperm(24), torch.randint(4, (6,)) * 6 + torch.arange(6)
dealt = deal(permutation)
place = torch.empty(24, dtype=torch.int64).scatter_(0, permutation, torch.arange(24))
mine = place[dealt[rank]]
found = []
for loss in (lambda a, b: contrast(a, b, dealt[rank] % 6, 0.3, 0.07),
             lambda a, b: one_crop(a, b, dealt.flatten().argsort()[crop], 0.3)):
    own = q[mine].clone().requires_grad_()
    value = loss(own, k[mine])
    value.backward()
    found.append([value.item(), own.grad.tolist()])
answer = [mine.tolist(), found]
"""


def test_two_processes_have_the_loss_and_the_gradient_of_one(on_two_processes: Callable[[str], list[Any]]) -> None:
    answers = on_two_processes(RANK)
    torch.manual_seed(0)
    q, k = torch.randn(2, 4 * 6, 5).unbind()
    permutation, crop = torch.randperm(24), torch.randint(4, (6,)) * 6 + torch.arange(6)
    for which in (0, 1):
        whole = q.clone().requires_grad_()
        if which == 0:
            loss = contrast(whole, k, permutation % 6, 0.3, 0.07)
        else:
            loss = one_crop(whole, k, permutation.argsort()[crop], 0.3)
        loss.backward()
        assert sum(answer[which][0] for _, answer in answers) / 2 == pytest.approx(loss.item(), rel=1e-6)
        averaged = torch.zeros_like(q)
        for rows, answer in answers:
            averaged[rows] = torch.tensor(answer[which][1]) / 2
        assert whole.grad is not None
        torch.testing.assert_close(averaged, whole.grad, atol=1e-6, rtol=1e-5)
