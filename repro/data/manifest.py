"""What a data set's content is, as one hash, and whether the files still are what they were.

The manifest is the sha256 over the sorted lines "sha256-of-file  path" (the form of a SHA256SUMS file), so it is the
same on every machine. Data sets too large to be read for a hash take "size  path" for their pictures. As reading takes
time, the result is kept in the cache beside a signature (names, sizes and times of change) that must still hold.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from repro.data import decoding
from repro.data.listing import unreadable, walk
from repro.data.names import composed, is_picture
from repro.data.types import Progress
from repro.errors import UserError
from repro.store import atomic
from slurm.files import write_atomic
from slurm.machine import cores_here

SUMS = "SHA256SUMS"
T = TypeVar("T")


@dataclass(frozen=True)
class Tree:
    """The files that make up a data set: every file below `root / part` for each part (a part may be a file).

    huge: too many files to be looked at one by one for each plan; then folders' times of change have to do as
    signature, and sizes instead of hashes as manifest (`verify` still reads the files).
    names: if given, these files alone (POSIX, below the root, sorted), pictures that must not be empty.
    notes: what else makes it up, in a text each.
    """

    root: Path
    parts: tuple[str, ...]
    huge: bool = False
    names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()


def file_sha256(path: Path) -> str:
    """sha256 of a file's content, hex. Raises UserError where it cannot be read."""
    try:
        with path.open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from error


def text_sha256(*parts: str) -> str:
    """sha256 over strings, hex; the parts are kept apart."""
    return hashlib.sha256("\0".join(parts).encode(errors="surrogateescape")).hexdigest()


def manifest(tree: Tree, cache: Path) -> str:
    """The manifest of a tree (64 hex digits), from the cache where nothing has changed since it was taken."""
    return str(_kept(tree, cache, False)["manifest"])


def decoded_anew(tree: Tree, cache: Path) -> bool:
    """Whether a picture of the tree is decoded otherwise than in version 1 of our packs (`decoding.decoded_anew`).

    From the cache as `manifest`. Huge trees are not read, so nothing is known of theirs: False.
    """
    return bool(_kept(tree, cache, True)["anew"])


def manifest_and_anew(tree: Tree, cache: Path) -> tuple[str, bool]:
    """`manifest` and `decoded_anew` by one look at the files."""
    known = _kept(tree, cache, True)
    return str(known["manifest"]), bool(known["anew"])


def _kept(tree: Tree, cache: Path, look: bool) -> dict[str, Any]:
    """What is known of a tree, kept in the cache. look: also whether a picture is decoded anew."""
    signature = _signature(tree)
    place = text_sha256(str(tree.root.resolve()), *tree.parts)[:16]
    kept = cache / "manifests" / f"{place}.json"
    known: dict[str, Any] = {"root": str(tree.root), "signature": signature}
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        last = json.loads(kept.read_text())
        if last["signature"] == signature:
            known |= {key: last[key] for key in ("manifest", "anew") if key in last}
    if "manifest" in known and (not look or "anew" in known):
        return known
    if look and not tree.huge:
        names = files(tree)
        seen = list(parallel(lambda name: _look(tree.root / name), names))  # each file is read once for both
        marks = [(name, value) for name, (value, _) in zip(names, seen, strict=True)]
        known["anew"] = any(anew for _, anew in seen)
    else:
        marks = _marks(tree)
        known |= {"anew": False} if look else {}
    # On macOS a name has another form of Unicode than elsewhere. What has been published keeps its names as they are.
    form = (lambda name: name) if tree.names is None else composed
    known["manifest"] = text_sha256(*(f"{mark}  {form(name)}" for name, mark in marks), *tree.notes)
    with contextlib.suppress(OSError):  # a cache that cannot be written only costs time
        write_atomic(kept, json.dumps(known))
    return known


def _look(path: Path) -> tuple[str, bool]:
    """The sha256 of a file, and whether it is a picture that is decoded anew."""
    if not is_picture(path):
        return file_sha256(path), False
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error
    return hashlib.sha256(content).hexdigest(), decoding.decoded_anew(content)


def files(tree: Tree) -> list[str]:
    """Paths below the root, sorted, POSIX; hidden files and folders left out."""
    if tree.names is not None:
        return [*tree.names]
    found = (path for part in tree.parts for path in walk(tree.root / part))
    return sorted(path.relative_to(tree.root).as_posix() for path in found)


