"""Boards: what stands in them. `compose` says it; `markdown` and `report` are views of that.

The same records give the same bytes, and nobody edits a view by hand. A table holds numbers of one track, one data set
and one protocol. A row is an arm: mean and sample standard deviation over its seeds, the records it comes from at its
end. What a newer recipe has superseded has no row.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from leaderboards import columns, efficiency
from leaderboards.arms import Arm, Arms
from leaderboards.assessments import Assessment, assess
from leaderboards.cells import Cell, Link, sources
from leaderboards.claims import TRACKS, Claim
from leaderboards.curves import ABOUT, reached, watched
from leaderboards.efficiency import Paid
from leaderboards.suite import Evaluation
from leaderboards.tables import Table, best_first, by_scope, lines_under
from leaderboards.verdicts import NO_VERDICTS
from leaderboards.wording import OF_EMBEDDED, place

LEGEND = (
    "Mean ± sample standard deviation over seeds; n counts pre-trainings. Wall time and memory are those of the"
    " evaluation alone. Optimism: gain from selecting on test data (not reported), in points. Trials: tuning runs spent"
    " on the arm."
)
INDEX_INTRO = "Every number comes from a record; numbers of different tracks, data or protocols never share a table."
PRETEXT_INTRO = (
    "Right answers in percent over the last batch of training pictures that was logged, mean ± sample standard"
    " deviation over seeds; n counts pre-trainings. By chance location is 25 (of four places), up or down and left"
    " or right 50 each, rotation 25 (of four angles). GLNet's pictures are mirrored at random before they are cut,"
    " which leaves nothing that tells left from right where they are symmetric; glnet:no_flip's are not. No verdict"
    " rests on this board."
)


@dataclass(frozen=True)
class Board:
    """One board: of an evaluation, of costs, or of pretext tasks."""

    name: str
    title: str
    intro: str
    tables: list[Table]
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
    paid: list[Paid]
    watched: list[Arm]

    def sources(self, item: Assessment) -> list[tuple[str, list[tuple[str, Cell]]]]:
        """What the verdicts on a claim were computed from: (where, (arm, its records) of each side)."""
        return [
            (place(verdict), [(used.arm, sources(used.records, self.link)) for used in verdict.rests_on])
            for verdict in item.verdicts
            if verdict.rests_on
        ]

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
    for item in assess(claims, known):
        papers[item.claim.paper].append(item)
    for found in papers.values():
        found.sort(key=lambda item: not item.answered)  # what records say of comes first
    groups, seen = efficiency.paid(known), watched(known.current("pretrain"))
    return Content(
        known=known,
        claims=claims,
        link=link,
        evaluations=[_evaluation(evaluation, known, link) for evaluation in known.suite.evaluations.values()],
        efficiency=_efficiency(groups, seen, claims, link),
        pretext=_pretext(known, link),
        papers=dict(papers),
        paid=groups,
        watched=seen,
    )


def _evaluation(evaluation: Evaluation, known: Arms, link: Link) -> Board:
    first = evaluation.metrics[0]
    superseded = [arm for arm in known.superseded(evaluation.kind) if arm.values(first)]
    tables = [
        Table(
            group[0].setting.words,
            [
                columns.of_evaluation(arm, evaluation, link)
                for arm in sorted(group, key=lambda arm: best_first(arm, first))
            ],
            ("test set", "device", "trials", "date"),
            [*([OF_EMBEDDED] if group[0].setting.track == NO_VERDICTS else []), *lines_under(group, superseded)],
            group[0].setting,
        )
        for group in by_scope(arm for arm in known.current(evaluation.kind) if arm.values(first))
    ]
    intro = f"{', '.join(evaluation.metrics)}: {evaluation.unit}. {LEGEND}"
    return Board(evaluation.name, evaluation.title, intro, tables, evaluation.metrics)


def _pretext(known: Arms, link: Link) -> Board:
    """What the networks learnt of the tasks that their methods made up, where a task has right answers."""

    def answers(arm: Arm) -> bool:
        return any(arm.values(metric) for metric in columns.PRETEXT)

    superseded = list(filter(answers, known.superseded("pretrain")))
    tables = [
        Table(
            group[0].setting.words,
            [
                columns.of_pretext_tasks(arm, link)
                for arm in sorted(group, key=lambda arm: (arm.name, str(arm.setting), arm.label))
            ],
            ("trials", "date"),
            lines_under(group, superseded),
            group[0].setting,
        )
        for group in by_scope(filter(answers, known.current("pretrain")))
    ]
    return Board("pretext", "Pretext tasks", PRETEXT_INTRO, tables)


def _efficiency(groups: Sequence[Paid], seen: Sequence[Arm], claims: Sequence[Claim], link: Link) -> Board:
    races = efficiency.races(reached(claims, seen), link)
    intro = f"{efficiency.INTRO} {efficiency.RACES_INTRO} {ABOUT}" if races else efficiency.INTRO
    tables = [*efficiency.cost_tables(groups, link), *races]
    return Board("efficiency", "Accuracy against cost of pre-training", intro, tables)
