"""What tables and pictures cite: this program and the papers of the methods, as BibTeX."""

from __future__ import annotations

from leaderboards.suite import PROGRAM
from repro import __version__
from repro.plan import registry

TITLE = "repro: do the claims of efficient self-supervised visual pre-training papers hold?"
AUTHORS = "The repro developers"


def citations() -> dict[str, str]:
    """Entries by key: the suite and every method that comes from a paper."""
    found = {
        PROGRAM: _entry("software", PROGRAM, {"title": TITLE, "author": f"{{{AUTHORS}}}", "version": __version__}),
    }
    for name, method in sorted(registry.methods().items()):
        authors, _, place = method.paper.partition("; ")
        if place:
            fields = {
                "title": f"{{{method.title}}}",
                "author": " and ".join(authors.replace(" et al.", ", others").split(", ")),
                "howpublished": place.rpartition(" ")[0],
                "year": place.rpartition(" ")[2],
                **({"eprint": method.arxiv, "archiveprefix": "arXiv"} if method.arxiv else {}),
            }
            found[name] = _entry("misc", name, fields)
    return found


def _entry(kind: str, key: str, fields: dict[str, str]) -> str:
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items()]
    return "\n".join([f"@{kind}{{{key},", *lines, "}"])
