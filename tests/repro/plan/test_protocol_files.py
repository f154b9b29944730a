"""Files of protocols that are damaged: one line with the path, before anything is planned with them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from eval import protocols
from repro.cli.dispatch import main
from repro.plan import protocol_files


@pytest.fixture
def knn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file of the protocols of k-NN, in place of the program's own."""
    path = tmp_path / "knn.toml"
    monkeypatch.setitem(protocols.KINDS, "knn", replace(protocols.KINDS["knn"], source=path))
    protocol_files.names.cache_clear()
    yield path
    protocol_files.names.cache_clear()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"[fast", "not valid TOML"),
        (b"# \xff", "not valid TOML ('utf-8' codec"),
        (b"fast = 3", "fast = 3 must be a table"),
        (b"[fast]\nkss = [1]", "[fast]: knn protocol has no key 'kss'; did you mean 'ks'?"),
        (b"[fast]\nks = [0]", "[fast]: knn.ks must be above 0"),
        (b"", "holds no protocol"),
    ],
)
def test_a_damaged_file_is_one_line(
    knn: Path, content: bytes, says: str, own_folder: None, capsys: pytest.CaptureFixture[str]
) -> None:
    knn.write_bytes(content)
    for line in ("plan --method random --eval knn", "protocols knn", "plan --method random --protocol knn=fast"):
        assert main(line.split()) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"repro: {knn}: {says}") and said.endswith("restore it with git\n"), said
        assert said.count("\n") == 1


def test_a_file_in_order_is_what_it_says(knn: Path) -> None:
    knn.write_text("[fast]\n[slow]\nks = [3]\n")
    assert protocol_files.names("knn") == ("fast", "slow")
    assert protocol_files.load("knn", "slow").values()["ks"] == [3]
