"""`doctor`: checks whether a run would work here and on the cluster, before anything is queued; one line per finding.

On this machine it looks at the packages, their operators, the data of a track and the disk. Where there is a SLURM it
also sends one small job by the way that all jobs go (profile, set-up lines, snapshot of the code) and looks at the same
from there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from repro.plan import tracks
from repro.run.doctor_cluster import cluster, stays_here
from repro.run.doctor_findings import Finding
from repro.run.doctor_machine import on_machine, rooms
from repro.run.doctor_workspace import data, disk, workspace
from repro.settings import Settings


def examine(
    settings: Settings, name: str, methods: Sequence[str], seeds: Sequence[int], tell: Callable[[Finding], None]
) -> int:
    """Look at everything for runs of these methods and seeds on the track of that name.

    Tells each finding as it is made and returns how many are faults.
    """
    track = tracks.find(name)
    found = rooms()
    if found.level == "fault":  # then most of what follows could not be imported
        tell(found)
        return 1
    faults = 0
    for findings in (
        workspace(settings),
        on_machine(track.need("pretrain").gpus if stays_here(settings) else 0),
        data(track, settings),
        disk(track, methods, seeds, settings),
        cluster(track, settings),
    ):
        for finding in findings:
            tell(finding)
            faults += finding.level == "fault"
    return faults
