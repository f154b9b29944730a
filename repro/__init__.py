"""The program: command line, plan, stages, data and records. The only package that knows all the others.

>>> import repro
>>> net = repro.load("aps", track="embedded").encoder     # pre-trained if the workspace has it, else initialised
"""

from __future__ import annotations

import os
import sys

_HOME = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# `python -m repro` puts the working directory first: a file there named `random.py` or `torch.py` would hide a module
# that we need, so nothing else may be imported before this. While Python looks for us, its first argument is "-m".
if sys.argv[:1] == ["-m"] and not sys.flags.safe_path:
    del sys.path[0]
    if _HOME not in sys.path:
        sys.path.append(_HOME)

from importlib.machinery import ModuleSpec, PathFinder  # noqa: E402

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from repro.api import load as load

__version__ = "0.1.0"
__all__ = ["load"]

ROOMS = ("methods", "eval", "leaderboards", "slurm")


class _OurRooms:
    """Finds the four rooms where we are, before whatever else is called so on the import path."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        return PathFinder.find_spec(name, [_HOME]) if name in ROOMS else None


sys.meta_path.insert(0, _OurRooms)


def __getattr__(name: str) -> Any:
    if name == "load":
        from repro.api import load

        return load
    raise AttributeError(f"module 'repro' has no attribute '{name}'")
