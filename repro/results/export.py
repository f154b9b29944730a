"""`repro records --to ...`: records for other programs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from leaderboards import published
from repro.errors import UserError, unknown
from repro.results import find_records
from repro.results.export_latex import write_latex
from repro.results.export_model_index import write_model_index
from repro.results.export_tables import write_csv, write_parquet
from repro.settings import Settings
from repro.store import records
from repro.store.records import Record
from repro.store.workspace import Workspace


def export(
    to: str, out: Path, methods: Sequence[str] | None, track: str | None, published_ones: bool, settings: Settings
) -> str:
    """Write the chosen records to `out`; returns what to tell the user.

    Args:
        to: csv, parquet, latex or model-index.
        methods: NAME or NAME:VARIANT; None for all.
        published_ones: the repository's records instead of the workspace's.

    Raises:
        UserError: unknown format, method or track; no record; no engine for Parquet; a file that cannot be written.
    """
    if to not in _FORMATS:
        raise unknown("format", to, _FORMATS)
    if published_ones:
        place = published.records_folder(published.FOLDER)
        every, faults = records.read_published(place)
    else:
        place = Workspace(settings.workspace).records
        every, faults = records.read_all(place)
    chosen = find_records.choose(every, methods, track)
    if not chosen:
        raise UserError(f"no record in {place} fits; see python -m repro status")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        said = _FORMATS[to](chosen, every, out)
    except OSError as error:
        raise UserError(f"cannot write {out} ({error.strerror or error}); choose another file with --out") from None
    return "\n".join([*(f"skipped: {fault}" for fault in faults), f"wrote {out}: {said}"])


_FORMATS: dict[str, Callable[[Sequence[Record], Sequence[Record], Path], str]] = {
    "csv": write_csv,
    "parquet": write_parquet,
    "latex": write_latex,
    "model-index": write_model_index,
}
