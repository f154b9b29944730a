"""The command `settle`, and the job on SLURM that continues it."""

from __future__ import annotations

import argparse
from typing import Any

from repro.cli.commands import parse, settings_of
from repro.errors import UserError


def settle(options: argparse.Namespace) -> int:
    """Decide claims within a budget."""
    from repro.results import find_records, needed, own_claims, own_tuning, settle, settle_cluster

    named = [*options.claim, *([options.paper] if options.paper else [])]
    own = own_claims.told(options.method, options.against, options.eval, options.margin, named)
    claims = own_claims.claims_of(track=options.track, **own) if own else ()
    settings, unequal = settings_of(options), options.allow_unequal_tuning
    preview = options.dry_run and not own
    asked_for = [] if own else find_records.claims_of(options.claim, options.paper)  # says which name is unknown
    by_name = bool(options.claim)
    if options.budget is None:
        if not preview:
            only = "your own method needs it with --dry-run, too" if own else "without it, only --dry-run works"
            raise UserError(f"settle needs --budget TIME, for example --budget 3h; {only}")
        asked = settle.ask(options.claim, options.paper, options.track, settings, parse)
        print(needed.told(asked_for, options.track, settings, asked.published, named=by_name))
        return 0
    spent = own_tuning.first(own, options.track, settings) if own and not (unequal or options.dry_run) else 0.0
    if spent is None:
        return 0
    asked = settle.ask(options.claim, options.paper, options.track, settings, parse, claims, unequal)
    if not options.dry_run:  # which says it in the claim's row
        settle.require_tuned_alike(asked, [*options.claim, *(claim.id for claim in claims)])
    status = settle_cluster.start(asked, own, options.budget, dry=options.dry_run, spent=spent)
    if preview:
        print("\n" + needed.told(asked_for, options.track, settings, asked.published, named=by_name, below=True))
    return status


def again(**told: Any) -> int:
    """The next look of a settlement on SLURM: tasks name it, so it stays here."""
    from repro.results import settle_cluster

    return settle_cluster.go_on(told, parse)
