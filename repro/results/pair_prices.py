"""What one pair of a claim takes on a track, by the prices of the plan."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from leaderboards.arms import Arms
from leaderboards.claims import Claim
from leaderboards.suite import Price
from repro.errors import UserError
from repro.plan import builder, tracks
from repro.plan.request import Request
from repro.results.bare_suite import suite
from repro.results.claim_commands import next_runs
from repro.settings import Settings

_UNUSED = 2**31 - 1  # a seed that nobody has run: what is cached costs nothing
_NOWHERE = Path("no-workspace")
_OPTIONS = {
    "--method",
    "--seed",
    "--track",
    "--eval",
    "--data",
    "--set",
    "--protocol",
}  # of a pair


def published(claim: Claim, track: str, own: bool) -> Price | None:
    """The price that the boards state: of the track's card, by the published records, else by constants.

    It depends on no workspace and no machine, so that everybody's boards are the same. None on a track of CPUs, and
    where no command makes the pair.
    """
    card = tracks.find(track).card
    if not card:
        return None
    return _published(next_words(claim, track, own), card)


def price(claim: Claim, track: str, own: bool, settings: Settings) -> Price | None:
    """The price on this machine, or on --card, by the records of the workspace, too. None as for `published`."""
    return _price(next_words(claim, track, own), settings)


def next_words(claim: Claim, track: str, own: bool) -> tuple[tuple[str, ...], ...]:
    """The commands that make a claim's first pair where there is nothing yet."""
    try:
        return next_runs(claim, Arms((), suite()), track, own)
    except UserError:  # an arm that the track has no recipe for
        return ()


@cache
def _published(commands: tuple[tuple[str, ...], ...], card: str) -> Price | None:
    return _price(commands, Settings(workspace=_NOWHERE, card=card))


def _price(commands: Sequence[Sequence[str]], settings: Settings) -> Price | None:
    hours: dict[str, float] = {}
    by_source: dict[str, float] = defaultdict(float)
    gpu, card = False, ""
    for command in commands:
        try:
            planned = builder.make(dataclasses.replace(_request(command), seeds=(_UNUSED,)), settings, build=False)
        except UserError:  # its data set is not there, say
            return None
        gpu = planned.card is not None
        card = planned.card.title if planned.card else ""
        for job in planned.jobs:
            took = planned.gpu_hours(job) if gpu else job.seconds / 3600
            hours[job.fingerprint] = took
            by_source[job.priced_by] += took
    sources = tuple(sorted(by_source, key=lambda name: -by_source[name]))
    return Price(hours, gpu, sources, card) if hours else None


def _request(command: Sequence[str]) -> Request:
    """The request of a command that claim_commands has made: `python -m repro run --method aps --track cifar ...`."""
    said: dict[str, list[str]] = defaultdict(list)
    option = ""
    for word in command[4:]:
        if word.startswith("--"):
            option = word
        else:
            said[option].append(word)
    assert said.keys() <= _OPTIONS, f"{said.keys() - _OPTIONS} would not be priced"
    return Request(
        methods=tuple(said["--method"]),
        track=said["--track"][0],
        evaluations=tuple(said["--eval"]),
        data=said["--data"][0] if said["--data"] else None,
        overrides=tuple(said["--set"]),
        protocols=tuple(said["--protocol"]),
    )
