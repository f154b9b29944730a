"""`doctor`: would a run work here, and on the cluster? Asked before anything is queued; each finding is one line.

On this machine it looks at the packages, their operators, the data of a track and the disk. Where there is a SLURM it
also sends one small job by the way that all jobs go (profile, set-up lines, snapshot of the code) and looks at the same
from there.
"""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from repro.errors import UserError
from repro.plan import tracks
from repro.plan.builder import make
from repro.plan.request import Request
from repro.plan.tracks import Track
from repro.settings import Settings, require_writable
from repro.store import snapshot
from repro.store.source import PACKAGES
from repro.store.workspace import Workspace

if TYPE_CHECKING:  # what these lean on may be what is wrong
    from slurm.profile import Profile

_PROJECT = "repro-ssl"
_HEAVY = ("torch", "torchvision", "mmengine", "mmcv", "mmdet", "mmpretrain")
_WAIT = 180.0  # seconds that the small job may take
_TICK = 1.0


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, what was found, and what mends it (empty where all is well)."""

    level: Literal["ok", "warning", "fault"]
    what: str
    said: str
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.level:8} {self.what}: {self.said}" + (f"; {self.fix}" if self.fix else "")


def examine(
    settings: Settings, name: str, methods: Sequence[str], seeds: Sequence[int], tell: Callable[[Finding], None]
) -> int:
    """Look at everything for runs of these methods and seeds on the track of that name.

    Tells each finding as it is made and returns how many are faults.
    """
    track = tracks.find(name)
    rooms = _rooms()
    if rooms.level == "fault":  # then most of what follows could not be imported
        tell(rooms)
        return 1
    faults = 0
    for findings in (
        _workspace(settings),
        on_machine(track.resources["pretrain"].gpus if _stays_here(settings) else 0),
        _data(track, settings),
        _disk(track, methods, seeds, settings),
        _cluster(track, settings),
    ):
        for finding in findings:
            tell(finding)
            faults += finding.level == "fault"
    return faults


# ------------------------------------------------------------------------------------------- any machine that runs jobs


def on_machine(gpus: int) -> Iterator[Finding]:
    """What can be said of the machine that this process runs on. gpus: how many a job of the track asks for."""
    yield Finding("ok", "python", f"{platform.python_version()} ({sys.executable})")
    yield _rooms()
    yield from _packages()
    yield _operators()
    yield _gpus(gpus)


def _rooms() -> Finding:
    home = Path(__file__).resolve().parents[2]
    for room in PACKAGES:
        try:
            found = snapshot.room_folder(room).resolve().parent
        except ModuleNotFoundError as error:
            return Finding("fault", "rooms", str(error), "install the project again (pip install -e .)")
        if found != home:
            fix = "another package of that name comes first: leave its folder, or set PYTHONSAFEPATH=1"
            return Finding("fault", "rooms", f"'{room}' is imported from {found}, the others from {home}", fix)
    return Finding("ok", "rooms", f"{', '.join(PACKAGES)} from {home}")


def _packages() -> Iterator[Finding]:
    from packaging.requirements import Requirement

    try:
        wanted = [Requirement(line) for line in requires(_PROJECT) or ()]
    except PackageNotFoundError:
        wanted = []
        yield Finding(
            "warning", "packages", f"{_PROJECT} is not installed, so its ranges are not known", "pip install -e ."
        )
    for need in wanted:
        if need.marker is not None and not need.marker.evaluate({"extra": ""}):
            continue
        try:
            have = version(need.name)
        except PackageNotFoundError:
            yield Finding("fault", "packages", f"{need.name} is missing", f"pip install '{need}'")
            continue
        if not need.specifier.contains(have, prereleases=True):
            yield Finding("fault", "packages", f"{need.name} {have} is not {need.specifier}", f"pip install '{need}'")
    said = []
    for name in _HEAVY:
        try:
            said.append(f"{name} {importlib.import_module(name).__version__}")
        except Exception as error:
            line = f"import {name} failed ({type(error).__name__}: {(str(error).splitlines() or [''])[0]})"
            yield Finding("fault", "packages", line, "install the project again in a fresh environment")
    yield Finding("ok", "packages", ", ".join(said))


def _operators() -> Finding:
    """The operators that detection needs: torchvision's compiled ones, and mmcv's by whatever way they come."""
    try:
        import torch
        from torchvision.ops import nms, roi_align

        boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 9.0], [20.0, 20.0, 30.0, 30.0]])
        kept = nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5).tolist()
        pooled = roi_align(torch.ones(1, 1, 8, 8), [torch.tensor([[0.0, 0.0, 4.0, 4.0]])], 2)
        if kept != [0, 2] or not torch.allclose(pooled, torch.ones(1, 1, 2, 2)):
            return Finding("fault", "operators", "torchvision's nms or roi_align gives wrong results", "reinstall it")
        from eval import mmcv_ops

        mmcv_ops.install()
        importlib.import_module("mmdet.models")
    except Exception as error:
        line = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        return Finding("fault", "operators", line, "install torch and torchvision of one release, and mmdet's packages")
    return Finding("ok", "operators", "nms and roi_align of torchvision compute, mmdet's models import")


def _gpus(wanted: int) -> Finding:
    try:
        import torch
    except ImportError:
        return Finding("warning", "GPUs", "not looked for: torch is missing")
    have = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if have < wanted:
        built = f"torch is built for CUDA {torch.version.cuda}" if torch.version.cuda else "torch is built without CUDA"
        fix = "check the driver (nvidia-smi), the partition and gpus_per_node of the profile"
        return Finding("fault", "GPUs", f"{have} of the {wanted} that a job of this track asks for; {built}", fix)
    names = sorted({torch.cuda.get_device_name(number) for number in range(have)})
    told = f"{have} ({', '.join(names)}), CUDA {torch.version.cuda}" if have else "none, and none is asked for"
    return Finding("ok", "GPUs", told)


# --------------------------------------------------------------------------------------------- workspace, data and disk


def _workspace(settings: Settings) -> Iterator[Finding]:
    try:
        require_writable(settings.workspace)
    except UserError as error:
        yield Finding("fault", "workspace", str(error))
        return
    yield Finding("ok", "workspace", f"{settings.workspace.resolve()} is writable")
    yield _file_system(settings.workspace.resolve())


def _file_system(folder: Path) -> Finding:
    """Locks keep two processes off one job, and a link is how one record of a fingerprint wins."""
    from slurm.folder import try_lock

    probe = folder / f".probe-{uuid.uuid4().hex}"
    other = probe.with_name(f"{probe.name}-link")
    fix = "choose a --workspace on a file system with flock and hard links"
    try:
        lock = try_lock(probe)
        other.hardlink_to(probe)
    except ValueError as error:
        return Finding("fault", "file system", str(error), fix)
    except OSError as error:
        return Finding("fault", "file system", f"no hard links in {folder} ({error.strerror})", fix)
    finally:
        other.unlink(missing_ok=True)
        probe.unlink(missing_ok=True)
    if lock is not None:
        os.close(lock)
    return Finding("ok", "file system", "locks and hard links")


def _data(track: Track, settings: Settings) -> Iterator[Finding]:
    from repro.data import inventory
    from repro.data.types import MissingData

    for name in dict.fromkeys((track.classification, track.detection, track.reid)):
        try:
            yield Finding("ok", "data", f"{name} (manifest {inventory.manifest_of(name, settings.where)[:12]})")
        except (MissingData, UserError) as error:
            yield Finding("fault", "data", str(error))


def _disk(track: Track, methods: Sequence[str], seeds: Sequence[int], settings: Settings) -> Iterator[Finding]:
    from repro.data import inventory

    request = Request(tuple(methods), track.name, seeds=tuple(seeds))
    where = next(
        path for path in (settings.workspace.resolve(), *settings.workspace.resolve().parents) if path.exists()
    )
    try:
        planned = make(request, settings)
    except UserError as error:
        yield Finding("fault", "plan", str(error))
        return
    runs = sum(job.kind == "pretrain" for job in planned.to_do())
    pictures = track.limit or inventory.train_pictures(track.classification, settings.where)
    need = runs * track.disk_gb + pictures * 3 * (track.stored or track.size) ** 2 / 2**30
    free = shutil.disk_usage(where).free / 2**30
    said = f"{free:.1f} GB free, {runs} runs to do on track {track.name} leave about {need:.1f} GB"
    if free < need:
        yield Finding("fault", "disk", said, f"make room in {where}, or choose another --workspace")
    elif free < 2 * need:
        yield Finding("warning", "disk", said, "more than half of what is free")
    else:
        yield Finding("ok", "disk", said)


# -------------------------------------------------------------------------------------------------------------- cluster


def _stays_here(settings: Settings) -> bool:
    from repro.run import execute

    try:
        return execute.why_local(settings) is not None
    except UserError:
        return True


def _cluster(track: Track, settings: Settings) -> Iterator[Finding]:
    from repro.run import execute
    from slurm import scheduler
    from slurm.graph import Resources
    from slurm.profile import Profile

    try:
        profile = Profile.load(settings.cluster)
        need = track.resources["pretrain"]
        profile.spread(Resources(cpus=need.cpus, gpus=need.gpus))
    except ValueError as error:
        yield Finding("fault", "profile", str(error))
        return
    try:
        reason = execute.why_local(settings)
    except UserError as error:
        yield Finding("fault", "SLURM", str(error))
        return
    if reason:
        level: Literal["warning", "ok"] = "warning" if execute.unanswered(settings, reason) else "ok"
        yield Finding(level, "SLURM", f"jobs run on this machine ({reason.partition(':')[0]})")
        return
    yield from _commands("this machine", sacct="fault")
    try:
        config = scheduler.config()
    except ValueError as error:
        yield Finding("fault", "SLURM", str(error))
        return
    told = f"{config.get('SLURM_VERSION', '?')}, cluster {config.get('ClusterName', '?')}"
    yield Finding("ok", "SLURM", f"{told}, arrays of {scheduler.longest_array()}, profile {settings.cluster}")
    storage = config.get("AccountingStorageType", "")
    if storage.endswith("/none") or not storage or storage == "(null)":
        fix = "states of jobs that ended more than MinJobAge ago come from their own outcomes alone"
        yield Finding("warning", "accounting", "switched off", fix)
    else:
        try:
            scheduler.ask(["sacct", "-X", "--noheader", "--parsable2", "--format=JobID"])
            yield Finding("ok", "accounting", storage)
        except ValueError as error:
            yield Finding("warning", "accounting", str(error), "it is switched on but does not answer: ask who runs it")
    yield from _limits(track, profile)
    yield from _through_a_job(track, settings, profile)


def _limits(track: Track, profile: Profile) -> Iterator[Finding]:
    """Would SLURM take the track's own jobs? Asked once for those that want the same."""
    from slurm import cluster
    from slurm.graph import Resources

    alike: dict[Resources, list[str]] = {}
    for stage, need in track.resources.items():
        alike.setdefault(Resources(**asdict(need)), []).append(stage)
    for resources, stages in alike.items():
        if said := cluster.refusal(resources, profile):
            fix = "choose another partition or qos, or set max_minutes, time_scale or gpus_per_node in the profile"
            yield Finding("fault", "limits", f"{', '.join(stages)}: {said}", fix)
        else:
            yield Finding("ok", "limits", f"SLURM takes jobs such as {', '.join(stages)}")


