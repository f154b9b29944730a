"""The table that ends a run: results, what they are held against, times; and what to say below it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from leaderboards.arms import UNTRAINED, Arm, Arms
from leaderboards.cells import duration, peak, spread
from leaderboards.claims import Claim
from leaderboards.controls import Baseline, Control, Controls
from leaderboards.deviations import deviations
from leaderboards.reason_words import reason
from leaderboards.record_fields import Record, entry, finite
from leaderboards.suite import Evaluation, Suite
from leaderboards.verdicts import NO_VERDICTS

_SIZES = ((("n_test",), "test images"), (("n_query",), "queries"), (("val", "pictures"), "test images"))
"""Where the details of a record say how much it was evaluated on."""
FEW_PICTURES = 500
"""Test pictures: of fewer the table says how far chance alone moves a number."""
_HEADS = ["job", "method", "seed", "result", "untrained", "raw pixels", "baseline", "paper's number", "time", "memory"]
_WIDTHS = [None, 24, 9, 22, None, None, None, 24, None, None]
_BASELINE, _PAPER = map(_HEADS.index, ("baseline", "paper's number"))
_LEGEND = "in brackets: points above the same network untrained, and above raw pixels without a network"
_WITH_BASELINE = "in brackets: points above the same network untrained, raw pixels without a network, and the baseline"
_PUBLISHED = "* from the published records: same images, protocol and network, and the same seeds if they have them"


@dataclass(frozen=True)
class Lacking:
    """A result beside which a control is missing."""

    arm: Arm
    evaluation: str
    pixels: bool  # raw pixels, else the network untrained


@dataclass
class Summary:
    """The table, the lines below it, and the controls that are missing in it."""

    table: str = ""
    lines: list[str] = field(default_factory=list)
    lacking: list[Lacking] = field(default_factory=list)


def summarise(records: Iterable[Record], claims: Sequence[Claim], suite: Suite, controls: Controls) -> Summary:
    """The table of a run, about 120 columns wide: beside a baseline it has no column for paper's numbers without one.

    Args:
        records: those of this run, of all kinds and seeds; several seeds of an arm share a row.
        claims: what `claim_files.load()` gives.
        suite: what may be among them, in the order of the rows.
        controls: what the results are held against.
    """
    from tabulate import tabulate

    known, said = Arms(records, suite), Summary()
    baselines: dict[str, None] = {}  # in words
    rows = [_row(kind, known.of(kind), arm) for kind in suite.preparing for arm in known.of(kind)]
    papers: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))  # why there is no number
    for evaluation in suite.evaluations.values():
        rows += _results(evaluation, known, claims, controls, said.lacking, papers, baselines)
    left_out = _BASELINE if not baselines else None if any(row[_PAPER] not in ("-", "") for row in rows) else _PAPER
    columns = [i for i in range(len(_HEADS)) if i != left_out]
    said.table = str(
        tabulate(
            [[row[i] for i in columns] for row in rows],
            headers=[_HEADS[i] for i in columns],
            tablefmt="simple",
            disable_numparse=True,
            maxcolwidths=[_WIDTHS[i] for i in columns],
        )
    )
    said.lines.append(_WITH_BASELINE if baselines else _LEGEND)
    if any("*" in cell for row in rows for cell in row[4 : _BASELINE + 1]):
        said.lines.append(_PUBLISHED)
    said.lines += [f"baseline of {words}" for words in baselines]
    said.lines += _chance(known)
    for name, by_reason in papers.items():
        parts = (f"{', '.join(evaluations)}: {why}" for why, evaluations in by_reason.items())
        said.lines.append(f"paper's numbers, {name}: {'; '.join(parts)}")
    return said


def _results(
    evaluation: Evaluation,
    known: Arms,
    claims: Sequence[Claim],
    controls: Controls,
    lacking: list[Lacking],
    papers: dict[str, dict[str, list[str]]],
    baselines: dict[str, None],
) -> Iterator[list[str]]:
    """The rows of one evaluation. What shares its job with an evaluation above has its time and memory there."""
    first = next(other for other in known.suite.evaluations.values() if other.kind == evaluation.kind)
    arms, main = known.of(evaluation.kind), evaluation.metrics[0]
    for arm in arms:
        values = [(metric, arm.values(metric).values()) for metric in evaluation.metrics]
        result = ", ".join(f"{metric} {spread(found, 1).text}" for metric, found in values if found)
        if not result and first is not evaluation:
            continue  # a data set may have no masks
        beside = _beside(arm, main, controls)
        if arm.method != UNTRAINED:
            lacking += [Lacking(arm, evaluation.name, i > 0) for i, cell in enumerate(beside[:2]) if cell == "-"]
        if baseline := controls.baseline(arm, main):
            baselines[f"{arm.name}: {_unequal(arm.name, baseline)}"] = None
        number, why = held_against(arm, evaluation.name, claims, known.suite)
        if why and evaluation.name not in papers[arm.name][why]:
            papers[arm.name][why].append(evaluation.name)
        yield _row(evaluation.name, arms, arm, result, *beside, number or "-", shared=first is not evaluation)
        if few := arm.values(evaluation.few).values():
            words = evaluation.few.removeprefix(f"{main}_").partition("_")[0] + " labels"  # `10 labels`, for each class
            beside = _beside(arm, evaluation.few, controls)
            yield _row(f"- {words}", (arm,), arm, f"{main} {spread(few, 1).text}", *beside, "-", shared=True)


def _said(key: str, value: str) -> str:
    """`16 epochs`, `1 tuning trial`, `tuning P2-1bd28f` (a procedure), `network ViT 128x3/4`."""
    if key == "trials":
        return f"{value} tuning trial{'' if value == '1' else 's'}" if value.isdigit() else f"tuning {value}"
    return f"{value} epochs" if key == "epochs" else f"{key} {value}"


def _unequal(name: str, baseline: Baseline) -> str:
    """`moco_v3, unequal, so no fair comparison: aps 16 epochs and 35 tuning trials, moco_v3 6 epochs and ...`."""
    sides = [" and ".join(_said(key, both[side]) for key, both in baseline.unequal.items()) for side in range(2)]
    said = (
        f"{baseline.name}, unequal, so no fair comparison: {name} {sides[0]}, {baseline.name} {sides[1]}"
        if baseline.unequal
        else baseline.name
    )
    return f"{said}; {baseline.name}: {baseline.flag}" if baseline.flag else said


def _beside(arm: Arm, metric: str, controls: Controls) -> tuple[str, str, str]:
    """The cells of the two controls, "-" where one is missing, and of the baseline, "" where there is none."""
    baseline = controls.baseline(arm, metric)
    shown = held(baseline.control, fair=not baseline.unequal) if baseline else ""
    return held(controls.untrained(arm, metric)), held(controls.pixels(arm, metric)), shown


def held(control: Control | None, fair: bool = True) -> str:
    """`38.4 (+7.5)`, `38.4* (+7.5)` of a published record, `38.4 (unequal)` of a training that is unlike, or "-"."""
    if control is None:
        return "-"
    gain = round(control.gain, 1) + 0.0  # no "-0.0"
    return f"{control.value:.1f}{'*' * control.published} ({f'{gain:+.1f}' if fair else 'unequal'})"


def _row(job: str, arms: Sequence[Arm], arm: Arm, *cells: str, shared: bool = False) -> list[str]:
    """arms: all of this kind.  cells: from the result to the paper's number.  shared: its job stands further up."""
    several = len({other.setting.protocol for other in arms}) > 1
    return [
        f"{job} ({arm.setting.protocol})" if several else job,
        arm.name + (f" ({arm.label})" if arm.label else ""),
        " ".join(map(str, sorted(arm.records))),
        *(cells or [""] * 5),
        "as above" if shared else duration(arm.costs("wall_s").values()).text,
        "" if shared else peak(arm.costs).text,
    ]


