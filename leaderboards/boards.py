"""Boards: what stands in them. `compose` says it; `markdown` and `report` are views of that.

The same records give the same bytes, and nobody edits a view by hand. A table holds numbers of one track, one data set
and one protocol. A row is an arm: mean and sample standard deviation over its seeds, the records it comes from at its
end. What a newer recipe has superseded has no row.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from leaderboards import columns, efficiency
from leaderboards.arms import UNTRAINED, Arm, Arms
from leaderboards.assessments import Assessment, assess
from leaderboards.board_texts import (
    COSTS,
    FEWER,
    FULL,
    LEAD,
    MORE_ON_PRETEXT,
    MORE_ON_RACES,
    OF_COSTS,
    OWN_COST,
    PRETEXT,
    RACES,
    SHORT,
    row_names,
)
from leaderboards.cells import Cell, Link, sources
from leaderboards.claims import TRACKS, Claim, with_another
from leaderboards.controls import Controls, above, is_pixels
from leaderboards.curves import reached, watched
from leaderboards.efficiency import Paid
from leaderboards.learnt import Learnt, learnt, warnings
from leaderboards.needs import Need, needs
from leaderboards.paired_arms import apart
from leaderboards.pictured import names
from leaderboards.reading import of_embedded
from leaderboards.recipe_differences import left_out, recipes_apart, tuned
from leaderboards.suite import Evaluation
from leaderboards.tables import Table, best_first, by_scope, lines_under, page_order
from leaderboards.verdicts import NO_VERDICTS
from leaderboards.wording import place

_ENOUGH = 3  # trained networks, before a table is said to tell nothing
_TELLING = 1.0  # points above the untrained network that at least one of them must reach


@dataclass(frozen=True)
class Section:
    """What stands under a heading of its own below the tables of a board, an item each."""

    title: str
    items: tuple[str, ...]


@dataclass(frozen=True)
class Board:
    """One board: of an evaluation, of costs, or of pretext tasks."""

    name: str
    title: str
    lead: tuple[str, ...]  # what a reader needs before the first number, an item each
    tables: list[Table]
    sections: tuple[Section, ...] = ()  # below the tables
    further: tuple[str, ...] = ()  # what the further columns are of its tables with all columns, an item each
    metrics: tuple[str, ...] = ()  # of an evaluation: the columns that it is known by

    @property
    def arms(self) -> int:
        """How many rows it has."""
        return sum(len(table.rows) for table in self.tables)

    @property
    def records(self) -> int:
        """How many records its rows come from."""
        return sum(len(row["from"].links) for table in self.tables for row in table.rows)

    @property
    def tracks(self) -> str:
        """The tracks of its tables, the smallest first: `embedded, mini`."""
        found = {table.setting.track for table in self.tables if table.setting}
        return ", ".join(track for track in TRACKS if track in found) or "no records yet"


@dataclass(frozen=True)
class Content:
    """What stands in the boards, before any view of it, and what its pictures are drawn of."""

    known: Arms
    claims: Sequence[Claim]
    link: Link
    evaluations: list[Board]
    efficiency: Board
    pretext: Board
    papers: dict[str, list[Assessment]]
    needs: list[Need]  # of claims on larger tracks
    paid: list[Paid]
    watched: list[Arm]
    controls: Controls

    def sources(self, item: Assessment) -> list[tuple[str, list[tuple[str, Cell]]]]:
        """What the verdicts on a claim were computed from: (where, (arm, its records) of each side)."""
        return [
            (place(verdict), [(used.arm, sources(used.records, self.link)) for used in verdict.rests_on])
            for verdict in item.verdicts
            if verdict.rests_on
        ]

    def learnt(self, item: Assessment) -> list[Learnt]:
        """What pre-training changed for a claim's two arms, for each track."""
        return learnt(item, self.controls)

    def warnings(self) -> dict[str, str]:
        """By id of a claim, why its test is weak."""
        return warnings(self.assessments, self.controls)

    @property
    def assessments(self) -> list[Assessment]:
        return [claim for found in self.papers.values() for claim in found]


def compose(known: Arms, claims: Sequence[Claim], link: Link) -> Content:
    """What stands in every board.

    Args:
        known: records of all kinds, as arms.
        claims: what `claim_files.load()` gives.
        link: record -> address of its file, relative to the boards.
    """
    papers: dict[str, list[Assessment]] = defaultdict(list)
    assessed = assess(claims, known)
    for item in assessed:
        papers[item.claim.paper].append(item)
    for found in papers.values():
        found.sort(key=lambda item: not item.answered)  # what records say of comes first
    groups, seen = efficiency.paid(known), watched(known.current("pretrain"))
    controls = Controls((), known.records, known.suite)
    return Content(
        known=known,
        claims=claims,
        link=link,
        evaluations=[
            _evaluation(evaluation, known, claims, controls, link) for evaluation in known.suite.evaluations.values()
        ],
        efficiency=_efficiency(groups, seen, claims, known, link),
        pretext=_pretext(known, link),
        papers=dict(papers),
        needs=needs(assessed, known.suite),
        paid=groups,
        watched=seen,
        controls=controls,
    )