def _commands(where: str, *, sacct: Literal["fault", "warning"]) -> Iterator[Finding]:
    absent = [name for name in ("sbatch", "squeue", "scancel", "srun", "scontrol", "sacct") if not shutil.which(name)]
    if "scontrol" in absent:
        fix = "a job that reaches its time limit cannot queue itself again: ask who runs the cluster, or use retry"
        yield Finding("warning", "commands", f"no scontrol on {where}", fix)
    if "sacct" in absent:
        yield Finding(sacct, "commands", f"no sacct on {where}", "status forgets jobs soon; install SLURM's clients")
    others = [name for name in absent if name not in ("scontrol", "sacct")]
    if others:
        yield Finding("warning", "commands", f"no {', '.join(others)} on {where}")
    if not absent:
        yield Finding("ok", "commands", f"sbatch, squeue, scancel, srun, scontrol and sacct on {where}")


def _through_a_job(track: Track, settings: Settings, profile: Profile) -> Iterator[Finding]:
    """What a machine of the cluster finds, by one small job."""
    from repro.terminal import text
    from slurm import cluster, scheduler
    from slurm.graph import Graph, Node, Resources
    from slurm.states import states

    place = Workspace(settings.workspace)
    folder = place.root / "doctor" / uuid.uuid4().hex[:8]
    need = track.resources["pretrain"]
    token = uuid.uuid4().hex
    folder.mkdir(parents=True)
    (folder / "from-here").write_text(token, encoding="utf-8")
    root = str(settings.data_root.resolve()) if settings.data_root else None
    node = Node(
        key="doctor",
        target="repro.run.doctor:on_node",
        args={"folder": str(folder.resolve()), "token": token, "gpus": need.gpus, "data_root": root},
        resources=Resources(cpus=1, gpus=need.gpus, memory_gb=4.0, minutes=10),
    )
    try:
        job = cluster.submit(Graph([node]), folder=folder, profile=profile, code=snapshot.take(place)).jobs["doctor"]
    except ValueError as error:
        yield Finding("fault", "small job", str(error), "correct the profile or the workspace")
        return
    end = time.monotonic() + _WAIT
    while (state := states(folder)[0]).live and time.monotonic() < end:
        time.sleep(_TICK)
    if state.live:
        scheduler.cancel([job])
        said = f"job {job} is still {state.state}" + (f" ({state.reason})" if state.reason else "")
        yield Finding("warning", "small job", f"{said} after {text.duration(_WAIT)}, cancelled", "ask again later")
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
            "fault", "shared directory", f"what the node wrote to {folder} is not to be seen from here", _SHARE
        )
    else:
        shutil.rmtree(folder, ignore_errors=True)


