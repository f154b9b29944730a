"""What the front page says of the records: the outcomes counted, the table of verdicts, and what stands behind them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from leaderboards.answers import answers, by_title
from leaderboards.arms import PIXELS, UNTRAINED, Arms
from leaderboards.assessments import Assessment, assess, older_recipes
from leaderboards.claims import Claim
from leaderboards.controls import Controls
from leaderboards.gains import gains
from leaderboards.learnt import warnings
from leaderboards.markdown_tables import outcomes_text
from leaderboards.reading import OLDER_RECIPE
from leaderboards.record_fields import Record
from leaderboards.suite import Suite
from leaderboards.verdict_table import verdict_table

MOST = 19  # rows of the table of verdicts; the page may have 150 lines
_EVALUATIONS = {"linear": "a linear probe", "finetune": "fine-tuning"}  # in which is said how far methods get


def front(records: Sequence[Record], claims: Sequence[Claim], suite: Suite, page: str, track: str) -> str:
    """Outcomes counted, the table of verdicts; below it what is learnt at all.

    page: address of the page of claims.  track: on which is said what is learnt.
    """
    known = Arms(records, suite)
    found = assess(claims, known)
    papers: dict[str, list[Assessment]] = {}
    for item in found:
        papers.setdefault(item.claim.paper, []).append(item)
    titled = by_title(answers(papers))
    table, rest = verdict_table(titled, page, warnings(found, Controls((), known.records, suite)), MOST)
    older = OLDER_RECIPE if older_recipes(found) else ""
    every = [answer for those in titled.values() for answer in those]
    learnt = " ".join(filter(None, (learnt_words(records, suite, track, evaluation) for evaluation in _EVALUATIONS)))
    listed = "\n".join(f"* {words}" for words in (rest, older, learnt) if words)
    return "\n\n".join(filter(None, [outcomes_text(every), table, listed]))


def learnt_words(records: Iterable[Record], suite: Suite, track: str, evaluation: str) -> str:
    """How far untrained networks, the methods and training with labels get, by network, and raw pixels.

    "" without records of a method.
    """
    by_network: dict[str, dict[str, list[float]]] = {}
    pixels, seeds = "", set[int]()
    for row in gains(records, suite, track, [evaluation]):
        gain, arm = row.gains[0], row.arm
        if gain is None:
            continue
        if arm.variant == PIXELS:
            pixels = f"; raw pixels {gain.value:.1f}"
            continue
        seeds.add(len(arm.values(gain.metric)))
        kind = "methods" if not arm.control else "untrained" if arm.method == UNTRAINED else "with labels"
        by_network.setdefault(arm.setting.network.split()[0], {}).setdefault(kind, []).append(gain.value)
    shown = {network: kinds for network, kinds in sorted(by_network.items()) if "methods" in kinds}
    said = "; ".join(f"{network}: {_levels(kinds)}" for network, kinds in shown.items())
    many = " to ".join(map(str, dict.fromkeys((min(seeds), max(seeds))))) if seeds else ""
    of = f"{many} seed{'' if many == '1' else 's'}, each method at its recipe's length"
    return f"Accuracy of {_EVALUATIONS[evaluation]} on {track} ({of}). {said}{pixels}." if said else ""


def _levels(kinds: Mapping[str, Sequence[float]]) -> str:
    """`untrained 33.3, methods 40.2 to 48.3, with labels 57.5`."""
    found = []
    for kind in ("untrained", "methods", "with labels"):
        ends = [f"{end:.1f}" for end in (min(kinds[kind]), max(kinds[kind]))] if kind in kinds else []
        found += [f"{kind} {' to '.join(dict.fromkeys(ends))}"] if ends else []
    return ", ".join(found)
