"""A folder of the cache that another process makes: who waits says for whom, and not for ever."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from repro.data import cache
from repro.errors import UserError
from slurm.files import try_lock


@pytest.mark.parametrize(
    ("name", "short"),
    [("pets", "pets"), ("n" * 255, "n" * 120), ("é" * 100, "é" * 60), ("\udce9" * 200, "\udce9" * 120)],
)
def test_a_long_name_is_cut_between_its_letters(name: str, short: str) -> None:
    assert cache.shortened(name) == short


@pytest.fixture
def held(tmp_path: Path) -> int:
    lock = try_lock(tmp_path / ".pack.lock")
    assert lock is not None
    return lock


def test_who_waits_says_for_whom_and_goes_on_when_it_is_made(
    held: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def finish(seconds: float) -> None:
        (tmp_path / "pack").mkdir()
        os.close(held)

    monkeypatch.setattr(cache.time, "sleep", finish)
    assert cache.build(tmp_path / "pack", lambda folder: pytest.fail("it was made already")) == tmp_path / "pack"
    assert capsys.readouterr().err == f"process {os.getpid()} is making pack: waiting for it\n"


def test_who_holds_it_and_does_not_go_on_is_named(held: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(cache.watch.Watch, "hangs", lambda self: True)
    with pytest.raises(UserError, match=f"^process {os.getpid()} is making .*pack but makes no progress; end it"):
        cache.build(tmp_path / "pack", lambda folder: None)
    os.close(held)


def test_a_folder_of_another_machine_that_does_not_grow_is_named(
    held: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(cache.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(cache.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + 20))
    monkeypatch.setattr(cache, "holder", lambda path: None)
    with pytest.raises(UserError, match="makes no progress"):
        cache.build(tmp_path / "pack", lambda folder: None)
    assert 1800 < now[0] < 1900
    os.close(held)
