"""`repro settle`: run the pairs that decide claims, look after every round of them, and stop where the budget ends.

The next pair is that of the claim with the most expected decisions an hour: the chance that what is left of the budget
decides it (leaderboards/prospects.py), over the hours that this takes by the plan's prices. Pairs of other claims run
beside it where the machine has room (`settle_round.py`). A claim is dropped where it is decided, where no further seed
would help, or where that chance is below 5 %. Equal compute comes after equal epochs: the baseline then trains for as
many operations as the method. Looking after every pair does no harm: see leaderboards/evalues.py. It
starts from the workspace's records and from those published ones that a run here would make again (`agreement.py`).
What is done is cached, and a journal (`settle_ledger.py`) says what was spent, so a run that was interrupted goes on.
On SLURM, `settle_cluster.py` does the same by jobs.
"""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from leaderboards import claims, testable
from leaderboards.arms import Arms
from leaderboards.assessments import assess
from leaderboards.claim_arms import COMPUTE
from leaderboards.claims import Claim
from leaderboards.missing_runs import Missing, at_equal_compute, in_vain, missing
from leaderboards.prospects import Prospect, prospect
from leaderboards.reason_words import reason
from leaderboards.reasons import OlderSetup, OperationsApart
from leaderboards.record_fields import lab_of
from leaderboards.testable import hindrance, tracks_of_form
from leaderboards.verdicts import DOWN, NOT_RUN, NULL, SAME, UP, Evidence, Verdict
from leaderboards.wording import outcome, sources
from repro.errors import UserError, unknown
from repro.plan.budget import Budget
from repro.plan.tracks import tracks
from repro.results import equal_tuning, find_records, needed
from repro.results.agreement import Parse, reproducible
from repro.results.claim_commands import runs_of
from repro.results.settle_asked import Asked, Step
from repro.results.settle_ledger import Ledger
from repro.results.settle_round import at_once, carry_out, next_round, trainings
from repro.results.suite import suite
from repro.settings import Settings
from repro.store import records
from repro.store.workspace import Workspace
from repro.terminal import text

FUTILE = 0.05
_DECIDED = "decided"
_NO_COMPUTE = "decided at equal epochs; no number of epochs gives the baseline as many operations"
_BAR = 20  # characters
_SIMULATED = (
    "Probability: that the claim is decided within the budget. The number of pairs is the median of the simulations"
    " that end\nin a decision. The true difference is taken to be as in the pairs so far, within its uncertainty; with"
    " fewer than\n2 pairs it is unknown."
)


def ask(
    wanted: Sequence[str],
    paper: str | None,
    track: str,
    settings: Settings,
    parse: Parse,
    own: Sequence[Claim] = (),
    unequal: bool = False,
) -> Asked:
    """What is to be settled.

    wanted: ids of claims.  paper: all of this paper, or "all".  parse: the words of a command `run` as a request.  own:
    claims of the user's, in place of these.  unequal: also pair arms that are not tuned alike; their verdicts say so.

    Raises:
        UserError: no such claim, or one that the track cannot test.
    """
    chosen = tuple(own or _chosen(wanted, paper, track))
    every = [*find_records.every_claim(), *own]
    families = {claim.family for claim in chosen}
    kin = [claim for claim in every if claim.family in families]
    arms = {name for claim in claims.with_forms(kin) for name in (claim.arm, claim.baseline_arm) if name}
    there = [
        record
        for record in find_records.published_records()[0]
        if record["track"] == track and records.arm_of(record) in arms
    ]
    same = reproducible(there, settings, parse)
    counted = tuple(record for record in there if record["fingerprint"] in same)
    return Asked(chosen, tuple(kin), track, settings, parse, counted, unequal)


def require_tuned_alike(asked: Asked, named: Collection[str]) -> None:
    """UserError where the arms of one of these claims (ids) are not tuned alike, and may not be paired as they are."""
    for claim in (claim for claim in asked.claims if claim.id in named and not asked.unequal):
        if why := equal_tuning.hindrance(claim, asked.track):
            raise UserError(f"{claim.id}: {why}", "or compare the methods as they are: --allow-unequal-tuning")


def preview(asked: Asked, budget: Budget, on_slurm: bool) -> str:
    """The order, the hours and the chances, as they are before anything runs."""
    ledger = Ledger(budget, on_slurm)
    return table(look(asked, ledger), ledger, asked)


