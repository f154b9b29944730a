"""Random streams: repeatable, independent of the number of processes, and distributed as they say."""

from __future__ import annotations

import torch

from methods.base import Stream, Streams


def stream(seed: int = 0, epoch: int = 0, load: int = 0, name: str = "v", rows: slice = slice(0, 8)) -> Stream:
    return Streams(seed, epoch, load, global_batch=8, rows=rows, device="cpu").stream(name)


def test_equal_places_give_equal_numbers_and_others_do_not() -> None:
    first = stream().uniform(5)
    assert torch.equal(first, stream().uniform(5))
    for other in (stream(seed=1), stream(epoch=1), stream(load=1), stream(name="w")):
        assert not torch.equal(first, other.uniform(5))
    # seed 0 epoch 1 is not seed 1 epoch 0: seeds are replicates
    assert not torch.equal(stream(seed=0, epoch=1).uniform(5), stream(seed=1, epoch=0).uniform(5))


def test_two_processes_see_the_halves_of_one() -> None:
    def draws(s: Stream) -> list[torch.Tensor]:
        return [s.uniform(3), s.exponential(2, 2), s.normal(), s.integers(9, 4), s.permutation(6)]

    whole, first, second = (draws(stream(rows=r)) for r in (slice(0, 8), slice(0, 4), slice(4, 8)))
    for w, a, b in zip(whole, first, second, strict=True):
        assert torch.equal(w, torch.cat([a, b]))
    assert torch.equal(
        torch.rand(3, generator=stream(rows=slice(0, 4)).shared),
        torch.rand(3, generator=stream(rows=slice(4, 8)).shared),
    )


def test_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    s = stream()
    s.uniform(4), s.exponential(4), s.permutation(4), torch.rand(2, generator=s.shared)
    assert torch.equal(before, torch.get_rng_state())


def test_distributions() -> None:
    s = Streams(0, 0, 0, global_batch=4000, rows=slice(0, 4000), device="cpu").stream("x")
    u, e = s.uniform(5, low=2.0, high=4.0), s.exponential(5)
    assert u.min() >= 2 and u.max() < 4 and abs(u.mean() - 3) < 0.02
    assert e.min() > 0 and abs(e.mean() - 1) < 0.03 and abs(e.var() - 1) < 0.1
    order = s.permutation(5)
    assert torch.equal(order.sort(dim=1).values, torch.arange(5).expand(4000, 5))
    counts = torch.bincount(order[:, 0] * 5 + order[:, 1], minlength=25).double()
    expected = 4000 / 20
    chi2 = ((counts[counts > 0] - expected) ** 2 / expected).sum()
    assert (counts > 0).sum() == 20 and chi2 < 43.8  # 19 degrees of freedom, p = 0.001
