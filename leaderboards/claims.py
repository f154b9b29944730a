"""Claims: what the papers assert, as data, and how they are chosen. `claim_files` reads them."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from msgspec import Meta

from leaderboards.suite import Suite
from leaderboards.unknown_names import UnknownName

MECHANISM, INTERACTION = "mechanism", "interaction"
KINDS = ("number", "gain", "direction", "cost_ratio", INTERACTION, MECHANISM)
SETTING = ("protocol", "backbone", "epochs", "batch")
"""What a claim says of its setting, or says that no source tells; a cost has no protocol."""
COST, TRAINING = "cost", "pretrain"
"""What a claim names in place of an evaluation when it is of the pre-training's cost, or of a metric of its record."""
TRACKS = ("embedded", "mini", "cifar", "imagenet100", "imagenet")
NO_TRACK = "none"  # a data set that none of the tracks runs
VERIFIED = {
    "read": "read in the named source",
    "abstract": "the abstract was read, not the paper",
    "recalled": "recalled, unverified",
    "ours": "our own claim, from no source",
}

_FORM = ", the paper's form"  # what the families of such claims end with
_DATA = {
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "coco2017": "COCO",
    "imagenet": "ImageNet",
    "imagenet100": "ImageNet-100",
    "sysu30k": "SYSU-30k",
    "tiny_imagenet": "Tiny-ImageNet",
    "voc0712": "PASCAL VOC",
}
"""Data set of a claim -> what papers call it."""

# What the fields of a claim may hold; the description says it in words.
Text = Annotated[str, Meta(description="a text")]
_ENDLESS = sys.float_info.max
Name = Annotated[str, Meta(pattern=r"^([A-Za-z0-9][A-Za-z0-9_.-]*)?\Z", description="of letters, digits, _, . and -")]
Count = Annotated[Annotated[int, Meta(ge=1)] | None, Meta(description="a whole number from 1")]
Number = Annotated[Annotated[float, Meta(gt=-_ENDLESS, lt=_ENDLESS)] | None, Meta(description="a finite number")]
Margin = Annotated[float, Meta(gt=0, lt=_ENDLESS, description="a finite number above 0")]
Epochs = Annotated[int, Meta(ge=1, description="a whole number from 1")]
Lengths = Annotated[tuple[int, ...], Meta(description="a list of whole numbers, each one once")]
Span = Annotated[tuple[int, int] | None, Meta(description="a whole number or [first, last]")]
Names = Annotated[tuple[str, ...], Meta(description="a list of names")]
Values = Annotated[Mapping[str, Any], Meta(description="a table: { key = value }")]


