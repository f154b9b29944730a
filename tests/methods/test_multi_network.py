"""Multi-network: both losses against loops, which views meet, what carries gradient, the bank, running statistics."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.base import Clock, Views
from methods.multi_network import MultiNetwork, local_loss, momentum_loss
from methods.parts.bank import Bank
from methods.parts.norm import statistics_kept, synchronised
from methods.parts.patches import average_groups, grouped_nce, require_whole_patches, split_patches
from repro.plan import recipes, registry
from small import DATA, ROWS, assert_target_follows, built, cross_entropy, total, views


def build(variant: str = "", **method: Any) -> MultiNetwork:
    tables = recipes.resolve(registry.methods()["multi_network"], variant, "cifar", {})
    tables["network"] |= {"width": 8}
    tables["pretrain"]["batch"] = ROWS
    small = {
        "head_hidden": 24,
        "head_dim": 16,
        "predictor_hidden": 8,
        "bank_size": min(tables["method"]["bank_size"], 16),
    }
    tables["method"] |= small | method
    return built(MultiNetwork, tables)


# ------------------------------------------------------------------------------------------------ the losses


@pytest.mark.parametrize("temperature", [1.0, 0.2])
def test_local_loss_is_twelve_cross_entropies(temperature: float) -> None:
    p1, p2 = torch.randn(2, 5, 8, dtype=torch.float64).unbind()
    k1, k2 = torch.randn(2, 6, 5, 8, dtype=torch.float64).unbind()  # six pairs
    want = 0.0
    for pair in range(6):
        want += cross_entropy(p2, k1[pair], temperature) + cross_entropy(p1, k2[pair], temperature)
    got = local_loss(p1, p2, k1.flatten(0, 1), k2.flatten(0, 1), temperature)
    assert got.item() == pytest.approx(want / 12, abs=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 0.2])
def test_momentum_loss_is_two_times_simclr_with_all_other_embeddings(temperature: float) -> None:
    n1, n3, p1, p3 = torch.randn(4, 5, 8, dtype=torch.float64).unbind()

    def simclr(a: Tensor, b: Tensor) -> float:
        every = [*(row / row.norm() for row in a), *(row / row.norm() for row in b)]
        sum_ = 0.0
        for i in range(10):
            others = [math.exp(float(every[i] @ every[n]) / temperature) for n in range(10) if n != i]
            assert len(others) == 2 * 5 - 2 + 1  # negatives and the positive
            positive = math.exp(float(every[i] @ every[(i + 5) % 10]) / temperature)
            sum_ -= math.log(positive / sum(others))
        return sum_ / 10

    want = 0.5 * simclr(n3, p1) + 0.5 * simclr(n1, p3)
    assert momentum_loss(n1, n3, p1, p3, temperature).item() == pytest.approx(want, abs=1e-5)


def test_losses_at_the_start() -> None:
    """Random directions in many dimensions: ln B, and ln(2B - 1)."""
    p1, p2, n1, n3 = torch.randn(4, 64, 4096).unbind()
    k1, k2 = torch.randn(2, 6 * 64, 4096).unbind()
    assert local_loss(p1, p2, k1, k2, 1.0).item() == pytest.approx(math.log(64), abs=0.02)
    assert momentum_loss(n1, n3, p1, p2, 1.0).item() == pytest.approx(math.log(127), abs=0.02)


RANK = """
from methods.multi_network import local_loss, momentum_loss
rows = slice(4 * rank, 4 * rank + 4)
p1, p2, p3, n1, n3 = (t[rows].clone() for t in torch.randn(5, 8, 6))
k1, k2 = (t[:, rows].flatten(0, 1) for t in torch.randn(2, 6, 8, 6))
p = [t.requires_grad_() for t in (p1, p2, p3)]
losses = local_loss(p1, p2, k1, k2, 0.5), momentum_loss(n1, n3, p1, p3, 0.5)
sum(losses).backward()
answer = [[v.item() for v in losses], [t.grad.tolist() for t in p]]
"""


def test_two_processes_are_one(on_two_processes: Callable[[str], list[Any]]) -> None:
    answers = on_two_processes(RANK)
    torch.manual_seed(0)
    p1, p2, p3, n1, n3 = torch.randn(5, 8, 6).unbind()
    k1, k2 = (t.flatten(0, 1) for t in torch.randn(2, 6, 8, 6))
    p = [t.clone().requires_grad_() for t in (p1, p2, p3)]
    whole = [local_loss(p[0], p[1], k1, k2, 0.5), momentum_loss(n1, n3, p[0], p[2], 0.5)]
    torch.stack(whole).sum().backward()
    for i, loss in enumerate(whole):
        assert sum(losses[i] for losses, _ in answers) / 2 == pytest.approx(loss.item(), abs=1e-6)
    for i, prediction in enumerate(p):
        assert prediction.grad is not None
        parts = torch.cat([torch.tensor(grads[i]) for _, grads in answers]) / 2
        torch.testing.assert_close(parts, prediction.grad, atol=1e-6, rtol=1e-5)


# ------------------------------------------------------------------------------------------------ the patches


def test_patches_are_the_quarters_as_they_are() -> None:
    x = torch.randn(3, 2, 8, 12)
    got = split_patches(x, 2)
    quarters = [x[..., :4, :6], x[..., 4:, :6], x[..., :4, 6:], x[..., 4:, 6:]]  # down the columns
    assert got.shape == (12, 2, 4, 6)
    for place, quarter in enumerate(quarters):
        assert torch.equal(got[3 * place : 3 * place + 3], quarter)
    assert torch.equal(split_patches(x.to(memory_format=torch.channels_last), 2), got)
    assert torch.equal(split_patches(x, 1), x)
    with pytest.raises(ValueError, match=r"method\.split = 3 does not divide views of 8 x 8"):
        require_whole_patches(8, 3)


def test_groups_are_all_pairs_of_one_picture() -> None:
    v = torch.randn(4, 3, 5)
    got = average_groups(v.flatten(0, 1), 4, 2).unflatten(0, (6, 3))
    for group, (a, b) in enumerate(combinations(range(4), 2)):
        for row in range(3):
            torch.testing.assert_close(got[group, row], (v[a, row] + v[b, row]) / 2)
    assert torch.equal(average_groups(v.flatten(0, 1), 4, 1), v.flatten(0, 1))


def test_features_are_averaged_before_the_projector() -> None:
    method = build()
    method.eval()  # rows do not depend on each other
    x = views(method)["pixels1"]
    with torch.no_grad():
        quarters = [x[..., r : r + 16, c : c + 16] for c in (0, 16) for r in (0, 16)]
        v = [method.encoder.features(quarter) for quarter in quarters]
        want = torch.cat([method.projector((v[a] + v[b]) / 2) for a, b in combinations(range(4), 2)])
        after = torch.cat([(method.projector(v[a]) + method.projector(v[b])) / 2 for a, b in combinations(range(4), 2)])
        got = method.local(x)
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(got, after, atol=1e-3)


@pytest.mark.parametrize(("variant", "groups"), [("", 6), ("single_patches", 4), ("whole_image", 1)])
def test_ablations_of_the_combination(variant: str, groups: int) -> None:
    method = build(variant)
    x = views(method)["pixels1"]
    with torch.no_grad():
        assert method.local(x).shape == (groups * ROWS, 16)
        if groups == 1:
            torch.testing.assert_close(method.local(x), method.projector(method.encoder.features(x)))


# ------------------------------------------------------------------------------------------------ the method


@pytest.mark.parametrize("variant", ["", "released", "fastmoco", "no_bank", "no_momentum"])
def test_outputs_are_the_formulas_of_the_modules(variant: str) -> None:
    """The method's losses from its own networks, view by view, and loops."""
    method = build(variant)
    step = views(method)
    x = {i: step[f"pixels{i}"] for i in (1, 2, 3)}
    with torch.no_grad():
        p = {i: method.predictor(method.projector(method.encoder.features(x[i]))) for i in x}
        k = {i: method.local(x[i]) for i in (1, 2)}
        j = {i: method.target(x[i]) for i in x}
        outputs = method(step)

    def nearest(row: Tensor) -> Tensor:
        assert method.bank is not None
        return max(method.bank.rows, key=lambda entry: float(F.cosine_similarity(row, entry, dim=0)))

    if variant == "fastmoco":
        q = {i: method.predictor(k[i]).detach() for i in k}
        pairs = [(q[1][c : c + ROWS], j[2]) for c in range(0, 6 * ROWS, ROWS)]
        pairs += [(q[2][c : c + ROWS], j[1]) for c in range(0, 6 * ROWS, ROWS)]
    else:
        pairs = [(p[2], k[1][c : c + ROWS]) for c in range(0, 6 * ROWS, ROWS)]
        pairs += [(p[1], k[2][c : c + ROWS]) for c in range(0, 6 * ROWS, ROWS)]
    want = sum(cross_entropy(a, b, 1.0) for a, b in pairs) / 12
    name = "local" if variant == "released" else "loss_local"
    assert outputs[name].item() == pytest.approx(want, abs=1e-5)
    assert ("loss_local" in outputs) is (variant != "released")

    if variant == "no_momentum":
        assert "loss_momentum" not in outputs and "pending_keys" not in outputs
        return
    n = j if variant == "no_bank" else {i: torch.stack([nearest(row) for row in j[i]]) for i in (1, 3)}
    want_momentum = 6 * momentum_loss(n[1], n[3], p[1], p[3], 1.0)
    torch.testing.assert_close(outputs["loss_momentum"], want_momentum, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(outputs["pending_keys"], j[3])


@pytest.mark.parametrize(
    ("changed", "local", "momentum", "enqueued"),
    [("pixels1", True, True, False), ("pixels2", True, False, False), ("pixels3", False, True, True)],
)
def test_which_views_meet(changed: str, local: bool, momentum: bool, enqueued: bool) -> None:
    method = build("no_bank")  # a neighbour would hide a small change of its key
    step = views(method)
    other = Views(dict(step.tensors))
    other.tensors[changed] = step[changed].flip(-1) + 0.5
    with torch.no_grad():
        before, after = method(step), method(other)
    moved = {key: bool((before[key] - after[key]).abs().max() > 1e-5) for key in before}
    assert moved["loss_local"] is local and moved["loss_momentum"] is momentum and moved["pending_keys"] is enqueued


def local_gradients(method: MultiNetwork) -> dict[str, Tensor | None]:
    outputs = method(views(method))
    local = outputs.get("loss_local", outputs.get("local"))
    assert local is not None
    if local.requires_grad:
        local.backward()
    return {name: p.grad for name, p in method.named_parameters()}


def test_local_loss_trains_by_default_and_not_as_released() -> None:
    grads = local_gradients(build())
    assert all(
        grad is not None and grad.abs().max() > 0
        for name, grad in grads.items()
        if name.startswith(("predictor.", "projector.")) and name.endswith("weight")
    )
    assert all(grad is None for grad in local_gradients(build("released")).values())


def test_released_trains_on_the_momentum_loss_alone() -> None:
    whole, released = build(), build("released")
    outputs = whole(views(whole))
    outputs["loss_momentum"].backward()
    total(released(views(released))).backward()
    for (name, a), b in zip(whole.named_parameters(), released.parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None), name
        if a.grad is not None and b.grad is not None:
            torch.testing.assert_close(a.grad, b.grad, atol=1e-6, rtol=1e-5)


def test_gradient_goes_through_predictions_or_through_patches() -> None:
    """The networks see whole views of 32 and patches of 16 pixels: which of them hand a gradient back?"""
    for variant, sides in (("", {32}), ("fastmoco", {16})):
        method = build(variant)
        seen: list[int] = []
        original = method.encoder.features

        def features(x: Tensor, original: Any = original, seen: list[int] = seen) -> Tensor:
            v: Tensor = original(x)
            if v.requires_grad:
                v.register_hook(lambda _: seen.append(x.shape[-1]))
            return v

        method.encoder.features = features  # type: ignore[method-assign]
        method(views(method))["loss_local"].backward()
        assert set(seen) == sides and len(seen) == 2, variant


def test_half_precision_keeps_the_losses_and_all_gradients() -> None:
    method = build()
    step = views(method)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = method(step)
    assert outputs["loss_local"].dtype == outputs["loss_momentum"].dtype == torch.float32
    total(outputs).backward()
    assert all(p.grad is not None for p in method.parameters() if p.requires_grad)


def test_bank_is_asked_before_it_is_filled() -> None:
    method = build()
    assert method.bank is not None
    step, rows = views(method), method.bank.rows.clone()
    outputs = method(step)
    assert torch.equal(method.bank.rows, rows)
    method.after_update(Clock(1, 10), [{"pending_keys": outputs["pending_keys"]}])
    with torch.no_grad():
        assert torch.equal(method.bank.rows[:ROWS], outputs["pending_keys"])  # un-normalised, j_3 alone
    assert torch.equal(method.bank.rows[ROWS:], rows[ROWS:]) and method.bank.pointer.item() == ROWS
    assert not torch.allclose(method.bank.rows[:ROWS].norm(dim=1), torch.ones(ROWS))


def test_bank_goes_round_its_end_and_starts_as_unit_vectors() -> None:
    bank = Bank(10, 3)
    torch.testing.assert_close(bank.rows.norm(dim=1), torch.ones(10))
    z = torch.arange(36.0).view(12, 3)
    for batch in z.split(4):
        bank.enqueue(batch)
    assert torch.equal(bank.rows, torch.cat([z[10:12], z[2:10]])) and bank.pointer.item() == 2


def test_the_released_bank_drops_what_passes_its_end() -> None:
    """pointer + batch >= size: what does not fit is lost and the pointer returns to 0, as the sheet states it."""
    bank = Bank(10, 3, drops=True)
    rows, pointer = bank.rows.clone(), 0
    for batch in torch.arange(72.0).view(24, 3).split(4):
        bank.enqueue(batch)
        for row in batch:
            if pointer < 10:
                rows[pointer] = row
                pointer += 1
        pointer = 0 if pointer >= 10 else pointer
        assert torch.equal(bank.rows, rows) and bank.pointer.item() == pointer
    assert build("released").bank.drops and not build().bank.drops  # type: ignore[union-attr]


def test_a_bank_smaller_than_a_batch_is_refused() -> None:
    with pytest.raises(ValueError, match=r"method\.bank_size = 4 .*pretrain\.batch = 6.*--set method\.bank_size=6"):
        build(bank_size=4)
    assert build("no_bank").bank is None


@pytest.mark.parametrize("several", [False, True])
def test_local_branch_leaves_running_statistics_alone(several: bool) -> None:
    """By default they see the three whole views; as released, two batches of patches or groups as well."""
    for variant, passes in (("", 3), ("shared_statistics", 5)):
        method = build(variant)
        if several:
            synchronised(method)
        alone = build(variant)
        step = views(method)
        method(step)
        norms = [m for m in method.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        assert all(norm.track_running_stats for norm in norms)
        assert method.encoder.bn1.num_batches_tracked == passes  # type: ignore[union-attr]
        assert method.projector[1].num_batches_tracked == passes and method.predictor[1].num_batches_tracked == 3
        with torch.no_grad():
            for i in (1, 2, 3):
                alone.predictor(alone.projector(alone.encoder.features(step[f"pixels{i}"])))
        same = [
            torch.equal(a, dict(alone.named_buffers())[name])
            for name, a in method.named_buffers()
            if name.endswith("running_mean") and name.startswith(("encoder.", "projector."))
        ]
        assert all(same) if variant == "" else not any(same)


def test_statistics_are_tracked_again_after_an_error() -> None:
    norm = nn.BatchNorm1d(4)
    with pytest.raises(RuntimeError, match="inside"), statistics_kept(norm):
        batch = torch.randn(8, 4) * 3 + 1
        torch.testing.assert_close(norm(batch).mean(dim=0), torch.zeros(4), atol=1e-6, rtol=0)  # by its batch
        raise RuntimeError("inside")
    assert norm.track_running_stats and norm.num_batches_tracked == 0


def test_target_follows_at_a_constant_rate() -> None:
    assert_target_follows(build(), Clock(3, 4), 0.99)


def test_independent_target_has_moved_once_before_its_first_use() -> None:
    method = build("independent_target")
    still = build("independent_target", momentum=1.0)
    for start, new, mine in zip(
        still.target.parameters(),
        method.target.parameters(),
        [*method.encoder.parameters(), *method.projector.parameters()],
        strict=True,
    ):
        torch.testing.assert_close(new, 0.99 * start + 0.01 * mine)
    first, second = method.encoder.conv1.weight, method.target[0].conv1.weight  # type: ignore[index, union-attr]
    assert (first - second).abs().max() > 0.1


def test_the_predictors_rate_is_constant() -> None:
    method = build()
    slow, constant = method.param_groups(1e-4)
    assert constant["constant_lr"] is True and not slow.get("constant_lr")
    assert {id(p) for p in constant["params"]} == {id(p) for p in method.predictor.parameters()}
    assert slow["weight_decay"] == constant["weight_decay"] == 1e-4


def test_networks_are_those_of_the_sheet() -> None:
    tables = recipes.resolve(registry.methods()["multi_network"], "", "cifar", {})
    method = MultiNetwork(tables, DATA)
    linear = [m for m in method.projector if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in linear] == [(512, 2048), (2048, 2048), (2048, 2048)]
    assert [m.affine for m in method.projector if isinstance(m, nn.BatchNorm1d)] == [True] * 3
    assert [type(m) for m in method.predictor] == [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear]
    assert (method.predictor[0].in_features, method.predictor[0].out_features) == (2048, 512)
    assert method.bank is not None and method.bank.rows.shape == (16384, 2048)
    assert method.encoder.get_parameter("layer1.0.bn2.weight").abs().max() == 0


def test_views_are_three_draws_of_one_pipeline_at_the_stated_size() -> None:
    method = build()
    step = views(method)
    assert [step[f"pixels{i}"].shape[-1] for i in (1, 2, 3)] == [32, 32, 32]
    assert not torch.equal(step["pixels1"], step["pixels2"]) and not torch.equal(step["pixels2"], step["pixels3"])
    large = build("at224")
    assert large.augment.size == 224 and large.encoder.strides == (4, 8, 16, 32)
    assert views(build(view_size=48))["pixels3"].shape[-1] == 48
    assert len(method.rotatable(step)) == 3


def test_grouped_nce_takes_groups_on_either_side() -> None:
    p, k = torch.randn(4, 8), torch.randn(12, 8)
    want = sum(cross_entropy(p, part, 0.3) for part in k.split(4)) / 3
    assert grouped_nce(p, k, 0.3).item() == pytest.approx(want, abs=1e-5)
    want = sum(cross_entropy(part, p, 0.3) for part in k.split(4)) / 3
    assert grouped_nce(k, p, 0.3).item() == pytest.approx(want, abs=1e-5)
