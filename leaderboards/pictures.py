"""The pictures of the report: one for each question that a reader has, and more of the same kind behind a switch.

What they show: what is learnt for what it costs, what each part of a method contributes, and how methods differ from
the baselines of their claims; `courses` has those of training. `plots`, `row_plots` and `forests` draw them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from leaderboards import forests, plots, row_plots
from leaderboards.answers import answers, by_title
from leaderboards.arms import Arms
from leaderboards.boards import Content
from leaderboards.claims import COST, Claim, place_of
from leaderboards.curves import reached
from leaderboards.drawing import STYLE, Drawing, text_at
from leaderboards.efficiency import Paid, raced
from leaderboards.gains import part_names, parts
from leaderboards.paired_arms import Difference, difference
from leaderboards.pictured import MOST, Roles

_NO_PAIRS = "No comparison of accuracy has two pairs yet."


@dataclass
class Scene:
    """What is shown of one question at one track.

    first: the picture that answers.  others: the same of other evaluations.  more: ablations, other lengths of
    training, other protocols, imports.  said: sentences in place of pictures.
    """

    title: str
    first: list[Drawing] = field(default_factory=list)
    others: list[Drawing] = field(default_factory=list)
    more: list[Drawing] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    rank: int = 0  # see `place_of`


def tracks_of(known: Arms) -> list[str]:
    """The tracks that have records, in the order of pictures."""
    return sorted({record["track"] for record in known.records}, key=place_of)


def main_evaluation(known: Arms, claims: Iterable[Claim]) -> str:
    """The evaluation that most claims name: the one that is shown where one must stand for all."""
    named = Counter(claim.evaluation for claim in claims if claim.evaluation != COST)
    return max(known.suite.evaluations, key=lambda name: named[name])


def efficiency(content: Content, roles: Roles) -> list[Scene]:
    """What is learnt for what it costs, and which share of a baseline's cost methods need: by track."""
    return sorted([*_costs(content, roles), *_races(content)], key=lambda scene: scene.rank)


def _races(content: Content) -> list[Scene]:
    """Operations until a method is as good as its baseline, as a share: what the first table of costs says."""
    scenes = []
    for found in raced(reached(content.claims, content.watched)):
        setting = found[0].ours.setting
        under = f"{setting.track}: left of 1 the method needs fewer operations than its baseline"
        label = "operations to the same accuracy, the baseline's = 1"
        parts = [found[i : i + MOST] for i in range(0, len(found), MOST)]
        drawn = [
            row_plots.shares("Share with 95 % interval (fixed n)", under, part, "flops_to_accuracy", label)
            for part in parts
        ]
        if shown := [drawing for drawing in drawn if drawing]:
            scenes.append(
                Scene(f"{setting.track}: operations to the same accuracy", shown, rank=place_of(setting.track))
            )
    return scenes


def _costs(content: Content, roles: Roles) -> list[Scene]:
    """What is learnt for what it costs, a scene for each track.

    A table that cannot tell the untrained network from the best is a sentence. What was measured by values that no
    protocol of today has goes to `more` where one of today's was measured too.
    """
    silent = {
        (board.name, table.setting.scope): table.silent
        for board in content.evaluations
        for table in board.tables
        if table.setting
    }
    today = {(group.evaluation, group.setting.track) for group in content.paid if not group.setting.unknown}
    by_track: dict[str, Scene] = {}
    for group in telling_first(content):
        track = group.setting.track
        scene = by_track.setdefault(track, Scene(track, rank=place_of(track)))
        if why := silent.get((group.evaluation.name, group.setting.scope)):
            scene.said.append(f"{group.evaluation.title}, {group.setting.place}: {why.replace('`', '')}")
            continue
        shown = roles.pictured(group.arms)
        if drawn := plots.efficiency(group, shown.first, roles):
            former = group.setting.unknown and (group.evaluation, group.setting.track) in today
            (scene.more if former else scene.others if scene.first else scene.first).append(drawn)
        scene.more += filter(None, (plots.efficiency(group, arms, roles) for arms in shown.more))
    return [scene for scene in by_track.values() if scene.first or scene.more or scene.said]