@dataclass(frozen=True)
class Claim:
    """One assertion of a paper, and how we mean to test it.

    A claim has one setting of its own: `track`, `data`, `backbone`, `epochs`, `batch`, `protocol`, `changes`; only
    there can its number be reproduced. Its direction may also be put to the test elsewhere: at the tracks named in
    `proxies`.
    """

    id: Name
    paper: Name  # short: the name of its file
    citation: Text
    statement: Text  # in our own words
    # number | gain (over the baseline) | direction (better than the baseline) | cost_ratio (to the baseline)
    # interaction (better by more after the first of `lengths` than after the second)
    # mechanism (a direction: one reason why the claim `parent` holds or not, an assertion of our own)
    kind: Text
    method: Name  # registry names
    evaluation: Text
    metric: Text  # as records name it; for evaluation "cost" a key of a record's cost
    data: Text  # the data set that is evaluated on (for "cost": trained on), as `repro data` names it
    source: Text
    verified: Text  # read | abstract | recalled
    track: Text  # where the claim's own setting can be run, or "none"
    margin: Margin  # what counts as no difference: points, or a fraction for cost ratios
    family: Text  # claims that share one error rate; with the margins frozen before the runs
    variant: Name = ""
    baseline: Name = ""
    baseline_variant: Name = ""
    better: Text = "higher"  # higher | lower values of the metric are better
    protocol: Text = ""  # name of the paper's own evaluation protocol
    backbone: Text = ""
    epochs: Span = None  # of pre-training, first and last that the claim covers; in a file also one int
    batch: Count = None
    pretrain_data: Text = ""  # where it is another than the track trains on
    # table -> key -> value: what else the paper's setting has otherwise than recipe and protocol of that name
    changes: Mapping[str, Values] = field(default_factory=dict)
    unknown: Names = ()  # of SETTING: what no source tells
    value: Number = None
    unit: Text = ""
    spread: Number = None  # stated standard deviation, and of how many runs
    spread_n: Count = None
    proxies: Mapping[str, Margin] = field(default_factory=dict)  # smaller track -> its margin
    # smaller track -> the most epochs with which its direction is tested there: of a claim on short trainings
    proxy_epochs: Mapping[str, Epochs] = field(default_factory=dict)
    # smaller track -> the epochs that both arms train there: of an interaction two, else one
    lengths: Mapping[str, Lengths] = field(default_factory=dict)
    recipe_track: Text = ""  # whose recipes follow the paper, of a claim without a track of its own; "" for `track`
    parent: Text = ""  # id of the claim that it helps to explain
    part: Text = ""  # of the method, that it is about: "the location loss"; only with a parent
    lacks: Text = ""  # what its baseline has instead, where that is the part: of "leaving out flips" the flips
    assumption: Text = ""  # which one would make an untestable claim testable, in words
    form: Text = ""  # the variant with the paper's own form, where a proxy's recipe has another: tested beside it
    form_name: Text = "the paper's form"  # what of it is the paper's own, in words
    references: Names = ()  # rows of references.csv; of a gain the last two are its two sides
    stand_in: bool = False  # whether the paper compares with others, which are not known: the baseline is ours
    note: Text = ""
    short: Text = ""  # what is tested, in a few words for a table: "better than BYOL"; else the statement stands there

    @property
    def paper_title(self) -> str:
        """What the paper calls its method: what stands before the colon of its citation."""
        return self.citation.partition(":")[0]

    @property
    def title(self) -> str:
        """What is tested, in a few words."""
        return self.short or self.statement.rstrip(".")

    @property
    def arm(self) -> str:
        """`method` or `method:variant`."""
        return arm_name(self.method, self.variant)

    @property
    def baseline_arm(self) -> str:
        return arm_name(self.baseline, self.baseline_variant)

    @property
    def papers_track(self) -> str:
        """The track whose recipes follow the paper; "none" where no track does."""
        return self.recipe_track or self.track

    @property
    def as_published(self) -> Claim:
        """The same claim of the method in the paper's own form, in a family of such claims."""
        return replace(self, id=f"{self.id}:{self.form}", variant=self.form, form="", family=f"{self.family}{_FORM}")

    @property
    def in_published_form(self) -> bool:
        """Whether it is one of those."""
        return self.family.endswith(_FORM)

    def at_length(self, epochs: int) -> Claim:
        """One side of an interaction: better than the baseline after so many epochs."""
        return replace(self, kind="direction", lengths=dict.fromkeys(self.lengths, (epochs,)))

    @property
    def data_name(self) -> str:
        """Its data set as papers call it."""
        return _DATA.get(self.data, self.data)

    @property
    def epochs_span(self) -> str:
        """`200`, `300-400`, or "" where they are not known."""
        return "-".join(str(edge) for edge in dict.fromkeys(self.epochs or ()))

    def metric_read(self, own: bool) -> str:
        """Its metric, as it is read from records of its own setting (`own`) or of another.

        Choosing an epoch on the test set is part of some papers' own settings; it is no part of ours.
        """
        return self.metric if own else self.metric.removesuffix("_best_on_test")

    @property
    def stated(self) -> str:
        """The stated value, short: `75.9 %`, `+2.4 points over moco_v3`, `above byol`, `0.75 of moco_v3`."""
        value = "" if self.value is None else f"{self.value:g}"
        others = f"the methods compared (here {self.baseline_arm})" if self.stand_in else self.baseline_arm
        if self.kind == "number":
            return f"{value} {self.unit}".strip()
        if self.kind == "gain":
            return f"+{value} {self.unit} over {others}"
        if self.kind == "cost_ratio":
            return f"{value} of {others}"
        if self.evaluation == COST and self.better == "lower":
            cost = COSTS[TO_ACCURACY.get(self.metric, self.metric)]
            return f"{'less' if cost in _UNCOUNTABLE else 'fewer'} {cost} than {others}"
        said = f"{'above' if self.better == 'higher' else 'below'} {others}"
        return f"further {said} with fewer epochs" if self.kind == INTERACTION else said


def arm_name(method: str, variant: str) -> str:
    """`aps` or `aps:flip_aware`."""
    return f"{method}:{variant}" if variant else method


def of_training(claim: Claim) -> bool:
    """Whether a claim is of the pre-training itself: no evaluation and no protocol belong to it."""
    return claim.evaluation in (COST, TRAINING)


def tested_on(claim: Claim, suite: Suite) -> str:
    """The kind of record that tests a claim."""
    return "pretrain" if of_training(claim) else suite.kind_of(claim.evaluation)


COSTS = {
    "flops": "operations",
    "flops_per_image": "operations per image",
    "epochs": "epochs",
    "updates": "updates",
    "cpu_s": "CPU time",
    "image_passes": "image passes",
    "device_s": "training time",
    "peak_device_memory_mb": "memory",
}
"""Metric of a cost -> what it is called."""
_UNCOUNTABLE = ("training time", "memory")
TO_ACCURACY = {"epochs_to_accuracy": "epochs", "flops_to_accuracy": "flops"}
"""Costs up to an accuracy that both arms reach, and what a learning curve calls each: see `learning.py`."""


