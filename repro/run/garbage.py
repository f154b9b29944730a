"""`repro gc`: lists the files of a workspace that are no longer needed, why, and their size; `--delete` deletes them.

Records, boards, logs and pictures stay, whatever happens. So does all that a task which is queued or running, or
that `retry` could do again, reads or writes: its own files, its parents' encoders and features, its code. What is taken
away is either never read again or made anew by the run that needs it.
"""

from __future__ import annotations

import shutil
import time
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from repro.errors import UserError
from repro.plan import kinds
from repro.plan.fingerprints import fingerprint_of
from repro.plan.tasks import TARGET
from repro.run import task_states
from repro.run.tune import FOLDER as TUNING
from repro.settings import Settings
from repro.store import records
from repro.store.job import Job
from repro.store.source_hash import source_hash
from repro.store.workspace import Workspace
from repro.terminal import text

_OLD = 3600.0  # seconds without a change after which nobody can be writing a file
_LARGE = ("[!.]*.pt*", "*.npy")


@dataclass(frozen=True)
class Item:
    """Files or folders that may go, what they are, and why that is safe."""

    what: str
    paths: tuple[Path, ...]
    why: str

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(map(size, self.paths))


def clean(settings: Settings, delete: bool) -> str:
    """What can be deleted, and with `delete` that it was; returns what to print."""
    place = Workspace.existing(settings.workspace)
    found = [(item, item.size) for item in items(place)]
    rows = [[_named(item, place), item.what, text.size(size), item.why] for item, size in found]
    lines = [text.table(rows, ["in the workspace", "what", "size", "why it can go"]), ""] if rows else []
    total = f"{text.size(sum(size for _, size in found))} in {sum(len(item.paths) for item, _ in found)} places"
    if not found:
        lines.append(f"nothing to delete in {place.root}")
    elif delete:
        for item, _ in found:
            for path in item.paths:
                _delete(path)
        lines.append(f"deleted {total}")
    else:
        lines.append(f"{total}; to delete them, add --delete to the command")
    if unfinished := sum(state.lost for state in task_states.states(place)):
        lines.append(f"kept: all files of {unfinished} unfinished tasks, which python -m repro retry can run again")
    if (tuning := place.root / TUNING).is_dir():
        lines.append(
            f"not touched: {tuning}, {text.size(size(tuning))}, the trials of tune (a workspace of its own:"
            f" python -m repro gc --workspace {tuning})"
        )
    return "\n".join(lines)


def items(place: Workspace) -> list[Item]:
    """All that may go. UserError where SLURM has jobs of this workspace and does not answer."""
    submitted = task_states.states(place)
    open_ones = [state for state in submitted if state.live or state.lost]
    jobs = _known_jobs(place)
    used = set[str]()  # fingerprints
    todo = [job["fingerprint"] for state in open_ones for job in state.task.args.get("jobs", ())]
    while todo:
        fingerprint = todo.pop()
        if fingerprint not in used:
            used.add(fingerprint)
            todo += jobs[fingerprint].parents if fingerprint in jobs else ()
    found = [
        *_of_jobs(place, jobs, used),
        *_leftovers(place, any(state.live for state in submitted)),
        *_wrong_downloads(place),
        *_snapshots(place, {Path(state.entry.code).name for state in open_ones}),
    ]
    for path in (path for item in found for path in item.paths):
        assert path.name.startswith(".") or not {place.records, place.boards} & {path, *path.parents}
    return found


def _known_jobs(place: Workspace) -> dict[str, Job]:
    """Every job that a task of this workspace was ever started for, by fingerprint."""
    from slurm.folder import read_task

    found: dict[str, Job] = {}
    for path in sorted((place.processes / "nodes").glob("*.json")):
        task = read_task(path)
        if task.target == TARGET:
            found |= {job.fingerprint: job for job in map(Job.from_json, task.args["jobs"])}
    return found


