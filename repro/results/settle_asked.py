"""What is to be settled, and the next step of each claim."""

from __future__ import annotations

from dataclasses import dataclass

from leaderboards.claims import Claim
from leaderboards.prospects import NOTHING, Prospect
from leaderboards.verdicts import Verdict
from repro.plan import builder
from repro.plan.budget import Budget
from repro.plan.planned import Plan
from repro.results.agreement import Parse
from repro.results.settle_ledger import Commands, Ledger, name_of
from repro.settings import Settings
from repro.store.records import Record
from repro.store.workspace import Workspace


@dataclass(frozen=True)
class Asked:
    """What is to be settled, and where."""

    claims: tuple[Claim, ...]
    others: tuple[Claim, ...]  # that share an error rate with these, and these themselves
    track: str
    settings: Settings
    parse: Parse
    published: tuple[Record, ...] = ()  # records that count beside those of the workspace
    unequal: bool = False  # whether arms are paired that are not tuned alike; their verdicts say so

    def plans(self, commands: Commands) -> tuple[Plan, ...]:
        """What these commands have to do, as things stand."""
        return tuple(builder.make(self.parse(words[3:]), self.settings, build=False) for words in commands)

    def ledger(self, budget: Budget, on_slurm: bool) -> Ledger:
        """That of this settlement, as it was left."""
        name = name_of(self.track, [claim.id for claim in self.claims], budget, on_slurm)
        return Ledger.open(Workspace(self.settings.workspace), name, budget, on_slurm)


@dataclass(frozen=True)
class Step:
    """The next pair of one claim; on SLURM all that the next look needs."""

    claim: Claim
    verdict: Verdict | None  # so far: at equal compute, where `epochs` is there
    commands: Commands = ()  # that make it; () where nothing more would decide the claim
    seconds: float = 0.0  # estimate of what one pair has to do, in the unit of the budget
    pairs: int = 0  # of as many seconds that the budget has room for
    prospect: Prospect = NOTHING
    why: str = ""  # it is left alone
    plans: tuple[Plan, ...] = ()  # of the commands
    price: float = 0.0  # estimate of them
    decided: bool = False  # nothing of it is open, or what is open no run can decide
    epochs: Verdict | None = None  # at equal epochs, which is decided; None where it is `verdict`

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """At equal epochs, then at equal compute, as far as they are there."""
        return tuple(verdict for verdict in (self.epochs, self.verdict) if verdict)

    @property
    def pictures(self) -> frozenset[str]:
        """Names of the data sets that its runs read."""
        jobs = (job for plan in self.plans for job in plan.jobs)
        return frozenset(job.spec["data"]["name"] for job in jobs if "data" in job.spec)

    @property
    def order(self) -> tuple[bool, float]:
        """To sort by: what was asked, before what is tested beside it; then the most decisions an hour."""
        return self.claim.in_published_form, -self.worth

    @property
    def worth(self) -> float:
        """Expected decisions an hour."""
        expected = (self.prospect.pairs or self.pairs or 1) * max(self.seconds, 1.0) / 3600
        return self.prospect.chance / expected
