"""`repro verify`: whether records and published boards are in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from leaderboards import published, record_files
from repro.results import find_records, readmes
from repro.results.record_checks import contradictions, known_short
from repro.results.suite import suite
from repro.settings import Settings
from repro.store import records
from repro.store.records import Record

NOT_RECOMPUTED = (
    "top-5; mAP, mINP and AP within their bounds; accuracy with few labels of a single draw; spread and norm of"
    " features; losses; operations an image; CPU seconds and time within their bounds; memory; code, packages, device"
)


def verify(settings: Settings) -> tuple[str, int]:
    """Check every record and every published board; returns what to print and how many faults there are."""
    place = find_records.read_from(settings).records
    mine, faults = records.read_all(place)
    theirs, damaged = find_records.published_records()
    faults += [
        f"{place / records.file_name(record)}: the file has another name than its record says"
        for record in mine
        if not (place / records.file_name(record)).is_file()
    ]
    told = [_told(mine, lambda record: f"{place / records.file_name(record)}")]
    folder = published.records_folder(published.FOLDER)
    told.append(_told(theirs, lambda record: f"{folder / record_files.address(record)}"))
    faults += [*damaged, *(fault for found, _ in told for fault in found)]
    if damaged:
        faults.append("the boards are not compared with the records, which are damaged")
    else:
        try:
            faults += published.drift(suite(), published.FOLDER)
            faults += readmes.drift(published.FOLDER.parent, theirs, suite())
        except ValueError as error:
            faults.append(f"the boards are not compared with the records: {error}")
    notes = [note for _, found in told for note in found]
    counts = f"{len(mine)} workspace and {len(theirs)} published records"
    said = f"{counts}: {len(faults) or 'no'} fault{'' if len(faults) == 1 else 's'}"
    return "\n".join([*faults, *notes, f"not recomputed: {NOT_RECOMPUTED}", said]), len(faults)


def _told(found: Sequence[Record], where: Callable[[Record], str]) -> tuple[list[str], list[str]]:
    """The faults of one folder's records, and what else there is to say of them."""
    faults = [f"{where(record)}: {fault}" for record, fault in contradictions(found)]
    short = [where(record) for record in found if known_short(record)]
    return faults, [f"note: {name}: wall and CPU seconds are of its last attempt alone" for name in short]
