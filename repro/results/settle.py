"""`repro settle`: run the pairs that decide claims, look after each of them, and stop where the budget ends.

The next pair is that of the claim with the most expected decisions an hour: the chance that what is left of the budget
decides it (leaderboards/prospects.py), over the hours that this takes by the plan's prices. A claim is dropped where it
is decided, where no further seed would help, or where that chance is below 5 %. Looking after every pair does no harm:
see leaderboards/evalues.py. What is done is cached, so a run that was interrupted goes on, and one that is given again
begins with what is there.
"""

from __future__ import annotations

import math
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from leaderboards import claims, evalues
from leaderboards.arms import Arms
from leaderboards.assessments import assess
from leaderboards.claim_arms import COMPUTE
from leaderboards.claims import Claim
from leaderboards.missing_runs import in_vain
from leaderboards.prospects import NOTHING, Prospect, prospect
from leaderboards.testable import hindrance, members, tracks_of_form
from leaderboards.verdicts import UNDECIDED, Verdict
from leaderboards.wording import outcome, reason
from repro.errors import UserError, unknown
from repro.plan import builder
from repro.plan.budget import Budget
from repro.plan.request import Request
from repro.plan.tracks import tracks
from repro.results import equal_tuning, find_records
from repro.results.claim_commands import next_runs
from repro.results.suite import suite
from repro.run import execute, submit
from repro.run.live_boards import Views
from repro.settings import Settings
from repro.store import records
from repro.store.workspace import Workspace
from repro.terminal import text

FUTILE = 0.05
_BAR = 20  # characters
Parse = Callable[[Sequence[str]], Request]


@dataclass(frozen=True)
class Step:
    """The next pair of one claim."""

    claim: Claim
    verdict: Verdict | None  # so far
    commands: tuple[tuple[str, ...], ...] = ()  # that make the pair; () where nothing more would decide the claim
    seconds: float = 0.0  # estimate of what they have to do
    pairs: int = 0  # of as many seconds that the budget has room for
    prospect: Prospect = NOTHING
    why: str = ""  # it is left alone

    @property
    def worth(self) -> float:
        """Expected decisions an hour."""
        expected = (self.prospect.pairs or self.pairs or 1) * max(self.seconds, 1.0) / 3600
        return self.prospect.chance / expected


@dataclass
class Ledger:
    """What a settlement has spent: seconds by claim, and what failed."""

    budget: Budget
    unequal: bool = False  # whether arms are paired that are not tuned alike
    spent: float = 0.0
    by_claim: dict[str, float] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    done: dict[str, tuple[tuple[str, ...], ...]] = field(default_factory=dict)  # the last commands that ended well

    @property
    def left(self) -> float:
        """Seconds."""
        return max(0.0, self.budget.seconds - self.spent)


def settle(
    wanted: Sequence[str],
    paper: str | None,
    track: str,
    budget: str,
    settings: Settings,
    parse: Parse,
    *,
    dry: bool = False,
    unequal: bool = False,
) -> int:
    """Decide claims at a track within a budget; returns the exit status.

    wanted: ids of claims.  paper: all of this paper, or "all".  parse: the words of a command `run` as a request.
    dry: print the order, the hours and the chances, and run nothing.  unequal: also pair arms that are not tuned alike;
    their verdicts say so.

    Raises:
        UserError: no such claim, a budget that is none, a claim that the track cannot test or whose arms are not tuned
            alike, or runs that would go to
            SLURM, where nothing waits for their end.
    """
    chosen = _chosen(wanted, paper, track)
    for claim in chosen if wanted and not unequal else ():
        if why := equal_tuning.hindrance(claim, track):
            raise UserError(f"{claim.id}: {why}", "or pair the arms as they are: --allow-unequal-tuning")
    ledger = Ledger(Budget.parse(budget), unequal)
    if ledger.budget.gpu:
        raise UserError(f"--budget {budget}: settle uses wall-clock time; give hours, for example --budget 3h")
    if dry:
        print(_table(_look(chosen, track, settings, parse, ledger), ledger))
        return 0
    if submit.why_local(settings) is None:
        raise UserError("settle waits for every pair, so it runs on this machine, not on SLURM; give --executor local")
    try:
        while True:
            steps = _look(chosen, track, settings, parse, ledger)
            ready = [step for step in steps if step.commands]
            if not ready:
                break
            best = max(ready, key=lambda step: step.worth)
            print(_line(best), flush=True)
            _carry_out(best, settings, parse, ledger)
    except KeyboardInterrupt:
        print("\ninterrupted: what is finished is kept; run the same command again to continue")
        return 130
    print(_table(steps, ledger))
    return 1 if ledger.failed else 0


