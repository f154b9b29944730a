"""What is asked of a GPU, with a stand-in for torch.cuda: there is none where these tests run."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch

from repro.errors import UserError
from repro.measure.gpu import device
from repro.measure.tf32 import tf32

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What torch.cuda was asked, in order; it stands for a card of 12 GB."""
    calls: list[str] = []
    answers = {
        "is_available": True,
        "synchronize": None,
        "empty_cache": None,
        "reset_peak_memory_stats": None,
        "max_memory_allocated": 3 * 2**30,
        "get_device_name": "Stand-in 12GB",
        "get_device_properties": SimpleNamespace(major=9, minor=0, total_memory=12 * 2**30, multi_processor_count=8),
    }

    def stand_in(name: str, answer: object) -> None:
        monkeypatch.setattr(torch.cuda, name, lambda *_: (calls.append(name), answer)[1])

    for name, answer in answers.items():
        stand_in(name, answer)
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91002)
    return calls


def test_a_gpu_is_asked(asked: list[str]) -> None:
    assert device.of_kind("cuda") == GPU
    asked.clear()
    device.wait(GPU)
    device.reset_peak(GPU)
    assert device.peak(GPU) == 3 * 2**30
    assert asked == ["synchronize", "empty_cache", "reset_peak_memory_stats", "max_memory_allocated"]


def test_the_facts_of_a_gpu(asked: list[str]) -> None:
    facts = device.facts(GPU)
    assert facts["name"] == "Stand-in 12GB" and facts["memory"] == 12 * 2**30
    assert (
        facts["capability"] == "9.0"
        and facts["cudnn"] == 91002
        and facts["processors"] == 8
        and facts["torch"] == torch.__version__
    )
    assert json.loads(json.dumps(facts)) == facts


def test_a_cpu_asks_no_gpu(asked: list[str]) -> None:
    here = device.of_kind("cpu")
    device.wait(here)
    device.reset_peak(here)
    block = torch.ones(2**24)  # 64 MiB
    assert device.peak(here) > block.nbytes
    facts = device.facts(here)
    assert facts["name"].startswith("CPU (") and facts["memory"] == 0 and facts["threads"] == torch.get_num_threads()
    assert asked == []


def test_where_there_is_no_gpu_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="torch finds no GPU here; --device cpu"):
        device.of_kind("cuda")


def test_tf32_is_as_it_was_afterwards() -> None:
    def now() -> tuple[bool, bool]:
        return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32

    before = now()
    with tf32(False):
        assert now() == (False, False)
        with tf32(True):
            assert now() == (True, True)
        assert now() == (False, False)
    assert now() == before
