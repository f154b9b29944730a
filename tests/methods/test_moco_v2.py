"""MoCo v2: its loss against a loop and against mmpretrain's head, its queues, its momentum network."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from methods.base import Clock
from methods.moco_v2 import MoCoV2, contrast_with_queue
from methods.parts.ema import cosine_momentum
from repro.plan import recipes, registry
from small import Shrunk, assert_target_follows, built, mmpretrain, pending, views


def build(shrunk: Shrunk, batch: int = 8, **method: Any) -> MoCoV2:
    tables = shrunk("moco_v2", "", batch)
    tables["method"] |= {"symmetric": False, "bank_size": 20, "head_hidden": 32, "head_dim": 16} | method
    return built(MoCoV2, tables)


def test_loss_is_equation_one_written_out() -> None:
    q, k = torch.randn(2, 5, 8).unbind()
    queue = F.normalize(torch.randn(9, 8), dim=1)
    want = 0.0
    for i in range(5):
        positive = math.exp(float(F.cosine_similarity(q[i], k[i], dim=0)) / 0.2)
        negative = sum(math.exp(float(F.cosine_similarity(q[i], n, dim=0)) / 0.2) for n in queue)
        want -= math.log(positive / (positive + negative)) / 5
    assert contrast_with_queue(q, k, queue, 0.2).item() == pytest.approx(want, abs=1e-5)


def test_gradient_reaches_the_query_alone() -> None:
    q, k, queue = (torch.randn(n, 6, requires_grad=True) for n in (4, 4, 10))
    contrast_with_queue(q, k, queue.detach(), 0.2).backward()
    assert q.grad is not None and q.grad.abs().max() > 0 and k.grad is None


def test_logits_are_float32_under_autocast() -> None:
    q, k, queue = torch.randn(6, 32), torch.randn(6, 32), F.normalize(torch.randn(50, 32), dim=1)
    want = contrast_with_queue(q, k, queue, 0.05)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(contrast_with_queue(q, k, queue, 0.05), want)


def test_one_step_equals_mmpretrains_head(shrunk: Shrunk) -> None:
    """Products, temperature and cross-entropy of mmpretrain's MoCo, on our networks' queries and keys."""
    heads = mmpretrain("heads")
    method = build(shrunk)
    step = views(method, 8)
    head = heads.ContrastiveHead(loss={"type": "CrossEntropyLoss"}, temperature=method.temperature)
    with torch.no_grad():
        k = F.normalize(method.target(step["pixels2"]), dim=1)
    q = F.normalize(method.projector(method.encoder.features(step["pixels1"])), dim=1)
    queue = method.queue2.rows.T  # theirs is [dim, K]
    want = head.loss(torch.einsum("nc,nc->n", [q, k])[:, None], torch.einsum("nc,ck->nk", [q, queue]))
    got = method(step)["loss_1to2"]
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)
    weights = [p for p in method.parameters() if p.requires_grad]
    theirs, ours = (torch.autograd.grad(loss, weights, allow_unused=True) for loss in (want, got))
    for a, b in zip(ours, theirs, strict=True):
        assert a is not None
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_starts_at_the_logarithm_of_the_queue_and_itself(shrunk: Shrunk) -> None:
    """Once the queue holds keys of the untrained network, which tells pictures hardly apart."""
    method = build(shrunk, batch=32, bank_size=96)
    for load in range(1, 4):
        with torch.no_grad():
            method.queue2.enqueue(method(views(method, 32, load))["pending_key2"])
    assert method(views(method, 32))["loss_1to2"].item() == pytest.approx(math.log(97), abs=0.3)


def test_keys_enter_after_the_update_in_order_and_push_out_the_oldest(shrunk: Shrunk) -> None:
    method = build(shrunk)
    before = method.queue2.rows.clone()
    first = [pending(method(views(method, 4, load))) for load in (0, 1)]  # two micro-batches of one update
    assert torch.equal(method.queue2.rows, before)
    method.after_update(Clock(1, 9, 2), first)
    one, two = (part["pending_key2"] for part in first)
    assert torch.equal(method.queue2.rows, torch.cat([one, two, before[8:]]))
    assert method.queue1 is None
    for load in (2, 4):
        step = [pending(method(views(method, 8, load)))]
        method.after_update(Clock(load, 9), step)
        latest = step[0]["pending_key2"]
    # 24 keys in 20 rows: the last 4 lie over the first 4
    assert torch.equal(method.queue2.rows[:4], latest[4:]) and torch.equal(method.queue2.rows[16:], latest[:4])
    assert torch.equal(method.queue2.rows[4:8], two)
    torch.testing.assert_close(method.queue2.rows.norm(dim=1), torch.ones(20))


def test_a_query_meets_the_queue_as_it_was(shrunk: Shrunk) -> None:
    method = build(shrunk)
    step = views(method, 8)
    with torch.no_grad():
        rows = method.queue2.rows.clone()
        q, k = method.projector(method.encoder.features(step["pixels1"])), method.target(step["pixels2"])
        want = contrast_with_queue(q, k, rows, method.temperature)
        torch.testing.assert_close(method(step)["loss_1to2"], want)


def test_symmetric_is_the_mean_of_two_directions_with_a_queue_each(shrunk: Shrunk) -> None:
    method = build(shrunk, symmetric=True)
    assert method.queue1 is not None
    step = views(method, 8)
    outputs = method(step)
    with torch.no_grad():
        f1, f2 = (method.encoder.features(step[name]) for name in ("pixels1", "pixels2"))
        k1, k2 = (F.normalize(method.target(step[name]), dim=1) for name in ("pixels1", "pixels2"))
        one = contrast_with_queue(method.projector(f1), k2, method.queue2.rows, method.temperature)
        two = contrast_with_queue(method.projector(f2), k1, method.queue1.rows, method.temperature)
    torch.testing.assert_close(outputs["loss_1to2"], one / 2)
    torch.testing.assert_close(outputs["loss_2to1"], two / 2)
    method.after_update(Clock(1, 4), [pending(outputs)])
    assert torch.equal(method.queue1.rows[:8], k1) and torch.equal(method.queue2.rows[:8], k2)
    assert len(method.rotatable(step)) == 2 and len(build(shrunk).rotatable(step)) == 1


def test_target_follows_once_per_update_from_one_momentum_to_the_other(shrunk: Shrunk) -> None:
    method = build(shrunk, momentum=0.99, momentum_end=0.999)
    told = [pending(method(views(method, 4, load))) for load in (0, 1)]
    assert_target_follows(method, Clock(1, 4, 2), 0.999 - 0.009 * (math.cos(math.pi / 4) + 1) / 2, told)
    assert cosine_momentum(0.99, 1.0, 0.999) == pytest.approx(0.999)
    assert all(cosine_momentum(0.999, share, 0.999) == 0.999 for share in (0.0, 0.3, 1.0))


def test_a_queue_smaller_than_a_batch_is_refused(shrunk: Shrunk) -> None:
    with pytest.raises(ValueError, match=r"method\.bank_size = 4"):
        build(shrunk, bank_size=4)


def test_queues_of_small_tracks_are_smaller_than_their_data() -> None:
    info = registry.methods()["moco_v2"]
    for track, pictures in (("embedded", 2000), ("mini", 5000), ("cifar", 50000), ("imagenet", 1281167)):
        tables = recipes.resolve(info, "", track, {})
        assert tables["pretrain"]["batch"] < tables["method"]["bank_size"] < pictures
