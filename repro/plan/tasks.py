"""From a plan to the graph that an executor runs: which jobs share a task, and which task waits for which.

The evaluations of the frozen encoder share a task, since importing torch costs more than most of them. A linear probe
on random crops runs the encoder in every epoch, as long as a pre-training: it has a task of its own, so that k-NN and
re-ID need not wait for it, and what stops it stops nothing else. So has every further protocol of an evaluation that
trains the encoder.
"""

from __future__ import annotations

from repro.plan.kinds import FROZEN
from repro.plan.planned import Plan, PlannedJob, root_of
from repro.settings import STORED, Settings
from slurm.graph import Graph, Resources, Task

TARGET = "repro.jobs:run"
"""What a task runs, by a name that workspaces keep."""


def graph_of(plan: Plan, settings: Settings) -> Graph:
    """The tasks that do what is missing, with their dependencies."""
    groups: dict[tuple[str, str], list[PlannedJob]] = {}
    known = plan.by_fingerprint()
    for job in plan.to_do():
        root = root_of(job, known)
        groups.setdefault((root.fingerprint, _task(plan, job, root)), []).append(job)
    tasks = []
    # The longest first: whoever fills two cores with them is done sooner.
    longest = sorted(groups.items(), key=lambda group: -sum(job.seconds for job in group[1]))
    for (origin, task), jobs in longest:
        stage, first = jobs[0].task, known[origin].task
        need = plan.resources(jobs[0])
        after = (key_of(known[origin], first),) if stage != first and (origin, first) in groups else ()
        tasks.append(
            Task(
                key=key_of(known[origin], task),
                target=TARGET,
                args={
                    "workspace": str(settings.workspace.resolve()),
                    "data_root": str(settings.data_root.resolve()) if settings.data_root else None,
                    "jobs": [job.to_json() for job in jobs],
                    **({} if plan.stored == STORED[0] else {"stored": plan.stored}),
                },
                resources=Resources(
                    cpus=need.cpus,
                    gpus=need.gpus,
                    ranks_per_node=jobs[0].ranks,
                    memory_gb=need.memory_gb,
                    minutes=need.minutes,
                ),
                after=after,
                stage=stage,
            )
        )
    return Graph(tasks)


def _task(plan: Plan, job: PlannedJob, root: PlannedJob) -> str:
    """`finetune`, or with another protocol than the track's `finetune-aps`: jobs of one root and name share it."""
    name = job.protocol.get("name", "")
    shared = job.task == FROZEN or not name or name == plan.track.protocol(job.kind, root.network["arch"])
    return job.task if shared else f"{job.task}-{name}"


def key_of(root: PlannedJob, task: str) -> str:
    """`frozen-aps-embedded-s0-0123abcd`: a task of the run that begins with `root`."""
    return f"{task}-{root.arm.replace(':', '-')}-{root.track}-s{root.seed}-{root.fingerprint[:8]}"