def _of_jobs(place: Workspace, jobs: Mapping[str, Job], used: set[str]) -> Iterator[Item]:
    kept = {fingerprint[:16] for fingerprint in used}
    done = {record["fingerprint"][:16]: record for record in records.read_all(place.records)[0]}
    known = {fingerprint[:16]: job for fingerprint, job in jobs.items()}
    recorded = records.known_fingerprints(place.records)
    for folder in sorted((place.root / "jobs").glob("*")):
        name = folder.name
        if name in kept or not folder.is_dir():
            continue
        record = done.get(name)
        if record is None:
            paths = _files(folder, *_LARGE)
            if name not in known and name[:12] not in recorded and paths and not any(map(_fresh, paths)):
                yield Item("unfinished", paths, "no record, and no task of this workspace will write one")
            continue
        label = f"{record['kind']} {record['method']}{':' * bool(record['variant'])}{record['variant']}"
        label += f" seed {record['seed']}"
        if paths := _files(folder, *kinds.KINDS[record["kind"]].scratch):
            yield Item(f"checkpoint of {label}", paths, "its record is written: no job continues from it")
        encoder = folder / "encoder.pt"
        if encoder.is_file() and not zipfile.is_zipfile(encoder):
            yield Item(f"encoder of {label}", (encoder,), "damaged: a run that needs it trains it again")
        elif encoder.is_file() and name in known and _superseded(known[name]):
            why = "made by older code: a new run trains another one; its record is kept"
            yield Item(f"encoder of {label}", (encoder, *_files(folder, "encoder.pt.prev")), why)
        if paths := _files(folder, "reid_*.npy"):
            yield Item(f"re-ID features of {label}", paths, "a run that needs them extracts them again")
        if record["kind"] == "features" and (paths := _files(folder, "*.npy", "meta.json")):
            whole = kinds.KINDS["features"].has_output(place, record["fingerprint"])
            why = "all jobs that read it have their records" if whole else "damaged, or of another encoder"
            yield Item(label, paths, f"{why}; a run that needs it extracts it again")


def _superseded(job: Job) -> bool:
    """Whether today's code gives this job another fingerprint; False where its method is not to be found here."""
    if job.module and source_hash(job.module.rpartition(":")[0]) == source_hash():
        return False
    return fingerprint_of(job) != job.fingerprint


def _leftovers(place: Workspace, live: bool) -> Iterator[Item]:
    """Temporary files and folders of tasks that died while they wrote."""
    if live:  # their names do not tell whose they are
        return
    patterns = (
        (place.root, (".probe-*", ".calibration.json.*", "calibration-*", "doctor/*")),
        (place.records, (".record.*",)),
        (place.boards, (".*",)),
        (place.root / "jobs", ("*/.*",)),
        (place.code, (".*",)),
        (place.data, ("**/*.part",)),  # a download, *.partial, goes on from where it stopped
        (place.processes, ("*/*.tmp", "*/.*.tmp")),
    )
    for folder, globs in patterns:
        paths = tuple(path for path in _files(folder, *globs) if not _fresh(path))
        if paths:
            why = "not changed for an hour, and no task runs: what wrote it has ended"
            yield Item("temporary files", paths, why)


def _wrong_downloads(place: Workspace) -> Iterator[Item]:
    """What came in place of a published file, and was kept to be looked at."""
    for path in _files(place.data, "downloads/*.wrong"):
        yield Item("download", (path,), "it is not the published file")


def _snapshots(place: Workspace, used: set[str]) -> Iterator[Item]:
    for folder in sorted(place.code.glob("[0-9a-f]*")):
        if folder.name not in used and not _fresh(folder):
            yield Item("code", (folder,), "no task that can still run uses it")


def _files(folder: Path, *patterns: str) -> tuple[Path, ...]:
    return tuple(dict.fromkeys(path for pattern in patterns for path in sorted(folder.glob(pattern))))


def _fresh(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime < _OLD
    except FileNotFoundError:  # whoever wrote it is alive
        return True


def size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    try:
        if not path.is_dir() or path.is_symlink():
            return path.lstat().st_size
        return sum(map(size, path.iterdir()))
    except FileNotFoundError:
        return 0


def _named(item: Item, place: Workspace) -> str:
    first = item.paths[0].relative_to(place.root).as_posix()
    return first + (f" and {len(item.paths) - 1} more" if len(item.paths) > 1 else "")


def _delete(path: Path) -> None:
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot delete {path} ({error.strerror}); the files listed before it are deleted") from None
