"""Boards: what stands in them. `compose` says it; `markdown` and `report` are views of that.

The same records give the same bytes, and nobody edits a view by hand. A table holds numbers of one track, one data set
and one protocol. A row is an arm: mean and sample standard deviation over its seeds, the records it comes from at its
end. What a newer recipe has superseded has no row.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from leaderboards import columns, efficiency
from leaderboards.arms import UNTRAINED, Arm, Arms
from leaderboards.assessments import Assessment, assess
from leaderboards.cells import NOTHING, Cell, Link, sources
from leaderboards.claims import TRACKS, Claim, with_another
from leaderboards.controls import Controls, above, is_pixels
from leaderboards.curves import ABOUT, reached, watched
from leaderboards.efficiency import Paid
from leaderboards.learnt import Learnt, learnt, warnings
from leaderboards.needs import Need, needs
from leaderboards.paired_arms import apart
from leaderboards.pictured import names
from leaderboards.reading import of_embedded
from leaderboards.recipe_differences import older_setups
from leaderboards.suite import Evaluation
from leaderboards.tables import Table, best_first, by_scope, lines_under
from leaderboards.verdicts import NO_VERDICTS
from leaderboards.wording import place

_SHORT = {
    "n": "number of pre-trainings, with a link to the first record",
    "gain": "points above the same network untrained, on the same seeds",
    "vs baseline": "points above the baseline named below the table, after as many epochs and tuned alike. `(3)`: only"
    " 3 seeds in common",
    "TFLOP": "operations of the whole pre-training",
}
"""What the columns of a short table are, beside its method and metric."""
_NAMES = (
    "`byol@8`: trained for 8 epochs; shown if the recipe has another number, or if several rows have the same name."
    " `(code ...)`: trained with another version of the program",
    "networks: `ResNet-10 w16` has 16 channels in the first stage (standard: 64); `ViT 128x3/4` has width 128, 3 blocks"
    " and patches of 4 pixels",
)
_TRIALS = "Trials: tuning runs by hand, or the procedure that tuned the method (methods/tuning.toml)."
FULL = (
    "Wall time and memory are those of the evaluation alone. Optimism: the points that one would gain by selecting"
    f" the checkpoint or setting on test data; no other number includes them. {_TRIALS}"
)
"""What the further columns are of the tables with all columns."""
_ENOUGH = 3  # trained networks, before a table is said to tell nothing
_TELLING = 1.0  # points above the untrained network that at least one of them must reach
INDEX_INTRO = (
    "A record is the file that one finished job leaves, and every number comes from one."
    " Numbers of different tracks, data or protocols never share a table."
)
PRETEXT_INTRO = (
    "accuracy: percent of the last logged batch of training images; mean ± sample standard deviation over seeds",
    "n: number of pre-trainings, with a link to the first record",
    "chance level: location 25 (four places), up or down 50, left or right 50, rotation 25 (four angles)",
    "GLNet flips images horizontally at random before it cuts them, so left and right cannot be told apart in"
    " symmetric images; `glnet:no_flip` does not flip them",
    "no verdict on a paper's claim uses this board; some on why a method works do (`glnet-why-left_right`)",
    _NAMES[0],
)


@dataclass(frozen=True)
class Board:
    """One board: of an evaluation, of costs, or of pretext tasks."""

    name: str
    title: str
    intro: tuple[str, ...]  # what its columns are, an item each, or a sentence
    tables: list[Table]
    metrics: tuple[str, ...] = ()  # of an evaluation: the columns that it is known by
    note: str = ""  # what is left out of it
    full: str = ""  # what the further columns are of its tables with all columns

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
    superseded = [arm for arm in known.superseded(evaluation.kind) if arm.values(first)]
    tables = []
    for group in by_scope(arm for arm in known.current(evaluation.kind) if arm.values(first)):
        group.sort(key=lambda arm: best_first(arm, first))
        called = names(group, known.suite)
        beside = {arm: _beside(arm, called, first, claims, controls) for arm in group}
        below = [of_embedded(any(map(is_pixels, group)))] if group[0].setting.track == NO_VERDICTS else []
        tables.append(
            Table(
                group[0].setting.words,
                [columns.of_evaluation(arm, evaluation, link) for arm in group],
                ("test set", "device", "trials", "date"),
                [*_against(beside, called), *_untrained_wins(beside, first), *below, *lines_under(group, superseded)],
                group[0].setting,
                [columns.in_short(arm, called[arm], first, beside[arm], link) for arm in group],
                _silent(beside, first, evaluation),
            )
        )
    rows = [row for table in tables if not table.silent for row in table.first]
    shown = {key for row in rows for key, cell in row.items() if cell != NOTHING}
    intro = (
        f"{', '.join(evaluation.metrics)}: {evaluation.unit}; mean ± sample standard deviation over seeds",
        *(f"{key}: {what}" for key, what in _SHORT.items() if key in shown),
        *_NAMES,
    )
    note = older_setups(superseded)
    return Board(evaluation.name, evaluation.title, intro, tables, evaluation.metrics, note, FULL)


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
    """A line that names the baselines of a table: `vs baseline: aps against moco_v3@8.`"""
    pairs = [f"{called[arm]} against {held.of}" for arm, held in beside.items() if held.of]
    return [f"vs baseline: {', '.join(pairs)}."] if pairs else []


def _untrained_wins(beside: Mapping[Arm, columns.Beside], metric: str) -> list[str]:
    """Lines where trained networks are no better than untrained ones: than their own, or all of them than another."""
    gains = {arm: beside[arm].untrained for arm in beside if not arm.control}
    known = {arm: gain for arm, gain in gains.items() if gain is not None}
    lost = list(dict.fromkeys(arm.name for arm, gain in known.items() if gain <= 0))
    said = [f"Not above the same network untrained: {', '.join(lost)} ({len(lost)} of {len(known)})."] if lost else []
    means = {arm: fmean(values) for arm in beside if (values := arm.values(metric).values())}
    untrained = [arm for arm in means if arm.method == UNTRAINED and not is_pixels(arm)]
    best = max(untrained, key=lambda arm: means[arm], default=None)
    trained = [means[arm] for arm in gains if arm in means]
    if best and trained and means[best] > max(trained):
        above_all = f"an untrained network (`{best.name}`) reaches {means[best]:.1f}, more than any method here"
        said.append(f"Read with care: {above_all}. Compare a method with the same network untrained (`gain`).")
    return said


def _silent(beside: Mapping[Arm, columns.Beside], metric: str, evaluation: Evaluation) -> str:
    """A sentence in place of a table in which no trained network stands out from the untrained one; else ""."""
    gains = [held.untrained for arm, held in beside.items() if not arm.control and held.untrained is not None]
    if len(gains) < _ENOUGH or max(gains) >= _TELLING:
        return ""
    top = max(value for arm in beside for value in arm.values(metric).values())
    return (
        f"Left out: no network learnt anything measurable here. Of {len(gains)} trained networks, none is"
        f" {_TELLING:g} point or more above the same network untrained, and the highest {metric} is {top:.2f}. The"
        " records stay in `records/`."
    )


def _pretext(known: Arms, link: Link) -> Board:
    """What the networks learnt of the tasks that their methods made up, where a task has right answers."""

    def answers(arm: Arm) -> bool:
        return any(arm.values(metric) for metric in columns.PRETEXT)

    superseded = list(filter(answers, known.superseded("pretrain")))
    tables = []
    for group in by_scope(filter(answers, known.current("pretrain"))):
        group.sort(key=lambda arm: (arm.name, str(arm.setting), arm.label))
        called = names(group, known.suite)
        tables.append(
            Table(
                group[0].setting.words,
                [columns.of_pretext_tasks(arm, link) for arm in group],
                ("trials", "date"),
                lines_under(group, superseded),
                group[0].setting,
                [columns.pretext_in_short(arm, called[arm], link) for arm in group],
            )
        )
    return Board("pretext", "Pretext tasks", PRETEXT_INTRO, tables, note=older_setups(superseded), full=_TRIALS)


def _efficiency(groups: Sequence[Paid], seen: Sequence[Arm], claims: Sequence[Claim], known: Arms, link: Link) -> Board:
    """First what share of a baseline's cost a method needs; then the costs, once for each track and device.

    What the pre-trainings cost does not depend on the evaluation, so the first one that has records stands for all.
    """
    races = efficiency.races(reached(claims, seen), link)
    intro = (*efficiency.RACES_INTRO, ABOUT, _NAMES[0]) if races else (_NAMES[0],)
    once = {(group.setting.track, group.device): group for group in reversed(groups)}
    costs = efficiency.cost_tables([group for group in groups if group in once.values()], known.suite, link)
    return Board(
        "efficiency",
        efficiency.TITLE,
        intro,
        [*races, *costs],
        note=older_setups(known.superseded("pretrain")),
    )
