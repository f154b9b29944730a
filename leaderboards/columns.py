"""The columns of every kind of board: what a row says of an arm. A new column is a line here.

A column in which no row of a table has anything to say is left out of it.
"""

from __future__ import annotations

from collections.abc import Mapping

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
    sources,
    spread,
    whole,
    whole_numbers,
    words,
)
from leaderboards.curves import Look, Reach
from leaderboards.paired_arms import no_ratio
from leaderboards.record_fields import OURS, entry, finite, number
from leaderboards.suite import Evaluation

PRETEXT: Mapping[str, str] = {
    "final_location_accuracy": "location",
    "final_location_up_down": "up or down",
    "final_location_left_right": "left or right",
    "final_rotation_accuracy": "rotation",
}
"""Metrics of pre-trainings that count right answers, and what a board calls them."""


def of_evaluation(arm: Arm, evaluation: Evaluation, link: Link) -> Row:
    """What an evaluation measured of an arm."""
    first = evaluation.metrics[0]
    best, chosen = arm.values(f"{first}_best_on_test"), arm.values(first)
    return {
        **identity(arm),
        "n": whole(len(chosen)),
        **{metric: spread(_told(arm, metric)) for metric in (*evaluation.metrics, *evaluation.further)},
        "optimism": spread([best[seed] - chosen[seed] for seed in chosen if seed in best]),
        "trials": whole_numbers(arm.trials, ", "),
        "wall time": duration(arm.costs("wall_s").values()),
        "peak memory": peak(arm.costs),
        "device": words(_devices(arm)),
        "test set": words(_test_set(arm)),
        "date": dates(arm.records),
        "from": sources(arm.records, link),
        "note": note(arm),
    }


def _devices(arm: Arm) -> str:
    return ", ".join(sorted({str(entry(record, "provenance", "device") or "-") for record in arm.records.values()}))


def _told(arm: Arm, metric: str) -> list[float]:
    """The values of a metric that say something: fewer than five neighbours name fewer than five classes."""
    nearest = (number(record.get("details"), "k") for record in arm.records.values())
    if metric == "top5" and any(k is not None and k < 5 for k in nearest):
        return []
    return list(arm.values(metric).values())


_TEST_SETS = (  # where the details of a record say how large its test set was
    (("val", "pictures"), "pictures"),
    (("val", "instances"), "objects"),
    (("n_query",), "queries"),
    (("n_gallery",), "gallery pictures"),
    (("n_test",), "pictures"),
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
        "trials": whole_numbers(arm.trials, ", "),
        "date": dates(arm.records),
        "from": sources(arm.records, link),
        "note": note(arm),
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
        "trials": whole_numbers(arm.trials, ", "),
        "date": dates(arm.origins),
        "from": sources(arm.origins, link),
        "note": note(arm),
    }


def of_race(item: Reach, link: Link) -> Row:
    """What a method needs to get as far as a baseline ends."""
    there, hindered = item.there, no_ratio(item.ours, item.theirs)
    remarks = ["" if item.risen else "one began as good as the baseline ends", hindered]
    return {
        "method": words(item.ours.name),
        "baseline": words(item.theirs.name),
        "epochs": whole(item.ours.setting.epochs or None),
        "trials": whole_numbers(item.ours.trials, ", "),
        "n": whole(len(item.seeds)),
        "baseline ends at": spread([item.target.top1]),
        "method ends at": spread([item.last.top1]),
        **_where(item, there, hindered),
        "from": sources({seed: item.ours.records[seed] for seed in item.seeds}, link),
        "against": sources({seed: item.theirs.records[seed] for seed in item.seeds}, link),
        "note": words("; ".join(filter(None, remarks)) or "-"),
    }


def _where(item: Reach, there: Look | None, hindered: str) -> Row:
    """Where the method is as good as the baseline's end, and which part of the baseline's cost that is."""
    columns = "as good after", "device time", "of the baseline's time", "TFLOP", "of the baseline's TFLOP"
    if there is None:
        return {**dict.fromkeys(columns, NOTHING), columns[0]: Cell("never" if item.risen else "no race")}
    epochs = f"{there.epochs:.1f}"
    cells = (
        Cell(f"{epochs} epochs", float(epochs)),
        duration([there.device_s]),
        NOTHING if hindered else _part(there.device_s, item.target.device_s),
        count([there.flops], unit=1e12, digits=1),
        _part(there.flops, item.target.flops),
    )
    return dict(zip(columns, cells, strict=True))


def _part(part: float, whole: float) -> Cell:
    return percent(part / whole if whole else None)


def identity(arm: Arm) -> dict[str, Cell]:
    """The columns that say which arm a row is."""
    return {
        "method": words(arm.method),
        "variant": words(arm.variant or "-"),
        "which": words(arm.label or "-"),
        "trust": words("-" if arm.trust == OURS else arm.trust),
        "network": words(arm.setting.network),
        "epochs": whole(arm.setting.epochs),
    }


def note(arm: Arm) -> Cell:
    """What a reader must know of an arm."""
    dirty = any(entry(record, "provenance", "dirty") for record in (*arm.records.values(), *arm.origins.values()))
    return words("; ".join(part for part in (arm.flag, "uncommitted code" if dirty else "") if part) or "-")