def of_learning(claim: Claim) -> bool:
    """Whether a claim is of how fast a method learns."""
    return claim.evaluation == COST and claim.metric in TO_ACCURACY


COUNTED = ("flops", "flops_per_image", "updates", "image_passes", "peak_device_memory_mb")
"""Costs that every run of an arm has alike: they are compared as they are, and one run is enough."""


def with_forms(claims: Iterable[Claim]) -> list[Claim]:
    """Claims, and after them the same of the paper's own form where a smaller track's recipe has another."""
    found = list(claims)
    return [*found, *(claim.as_published for claim in found if claim.form)]


def counted(claim: Claim) -> bool:
    """Whether a claim is of a cost without chance."""
    return claim.evaluation == COST and claim.metric in COUNTED


def select(claims: Iterable[Claim], **wanted: str) -> list[Claim]:
    """The claims that fit all of this: `select(claims, method="aps", evaluation="finetune")`.

    wanted: `paper`, `kind`, `evaluation`, `data`, `verified`: that value of the field; `method`: of the claim or its
        baseline, with its variant or without; `track`: one at which it can be put to the test; `text`: words that
        stand in its id, statement, source, note or citation.

    Raises:
        UnknownName: no such filter, or a value that no claim has.
    """
    every = list(claims)
    found = every
    for key, value in wanted.items():
        if key not in _FILTERS:
            raise UnknownName("filter of claims", key, _FILTERS)
        has = _FILTERS[key]
        if key == "text":
            found = [claim for claim in found if value.casefold() in " ".join(has(claim)).casefold()]
            continue
        valid = sorted({one for claim in every for one in has(claim) if one})
        if value not in valid:
            raise UnknownName(key, value, valid)
        found = [claim for claim in found if value in has(claim)]
    return found


def place_of(track: str) -> int:
    """To sort tracks by: real pictures first, the smallest track of them; digits, which decide nothing, last."""
    order = [*TRACKS[1:], TRACKS[0]]
    return order.index(track) if track in order else len(order)


def tracks_of(claim: Claim) -> tuple[str, ...]:
    """The tracks at which this claim can be put to the test, smallest first."""
    return tuple(track for track in TRACKS if track == claim.track or track in claim.proxies)


def with_another(claims: Iterable[Claim]) -> list[Claim]:
    """The claims of the papers that hold a method against another one, not against itself without a part."""
    return [claim for claim in claims if claim.baseline not in ("", claim.method) and claim.kind != MECHANISM]


def lasts(claim: Claim, track: str, epochs: int | None) -> bool:
    """Whether its direction may be tested on a track by trainings of so many epochs."""
    only = claim.lengths.get(track)
    return (epochs or 0) <= claim.proxy_epochs.get(track, math.inf) and (only is None or epochs in only)


def usual_length(claim: Claim, track: str, suite: Suite) -> int | None:
    """With how many epochs its direction is tested where no arm says otherwise; None without a recipe.

    The method's recipe says so, as far as the claim does not; of a cost without chance one is enough.
    """
    if counted(claim):
        return 1
    recipe = suite.recipe(claim.arm, track)
    if track in claim.lengths or not recipe:
        return claim.lengths[track][0] if track in claim.lengths else None
    epochs: int = recipe["pretrain"]["epochs"]
    return min(epochs, claim.proxy_epochs.get(track, epochs))


_LARGEST = math.log(sys.float_info.max)


def shown(claim: Claim, value: float) -> float:
    """From the scale of a test to that of the reader: a ratio of costs for their logarithm."""
    if claim.evaluation != COST:
        return value
    log = value if claim.kind == "cost_ratio" or claim.better == "higher" else -value
    return math.exp(log) if log < _LARGEST else math.inf


def tuning_matters(claim: Claim) -> bool:
    """Whether unequal tuning could explain what is found: not of costs, but for those up to an accuracy."""
    return claim.evaluation != COST or of_learning(claim)


_FILTERS: Mapping[str, Callable[[Claim], tuple[str, ...]]] = {
    "paper": lambda claim: (claim.paper,),
    "kind": lambda claim: (claim.kind,),
    "evaluation": lambda claim: (claim.evaluation,),
    "data": lambda claim: (claim.data,),
    "verified": lambda claim: (claim.verified,),
    "method": lambda claim: (claim.method, claim.arm, claim.baseline, claim.baseline_arm),
    "track": tracks_of,
    "text": lambda claim: (claim.id, claim.statement, claim.source, claim.note, claim.citation),
}
