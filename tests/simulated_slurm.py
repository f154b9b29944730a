"""A cluster that is not there: SLURM's commands with limits, delays and faults, and a clock that a test moves.

What sbatch takes waits for its parents and for a free slot, runs as long as the cluster says, and ends. A job finds its
task in the pickle that submitit has left for it, as a real one does: without one it fails, with one it leaves the
outcome of that task. So `ran` tells how often each task was done, whatever the journal says.

The commands are this file, run by `fake_slurm`'s (conftest.py) once a test has made a `Cluster` of their folder. All
that they know is in one file there.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

STATE = "cluster.json"
_KEPT = 300.0  # seconds for which squeue remembers a job that has ended (MinJobAge)
_DOWN = "Unable to contact slurm controller (connect failure)"
_LOST = "Socket timed out on send/recv operation"
_LIVE = ("PENDING", "RUNNING")
_PATIENCE = {"sbatch": 100.0, "scontrol": 10.0}  # seconds after which a command gives up; others: 60
_BAD = ("CANCELLED", "FAILED")


class Cluster:
    """The cluster whose commands lie in `folder`.

    Args:
        max_array: MaxArraySize: as many elements as an array may have.
        max_submit: MaxSubmitJobs, 0 for none: as many jobs (elements count) as may be queued and running.
        slots: jobs that run at the same time.
        seconds: that each job takes.
        fails: a pattern: tasks whose keys it matches fail.
    """

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.file = folder / STATE
        if not self.file.exists():
            with self._changed() as state:
                state.update(
                    now=0.0,
                    next=101,
                    silent=0.0,
                    silence=[0, 0.0],
                    most=0,
                    lost=[],
                    calls={},
                    arrays={},
                    jobs={},
                    ran={},
                )
                state.update(max_array=1001, max_submit=0, slots=256, seconds=60.0, fails="")
        if settings:
            self.set(**settings)

    @contextlib.contextmanager
    def _changed(self) -> Iterator[dict[str, Any]]:
        """The state, to be changed; nobody else has it meanwhile."""
        lock = os.open(self.file.with_suffix(".lock"), os.O_RDWR | os.O_CREAT)
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            state = json.loads(self.file.read_text()) if self.file.exists() else {}
            yield state
            fresh = self.file.with_suffix(".tmp")
            fresh.write_text(json.dumps(state))
            fresh.replace(self.file)
        finally:
            os.close(lock)

    # ---------------------------------------------------------------------------------------------- what a test does

    def set(self, **settings: Any) -> None:
        """Change limits and the like."""
        with self._changed() as state:
            assert settings.keys() <= state.keys()
            state.update(settings)

    def silence(self, seconds: float, at: int = 0) -> None:
        """From the so-many-th command on none is answered for so long. Each gives up after a while, and the clock goes
        on by that."""
        with self._changed() as state:
            state["silence"] = [at, seconds]

    def lose(self, *taken: float | None) -> None:
        """The next answers of sbatch get lost: its jobs are queued after so many seconds, or (None) never."""
        with self._changed() as state:
            state["lost"] += taken

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        with self._changed() as state:
            _go_on(state, state["now"] + seconds)

    def finish(self) -> None:
        """Let time pass until nothing runs and nothing can start."""
        with self._changed() as state:
            _go_on(state, float("inf"))

    @property
    def now(self) -> float:
        return float(self._state["now"])

    @property
    def calls(self) -> Counter[str]:
        """How often each command was called."""
        return Counter(self._state["calls"])

    @property
    def ran(self) -> Counter[str]:
        """How often each task was done to its end, by its key."""
        return Counter(self._state["ran"])

    @property
    def words(self) -> Counter[str]:
        """How many jobs are in each state."""
        return Counter(job["word"] for job in self._state["jobs"].values())

    @property
    def arrays(self) -> list[int]:
        """The elements of each array or single job, in the order in which they were queued."""
        return [len(array["ids"]) for array in self._state["arrays"].values()]

    @property
    def most(self) -> int:
        """As many jobs as were ever queued and running at the same time."""
        return int(self._state["most"])

    @property
    def _state(self) -> dict[str, Any]:
        state: dict[str, Any] = json.loads(self.file.read_text())
        return state

    # ---------------------------------------------------------------------------------------------- what a command does

    def command(self, name: str, arguments: list[str]) -> tuple[int, str, str]:
        """Exit status, output and errors of one of SLURM's commands."""
        with self._changed() as state:
            state["calls"][name] = state["calls"].get(name, 0) + 1
            at, seconds = state["silence"]
            if seconds and sum(state["calls"].values()) >= at:
                state["silent"], state["silence"] = state["now"] + seconds, [0, 0.0]
            if state["now"] < state["silent"]:
                _go_on(state, state["now"] + _PATIENCE.get(name, 60.0))
                return 1, "", f"slurm_load_jobs error: {_DOWN}" if name == "squeue" else _refused(name, _DOWN)
            return {"sbatch": _sbatch, "squeue": _squeue, "sacct": _sacct, "scancel": _scancel, "scontrol": _scontrol}[
                name
            ](state, arguments)


