"""A fingerprint changes with what can change a number, and with nothing else."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from reworded import reworded

from repro.store import hashes, source_hash

BASE = "x = 1\ndef f():\n    '''Doc.'''\n    return x\n"


def test_digest_ignores_key_order_only() -> None:
    assert hashes.digest({"a": 1, "b": [1, 2]}) == hashes.digest({"b": [1, 2], "a": 1})
    assert hashes.digest({"b": [1, 2]}) != hashes.digest({"b": [2, 1]})


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder in which `room` and `other` are the rooms that make numbers."""

    def forget() -> None:
        source_hash._read.cache_clear()
        source_hash._hashes.cache_clear()
        source_hash.source_hash.cache_clear()

    monkeypatch.setattr(source_hash, "_file_of", lambda name: _file(tmp_path, name))
    monkeypatch.setattr(source_hash, "REACHES", ("room", "other"))
    forget()
    yield tmp_path
    forget()


def _file(root: Path, module: str) -> Path | None:
    path = root / f"{module.replace('.', '/')}.py"
    return path if path.is_file() else None


def built(root: Path, files: dict[str, str], *modules: str, rooms: tuple[str, ...] = ("room", "other")) -> str:
    """The hash of these modules in a house of these files alone."""
    for old in root.rglob("*.py"):
        old.unlink()
    for name, text in files.items():
        path = root / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    source_hash._read.cache_clear()
    source_hash._hashes.cache_clear()
    source_hash.source_hash.cache_clear()
    return source_hash.source_hash(*modules, rooms=rooms)


@pytest.mark.parametrize(
    "change, same",
    [
        ("x = 1  # why\n\ndef f():\n    '''Doc.'''\n    return x\n", True),
        ("x = 1\ndef f():\n    '''Other words.'''\n\n    return x\n", True),
        ("def f():\n    return x\nx = 1\n", True),
        ("from typing import TYPE_CHECKING\nimport os\nif TYPE_CHECKING:\n    import sys\n" + BASE, True),
        ("x = 2\ndef f():\n    '''Doc.'''\n    return x\n", False),
        ("x = 1\ndef f():\n    return x + 1\n", False),
        (BASE + "y = 1\n", False),
    ],
)
def test_what_is_said_counts_not_how(house: Path, change: str, same: bool) -> None:
    assert (built(house, {"a": BASE}, "a") == built(house, {"a": change}, "a")) is same


def test_where_a_module_stands_and_the_order_of_imports_change_nothing(house: Path) -> None:
    f, g = "A = 1\ndef f():\n    return A\n", "import math\ndef g():\n    return math.pi\n"
    whole = {"a": "from room.big import f, g\ndef run():\n    return f() + g()\n", "room/big": f + g}
    first = built(house, whole, "a")
    moved = {"a": "from room.deep.large import g, f\ndef run():\n    return f() + g()\n", "room/deep/large": f + g}
    assert built(house, moved, "a") == first
    cut = {
        "a": "from room.second import g\nfrom room.first import f\ndef run():\n    return f() + g()\n",
        "room/first": f,
        "room/second": g,
    }
    assert built(house, cut, "a") == first
    assert built(house, {**cut, "room/first": f.replace("A = 1", "A = 2")}, "a") != first


def test_a_name_that_comes_from_elsewhere_changes_the_hash(house: Path) -> None:
    files = {"room/one": "def f():\n    return 1\n", "room/two": "def f():\n    return 2\n"}
    stage = "from room.{0} import f\nfrom room.{1} import f as spare\ndef run():\n    return f()\n"
    hashed = [built(house, {**files, "a": stage.format(*order)}, "a") for order in (("one", "two"), ("two", "one"))]
    assert hashed[0] != hashed[1]
    through_module = "from room import {0} as used, {1} as spare\ndef run():\n    return used.f()\n"
    hashed = [
        built(house, {**files, "a": through_module.format(*order)}, "a") for order in (("one", "two"), ("two", "one"))
    ]
    assert hashed[0] != hashed[1]
    foreign = ["from math import floor as f\n", "from math import ceil as f\n"]
    hashed = [built(house, {"a": line + "def run():\n    return f(1.5)\n"}, "a") for line in foreign]
    assert hashed[0] != hashed[1]


