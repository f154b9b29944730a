"""SwAV: codes and loss against loops and mmpretrain's, prototypes, crops, queue, two processes."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from methods.base import Clock
from methods.swav import SwAV, sinkhorn, swapped_prediction
from repro.plan import recipes, registry
from small import ROWS, SLIM, built, mmpretrain, pending, views


def build(track: str = "mini", seed: int = 0, **method: Any) -> SwAV:
    tables = recipes.resolve(registry.find("swav")[0], "", track, {})
    tables["network"] |= SLIM
    tables["method"] |= {"head_hidden": 32, "head_dim": 16, "prototypes": 12, "epsilon": 0.05} | method
    return built(SwAV, tables, seed=seed)


def codes_by_hand(scores: Tensor, epsilon: float, rounds: int) -> list[list[float]]:
    """The authors' order: whole to 1, then rounds of (prototypes to 1/K, pictures to 1/B), then pictures to 1."""
    b, k = scores.shape
    q = [[math.exp(float(scores[i, j]) / epsilon) for j in range(k)] for i in range(b)]
    whole = sum(map(sum, q))
    q = [[value / whole for value in row] for row in q]
    for _ in range(rounds):
        for j in range(k):
            column = sum(q[i][j] for i in range(b))
            for i in range(b):
                q[i][j] /= column * k
        for i in range(b):
            row = sum(q[i])
            q[i] = [value / row / b for value in q[i]]
    return [[value * b for value in row] for row in q]


def test_codes_are_the_authors_written_out() -> None:
    scores = F.normalize(torch.randn(7, 5), dim=1)
    for rounds in (1, 3):
        got = sinkhorn(scores, 0.05, rounds)
        torch.testing.assert_close(
            got, torch.tensor(codes_by_hand(scores.double(), 0.05, rounds)), atol=1e-5, rtol=1e-5
        )


def test_codes_share_the_batch_out_evenly() -> None:
    scores = F.normalize(torch.randn(64, 8), dim=1)
    scores[:, 3] += 0.5  # a prototype that everybody is close to
    few, many = sinkhorn(scores, 0.05, 3), sinkhorn(scores, 0.05, 200)
    torch.testing.assert_close(few.sum(dim=1), torch.ones(64))
    torch.testing.assert_close(many.sum(dim=0), torch.full((8,), 8.0), atol=1e-3, rtol=1e-3)
    alone = torch.softmax(scores / 0.05, dim=1).sum(dim=0)
    assert (few.sum(dim=0) - 8).abs().max() < 0.2 * (alone - 8).abs().max()


def test_loss_is_written_out() -> None:
    scores, codes = torch.randn(5, 4, 6), torch.rand(2, 4, 6).unbind()
    want = 0.0
    for i in (0, 1):
        for v in range(5):
            if v == i:
                continue
            for b in range(4):
                whole = sum(math.exp(float(scores[v, b, k]) / 0.1) for k in range(6))
                for k in range(6):
                    log_p = float(scores[v, b, k]) / 0.1 - math.log(whole)
                    want -= float(codes[i][b, k]) * log_p / 4 / 4 / 2
    assert swapped_prediction(scores, codes, 0.1).item() == pytest.approx(want, rel=1e-5)


def test_loss_starts_at_the_logarithm_of_the_prototypes() -> None:
    """High-dimensional unit vectors are nearly orthogonal to the prototypes: log softmax is nearly flat."""
    z, prototypes = (F.normalize(torch.randn(n, 2048), dim=1) for n in (8 * 64, 300))
    scores = (z @ prototypes.T).unflatten(0, (8, 64))
    codes = [sinkhorn(scores[i], 0.05, 3) for i in (0, 1)]
    assert swapped_prediction(scores, codes, 0.1).item() == pytest.approx(math.log(300), rel=0.02)


