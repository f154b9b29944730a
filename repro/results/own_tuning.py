"""The tuning of a user's own method, before it is paired with methods that were tuned by the procedure."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from repro.errors import UserError
from repro.plan import recipes, registry
from repro.plan.request import Request
from repro.run import submit, tune_equal
from repro.settings import Settings


def first(own: Mapping[str, Any], track: str, settings: Settings) -> float | None:
    """Tune a recipe file that is not tuned, where all that it is compared with are, and write the choice into it.

    own: see `own_claims.told`.  Returns the seconds that it took; None where SLURM does it.  UserError where it failed
    or was interrupted.
    """
    method: str = own["method"]
    mine = method.partition(":")[0].endswith(".toml")
    if not mine or _tuned(method, track) or not all(_tuned(name, track) for name in own["against"]):
        return 0.0
    began = time.monotonic()
    if status := tune_equal.tune(Request((method,), track), settings, ["settle", "--method", method], write=True):
        how = "was interrupted" if status == 130 else "failed"
        raise UserError(f"the tuning of {method} {how}; run the same command again to continue")
    if not _tuned(method, track):
        if submit.why_local(settings) is None:
            print("the tuning is submitted; when its jobs have ended, run the same command again")
            return None
        raise UserError(f"no setting of {method} gave a result, so none was chosen; fix the method or its recipe")
    return time.monotonic() - began


def _tuned(name: str, track: str) -> str:
    info, variant = registry.find(name)
    return recipes.tuned_by(info, variant, track, recipes.resolve(info, variant, track, {}))
