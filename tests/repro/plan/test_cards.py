"""Cards: what is estimated of them beside what others measured, and how one is found."""

from __future__ import annotations

from typing import Any

import pytest

from repro.errors import UserError
from repro.plan import cards, footprint
from repro.plan.cards import Seen
from slurm import machine

RESNET = {"arch": "resnet", "width": 64, "stem": "imagenet"}
RESNET18, RESNET50 = ({**RESNET, "depth": depth} for depth in (18, 50))
VIT_TINY = {"arch": "vit", "dim": 192, "depth": 12, "heads": 3, "patch": 16, "qkv_bias": True, "pool": "class"}


@pytest.mark.parametrize(
    ("name", "precision", "network", "measured"),
    [  # training, pictures of 224 pixels a second: NVIDIA DeepLearningExamples, timm's benchmark-train-amp-nhwc
        ("a100-80", "bf16", RESNET50, 2470),
        ("v100", "fp32", RESNET50, 367),
        ("rtx3090", "bf16", RESNET50, 1218),
        ("rtx3090", "bf16", RESNET18, 3482),
        ("rtx3090", "bf16", VIT_TINY, 2300),
    ],
)
def test_estimates_are_below_what_was_measured_but_no_third_of_it(
    name: str, precision: str, network: dict[str, Any], measured: float
) -> None:
    flops = footprint.training_flops({"network": network, "method": {}, "pretrain": {}}, 224)
    assert measured / 3 < cards.find(name).rate(precision) / flops < measured


def test_a_card_without_bf16_trains_in_fp32() -> None:
    t4 = cards.find("t4")
    assert t4.precision("bf16") == t4.precision("fp32") == "fp32" and t4.rate("bf16") == t4.rate("fp32")
    assert cards.find("rtx4090").rate("bf16") > cards.find("rtx4090").rate("fp32")


def test_a_memory_stands_for_the_slowest_card_that_has_it() -> None:
    found = cards.find("24GB")
    like = [card for card in cards.cards().values() if card.memory_gb == 24]
    assert len(like) > 2 and found.memory_gb == 24 and found.rate("bf16") == min(card.rate("bf16") for card in like)
    assert cards.find("11 gb").memory_gb == 11 and cards.find("11gb").bandwidth == cards.find("12GB").bandwidth
    assert cards.find("500GB").bandwidth == cards.find("h200").bandwidth


@pytest.mark.parametrize(
    ("text", "words"),
    [("rtx4091", "did you mean 'rtx4090'"), ("0GB", "24GB"), ("9" * 400 + "GB", "24GB"), ("", "24GB")],
)
def test_no_card_is_told_in_a_line(text: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as refused:
        cards.find(text)
    assert str(refused.value).startswith(f"--card {text}: ") and "\n" not in str(refused.value)


def test_the_card_of_this_machine_is_known_by_its_name_else_by_its_memory() -> None:
    assert Seen().card() is None
    known = Seen("NVIDIA GeForce RTX 3060", 8).card()  # sold with 12 and with 8 GB
    assert known is not None and (known.name, known.memory_gb) == ("rtx3060", 8)
    other = Seen("NVIDIA GeForce RTX 9999", 24).card()
    assert other is not None and other.title.startswith("NVIDIA GeForce RTX 9999") and other.memory_gb == 24


def test_nvidia_smi_is_asked_for_name_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = "NVIDIA A100-SXM4-40GB, 40960\nNVIDIA T4, 15360\n"
    monkeypatch.setattr(machine, "gpus_here", lambda: ["0", "1"])
    monkeypatch.setattr(cards.subprocess, "run", lambda *_, **__: type("Answer", (), {"stdout": answer}))
    assert cards.here() == Seen("NVIDIA A100-SXM4-40GB", 40)
    found = cards.here().card()
    assert found is not None and found.name == "a100-40"
    asked: list[list[str]] = []
    monkeypatch.setattr(cards.subprocess, "run", lambda query, **_: (asked.append(query), 1 / 0)[1])
    for gpus in (["1", "0"], ["GPU-5d"], ["MIG-5d"]):  # the one that CUDA_VISIBLE_DEVICES names first
        monkeypatch.setattr(machine, "gpus_here", lambda gpus=gpus: gpus)
        with pytest.raises(ZeroDivisionError):
            cards.here()
    assert [query[3:] for query in asked] == [["--id=1"], ["--id=GPU-5d"], []]
    monkeypatch.setattr(machine, "gpus_here", list)  # hidden
    assert cards.here() == Seen()
