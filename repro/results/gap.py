"""`repro gap`: what lies between a claimed number and ours."""

from __future__ import annotations

from typing import Any

from leaderboards import gap
from leaderboards.arms import Arms
from leaderboards.cells import spread
from leaderboards.claims import NO_TRACK
from leaderboards.reason_words import reasons_why
from leaderboards.testable import first_takes
from repro.errors import UserError
from repro.results import find_records
from repro.results.claim_commands import for_step, own_protocol
from repro.results.suite import suite
from repro.settings import Settings
from repro.store import records
from repro.terminal import text

_TABLE = 12  # rows of further steps that are shown


def shortfall(settings: Settings, name: str) -> str:
    """The steps between a claimed number and ours, their differences and what each is due to, and what is missing."""
    claim = find_records.find_claim(name)
    if why := gap.reason(claim):
        raise UserError(f"claim {name} {why}; see python -m repro claims {name}")
    found, faults = find_records.everything(settings)
    lines = [f"skipped: {fault}" for fault in faults]
    lines += [f"{claim.id}: {claim.statement}", ""]
    if claim.track == NO_TRACK:
        return "\n".join(
            [*lines, f"claimed {claim.stated}; no track runs {claim.data}, so there is nothing to compare"]
        )
    own = own_protocol(claim, claim.track)
    steps = gap.steps(claim, Arms(found, suite()), own)
    here = gap.taken(steps)
    rows: list[list[Any]] = [["claimed", f"{claim.value:g} {claim.unit}", "-", claim.data, claim.source]]
    for key in gap.expected(claim, own):
        rows.append(_row(here[key]) if key in here else [f"{key}: {gap.STEPS[key]}", "missing", "-", "-", "-"])
    lines.append(text.table(rows, ["step", "value", "n", "where", "from"]))
    if "b" in gap.expected(claim, own) and "c" not in gap.expected(claim, own):
        lines.append(f"no step c: the paper's protocol, {own}, is the track's own")
    if not claim.protocol:
        lines.append(f"no step b: the paper's protocol is not known; ours is {own}")
    if claim.metric.endswith("_best_on_test"):
        lines.append("claimed, a and b: the best epoch on the test images, as the paper reports; c: the last one")
    made = gap.shortfalls(claim, steps, own)
    if made:
        due = [[f"{part.start} - {part.end}", f"{part.points:+.2f}", _due(part)] for part in made]
        total = ["claimed - " + made[-1].end, f"{sum(part.points for part in made):+.2f}", "all of it"]
        lines += ["", text.table([*due, *([total] if len(due) > 1 else [])], ["difference", "points", "due to"])]
    else:
        lines += ["", "No result in the paper's setting yet, so the gap cannot be split up."]
    others = [step for step in steps if step.apart]
    if others:
        lines += ["", "Other results, in other settings (not used)"]
        lines.append(text.table([[*_row(step), reasons_why(step.apart)] for step in others[:_TABLE]], _APART))
        if len(others) > _TABLE:
            lines.append(f"and {len(others) - _TABLE} more")
    takes = first_takes(claim, find_records.every_claim(), suite(), claim.track)
    absent = [key for key in gap.expected(claim, own) if key not in here]
    if absent:
        lines += [
            "",
            "To make what is missing",
            *(f"  {key}: {line}" for key in absent for line in for_step(claim, key, takes)),
        ]
    return "\n".join(lines)


_APART = ["step", "value", "n", "where", "from", "because"]


def _row(step: gap.Step) -> list[Any]:
    setting = step.arms[0].setting
    files = [records.file_name(dict(record)) for arm in step.arms for record in arm.records.values()]
    where = f"{setting.track}, {setting.data}, {setting.protocol}"
    return [
        f"{step.key}: {gap.STEPS[step.key]}",
        spread(step.values.values()).text,
        len(step.values),
        where,
        "\n".join(files),
    ]


def _due(part: gap.Shortfall) -> str:
    if len(part.due) == 1:
        return part.due[0]
    return " and ".join(part.due) + ", which cannot be told apart"
