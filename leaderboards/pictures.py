"""The pictures of the report: one for each question that a reader has, and more of the same kind behind a switch.

What they show: what is learnt for what it costs, what each part of a method contributes, and how methods differ from
the baselines of their claims; `courses` has those of training. `plots` and `forests` draw them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from leaderboards import forests, plots
from leaderboards.answers import answers, by_title
from leaderboards.arms import Arms
from leaderboards.boards import Content
from leaderboards.claims import COST, Claim, place_of
from leaderboards.drawing import STYLE, Drawing, text_at
from leaderboards.efficiency import Paid
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
        scene = by_track.setdefault(group.setting.track, Scene(group.setting.track))
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
    scenes = efficiency(content, Roles(content.claims, content.known.suite))
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
    evaluation = main_evaluation(content.known, content.claims)
    scenes = []
    for track in tracks_of(content.known):
        if found := part_differences(content, track, evaluation):
            title = content.known.suite.evaluations[evaluation].title
            names = part_names(content.claims, evaluation)
            drawn = _forests(f"{title}: method − variant", "right of 0: the part helps", found, names)
            scenes.append(Scene(f"{track}, {found[0].ours.setting.source}", drawn))
    return scenes


def part_differences(content: Content, track: str, evaluation: str) -> list[Difference]:
    """Each method minus each of its variants, where they share setting and seeds."""
    found = (
        difference(evaluation, part.metric, (part.method, part.variant))
        for part in parts(content.known, content.claims, track, evaluation)
    )
    return [item for item in found if item]


def differences(content: Content, track: str, found: Sequence[Difference]) -> list[Drawing]:
    """Methods against the baselines of their claims in the evaluation that most claims name; else in the first."""
    known = content.known.suite.evaluations
    main = main_evaluation(content.known, content.claims)
    shown = [item for item in found if item.evaluation == main] or list(found)
    shown = [item for item in shown if item.evaluation == shown[0].evaluation]
    shown = [item for item in shown if item.metric == known[item.evaluation].metrics[0]]
    title = f"{known[shown[0].evaluation].title}: method − baseline of its claims"
    return _forests(title, f"{track}; right of 0: the method is better", shown)


def _forests(
    title: str, under: str, found: Sequence[Difference], names: Mapping[tuple[str, str], str] = MappingProxyType({})
) -> list[Drawing]:
    return [forests.differences(title, under, found[i : i + MOST], names) for i in range(0, len(found), MOST)]
