"""What `methods` prints of each method."""

from __future__ import annotations

import pytest

from repro.cli import tables
from repro.cli.dispatch import main


def test_the_table_tells_what_to_choose_by(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The paper's own facts: networks, costs in passes (two views forward and backward, two of the target forward)."""
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["methods"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80 and any(line.startswith("glnet: no_location, no_flip, ") for line in lines)
    rows = {line.split("  ")[0]: line.split() for line in lines if line[:1].isalpha()}
    assert rows["aps"][:3] == ["aps", "method", "ViT"] and rows["byol"][2] == "ResNet"
    assert rows["simclr"][3] == "2.0" and rows["byol"][3] == f"{2 + 2 / 3:.1f}" and rows["supervised"][4] == "1.0"
    assert rows["rotation_aux"][4] == f"{2 + 2 / 3 + 2:.1f}"  # its base's, and one pass for each turned view
    assert " ".join(rows["truncated_triplet"][4:]) == "one device Wang 2021"
    assert rows["simsiam"][4:] == ["none", "Chen", "2021"] and rows["byol"][4:] == ["none", "Grill", "2020"]
    assert rows["moco_v3"][2:4] == ["ViT,", "ResNet"] and rows["multi_network"][2:4] == ["ResNet", "4.3"]


@pytest.mark.parametrize(
    ("paper", "cited"),
    [
        ("Doe; Somewhere 2024", "Doe 2024"),
        ("A, B, C; Conf; 2024", "A 2024"),
        ("Grill et al.; NeurIPS 2020", "Grill 2020"),
        ("Wu and Lee; submitted", "Wu"),
        ("none", "none"),
        ("", "-"),
    ],
)
def test_a_paper_is_cited_in_short(paper: str, cited: str) -> None:
    assert tables._cited(paper) == cited