_SHARE = "choose a --workspace on a file system that all machines mount"


def _holds(path: Path, token: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == token


def on_node(folder: str, token: str, gpus: int, data_root: str | None) -> dict[str, Any]:
    """The target of the small job: the findings of the machine it runs on, as plain values."""
    found = []
    try:
        (Path(folder) / "from-node").write_text(token, encoding="utf-8")
        seen = _holds(Path(folder) / "from-here", token)
        found.append(
            Finding("ok", "shared directory", f"{folder} is seen and writable")
            if seen
            else Finding("fault", "shared directory", f"{folder} is another folder there", _SHARE)
        )
        found.append(_file_system(Path(folder)))
    except OSError as error:
        found.append(Finding("fault", "shared directory", f"cannot write to {folder} ({error.strerror})", _SHARE))
    if data_root and not Path(data_root).is_dir():
        found.append(Finding("fault", "data", f"no folder {data_root} there", "put the data where all machines see it"))
    if scratch := os.environ.get("TMPDIR"):
        fits = os.access(scratch, os.W_OK)
        fix = "" if fits else "correct scratch in the profile"
        found.append(Finding("ok" if fits else "fault", "scratch", scratch + ("" if fits else " is not writable"), fix))
    found += _commands("the node", sacct="warning")
    found += on_machine(gpus)
    return {"machine": platform.node(), "findings": [asdict(finding) for finding in found]}
