"""Hash of the source that a job can reach: the part of its fingerprint that a change of code changes.

Code is hashed as what it says, not as where it stands. Of each file that is reached, directly or not, every statement
at its top (a function, a class, a constant) is hashed by its syntax tree, without docstrings, together with what the
names in it stand for: a definition of a file of ours by its own hash, anything else by its dotted name. The hash of a
job is that of the set of these statements. So a comment, a module that moves, a file that is cut in two and imports in
another order change nothing; a changed constant does, and so does a name that is imported from elsewhere. A message
that was reworded changes nothing once `tests/reworded.py` has put its statement into `reworded.json`.
"""

from __future__ import annotations

import ast
import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from repro.store.hashes import digest, file_digest

# Only what can change a number: records, plan, messages and the reading of data (its manifest is hashed) cannot.
REACHES = ("methods", "eval", "repro.stages", "repro.weights")
REWORDED = Path(__file__).with_name("reworded.json")
PACKAGES = ("repro", "methods", "eval", "leaderboards", "slurm")


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


@dataclass
class _File:
    """One source file, read.

    statements: those at its top but imports.  plain: of each the hash by its own words.  names: which of them binds a
    name (its index).  imports: name -> (module, name in it, "" for the module itself).
    """

    statements: list[ast.stmt] = field(default_factory=list)
    plain: list[str] = field(default_factory=list)
    names: dict[str, int] = field(default_factory=dict)
    imports: dict[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def modules(self) -> set[str]:
        """All that it imports from, and what of that may be a module itself."""
        found = set()
        for module, name in self.imports.values():
            found |= {module, f"{module}.{name}"} if name else {module}
        return found


class _WithoutWords(ast.NodeTransformer):
    """Takes docstrings and imports out: what an import brings is hashed where it is used."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        body = getattr(node, "body", None)
        if isinstance(body, list):
            if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
                body = body[1:] if isinstance(body[0].value.value, str) else body
            node.body = [one for one in body if not isinstance(one, ast.Import | ast.ImportFrom)]  # type: ignore[attr-defined]
        return node


@cache
def _read(path: Path) -> _File:
    tree = ast.parse(path.read_bytes())
    found = _File()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found.imports[alias.asname or alias.name.split(".")[0]] = (alias.name, "")
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                found.imports[alias.asname or alias.name] = (node.module, alias.name)
    found.statements = statements(tree)
    found.plain = [published().get(own, own) for own in map(hashed, found.statements)]
    for index, statement in enumerate(found.statements):
        for name in _bound(statement):
            found.names[name] = index
    return found


def statements(tree: ast.Module) -> list[ast.stmt]:
    """Those at the top of a file that count, without docstrings and imports. Changes the tree."""
    return [one for one in _WithoutWords().visit(tree).body if not _for_types_only(one)]


def hashed(statement: ast.stmt) -> str:
    """The hash of a statement's own words."""
    return hashlib.sha256(syntax(statement).encode()).hexdigest()


@cache
def published() -> dict[str, str]:
    """Of statements whose texts alone were changed: the hash by which records know them, by the one of today."""
    return dict(json.loads(REWORDED.read_text(encoding="utf-8")))


def every_hash(root: Path) -> Iterator[str]:
    """The hashes of all statements of a checkout that can make numbers."""
    for room in REACHES:
        for path in sorted((root / room.replace(".", "/")).rglob("*.py")):
            yield from map(hashed, statements(ast.parse(path.read_bytes())))


def syntax(statement: ast.AST) -> str:
    """The syntax tree as text, the same under every version of Python: as 3.11 writes it.

    Later versions have fields for type parameters, and 3.13 leaves out empty lists.
    """
    for node in ast.walk(statement):
        if not getattr(node, "type_params", True):
            del node.type_params  # type: ignore[attr-defined]
    if sys.version_info >= (3, 13):
        return ast.dump(statement, show_empty=True)
    return ast.dump(statement)


def _for_types_only(statement: ast.stmt) -> bool:
    """Whether it is what is left of `if TYPE_CHECKING:` with imports."""
    return isinstance(statement, ast.If) and not statement.body and not statement.orelse


def _bound(statement: ast.stmt) -> Iterator[str]:
    """The names that a statement at the top of a file gives a meaning."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
        return
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def _meaning(file: _File, name: str, hops: int = 8) -> str:
    """What a name stands for in a file: the hash of its definition, or where it comes from; "" for a builtin."""
    if name in file.names:
        return file.plain[file.names[name]]
    if name not in file.imports:
        return ""
    module, wanted = file.imports[name]
    if not _within(module, REACHES):
        return f"{module}.{wanted}".rstrip(".")
    path = _file_of(module)
    other = _read(path) if path else None
    if wanted and other is not None and hops and (wanted in other.names or wanted in other.imports):
        return _meaning(other, wanted, hops - 1)
    return "a module of ours"  # what is used of it is an attribute by its name


def _statements(file: _File) -> Iterator[str]:
    """Hash of each statement with the meaning of the names in it."""
    for index, statement in enumerate(file.statements):
        used = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}
        for node in ast.walk(statement):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                used.add(f"{node.value.id}.{node.attr}")
        meanings = {name: meaning for name in used if (meaning := _of_attribute(file, name))}
        yield digest([file.plain[index], meanings])


def _of_attribute(file: _File, name: str) -> str:
    """`_meaning` of a name, or of `module.name` where the first is a module of ours."""
    first, _, attribute = name.partition(".")
    if not attribute:
        return _meaning(file, first)
    module, wanted = file.imports.get(first, ("", ""))
    path = _file_of(f"{module}.{wanted}".rstrip(".")) if module and _within(module, REACHES) else None
    return _meaning(_read(path), attribute) if path else ""


@cache
def _hashes(path: Path) -> tuple[str, ...]:
    return tuple(_statements(_read(path)))


@cache  # a plan asks for a dozen, thousands of times
def source_hash(*modules: str, rooms: tuple[str, ...] = REACHES) -> str:
    """Hash of these modules and of all that they import, directly or not, within the rooms that make numbers.

    A module outside those rooms (a plug-in method) is hashed when it is named here.
    """
    todo, seen, found = list(modules), set[Path](), set[str]()
    while todo:
        path = _file_of(todo.pop())
        if path is None or path in seen:
            continue
        seen.add(path)
        found.update(_hashes(path))
        todo += [name for name in _read(path).modules if _within(name, rooms)]
    return digest(sorted(found))


@cache
def tree_hash() -> str:
    """Hash of every source file of the five packages: the provenance of a copy without git."""
    parts = []
    for spec in map(find_spec, PACKAGES):
        if spec is None or spec.origin is None:
            continue
        root = Path(spec.origin).parent
        parts += [(f"{root.name}/{path.relative_to(root)}", file_digest(path)) for path in sorted(root.rglob("*.py"))]
    return digest(parts)
