"""Numbers in the repository's READMEs: they stand between marks, and are made of the published records alone.

<!-- generated: gains mini -->
...
<!-- end -->
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path

from leaderboards import readme_tables
from leaderboards.front_page import front
from leaderboards.record_fields import Record
from leaderboards.suite import Suite
from repro.results.find_records import every_claim

PAGES = (
    "README.md",
    *(f"{room}/README.md" for room in ("eval", "leaderboards", "methods", "repro", "slurm", "tests")),
)
_BLOCK = re.compile(r"(<!-- generated: (?P<name>[\w ]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_MARK = re.compile(r"<!-- *(?:generated\b|end *-->).*")
_WRITE = "python -m repro report --published"


def tables(records: Sequence[Record], suite: Suite) -> Mapping[str, Callable[[], str]]:
    """What may stand between marks, by the name in them."""
    return {
        "run aps": lambda: readme_tables.run_table(
            records, every_claim(), suite, "aps", "embedded", ("torch", "torchvision")
        ),
        "verdicts": lambda: front(records, every_claim(), suite, "leaderboards/claims.md", "mini"),
        "gains embedded": lambda: readme_tables.gains_table(records, suite, "embedded"),
        "gains mini": lambda: readme_tables.gains_table(records, suite, "mini"),
        "costs mini": lambda: readme_tables.costs_table(records, suite, "mini"),
        "parts mini": lambda: readme_tables.parts_table(records, every_claim(), suite, "mini"),
        "parts verdicts": lambda: readme_tables.parts_verdicts(records, every_claim(), suite, "mini"),
    }


def filled(text: str, made: Mapping[str, Callable[[], str]]) -> str:
    """The text with every block made anew.

    Raises:
        ValueError: a block of a name that nothing makes, or a mark without its other half.
    """
    marks = [found[0].strip() for found in _MARK.finditer(text)]
    paired = [mark for found in _BLOCK.finditer(text) for mark in (found[1].strip(), found[3])]
    if marks != paired:
        first = next((m for m, p in zip_longest(marks, paired) if m and m != p), marks[-1])
        raise ValueError(f"mark '{first}' is not one of a pair; write <!-- generated: NAME -->, then <!-- end -->")

    def block(found: re.Match[str]) -> str:
        name = found["name"]
        if name not in made:
            raise ValueError(f"no table is called '{name}'; known are {', '.join(sorted(made))}")
        return f"{found[1]}{made[name]()}\n\n{found[3]}"  # a mark right below a table would be a row of it

    return _BLOCK.sub(block, text)


def fill(root: Path, records: Sequence[Record], suite: Suite) -> list[Path]:
    """Write the blocks of a checkout's pages; returns the pages that changed."""
    made = tables(records, suite)
    changed = []
    for path in _pages(root):
        before = path.read_text(encoding="utf-8")
        if (after := _filled(path, before, made)) != before:
            path.write_text(after, encoding="utf-8")
            changed.append(path)
    return changed


def drift(root: Path, records: Sequence[Record], suite: Suite) -> list[str]:
    """One line for every page whose blocks are not what the records give."""
    made = tables(records, suite)
    return [
        f"{path.relative_to(root)}: a table does not match the records; write it again with {_WRITE}, never by hand"
        for path in _pages(root)
        if _filled(path, text := path.read_text(encoding="utf-8"), made) != text
    ]


def _filled(path: Path, text: str, made: Mapping[str, Callable[[], str]]) -> str:
    try:
        return filled(text, made)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _pages(root: Path) -> list[Path]:
    return [path for name in PAGES if (path := root / name).is_file()]
