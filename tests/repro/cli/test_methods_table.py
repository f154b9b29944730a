"""What `methods` prints of each method."""

from __future__ import annotations

import pytest

from repro.cli import tables
from repro.cli.dispatch import main


def test_the_table_tells_what_to_choose_by(capsys: pytest.CaptureFixture[str]) -> None:
    """The paper's own facts: networks, costs in passes (two views forward and backward, two of the target forward)."""
    assert main(["methods"]) == 0
    rows = {line.split("  ")[0]: line.split() for line in capsys.readouterr().out.splitlines() if line[:1].isalpha()}
    assert rows["aps"][:3] == ["aps", "method", "ViT"] and rows["byol"][2] == "ResNet"
    assert rows["simclr"][3] == "2.0" and rows["byol"][3] == f"{2 + 2 / 3:.1f}" and rows["supervised"][4] == "1.0"
    assert rows["rotation_aux"][4] == f"{2 + 2 / 3 + 2:.1f}"  # its base's, and one pass for each turned view
    assert " ".join(rows["truncated_triplet"][4:9]) == "one device Wang et al.,"
    assert rows["simsiam"][4:8] == ["no", "Chen", "and", "He,"] and rows["byol"][4:8] == ["no", "Grill", "et", "al.,"]
    assert rows["moco_v3"][2:4] == ["ViT,", "ResNet"] and rows["multi_network"][2:4] == ["ResNet", "4.3"]


@pytest.mark.parametrize(
    ("paper", "cited"),
    [
        ("Doe; Somewhere 2024", "Doe, Somewhere 2024"),
        ("A, B, C; Conf; 2024", "A et al., Conf; 2024"),
        ("none", "none"),
        ("", "-"),
    ],
)
def test_a_paper_is_cited_in_short(paper: str, cited: str) -> None:
    assert tables._cited(paper) == cited
