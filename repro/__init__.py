"""The hall: command line, plan, stages, data and records. The only package that knows all the others.

>>> import repro
>>> net = repro.load("aps", track="embedded").encoder     # pre-trained if the workspace has it, else initialised
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["load"]

_HOME = Path(__file__).resolve().parent.parent

# `python -m repro` puts the working directory first: a folder there named `eval` or `slurm` would hide our room.
if sys.path and not sys.flags.safe_path:
    _first = Path(sys.path[0] or ".").resolve()
    if _first != _HOME and _first == Path.cwd().resolve() and not (_first / "repro" / "__init__.py").exists():
        del sys.path[0]

if TYPE_CHECKING:
    from repro.api import load as load


def __getattr__(name: str) -> Any:
    if name == "load":
        from repro.api import load

        return load
    raise AttributeError(f"module 'repro' has no attribute '{name}'")
