"""What the tests of the hall share: a folder of their own, and what wrong use is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from repro.cli.dispatch import main


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test runs in a folder that is empty, and knows of no data."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("REPRO_DATA", raising=False)


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[[str], str]:
    """`refused(line)`: what a wrong command line is told, exactly one line on stderr, with status 2."""

    def told(line: str) -> str:
        assert main(line.split()) == 2
        streams = capsys.readouterr()
        assert streams.out == "" and streams.err.count("\n") == 1 and streams.err.startswith("repro: ")
        return streams.err

    return told
