"""What lies in a folder: pictures, folders, and what is passed over and why. Nothing is opened.

A folder that several paths lead to is listed once. It is known by device and inode, so a link that leads back to a
folder above is seen, however many links it takes.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import NoReturn

from repro.data.names import is_hidden, is_picture, is_system, order
from repro.errors import UserError

Identity = tuple[int, int]  # device and inode


class Reason(Enum):
    """Why something is passed over."""

    HIDDEN_FILE = "hidden file"
    HIDDEN_FOLDER = "hidden folder"
    SYSTEM = "file or folder of the system"
    OTHER = "other file"
    SPECIAL = "pipe, socket or device"
    BROKEN_LINK = "broken link"
    LOOP = "link to a folder above"
    TWICE = "link to a folder of the same class"
    EMPTY = "folder without images"
    UNUSED = "image"


@dataclass(frozen=True)
class Passed:
    """What is passed over: a file, or a folder with all that is in it.

    below: its path (POSIX, below the folder that was given).  pictures: in it, where it is a folder that is not used.
    """

    reason: Reason
    below: str
    pictures: int = 0


@dataclass(frozen=True)
class _Entry:
    """A folder within a folder."""

    name: str
    link: bool


@dataclass(frozen=True)
class _Content:
    """Of one folder, by names: its pictures, its other files, its folders, and what else is passed over."""

    pictures: tuple[str, ...]
    others: tuple[str, ...]
    folders: tuple[_Entry, ...]
    passed: tuple[tuple[str, Reason], ...]


@dataclass(frozen=True)
class Folder:
    """A folder as a path leads to it.

    below: that path (POSIX, below the listing's root, "" for itself).  above: the folders that it passes through.
    """

    path: Path
    below: str
    identity: Identity
    link: bool = False
    above: tuple[Identity, ...] = ()

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.name


@dataclass(frozen=True)
class Found:
    """All that is in a folder and the folders below it.

    pictures: paths below the listing's root, sorted.  visited: the folders, each with its path.
    """

    pictures: list[str]
    passed: list[Passed]
    visited: dict[Identity, str]


class Listing:
    """The folders at and below `root`, listed when they are asked for.

    All methods raise UserError where a folder cannot be listed, or a picture or folder is a link to nothing.
    """

    def __init__(self, root: Path) -> None:
        self.root = Folder(root, "", _identity(root))
        self._content: dict[Identity, _Content] = {}
        self._outside = {_identity(parent) for parent in root.resolve().parents}

    def pictures(self, folder: Folder) -> list[str]:
        """Paths below the root of the pictures that lie directly in a folder."""
        return sorted((_below(folder, name) for name in self._of(folder).pictures), key=order)

    def folders(self, folder: Folder) -> list[Folder]:
        """The folders that lie directly in a folder, sorted. Links to a folder above are none."""
        return [found for found in self._within(folder) if not self._is_loop(found)]

    def passed(self, folder: Folder) -> list[Passed]:
        """What lies directly in a folder and is neither a picture nor a folder of data."""
        content = self._of(folder)
        loops = [Passed(Reason.LOOP, found.below) for found in self._within(folder) if self._is_loop(found)]
        named = [*content.passed, *((name, Reason.OTHER) for name in content.others)]
        return [*(Passed(reason, _below(folder, name)) for name, reason in named), *loops]

    def has_pictures(self, folder: Folder) -> bool:
        """Whether a picture lies in a folder or anywhere below it."""
        seen, todo = {folder.identity}, [folder]
        while todo:
            here = todo.pop()
            if self._of(here).pictures:
                return True
            for found in self.folders(here):
                if found.identity not in seen:
                    seen.add(found.identity)
                    todo.append(found)
        return False

    def below(self, folder: Folder) -> Found:
        """All that is in a folder and below it.

        Of several paths that lead to the same folder one is followed, one without links where there is one.
        """
        found = Found([], [], {folder.identity: folder.below})
        todo, links = [folder], deque[Folder]()
        while todo or links:
            here = todo.pop() if todo else links.popleft()
            if here.link and here is not folder:
                if here.identity in found.visited:
                    found.passed.append(Passed(Reason.TWICE, here.below))
                    continue
                found.visited[here.identity] = here.below
            found.pictures.extend(_below(here, name) for name in self._of(here).pictures)
            found.passed.extend(self.passed(here))
            for one in self.folders(here):
                if not self.has_pictures(one):
                    found.passed.append(Passed(Reason.EMPTY, one.below))
                elif one.link:
                    links.append(one)
                elif one.identity in found.visited:
                    found.passed.append(Passed(Reason.TWICE, one.below))
                else:
                    found.visited[one.identity] = one.below
                    todo.append(one)
        found.pictures.sort(key=order)
        return found

    def _of(self, folder: Folder) -> _Content:
        if folder.identity not in self._content:
            self._content[folder.identity] = _scan(folder.path)
        return self._content[folder.identity]

    def _within(self, folder: Folder) -> Iterator[Folder]:
        above = (*folder.above, folder.identity)
        for entry in self._of(folder).folders:
            path = folder.path / entry.name
            yield Folder(path, _below(folder, entry.name), _identity(path), entry.link, above)

    def _is_loop(self, folder: Folder) -> bool:
        return folder.identity in folder.above or folder.identity in self._outside


def walk(path: Path) -> Iterator[Path]:
    """All files at or below a path, through links; what is hidden or of the system, pipes and devices left out.

    Raises UserError as a listing does.
    """
    if path.is_file():
        yield path
    elif path.is_dir():
        listing = Listing(path)
        todo = [listing.root]
        while todo:
            folder = todo.pop()
            content = listing._of(folder)
            yield from (folder.path / name for name in (*content.pictures, *content.others))
            todo += listing.folders(folder)


def _below(folder: Folder, name: str) -> str:
    return f"{folder.below}/{name}" if folder.below else name


def _identity(path: Path) -> Identity:
    try:
        found = path.stat()
    except OSError as error:
        _refuse(path, error)
    return found.st_dev, found.st_ino


def unreadable(path: Path, error: OSError, otherwise: str) -> UserError:
    """The error for a file or folder of data that cannot be read. otherwise: what else may be done with it."""
    reason = (error.strerror or str(error)).lower()
    right = "give yourself the right to read it, or " if isinstance(error, PermissionError) else ""
    return UserError(f"cannot read {path} ({reason})", f"{right}{otherwise}")


def _refuse(path: Path, error: OSError) -> NoReturn:
    raise unreadable(path, error, "move it out of the folder") from error


def _scan(path: Path) -> _Content:
    """List one folder."""
    pictures: list[str] = []
    others: list[str] = []
    folders: list[_Entry] = []
    passed: list[tuple[str, Reason]] = []
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                name = entry.name
                if is_hidden(name):
                    hidden = Reason.HIDDEN_FOLDER if entry.is_dir(follow_symlinks=False) else Reason.HIDDEN_FILE
                    passed.append((name, hidden))
                elif is_system(name):
                    passed.append((name, Reason.SYSTEM))
                elif (kind := _kind(entry)) is None:
                    passed.append((name, Reason.BROKEN_LINK))
                elif stat.S_ISDIR(kind):
                    folders.append(_Entry(name, entry.is_symlink()))
                elif not stat.S_ISREG(kind):
                    passed.append((name, Reason.SPECIAL))
                elif is_picture(name):
                    pictures.append(name)
                else:
                    others.append(name)
    except OSError as error:
        _refuse(path, error)
    folders.sort(key=lambda entry: order(entry.name))
    return _Content(tuple(pictures), tuple(others), tuple(folders), tuple(passed))


def _kind(entry: os.DirEntry[str]) -> int | None:
    """The file type (as in st_mode) that an entry is or links to; None for a link to nothing that matters."""
    try:
        if not entry.is_symlink():  # told by the folder: no further look at the disk
            if entry.is_file(follow_symlinks=False):
                return stat.S_IFREG
            if entry.is_dir(follow_symlinks=False):
                return stat.S_IFDIR
        return stat.S_IFMT(entry.stat().st_mode)
    except OSError as error:
        path = Path(entry.path)
        if not entry.is_symlink() or error.errno not in (errno.ENOENT, errno.ELOOP, errno.ENOTDIR):
            _refuse(path, error)
        if not is_picture(path) and re.fullmatch(r"\.\w{1,5}", path.suffix):
            return None
        raise UserError(
            f"{path} is a broken link (to {path.readlink()}); bring back what it leads to, or remove the link"
        ) from error
