"""What was given to an executor, in lines of JSON, and the state that follows from all lines.

planned      keys of a submission, before anything of it is handed over
submitting   a batch, before its sbatch        dropped   it did not get in, or was taken back
submitted    its job numbers, after it
started      a run of the local executor

Lines of older versions are read too: their keys stay, `nodes` for tasks among them.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from slurm.files import lock_soon
from slurm.folder import Folder
from slurm.graph import Task
from slurm.profile import Profile
from slurm.scheduler import user


@dataclass
class Entry:
    """The last submission of a task.

    Attributes:
        code: folder that its modules come from, empty where that was not fixed.
        run: the run of the local executor it belongs to, empty on SLURM.
        job: SLURM's number ("7", "7_2"), empty until known.
        owner: who submitted it to SLURM, empty where that was not written down.
    """

    digest: str
    time: float
    code: str = ""
    run: str = ""
    job: str = ""
    cancelled: bool = False
    profile: Mapping[str, Any] = field(default_factory=dict)
    owner: str = ""


class Journal:
    """The journal of a folder; every line is on the disk before the call that writes it returns."""

    def __init__(self, place: Folder) -> None:
        self.path = place.journal
        self.entries: dict[str, Entry] = {}  # by key, in the order of submission: parents before their children
        self.open: dict[str, str] = {}  # batches whose sbatch was begun and not seen to end: who began it
        if self.path.exists():
            for line in self.path.read_text(encoding="utf-8").splitlines():
                # Blank, or cut short by a death before what it announced.
                with contextlib.suppress(json.JSONDecodeError):
                    self._apply(json.loads(line))

    def planned(self, tasks: Iterable[Task], code: str, profile: Profile) -> None:
        self._write(event="planned", nodes=_digests(tasks), code=code, profile=asdict(profile), owner=user())

    def submitting(self, name: str, tasks: Iterable[Task]) -> None:
        self._write(event="submitting", name=name, nodes=_digests(tasks), owner=user())

    def submitted(self, name: str, jobs: Mapping[str, str]) -> None:
        self._write(event="submitted", name=name, jobs=jobs)

    def dropped(self, name: str) -> None:
        self._write(event="dropped", name=name)

    def cancelled(self, keys: Iterable[str]) -> None:
        self._write(event="cancelled", keys=list(keys))

    def started(self, run: str, tasks: Iterable[Task], code: str) -> None:
        self._write(event="started", run=run, nodes=_digests(tasks), code=code)

    def _write(self, **entry: Any) -> None:
        entry["time"] = time.time()
        with self.path.open("ab", buffering=0) as file:
            # Two runs may write at once, and not every shared file system appends a long line in one piece.
            lock_soon(file.fileno(), self.path)
            # The line break comes first, so that a line cut short by death spoils no other.
            file.write(("\n" + json.dumps(entry)).encode())
            os.fsync(file.fileno())
        self._apply(entry)

    def _apply(self, said: dict[str, Any]) -> None:
        match said["event"]:
            case "planned" | "started":
                for key, digest in said["nodes"].items():
                    self.entries.pop(key, None)  # to the end
                    self.entries[key] = Entry(
                        digest,
                        said["time"],
                        said["code"],
                        said.get("run", ""),
                        profile=said.get("profile", {}),
                        owner=said.get("owner", ""),
                    )
            case "submitting":
                self.open[said["name"]] = said.get("owner", "")
            case "submitted":
                self.open.pop(said["name"], None)
                for key, job in said["jobs"].items():
                    self.entries[key].job = job
            case "cancelled":
                for key in said["keys"]:
                    self.entries[key].cancelled = True
            case "dropped":
                self.open.pop(said["name"], None)


def _digests(tasks: Iterable[Task]) -> dict[str, str]:
    return {task.key: task.digest for task in tasks}