def _chosen(wanted: Sequence[str], paper: str | None, track: str) -> list[Claim]:
    """The claims asked for, all of which the track can test by pairs or runs.

    Of a paper these are its own claims and ours on why (kind "mechanism"), in one order: what decides most an hour.
    """
    if track not in tracks():
        raise unknown("track", track, tracks())
    found = find_records.claims_of(wanted, paper)
    if wanted:
        for claim in found:
            if why := hindrance(claim, suite(), track):
                raise UserError(f"{claim.id} cannot be tested at {track}: {reason(why)}")
        return _beside(found, track)
    found = [claim for claim in found if hindrance(claim, suite(), track) is None]
    if not found:
        raise UserError(f"no claim of {paper} can be tested at {track}; python -m repro claims says where they can")
    return _beside(found, track)


def _beside(found: Sequence[Claim], track: str) -> list[Claim]:
    """These claims, and those of the paper's own form that are tested beside them at a smaller track."""
    return [*found, *(claim.as_published for claim in found if track in tracks_of_form(claim, suite()))]


def _look(chosen: Sequence[Claim], track: str, settings: Settings, parse: Parse, ledger: Ledger) -> list[Step]:
    """Every claim with its next pair, or why it has none. Only the workspace's records count: they are of one code."""
    found, faults = records.read_all(Workspace(settings.workspace).records)
    for fault in faults:
        print(f"skipped: {fault}", file=sys.stderr)
    known = Arms(equal_tuning.of_these_recipes(found, track), suite())
    found_by_claim: dict[str, list[Verdict]] = {}
    for verdict in (verdict for item in assess(find_records.every_claim(), known) for verdict in item.verdicts):
        found_by_claim.setdefault(verdict.claim.id, []).append(verdict)
    return [_step(claim, found_by_claim.get(claim.id, ()), known, track, settings, parse, ledger) for claim in chosen]


def _step(
    claim: Claim,
    verdicts: Sequence[Verdict],
    known: Arms,
    track: str,
    settings: Settings,
    parse: Parse,
    ledger: Ledger,
) -> Step:
    here = [verdict for verdict in verdicts if verdict.track == track and not verdict.superseded]
    first = next((verdict for verdict in here if verdict.basis != COMPUTE), None)
    compute = next((verdict for verdict in here if verdict.basis == COMPUTE and verdict.arms), None)
    open_ = first if first is None or not _decided(first) else compute if compute and not _decided(compute) else None
    if first is not None and open_ is None:
        return Step(claim, first, why="decided")
    if claim.id in ledger.failed:
        return Step(claim, open_, why=ledger.failed[claim.id])
    if open_ and (vain := in_vain(open_)):
        return Step(claim, open_, why=f"no further seed helps: {reason(vain)}")
    if not ledger.unequal and (why := equal_tuning.hindrance(claim, track)):
        return Step(claim, open_, why=why)
    own = track == claim.track and track not in claim.proxies
    commands = next_runs(claim, known, track, own, open_)
    if not commands:
        return Step(claim, open_, why="no command can make the missing run")
    seconds = sum(builder.make(parse(words[3:]), settings, build=False).seconds for words in commands)
    if seconds > ledger.left:
        why = f"the next pair takes {text.duration(seconds)}, more than the budget has left"
        return Step(claim, open_, seconds=seconds, why=why)
    if claims.counted(claim):
        return Step(claim, open_, commands, seconds, 1, Prospect(1.0, 1))
    pairs = min(30, int(ledger.left / max(seconds, 1.0)))
    evidence = open_.evidence if open_ else None
    takes = min(evidence.takes.values()) if evidence else first_takes(claim, find_records.every_claim(), track)
    ahead = prospect(evidence.values if evidence else (), takes, pairs)
    if ahead.chance < FUTILE:
        said = f"{_more(pairs)} would decide it with a probability of {ahead.chance:.0%}"
        return Step(claim, open_, seconds=seconds, pairs=pairs, prospect=ahead, why=f"futile: {said}")
    return Step(claim, open_, commands, seconds, pairs, ahead)