def _signature(tree: Tree) -> str:
    lines = []
    if tree.huge:
        for part in tree.parts:
            top = tree.root / part
            if top.is_file():
                lines.append(f"{part} {top.stat().st_size} {top.stat().st_mtime_ns}")
            elif top.is_dir():
                lines.append(f"{part} {top.stat().st_mtime_ns}")
                with os.scandir(top) as entries:
                    lines += sorted(f"{part}/{e.name} {e.stat().st_mtime_ns}" for e in entries if e.is_dir())
    else:
        for name in files(tree):
            try:
                stat = (tree.root / name).stat()
            except OSError as error:
                raise _unreadable(tree.root / name, error) from error
            if tree.names is not None and not stat.st_size:
                raise UserError(f"cannot decode {tree.root / name} (it is empty); replace or remove that image")
            lines.append(f"{name} {stat.st_size} {stat.st_mtime_ns}")
    return text_sha256(*lines, *tree.notes)


def _unreadable(path: Path, error: OSError) -> UserError:
    return unreadable(path, error, "remove that file")


def _marks(tree: Tree) -> list[tuple[str, str]]:
    names = files(tree)
    if tree.huge:
        # a part that is a file (annotations) is worth reading
        sizes = {name: str((tree.root / name).stat().st_size) for name in names if name not in tree.parts}
        return [(name, sizes.get(name) or file_sha256(tree.root / name)) for name in names]
    return [*zip(names, _hashes(tree.root, names), strict=True)]


def parallel(work: Callable[[str], T], names: Sequence[str]) -> Iterator[T]:
    """work(name) for each name, in order, on all cores: for work that lets go of the interpreter lock.

    In blocks, so that whoever stops at the first bad file does not wait for all the others.
    """
    with ThreadPoolExecutor(cores_here()) as pool:
        for start in range(0, len(names), 512):
            yield from pool.map(work, names[start : start + 512])


def _hashes(root: Path, names: Sequence[str]) -> Iterator[str]:
    return parallel(lambda name: file_sha256(root / name), names)


def read_sums(path: Path) -> dict[str, str]:
    """{path: sha256} of a SHA256SUMS file. Raises UserError where a line is not of that form.

    As `sha256sum` has it, a line that begins with a backslash names a file with escapes for line feed and backslash.
    """
    sums = {}
    try:
        lines = path.read_bytes().decode(errors="surrogateescape").removesuffix("\n").split("\n")
    except OSError as error:
        raise _unreadable(path, error) from error
    for number, line in enumerate((line.removesuffix("\r") for line in lines if line), 1):
        plain = line.removeprefix("\\")
        value, gap, name = plain[:64], plain[64:66], plain[66:]
        if line.startswith("\\"):
            name = re.sub(r"\\([\\nr])", lambda found: {"\\": "\\", "n": "\n", "r": "\r"}[found[1]], name)
        if len(value) != 64 or gap not in ("  ", " *") or not name:
            raise UserError(
                f"{path}, line {number}, is not 'sha256  file': {line[:80]!r}", "correct or delete the line"
            )
        sums[name] = value
    return sums


def write_sums(tree: Tree, path: Path) -> None:
    """Write the SHA256SUMS file of a tree."""
    names = files(tree)
    lines = [_sum_line(n, h) for n, h in zip(names, _hashes(tree.root, names), strict=True)]
    atomic.replace(path, lambda stream: stream.write("".join(lines).encode(errors="surrogateescape")))


def _sum_line(name: str, value: str) -> str:
    escaped = name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    mark = "" if escaped == name else "\\"
    return f"{mark}{value}  {escaped}\n"


def check(tree: Tree, sums: dict[str, str], progress: Progress) -> str | None:
    """One line naming the first file of the tree that is missing, changed or not listed in `sums`, or None."""
    names = files(tree)
    unlisted = sorted(set(names) - set(sums))
    # a list may also name what is no data (a licence, an index): looked at where it exists
    for name in sorted(set(sums) - set(names)):
        within = any(PurePosixPath(name).is_relative_to(part) for part in tree.parts)
        if within and (tree.names is None or not (tree.root / name).exists()):
            return f"{tree.root / name} is missing"
    if unlisted:
        return f"{tree.root / unlisted[0]} is not in the list of files ({len(unlisted)} such)"
    for done, (name, value) in enumerate(zip(names, _hashes(tree.root, names), strict=True), 1):
        if value != sums[name]:
            return f"{tree.root / name} is not what it was (sha256 {value[:12]}..., listed {sums[name][:12]}...)"
        progress(done, len(names), {"what": name})
    return None
