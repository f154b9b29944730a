"""What is taken of a folder of pictures, what is passed over, and the one line that says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from repro.data.listing import Passed, Reason
from repro.data.types import Split
from repro.errors import UserError, printable
from repro.terminal.text import some

TEST_SHARE = 0.2  # of each class, where no folder has the test pictures


@dataclass(frozen=True)
class Taken:
    """The pictures of one split.

    folder: below the folder that was given, "" for itself.  dealt: whether the classes were dealt out to the splits.
    """

    split: Split
    pictures: int
    folder: str
    dealt: bool = False


@dataclass(frozen=True)
class Account:
    """Every file of a folder of pictures: taken, or passed over for a reason.

    class_counts: pictures by class; empty for pictures without classes.  untested: classes without a test picture.
    gone: classes that were there when the folder was last looked at, and how many pictures they had.
    deeper: of each split, the folder whose folders are more likely the classes, below the one that was given; of
        pictures of one class alone.
    """

    taken: tuple[Taken, ...]
    class_counts: Mapping[str, int]
    passed: tuple[Passed, ...]
    untested: tuple[str, ...] = ()
    gone: tuple[tuple[str, int], ...] = ()
    deeper: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """Their names; empty for pictures without classes."""
        return tuple(self.class_counts)

    @property
    def pictures(self) -> int:
        """How many are taken."""
        return sum(taken.pictures for taken in self.taken)

    def of(self, split: Split) -> int:
        """How many are taken for one split."""
        return sum(taken.pictures for taken in self.taken if taken.split == split)


def one_picture_each(whose: object, what: str) -> UserError:
    """The error for pictures of which none is left to test on. what: that cannot be done, such as `judge knn on`."""
    return UserError(
        f"{whose}: each class has one image, which is to train on, so there is none to {what}",
        "give each class two or more, or a folder val beside train",
    )


def one_class(whose: Path, account: Account, what: str) -> UserError:
    """The error for pictures of one class, which every guess gets right. what: as in `one_picture_each`."""
    hidden = [one for one in account.passed if one.reason is Reason.HIDDEN_FOLDER]
    beside = f" (passed over: {passed_words(hidden)})" if hidden else ""
    fix = "sort the images into one folder per class, of two classes or more"
    if account.deeper:
        places = [str(whose / below) for below in account.deeper]
        fix = f"give {places[0]} if its folders are the classes" if len(places) == 1 else one_folder_deeper(places)
    return UserError(
        printable(
            f"{whose}: all images are of one class ({account.classes[0]}), so there is nothing to {what}{beside}"
        ),
        printable(fix),
    )


def one_folder_deeper(places: Sequence[str]) -> str:
    """What to do where classes are in a folder more than they should be, in `places`."""
    return f"the classes are deeper, in {' and '.join(places)}; move them up, to lie as SPLIT/CLASS/*"


def words(account: Account) -> str:
    """`30 pictures of 2 classes (cat, dog) taken: 20 train, 10 test (from valid); passed over: 1 hidden file`."""
    classes = f"of {_count(len(account.classes), 'class')} ({some(account.classes)})"
    what = f"{_count(account.pictures, 'image')} {classes if account.classes else 'without classes'} taken"
    parts = [f"{what}: {', '.join(map(_taken, account.taken))}"]
    if account.untested:
        parts.append(f"no test images of {_count(len(account.untested), 'class')} ({some(account.untested)})")
    if account.gone:
        lost = [f"{name} with {_count(pictures, 'image')}" for name, pictures in account.gone]
        parts.append(f"no longer there: {_count(len(lost), 'class')} ({some(lost)})")
    if account.passed:
        parts.append(f"passed over: {passed_words(account.passed)}")
    return printable("; ".join(parts))


def passed_words(passed: Sequence[Passed]) -> str:
    """`3 hidden files, 2 other files (notes.txt, labels.csv), 12 pictures in old`."""
    found = []
    for reason in Reason:
        mine = [one for one in passed if one.reason is reason]
        if reason is Reason.UNUSED:
            loose = [one.below for one in mine if not one.pictures]
            found += [f"{_count(len(loose), 'image')} beside the folders ({some(loose)})"] if loose else []
            found += [f"{_count(one.pictures, 'image')} in {one.below}" for one in mine if one.pictures]
        elif mine:
            named = "" if reason is Reason.HIDDEN_FILE else f" ({some(sorted(one.below for one in mine))})"
            found.append(_count(len(mine), reason.value) + named)
    return ", ".join(found)


def _taken(taken: Taken) -> str:
    if taken.dealt:
        share = "" if taken.split == "train" else f" (a share of {TEST_SHARE:.0%} of each class)"
        return f"{taken.pictures:,} {taken.split}{share}"
    return f"{taken.pictures:,} {taken.split}" + (f" (from {taken.folder})" if taken.folder else "")


_PLURALS = {
    "class": "classes",
    "file or folder of the system": "files or folders of the system",
    "pipe, socket or device": "pipes, sockets or devices",
    "link to a folder above": "links to a folder above",
    "link to a folder of the same class": "links to a folder of the same class",
    "folder without images": "folders without images",
}


def _count(number: int, what: str) -> str:
    return f"{number:,} {what if number == 1 else _PLURALS.get(what, what + 's')}"
