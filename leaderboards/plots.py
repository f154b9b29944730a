"""A picture for people: accuracy against the compute of pre-training."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from pathlib import Path

from leaderboards.arms import MAIN_METRICS, Arm, Record, arms, entry

# Okabe and Ito's colours, distinguishable with any kind of colour vision; the markers tell arms apart without colour.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = "os^DvPX*<>"


def plot_efficiency(records: Iterable[Record], path: Path, evaluations: tuple[str, ...] = ("knn", "linear")) -> None:
    """Accuracy against device time of pre-training, a panel for each track, data set, protocol and device.

    Args:
        records: plain dicts of all kinds.
        path: where the picture goes; .png or .svg.
        evaluations: whose main metric is drawn.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    records = list(records)
    panels = _panels(records, evaluations)
    names = sorted({_name(arm) for _, _, found in panels for arm in found})
    columns = min(2, max(1, len(panels)))
    rows = max(1, -(-len(panels) // columns))
    # Fixed ids and no date: the same records give the same file.
    with rc_context({"svg.hashsalt": "repro", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(5.4 * columns, 3.6 * rows + 0.5), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False).flat
        for axis in list(axes)[len(panels) :]:
            axis.set_axis_off()
        figure.suptitle("Accuracy against compute of pre-training")
        for axis, (evaluation, title, found) in zip(figure.axes, panels, strict=False):
            metric = MAIN_METRICS[evaluation][0]
            for arm in found:
                style = names.index(_name(arm))
                times, values = list(arm.training("device_s").values()), list(arm.values(metric).values())
                axis.errorbar(
                    statistics.fmean(times) / 60,
                    statistics.fmean(values),
                    yerr=statistics.stdev(values) if len(values) > 1 else None,
                    color=_COLOURS[style % len(_COLOURS)],
                    marker=_MARKERS[style % len(_MARKERS)],
                    capsize=3,
                    linestyle="none",
                    label=_name(arm),
                )
            axis.set_title(title, fontsize=9)
            axis.set_xlabel("device time of pre-training (minutes)")
            axis.set_ylabel(f"{evaluation} {metric} (%)")
            axis.grid(True, color="#dddddd", linewidth=0.6)
            axis.set_axisbelow(True)
            axis.margins(0.15)
            axis.set_xlim(left=0)
            axis.spines[["top", "right"]].set_visible(False)
        handles = [axis.get_legend_handles_labels() for axis in figure.axes]
        by_name = {label: handle for pair in handles for handle, label in zip(*pair, strict=True)}
        if by_name:  # below the panels, where it hides no point
            order = sorted(by_name)
            figure.legend(
                [by_name[name] for name in order],
                order,
                loc="outside lower center",
                ncols=min(5, len(order)),
                frameon=False,
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)


def _name(arm: Arm) -> str:
    return f"{arm.name} ({arm.label})" if arm.label else arm.name


def _panels(records: list[Record], evaluations: tuple[str, ...]) -> list[tuple[str, str, list[Arm]]]:
    """(evaluation, title, arms) of every panel; arms without the cost of their pre-training are left out."""
    groups: dict[tuple[object, ...], list[Arm]] = {}
    for evaluation in evaluations:
        for arm in arms(records, evaluation):
            if arm.values(MAIN_METRICS[evaluation][0]) and arm.training("device_s"):
                devices = {str(entry(origin, "provenance", "device") or "-") for origin in arm.origins.values()}
                groups.setdefault((evaluation, *arm.setting.scope, ", ".join(sorted(devices))), []).append(arm)
    return [
        (
            str(key[0]),
            f"{found[0].setting.track}: {found[0].setting.source}, protocol {found[0].setting.protocol}\n{key[-1]}",
            found,
        )
        for key, found in groups.items()
    ]
