"""The code of a submission, kept: a copy of the five packages in the workspace that its tasks import, and of the
files of plug-ins.

A job is known by a fingerprint that covers its code, and it may start hours after that was taken. So whatever starts
it, a cluster or this machine, lets it import the copy that was made when it was planned. A copy is named by the hash of
its files and made once.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from repro.errors import UserError
from repro.store.source_hash import PACKAGES, tree_hash
from repro.store.workspace import Workspace

_ABOUT = "snapshot.json"


def take(place: Workspace, modules: Iterable[str] = ()) -> Path:
    """The folder that holds this very code; copied on first use.

    modules: of methods, as recipes name them; of those the files of plug-ins ("/folder/toy.py:Toy") are kept too.
    Raises UserError where it would lie in a folder that cannot be imported from.
    """
    if os.pathsep in str(place.code.resolve()):
        raise UserError(
            f"jobs cannot import the code in {place.code.resolve()}: on Python's import path '{os.pathsep}' separates"
            " folders; choose another --workspace"
        )
    # a process that runs a snapshot takes that same one again
    about = json.dumps({key: value for key, value in code().items() if key != "snapshot"}, indent=1)
    hashed = hashlib.sha256(about.encode())
    sources = {}
    for room in PACKAGES:
        root = room_folder(room)
        for path in sorted(root.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                name = f"{room}/{path.relative_to(root).as_posix()}"
                sources[name] = path.read_bytes()
                hashed.update(f"{name}\0{len(sources[name])}\0".encode() + sources[name])
    for file in sorted({module.rpartition(":")[0] for module in modules}):
        if file.endswith(".py"):
            name = _plugin(file)
            sources[name] = Path(file).read_bytes()
            hashed.update(f"{name}\0{len(sources[name])}\0".encode() + sources[name])
    target = place.code.resolve() / hashed.hexdigest()[:16]
    if (target / _ABOUT).is_file():
        with contextlib.suppress(OSError):
            os.utime(target)  # in use from now on (garbage.py)
        return target
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        for name, content in sources.items():
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            (temporary / name).write_bytes(content)
        (temporary / _ABOUT).write_text(about, encoding="utf-8")
        temporary.rename(target)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        if not target.is_dir():  # else somebody was faster
            raise
    return target


def _plugin(file: str) -> str:
    return f"plugins/{hashlib.sha256(os.fsencode(file)).hexdigest()[:16]}.py"


def kept(module: str) -> str:
    """The module of a method as it was submitted: in a process that runs a snapshot, the copy of a plug-in's file."""
    file, _, name = module.rpartition(":")
    copy = Path(__file__).resolve().parents[2] / _plugin(file)
    return f"{copy}:{name}" if copy.is_file() else module


def room_folder(room: str) -> Path:
    """Where a package is imported from, found without importing it."""
    spec = find_spec(room)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"the package '{room}' is not to be found")
    return Path(spec.origin).parent


@cache
def code() -> dict[str, Any]:
    """Commit, dirty flag and hash of the source files; without git the hash has to serve.

    In a process that runs a snapshot: those of the tree that it was made of, and the snapshot's name.
    """
    home = Path(__file__).resolve().parents[2]
    if (home / _ABOUT).is_file():
        return {**json.loads((home / _ABOUT).read_text(encoding="utf-8")), "snapshot": home.name}
    commit = _git(home, "rev-parse", "HEAD")
    return {
        "commit": commit or "unknown",
        "dirty": bool(_git(home, "status", "--porcelain", "--untracked-files=no")) if commit else None,
        "source_hash": tree_hash()[:16],
    }


def _git(home: Path, *arguments: str) -> str | None:
    if not (home / ".git").exists():
        return None
    try:
        answer = subprocess.run(
            ["git", "-C", str(home), *arguments], capture_output=True, text=True, errors="replace", timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None
