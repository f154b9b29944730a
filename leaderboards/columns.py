"""The columns of every kind of board: what a row says of an arm. A new column is a line here.

A column in which no row of a table has anything to say is left out of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from leaderboards.arms import Arm
from leaderboards.cells import (
    NOTHING,
    Cell,
    Link,
    Row,
    count,
    dates,
    duration,
    peak,
    percent,
    signed,
    sources,
    spread,
    whole,
    whole_numbers,
    words,
)
from leaderboards.curves import Reach
from leaderboards.learning import share
from leaderboards.record_fields import OURS, entry, finite, number
from leaderboards.suite import Evaluation


@dataclass(frozen=True)
class Beside:
    """What a result is held against on a board, in points on the same seeds.

    untrained: above the same network untrained; None where it has no record, or the arm is it.
    baseline, of, pairs: above the first baseline of the method's claims that was trained and tuned alike, its name and
        the number of common seeds; 0.0, "" and 0 where there is none.
    """

    untrained: float | None
    baseline: float = 0.0
    of: str = ""
    pairs: int = 0


PRETEXT: Mapping[str, str] = {
    "final_location_accuracy": "location",
    "final_location_up_down": "up or down",
    "final_location_left_right": "left or right",
    "final_rotation_accuracy": "rotation",
}
"""Metrics of pre-trainings that count right answers, and what a board calls them."""


def in_short(arm: Arm, name: str, metric: str, beside: Beside, link: Link) -> Row:
    """What most readers want of a row of `of_evaluation`: at most 100 characters wide in Markdown.

    name: of the arm in this table.
    """
    values = arm.values(metric)
    few = f" ({beside.pairs})" if beside.pairs < len(values) else ""
    return {
        "method": words(name + (f" ({arm.told_apart})" if arm.told_apart else "")),
        metric: spread(_told(arm, metric), 1),
        "n": _counted(len(values), arm, link),
        "gain": NOTHING if beside.untrained is None else signed(beside.untrained, 1),
        "vs baseline": Cell(f"{beside.baseline:+.1f}{few}", beside.baseline) if beside.of else NOTHING,
        "TFLOP": NOTHING if arm.operations is None else count([arm.operations], unit=1e12, digits=1),
    }


def of_evaluation(arm: Arm, evaluation: Evaluation, link: Link) -> Row:
    """What an evaluation measured of an arm."""
    first = evaluation.metrics[0]
    best, chosen = arm.values(f"{first}_best_on_test"), arm.values(first)
    return {
        **identity(arm),
        "n": whole(len(chosen)),
        **{metric: spread(_told(arm, metric)) for metric in (*evaluation.metrics, *evaluation.further)},
        "optimism": spread([best[seed] - chosen[seed] for seed in chosen if seed in best]),
        "trials": trials(arm),
        "wall time": duration(arm.costs("wall_s").values()),
        "peak memory": peak(arm.costs),
        "device": words(_devices(arm)),
        "test set": words(_test_set(arm)),
        "date": dates(arm.records),
        "from": sources(arm.records, link),
        "note": note(arm),
    }


def trials(arm: Arm) -> Cell:
    """How it was tuned: numbers of trials by hand, or the procedure."""
    if any(tuning.procedure for tuning in arm.tuning):
        return words(arm.tuned)
    return whole_numbers([tuning.trials for tuning in arm.tuning], ", ")


def _devices(arm: Arm) -> str:
    return ", ".join(sorted({str(entry(record, "provenance", "device") or "-") for record in arm.records.values()}))


def _told(arm: Arm, metric: str) -> list[float]:
    """The values of a metric that say something: fewer than five neighbours name fewer than five classes."""
    nearest = (number(record.get("details"), "k") for record in arm.records.values())
    if metric == "top5" and any(k is not None and k < 5 for k in nearest):
        return []
    return list(arm.values(metric).values())


_TEST_SETS = (  # where the details of a record say how large its test set was
    (("val", "pictures"), "images"),
    (("val", "instances"), "objects"),
    (("n_query",), "queries"),
    (("n_gallery",), "gallery images"),
    (("n_test",), "images"),
)


def _test_set(arm: Arm) -> str:
    """How much a number of this arm was measured on: `57 pictures, 517 objects`."""
    sizes = {
        ", ".join(
            f"{size:,.0f} {what}" for path, what in _TEST_SETS if (size := finite(entry(record, "details", *path)))
        )
        for record in arm.records.values()
    }
    return " or ".join(sorted(sizes - {""})) or "-"


def of_pretext_tasks(arm: Arm, link: Link) -> Row:
    """What the network learnt of the tasks that its method made up."""
    return {
        **identity(arm),
        "n": whole(len(arm.records)),
        **{task: spread(arm.values(metric).values(), 1) for metric, task in PRETEXT.items()},
        "trials": trials(arm),
        "date": dates(arm.records),
        "from": sources(arm.records, link),
        "note": note(arm),
    }


def pretext_in_short(arm: Arm, name: str, link: Link) -> Row:
    """What most readers want of a row of `of_pretext_tasks`: at most 100 characters wide in Markdown.

    name: of the arm in this table.
    """
    return {
        "method": words(name + (f" ({arm.told_apart})" if arm.told_apart else "")),
        "n": _counted(len(arm.records), arm, link),
        **{task: spread(arm.values(metric).values(), 1) for metric, task in PRETEXT.items()},
    }


def of_costs(arm: Arm, evaluation: Evaluation, link: Link) -> Row:
    """What the pre-trainings of an arm cost, beside what they reach in an evaluation."""
    metric = evaluation.metrics[0]
    values = arm.values(metric)
    return {
        **identity(arm),
        "n": whole(len(values)),
        f"{evaluation.name} {metric}": spread(values.values()),
        "device time": duration(arm.training("device_s").values()),
        "wall time": duration(arm.training("wall_s").values()),
        "CPU time": duration(arm.cpu_time().values()),
        "CPU share": percent(arm.cpu_share),
        "updates": count(arm.training("updates").values()),
        "image passes": count(arm.training("image_passes").values()),
        "TFLOP": count(arm.training("flops").values(), unit=1e12, digits=1),
        "peak memory": peak(arm.training),
        "trials": trials(arm),
        "date": dates(arm.origins),
        "from": sources(arm.origins, link),
        "note": note(arm),
    }


def costs_in_short(name: str, arm: Arm, evaluation: Evaluation, link: Link) -> Row:
    """What a reader needs of it: how good, and at what cost.  name: see `pictured.names`."""
    metric = evaluation.metrics[0]
    values = arm.values(metric)
    time = arm.cpu_time() if arm.on_cpu else arm.training("device_s")
    return {
        "method": words(name + (f" ({arm.told_apart})" if arm.told_apart else "")),
        f"{evaluation.name} {metric}": spread(values.values(), 1),
        "n": _counted(len(values), arm, link),
        "TFLOP": count(arm.training("flops").values(), unit=1e12, digits=1),
        "CPU time" if arm.on_cpu else "device time": duration(time.values()),
        "peak memory": peak(arm.training),
    }


def race_in_short(item: Reach, link: Link) -> Row:
    """What a reader needs of it: what the method needs of the baseline's operations, and where both end."""
    return {
        "method": words(item.ours.name),
        "baseline": words(item.theirs.name),
        "share of TFLOP": _share(item, "flops_to_accuracy"),
        "k-NN": spread([item.our_end], 1),
        "baseline's": spread([item.their_end], 1),
        "n": _counted(len(item.seeds), item.ours, link),
    }