def settle(asked: Asked, budget: Budget, spent: float = 0.0) -> int:
    """Decide claims within a budget, on this machine; returns the exit status.

    spent: seconds that tuning took.
    """
    ledger, shown = asked.ledger(budget, on_slurm=False), dict[str, str]()
    with ledger.held():
        ledger.ask()
        if spent:
            ledger.begin("tuning", (), ())
            ledger.end("tuning", spent)
        try:
            while True:
                steps = look(asked, ledger)
                _show(steps, shown)
                ready = [step for step in steps if step.commands]
                if not ready:
                    break
                chosen = next_round(ready, ledger.left, asked.settings)
                print(f"next: {', '.join(step.claim.id for step in chosen)}", flush=True)
                carry_out(chosen, asked, ledger)
        except KeyboardInterrupt:
            print("run the same command again to continue")
            return 130
        print(ending(steps, ledger, asked))
        ledger.close()
    return 1 if ledger.failed else 0


def _chosen(wanted: Sequence[str], paper: str | None, track: str) -> list[Claim]:
    """The claims asked for, all of which the track can test by pairs or runs.

    Of a paper these are its own claims and ours on why (kind "mechanism"), in one order: what decides most an hour.
    """
    if track not in tracks():
        raise unknown("track", track, tracks())
    found = find_records.claims_of(wanted, paper)
    needed.require_testable(found, track, each=bool(wanted))
    return _beside([claim for claim in found if hindrance(claim, suite(), track) is None], track)


def _beside(found: Sequence[Claim], track: str) -> list[Claim]:
    """These claims, and those of the paper's own form that are tested beside them at a smaller track."""
    return [*found, *(claim.as_published for claim in found if track in tracks_of_form(claim, suite()))]


def look(asked: Asked, ledger: Ledger, live: Collection[str] = ()) -> list[Step]:
    """Every claim with its next pair, or why it has none.

    live: fingerprints of jobs that are queued or running.
    """
    found, faults = records.read_all(Workspace(asked.settings.workspace).records)
    for fault in faults:
        print(f"skipped: {fault}", file=sys.stderr)
    here = records.by_fingerprint(found)
    ledger.reckon(here, live)
    found += [record for record in asked.published if record["fingerprint"] not in here]
    known = Arms(equal_tuning.of_these_recipes(found, asked.track), suite())
    found_by_claim: dict[str, list[Verdict]] = {}
    for verdict in (verdict for item in assess(asked.others, known) for verdict in item.verdicts):
        found_by_claim.setdefault(verdict.claim.id, []).append(verdict)
    return [_step(claim, found_by_claim.get(claim.id, ()), known, asked, ledger) for claim in asked.claims]


def _step(claim: Claim, verdicts: Sequence[Verdict], known: Arms, asked: Asked, ledger: Ledger) -> Step:
    step = _question(claim, [verdict for verdict in verdicts if verdict.track == asked.track])
    if step.decided:
        return step
    if claim.id in ledger.failed:
        return replace(step, why=ledger.failed[claim.id])
    if step.verdict and (vain := in_vain(step.verdict)):
        return replace(step, why=f"no further seed helps: {reason(vain)}")
    if not asked.unequal and (why := equal_tuning.hindrance(claim, asked.track)):
        return replace(step, why=why)
    own = asked.track == claim.track and asked.track not in claim.proxies
    anew = own and step.epochs is None  # at equal compute the arms of equal epochs go on
    evidence = step.verdict.evidence if step.verdict else None
    takes = (
        min(evidence.takes.values()) if evidence else testable.first_takes(claim, asked.others, suite(), asked.track)
    )
    lacking = _lacking(step, known, asked, own, takes)
    commands = runs_of(lacking, asked.track, anew)
    if not commands:
        return replace(step, why="no command can make the missing run")
    plans = asked.plans(commands)
    side_by_side = 1 if ledger.on_slurm else at_once(plans[0], asked.settings)
    if len(asked.claims) == 1:  # nothing else fills the machine
        side_by_side = min(side_by_side, max(1, len(trainings(plans))))
    price = seconds = sum(map(ledger.price, plans)) / side_by_side
    if seconds > ledger.left:
        why = f"the next pair takes {text.duration(seconds)}, more than the budget has left"
        return replace(step, seconds=seconds, why=why, plans=plans)
    if ledger.on_slurm:  # no look before the last of these can decide anything
        whole = runs_of(lacking, asked.track, anew, all_seeds=True)
        together = asked.plans(whole)
        if sum(map(ledger.price, together)) <= ledger.left:
            commands, plans, price = whole, together, sum(map(ledger.price, together))
    if ledger.done(claim.id, commands):
        why = (
            f"its last run left no record that counts: {shlex.join(commands[0])}; see python -m repro claims {claim.id}"
        )
        ledger.failed[claim.id] = why
        return replace(step, why=why)
    ready = replace(step, commands=commands, seconds=seconds, plans=plans, price=price)
    if claims.counted(claim):
        return replace(ready, pairs=1, prospect=Prospect(1.0, 1))
    pairs = min(30, int(ledger.left / max(seconds, 1.0)))
    ahead = _ahead(evidence, pairs) if evidence else prospect((), takes, pairs)
    if ahead.chance < FUTILE:
        said = f"{_more(pairs)} would decide it with a probability of {100 * ahead.chance:.0f} %"
        return replace(step, seconds=seconds, pairs=pairs, prospect=ahead, why=f"futile: {said}", plans=plans)
    return replace(ready, pairs=pairs, prospect=ahead)