@pytest.mark.parametrize("local_crops", [0, 4])
def test_one_step_equals_mmpretrains_loss(local_crops: int) -> None:
    """mmpretrain's SwAV loss on our projections, crop after crop."""
    losses = mmpretrain("losses")
    method = build(local_crops=local_crops)
    step = views(method)
    theirs = losses.SwAVLoss(
        feat_dim=16, sinkhorn_iterations=3, epsilon=0.05, temperature=0.1, num_prototypes=12,
        crops_for_assign=[0, 1], num_crops=[2, local_crops],
    )  # fmt: skip
    with torch.no_grad():
        theirs.prototypes.weight.copy_(method.prototypes.weight * 3)  # it normalises them
        crops = [step[f"pixels{n}"] for n in range(1, 3 + local_crops)]
        features = [method.encoder.features(torch.cat(same)) for same in (crops[:2], crops[2:]) if same]
        z = F.normalize(method.projector(torch.cat(features)), dim=1)
        want, got = theirs(z), method(step)["loss_swapped"]
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)


def test_crops_of_one_size_share_a_pass() -> None:
    """Global crops, then small ones, through the encoder; all of them at once through the projector."""
    method, seen = build(), []
    stem: Any = method.encoder.conv1
    stem.register_forward_hook(lambda _, args, __: seen.append(tuple(args[0].shape)))
    method.projector.register_forward_hook(lambda _, args, __: seen.append(tuple(args[0].shape)))
    method(views(method))
    assert seen == [(2 * ROWS, 3, 32, 32), (4 * ROWS, 3, 16, 16), (6 * ROWS, 64)]
    assert [tuple(x.shape) for x in method.rotatable(views(method))] == 2 * [(ROWS, 3, 32, 32)]


def test_codes_take_no_gradient() -> None:
    method = build(freeze_prototypes=0)
    step = views(method)
    method(step)["loss_swapped"].backward()
    grad = method.prototypes.weight.grad
    twin = build(freeze_prototypes=0)
    crops = [step[f"pixels{n}"] for n in range(1, 7)]
    features = [twin.encoder.features(torch.cat(same)) for same in (crops[:2], crops[2:])]
    scores = (F.normalize(twin.projector(torch.cat(features)), dim=1) @ twin.prototypes.weight.T).unflatten(0, (6, -1))
    codes = [torch.tensor(codes_by_hand(scores[i].detach(), 0.05, 3)) for i in (0, 1)]
    swapped_prediction(scores, codes, 0.1).backward()
    assert grad is not None
    torch.testing.assert_close(grad, twin.prototypes.weight.grad, atol=1e-5, rtol=1e-4)


def test_prototypes_wait_then_move_and_stay_unit_vectors() -> None:
    method = build(freeze_prototypes=2)
    optimizer = torch.optim.SGD(method.param_groups(0.1), lr=0.5, momentum=0.9)  # decay and momentum would move them
    moved = []
    for update in range(1, 5):
        before = method.prototypes.weight.clone()
        method(views(method, load=update))["loss_swapped"].backward()
        assert (method.prototypes.weight.grad is None) == (update <= 2)
        optimizer.step()
        optimizer.zero_grad()
        method.after_update(Clock(update, 4), [{}])
        moved.append(not torch.allclose(before, method.prototypes.weight, atol=1e-6))  # normalising again rounds
        torch.testing.assert_close(method.prototypes.weight.norm(dim=1), torch.ones(12))
    assert moved == [False, False, True, True]
    saved = io.BytesIO()
    torch.save(method.state_dict(), saved)
    saved.seek(0)
    resumed = build(freeze_prototypes=2, seed=1)
    resumed.load_state_dict(torch.load(saved, weights_only=True))
    assert resumed.updates == 4


