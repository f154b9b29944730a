"""A terminal or a locale that has no UTF-8 ends no command: what it cannot show is escaped."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path

import pytest

from repro.cli.dispatch import main
from repro.store.hashes import digest
from slurm.files import write_json

pytestmark = pytest.mark.usefixtures("own_folder")

ODD = os.fsdecode(b"caf\xe9")  # a file name of other bytes than UTF-8


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["methods"], "truncated_triplet"),
        (["methods", "glnet"], "network.arch"),
        (["protocols"], "linear"),
        (["claims"], "claim"),
        (["data", "--workspace", "wé"], "digits"),
        (["status", "--workspace", "wé"], r"no workspace w\xe9"),
        (["status", "--workspace", ODD], r"no workspace caf\xe9"),
        (["plan", "--method", "random", "--eval", "knn", "--workspace", "wé"], r"workspace w\xe9"),
        (["plan", "--method", "aps", "--data", f"./{ODD}"], r"caf\xe9"),
        (["data", "verify", f"./{ODD}"], r"caf\xe9"),
    ],
)
def test_what_cannot_be_shown_is_escaped(line: list[str], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.BytesIO()
    terminal = io.TextIOWrapper(shown, encoding="ascii", errors="strict", write_through=True)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", terminal)
        patch.setattr(sys, "stderr", terminal)
        main(line)
    assert said in shown.getvalue().decode("ascii")


def test_a_file_name_of_any_bytes_is_written_read_and_hashed(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"file": ODD, "text": "é"})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"file": ODD, "text": "é"}
    assert digest(["é"]) == "0b657be394b1d432f8d1942406ed09c213604cbcd87b299641cf994bcaf84b11"  # by sha256sum
    assert digest([ODD]) != digest(["caf"])