def _evaluation(evaluation: Evaluation, known: Arms, claims: Sequence[Claim], controls: Controls, link: Link) -> Board:
    first = evaluation.metrics[0]
    made, apart_lines, shown = [], [], []
    for group in by_scope(arm for arm in known.current(evaluation.kind) if arm.values(first)):
        group.sort(key=lambda arm: best_first(arm, first))
        called = names(group, known.suite)
        beside = {arm: _beside(arm, called, first, claims, controls) for arm in group}
        below = [of_embedded(any(map(is_pixels, group)))] if group[0].setting.track == NO_VERDICTS else []
        table = Table(
            group[0].setting.words,
            [columns.of_evaluation(arm, evaluation, link) for arm in group],
            ("test set", "device", "trials", "date"),
            [*_against(beside, called), *_untrained_wins(beside, called, first), *below, *lines_under(group)],
            group[0].setting,
            [columns.in_short(arm, called[arm], first, beside[arm], link) for arm in group],
            _silent(beside, first),
        )
        made.append((page_order(group[0].setting), bool(table.silent), table))
        if not table.silent:
            shown += group
            apart_lines += recipes_apart(called)
    tables = [table for *_, table in sorted(made, key=lambda item: item[:2])]
    superseded = [arm for arm in known.superseded(evaluation.kind) if arm.values(first)]
    told = [table for table in tables if not table.silent]
    unit = f"{', '.join(evaluation.metrics)}: {evaluation.unit}; mean ± sample standard deviation over n seeds."
    cells = (row["vs baseline"].text for table in told for row in table.first if "vs baseline" in row)
    fewer = [FEWER.format(example)] if (example := next((text for text in cells if "(" in text), "")) else []
    return Board(
        evaluation.name,
        evaluation.title,
        (unit, *_explained(LEAD, told)),
        tables,
        _sections((*_explained(SHORT, told), *fewer), shown, apart_lines, superseded),
        _explained({**FULL, **OWN_COST}, told, short=False),
        evaluation.metrics,
    )


def _explained(texts: Mapping[str, str], tables: Sequence[Table], short: bool = True) -> tuple[str, ...]:
    """`column: text` of the columns that say something.  short: of the short tables, else of those with all columns."""
    rows = [row for table in tables for row in (table.first if short else table.rows)]
    shown = {key for row in rows for key, cell in row.items() if not cell.empty}
    return tuple(f"{key}: {text}" for key, text in texts.items() if key in shown)


def _sections(
    about: Sequence[str], shown: Sequence[Arm], apart_lines: Iterable[str], superseded: Sequence[Arm]
) -> tuple[Section, ...]:
    """What stands below the tables of a board: how to read it, how its methods were tuned, what is left out.

    Args:
        about: what its columns are.
        shown: the arms of its tables.
        apart_lines: in what recipes of one name differ.
        superseded: the arms that have left it.
    """
    found = [
        Section("How to read", (*about, *row_names(shown)) if shown else ()),
        Section("Recipes", tuple(dict.fromkeys((*tuned(shown), *apart_lines)))),
        Section("Not in the tables", tuple(left_out(sorted(superseded, key=lambda arm: page_order(arm.setting))))),
    ]
    return tuple(section for section in found if section.items)


def _beside(
    arm: Arm, called: Mapping[Arm, str], metric: str, claims: Sequence[Claim], controls: Controls
) -> columns.Beside:
    """What the arm is held against.  called: the arms of its table, with their names."""
    untrained = above(arm.values(metric), controls.untrained_by_seed(arm, metric))
    for name in dict.fromkeys(claim.baseline_arm for claim in with_another(claims) if claim.arm == arm.name):
        for other in (other for other in called if other.name == name and not apart(arm, other)):
            if (points := above(arm.values(metric), other.values(metric))) is not None:
                pairs = len(arm.values(metric).keys() & other.values(metric).keys())
                return columns.Beside(untrained, points, called[other], pairs)
    return columns.Beside(untrained)