def test_queue_helps_to_balance_from_its_start_on() -> None:
    method = build(queue_bank_size=10, queue_start=1, freeze_prototypes=0)
    plain = build(queue_bank_size=0, freeze_prototypes=0)
    first = method(views(method, load=1))
    assert torch.equal(first["loss_swapped"], plain(views(plain, load=1))["loss_swapped"])
    assert method.queue is not None
    method.after_update(Clock(1, 9), [pending(first)])
    plain.after_update(Clock(1, 9), [{}])
    torch.testing.assert_close(method.queue.rows[:ROWS], first["pending_z"])
    kept = method.queue.rows.clone()
    second = method(views(method, load=2))
    assert torch.equal(method.queue.rows, kept)
    with torch.no_grad():
        plain(step := views(plain, load=2))  # its BatchNorm statistics are of no effect in training
        crops = [step[f"pixels{n}"] for n in range(1, 7)]
        z = torch.cat([plain.encoder.features(torch.cat(same)) for same in (crops[:2], crops[2:])])
        scores = (F.normalize(plain.projector(z), dim=1) @ plain.prototypes.weight.T).unflatten(0, (6, -1))
        codes = []
        for i in (0, 1):
            past = kept[:, 16 * i : 16 * i + 16] @ plain.prototypes.weight.T
            codes.append(torch.tensor(codes_by_hand(torch.cat([past, scores[i]]), 0.05, 3))[10:])
    torch.testing.assert_close(second["loss_swapped"], swapped_prediction(scores, codes, 0.1), atol=1e-5, rtol=1e-5)


RANK = """
import sys
from methods.base import Clock
from methods.swav import sinkhorn
sys.path.append("tests/methods")
from test_swav import build, score
method, rows = build(queue_bank_size=9, queue_start=0), slice(4 * rank, 4 * rank + 4)
z, scores = score(method)
codes = method._codes(scores[rows], 1)
method.after_update(Clock(1, 9), [{"pending_z": z[rows]}])
answer = [sinkhorn(scores[rows], 0.05, 3).tolist(), codes.tolist(), method.queue.rows.tolist()]
"""


def score(method: SwAV) -> tuple[Tensor, Tensor]:
    """8 pairs of projections side by side, [8, 32], and the scores of the second of each, [8, 12]."""
    z1, z2 = F.normalize(torch.randn(2, 8, 16, generator=torch.Generator().manual_seed(0)), dim=2)
    return torch.cat([z1, z2], dim=1), z2 @ method.prototypes.weight.detach().T


def test_two_processes_balance_their_codes_together(on_two_processes: Callable[[str], list[Any]]) -> None:
    """Over both processes' rows and one queue, whose rows they share between them and fill in rank order."""
    answers = on_two_processes(RANK)
    method = build(queue_bank_size=9, queue_start=0)
    z, scores = score(method)
    plain, codes = sinkhorn(scores, 0.05, 3), method._codes(scores, 1)
    for place, want in enumerate((plain, codes)):
        got = torch.tensor(answers[0][place] + answers[1][place])
        torch.testing.assert_close(got, want, atol=1e-6, rtol=1e-5)
    apart = torch.cat([sinkhorn(half, 0.05, 3) for half in scores.chunk(2)])
    assert (apart - plain).abs().max() > 0.01 and (plain - codes).abs().max() > 0.01
    method.after_update(Clock(1, 9), [{"pending_z": z}])
    assert method.queue is not None
    for _, _, rows in answers:
        torch.testing.assert_close(torch.tensor(rows), method.queue.rows)


def test_imagenet_is_the_released_recipe() -> None:
    info = registry.find("swav")[0]
    tables = recipes.resolve(info, "", "imagenet", {})
    method, pretrain = tables["method"], tables["pretrain"]
    assert pretrain["lr"] * pretrain["batch"] / pretrain["base_batch"] == pytest.approx(1.2)
    assert (pretrain["warmup_start"] * 1.2, pretrain["final"] * 1.2) == pytest.approx((0.3, 0.0012))
    assert (method["prototypes"], method["freeze_prototypes"], method["local_crops"], method["local_size"]) == (
        3000, 313, 6, 96,
    )  # fmt: skip
    original = recipes.resolve(info, "original", "imagenet", {})["pretrain"]
    rate = original["lr"] * original["batch"] / original["base_batch"]
    assert (rate, rate * original["warmup_start"], rate * original["final"]) == pytest.approx((4.8, 0.3, 0.0048))
