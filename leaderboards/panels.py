"""Small pictures beside each other, on the same axes: one for each paper, its method over the baselines of its claims.

A picture of all arms at once is a tangle. Here a method is a thick line, what it is compared with are thin dashed ones,
and every line has its name at its end. Ablations, other lengths of training and controls are pictures of their own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from leaderboards import plots
from leaderboards.arms import Arm
from leaderboards.claims import Claim
from leaderboards.drawing import Drawing
from leaderboards.paired_arms import comparisons, fairest
from leaderboards.pictured import Roles, names
from leaderboards.plots import Line
from leaderboards.suite import Suite

Points = Sequence[tuple[float, float]]

MOST = 7
"""Lines of one picture."""
_WIDTH, _HEIGHT = 400, 240  # pixels
_METHOD, _OTHER = "k0 thick", "muted"
_DASHES = ("6 3", "2 3", "8 3 2 3", "12 4", "4 2", "1 4", "10 3 2 3 2 3")  # of as many lines as there may be
_SQUEEZE = 1.3  # how much longer a control may make the scale of a track


@dataclass(frozen=True)
class Panel:
    """One picture: thick lines, and those that they are held against."""

    title: str
    methods: Sequence[Arm]
    others: Sequence[Arm]

    @property
    def arms(self) -> list[Arm]:
        return [*self.methods, *self.others]


@dataclass(frozen=True)
class Curves:
    """What is drawn of arms of one table.

    about: what the values are, in words.  axis: labels of x and of the values.  zero: whether 0 is part of the scale.
    """

    about: str
    axis: tuple[str, str]
    points: Mapping[Arm, Points]
    seeds: Mapping[Arm, Mapping[int, Any]]
    zero: bool = False


def of_papers(claims: Sequence[Claim], seeds: Mapping[Arm, Mapping[int, Any]]) -> list[Panel]:
    """A picture for each paper: every arm of its method that its claims compare, and what they compare it with.

    Of several arms of a name those that make the fairest pair, chosen as for a verdict.

    seeds: what is known of an arm, by seed.
    """
    by_name: dict[str, list[Arm]] = defaultdict(list)
    for arm in seeds:
        by_name[arm.name].append(arm)
    by_paper: dict[str, list[Claim]] = defaultdict(list)
    for claim in claims:
        by_paper[claim.paper_title].append(claim)
    found = []
    for paper, made in by_paper.items():
        sides = [
            fairest(by_name[ours], by_name[theirs], lambda arm: seeds[arm])
            for ours, theirs in comparisons(made)
            if ours in by_name and theirs in by_name
        ]
        pairs = [pair for pair in sides if pair]
        methods = list(dict.fromkeys(ours for ours, _ in pairs))
        if not methods and (alone := by_name.get(made[0].method)):
            methods = [max(alone, key=lambda arm: arm.standing)]
        if methods:
            found.append(Panel(paper, methods, list(dict.fromkeys(theirs for _, theirs in pairs))))
    return [part for panel in found for part in _parted(panel)]


def drawn(curves: Curves, roles: Roles, claims: Sequence[Claim]) -> tuple[list[Drawing], list[Drawing]]:
    """The pictures of one table: those of the papers and of methods that no claim names; then all else."""
    arms = list(curves.points)
    papers = of_papers(claims, {arm: curves.seeds[arm] for arm in arms if not arm.control})
    named = {arm.name for panel in papers for arm in panel.arms}
    plain = [arm for arm in roles.pictured(arms).first if not arm.control and arm.name not in named]
    first = [*papers, *_parted(Panel("Other methods", [], sorted(plain, key=lambda arm: arm.name)))]
    shown = {arm for panel in first for arm in panel.arms}
    controls = [arm for arm in arms if arm.control]
    first = [_with_controls(panel, controls, curves.points, shown) for panel in first]
    shown |= {arm for panel in first for arm in panel.arms}
    rest = sorted((arm for arm in arms if arm not in shown), key=lambda arm: (arm.name, arm.setting.epochs or 0))
    more: list[Panel] = []
    for panel in papers:
        of_it = [arm for arm in rest if panel.methods and arm.method == panel.methods[0].method]
        if of_it and all(arm not in one.others for one in more for arm in of_it):
            more += _parted(Panel(f"{panel.title}: ablations", panel.methods[:1], of_it))
    told = {arm for panel in more for arm in panel.others}
    lengths = [arm for arm in rest if arm not in told and not arm.control]
    more += _parted(Panel("Other lengths of training and imports", [], lengths))
    apart = _parted(Panel("Controls", [], [arm for arm in rest if arm.control]))
    papers_drawn, more_drawn, apart_drawn = (_pictures(found, curves, roles.suite) for found in (first, more, apart))
    return (papers_drawn, more_drawn + apart_drawn) if papers_drawn else (apart_drawn, more_drawn)


def _parted(panel: Panel) -> list[Panel]:
    """The picture in as many as it takes, each with as many lines as one has room for; methods beyond them alone."""
    methods, room = panel.methods[: MOST - 1], MOST - min(len(panel.methods), MOST - 1)
    count = -(-len(panel.others) // room) or int(bool(methods))
    size = -(-len(panel.others) // count) if count else 0
    lines = [(methods, panel.others[i * size : (i + 1) * size]) for i in range(count)]
    lines += [(panel.methods[i : i + MOST], []) for i in range(len(methods), len(panel.methods), MOST)]
    return [
        Panel(panel.title + f" ({i} of {len(lines)})" * (len(lines) > 1), ours, others)
        for i, (ours, others) in enumerate(lines, 1)
    ]


def _with_controls(panel: Panel, controls: Iterable[Arm], points: Mapping[Arm, Points], shown: Iterable[Arm]) -> Panel:
    """With the same network trained by labels, if the scale has room for it; lines begin at the untrained one."""
    values = [y for arm in shown for _, y in points[arm]]
    top = min(values) + _SQUEEZE * (max(values) - min(values))
    fit = [
        arm
        for arm in controls
        if arm.setting.network in {one.setting.network for one in panel.methods}
        and all(min(values) <= y <= top for _, y in points[arm])
    ]
    return replace(panel, others=[*panel.others, *fit[: MOST - len(panel.arms)]])


def _pictures(panels: Sequence[Panel], curves: Curves, suite: Suite) -> list[Drawing]:
    """These on the same axes."""
    if not panels:
        return []
    found = [_lines(panel, curves, suite) for panel in panels]
    within = plots.extent(found, _WIDTH, curves.zero)
    pictures = []
    for panel, shown in zip(panels, found, strict=True):
        under = _under(panel)
        drawing = plots.lines(panel.title, under, curves.axis, shown, within, _HEIGHT, _WIDTH)
        pictures.append(replace(drawing, said=f"{curves.about}: {panel.title}; {under}"))
    return pictures


def _lines(panel: Panel, curves: Curves, suite: Suite) -> list[Line]:
    lengths = {arm.setting.epochs for arm in panel.arms if not arm.control}
    found, dashes = [], iter(_DASHES)
    for arm, name in names(panel.arms, suite).items():
        if len(lengths) > 1 and arm.setting.epochs and "@" not in name and not arm.control:
            name = f"{name}@{arm.setting.epochs}"
        which = f" ({arm.told_apart})" if arm.told_apart else ""
        note = f"{name}{which}: {course(curves.points[arm])}, n = {len(curves.seeds[arm])}"
        look = (_METHOD, "") if arm in panel.methods else (_OTHER, next(dashes))
        found.append(Line(name, curves.points[arm], note, *look))
    return found


def _under(panel: Panel) -> str:
    """`mini, 8 epochs each, ResNet-10 w16`: what all lines of a picture share."""
    arms = [arm for arm in panel.arms if not arm.control] or panel.arms
    epochs, networks = ({getattr(arm.setting, key) for arm in arms} for key in ("epochs", "network"))
    each = (
        f"{next(iter(epochs))} epochs{' each' * (len(arms) > 1)}" if len(epochs) == 1 else "epochs: the number after @"
    )
    return ", ".join([arms[0].setting.track, each, *(networks if len(networks) == 1 else ())])


def course(points: Points) -> str:
    """`12.1 at 0, 33.2 at 18.6`: where a line begins and ends."""
    ends = points[:1] if len(points) == 1 else [points[0], points[-1]]
    return ", ".join(f"{y:.4g} at {x:.3g}" for x, y in ends)