# ------------------------------------------------------------------------------------------------------------ commands


def _refused(name: str, why: str) -> str:
    return f"sbatch: error: Batch job submission failed: {why}" if name == "sbatch" else f"{name}: error: {why}"


def _sbatch(state: dict[str, Any], arguments: list[str]) -> tuple[int, str, str]:
    script = Path(arguments[-1])
    said = dict(re.findall(r"^#SBATCH --([a-z-]+)=(.*)$", script.read_text(encoding="utf-8"), re.M))
    elements = _elements(said["array"].partition("%")[0]) if "array" in said else []
    count = max(1, len(elements))
    if elements and max(elements) >= state["max_array"]:
        return 1, "", _refused("sbatch", "Invalid job array specification")
    live = sum(job["word"] in _LIVE for job in state["jobs"].values())
    if state["max_submit"] and live + count > state["max_submit"]:
        words = "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"
        return 1, "", "sbatch: error: AssocMaxSubmitJobLimit\n" + _refused("sbatch", words)
    waits = [part.split(":") for part in said.get("dependency", "").split(",") if part]
    for _, *parents in waits:
        if unknown := [one for one in parents if one not in state["jobs"] and one not in state["arrays"]]:
            return 1, "", _refused("sbatch", f"Job dependency problem ({unknown[0]})")
    lost = bool(state["lost"])
    after = state["lost"].pop(0) if lost else 0.0
    if after is None:
        return 1, "", _refused("sbatch", _LOST)
    number = str(state["next"])
    state["next"] += 1
    state["arrays"][number] = {
        "name": said["job-name"],
        "ids": [f"{number}_{element}" for element in elements] or [number],
        "waits": waits,
        "folder": str(script.parent),
    }
    for ids in state["arrays"][number]["ids"]:
        state["jobs"][ids] = {"word": "PENDING", "why": "Priority", "since": state["now"] + after, "started": None}
    state["most"] = max(state["most"], live + count)
    _go_on(state, state["now"])
    return (1, "", _refused("sbatch", _LOST)) if lost else (0, f"Submitted batch job {number}\n", "")


def _elements(text: str) -> list[int]:
    """The numbers of "0-2,5"."""
    spans = [part.partition("-") for part in text.split(",")]
    return [number for first, _, last in spans for number in range(int(first), int(last or first) + 1)]


def _squeue(state: dict[str, Any], arguments: list[str]) -> tuple[int, str, str]:
    names = next((word.removeprefix("--name=").split(",") for word in arguments if word.startswith("--name=")), None)
    here = {ids: job for ids, job in state["jobs"].items() if job["since"] <= state["now"]}
    if names is not None:
        found = [ids for ids, job in here.items() if job["word"] in _LIVE]
        numbers = {_array(ids) for ids in found}
        return 0, "".join(f"{number}\n" for number in numbers if state["arrays"][number]["name"] in names), ""
    lines = [
        f"{ids:<40}{job['word']:<20}{0:<8}{job['why']:<100}\n"
        for ids, job in here.items()
        if job["word"] in _LIVE or job["since"] > state["now"] - _KEPT
    ]
    return 0, "".join(lines), ""


def _sacct(state: dict[str, Any], arguments: list[str]) -> tuple[int, str, str]:
    asked = next(word.removeprefix("--jobs=").split(",") for word in arguments if word.startswith("--jobs="))
    lines, pending = [], dict[str, list[str]]()
    for ids, job in state["jobs"].items():
        if _array(ids) not in asked:
            continue
        if job["word"] == "PENDING" and "_" in ids:
            pending.setdefault(_array(ids), []).append(ids.partition("_")[2])
            continue
        begun = "None" if job["started"] is None else f"at {job['started']}"
        lines.append(f"{ids}|{job['word']}|{job['why']}|{begun}|at {job['since']}\n")
    for number, elements in pending.items():
        lines.append(f"{number}_[{','.join(elements)}%9]|PENDING|Priority|Unknown|Unknown\n")
    return 0, "".join(lines), ""


