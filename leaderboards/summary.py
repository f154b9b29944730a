"""The one table that ends a run: every job of it, its main metrics, what they can be held against, time and memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from leaderboards.arms import Arm, Arms
from leaderboards.cells import duration, peak, spread
from leaderboards.claims import Claim
from leaderboards.deviations import deviations
from leaderboards.record_fields import Record
from leaderboards.suite import Evaluation, Suite
from leaderboards.wording import reason


def suite_table(records: Iterable[Record], claims: Sequence[Claim], suite: Suite) -> str:
    """A plain table, about 110 columns wide.

    Args:
        records: those of this run, of all kinds and seeds; several seeds of an arm share a row.
        claims: what `claim_files.load()` gives.
        suite: what may be among them, in the order of the rows.
    """
    from tabulate import tabulate

    known = Arms(records, suite)
    rows = [_row(kind, known.of(kind), arm, "", "") for kind in suite.preparing for arm in known.of(kind)]
    for evaluation in suite.evaluations.values():
        rows += _results(evaluation, known, claims)
    heads = ["job", "method", "seed", "result", "held against", "time", "peak memory"]
    widths = [None, 24, 9, 22, 34, None, None]
    return str(tabulate(rows, headers=heads, tablefmt="simple", disable_numparse=True, maxcolwidths=widths))


def _results(evaluation: Evaluation, known: Arms, claims: Sequence[Claim]) -> Iterator[list[str]]:
    """The rows of one evaluation. What shares its job with an evaluation above has its time and memory there."""
    first = next(other for other in known.suite.evaluations.values() if other.kind == evaluation.kind)
    shared = first is not evaluation
    arms = known.of(evaluation.kind)
    for arm in arms:
        values = [(metric, arm.values(metric).values()) for metric in evaluation.metrics]
        result = ", ".join(f"{metric} {spread(found).text}" for metric, found in values if found)
        if result or not shared:  # a data set may have no masks
            against = held_against(arm, evaluation.name, claims, known.suite)
            yield _row(evaluation.name, arms, arm, result, against, shared=shared)


def _row(job: str, arms: Sequence[Arm], arm: Arm, result: str, against: str, *, shared: bool = False) -> list[str]:
    """arms: all of this kind.  shared: whether its job stands further up."""
    several = len({other.setting.protocol for other in arms}) > 1
    return [
        f"{job} ({arm.setting.protocol})" if several else job,
        arm.name + (f" ({arm.label})" if arm.label else ""),
        " ".join(map(str, sorted(arm.records))),
        result,
        against,
        "as above" if shared else duration(arm.costs("wall_s").values()).text,
        "" if shared else peak(arm.costs).text,
    ]


def held_against(arm: Arm, evaluation: str, claims: Sequence[Claim], suite: Suite) -> str:
    """The paper's number that this arm may stand beside, or why there is none."""
    track = arm.setting.track
    if track == "embedded":
        return f"none comparable: no paper reports {arm.setting.data}"
    if arm.imported:
        return "none: no claim is tested on weights that were not trained here"
    of_method = [claim for claim in claims if claim.arm == arm.name and claim.evaluation == evaluation]
    numbers = [claim for claim in of_method if claim.kind == "number"]
    apart = [(claim, deviations(claim, arm, suite)) for claim in numbers]
    exact = [claim for claim, departures in apart if not departures]
    if exact:
        return "; ".join(f"{claim.metric} {claim.stated} ({claim.id})" for claim in exact)
    tested = [claim for claim in of_method if track in claim.proxies]
    if tested:
        return f"no number; direction at {track}: " + ", ".join(dict.fromkeys(claim.stated for claim in tested))
    if apart:
        nearest = min((departures for _, departures in apart), key=len)
        return f"none comparable: {reason(nearest[0])}"
    judged = [claim.method for claim in claims if claim.baseline_arm == arm.name and claim.evaluation == evaluation]
    if judged:
        return f"none comparable: a baseline of {', '.join(dict.fromkeys(judged))}"
    return f"none comparable: no claim of {arm.name} on {evaluation}"
