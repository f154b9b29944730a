"""What the control groups of this process leave it: memory and cores. The smallest limit of all that it is nested in.

A container or a job of SLURM sees the whole machine's memory and cores, and the kernel kills what takes more than its
group may. A container that sees its own group as the root, a job that sees the machine's whole tree, and both versions
of control groups (also side by side) look different; whatever is found on the way up counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_ROOT = Path("/sys/fs/cgroup")
_SELF = Path("/proc/self/cgroup")
_UNLIMITED = 2**60  # version 1 says "no limit" by a number near the largest


def memory_left(root: Path | None = None, own: Path | None = None) -> float:
    """Bytes that the groups may still take; infinite where none has a limit.

    root: where control groups are mounted.  own: the file that names those of a process. What is only a copy of files
    on the disk counts as free: the kernel drops it first.
    """
    left = math.inf
    for group in _groups("memory", root or _ROOT, own or _SELF):
        for limit, used, dropped in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.high", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            most = _number(group / limit)
            if most is not None and most < _UNLIMITED:
                taken = (_number(group / used) or 0) - _statistic(group / "memory.stat", dropped)
                left = min(left, most - max(taken, 0))
    return max(left, 0)


def cores(root: Path | None = None, own: Path | None = None) -> float:
    """Cores' worth of time that the groups may use; infinite where none has a quota. Arguments as `memory_left`."""
    most = math.inf
    for group in _groups("cpu", root or _ROOT, own or _SELF):
        quota, _, period = _read(group / "cpu.max").partition(" ")
        if not quota:
            quota, period = _read(group / "cpu.cfs_quota_us"), _read(group / "cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit() and int(period):
            most = min(most, int(quota) / int(period))
    return most


def _groups(controller: str, root: Path, own: Path) -> Iterator[Path]:
    """The folders of this process's group and of all that it is nested in, of both versions."""
    for line in _read(own).splitlines() or ["0::/"]:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            mounts = [root, root / "unified"]
        elif controller in controllers.split(","):
            mounts = [root / controllers, root / controller]
        else:
            continue
        # A path that begins with ".." lies outside of what a container sees: its own root is all there is.
        inside = PurePosixPath("/") if ".." in PurePosixPath(path).parts else PurePosixPath(path)
        for mount in mounts:
            for group in (inside, *inside.parents):
                yield mount / group.relative_to("/")


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="surrogateescape").strip()
    except OSError:
        return ""


def _number(file: Path) -> int | None:
    text = _read(file)
    return int(text) if text.isdigit() else None


def _statistic(file: Path, name: str) -> int:
    lines = (line.split() for line in _read(file).splitlines())
    return next((int(words[1]) for words in lines if len(words) == 2 and words[0] == name and words[1].isdigit()), 0)
