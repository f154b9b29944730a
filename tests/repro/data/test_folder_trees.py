"""Trees of folders as nobody would make them: every file is accounted for, or one line says what is wrong."""

from __future__ import annotations

import copy
import os
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from repro.data import inventory
from repro.data.account import words
from repro.data.data_sets import entry_of
from repro.data.layouts.class_folders import read
from repro.data.listing import Reason
from repro.errors import UserError, printable
from repro.settings import Where

PICTURE, EMPTY, OTHER, PIPE = "picture", "empty image", "other", "pipe"
Tree = dict[str, Any]  # name -> PICTURE, EMPTY, OTHER, PIPE, ("link", target) or a tree

NFC, NFD, LATIN = "caf\u00e9", "cafe\u0301", "caf\udce9"
CLASSES = [
    "cat",
    "dog",
    "-rf",
    "a b",
    "a\nb",
    "犬",
    NFC,
    NFD,
    LATIN,
    "train",
    "n" * 255,
    "x.jpg",
    "St. Bernard",
    "'\"%s\\",
]
SPLITS = [
    "train",
    "Train",
    "training",
    "train2017",
    "val",
    "VALID",
    "validation",
    "test_set",
    "testing",
    "my_val",
    "dev",
]
JUNK = ["@eaDir", "__MACOSX", ".ipynb_checkpoints", "lost+found", "$RECYCLE.BIN", ".thumbnails"]
STEMS = st.sampled_from(
    ["0", "1", "a\nb", NFC, NFD, LATIN, " ", "%d", "-", "\\n", "e" * 251, "x.png", "\u2028", "ü\x7f"]
)
PICTURE_NAMES = st.builds("{}{}".format, STEMS, st.sampled_from([".jpg", ".JPG", ".png", ".tif"]))
OTHER_NAMES = st.sampled_from(["notes.txt", "labels.csv", "README", "a.mp4", "x.jpg.part", "b\n.json", "Makefile"])
HIDDEN_NAMES = st.sampled_from([".DS_Store", "._0.jpg", "Thumbs.db", "desktop.ini", ".hidden.png"])


def folder(pictures: int = 4, below: Any = None) -> st.SearchStrategy[Tree]:
    """A folder with pictures; what else may lie in one is there now and then."""
    parts = [st.dictionaries(PICTURE_NAMES, st.just(PICTURE), min_size=1, max_size=pictures)]
    parts.append(_rarely(OTHER_NAMES, st.just(OTHER)))
    parts.append(_rarely(HIDDEN_NAMES, st.just(OTHER)))
    parts.append(_rarely(st.sampled_from(JUNK), st.dictionaries(PICTURE_NAMES, st.just(PICTURE), max_size=2)))
    if below is not None:
        parts.append(_rarely(st.sampled_from(["sub", "2024", NFC]), below))
    return st.tuples(*parts).map(lambda found: {name: what for part in found for name, what in part.items()})


def _rarely(names: st.SearchStrategy[str], content: st.SearchStrategy[Any]) -> st.SearchStrategy[Tree]:
    return st.one_of(st.just({}), st.just({}), st.dictionaries(names, content, max_size=2))


NESTED = folder(below=folder(2, below=st.one_of(folder(2), st.just({}))))
CLASS_FOLDERS = st.dictionaries(st.sampled_from(CLASSES), NESTED, min_size=1, max_size=4)
SPOILED = st.one_of(
    st.tuples(PICTURE_NAMES, st.sampled_from([EMPTY, PIPE, PIPE, PICTURE])),
    st.tuples(st.sampled_from(["empty", "train", "val", "docs"]), st.sampled_from([{}, {"a.txt": OTHER}])),
    st.tuples(st.sampled_from(SPLITS), NESTED),
)


LINK_NAMES = st.sampled_from(["latest", "dog", "x.png", "x.png", "data.csv", "val"])


def folders_of(tree: Tree, below: str = ".") -> list[tuple[Tree, str]]:
    """A tree and all within it, each with its path."""
    within = [
        found for name, what in tree.items() if isinstance(what, dict) for found in folders_of(what, f"{below}/{name}")
    ]
    return [(tree, below), *within]


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    """A folder of pictures as it should be, in most cases with up to three faults somewhere."""
    kind = draw(st.sampled_from(["classes", "classes", "splits", "splits", "flat", "wild"]))
    if kind == "flat":
        tree = draw(folder())
    elif kind == "classes":
        tree = draw(CLASS_FOLDERS)
    elif kind == "splits":
        train = draw(CLASS_FOLDERS)
        held = draw(st.lists(st.sampled_from(sorted(train)), min_size=1, unique=True))
        tree = {draw(st.sampled_from(SPLITS[:4])): train}
        tree[draw(st.sampled_from(SPLITS[4:9]))] = {name: draw(NESTED) for name in held}
        tree |= draw(_rarely(st.sampled_from(["test", "extra"]), CLASS_FOLDERS))
    else:
        tree = draw(
            st.dictionaries(st.sampled_from(CLASSES + SPLITS + JUNK), st.one_of(NESTED, CLASS_FOLDERS), max_size=4)
        )
    tree |= draw(_rarely(st.one_of(OTHER_NAMES, HIDDEN_NAMES), st.just(OTHER)))
    for name, what in draw(st.lists(SPOILED, max_size=2)) if draw(st.booleans()) else []:
        place, _ = draw(st.sampled_from(folders_of(tree)))
        place.setdefault(name, copy.deepcopy(what))  # it may be filled further
    for name in draw(st.lists(LINK_NAMES, max_size=2)) if draw(st.booleans()) else []:
        (place, below), (_, target) = (draw(st.sampled_from(folders_of(tree))) for _ in range(2))
        whole = draw(st.sampled_from([target, target, target, f"{target}/0.jpg", "nowhere", "..", "../.."]))
        place.setdefault(name, ("link", os.path.relpath(f"/own/{whole}", f"/own/{below}")))
    return tree