def sheet(content: Content) -> str:
    """The first picture of each track as one SVG file."""
    scenes = _costs(content, Roles(content.claims, content.known.suite))
    return plots.sheet([drawing for scene in scenes for drawing in scene.first])


def verdicts(content: Content) -> str:
    """All comparisons that were tested as one SVG file."""
    drawn = forests.verdicts(by_title(answers(content.papers))) or Drawing(300, 40, text_at(8, 24, _NO_PAIRS))
    return replace(drawn, style=STYLE).svg() + "\n"


def telling_first(content: Content) -> list[Paid]:
    """The tables of costs in the order of pictures: by track, the evaluation of most claims first."""
    main = main_evaluation(content.known, content.claims)
    return sorted(
        content.paid,
        key=lambda group: (
            place_of(group.setting.track),
            group.setting.unknown,
            group.evaluation.name != main,
            -len(group.arms),
        ),
    )


def contributions(content: Content) -> list[Scene]:
    """What each part of a method contributes: the method minus the same without that part, by track."""
    scenes = []
    for track in tracks_of(content.known):
        drawn = []
        for evaluation, found in part_differences(content, track).items():
            title = content.known.suite.evaluations[evaluation].title
            names = part_names(content.claims, evaluation)
            drawn += _by_method(found, f"{title}, {track}; right of 0: the part helps", "method − variant", names)
            source = found[0].ours.setting.source
        if drawn:
            scenes.append(Scene(f"{track}, {source}", drawn))
    return scenes


def part_differences(content: Content, track: str) -> dict[str, list[Difference]]:
    """By evaluation, each method minus each of its variants, where they share setting and seeds."""
    known, claims = content.known, content.claims
    found = [
        item
        for evaluation in known.suite.evaluations
        for part in parts(known, claims, track, evaluation)
        if (item := difference(evaluation, part.metric, (part.method, part.variant)))
    ]
    return _of_one_evaluation(content, found)


def differences(content: Content, track: str, found: Sequence[Difference]) -> list[Drawing]:
    """Methods against the baselines of their claims, each in one evaluation."""
    known = content.known.suite.evaluations
    main = [item for item in found if item.metric == known[item.evaluation].metrics[0]]
    return [
        drawing
        for evaluation, items in _of_one_evaluation(content, main).items()
        for drawing in _by_method(
            items, f"{known[evaluation].title}, {track}; right of 0: the method is better", "method − baseline"
        )
    ]


def _of_one_evaluation(content: Content, found: Iterable[Difference]) -> dict[str, list[Difference]]:
    """Of each method the differences in one evaluation: the one that most claims name, else of its own claims."""
    main = main_evaluation(content.known, content.claims)
    named = {(claim.method, claim.evaluation) for claim in content.claims}
    by_method: dict[str, dict[str, list[Difference]]] = defaultdict(lambda: defaultdict(list))
    for item in found:
        by_method[item.ours.method][item.evaluation].append(item)
    shown: dict[str, list[Difference]] = defaultdict(list)
    for method, of in sorted(by_method.items()):
        evaluation = min(of, key=lambda name: (name != main, (method, name) not in named))
        shown[evaluation] += of[evaluation]
    return dict(sorted(shown.items(), key=lambda pair: pair[0] != main))


def _by_method(
    found: Sequence[Difference], under: str, about: str, names: Mapping[tuple[str, str], str] = MappingProxyType({})
) -> list[Drawing]:
    """A plot for each method, all on one axis."""
    rows: dict[str, list[Difference]] = defaultdict(list)
    for item in found:
        rows[item.ours.method].append(item)
    titles = {
        method + f" ({start // MOST + 1})" * bool(start): items[start : start + MOST]
        for method, items in rows.items()
        for start in range(0, len(items), MOST)
    }
    drawn = row_plots.differences(titles, under, names)
    return [replace(drawing, said=f"{about}: {drawing.said}") for drawing in drawn]