def _question(claim: Claim, verdicts: Sequence[Verdict]) -> Step:
    """What is open of a claim: first equal epochs, then equal compute, where its pairs are there or can be made."""
    here = [verdict for verdict in verdicts if not verdict.open_again]
    first = next((verdict for verdict in here if verdict.basis != COMPUTE), None)
    compute = next((verdict for verdict in here if verdict.basis == COMPUTE), None)
    if first is None or not first.decided:
        return Step(claim, first)
    if compute and compute.arms:
        over = compute.decided
        return Step(claim, compute, epochs=first, why=_DECIDED if over else "", decided=over)
    if at_equal_compute(first, compute):
        return Step(claim, compute, epochs=first)
    apart = compute and any(isinstance(why, OperationsApart) for why in compute.reasons)
    return Step(claim, first, why=_NO_COMPUTE if apart else _DECIDED, decided=True)


def _lacking(step: Step, known: Arms, asked: Asked, own: bool, takes: float) -> list[Missing]:
    lengthened = at_equal_compute(step.epochs, step.verdict, takes) if step.epochs else []
    return lengthened or missing(step.claim, known, asked.track, own, step.verdict, takes)


def _ahead(evidence: Evidence, pairs: int) -> Prospect:
    """What further pairs may bring by the tests that the claim asks: against 0, or against a stated value alone."""
    margin = evidence.margin
    takes = min(needed for test, needed in evidence.takes.items() if test not in (NULL, SAME))
    if UP in evidence.by_test or DOWN in evidence.by_test:
        same = evidence.takes.get(NULL)
        return prospect(evidence.values, takes, pairs, margin=margin if same else None, same=same)
    apart = [value - evidence.target for value in evidence.values]
    return prospect(apart, takes, pairs, margin=margin, beyond=margin, same=evidence.takes.get(SAME))


def ending(steps: Sequence[Step], ledger: Ledger, asked: Asked) -> str:
    """How it ended, and what it would take to decide the rest."""
    papers = {claim.id for claim in find_records.every_claim()}
    left = [step.claim for step in steps if not step.decided and not step.epochs and step.claim.id in papers]
    more = needed.told(left, asked.track, asked.settings, asked.published, below=True) if left else ""
    spent = f"{text.duration(ledger.spent)} of {ledger.budget.text} spent"
    return "\n\n".join(filter(None, (table(steps, ledger, asked), spent, more)))


# --------------------------------------------------------------------------------------------------------------- words


def bar(found: float, takes: float) -> str:
    """Evidence as a bar, on a logarithmic scale: empty at 1, full at what it takes."""
    share = math.log(max(found, 1.0)) / math.log(takes)
    full = round(_BAR * min(1.0, share))
    return "[" + "#" * full + "." * (_BAR - full) + "]"


def _more(pairs: int) -> str:
    return f"{pairs} more pair{'' if pairs == 1 else 's'}"


def _show(steps: Sequence[Step], shown: dict[str, str]) -> None:
    """A line a claim: on a terminal all of them, elsewhere those that say something new."""
    now = {step.claim.id: line(step) for step in steps}
    fresh = [said for name, said in now.items() if sys.stdout.isatty() or shown.get(name) != said]
    print(*fresh, sep="\n", flush=True)
    shown.update(now)


def line(step: Step) -> str:
    """`glnet-imagenet-gain  [######..............] 7.3 of 40, 4 pairs; next pair about 12 min, ...`."""
    said = f"{step.claim.id}{f' ({COMPUTE})' if step.epochs else ''}  {_evidence(step.verdict)}"
    if not step.commands:
        if step.decided and step.verdict:
            return said if step.verdict.evidence is None else f"{said}; {_outcomes(step)}"
        return f"{said}; {step.why}"
    took = text.duration(step.seconds)
    if claims.counted(step.claim):
        return f"{said}; one run decides it, about {took}"
    chance = f"{100 * step.prospect.chance:.0f} %"
    return f"{said}; next pair about {took}; decided within the budget with a probability of {chance}"


def _outcomes(step: Step, between: str = "; ") -> str:
    """`holds on mini (n = 8); not run on mini, equal compute`."""
    if step.epochs is None and (step.verdict is None or step.verdict.outcome == NOT_RUN):
        return NOT_RUN
    return between.join(map(outcome, step.verdicts))


