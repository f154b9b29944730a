"""One file from the internet: whole, as published and in its place, or not there at all.

What has come so far lies beside the place as NAME.partial; the next try goes on from there, in this command or a later
one. Neither torchvision's downloader nor pooch's does that. Proxies are taken from the environment (`https_proxy`).
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, build_opener

from repro.data.types import Progress, quiet
from repro.errors import UserError
from repro.terminal.text import size
from slurm.files import try_lock

PATIENCE = 30.0  # seconds without a byte, after which a connection is given up
TRIES = 3  # in a row that bring nothing more
PAUSE = 2.0  # seconds between them
_CHUNK = 1 << 18


@dataclass(frozen=True)
class Download:
    """A file that may be downloaded.

    url: where from.  target: the file that it becomes.  bytes, md5: of the whole, as published.
    """

    url: str
    target: Path
    bytes: int
    md5: str

    @property
    def part(self) -> Path:
        """What has come so far."""
        return self.target.with_name(f"{self.target.name}.partial")


class _Cut(Exception):
    """The connection ended early: the rest may come by another one."""


def file_md5(path: Path) -> str:
    """md5 of a file's content, hex: no protection, but what the authors of CIFAR publish."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "md5").hexdigest()


def put_aside(path: Path) -> Path:
    """Rename a file that is not the published one to NAME.wrong; returns that."""
    return path.replace(path.with_name(f"{path.name.removesuffix('.partial')}.wrong"))


def fetch(what: Download, progress: Progress = quiet) -> None:
    """Bring a file into its place. Of several processes that want it one downloads, the others wait for it.

    progress: (bytes that are there, bytes of the whole, {}).
    Raises UserError with the address, and the place where a file fetched by hand must go.
    """
    try:
        what.target.parent.mkdir(parents=True, exist_ok=True)
        with _alone(what, progress):
            if what.target.exists():  # another process brought it
                return
            _fill(what, progress)
            if (found := file_md5(what.part)) != what.md5:
                wrong = put_aside(what.part)
                raise _failed(what, f"the file has md5 {found}, not the published {what.md5}; it is kept as {wrong}")
            what.part.replace(what.target)
    except OSError as error:
        place, reason = error.filename or what.part, (error.strerror or str(error)).lower()
        raise UserError(
            f"cannot write {place} ({reason}){_kept(what)}",
            f"free some space, or choose another place with --data-root or --workspace, or {_by_hand(what)}",
        ) from None


def _failed(what: Download, reason: str) -> UserError:
    return UserError(
        f"cannot download {what.url} ({reason}){_kept(what)}", f"run the command again, or {_by_hand(what)}"
    )


def _kept(what: Download) -> str:
    have = _length(what.part)
    return f", {size(have)} of {size(what.bytes)} are kept for the next try" if have else ""


def _by_hand(what: Download) -> str:
    return f"download {what.url} with a browser and put it at {what.target}"


def _length(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


@contextmanager
def _alone(what: Download, progress: Progress) -> Iterator[None]:
    """Hold the lock of a download. Meanwhile `progress` tells how far another process has come."""
    try:
        while (lock := try_lock(what.target.with_name(f".{what.target.name}.lock"))) is None:
            progress(_length(what.part), what.bytes, {})
            time.sleep(0.2)
    except ValueError as error:  # no locks there
        raise UserError(str(error), f"or {_by_hand(what)}") from None
    try:
        yield
    finally:
        os.close(lock)


def _fill(what: Download, progress: Progress) -> None:
    """Make `what.part` whole, by as many connections as bring more of it. Raises UserError, OSError of the disk."""
    most, idle = _length(what.part), 0
    while most < what.bytes:
        try:
            _stream(what, progress)
        except _Cut as cut:
            have = _length(what.part)
            idle = 0 if have > most else idle + 1
            if idle >= TRIES:
                raise _failed(what, str(cut)) from None
            time.sleep(PAUSE)
        most = max(most, _length(what.part))
    with what.part.open("r+b") as file:
        os.fsync(file.fileno())


def _stream(what: Download, progress: Progress) -> None:
    """Write what one connection brings, from where `what.part` ends. Raises _Cut, UserError, OSError of the disk."""
    have = _length(what.part)
    with _connect(what, have) as answer:
        # A server may know no ranges: then all comes again, over what is there, and nothing of that is given up.
        done = have if answer.status == 206 else 0
        if answer.length is not None and done + answer.length != what.bytes:
            raise _failed(what, f"it has {done + answer.length:,} bytes there, the published file {what.bytes:,}")
        with os.fdopen(os.open(what.part, os.O_WRONLY | os.O_CREAT, 0o666), "wb") as file:  # nothing is cut off
            file.seek(done)
            while done < what.bytes:
                if not (chunk := _read(answer)):
                    raise _Cut(f"the connection ended after {size(done)} of {size(what.bytes)}")
                file.write(chunk)
                done += len(chunk)
                progress(min(done, what.bytes), what.bytes, {})


def _connect(what: Download, have: int) -> Any:
    """The open answer of the server. Raises _Cut, or UserError where another try would be of no use."""
    headers = {"User-Agent": "repro"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        answer = build_opener().open(Request(what.url, headers=headers), timeout=PATIENCE)
    except HTTPError as error:
        error.close()
        if error.code == 416 and have:  # it has less than we do: what we have is of another file
            return _connect(what, 0)
        if error.code == 429 or error.code >= 500:  # busy: it may answer the next time
            raise _Cut(f"the server says {error.code} {error.reason}") from None
        raise _failed(what, f"the server refuses it: {error.code} {error.reason}") from None
    except TimeoutError:
        raise _failed(what, f"no answer for {PATIENCE:g} s") from None
    except URLError as error:
        late = isinstance(error.reason, TimeoutError)
        raise _failed(what, f"no answer for {PATIENCE:g} s" if late else f"no connection: {error.reason}") from None
    except (OSError, HTTPException) as error:
        raise _Cut(f"the connection ended before an answer: {error}") from None
    if answer.status == 206 and not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
        answer.close()  # another part than was asked for
        return _connect(what, 0)
    return answer


def _read(answer: Any) -> bytes:
    """What has come since, b"" at the end. Raises _Cut."""
    try:
        return bytes(answer.read1(_CHUNK))
    except TimeoutError:
        raise _Cut(f"no data for {PATIENCE:g} s") from None
    except (OSError, HTTPException) as error:
        raise _Cut(f"the connection was cut: {error}") from None
