"""What `methods` prints of each method."""

from __future__ import annotations

import pytest

from repro.cli.dispatch import main


def test_the_table_tells_what_to_choose_by(capsys: pytest.CaptureFixture[str]) -> None:
    """The paper's own facts: networks, costs in passes (two views forward and backward, two of the target forward)."""
    assert main(["methods"]) == 0
    rows = {line.split("  ")[0]: line.split() for line in capsys.readouterr().out.splitlines() if line[:1].isalpha()}
    assert rows["aps"][:3] == ["aps", "method", "ViT"] and rows["moco_v3"][2] == "ViT" and rows["byol"][2] == "ResNet"
    assert rows["simclr"][3] == "2.0" and rows["byol"][3] == f"{2 + 2 / 3:.1f}" and rows["supervised"][3] == "1.0"
    assert rows["rotation_aux"][3] == f"{2 + 2 / 3 + 2:.1f}"  # its base's, and one pass for each turned view
    assert " ".join(rows["truncated_triplet"][4:9]) == "one device Wang et al.,"
    assert " ".join(rows["simsiam"][8:11]) == "Chen and He,"
    assert " ".join(rows["byol"][8:11]) == "Grill et al.,"
