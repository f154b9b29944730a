"""Why a claim was not put to the test, as facts; `reason_words.py` says them."""

from __future__ import annotations

from dataclasses import dataclass

from leaderboards.tuning import Tuning

CLAIMS, OWN_TRACKS = "the claim's", "its own track's"


@dataclass(frozen=True)
class Deviation:
    """One thing that an arm has otherwise than stated: than in the claim's own setting, or in a step of a gap."""

    what: str  # "epochs", or a key of a recipe or protocol: "linear.size"
    run: object  # what the arm has
    stated: object
    whose: str = CLAIMS  # who states it


@dataclass(frozen=True)
class OtherValues:
    """An arm was judged under a protocol of the stated name, but with other values than it has today."""

    protocol: str
    hash: str
    changed: str  # as a setting's


Departure = Deviation | OtherValues
"""In what an arm is not as stated."""


@dataclass(frozen=True)
class NoTrack:
    """No track runs the claim's data set."""

    data: str


@dataclass(frozen=True)
class NotKnown:
    """No source tells these parts of the claim's own setting, so that nothing counts as it."""

    keys: tuple[str, ...]
    assumption: str = ""  # with which something would


@dataclass(frozen=True)
class NotTrainedOn:
    """No track pre-trains on the claim's pictures."""

    data: str


@dataclass(frozen=True)
class NoKey:
    """The claim's own setting changes what an arm's recipe does not have."""

    arm: str  # registry name
    key: str  # "method.view_size"


@dataclass(frozen=True)
class EpochsFirst:
    """Equal compute is tested when equal epochs is decided."""


@dataclass(frozen=True)
class OtherTracks:
    """The claim can be tested at these tracks alone."""

    tracks: tuple[str, ...]


@dataclass(frozen=True)
class NoRecord:
    """Of an arm of the claim nothing is there."""

    arm: str  # registry name
    baseline: bool
    kind: str  # of record


@dataclass(frozen=True)
class NoValue:
    """The pre-trainings of an arm are there, but not what the claim is of."""

    arm: str  # registry name
    what: str  # in words


@dataclass(frozen=True)
class Flagged:
    """All records of an arm have a flag, so that they decide nothing."""

    arm: str
    flag: str


@dataclass(frozen=True)
class SettingsApart:
    """The two arms share no setting."""

    arm: str
    baseline: str
    key: str  # the first one in which they never agree; "" where they agree in each, but never in all
    ours: frozenset[object] = frozenset()
    theirs: frozenset[object] = frozenset()


@dataclass(frozen=True)
class Training:
    """How much an arm's pre-training took."""

    arm: str
    flops: float | None  # None: not recorded
    epochs: int | None


@dataclass(frozen=True)
class OperationsApart:
    """No two trainings took as many operations; these two come nearest to it."""

    nearest: tuple[Training, Training]
    tolerance: float  # a fraction


@dataclass(frozen=True)
class TuningApart:
    """The arms were not tuned alike: how each side was, empty where it is not recorded.

    An arm that had fewer trials may still be shown to be better; that it is worse, or the same, might be their doing.
    """

    ours: tuple[Tuning, ...]
    theirs: tuple[Tuning, ...]


@dataclass(frozen=True)
class MachinesApart:
    """Costs were measured on different machines."""

    machines: tuple[str, ...]


@dataclass(frozen=True)
class SmallTestSet:
    """All records of an arm are on data whose test set is too small to show anything, however many seeds."""

    arm: str  # registry name
    data: tuple[str, ...]


@dataclass(frozen=True)
class OlderSetup:
    """There are runs, but all their seeds trained on one subset of the pictures, as no run does any more."""

    pairs: int  # of which so many are pairs


@dataclass(frozen=True)
class NoVerdicts:
    """A track at which no verdict is given."""


Reason = (
    Departure
    | NoTrack
    | NotKnown
    | NotTrainedOn
    | NoKey
    | EpochsFirst
    | OtherTracks
    | NoRecord
    | NoValue
    | Flagged
    | SettingsApart
    | OperationsApart
    | TuningApart
    | MachinesApart
    | SmallTestSet
    | OlderSetup
    | NoVerdicts
)
