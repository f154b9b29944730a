"""Whether jobs go to SLURM or stay on this machine, and how a graph is queued beside what is queued already."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TextIO

from repro.errors import UserError
from repro.plan.tasks import TARGET
from repro.run.task_states import listed
from repro.settings import Settings
from repro.store.hashes import digest
from repro.store.workspace import Workspace
from slurm.graph import Graph, Task

if TYPE_CHECKING:
    from slurm.environment import Code
    from slurm.profile import Profile


def profile_of(settings: Settings) -> Profile:
    """The cluster profile that the settings name. UserError where there is none, or where it is wrong."""
    from slurm.profile import Profile

    try:
        return Profile.load(settings.cluster)
    except ValueError as error:
        raise UserError(str(error)) from None


def require_profile(settings: Settings) -> None:
    """UserError for a wrong `--cluster`, before any work is done. On this machine alone nobody reads the profile."""
    if settings.executor != "local":
        profile_of(settings)


def why_local(settings: Settings) -> str | None:
    """Why jobs run on this machine, None where they go to SLURM. UserError where it was asked for and is not there."""
    if settings.executor == "local":
        return "--executor local"

    from slurm import scheduler

    reason = scheduler.available()
    if reason and (settings.executor == "slurm" or settings.cluster != Settings.cluster):
        raise UserError(f"{reason} (--executor local)")
    return reason


def unanswered(settings: Settings, reason: str | None) -> bool:
    """Whether SLURM is installed where jobs run on this machine (`why_local`) without anybody having said so: a login
    node is a poor place to train on while its controller is down for a minute."""
    return reason is not None and settings.executor == "auto" and bool(shutil.which("sbatch"))


def beside_live(graph: Graph, place: Workspace) -> Graph:
    """The graph beside what is queued or running on SLURM: a job that a live task has is left to that task, as it
    was submitted, whatever has been done of it since. The others of a task whose name is taken get one of their own,
    which waits for the live ones whose output it needs. UserError where SLURM does not answer.
    """
    from slurm import status

    try:
        found = [
            state.task for state in status.of_folder(place.processes) if state.live and state.task.target == TARGET
        ]
    except ValueError as error:
        raise UserError(str(error)) from None
    owners = {job["fingerprint"]: task for task in reversed(found) for job in task.args["jobs"]}
    live, made = {task.key: task for task in found}, dict[str, Task]()
    instead: dict[str, list[str]] = {}  # what stands for a task of the graph
    for task in graph:
        jobs = task.args["jobs"]
        theirs = {job["fingerprint"]: owners[job["fingerprint"]] for job in jobs if job["fingerprint"] in owners}
        mine = [job for job in jobs if job["fingerprint"] not in theirs]
        after = [key for parent in task.after for key in instead[parent]]
        for owner in theirs.values():
            made.setdefault(owner.key, dataclasses.replace(owner, after=tuple(after)))
        instead[task.key] = list(dict.fromkeys(owner.key for owner in theirs.values()))
        if mine:
            fingerprints = [job["fingerprint"] for job in mine]
            key = f"{task.key}-{digest(fingerprints)[:8]}" if task.key in live else task.key
            needed = [theirs[parent].key for job in mine for parent in job["parents"] if parent in theirs]
            after = list(dict.fromkeys([*after, *needed]))
            made[key] = dataclasses.replace(task, key=key, args={**task.args, "jobs": mine}, after=tuple(after))
            instead[task.key].append(key)
    return Graph(made.values())


def submit(
    graph: Graph, settings: Settings, place: Workspace, code: Code, recorded: Mapping[str, Any] | None = None
) -> None:
    """Queue a graph on the cluster and say so. `recorded`: the profile's values, where they are not to be read anew."""
    from slurm import cluster
    from slurm.profile import Profile

    said = ""

    def say(line: str, file: TextIO) -> None:
        nonlocal said
        if line != said:  # a pause after a pause
            print(line, file=file, flush=True)
        said = line

    def wait(queued: int, total: int) -> None:
        say(
            f"SLURM takes no more jobs for now: {queued} of {total} tasks are queued, the others follow when"
            " it takes more. Ctrl-C leaves those that are queued; the same command continues later.",
            sys.stdout,
        )

    def trouble(line: str) -> None:
        say(f"{line}; asking again. Ctrl-C loses nothing: the same command goes on then.", sys.stderr)

    try:
        profile = Profile.from_json(recorded, "journal") if recorded else profile_of(settings)
        submission = cluster.submit(
            graph, folder=place.processes, profile=profile, code=code, on_full=wait, on_trouble=trouble
        )
    except (ValueError, OSError) as error:
        raise UserError(str(error)) from None
    numbers = sorted({job.partition("_")[0] for job in submission.jobs.values()})
    print(f"submitted {len(submission.jobs)} tasks to SLURM in {submission.calls} calls: jobs {', '.join(numbers)}")
    if submission.kept:
        print(f"already queued or running, left alone: {listed(submission.kept)}")
    if submission.settled:
        print(f"ended before all tasks were queued: {listed(submission.settled)}")
    at = "" if settings.workspace == Settings.workspace else f" --workspace {settings.workspace}"
    print(f"progress:             python -m repro status{at}   (--watch: until all have ended)")
    collates = [task.key for task in graph if task.stage == "collate"]
    if collates:
        print(f"table, when done:     python -m repro logs {collates[0]}{at}")