def write(tree: Tree, place: Path) -> None:
    """Make the files of a tree."""
    place.mkdir()
    for name, what in tree.items():
        path = place / name
        if isinstance(what, dict):
            write(what, path)
        elif isinstance(what, tuple):
            path.symlink_to(what[1])
        elif what == PIPE:
            os.mkfifo(path)
        else:
            path.write_bytes(b"" if what == EMPTY else os.fsencode(path.name))


def files_below(root: Path) -> list[str]:
    """All that is no folder, by os.walk: links are not followed."""
    found = []
    for at, folders, names in os.walk(root):
        found += [os.path.relpath(os.path.join(at, name), root) for name in names]  # noqa: PTH118
        found += [os.path.relpath(os.path.join(at, name), root) for name in folders if Path(at, name).is_symlink()]  # noqa: PTH118
    return found


def is_within(path: str, folders: set[str]) -> bool:
    parts = path.split("/")
    return any("/".join(parts[:n]) in folders for n in range(1, len(parts) + 1))


@contextmanager
def no_longer_than(seconds: float) -> Iterator[None]:
    """Nothing may wait for a pipe or walk in circles."""

    def stop(number: int, frame: object) -> None:
        raise TimeoutError(f"not done in {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def outcome(tree: Tree, place: Path) -> str:
    """Check what is made of a tree; `taken`, or the words of the error."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    root, where = place / "own", Where(None, place / "cache")
    write(tree, root)
    try:
        with no_longer_than(20):
            found = inventory.own_pictures(entry_of(f"folder:{root}"), where)
            reading = read(root)
    except UserError as error:
        assert str(root) in str(error) and str(error) == printable(str(error))
        str(error).encode()
        return str(error).replace(str(root), "ROOT")
    account = found.account
    taken = [path.relative_to(root).as_posix() for split in reading.splits.values() for path in split.files]
    passed = {one.below: one.reason for one in account.passed}
    # The counts are those of the files, and nothing is counted twice.
    assert len(set(taken)) == len(taken) == account.pictures > 0 and len(passed) == len(account.passed)
    assert not [one for one in taken if is_within(one, set(passed))]
    assert {taken.split: taken.pictures for taken in account.taken} == {
        split: len(content.files) for split, content in reading.splits.items()
    }
    assert sum(account.class_counts.values()) == (account.pictures if account.classes else 0)
    # Every file is taken or passed over; a link to a folder may also lead to what is taken.
    roots = {"/".join(one.split("/")[:n]) for one in taken for n in range(1, one.count("/") + 1)}
    mine = set(taken)
    for one in files_below(root):
        assert (one in mine) + is_within(one, set(passed)) + (one in roots) == 1, one
    # What is passed over is so for a reason that holds.
    folders = {below for below, reason in passed.items() if reason is Reason.EMPTY}
    junk = {below for below, reason in passed.items() if reason.value.startswith(("hidden", "file or"))}
    for one in files_below(root):
        plain = one.lower().endswith((".jpg", ".png", ".tif")) and (root / one).is_file() and one not in junk
        assert not (plain and is_within(one, folders) and not _has_junk(one)), one
        assert not (plain and passed.get(one) is Reason.OTHER), one
    for below in junk:
        assert _has_junk(below), below
    assert printable(words(account)) == words(account) and f"{account.pictures:,} image" in words(account)
    # Under another name it is the same.
    root.rename(place / "moved")
    assert inventory.own_pictures(entry_of(f"folder:{place / 'moved'}"), where).manifest == found.manifest
    return "taken"


def _has_junk(below: str) -> bool:
    known = {*JUNK, "Thumbs.db", "desktop.ini"}
    return any(part.startswith(".") or part in known for part in below.split("/"))


def search(place: Path, examples: int) -> Counter[str]:
    """How often each outcome was met."""
    met: Counter[str] = Counter()

    @settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=[*HealthCheck],
    )
    @given(trees())
    @example({"cat": {"0.jpg": PICTURE, "up": ("link", "..")}})
    @example({"cat": {"2024": {"0.jpg": PICTURE}, "latest": ("link", "2024")}, "cow": ("link", "cat")})
    @example({"cat": {"a": {"0.jpg": PICTURE, "b": ("link", "../b")}, "b": {"1.jpg": PICTURE, "a": ("link", "../a")}}})
    @example({"train": {"cat": {"0.jpg": PICTURE}}, "val": ("link", "train"), ".store": {"cat": {"1.jpg": PICTURE}}})
    @example({"train": ("link", ".store"), "test": {"cat": {"0.jpg": PICTURE}}, ".store": {"cat": {"1.jpg": PICTURE}}})
    @example({"train": {"0.jpg": PICTURE}, "car": {"0.jpg": PICTURE, "train": {"1.jpg": PICTURE}}, "val": {}})
    def every_file_is_accounted_for(tree: Tree) -> None:
        met[outcome(tree, place)] += 1

    every_file_is_accounted_for()
    return met


@pytest.mark.seconds
def test_every_file_is_taken_or_passed_over_with_a_word(tmp_path: Path) -> None:
    met = search(tmp_path / "tree", 150)
    assert 2 * met["taken"] >= met.total() >= 150, met


@pytest.mark.slow
def test_every_file_of_two_thousand_trees_is_taken_or_passed_over_with_a_word(tmp_path: Path) -> None:
    met = search(tmp_path / "tree", 2000)
    assert 2 * met["taken"] >= met.total() >= 2000, met
