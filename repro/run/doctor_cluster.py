"""What `doctor` looks at on SLURM: its commands and limits, and one small job by the way that all jobs go."""

from __future__ import annotations

import os
import platform
import shutil
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from repro.errors import UserError
from repro.plan.tracks import Track
from repro.run import submit
from repro.run.doctor_findings import Finding, hangs
from repro.run.doctor_machine import commands, file_system, on_machine
from repro.settings import Settings
from repro.store import snapshot
from repro.store.workspace import Workspace
from repro.terminal.text import duration

if TYPE_CHECKING:  # what this leans on may be what is wrong
    from slurm.graph import Resources
    from slurm.profile import Profile

_WAIT = 180.0  # seconds that the small job may take
_NODES = 8  # on which it is looked whether they see the workspace, at most
_TICK = 1.0
_SHARE = "choose a --workspace on a file system that all machines mount"


def stays_here(settings: Settings) -> bool:

    try:
        return submit.why_local(settings) is not None
    except UserError:
        return True


def cluster(track: Track, settings: Settings) -> Iterator[Finding]:
    from slurm import scheduler
    from slurm.graph import Resources
    from slurm.profile import Profile

    try:
        profile = Profile.load(settings.cluster)
        need = track.need("pretrain")
        profile.spread(Resources(cpus=need.cpus, gpus=need.gpus))
    except ValueError as error:
        yield Finding("fault", "profile", str(error))
        return
    try:
        reason = submit.why_local(settings)
    except UserError as error:
        yield Finding("fault", "SLURM", str(error))
        return
    if reason:
        level: Literal["warning", "ok"] = "warning" if submit.unanswered(settings, reason) else "ok"
        yield Finding(level, "SLURM", f"jobs run on this machine ({reason.partition(':')[0]})")
        return
    yield from commands("this machine", sacct="fault")
    try:
        config = scheduler.config()
    except ValueError as error:
        yield Finding("fault", "SLURM", str(error))
        return
    told = f"{config.get('SLURM_VERSION', '?')}, cluster {config.get('ClusterName', '?')}"
    yield Finding("ok", "SLURM", f"{told}, arrays of {scheduler.longest_array()}, profile {settings.cluster}")
    yield hangs("job", profile.hang_minutes, "hang_minutes in the profile")
    storage = config.get("AccountingStorageType", "")
    if storage.endswith("/none") or not storage or storage == "(null)":
        fix = "SLURM forgets jobs that ended more than MinJobAge ago; their states then come from their result files"
        yield Finding("warning", "accounting", "switched off", fix)
    else:
        try:
            scheduler.ask(["sacct", "-X", "--noheader", "--parsable2", "--format=JobID"])
            yield Finding("ok", "accounting", storage)
        except ValueError as error:
            yield Finding(
                "warning", "accounting", str(error), "it is switched on but does not answer: ask the administrator"
            )
    yield from _limits(track, profile)
    yield from _through_a_job(track, settings, profile)


def _limits(track: Track, profile: Profile) -> Iterator[Finding]:
    """Would SLURM take the track's own jobs? Asked once for those that want the same."""
    from slurm import sbatch
    from slurm.graph import Resources

    alike: dict[Resources, list[str]] = {}
    for stage, need in track.resources.items():
        alike.setdefault(Resources(**asdict(need)), []).append(stage)
    for resources, stages in alike.items():
        if said := sbatch.refusal(resources, profile):
            fix = "choose another partition or qos, or set max_minutes, time_scale or gpus_per_node in the profile"
            yield Finding("fault", "limits", f"{', '.join(stages)}: {said}", fix)
        else:
            yield Finding("ok", "limits", f"SLURM takes jobs such as {', '.join(stages)}")