def _scancel(state: dict[str, Any], arguments: list[str]) -> tuple[int, str, str]:
    wanted = {word for word in arguments if not word.startswith("-")}
    for ids, job in state["jobs"].items():
        if (ids in wanted or _array(ids) in wanted) and job["word"] in _LIVE:
            job.update(word="CANCELLED", why="None", since=state["now"])
    _go_on(state, state["now"])
    return 0, "", ""


def _scontrol(state: dict[str, Any], arguments: list[str]) -> tuple[int, str, str]:
    if arguments[:1] == ["ping"]:
        return 0, "Slurmctld(primary) at here is UP\n", ""
    return 0, f"MaxArraySize            = {state['max_array']}\nMaxJobCount             = 10000\n", ""


# ----------------------------------------------------------------------------------------------------------- what runs


def _array(ids: str) -> str:
    return ids.partition("_")[0]


def _go_on(state: dict[str, Any], until: float) -> None:
    """Let jobs start and end until that time; without an end of time, until nothing more can."""
    while True:
        _start(state)
        running = [ids for ids, job in state["jobs"].items() if job["word"] == "RUNNING"]
        later = [job["since"] for job in state["jobs"].values() if job["since"] > state["now"]]
        ends = {ids: state["jobs"][ids]["started"] + state["seconds"] for ids in running}
        if not (moments := [*ends.values(), *later]) or min(moments) > until:
            break
        state["now"] = max(state["now"], min(moments))
        for ids in running:
            if ends[ids] <= state["now"]:
                _end(state, ids)
    if until != float("inf"):
        state["now"] = max(state["now"], until)


def _start(state: dict[str, Any]) -> None:
    """Whatever may start; what waits for a job that has failed is cancelled (--kill-on-invalid-dep)."""
    free = state["slots"] - sum(job["word"] == "RUNNING" for job in state["jobs"].values())
    again = True
    while again:  # a job that was cancelled takes those that wait for it along
        again = False
        for ids, job in state["jobs"].items():
            if job["word"] != "PENDING" or job["since"] > state["now"]:
                continue
            ready = _ready(state, ids)
            if ready is None:
                job.update(word="CANCELLED", why="Dependency", since=state["now"])
                again = True
            elif ready and free:
                free -= 1
                job.update(word="RUNNING", why="None", started=state["now"], since=state["now"])
            else:
                job["why"] = "Resources" if ready else "Dependency"


def _ready(state: dict[str, Any], ids: str) -> bool | None:
    """Whether all has ended that a job waits for; None where it waits in vain."""
    ready = True
    for how, *parents in state["arrays"][_array(ids)]["waits"]:
        for parent in parents:
            if how == "aftercorr":
                parent = f"{parent}_{ids.partition('_')[2]}"
            if parent in state["jobs"]:
                words = [state["jobs"][parent]["word"]]
            else:
                words = [state["jobs"][one]["word"] for one in state["arrays"][parent]["ids"]]
            if how != "afterany" and any(word in _BAD for word in words):
                return None
            ready &= not any(word in _LIVE for word in words)
    return ready


def _end(state: dict[str, Any], ids: str) -> None:
    """The job ends, and leaves the outcome of the task that its pickle names."""
    job, folder = state["jobs"][ids], Path(state["arrays"][_array(ids)]["folder"])
    try:
        named = re.search(rb"nodes/([^/]+)-([0-9a-f]{12})\.json", (folder / f"{ids}_submitted.pkl").read_bytes())
    except FileNotFoundError:  # submitit waits for it a minute, then gives up
        named = None
    key, digest = (part.decode() for part in named.groups()) if named else ("", "")
    failed = named is None or bool(state["fails"] and re.search(state["fails"], key))
    job.update(word="FAILED" if failed else "COMPLETED", why="NonZeroExitCode" if failed else "None")
    job["since"] = state["now"]
    if named:
        state["ran"][key] = state["ran"].get(key, 0) + 1
        outcome = {"key": key, "state": "failed" if failed else "done", "reason": "ValueError: no" if failed else ""}
        outcome |= {"digest": digest, "job": ids, "ended": time.time()}
        (folder.parent / "outcomes" / f"{key}.json").write_text(json.dumps(outcome))


if __name__ == "__main__":
    status, out, err = Cluster(Path(sys.argv[1])).command(sys.argv[2], sys.argv[3:])
    sys.stdout.write(out)
    sys.stderr.write(err + "\n" * bool(err))
    sys.exit(status)
