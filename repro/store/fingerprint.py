"""Hashes: of plain values, of files, and of the source that a job can reach.

The fingerprint of a job covers its spec, its seed, its data manifest, the fingerprints it depends on and the code that
can change its numbers. Code is hashed as its syntax tree without docstrings: a comment invalidates nothing, a changed
constant does.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

# Only what can change a number: records, plan, messages and the reading of data (its manifest is hashed) cannot.
REACHES = ("methods", "eval", "repro.stages", "repro.stages.schedules")


def digest(value: Any) -> str:
    """SHA-256 (hex) of a plain JSON value, independent of key order."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 (hex) of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _within(module: str, rooms: Sequence[str]) -> bool:
    return any(module == room or module.startswith(room + ".") for room in rooms)


@cache
def _file_of(module: str) -> Path | None:
    """The source file of a module, found without importing it or its parents (`find_spec` of a dotted name would).

    A plug-in's module may be a file itself: "/folder/toy.py".
    """
    if module.endswith(".py"):
        return Path(module) if Path(module).is_file() else None
    top, *rest = module.split(".")
    spec = find_spec(top)
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    if not rest:
        return Path(spec.origin)
    below = Path(spec.origin).parent.joinpath(*rest)
    return next((file for file in (below.with_suffix(".py"), below / "__init__.py") if file.is_file()), None)


@cache
def _read(path: Path) -> tuple[str, tuple[str, ...]]:
    """(hash of the code, modules of the rooms that make numbers it imports) of one source file."""
    tree = ast.parse(path.read_bytes())
    imports: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            imports.add(node.module)
            imports.update(f"{node.module}.{alias.name}" for alias in node.names)
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            first = body[0].value
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                first.value = ""
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest(), tuple(
        sorted(name for name in imports if _within(name, REACHES))
    )


def source_hash(*modules: str, rooms: Sequence[str] = REACHES) -> str:
    """Hash of these modules and of all that they import, directly or not, within the rooms that make numbers.

    A module outside those rooms (a plug-in method) is hashed when it is named here.
    """
    todo, seen = list(modules), dict[str, str]()
    while todo:
        module = todo.pop()
        if module in seen:
            continue
        path = _file_of(module)
        if path is None:
            continue
        seen[module], imports = _read(path)
        todo += [name for name in imports if _within(name, rooms)]
    return digest(sorted(seen.items()))


@cache
def tree_hash() -> str:
    """Hash of every source file of the five packages: the provenance of a copy without git."""
    rooms = [find_spec(name) for name in ("repro", "methods", "eval", "leaderboards", "slurm")]
    parts = []
    for spec in rooms:
        if spec is None or spec.origin is None:
            continue
        root = Path(spec.origin).parent
        parts += [(root.name + "/" + str(p.relative_to(root)), file_digest(p)) for p in sorted(root.rglob("*.py"))]
    return digest(parts)