def _chance(known: Arms) -> list[str]:
    """A line per evaluation on few pictures (re-ID: queries): how far apart two numbers must be to tell anything."""
    sizes: dict[tuple[str, int, str], float | None] = {}
    for record in known.records:
        names = " and ".join(name for name, one in known.suite.evaluations.items() if one.kind == record["kind"])
        for path, unit in _SIZES:
            size, error = finite(entry(record, "details", *path)), finite(entry(record, "details", "standard_error"))
            if names and size and size < FEW_PICTURES:
                key = names, int(size), unit
                sizes[key] = max(error, sizes.get(key) or 0.0) if error else sizes.get(key)
    return [
        f"{names}: {size} {unit}"
        + (
            f" (standard error {error:.1f} points); differences below {3 * round(error, 1):.1f} points may be chance"
            if error
            else "; treat the numbers as rough"
        )
        for (names, size, unit), error in sizes.items()
    ]


def held_against(arm: Arm, evaluation: str, claims: Sequence[Claim], suite: Suite) -> tuple[str, str]:
    """The paper's number that this arm may stand beside; where a paper has one that it may not, why; else both ""."""
    track = arm.setting.track
    own = bool(suite.own) and arm.setting.data.startswith(suite.own)
    if track == NO_VERDICTS or own or arm.method == UNTRAINED:
        return "", ""
    if arm.imported:
        return "", "no claim is tested on weights that were not trained here"
    of_method = [claim for claim in claims if claim.arm == arm.name and claim.evaluation == evaluation]
    numbers = [claim for claim in of_method if claim.kind == "number"]
    apart = [(claim, deviations(claim, arm, suite)) for claim in numbers]
    exact = [claim for claim, departures in apart if not departures]
    if exact:
        return "; ".join(f"{claim.metric} {claim.stated} ({claim.id})" for claim in exact), ""
    tested = [claim for claim in of_method if track in claim.proxies]
    if tested:
        stated = ", ".join(dict.fromkeys(claim.stated for claim in tested))
        return "", f"none, but the direction is tested on {track}: {stated}"
    if apart:
        nearest = min((departures for _, departures in apart), key=len)
        return "", f"none comparable, {reason(nearest[0])}"
    judged = [claim.method for claim in claims if claim.baseline_arm == arm.name and claim.evaluation == evaluation]
    if judged:
        return "", f"none, a baseline of {', '.join(dict.fromkeys(judged))}"
    return "", ""
