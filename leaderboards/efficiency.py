"""Accuracy against the cost of pre-training: which arms' costs may be compared, and the tables that say them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from leaderboards import columns
from leaderboards.arms import Arm, Arms
from leaderboards.cells import Link
from leaderboards.curves import Reach
from leaderboards.learning import share
from leaderboards.pictured import names
from leaderboards.setting import Setting
from leaderboards.suite import Evaluation, Suite
from leaderboards.tables import Table, best_first, by_scope, lines_under
from leaderboards.verdicts import NO_VERDICTS

TITLE = "Accuracy against cost of pre-training"


@dataclass(frozen=True)
class Paid:
    """Arms of one scope whose pre-trainings ran on one device, so that their costs may be compared."""

    evaluation: Evaluation
    device: str
    arms: list[Arm]  # the best first
    superseded: list[Arm]  # what has left

    @property
    def metric(self) -> str:
        return self.evaluation.metrics[0]

    @property
    def setting(self) -> Setting:
        """Of which all arms share the scope."""
        return self.arms[0].setting

    @property
    def title(self) -> str:
        return f"{self.evaluation.title}, {self.setting.words}, trained on {self.device}"


def paid(known: Arms) -> list[Paid]:
    """What accuracy and cost of pre-training are known of, by evaluation, scope and device; the best arm first."""
    found = []
    for evaluation in known.suite.evaluations.values():
        metric = evaluation.metrics[0]

        def counts(arm: Arm, metric: str = metric) -> bool:
            return bool(arm.values(metric) and arm.origins and not arm.imported)

        for group in by_scope(filter(counts, known.current(evaluation.kind))):
            old = [arm for arm in known.superseded(evaluation.kind) if arm.setting.scope == group[0].setting.scope]
            by_device: dict[str, list[Arm]] = defaultdict(list)
            for arm in group:
                by_device[arm.devices].append(arm)
            for device, same in sorted(by_device.items()):
                same.sort(key=lambda arm, metric=metric: best_first(arm, metric))  # type: ignore[misc]
                found.append(Paid(evaluation, device, same, [a for a in old if counts(a) and a.devices == device]))
    return found


def cost_tables(groups: Sequence[Paid], suite: Suite, link: Link) -> list[Table]:
    """A table of each group."""
    return [
        Table(
            group.title,
            [columns.of_costs(arm, group.evaluation, link) for arm in group.arms],
            ("trials", "date"),
            lines_under(group.arms),
            group.setting,
            [
                columns.costs_in_short(name, arm, group.evaluation, link)
                for arm, name in names(group.arms, suite).items()
            ],
        )
        for group in groups
    ]


def raced(found: Sequence[Reach]) -> list[list[Reach]]:
    """By track and data, the smallest share of a baseline's cost first. Digits, which decide nothing, come last."""
    groups: dict[tuple[object, ...], list[Reach]] = defaultdict(list)
    for item in sorted(found, key=_sooner):
        groups[item.ours.setting.scope].append(item)
    last = {scope: items[0].ours.setting.track == NO_VERDICTS for scope, items in groups.items()}
    return [groups[scope] for scope in sorted(groups, key=lambda scope: (last[scope], scope))]


def races(found: Sequence[Reach], link: Link) -> list[Table]:
    """By track and data, which part of a baseline's cost a method needs."""
    return [
        Table(
            f"Cost of reaching the same accuracy, as a share of the baseline's, {items[0].ours.setting.words}",
            [columns.of_race(item, link) for item in items],
            setting=items[0].ours.setting,
            first=[columns.race_in_short(item, link) for item in items],
        )
        for items in raced(found)
    ]


def _sooner(item: Reach) -> tuple[float, str, str]:
    """To sort by: the smallest share of the operations first."""
    mean = share(item, "flops_to_accuracy")
    return math.inf if mean is None else mean.value, item.ours.name, item.theirs.name
