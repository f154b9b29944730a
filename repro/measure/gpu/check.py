"""`repro gpu`: its parts one after another, each in a process of its own, within a time.

Of each part one line is printed, and all of its figures are in FILE as soon as it is done, be it done or not.
"""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from repro.errors import UserError, unknown
from repro.measure.gpu import processes
from repro.measure.gpu.budget import Budget
from repro.measure.gpu.part import KINDS, Case
from repro.measure.gpu.parts import PARTS
from repro.settings import Settings, require_temporary, require_writable
from slurm.files import write_atomic
from slurm.logs import last_line, quoted
from slurm.machine import cores_here
from slurm.process import death

FILE, LOG = "gpu.json", "gpu.log"
_SCHEMA = 1
_TOLD = {"done": "", "failed": "FAILED: ", "ended": "FAILED: ended by its time limit; "}


def run(
    settings: Settings,
    kind: str,
    minutes: float,
    output: Path,
    chosen: Sequence[str] = (),
    tests: Sequence[str] = (),
    threads: int | None = None,
) -> int:
    """Run the parts (`chosen`; none: all) and return the exit status: 1 where one failed.

    kind: of the device.  minutes: for all together, this function's own beginning included.  output: folder of FILE
    and LOG.  tests: files for pytest.  threads: of torch; None: all cores for a GPU's host, one where the CPU is the
    device.
    """
    budget = Budget(60 * minutes)
    if kind not in KINDS:
        raise unknown("device", kind, KINDS)
    if not 0 < minutes < math.inf:
        raise UserError("gpu: --minutes must be positive")
    if threads is not None and threads < 1:
        raise UserError("gpu: --threads must be positive")
    for name in chosen:
        if name not in PARTS:
            raise unknown("part", name, PARTS)
    for file in tests:
        if not Path(file).exists():
            raise UserError(f"gpu: no test file {file}; fix --tests")
    threads = threads or (1 if kind == "cpu" else cores_here())
    require_temporary()
    require_writable(output)
    require_writable(settings.workspace)
    found: dict[str, Any] = {"schema": _SCHEMA, "minutes": minutes, "device": begin(kind, threads, output / LOG)}
    parts = [part for name, part in PARTS.items() if not chosen or name in chosen]
    kept: dict[str, Any] = found.setdefault("parts", {})
    for number, part in enumerate(parts):
        weights = part.weight, sum(later.weight for later in parts[number + 1 :])
        aim, limit = budget.aim(*weights), budget.limit(*weights)
        case = Case(kind, kind == "cpu", aim, settings.workspace, settings.data_root, tuple(tests))
        told = kept[part.name] = one(part.name, case, limit, threads, output / LOG)
        write_atomic(output / FILE, json.dumps(found, indent=1))
        print(f"{part.name} ({told['seconds']:.0f} s): {_TOLD[told['state']]}{told['line']}", flush=True)
    bad = [name for name, told in kept.items() if told["state"] != "done"]
    name = found["device"]["name"]
    print(f"{len(parts) - len(bad)} of {len(parts)} parts as they must be on {name}; figures in {output / FILE}")
    return 1 if bad else 0


def begin(kind: str, threads: int, log: Path) -> dict[str, Any]:
    """Import what the parts need, once for all; returns the facts of the device. UserError where there is none."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        process = processes.start(log, _look, kind, threads, answer)
        process.join()
        if not answer.is_file():
            raise UserError(f"gpu: {death(process.exitcode or 0)}{quoted(last_line(log))}; see {log}")
        told = json.loads(answer.read_text(encoding="utf-8"))
    if told["fault"]:
        raise UserError(told["fault"])
    facts: dict[str, Any] = told["facts"]
    return facts


def _look(*arguments: Any) -> None:
    from repro.measure.gpu.working import look  # torch is for the processes

    look(*arguments)


def _work(*arguments: Any) -> None:
    from repro.measure.gpu.working import work

    work(*arguments)


def one(name: str, case: Case, limit: float, threads: int, log: Path) -> dict[str, Any]:
    """What a part leaves: state ("done", "failed", "ended": at its limit), seconds, line, figures."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        process = processes.start(log, _work, name, case, threads, answer)
        try:
            process.join(limit)
            late = process.is_alive()
        finally:
            processes.end(process)
        told = json.loads(answer.read_text(encoding="utf-8")) if answer.is_file() else {}
    good = told.pop("good", None)
    state = "done" if good else "failed" if good is not None or not late else "ended"
    if state == "ended":
        told["line"] = f"after {limit:.0f} s; what it found until then is kept"
    elif good is None:
        told["line"] = f"{death(process.exitcode or 0)}{quoted(last_line(log))}; see {log}"
    empty: dict[str, Any] = {"line": "", "figures": {}}
    return {"state": state, "seconds": round(time.monotonic() - began, 1), **empty, **told}
