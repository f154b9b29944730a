"""What the processes of `repro gpu` do."""

from __future__ import annotations

import json
import os
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any

from repro import jobs
from repro.errors import UserError
from repro.measure.gpu import device
from repro.measure.gpu.part import Case, Figures
from repro.measure.gpu.parts import PARTS
from slurm.files import write_atomic


def look(kind: str, threads: int, answer: Path) -> None:
    """What the device is, as JSON in the file `answer`: facts, or the fault where it is none."""
    _settle(kind, threads)
    told: dict[str, Any] = {"facts": {}, "fault": ""}
    try:
        told["facts"] = device.facts(device.of_kind(kind))
    except UserError as error:
        told["fault"] = str(error)
    write_atomic(answer, json.dumps(told))


def work(name: str, case: Case, threads: int, answer: Path) -> None:
    """One part. Its findings go to the file `answer`, as JSON, also before it is done: `good` is None until then.

    The device is left to the part: one that forks must not have used it.
    """
    kept: Figures = {}

    def write(good: bool | None, line: str) -> None:
        write_atomic(answer, json.dumps({"good": good, "line": line, "figures": kept}))

    def tell(figures: Figures) -> None:
        kept.update(figures)
        write(None, "")

    try:
        _settle(case.device, threads)
        module, _, function = PARTS[name].run.partition(":")
        found = getattr(import_module(module), function)(case, tell)
        kept.update(found.figures)
        write(found.good, found.line)
    except (Exception, SystemExit) as error:
        if not isinstance(error, UserError):
            traceback.print_exc()
        words = (str(error).splitlines() or [""])[0]
        write(False, words if isinstance(error, UserError | SystemExit) else f"{type(error).__name__}: {words}")


def _settle(kind: str, threads: int) -> None:
    if kind == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # read when torch looks for the first time
    jobs.settle(threads)
