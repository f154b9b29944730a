"""Checkpoints: whole or not at all, and nothing in them is ever executed."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch

from repro.errors import UserError
from repro.store import atomic, checkpoints
from repro.store.encoder_file import ENCODER
from repro.store.encoder_file import load as load_encoder
from slurm import fence


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.target),)


def test_round_trip_keeps_the_previous_one(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    for number in (1, 2):
        checkpoints.save(path, {"form": "x", "n": number, "w": torch.full((3,), float(number))})
    assert checkpoints.load(path, "x")["n"] == 2
    assert checkpoints.load(tmp_path / "c.pt.prev", "x")["n"] == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c.pt", "c.pt.prev"]


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_truncated_one_falls_back_to_the_previous(tmp_path: Path, share: float) -> None:
    path = tmp_path / "c.pt"
    for number in (1, 2):
        checkpoints.save(path, {"form": "x", "n": number, "w": torch.ones(10_000)})
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(UserError, match="truncated"):
        checkpoints.load(path, "x")
    state, note = checkpoints.load_latest(path, "x")
    assert state is not None and state["n"] == 1 and "c.pt" in note


def test_a_flipped_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    checkpoints.save(path, {"form": "x", "w": torch.ones(10_000)})
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    with pytest.raises(UserError, match="damaged"):
        checkpoints.load(path, "x")


def test_an_older_attempt_that_wakes_up_replaces_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, written = tmp_path / "c.pt", []
    older = fence.claim(tmp_path / "attempts")  # of another process
    with atomic.attempt(tmp_path) as newer:
        assert (older.number, newer.number) == (1, 2)
        for number in (1, 2, 3):
            checkpoints.save(path, {"form": "x", "n": number})
            written.append({file.name: file.stat().st_mtime_ns for file in tmp_path.iterdir() if file.is_file()})
            with monkeypatch.context() as there:
                there.setitem(atomic._attempts, tmp_path, older)
                with pytest.raises(fence.Superseded):
                    checkpoints.save(path, {"form": "x", "n": 9})
            assert written[-1] == {f.name: f.stat().st_mtime_ns for f in tmp_path.iterdir() if f.is_file()}
    assert sorted(written[-1]) == ["c.pt", "c.pt.prev"]
    assert [checkpoints.load(tmp_path / name, "x")["n"] for name in ("c.pt", "c.pt.prev")] == [3, 2]


@pytest.mark.parametrize("where", [0.3, 0.9])
def test_a_damaged_one_never_takes_the_place_of_the_good_one_before_it(tmp_path: Path, where: float) -> None:
    """Damaged, one save, damaged again: what was good all the time is still there to go on from."""
    path = tmp_path / "c.pt"
    with atomic.attempt(tmp_path):
        for number in (1, 2):
            checkpoints.save(path, {"form": "x", "n": number, "w": torch.ones(10_000)})
        for number in (3, 4):
            path.write_bytes(path.read_bytes()[: int(where * path.stat().st_size)])
            state, note = checkpoints.load_latest(path, "x")
            assert state is not None and state["n"] == 1 and "truncated" in note
            checkpoints.save(path, {"form": "x", "n": number, "w": torch.ones(10_000)})
    assert checkpoints.load(path, "x")["n"] == 4


def plant(path: Path, target: Path, zipped: bool) -> None:
    if zipped:
        torch.save({"form": ENCODER, "weights": Payload(target)}, path)
    else:
        path.write_bytes(pickle.dumps({"form": ENCODER, "weights": Payload(target)}))


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("reader", ["load", "load_latest", "load_encoder"])
def test_a_planted_payload_never_runs(tmp_path: Path, zipped: bool, reader: str) -> None:
    path, target = tmp_path / "evil.pt", tmp_path / "executed"
    plant(path, target, zipped)
    if reader == "load_latest":
        assert checkpoints.load_latest(path, ENCODER)[0] is None
    else:
        with pytest.raises(UserError, match=r"evil\.pt"):
            load_encoder(path) if reader == "load_encoder" else checkpoints.load(path, ENCODER)
    assert not target.exists()


def test_the_payload_is_real(tmp_path: Path) -> None:
    path, target = tmp_path / "evil.pt", tmp_path / "executed"
    plant(path, target, zipped=True)
    torch.load(path, weights_only=False)
    assert target.exists()


def test_a_foreign_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "resnet.pt"
    torch.save({"state_dict": {"conv1.weight": torch.ones(3)}}, path)
    with pytest.raises(UserError, match=r"resnet\.pt: not a repro-encoder checkpoint"):
        load_encoder(path)
