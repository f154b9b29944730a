from __future__ import annotations

import re
from pathlib import Path

import pytest

from slurm.profile import Profile


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('partitoin = "gpu"', "unknown key 'partitoin'; did you mean 'partition'?"),
        ("partition = 3", "partition = 3 must be a text"),
        ('setup = "module load"', "setup = 'module load' must be a list of texts"),
        ("time_scale = 0", "time_scale = 0 must be a number above 0"),
        ("gpus = 1\npartition = gpu", "not valid TOML (Invalid value (at line 2, column 13)): partition = gpu"),
        ("partition =", "not valid TOML (Invalid value (at end of document))"),
        ("gpus_per_node = -1", "gpus_per_node = -1 must be a whole number from 0"),
        ('[sbatch]\nqos = "long"', "sbatch.qos: write qos above [sbatch] instead"),
        ('[sbatch]\narray = "0-3"', "sbatch.array: this option is set for every job"),
        ("[sbatch]\nlicenses = [1]", "sbatch.licenses = [1] must be a text, a number or true"),
    ],
)
def test_a_wrong_profile_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "p.toml").write_text(text)
    with pytest.raises(ValueError, match=re.escape(message)):
        Profile.load(str(tmp_path / "p.toml"))


def test_a_profile_that_is_not_text_is_one_line_with_its_path(tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_bytes('partition = "größer"'.encode("latin-1"))
    with pytest.raises(ValueError, match=f"cluster profile {re.escape(str(path))}: not valid TOML") as refused:
        Profile.load(str(path))
    assert "\n" not in str(refused.value)


def test_profiles_by_name() -> None:
    assert Profile.load("default") == Profile()
    assert Profile.load("a100").gpus_per_node == 4
    with pytest.raises(ValueError, match="no cluster profile 'defautl': did you mean 'default'"):
        Profile.load("defautl")
