"""`bench`: which options each kind of measurement takes, and the call of it."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping

from repro.errors import UserError, unknown

TAKES: Mapping[str, frozenset[str]] = {
    "pretrain": frozenset({"method", "track", "precision", "set", "threads"}),
    "tried": frozenset({"track", "precision", "set", "threads", "compile"}),
    "eval": frozenset({"threads", "sizes"}),
    "exchange": frozenset({"processes"}),
}
"""Of each kind, the options that it takes beside --seconds."""


def bench(options: argparse.Namespace) -> int:
    """Measure and print a table."""
    what, seconds, threads = options.what, options.seconds, options.threads
    if what not in TAKES:
        raise unknown("thing to bench", what, tuple(TAKES))
    if not 0 < seconds < math.inf or (threads is not None and threads < 1):
        raise UserError("--seconds and --threads must be positive")
    for name in sorted(frozenset().union(*TAKES.values()) - TAKES[what]):
        if getattr(options, name) not in (None, False, []):
            takers = " and ".join(f"bench {other}" for other, names in TAKES.items() if name in names)
            raise UserError(f"bench {what}: --{name} applies only to {takers}; leave it out")
    from repro.settings import require_temporary

    require_temporary()
    import torch

    from repro.jobs import settle

    settle(threads or torch.get_num_threads())
    track = options.track or "mini"
    if what == "pretrain":
        from repro.measure import bench_pretraining

        print(bench_pretraining.table(options.method, track, options.precision, seconds, options.set))
    elif what == "tried":
        from repro.measure import bench_tried

        print(bench_tried.table(track, options.precision, seconds, options.set, options.compile))
    elif what == "exchange":
        from repro.measure import bench_exchange

        print(bench_exchange.table(seconds, 2 if options.processes is None else options.processes))
    else:
        from repro.measure import bench_evaluations

        print(bench_evaluations.table(seconds, options.sizes or "small"))
    return 0
