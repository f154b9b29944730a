"""Fabricated records: test data, shaped as the hall writes them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest

Record = dict[str, Any]
Make = Callable[..., list[Record]]

VIT = {"arch": "vit", "dim": 128, "depth": 6, "heads": 4, "patch": 4, "width": 64}


def _mark(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _make(
    method: str,
    kind: str,
    metrics: dict[str, float],
    *,
    seed: int = 0,
    variant: str = "",
    track: str = "mini",
    data: str = "cifar10-jpeg",
    source: str = "CIFAR-10 (JPEG copy)",
    protocol: str = "mini",
    protocol_hash: str = "0a1b2c3d4e5f",
    network: dict[str, Any] | None = None,
    epochs: int = 16,
    batch: int = 128,
    trials: int = 0,
    cost: dict[str, float] | None = None,
    device: str = "CPU (x86_64, 2 cores)",
    code: str = "c0de",
    salt: object = "",
    drawn: int | None = 0,
) -> list[Record]:
    """A pre-training and one evaluation of it; for kind "pretrain" the pre-training alone.

    drawn: training pictures that the seed draws; 0: all; None: as records were before they said it.
    """
    recipe = {
        "method": {},
        "network": network or VIT,
        "pretrain": {"epochs": epochs, "batch": batch, "tuning_trials": trials},
    }
    about = {"device": device, "threads": 1, "source_hash": code, "date": f"2026-11-2{seed}T10:00:00+00:00"}
    where: dict[str, Any] = {"name": data, "source": source, "manifest": _mark(data)}
    if drawn is not None:
        where["limit"] = {"pictures": drawn, "seed": seed} if drawn else 0
    same = {"schema": 1, "method": method, "variant": variant, "track": track, "seed": seed}
    trained = {
        **same,
        "fingerprint": _mark("pretrain", method, variant, track, seed, recipe, code, salt),
        "kind": "pretrain",
        "parents": [],
        "protocol": {"name": "", "hash": "", "values": {}},
        "metrics": {"final_loss": 1.0},
        "cost": cost
        or {
            "wall_s": 130.0 + seed,
            "device_s": 120.0 + seed,
            "peak_memory_mb": 900.0,
            "updates": 624,
            "image_passes": 79872,
            "flops": 2.5e13,
        },
        "provenance": {**about, "trials": trials, "data": where},
        "details": {"recipe": recipe},
        "artifacts": {},
    }
    if kind == "pretrain":
        return [trained]
    judged = {
        **same,
        "fingerprint": _mark(kind, method, variant, track, seed, recipe, protocol_hash, code, salt),
        "kind": kind,
        "parents": [trained["fingerprint"]],
        "protocol": {"name": protocol, "hash": protocol_hash, "values": {}},
        "metrics": metrics,
        "cost": {"wall_s": 30.0 + seed, "device_s": 30.0 + seed, "peak_memory_mb": 700.0 + seed},
        "provenance": {**about, "trials": 0, "data": where},
        "details": {},
        "artifacts": {},
    }
    return [trained, judged]


@pytest.fixture
def make() -> Make:
    """make(method, kind, metrics, seed=..., ...) -> [pre-training, evaluation]."""
    return _make


@pytest.fixture
def sample() -> list[Record]:
    """Three seeds of a method and its baseline in two evaluations; fine-tuning with its history, k-NN curves."""
    records: list[Record] = []
    for seed in range(3):
        for method, shift in (("aps", 3.0), ("moco_v3", 0.0), ("byol", -2.0)):
            cost = {"device_s": 300.0 + 60 * shift + seed, "flops": 1e13 * (4 + shift), "updates": 10, "wall_s": 1.0}
            top1 = 38.0 + shift + 0.4 * seed
            records += _make(method, "knn", {"top1": top1, "top5": 80.0}, seed=seed, cost=cost)
            records += _make(method, "finetune", {"top1": top1 + 20 + 0.1 * seed}, seed=seed, cost=cost)
            history = [{"epoch": e + 1, "loss": 2.0 / (e + 1), "split_top1": 20.0 + 5 * e} for e in range(4)]
            records[-1]["details"] = {"history": history}
            looks = [[2 * e, e, 30.0 * e, 1e12 * e, top1 - 20 / e] for e in (1, 4, 7, 10)]
            records[-2]["details"]["knn_curve"] = looks
    return list({record["fingerprint"]: record for record in records}.values())
