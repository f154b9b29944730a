"""Files on the import path that hide a module of Python's own, or a library, by bearing its name.

A file `random.py` in a folder of PYTHONPATH is imported in place of Python's. What fails then is somebody else's code,
far away; here it is traced back to that file. Any module of Python's may be hidden, so only `os` and `sys`, which
Python loads before it looks at PYTHONPATH, are used.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_PYTHONS = os.path.dirname(os.path.realpath(os.__file__))


def guilty(error: BaseException) -> str:
    """The file that hides a module of Python's and had a part in this error; "" where none had.

    It had where the error's traceback leads through it, or where it was imported in place of Python's module.
    """
    loaded = (getattr(sys.modules.get(name), "__file__", None) for name in sorted(sys.stdlib_module_names))
    return next((os.path.abspath(file) for file in (*_files(error), *loaded) if file and _hides(file)), "")


def hidden(libraries: Iterable[str]) -> str:
    """The file that is imported in place of one of these libraries, which are folders; "" where there is none."""
    for name in libraries:
        for folder in sys.path:
            place = os.path.join(folder or os.curdir, name)
            if os.path.isfile(os.path.join(place, "__init__.py")):
                break
            if os.path.isfile(f"{place}.py"):
                return os.path.abspath(f"{place}.py")
    return ""


def line(file: str) -> str:
    """What to say of such a file."""
    return (
        f"{file} is imported in place of the module '{_module(file)}': rename it, or take its folder off the import"
        " path (PYTHONPATH, or the working folder)"
    )


def _hides(file: str) -> bool:
    """Whether it is a module at the top of the import path, of a name of Python's own, and not Python's."""
    file = os.path.realpath(file)
    top = os.path.dirname(os.path.dirname(file) if os.path.basename(file) == "__init__.py" else file)
    return (
        _module(file) in sys.stdlib_module_names
        and not file.startswith(_PYTHONS + os.sep)
        and top in {os.path.realpath(folder or os.curdir) for folder in sys.path}
    )


def _module(file: str) -> str:
    """The name that a file at the top of an import path is imported by."""
    name = os.path.splitext(os.path.basename(file))[0]
    return os.path.basename(os.path.dirname(file)) if name == "__init__" else name


def _files(error: BaseException) -> Iterator[str]:
    """Those that the error and what caused it came through, the innermost first."""
    seen: list[BaseException] = []
    found: list[str] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        seen.append(cause)
        trace = cause.__traceback__
        through = [getattr(cause, "filename", None)] if isinstance(cause, SyntaxError) else []
        while trace is not None:
            through.append(trace.tb_frame.f_code.co_filename)
            trace = trace.tb_next
        found += [file for file in reversed(through) if file]
        cause = cause.__cause__ or cause.__context__
    return iter(found)
