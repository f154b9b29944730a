"""How it stands with a data set: whether it is here, what is missing, and what of that may be downloaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from repro.data import download
from repro.data.data_sets import Entry, entry_of
from repro.data.download import Download
from repro.data.origins import ORIGINS
from repro.data.types import MissingData
from repro.errors import UserError
from repro.settings import Where


@dataclass(frozen=True)
class Standing:
    """How it stands with one data set.

    place: where it is; None where it is missing.  missing: why, and how to get it.  download: what may be downloaded.
    """

    entry: Entry
    place: Path | None
    missing: MissingData | None
    download: Download | None


def of(name: str, where: Where) -> Standing:
    """How it stands with the data set of that name. Raises UserError for an unknown name."""
    entry = entry_of(name)
    origin = ORIGINS[entry.origin]
    try:
        return Standing(entry, origin.find(entry, where), None, origin.download(entry, where))
    except MissingData as error:
        return Standing(entry, None, error, origin.download(entry, where))


def spoilt(found: Standing, where: Where) -> str:
    """One line where a data set that may be downloaded is there, but not as published; "" otherwise."""
    if found.place is None or found.download is None:
        return ""
    sums = ORIGINS[found.entry.origin].published_sums(found.entry, where)
    return (sums and sums[1]) or ""


def keep_as_wrong(found: Standing, where: Where) -> Path:
    """Rename an archive that is not as published to NAME.wrong; returns that.

    Raises UserError where it cannot be renamed, or where it is what was unpacked that is not as published.
    """
    assert found.place is not None and found.download is not None
    archive = found.place / found.download.target.name
    if archive.is_file() and download.file_md5(archive) != found.download.md5:
        try:
            return download.put_aside(archive)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise UserError(
                f"{archive} does not have the published md5, and cannot be put aside ({reason})",
                "delete it, then try again",
            ) from None
    raise UserError(spoilt(found, where))
