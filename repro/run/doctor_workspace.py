"""What `doctor` looks at before anything is queued: the workspace, the data of a track, the disk."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence

from repro.errors import UserError
from repro.plan import data_choice
from repro.plan.builder import make
from repro.plan.request import Request
from repro.plan.tracks import ROLES, Track
from repro.run.doctor_findings import Finding, hangs
from repro.run.doctor_machine import file_system
from repro.settings import Settings, require_writable
from repro.store.workspace import Workspace


def workspace(settings: Settings) -> Iterator[Finding]:
    try:
        require_writable(settings.workspace)
    except UserError as error:
        yield Finding("fault", "workspace", str(error))
        return
    yield Finding("ok", "workspace", f"{settings.workspace.resolve()} is writable")
    yield file_system(settings.workspace.resolve())
    yield hangs("task on this machine", settings.patience / 60, "hang_minutes in repro.toml")


def data(track: Track, settings: Settings) -> Iterator[Finding]:
    from repro.data import inventory, standing
    from repro.data.data_sets import entry_of

    names = dict.fromkeys(data_choice.choose(track, role, settings.where).name for role in ROLES)
    for name in names:
        try:
            if missing := standing.of(name, settings.where).missing:
                if entry_of(name).made_of in names:  # which is missing, and is said to be
                    continue
                yield Finding("fault", "data", data_choice.how_missing(missing, name, track))
            else:
                yield Finding("ok", "data", f"{name} (manifest {inventory.manifest_of(name, settings.where)[:12]})")
        except UserError as error:
            yield Finding("fault", "data", str(error))


def disk(track: Track, methods: Sequence[str], seeds: Sequence[int], settings: Settings) -> Iterator[Finding]:
    from repro.data import inventory

    request = Request(tuple(methods), track.name, seeds=tuple(seeds))
    where = Workspace(settings.workspace).on_disk
    try:
        planned = make(request, settings)
    except UserError as error:
        yield Finding("fault", "plan", str(error))
        return
    runs = sum(job.kind == "pretrain" for job in planned.to_do())
    pictures = data_choice.choose(track, "classification", settings.where).name
    count = track.limit or inventory.train_pictures(pictures, settings.where)
    need = runs * track.disk_gb + count * 3 * (track.stored or track.size) ** 2 / 2**30
    free = shutil.disk_usage(where).free / 2**30
    asked = f"1 run on {track.name} needs" if runs == 1 else f"{runs} runs on {track.name} need"
    said = f"{free:.1f} GB free, {asked} about {need:.1f} GB"
    if free < need:
        yield Finding("fault", "disk", said, f"free space in {where}, or choose another --workspace")
    elif free < 2 * need:
        yield Finding("warning", "disk", said, "more than half of what is free")
    else:
        yield Finding("ok", "disk", said)
