"""A fingerprint changes with what can change a number, and with nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from repro.store import fingerprint, hashes, source


def test_digest_ignores_key_order_only() -> None:
    assert hashes.digest({"a": 1, "b": [1, 2]}) == hashes.digest({"b": [1, 2], "a": 1})
    assert hashes.digest({"b": [1, 2]}) != hashes.digest({"b": [2, 1]})


@pytest.mark.parametrize(
    "change, same",
    [
        ("x = 1  # why\n\ndef f():\n    '''Doc.'''\n    return x\n", True),
        ("x = 1\ndef f():\n    '''Other words.'''\n\n    return x\n", True),
        ("x = 2\ndef f():\n    '''Doc.'''\n    return x\n", False),
    ],
)
def test_comments_and_docstrings_do_not_count_but_constants_do(tmp_path: Path, change: str, same: bool) -> None:
    base = tmp_path / "a.py"
    base.write_text("x = 1\ndef f():\n    '''Doc.'''\n    return x\n")
    other = tmp_path / "b.py"
    other.write_text(change)
    assert (fingerprint._read(base)[0] == fingerprint._read(other)[0]) is same


def test_a_stage_reaches_its_evaluation_but_not_another_method() -> None:
    def reached(*modules: str) -> set[str]:
        todo, seen = list(modules), set()
        while todo:
            name = todo.pop()
            path = fingerprint._file_of(name)
            if name in seen or path is None:
                continue
            seen.add(name)
            todo += fingerprint._read(path)[1]
        return seen

    pretrain = reached("repro.stages.pretrain", "methods.aps")
    assert {"methods.base", "methods.parts.views", "methods.parts.losses"} <= pretrain
    assert "methods.moco_v3" not in pretrain and "eval.detection" not in pretrain
    assert "eval.scores" in reached("eval.knn")


def test_rooms_can_be_left_out_of_the_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the plan leaves the evaluations out of the hash of a pre-training."""
    for name, text in {"a": "import room.b\nimport other.c", "room/b": "B = 1", "other/c": "C = 1"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.setattr(fingerprint, "_file_of", lambda module: tmp_path / f"{module.replace('.', '/')}.py")
    monkeypatch.setattr(fingerprint, "REACHES", ("room", "other"))

    def hashes() -> list[str]:
        fingerprint._read.cache_clear()
        return [source.source_hash("a", rooms=rooms) for rooms in (("room", "other"), ("room",))]

    before = hashes()
    (tmp_path / "other" / "c.py").write_text("C = 2")
    after = hashes()
    assert before[0] != after[0] and before[1] == after[1]
    fingerprint._read.cache_clear()
