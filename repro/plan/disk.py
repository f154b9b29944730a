"""What the pictures of a plan need on the disk: decoded once, or left in their files."""

from __future__ import annotations

import shutil

from repro.data.data_sets import entry_of
from repro.data.preparing import stays_in_files
from repro.errors import UserError, unknown
from repro.plan.planned import Plan
from repro.settings import STORED, Settings
from repro.store.workspace import Workspace
from repro.terminal import text

_SMALL = 10**9  # bytes of which nothing is said


def require_stored(stored: str, name: str) -> None:
    """UserError where the pictures of that data set cannot be stored so."""
    if stored not in STORED:
        raise UserError(f"--set data.stored: {unknown('way to store images', stored, STORED)}")
    if stored != STORED[0] and not stays_in_files(entry_of(name)):
        raise UserError(f"--set data.stored={stored}: the images of '{name}' are not files; leave it out")


def lines(plan: Plan, settings: Settings) -> list[str]:
    """A line on both ways where the pictures of classes are many and leave the choice, or where it was made."""
    names = {job.spec["data"]["name"] for job in plan.to_do() if "size" in job.spec and "data" in job.spec}
    side, found = plan.track.stored or plan.track.size, []
    free = shutil.disk_usage(Workspace(settings.workspace).on_disk).free
    for entry in map(entry_of, sorted(names)):
        count = plan.account.pictures if entry.own and plan.account else sum(entry.counts.values())
        need = count * 3 * side**2
        packed = plan.stored == STORED[0]
        if stays_in_files(entry) and (need > _SMALL or not packed):
            found.append(
                f"disk: {count:,} images, decoded once to {side} x {side}, need {text.size(need)} beside their files"
                f" ({text.size(free)} free); "
                + (
                    f"--set data.stored={STORED[1]} decodes images while training and stores only a list of file names;"
                    " results are the same"
                    if packed
                    else "here images are decoded while training, and only a list of file names is stored"
                )
            )
    return found