def test_a_stage_reaches_its_evaluation_but_not_another_method() -> None:
    def reached(*modules: str) -> set[str]:
        todo, seen = list(modules), set()
        while todo:
            name = todo.pop()
            path = source_hash._file_of(name)
            if name in seen or path is None:
                continue
            seen.add(name)
            todo += [
                found for found in source_hash._read(path).modules if source_hash._within(found, source_hash.REACHES)
            ]
        return seen

    pretrain = reached("repro.stages.pretrain", "methods.aps")
    assert {"methods.base", "methods.parts.views", "methods.parts.losses"} <= pretrain
    assert "methods.moco_v3" not in pretrain and "eval.detection" not in pretrain
    assert "eval.scores" in reached("repro.stages.knn") and "eval.reid" not in reached("repro.stages.knn")


def test_rooms_can_be_left_out_of_the_hash(house: Path) -> None:
    """As the plan leaves the evaluations out of the hash of a pre-training."""
    files = {"a": "import room.b\nimport other.c", "room/b": "B = 1", "other/c": "C = 1"}
    changed = {**files, "other/c": "C = 2"}
    assert built(house, files, "a") != built(house, changed, "a")
    assert built(house, files, "a", rooms=("room",)) == built(house, changed, "a", rooms=("room",))


def test_the_hash_is_the_same_under_every_version_of_python() -> None:
    """Written out as Python 3.11 says it; 3.12 has fields of its own, and 3.13 leaves out what is empty."""
    text = "def f(a):\n    return g(a)\nclass C:\n    pass\n"
    empty = "posonlyargs=[], args=[arg(arg='a')], kwonlyargs=[], kw_defaults=[], defaults=[]"
    assert [source_hash.syntax(one) for one in ast.parse(text).body] == [
        f"FunctionDef(name='f', args=arguments({empty}), body=[Return(value=Call(func=Name(id='g', ctx=Load()),"
        " args=[Name(id='a', ctx=Load())], keywords=[]))], decorator_list=[])",
        "ClassDef(name='C', bases=[], keywords=[], body=[Pass()], decorator_list=[])",
    ]


MESSAGE = "def check(n):\n    if n < 0:\n        raise ValueError(f'{n} is no count, of {n + 1}')\n    return n\n"


@pytest.mark.parametrize(
    ("now", "known"),
    [
        (MESSAGE.replace("is no count", "is not a count"), True),
        (MESSAGE.replace("{n} is no count, of {n + 1}", "of {n + 1}: {n} is not a count"), True),
        (MESSAGE.replace("n < 0", "n < 1"), False),
        (MESSAGE.replace("{n + 1}", "{n + 2}"), False),
        (MESSAGE + "x = 1\n", False),
    ],
)
def test_a_reworded_message_goes_on_by_the_hash_of_before(
    house: Path, monkeypatch: pytest.MonkeyPatch, now: str, known: bool
) -> None:
    before, after = house / "before" / "room", house / "now" / "room"
    for folder, text in ((before, MESSAGE), (after, now)):
        folder.mkdir(parents=True)
        (folder / "a.py").write_text(text)
    found = list(reworded(before.parent, after.parent, ("room",)))
    assert all(bool(hashed) is known for hashed, _, _ in found) and len(found) == 1
    was = built(house, {"a": MESSAGE}, "a")
    assert built(house, {"a": now}, "a") != was
    monkeypatch.setattr(source_hash, "published", lambda: {hashed: old for hashed, old, _ in found})
    assert (built(house, {"a": now}, "a") == was) is known


def test_every_row_of_reworded_statements_is_of_todays_code() -> None:
    """A row of a statement that is gone would be dead, and nobody could tell what it was."""
    there = set(source_hash.every_hash(Path(source_hash.__file__).parents[2]))
    gone = set(source_hash.published()) - there
    assert not gone, "statements of reworded.json were changed; run python tests/reworded.py HEAD before you commit"
    assert not set(source_hash.published().values()) & there
