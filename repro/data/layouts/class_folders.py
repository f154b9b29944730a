"""Pictures in folders: one folder a class, or none; with splits, or without.

Which names of folders are splits is said here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from repro.data.data_sets import Entry
from repro.data.decoding import PICTURES, is_picture
from repro.data.layouts.layout import ClassificationLayout, PictureSplit
from repro.data.manifest import Tree, walk
from repro.data.types import MissingData, Split
from repro.errors import UserError

TEST_SHARE = 0.2


class ClassFolders(ClassificationLayout):
    """Of a data set whose entry names the class folders in a file, those alone."""

    def tree(self, entry: Entry, root: Path) -> Tree:
        """Of own pictures all that are pictures, wherever they lie."""
        if entry.own is not None:
            return Tree(root, (".",), suffixes=PICTURES)
        names = _listed_classes(entry)
        parts = entry.parts if names is None else tuple(f"{part}/{name}" for part in entry.parts for name in names)
        return Tree(root, parts, entry.huge)

    def counts(self, entry: Entry, root: Path) -> dict[str, int]:
        """By listing the folders."""
        return {split: len(found.files) for split, found in image_folder(root, _listed_classes(entry)).items()}

    def splits(self, entry: Entry, root: Path) -> Iterator[PictureSplit]:
        """Files, sorted by class."""
        for split, found in image_folder(root, _listed_classes(entry)).items():
            yield PictureSplit(split, found.labels, found.classes, files=[(str(path), path) for path in found.files])


def _listed_classes(entry: Entry) -> list[str] | None:
    if entry.classes is None:
        return None
    return sorted(resources.files("repro.data").joinpath(entry.classes).read_text(encoding="utf-8").split())


@dataclass(frozen=True)
class FolderSplit:
    """The pictures of one split, sorted by path within each class; labels None for pictures without classes."""

    files: list[Path]
    labels: list[int] | None
    classes: tuple[str, ...]


def image_folder(root: Path, classes: Sequence[str] | None = None) -> dict[Split, FolderSplit]:
    """Read any of the layouts below; `classes` restricts to these class folders (all must be there).

    root/train/CLASS/*  with  root/val/CLASS/* or root/test/CLASS/*
    root/train/CLASS/*  or  root/CLASS/*     one fifth of each class becomes the test split (by hash of the path)
    root/train/*  or  root/*                 pictures without classes: only a training split, no labels
    """
    if not root.is_dir():
        raise MissingData(f"no folder {root}")
    held_out = [root / name for name in ("val", "test") if (root / name).is_dir()]
    top = root / "train" if (root / "train").is_dir() else root
    if held_out and top == root:
        raise UserError(f"{root} has '{held_out[0].name}' but no 'train'; name the folder of training pictures 'train'")
    train = _class_folders(top, classes)
    if held_out:
        folder = held_out[0]
        if train.labels is None:
            raise UserError(f"{top} has no class folders but {folder} is there; sort both by class")
        test = _class_folders(folder, classes)
        if test.labels is None:
            raise UserError(f"{folder} has no class folders; sort its pictures into one folder a class")
        extra = sorted(set(test.classes) - set(train.classes))
        if extra:
            raise UserError(f"{folder} has a class '{extra[0]}' that {top} lacks; rename or remove it")
        index = {name: i for i, name in enumerate(train.classes)}
        labels = [index[test.classes[label]] for label in test.labels]
        return {"train": train, "test": FolderSplit(test.files, labels, train.classes)}
    return {"train": train} if train.labels is None else _held_out(top, train)


def _class_folders(top: Path, classes: Sequence[str] | None) -> FolderSplit:
    folders = sorted(p for p in top.iterdir() if p.is_dir() and not p.name.startswith("."))
    loose = sorted(p for p in top.iterdir() if is_picture(p))
    if classes is not None:
        there = {p.name: p for p in folders}
        absent = [name for name in classes if name not in there]
        if absent:
            raise UserError(f"{top} lacks {len(absent)} of {len(classes)} class folders, the first is {absent[0]}")
        folders = [there[name] for name in sorted(classes)]
        loose = []
    members = [(folder, sorted(filter(is_picture, walk(folder)))) for folder in folders]
    members = [(folder, found) for folder, found in members if found or classes is not None]
    if loose and members:
        raise UserError(f"{top} has pictures beside class folders, the first is {loose[0].name}; move them")
    if loose:
        return FolderSplit(loose, None, ())
    if not members:
        raise UserError(f"no pictures below {top} (looked for {', '.join(sorted(PICTURES))})")
    empty = [folder for folder, found in members if not found]
    if empty:
        raise UserError(f"class folder {empty[0]} has no pictures")
    files = [path for _, found in members for path in found]
    labels = [label for label, (_, found) in enumerate(members) for _ in found]
    return FolderSplit(files, labels, tuple(folder.name for folder, _ in members))


def _held_out(top: Path, everything: FolderSplit) -> dict[Split, FolderSplit]:
    """Four fifths and one fifth of each class, by the hash of the path below `top`: the same on every machine."""
    groups: dict[int, list[Path]] = {}
    for path, label in zip(everything.files, everything.labels or (), strict=True):
        groups.setdefault(label, []).append(path)
    sides: dict[Split, list[tuple[int, Path]]] = {"train": [], "test": []}
    for label, files in groups.items():
        dealt = sorted(files, key=lambda p: hashlib.sha256(p.relative_to(top).as_posix().encode()).digest())
        held = max(1, round(TEST_SHARE * len(files))) if len(files) > 1 else 0
        sides["test"] += sorted((label, path) for path in dealt[:held])
        sides["train"] += sorted((label, path) for path in dealt[held:])
    return {
        side: FolderSplit([p for _, p in pairs], [label for label, _ in pairs], everything.classes)
        for side, pairs in sides.items()
    }
