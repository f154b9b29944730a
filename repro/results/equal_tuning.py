"""Whether the two arms of a claim are tuned alike by the recipes as they stand, and the command that tunes them so."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence

from leaderboards.arms import Arms
from leaderboards.claims import Claim, tuning_matters
from leaderboards.reason_words import reason
from leaderboards.reasons import TuningApart
from leaderboards.record_fields import Record, origin_of
from leaderboards.tuning import Tuning, tuned_alike
from repro.plan import registry
from repro.results.suite import suite
from repro.store import records


def hindrance(claim: Claim, track: str) -> str:
    """Why new pairs of a claim would be of arms that are not tuned alike, with the command that fixes it; or ""."""
    if not claim.baseline or not tuning_matters(claim):
        return ""
    return unequal(registry.spelled(claim.arm), registry.spelled(claim.baseline_arm), track)


def unequal(name: str, baseline: str, track: str) -> str:
    """The same of two arms, by names as `--method` takes them."""
    ours, theirs = _tuning(name, track), _tuning(baseline, track)
    if tuned_alike(ours, theirs):
        return ""
    command = ["python", "-m", "repro", "tune", "--equal", "--write", "--track", track, "--method", name, baseline]
    return f"{reason(TuningApart(ours, theirs))}; fix it with: {shlex.join(command)}"


def _tuning(name: str, track: str) -> tuple[Tuning, ...]:
    recipe = suite().recipe(name, track)
    return (Tuning(suite().tuned(name, track), recipe["pretrain"]["tuning_trials"]),) if recipe else ()


def of_these_recipes(found: Sequence[Record], track: str) -> list[Record]:
    """The records without those of a track whose recipe has been tuned since: new seeds do not go on with these."""
    known = records.by_fingerprint(map(dict, found))
    old = set[str]()
    for arm in Arms(found, suite()).of("pretrain"):
        if arm.setting.track == track and _outdated(arm.name, arm.tuning, track):
            old.update(arm.fingerprints)
    return [record for record in found if (origin_of(record, known) or record)["fingerprint"] not in old]


def _outdated(name: str, tuning: Iterable[Tuning], track: str) -> bool:
    now = suite().tuned(name, track)
    return bool(now) and any(how.procedure != now for how in tuning)
