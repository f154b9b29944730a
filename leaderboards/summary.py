"""The one table that ends a run: every job of it, its main metrics, what they can be held against, time and memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from leaderboards.arms import MAIN_METRICS, Arm, Record, arms, kind_of
from leaderboards.boards import duration, peak, spread
from leaderboards.claims import Claim
from leaderboards.verdicts import differences

_BEFORE = ("pretrain", "import", "features")  # jobs without a board of their own


def suite_table(records: Iterable[Record], claims: Sequence[Claim]) -> str:
    """A plain table, about 110 columns wide.

    Args:
        records: those of this run, of all kinds and seeds; several seeds of an arm share a row.
        claims: what `claims.load()` gives.
    """
    from tabulate import tabulate

    records = list(records)
    rows = []
    for name in (*_BEFORE, *MAIN_METRICS):
        found = arms(records, kind_of(name))
        several = len({arm.setting.protocol for arm in found}) > 1
        for arm in found:
            shared = name == "segmentation"  # boxes and masks come from one job
            if shared and not _result(arm, name):
                continue  # a data set without masks
            rows.append(
                [
                    f"{name} ({arm.setting.protocol})" if several else name,
                    arm.name + (f" ({arm.label})" if arm.label else ""),
                    " ".join(map(str, sorted(arm.records))),
                    _result(arm, name),
                    "" if name in _BEFORE else held_against(arm, name, claims),
                    "as above" if shared else duration(arm.costs("wall_s").values()),
                    "" if shared else peak(arm.costs),
                ]
            )
    heads = ["job", "method", "seed", "result", "held against", "time", "peak memory"]
    widths = [None, 24, 9, 22, 34, None, None]
    return str(tabulate(rows, headers=heads, tablefmt="simple", disable_numparse=True, maxcolwidths=widths))


def _result(arm: Arm, name: str) -> str:
    shown = [(metric, arm.values(metric).values()) for metric in MAIN_METRICS.get(name, ())]
    return ", ".join(f"{metric} {spread(values)}" for metric, values in shown if values)


def held_against(arm: Arm, evaluation: str, claims: Sequence[Claim]) -> str:
    """The paper's number that this arm may stand beside, or why there is none."""
    track = arm.setting.track
    if track == "embedded":
        return f"none comparable: no paper reports {arm.setting.data}"
    if arm.imported:
        return "none: no claim is tested on weights that were not trained here"
    of_method = [claim for claim in claims if claim.arm == arm.name and claim.evaluation == evaluation]
    numbers = [claim for claim in of_method if claim.kind == "number"]
    exact = [claim for claim in numbers if not differences(claim, arm)]
    if exact:
        return "; ".join(f"{claim.metric} {claim.stated} ({claim.id})" for claim in exact)
    tested = [claim for claim in of_method if track in claim.proxies]
    if tested:
        return f"no number; direction at {track}: " + ", ".join(dict.fromkeys(claim.stated for claim in tested))
    if numbers:
        nearest = min(numbers, key=lambda claim: len(differences(claim, arm)))
        return f"none comparable: {differences(nearest, arm)[0]}"
    judged = [claim.method for claim in claims if claim.baseline_arm == arm.name and claim.evaluation == evaluation]
    if judged:
        return f"none comparable: a baseline of {', '.join(dict.fromkeys(judged))}"
    return f"none comparable: no claim of {arm.name} on {evaluation}"