def _ahead_words(step: Step) -> str:
    """`about 5 more pairs, 18 min (probability 65 %)`."""
    if claims.counted(step.claim):
        return f"one run of each method, {text.duration(step.seconds)}"
    pairs = step.prospect.pairs or 0
    chance = f"{100 * step.prospect.chance:.0f} %"
    took = text.duration(pairs * step.seconds)
    more = _more(pairs) if step.verdict and step.verdict.n else f"{pairs} pairs"  # the first pair decides nothing
    return f"about {more}, {took} (probability {chance})"


def _evidence(verdict: Verdict | None) -> str:
    evidence = verdict.evidence if verdict else None
    if verdict is None or evidence is None:
        decided = verdict is not None and verdict.decided
        return f"{bar(40.0 if decided else 1.0, 40.0)} {outcome(verdict) if verdict else NOT_RUN}"
    near = evidence.nearest
    found, takes = evidence.by_test[near], evidence.takes[near]
    return f"{bar(found, takes)} {found:.1f} of {takes:g}, {verdict.n} pair{'' if verdict.n == 1 else 's'}"


def table(steps: Sequence[Step], ledger: Ledger, asked: Asked) -> str:
    """Claim, verdict, n, hours, and what it would take to decide the rest; then whose records were counted."""
    rows, whose = [], dict[str, list[str]]()
    waiting = [step for step in steps if _outcomes(step) == NOT_RUN]
    shelved = _not_counted(waiting, asked) if waiting else {}
    published = {record["fingerprint"] for record in asked.published}

    def source(record: Mapping[str, Any]) -> str:
        return lab_of(record) or ("the published boards" if record["fingerprint"] in published else "")

    for step in sorted(steps, key=lambda step: step.order):
        rest = step.why or _ahead_words(step)
        rest = f"{COMPUTE}: {rest}" if step.epochs and not step.decided else rest
        said = _outcomes(step, ";\n") + (shelved.get(step.claim.id, "") if step in waiting else "")
        hours = ledger.by_claim.get(step.claim.id, 0.0)
        n = "-" if claims.counted(step.claim) else str(step.verdicts[0].n) if step.verdicts else "0"
        rows.append([step.claim.id, said, n, text.duration(hours) if hours else "-", rest])
        told = [words for verdict in step.verdicts for words in sources(verdict, source)]
        for words in dict.fromkeys(told):
            whose.setdefault(words, []).append(step.claim.id)
    head = "GPU time spent" if ledger.on_slurm else "time spent"
    shown = text.table(
        rows, ["claim", "verdict", "n", head, "to decide the claim"], widths=[None, 50, None, None, None]
    )
    simulated = any(step.why.startswith("futile") or not (step.why or claims.counted(step.claim)) for step in steps)
    notes = [_SIMULATED] if simulated else []
    lines = [
        line
        for words, named in whose.items()
        for line in text.wrapped(f"{words}: {', '.join(dict.fromkeys(named))}", others="  ")
    ]
    return "\n\n".join([shown, *notes, *(["\n".join(lines)] if lines else [])])


def _not_counted(steps: Sequence[Step], asked: Asked) -> dict[str, str]:
    """By claim: ` (3 older pairs do not count)`, of published pairs that new ones cannot join."""
    here = records.read_all(Workspace(asked.settings.workspace).records)[0]
    every = records.by_fingerprint([*find_records.published_records()[0], *here]).values()
    known = Arms([record for record in every if record["track"] == asked.track], suite())
    read = {step.claim.id: step.pictures for step in steps}
    return {
        verdict.claim.id: f" ({words} not count)"
        for item in assess(asked.others, known)
        for verdict in item.verdicts
        if verdict.track == asked.track and verdict.basis != COMPUTE
        if (words := _gone(verdict, read.get(verdict.claim.id, frozenset())))
    }


def _gone(verdict: Verdict, pictures: Collection[str]) -> str:
    """`3 older pairs do`, `7 pairs on CIFAR-10 (JPEG copy) do`.  pictures: names of what runs here would read."""
    setting = verdict.setting
    apart = setting is not None and bool(pictures) and setting.data not in pictures
    of = f" on {setting.source}" if setting and apart else " of an older recipe or code"
    older = next((why.pairs for why in verdict.reasons if isinstance(why, OlderSetup)), 0)
    if claims.counted(verdict.claim):
        return f"runs{of} do" if verdict.rests_on else ""
    n, what = (older, "older pair") if older else (verdict.n if verdict.rests_on else 0, "pair")
    return f"{n} {what}{'' if n == 1 else 's'}{'' if older else of} {'does' if n == 1 else 'do'}" if n else ""
