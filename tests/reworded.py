"""Keeps results comparable where code that makes numbers got other messages and nothing else.

    python tests/reworded.py COMMIT

A fingerprint contains a hash of the code, so a new message in that code would part old results from new ones. COMMIT is
the state before the rewording. `repro/store/reworded.json` then maps each statement in which only texts differ to the
hash that records have. The command prints each changed text. Check them: a text that code goes by, such as a key or the
name of a random stream, is no message. A statement that differs in more is named and counts as new code.
"""

from __future__ import annotations

import ast
import copy
import json
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parent.parent


class _Texts(ast.NodeTransformer):
    """Takes texts out, and keeps them. The values in an f-string stay, in an order of their own."""

    def __init__(self) -> None:
        self.taken: list[str] = []

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if not isinstance(node.value, str):
            return node
        self.taken.append(node.value)
        return ast.Constant("")

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        parts = [part if isinstance(part, ast.Constant) else ast.unparse(part) for part in node.values]
        self.taken.append("".join(part if isinstance(part, str) else str(part.value) for part in parts))
        own = self.taken
        self.taken = []
        values = [self.visit(part) for part in node.values if not isinstance(part, ast.Constant)]
        self.taken = own
        return ast.JoinedStr(sorted(values, key=ast.dump))


def texts(statement: ast.stmt) -> tuple[str, list[str]]:
    """The statement without its texts, and the texts."""
    found = _Texts()
    whole = copy.deepcopy(statement)
    for node in ast.walk(whole):
        if getattr(node, "body", None) == []:
            node.body = [ast.Pass()]  # type: ignore[attr-defined]  # it had a docstring or imports alone
    without = ast.dump(found.visit(ast.parse(ast.unparse(whole))))  # f-strings joined as they are read
    return without, found.taken


def reworded(before: Path, now: Path, rooms: tuple[str, ...]) -> Iterator[tuple[str, str, str]]:
    """(hash now, hash before, its texts) of each statement with other texts; ("", "", why) of one that differs in more.

    before, now: roots of two checkouts.
    """
    from repro.store import source_hash

    for room in rooms:
        for path in sorted((now / room).rglob("*.py")):
            file = path.relative_to(now)
            if not (before / file).is_file():
                yield "", "", f"{file}: new"
                continue
            old, new = (source_hash.statements(ast.parse(one.read_bytes())) for one in (before / file, path))
            if len(old) != len(new):
                yield "", "", f"{file}: {len(old)} statements before, {len(new)} now"
                continue
            for one, other in zip(old, new, strict=True):
                was, is_ = source_hash.hashed(one), source_hash.hashed(other)
                if was == is_:
                    continue
                (left, words), (right, others) = texts(one), texts(other)
                if left != right or len(words) != len(others):
                    yield "", "", f"{file}, line {other.lineno}: more than texts differs"
                else:
                    pairs = [f"  {a!r}\n  {b!r}" for a, b in zip(words, others, strict=True) if a != b]
                    yield is_, was, "\n".join([f"{file}, line {other.lineno}", *pairs])


def main(commit: str) -> int:
    """Write the table; 1 where a statement differs in more than texts."""
    from repro.store import source_hash

    rooms = tuple(room.replace(".", "/") for room in source_hash.REACHES)
    kept_in = source_hash.REWORDED.relative_to(ROOT)
    wanted = ["git", "archive", commit, *rooms, str(kept_in)]
    with TemporaryDirectory() as folder:
        packed = subprocess.run(wanted, cwd=ROOT, capture_output=True, check=True).stdout
        with tarfile.open(fileobj=BytesIO(packed)) as archive:
            archive.extractall(folder, filter="data")
        found = list(reworded(Path(folder), ROOT, rooms))
        known = json.loads((Path(folder) / kept_in).read_text(encoding="utf-8"))  # of then: today's may be half done
    new = [said for now, _, said in found if not now]
    same = {now: (known.get(before, before), said) for now, before, said in found if now}
    print("\n".join([*(said for _, said in same.values()), *(f"new code: {said}" for said in new)]))
    table = {**known, **{now: records for now, (records, _) in same.items()}}
    there = set(source_hash.every_hash(ROOT))
    kept = {now: records for now, records in sorted(table.items()) if now in there}
    source_hash.REWORDED.write_text(json.dumps(kept, indent=0) + "\n", encoding="utf-8")
    print(f"{len(same)} statements have other texts, {len(kept)} rows in {source_hash.REWORDED.name}")
    return 1 if new else 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main(*sys.argv[1:]))