def _counted(n: int, arm: Arm, link: Link) -> Cell:
    """How many seeds, with a link to the first record."""
    return Cell(str(n), n, links=((str(n), link(min(arm.records.items())[1])),))


def of_race(item: Reach, link: Link) -> Row:
    """What a method needs to get as far as a baseline, with all records."""
    return {
        "method": words(item.ours.name),
        "baseline": words(item.theirs.name),
        "epochs": whole(item.ours.setting.epochs or None),
        "trials": trials(item.ours),
        "n": whole(len(item.seeds)),
        "final k-NN": spread([item.our_end]),
        "baseline's": spread([item.their_end]),
        "share of TFLOP": _share(item, "flops_to_accuracy"),
        "share of epochs": _share(item, "epochs_to_accuracy"),
        "from": sources({seed: item.ours.records[seed] for seed in item.seeds}, link),
        "against": sources({seed: item.theirs.records[seed] for seed in item.seeds}, link),
        "note": words("-" if item.risen else "untrained as good as the baseline's end"),
    }


def _share(item: Reach, metric: str) -> Cell:
    """`0.52 (0.12 to 2.19)`; "-" where there is none."""
    mean = share(item, metric)
    if mean is None:
        return NOTHING
    value, among = math.exp(mean.value), ""
    if mean.n > 1:
        low, high = map(math.exp, mean.interval)
        among = f" ({low:.2f} to {high:.2f})"
    return Cell(f"{value:.2f}{among}", value)


def identity(arm: Arm) -> dict[str, Cell]:
    """The columns that say which arm a row is."""
    return {
        "method": words(arm.method),
        "variant": words(arm.variant or "-"),
        "which": words(arm.label or "-"),
        "trust": words((f"with {', '.join(arm.labs)}" if arm.labs else "-") if arm.trust == OURS else arm.trust),
        "network": words(arm.setting.network),
        "epochs": whole(arm.setting.epochs),
    }


def note(arm: Arm) -> Cell:
    """What a reader must know of an arm."""
    dirty = any(entry(record, "provenance", "dirty") for record in (*arm.records.values(), *arm.origins.values()))
    return words("; ".join(part for part in (arm.flag, "uncommitted code" if dirty else "") if part) or "-")