def _against(beside: Mapping[Arm, columns.Beside], called: Mapping[Arm, str]) -> list[str]:
    """A line that names the baselines of a table: `Baselines: moco_v3@8 for aps.`"""
    by_baseline: dict[str, list[str]] = defaultdict(list)
    for arm, held in beside.items():
        if held.of:
            by_baseline[held.of].append(called[arm])
    pairs = [f"{baseline} for {', '.join(found)}" for baseline, found in by_baseline.items()]
    return [f"Baselines: {'; '.join(pairs)}."] if pairs else []


def _untrained_wins(beside: Mapping[Arm, columns.Beside], called: Mapping[Arm, str], metric: str) -> list[str]:
    """Lines where trained networks are no better than untrained ones: than their own, or all of them than another."""
    gains = {arm: beside[arm].untrained for arm in beside if not arm.control}
    known = {arm: gain for arm, gain in gains.items() if gain is not None}
    lost = [called[arm] for arm, gain in known.items() if gain <= 0]
    said = (
        [f"Not above the same network untrained: {', '.join(lost)} ({len(lost)} of {len(known)} rows)."] if lost else []
    )
    means = {arm: fmean(values) for arm in beside if (values := arm.values(metric).values())}
    untrained = [arm for arm in means if arm.method == UNTRAINED and not is_pixels(arm)]
    best = max(untrained, key=lambda arm: means[arm], default=None)
    trained = [means[arm] for arm in gains if arm in means]
    if best and trained and means[best] > max(trained):
        said.append(
            f"Read with care: the untrained network `{best.name}` reaches {means[best]:.1f}, more than any method here."
            " The column gain compares each method with its own network untrained."
        )
    return said


def _silent(beside: Mapping[Arm, columns.Beside], metric: str) -> str:
    """A sentence in place of a table in which no trained network stands out from the untrained one; else ""."""
    gains = [held.untrained for arm, held in beside.items() if not arm.control and held.untrained is not None]
    if len(gains) < _ENOUGH or max(gains) >= _TELLING:
        return ""
    top = max(value for arm in beside for value in arm.values(metric).values())
    return (
        f"No numbers are shown, because no network learnt anything measurable here. Of {len(gains)} trained networks,"
        f" none is {_TELLING:g} point or more above the same network untrained. The highest {metric} is {top:.2f}. The"
        " records are in `records/`."
    )


def _pretext(known: Arms, link: Link) -> Board:
    """What the networks learnt of the tasks that their methods made up, where a task has right answers."""

    def answers(arm: Arm) -> bool:
        return any(arm.values(metric) for metric in columns.PRETEXT)

    tables, apart_lines, shown = [], [], []
    for group in by_scope(filter(answers, known.current("pretrain"))):
        group.sort(key=lambda arm: (arm.name, str(arm.setting), arm.label))
        called = names(group, known.suite)
        tables.append(
            Table(
                group[0].setting.words,
                [columns.of_pretext_tasks(arm, link) for arm in group],
                ("trials", "date"),
                lines_under(group),
                group[0].setting,
                [columns.pretext_in_short(arm, called[arm], link) for arm in group],
            )
        )
        shown += group
        apart_lines += recipes_apart(called)
    superseded = list(filter(answers, known.superseded("pretrain")))
    about = (*_explained(SHORT, tables), *MORE_ON_PRETEXT)
    return Board(
        "pretext",
        "Pretext tasks",
        PRETEXT,
        tables,
        _sections(about, shown, apart_lines, superseded),
        _explained(FULL, tables, short=False),
    )


def _efficiency(groups: Sequence[Paid], seen: Sequence[Arm], claims: Sequence[Claim], known: Arms, link: Link) -> Board:
    """First what share of a baseline's cost a method needs; then the costs, once for each track and device.

    What the pre-trainings cost does not depend on the evaluation, so the first one that has records stands for all.
    """
    races = efficiency.races(reached(claims, seen), link)
    once = {(group.setting.track, group.device): group for group in reversed(groups)}
    paid = [group for group in groups if group in once.values()]
    costs = efficiency.cost_tables(paid, known.suite, link)
    tables = [*races, *costs]
    about = [*_explained(SHORT, tables), *((OF_COSTS, *MORE_ON_RACES) if races else ())]
    left = [arm for group in paid for arm in group.superseded]
    return Board(
        "efficiency",
        efficiency.TITLE,
        RACES if races else (OF_COSTS,) if costs else (),
        tables,
        _sections(
            about,
            [arm for group in paid for arm in group.arms],
            [line for group in paid for line in recipes_apart(names(group.arms, known.suite))],
            [*left, *(arm for arm in known.superseded("pretrain") if arm.setting.drawn is None)],
        ),
        _explained({**FULL, **COSTS}, tables, short=False),
    )
