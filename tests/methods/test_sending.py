"""Tensors packed into one buffer come out as they were."""

from __future__ import annotations

from typing import Any

import torch

from methods.parts.sending import packed, send, unpacked


def tensors() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.rand(5, generator=generator) < 0.5,
        torch.rand(3, 2, generator=generator, dtype=torch.float64),
        torch.randperm(7, generator=generator),
        torch.zeros(0, dtype=torch.int64),
        torch.rand(4, 3, generator=generator).T,  # not contiguous
        torch.tensor(2.5),
    ]


def test_what_is_packed_is_unpacked_and_aligned() -> None:
    given = tensors()
    space = packed(given, pinned=False)
    assert space.dtype == torch.uint8 and space.ndim == 1
    for found, wanted in zip(unpacked(space, given), given, strict=True):
        assert found.dtype == wanted.dtype and torch.equal(found, wanted)
        assert found.data_ptr() % 16 == space.data_ptr() % 16
        assert found.untyped_storage().data_ptr() == space.data_ptr()


def test_on_the_cpu_nothing_is_copied() -> None:
    part = {"a": torch.ones(3)}
    (sent, none) = send([part, {}], torch.device("cpu"))
    assert sent["a"] is part["a"] and none == {}


def test_many_are_one_copy_from_pinned_memory(gpu: Any) -> None:
    numbers = {str(i): tensor for i, tensor in enumerate(tensors())}
    first, second = send([numbers, {"more": torch.arange(4)}], gpu.device)
    gpu.check_sent(1)
    gpu.check_waits()
    for name, wanted in numbers.items():
        assert first[name].device.type == "cuda"
        assert (first[name].dtype, first[name].shape) == (wanted.dtype, wanted.shape)
        assert not gpu.real or torch.equal(first[name].cpu(), wanted)
    assert second["more"].shape == (4,)
