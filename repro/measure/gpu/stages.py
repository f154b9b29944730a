"""The tests of the stages, which on other days run on a pretended GPU, on this one."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys

from repro.errors import UserError
from repro.measure.gpu.part import Case, Found, Tell

_COUNTS = re.compile(r"(\d+) (passed|failed|skipped|errors?|deselected)\b")
_GRACE = 10.0  # seconds that pytest has to say how far it came


def run(case: Case, tell: Tell) -> Found:
    """Let pytest run the files that are given; it is asked to end when the time is up."""
    if not case.tests:
        return Found(True, "left out: no files of tests are given", {})
    if not importlib.util.find_spec("pytest"):
        raise UserError("pytest is not installed, which runs the tests of the stages")
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", *case.tests]
    variables = {"REPRO_GPU": "real"} if case.device == "cuda" else {}
    process = subprocess.Popen(
        command, env=os.environ | variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        output, _ = process.communicate(timeout=max(1.0, case.seconds - _GRACE))
        late = False
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)  # pytest counts what it has done
        late = True
        try:
            output, _ = process.communicate(timeout=_GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
    print(output)
    return judge(output, process.returncode, late)


def judge(output: str, status: int, late: bool) -> Found:
    """What pytest's last lines say."""
    counts = {what.rstrip("s") if what.startswith("error") else what: int(n) for n, what in _COUNTS.findall(output)}
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", output, re.M)
    told = ", ".join(f"{number} {what}" for what, number in counts.items()) or f"pytest ended with status {status}"
    if late:
        told += "; stopped when its time was up"
        if not counts.get("passed"):
            told += ", before a first test had ended; allow more with --minutes"
    good = not failed and counts.get("passed", 0) > 0 and (late or status == 0)
    figures = {"counts": counts, "failed": failed, "stopped": late}
    return Found(good, told + "".join(f"; {name}" for name in failed[:5]), figures)
