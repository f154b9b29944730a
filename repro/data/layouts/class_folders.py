"""Pictures in folders: one folder per class, or none; with splits, or without.

    SPLIT/CLASS/*   train and a held-out split
    train/CLASS/*   or  CLASS/*     a share of each class becomes the test split (by hash of the path)
    train/*         or  *           pictures without classes: only a training split, no labels

A class has all pictures at and below its folder. Of own pictures `split_folders` says which folders are splits; those
of published data sets are named by their entry.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from repro.data.account import TEST_SHARE, Account, Taken, one_folder_deeper, passed_words
from repro.data.data_sets import Entry
from repro.data.layouts.layout import ClassificationLayout, PictureSplit
from repro.data.layouts.split_folders import Chosen, choose, holder_of_classes, require_no_splits
from repro.data.listing import Folder, Identity, Listing, Passed, Reason
from repro.data.manifest import Tree
from repro.data.names import composed, order
from repro.data.types import MissingData, Split
from repro.errors import UserError, printable
from repro.terminal.text import some


class ClassFolders(ClassificationLayout):
    """Of a data set whose entry names the class folders in a file, those alone."""

    a_file_each = True

    def tree(self, entry: Entry, root: Path) -> Tree:
        """Of own pictures those that are taken."""
        if entry.own is not None:
            return own_tree(root, read(root))
        names = _listed_classes(entry)
        parts = entry.parts if names is None else tuple(f"{part}/{name}" for part in entry.parts for name in names)
        return Tree(root, parts, entry.huge)

    def counts(self, entry: Entry, root: Path) -> dict[str, int]:
        """By listing the folders."""
        return {split: len(found.below) for split, found in _reading(entry, root).splits.items()}

    def splits(self, entry: Entry, root: Path) -> Iterator[PictureSplit]:
        """Files, sorted by class."""
        for split, found in _reading(entry, root).splits.items():
            yield PictureSplit(split, found.labels, found.classes, files=[(str(path), path) for path in found.files])


def _reading(entry: Entry, root: Path) -> Reading:
    if entry.own is not None:
        return read(root)
    return read(root, _listed_classes(entry), entry.parts)


def _listed_classes(entry: Entry) -> list[str] | None:
    if entry.classes is None:
        return None
    return sorted(resources.files("repro.data").joinpath(entry.classes).read_text(encoding="utf-8").split())


@dataclass(frozen=True)
class FolderSplit:
    """The pictures of one split, sorted by path within each class; labels None for pictures without classes.

    below: their paths below `root`, POSIX.
    """

    root: Path
    below: list[str]
    labels: list[int] | None
    classes: tuple[str, ...]

    @property
    def files(self) -> list[Path]:
        """Their paths."""
        return [self.root / one for one in self.below]


@dataclass(frozen=True)
class Reading:
    """What is taken of a folder, by split, and the account of all its files."""

    splits: dict[Split, FolderSplit]
    account: Account


# The only names of splits before `names.PARTS`: folders with these keep their manifest.
_FIRST_NAMES = ("train", "val", "test")


def own_tree(root: Path, reading: Reading) -> Tree:
    """The files that make up own pictures, and which folders are splits where that was once read otherwise."""
    names = sorted((one for found in reading.splits.values() for one in found.below), key=composed)
    account = reading.account
    as_ever = all(taken.folder in ("", *_FIRST_NAMES) for taken in account.taken)
    if not account.taken[0].folder:
        as_ever = as_ever and not set(_FIRST_NAMES) & set(account.classes)
    notes = () if as_ever else tuple(composed(f"{taken.split} {taken.folder}") for taken in account.taken)
    return Tree(root, (".",), names=tuple(names), notes=notes)


def read(root: Path, classes: Sequence[str] | None = None, parts: Sequence[str] = ()) -> Reading:
    """Read a folder of pictures; `classes` restricts to these class folders (all must be there).

    parts: the folders of the training and the test split; (): as `split_folders.choose` finds them.
    Raises MissingData, or UserError naming what keeps the folder from being read.
    """
    if not root.is_dir():
        raise MissingData(f"no folder {root}", "give the path of an existing folder")
    listing = Listing(root)
    if parts:
        top, test = (_named(listing, part) for part in parts)
        chosen = Chosen(top, test)
    else:
        chosen = choose(listing)
    known: dict[Identity, Folder] = {}
    train = _class_folders(listing, chosen.train, classes, known)
    passed = [*train.passed, *([] if parts else _beside(listing, chosen))]
    if chosen.test is None:
        if train.split.labels is None:
            alone = Taken("train", len(train.split.below), chosen.train.below)
            return Reading({"train": train.split}, _account((alone,), {"train": train.split}, passed))
        splits = _held_out(chosen.train.below, train.split)
        dealt = tuple(Taken(side, len(found.below), chosen.train.below, True) for side, found in splits.items())
        return Reading(splits, _account(dealt, splits, passed, _deeper(listing, train.split, chosen)))
    if train.split.labels is None:
        raise UserError(
            f"{chosen.train.path} has no class folders but {chosen.test.path} is there",
            "sort both by class, or rename them if they are classes",
        )
    held = _class_folders(listing, chosen.test, classes, known)
    splits = {"train": train.split, "test": _with_classes_of(train.split, held.split, listing, chosen)}
    sides = zip(splits.items(), (chosen.train, chosen.test), strict=True)
    taken = tuple(Taken(side, len(found.below), folder.below) for (side, found), folder in sides)
    deeper = _deeper(listing, train.split, chosen)
    return Reading(splits, _account(taken, splits, [*passed, *held.passed], deeper))


def _deeper(listing: Listing, train: FolderSplit, chosen: Chosen) -> tuple[str, ...]:
    """The folders deeper down that hold the classes, of pictures that are else of one class."""
    return tuple(found.below for found in _holders(listing, chosen)) if len(train.classes) == 1 else ()


def _holders(listing: Listing, chosen: Chosen) -> list[Folder]:
    tops = [top for top in (chosen.train, chosen.test) if top is not None]
    return [found for top in tops if (found := holder_of_classes(listing, top)) is not None]


def _account(
    taken: tuple[Taken, ...], splits: dict[Split, FolderSplit], passed: list[Passed], deeper: tuple[str, ...] = ()
) -> Account:
    classes = splits["train"].classes
    tested = set(splits["test"].labels or ()) if "test" in splits else set(range(len(classes)))
    untested = tuple(name for label, name in enumerate(classes) if label not in tested)
    ordered = tuple(sorted(passed, key=lambda one: (one.reason.value, order(one.below))))
    counts = Counter(classes[label] for found in splits.values() for label in found.labels or ())
    return Account(taken, {name: counts[name] for name in classes}, ordered, untested, deeper=deeper)


def _named(listing: Listing, name: str) -> Folder:
    found = next((folder for folder in listing.folders(listing.root) if folder.name == name), None)
    if found is None:
        raise UserError(f"{listing.root.path} has no folder {name}", "add it, or unpack the archive again")
    return found


def _beside(listing: Listing, chosen: Chosen) -> list[Passed]:
    """What is passed over beside the split folders; nothing where there are none."""
    root = listing.root
    if chosen.train is root:
        return []
    passed = [*listing.passed(root), *(Passed(Reason.UNUSED, below) for below in listing.pictures(root))]
    for folder in listing.folders(root):
        if folder in chosen.others:
            passed.append(Passed(Reason.UNUSED, folder.below, len(listing.below(folder).pictures)))
        elif folder not in (chosen.train, chosen.test):
            passed.append(Passed(Reason.EMPTY, folder.below))
    return passed


@dataclass(frozen=True)
class _Classes:
    """The pictures of one split, and what is passed over of its folder."""

    split: FolderSplit
    passed: list[Passed]


def _class_folders(
    listing: Listing, top: Folder, classes: Sequence[str] | None, known: dict[Identity, Folder]
) -> _Classes:
    """known: the class folder that each folder belongs to; those of this split are added."""
    folders, loose = listing.folders(top), listing.pictures(top)
    passed = listing.passed(top)
    if classes is not None:
        there = {folder.name: folder for folder in folders}
        absent = [name for name in classes if name not in there]
        if absent:
            raise UserError(
                f"{top.path} lacks {len(absent)} of {len(classes)} class folders, the first is {absent[0]}",
                "add them, or unpack the archive again",
            )
        folders, loose = [there[name] for name in sorted(classes)], []
    full = [folder for folder in folders if listing.has_pictures(folder)]
    if classes is not None and len(full) < len(folders):
        empty = next(folder for folder in folders if folder not in full)
        raise UserError(f"class folder {empty.path} has no images", "add its images, or unpack the archive again")
    passed += [Passed(Reason.EMPTY, folder.below) for folder in folders if folder not in full]
    if loose and full:
        first = Path(loose[0]).name
        raise UserError(
            f"{top.path} has images beside class folders, the first is {first}; move them into class folders"
        )
    if loose:
        return _Classes(FolderSplit(listing.root.path, loose, None, ()), passed)
    if not full:
        beside = f"; passed over: {passed_words(passed)}" if passed else ""
        raise UserError(
            f"no images below {top.path} (looked for .jpg, .png, and what else Pillow reads){beside}",
            "put images there, or give another folder",
        )
    require_no_splits(listing, full)
    _require_different(top, full)
    below: list[str] = []
    labels: list[int] = []
    for label, folder in enumerate(full):
        found = listing.below(folder)
        for identity, again in found.visited.items():
            if identity in known:
                raise UserError(
                    f"{listing.root.path / again} is a folder of {known[identity].path} too", "remove one of the links"
                )
        known |= dict.fromkeys(found.visited, folder)
        passed += found.passed
        below += found.pictures
        labels += [label] * len(found.pictures)
    names = tuple(_shown(folder.name) for folder in full)
    return _Classes(FolderSplit(listing.root.path, below, labels, names), passed)


def _shown(name: str) -> str:
    """A class as it is called: by the name of its folder, in Unicode's composed form and without bytes of no text."""
    return printable(composed(name))


