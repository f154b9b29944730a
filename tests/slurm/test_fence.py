from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from slurm import fence


def test_only_the_newest_attempt_can_move_what_it_wrote_into_place(tmp_path: Path) -> None:
    first = fence.claim(tmp_path / "attempts")
    (first.folder / "draft").write_text("first")
    first.require()
    second = fence.claim(tmp_path / "attempts")
    assert (first.number, second.number) == (1, 2)
    with pytest.raises(FileNotFoundError):  # even if it was written before, and checked
        (first.folder / "draft").rename(tmp_path / "result")
    with pytest.raises(FileNotFoundError):
        (first.folder / "other").write_text("first")
    with pytest.raises(fence.Superseded, match="attempt 1 is over"):
        first.require()
    (second.folder / "draft").write_text("second")
    (second.folder / "draft").rename(tmp_path / "result")
    assert (tmp_path / "result").read_text() == "second"
    assert not [path for path in (tmp_path / "attempts").rglob("*") if path.is_file()]  # nor was it left


def test_attempts_that_begin_at_once_get_numbers_of_their_own_and_one_remains(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        attempts = list(pool.map(lambda _: fence.claim(tmp_path), range(64)))
    assert sorted(attempt.number for attempt in attempts) == list(range(1, 65))
    assert [attempt.number for attempt in attempts if attempt.folder.is_dir()] == [64]
