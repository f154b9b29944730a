"""Runs a graph on SLURM through submitit: one array a stage where possible, dependencies between them, no waiting.

    submit   journal -> sbatch (arrays, afterok/aftercorr/afterany) -> journal, then return
    cancel   one scancel

The journal gets a line before every sbatch and one after it, so that jobs of a submission that died in between are
found (by their unique name) and cancelled instead of running without their code. slurm.status says how they fare.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import locale
import os
import time
import uuid
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from slurm import arrays, sbatch, scheduler, status, worker
from slurm.arrays import Batch
from slurm.environment import Code, by_code, code_of
from slurm.files import held_by, try_lock
from slurm.folder import Folder
from slurm.graph import Graph
from slurm.journal import Journal
from slurm.profile import Profile
from slurm.states import TaskState

_PAUSE = 20.0  # seconds until the next look at a full queue
_LONGEST_PAUSE = 15  # times that, where nothing moves


@dataclass(frozen=True)
class Submission:
    """What `submit` did: SLURM's job number of every task, how often sbatch was called with success, and the tasks that
    were queued or running already and therefore left alone.

    `settled` are the tasks that ended while `submit` waited for room in the queue, or that never can run because of
    one that did: they have no number.
    """

    jobs: dict[str, str]
    calls: int
    kept: tuple[str, ...]
    settled: tuple[str, ...] = ()


class _Full(Exception):
    """SLURM takes no more jobs of ours for now."""


class _Silent(Exception):
    """sbatch got no answer: whether its jobs are queued is found out by their name, before anything else is."""


def submit(
    graph: Graph,
    *,
    folder: Path,
    profile: Profile | None = None,
    code: Code = None,
    on_full: Callable[[int, int], None] = lambda queued, total: None,
    on_trouble: Callable[[str], None] = lambda line: None,
    pause: float = _PAUSE,
) -> Submission:
    """Queue every task of the graph and return at once. `folder` must be seen by the cluster's machines.

    Tasks of this folder that are queued or running already are left alone (and waited for by their children), so a
    submission that stopped half-way is simply repeated. Where a machine of the profile has fewer GPUs or CPUs
    than a task's ranks want, they are spread over several. Where SLURM takes no more jobs for now (a limit on submitted
    jobs), what fits is queued and the rest follows when a quarter of that has ended; where it does not answer, what is
    left follows when it does. Only then does the call take long, and others may submit and cancel from this folder
    meanwhile.

    Args:
        code: folder that the jobs' modules are imported from before all others; or one for each task, by its key.
        on_full: called with (tasks queued or done, tasks) before every pause for want of room.
        on_trouble: called with a line before every pause because SLURM does not answer.
        pause: seconds of the first pause; where nothing moves the next one is twice as long.

    Raises ValueError, in one line, where there is no SLURM, where it refuses or cannot write to such a folder, where a
    task is queued with other settings than the graph's or runs on this machine, or where a submission of somebody else
    died half-way.
    """
    if reason := scheduler.available():
        raise ValueError(reason)
    _require_path_for_slurm(folder.absolute())
    place, profile = Folder(folder), profile or Profile()
    graph = Graph(dataclasses.replace(task, resources=profile.spread(task.resources)) for task in graph)
    with _only_writer(place):
        submitter = _Submitter(graph, place, profile, code)
        whole = submitter.begin()
    pauses, trouble = 1, submitter.trouble
    while not whole:
        if trouble:
            on_trouble(trouble)
        else:
            on_full(len(submitter.jobs) + len(submitter.settled), len(graph))
        time.sleep(pauses * pause)
        calls, trouble = submitter.calls, ""
        try:
            with _only_writer(place):
                submitter.look_again()
                if submitter.worth_a_try(stuck=pauses == _LONGEST_PAUSE):
                    whole = submitter.go_on()
                    trouble = submitter.trouble
        except (scheduler.NoAnswer, _Busy) as error:
            trouble = str(error)
        pauses = 1 if submitter.calls > calls else min(2 * pauses, _LONGEST_PAUSE)
    return submitter.submission()


class _Busy(ValueError):
    """Another process submits or cancels."""


class _Submitter:
    """One call of `submit`; whoever calls a method of it holds the folder's lock.

    trouble: why the last round stopped before SLURM was asked for all, where it did not answer.
    live: tasks of the folder that are queued or running.  most: as many as SLURM was seen to have, of which it may have
    as many again; None where it has not refused any.
    """

    def __init__(self, graph: Graph, place: Folder, profile: Profile, code: Code) -> None:
        self.graph, self.place, self.profile, self.code = graph, place, profile, code
        self.journal = Journal(place)
        self.kept: tuple[str, ...] = ()
        self.longest = scheduler.longest_array()
        self.calls = 0
        self.trouble = ""
        self.live = 0
        self.most: int | None = None
        self.jobs: dict[str, str] = {}
        self.settled: set[str] = set()

    def begin(self) -> bool:
        """Write down what will be queued, then continue."""
        _require_no_orphans(self.journal)
        self.kept = self._keep_live()
        fresh = [task for task in self.graph if task.key not in self.kept]
        with ThreadPoolExecutor(16) as several:  # each file waits for the disk, which takes many at a time
            list(several.map(self.place.write_task, fresh))
        for code, tasks in by_code(fresh, self.code).items():
            self.journal.planned(tasks, code, self.profile)
        return self.go_on()

    def go_on(self) -> bool:
        """Queue what is not queued yet, as far as there is room; whether that was all of it."""
        self.trouble = ""
        try:
            self._round()
        except _Full:
            return False
        except _Silent as silent:
            self.trouble = str(silent)
            return False
        return True

    def submission(self) -> Submission:
        jobs = {task.key: self.jobs[task.key] for task in self.graph if task.key in self.jobs}
        return Submission(jobs, self.calls, self.kept, tuple(sorted(self.settled)))

    def _keep_live(self) -> tuple[str, ...]:
        """Take over what is queued or running, but for tasks that wait for all and would miss what is new."""
        asked = {task.key: task for task in self.graph}
        found = [state for state in self._look() if state.live and state.key in asked]
        kept = {state.key for state in found if not state.task.always}
        for state in found:
            task = asked[state.key]
            if task.always and state.job and not (state.entry.digest == task.digest and kept.issuperset(task.after)):
                if state.entry.owner in ("", scheduler.user()):  # another's may run too early: ours comes after it
                    scheduler.cancel([state.job])
                continue
            self._take_over(state)
        return tuple(key for key in asked if key in self.jobs)

    def worth_a_try(self, stuck: bool) -> bool:
        """Whether SLURM may take a part of the rest that is worth an array of its own. stuck: for long it was not."""
        if not self.most:  # none of ours was there: the limit is of another kind
            self.most = None
            return True
        left, share = len(self.graph) - len(self.jobs) - len(self.settled), max(1, self.most // 4)
        if stuck and self.most <= self.live:  # the limit may be another by now
            self.most = self.live + share
        return stuck or self.most - self.live >= min(left, share)

    def _round(self) -> None:
        """Queue what is not queued yet, level by level. Raises _Full where SLURM takes only a part of it."""
        for level in self.graph.levels:
            tasks = [task for task in level if task.key not in self.jobs and task.key not in self.settled]
            for batch in arrays.batches(tasks, self.jobs, self.longest, self.code):
                self._as_many_as_fit(batch)

    def _as_many_as_fit(self, batch: Batch) -> None:
        """Where it is not known how many fit, halves are tried until an eighth more is too many."""
        whole, taken, known = len(batch.tasks), 0, self.most is not None
        step = whole if self.most is None else min(whole, max(0, self.most - self.live))
        while step and taken < whole:
            try:
                jobs = self._sbatch(batch.part(taken, step))
            except _Full:
                self.most = self.live
            else:
                self.jobs |= jobs
                self.calls += 1
                self.live += len(jobs)
                taken += len(jobs)
                if self.most is not None:
                    self.most = max(self.most, self.live)
            step = 0 if known or (taken and 8 * step <= whole) else step // 2
        if taken < whole:
            raise _Full

    def look_again(self) -> None:
        """After a pause: what SLURM forgot of parents that ended, and what others submitted or cancelled meanwhile."""
        self.journal = Journal(self.place)
        _require_no_orphans(self.journal)
        mine = {task.key: task for task in self.graph}
        for state in self._look():
            if state.key not in mine:
                continue
            if state.live and not (state.task.always and state.entry.digest != mine[state.key].digest):
                self._take_over(state)
                self.settled.discard(state.key)
            elif state.live or state.job or state.state == "blocked":
                self.jobs.pop(state.key, None)
                self.settled.add(state.key)
            elif state.entry.digest != mine[state.key].digest:
                raise ValueError(f"'{state.key}' was submitted again with other settings: run the command again")
            else:  # never queued, or to be done again
                self.jobs.pop(state.key, None)

    def _look(self) -> list[TaskState]:
        found = status.of_journal(self.journal, self.place)
        self.live = sum(state.live and bool(state.job) for state in found)
        return found

    def _take_over(self, state: TaskState) -> None:
        if state.entry.run:
            raise ValueError(f"'{state.key}' is running on this machine: wait until it ends, or cancel it first")
        if state.entry.digest != self.graph[state.key].digest:
            raise ValueError(f"'{state.key}' is queued with other settings: cancel it first (job {state.job})")
        self.jobs[state.key] = state.job

    def _sbatch(self, batch: Batch) -> dict[str, str]:
        import submitit

        tasks = batch.tasks
        name = f"{tasks[0].stage or tasks[0].key}.{uuid.uuid4().hex[:8]}"
        specs = [self.place.task(task.key, task.digest) for task in tasks]
        elements = batch.elements or range(len(tasks))
        # submitit counts elements from 0: those that the array lacks get a file that is never read.
        files = [specs[0]] * max(2 if batch.elements else 1, elements[-1] + 1)
        for element, spec in zip(elements, specs, strict=True):
            files[element] = spec
        executor = submitit.SlurmExecutor(
            self.place.submitit,
            max_num_timeout=sbatch.timeouts(tasks[0], self.profile),
            python=self.profile.python or None,
        )
        code = code_of(self.code, tasks[0].key)
        executor.update_parameters(**sbatch.parameters(name, batch, self.profile, code))
        self.journal.submitting(name, tasks)
        try:
            # submitit prints what sbatch said before it raises it.
            with contextlib.redirect_stderr(io.StringIO()):
                queued = executor.submit_array([worker.Task(file) for file in files])
        except submitit.core.utils.FailedJobError as error:
            refusal = scheduler.why_refused(str(error))
            if refusal.uncertain:  # whether it got in is found out by its name
                raise _Silent(f"`sbatch` got no answer: {refusal.reason}") from None
            self.journal.dropped(name)
            if refusal.for_now:
                raise _Full from None
            raise ValueError(
                f"sbatch refused '{name}': {refusal.reason} "
                "(jobs submitted before it stay queued: cancel them, or submit again)"
            ) from None
        submitted = [queued[element] for element in elements]
        for task, job in zip(tasks, submitted, strict=True):
            log = self.place.log(task.key)
            log.unlink(missing_ok=True)
            log.symlink_to(os.path.relpath(job.paths.stdout, log.parent))
        jobs = {task.key: job.job_id for task, job in zip(tasks, submitted, strict=True)}
        self.journal.submitted(name, jobs)
        return jobs


def _require_path_for_slurm(folder: Path) -> None:
    """Raises ValueError where SLURM, or a batch file, would take the name of a folder for another."""
    strange = next((letter for letter in str(folder) if letter in "%\\" or ord(letter) < 32), "")
    if strange:
        raise ValueError(
            f"SLURM cannot write to {str(folder)!r}: it gives {strange!r} in a path another meaning;"
            " choose a folder whose path does not contain it"
        )
    try:
        str(folder).encode(locale.getpreferredencoding(False))
    except UnicodeEncodeError:
        raise ValueError(
            f"{str(folder)!r} cannot be written in a batch file in this locale: choose a folder with plain letters, or"
            " set LC_ALL to a UTF-8 locale"
        ) from None


def _cancel_orphans(journal: Journal) -> set[str]:
    """Cancel what a submission of ours that died left in the queue: submitit had not yet put the code in its place.
    Returns who has left such a thing beside us."""
    us = scheduler.user()
    if names := [name for name, owner in journal.open.items() if owner in (us, "")]:
        scheduler.cancel(scheduler.named(names))
        for name in names:
            journal.dropped(name)
    return set(journal.open.values())


def _require_no_orphans(journal: Journal) -> None:
    if others := _cancel_orphans(journal):
        who = sorted(others)[0]
        raise ValueError(
            f"a submission by {who} from this folder stopped half-way, and only {who} can cancel the jobs that it left"
            " queued: ask them to run their command again, or to cancel these jobs"
        )


def cancel(folder: Path, keys: Collection[str]) -> list[str]:
    """Cancel those of these tasks that are queued or running on SLURM, and return their keys."""
    place = Folder(folder)
    with _only_writer(place):
        journal = Journal(place)
        live = [state for state in status.of_journal(journal, place) if state.live and state.job and state.key in keys]
        scheduler.cancel(state.job for state in live)
        if live:
            journal.cancelled(state.key for state in live)
        _cancel_orphans(journal)
    return [state.key for state in live]


@contextlib.contextmanager
def _only_writer(place: Folder) -> Iterator[None]:
    lock = try_lock(place.lock("submit"))
    if lock is None:
        raise _Busy(
            f"another command is submitting from {place.root} ({held_by(place.lock('submit'))}): wait until it ends"
        )
    try:
        yield
    finally:
        os.close(lock)