def _through_a_job(track: Track, settings: Settings, profile: Profile) -> Iterator[Finding]:
    """What a machine of the cluster finds, by one small job."""
    from slurm import cluster, scheduler
    from slurm.graph import Graph, Resources, Task
    from slurm.status import of_folder

    place = Workspace(settings.workspace)
    folder = place.root / "doctor" / uuid.uuid4().hex[:8]
    need = track.need("pretrain")
    token = uuid.uuid4().hex
    folder.mkdir(parents=True)
    (folder / "from-here").write_text(token, encoding="utf-8")
    root = str(settings.data_root.resolve()) if settings.data_root else None
    task = Task(
        key="doctor",
        target="repro.run.doctor_cluster:on_node",
        args={"folder": str(folder.resolve()), "token": token, "gpus": need.gpus, "data_root": root},
        resources=Resources(cpus=1, gpus=need.gpus, memory_gb=4.0, minutes=10),
    )
    try:
        code = snapshot.take(place)
        job = cluster.submit(Graph([task]), folder=folder, profile=profile, code=code).jobs["doctor"]
    except ValueError as error:
        yield Finding("fault", "small job", str(error), "correct the profile or the workspace")
        return
    end = time.monotonic() + _WAIT
    while (state := of_folder(folder)[0]).live and time.monotonic() < end:
        time.sleep(_TICK)
    if state.live:
        scheduler.cancel([job])
        said = f"job {job} is still {state.state}" + (f" ({state.reason})" if state.reason else "")
        yield Finding("warning", "small job", f"{said} after {duration(_WAIT)}, cancelled", "run doctor again later")
        return
    if state.outcome is None or state.state != "done":
        fix = f"read {state.log}; the profile's setup lines must give the job this Python"
        yield Finding("fault", "small job", f"job {job} {state.state}: {state.reason}", fix)
        return
    yield Finding("ok", "small job", f"job {job} ran on {state.outcome.value['machine']}")
    for found in state.outcome.value["findings"]:
        yield Finding(**{**found, "what": f"node: {found['what']}"})
    if not _holds(folder / "from-node", token):
        yield Finding(
            "fault", "shared directory", f"files that the node wrote to {folder} are not visible here", _SHARE
        )
        return
    of_nodes = list(_on_each_node(folder, token, task.resources, profile, code))
    yield from of_nodes
    if all(finding.level == "ok" for finding in of_nodes):
        shutil.rmtree(folder, ignore_errors=True)


def _on_each_node(
    folder: Path, token: str, resources: Resources, profile: Profile, code: Path | None
) -> Iterator[Finding]:
    """Which of the nodes that are free see the folder, by a job on each; nothing where only one is."""
    from slurm import cluster, scheduler
    from slurm.graph import Graph, Task
    from slurm.status import of_folder

    try:
        nodes = scheduler.free_nodes(profile.partition)[:_NODES]
    except scheduler.NoAnswer:
        return
    if len(nodes) < 2:
        return
    args, place = {"folder": str(folder.resolve()), "token": token}, folder / "nodes"
    for node in nodes:
        task = Task(node, "repro.run.doctor_cluster:sees", args, resources)
        pinned = replace(profile, sbatch={**profile.sbatch, "nodelist": node})
        try:
            cluster.submit(Graph([task]), folder=place, profile=pinned, code=code)
        except ValueError as error:
            yield Finding("warning", "nodes", f"{node}: {error}")
    end = time.monotonic() + _WAIT
    while any(state.live for state in of_folder(place)) and time.monotonic() < end:
        time.sleep(_TICK)
    states = of_folder(place)
    seeing = [state.key for state in states if state.outcome and state.outcome.value is True]
    if seeing:
        yield Finding("ok", "nodes", f"{', '.join(seeing)} see{'s' * (len(seeing) == 1)} the workspace")
    for state in states:
        if state.live:
            scheduler.cancel([state.job])
            yield Finding("warning", "nodes", f"{state.key}: its job is still {state.state}, cancelled")
        elif state.key not in seeing:
            said = state.reason or "another folder is there"
            yield Finding("fault", "nodes", f"{state.key} does not see the workspace: job {state.job}: {said}", _SHARE)


def sees(folder: str, token: str) -> bool:
    """The target of the job on each node: whether it sees what was written here."""
    return _holds(Path(folder) / "from-here", token)


def _holds(path: Path, token: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == token


def on_node(folder: str, token: str, gpus: int, data_root: str | None) -> dict[str, Any]:
    """The target of the small job: the findings of the machine it runs on, as plain values."""
    found = []
    try:
        (Path(folder) / "from-node").write_text(token, encoding="utf-8")
        seen = _holds(Path(folder) / "from-here", token)
        found.append(
            Finding("ok", "shared directory", f"{folder} is visible and writable")
            if seen
            else Finding("fault", "shared directory", f"{folder} is another folder on the node", _SHARE)
        )
        found.append(file_system(Path(folder)))
    except OSError as error:
        found.append(Finding("fault", "shared directory", f"cannot write to {folder} ({error.strerror})", _SHARE))
    if data_root and not Path(data_root).is_dir():
        found.append(
            Finding("fault", "data", f"no folder {data_root} on the node", "put the data where all machines see it")
        )
    if scratch := os.environ.get("TMPDIR"):
        fits = os.access(scratch, os.W_OK)
        fix = "" if fits else "correct scratch in the profile"
        found.append(Finding("ok" if fits else "fault", "scratch", scratch + ("" if fits else " is not writable"), fix))
    found += commands("the node", sacct="warning")
    found += on_machine(gpus)
    machine = os.environ.get("SLURMD_NODENAME", platform.node())
    return {"machine": machine, "findings": [asdict(finding) for finding in found]}