def _decided(verdict: Verdict) -> bool:
    """Whether its question is answered. That two arms are the same does not end the question which is better."""
    return bool(verdict.evidence and verdict.evidence.shown) or (
        claims.counted(verdict.claim) and verdict.outcome != UNDECIDED and bool(verdict.arms)
    )


def first_takes(claim: Claim, every: Sequence[Claim], track: str) -> float:
    """The evidence that the first claim of a family takes, before any of them has a pair."""
    family = members(claims.with_forms(every), suite(), track).get(claim.family, ())
    return 2 * max(1, len(family)) / evalues.ALPHA


def _carry_out(step: Step, settings: Settings, parse: Parse, ledger: Ledger) -> None:
    """Run a pair. A pair that fails, or leaves nothing, is not tried again: the claim is left with the reason."""
    if ledger.done.get(step.claim.id) == step.commands:
        ledger.failed[step.claim.id] = (
            f"its last run left no record that counts: {shlex.join(step.commands[0])};"
            f" see python -m repro claims {step.claim.id}"
        )
        return
    began = time.monotonic()
    for words in step.commands:
        request = parse(words[3:])
        status = execute.run(request, settings, list(words[3:]), Views.none())
        if status == 130:
            raise KeyboardInterrupt
        if status:
            ledger.failed[step.claim.id] = f"a run failed: {shlex.join(words)}"
            break
    else:
        ledger.done[step.claim.id] = step.commands
    took = time.monotonic() - began
    ledger.spent += took
    ledger.by_claim[step.claim.id] = ledger.by_claim.get(step.claim.id, 0.0) + took


# --------------------------------------------------------------------------------------------------------------- words


def bar(found: float, takes: float) -> str:
    """Evidence as a bar, on a logarithmic scale: empty at 1, full at what it takes."""
    share = math.log(max(found, 1.0)) / math.log(takes)
    full = round(_BAR * min(1.0, share))
    return "[" + "#" * full + "." * (_BAR - full) + "]"


def _more(pairs: int) -> str:
    return f"{pairs} more pair{'' if pairs == 1 else 's'}"


def _line(step: Step) -> str:
    """`glnet-imagenet-gain  [######..............] 7.3 of 40, 4 pairs; next pair about 12 min, probability 61 %`."""
    said = f"{step.claim.id}  {_evidence(step.verdict)}"
    ahead = f"probability of a decision within the budget {step.prospect.chance:.0%}"
    return f"{said}; next pair about {text.duration(step.seconds)}, {ahead}"


def _evidence(verdict: Verdict | None) -> str:
    evidence = verdict.evidence if verdict else None
    if verdict is None or evidence is None:
        return f"{bar(1.0, 40.0)} no pair yet"
    near = evidence.nearest
    found, takes = evidence.by_test[near], evidence.takes[near]
    return f"{bar(found, takes)} {found:.1f} of {takes:g}, {verdict.n} pair{'' if verdict.n == 1 else 's'}"


def _table(steps: Sequence[Step], ledger: Ledger) -> str:
    """Claim, verdict, n, hours, and what it would take to decide the rest."""
    rows = []
    for step in sorted(steps, key=lambda step: -step.worth):
        ahead = step.prospect
        pairs = _more(ahead.pairs or 0)
        rest = step.why or f"{pairs} (median) of {text.duration(step.seconds)} each; probability {ahead.chance:.0%}"
        said = outcome(step.verdict) if step.verdict else "no pair yet"
        hours = ledger.by_claim.get(step.claim.id, 0.0)
        n = str(step.verdict.n) if step.verdict else "0"
        rows.append([step.claim.id, said, n, text.duration(hours) if hours else "-", rest])
    shown = text.table(rows, ["claim", "verdict", "n", "time spent", "to decide the claim"])
    return f"{shown}\n\n{text.duration(ledger.spent)} of {ledger.budget.text} spent"