def _require_different(top: Folder, folders: Sequence[Folder]) -> None:
    """Raise UserError where two class folders have the same name in two forms of Unicode."""
    alike = [name for name, times in Counter(_shown(folder.name) for folder in folders).items() if times > 1]
    if alike:
        raise UserError(f"{top.path} has two class folders called {some(alike)}", "merge them, or rename one")


def _with_classes_of(train: FolderSplit, test: FolderSplit, listing: Listing, chosen: Chosen) -> FolderSplit:
    """The test split with the labels of the training split's classes."""
    assert chosen.test is not None
    if test.labels is None:
        raise UserError(f"{chosen.test.path} has no class folders; sort its images into one folder per class")
    extra = sorted(set(test.classes) - set(train.classes))
    if extra:
        if deeper := [str(found.path) for found in _holders(listing, chosen)]:
            raise UserError(
                f"{listing.root.path}: {chosen.train.name} and {chosen.test.name} have other folders in them",
                one_folder_deeper(deeper),
            )
        raise UserError(
            f"{chosen.test.path} has a class '{extra[0]}' that {chosen.train.path} lacks; rename or remove it"
        )
    index = {name: i for i, name in enumerate(train.classes)}
    return FolderSplit(test.root, test.below, [index[test.classes[label]] for label in test.labels], train.classes)


def _held_out(top: str, everything: FolderSplit) -> dict[Split, FolderSplit]:
    """Four fifths and one fifth of each class, by the hash of the path below `top`: the same on every machine."""
    groups: dict[int, list[str]] = {}
    for one, label in zip(everything.below, everything.labels or (), strict=True):
        groups.setdefault(label, []).append(one)
    sides: dict[Split, list[tuple[int, str]]] = {"train": [], "test": []}
    prefix = f"{top}/" if top else ""
    for label, files in groups.items():
        dealt = sorted(files, key=lambda one: _draw(one.removeprefix(prefix)))
        held = max(1, round(TEST_SHARE * len(files))) if len(files) > 1 else 0
        sides["test"] += [(label, one) for one in sorted(dealt[:held], key=order)]
        sides["train"] += [(label, one) for one in sorted(dealt[held:], key=order)]
    return {
        side: FolderSplit(everything.root, [one for _, one in pairs], [label for label, _ in pairs], everything.classes)
        for side, pairs in sides.items()
    }


def _draw(below: str) -> bytes:
    return hashlib.sha256(composed(below).encode(errors="surrogateescape")).digest()
