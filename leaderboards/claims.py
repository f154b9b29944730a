"""Claims: what the papers assert, as data (`claims/*.toml`, one file a paper), and the reported numbers behind them.

A file is named for its paper and holds `citation`, `[defaults]` (keys that its claims share) and one `[[claim]]` a
claim, whose keys are the fields of `Claim`. Anything else in a file is an error, so that a typing slip cannot silence
a claim. `protocol`, `backbone`, `epochs` and `batch` are each given or named in `unknown`: nothing is left out in
silence. A default is taken back by the key with "", [] or {}.
"""

from __future__ import annotations

import csv
import io
import tomllib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from leaderboards.names import UnknownName
from leaderboards.suite import Suite

KINDS = ("number", "gain", "direction", "cost_ratio")
SETTING = ("protocol", "backbone", "epochs", "batch")
"""What a claim says of its setting, or says that no source tells; a cost has no protocol."""
COST = "cost"
"""What a claim names in place of an evaluation when it is of the pre-training's cost."""
TRACKS = ("embedded", "mini", "cifar", "imagenet100", "imagenet")
NO_TRACK = "none"  # a data set that none of the tracks runs
VERIFIED = {
    "read": "read in the named source",
    "abstract": "read in the abstract only",
    "recalled": "recalled, unverified",
}


@dataclass(frozen=True)
class Claim:
    """One assertion of a paper, and how we mean to test it.

    A claim has one setting of its own: `track`, `data`, `backbone`, `epochs`, `batch`, `protocol`, `changes`; only
    there can its number be reproduced. Its direction may also be put to the test elsewhere: at the tracks named in
    `proxies`.
    """

    id: str
    paper: str  # short: the name of its file
    citation: str
    statement: str  # in our own words
    kind: str  # number | gain (over the baseline) | direction (better than the baseline) | cost_ratio (to the baseline)
    method: str  # registry names
    evaluation: str
    metric: str  # as records name it; for evaluation "cost" a key of a record's cost
    data: str  # the data set that is evaluated on (for "cost": trained on), as `repro data` names it
    source: str
    verified: str  # read | abstract | recalled
    track: str  # where the claim's own setting can be run, or "none"
    margin: float  # what counts as no difference: points, or a fraction for cost ratios
    n: int  # pairs of pre-trainings (for a number: pre-trainings) that our test uses; frozen before the runs
    family: str  # claims that are tested together, and corrected for it
    variant: str = ""
    baseline: str = ""
    baseline_variant: str = ""
    better: str = "higher"  # higher | lower values of the metric are better
    protocol: str = ""  # name of the paper's own evaluation protocol
    backbone: str = ""
    epochs: tuple[int, int] | None = (
        None  # of pre-training, first and last that the claim covers; in a file also one int
    )
    batch: int | None = None
    pretrain_data: str = ""  # where it is another than the track trains on
    changes: Mapping[str, Mapping[str, Any]] = field(
        default_factory=dict
    )  # table -> key -> value: what else the paper's setting has otherwise than recipe and protocol of that name
    unknown: tuple[str, ...] = ()  # of SETTING: what no source tells
    value: float | None = None
    unit: str = ""
    spread: float | None = None  # stated standard deviation, and of how many runs
    spread_n: int | None = None
    proxies: Mapping[str, float] = field(default_factory=dict)  # smaller track -> its margin
    references: tuple[str, ...] = ()  # rows of references.csv; of a gain the last two are its two sides
    note: str = ""

    @property
    def arm(self) -> str:
        """`method` or `method:variant`."""
        return arm_name(self.method, self.variant)

    @property
    def baseline_arm(self) -> str:
        return arm_name(self.baseline, self.baseline_variant)

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
        if self.kind == "number":
            return f"{value} {self.unit}".strip()
        if self.kind == "gain":
            return f"+{value} {self.unit} over {self.baseline_arm}"
        if self.kind == "cost_ratio":
            return f"{value} of {self.baseline_arm}"
        return f"{'above' if self.better == 'higher' else 'below'} {self.baseline_arm}"


@dataclass(frozen=True)
class Reference:
    """One reported number, ours or anybody's: a row of references.csv, where duplicates of sources are merged."""

    id: str
    method: str
    setting: str  # what else the source says of it
    backbone: str
    pretrain_data: str
    epochs: str
    batch: str
    evaluation: str
    data: str
    metric: str
    value: float
    unit: str
    baseline: bool  # False: a number of one of the five papers for its own method
    source: str
    verified: str
    conflicts: tuple[str, ...]  # rows that report another value for the same

    @property
    def words(self) -> str:
        """`r001 glnet linear top1 70.5 %, its source`."""
        return f"{self.id} {self.method} {self.evaluation} {self.metric} {self.value:g} {self.unit}, {self.source}"


def arm_name(method: str, variant: str) -> str:
    """`aps` or `aps:flip_aware`."""
    return f"{method}:{variant}" if variant else method


def tested_on(claim: Claim, suite: Suite) -> str:
    """The kind of record that tests a claim."""
    return "pretrain" if claim.evaluation == COST else suite.kind_of(claim.evaluation)


def load(suite: Suite, folder: Path | None = None) -> list[Claim]:
    """Every claim of `folder` (default: the package's own), by file and then as written.

    suite: the evaluations that a claim may name, beside COST.

    Raises:
        ValueError: one line that names file, claim and key: unknown or missing key, wrong type, unknown name, an id
            used twice, a margin above half of the claimed gain, a reference that references.csv lacks.
    """
    source: Traversable | Path = folder or files("leaderboards").joinpath("claims")
    known = {reference.id for reference in references()}
    found: dict[str, Claim] = {}
    for item in sorted(source.iterdir(), key=lambda entry: entry.name):
        if not item.name.endswith(".toml"):
            continue
        for claim in _parse(item.read_text(encoding="utf-8"), item.name, suite):
            if claim.id in found:
                raise ValueError(f"{item.name}: claim '{claim.id}': the id is used twice; choose another")
            for row in claim.references:
                if row not in known:
                    raise ValueError(f"{item.name}: claim '{claim.id}': references: {UnknownName('row', row, known)}")
            found[claim.id] = claim
    return list(found.values())


@cache
def references() -> list[Reference]:
    """The rows of references.csv."""
    text = files("leaderboards").joinpath("references.csv").read_text(encoding="utf-8")
    return [
        Reference(
            **{key: row[key] for key in row if key not in ("value", "baseline", "conflicts")},
            value=float(row["value"]),
            baseline=row["baseline"] == "1",
            conflicts=tuple(row["conflicts"].split()),
        )
        for row in csv.DictReader(io.StringIO(text))
    ]


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
            raise UnknownName(f"{key} of a claim", value, valid)
        found = [claim for claim in found if value in has(claim)]
    return found


def tracks_of(claim: Claim) -> tuple[str, ...]:
    """The tracks at which this claim can be put to the test, smallest first."""
    return tuple(track for track in TRACKS if track == claim.track or track in claim.proxies)


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


def _parse(text: str, file: str, suite: Suite) -> list[Claim]:
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{file}: not valid TOML ({error})") from None
    for key in raw:
        if key not in ("citation", "defaults", "claim"):
            raise ValueError(f"{file}: {UnknownName('key', key, ('citation', 'defaults', 'claim'))}")
    if not isinstance(raw.get("citation"), str):
        raise ValueError(f"{file}: key 'citation' is missing")
    shared = {"paper": file.removesuffix(".toml"), "citation": raw["citation"], **raw.get("defaults", {})}
    return [_claim({**shared, **table}, file, suite) for table in raw.get("claim", [])]


_TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("margin", "value", "spread"), (int, float)),
    **dict.fromkeys(("n", "batch", "spread_n"), (int,)),
    "epochs": (int, list),
    **dict.fromkeys(("proxies", "changes"), (dict,)),
    **dict.fromkeys(("references", "unknown"), (list,)),
}
_NAMES: dict[str, Collection[str]] = {
    "kind": KINDS,
    "verified": VERIFIED,
    "track": (*TRACKS, NO_TRACK),
    "better": ("higher", "lower"),
}


def _claim(table: dict[str, Any], file: str, suite: Suite) -> Claim:
    where = f"{file}: claim '{table.get('id', '(no id)')}'"
    names = [f.name for f in fields(Claim)]
    valid = {**_NAMES, "evaluation": (*suite.evaluations, COST)}
    for key, value in table.items():
        if key not in names:
            raise ValueError(f"{where}: {UnknownName('key', key, names)}")
        types = _TYPES.get(key, (str,))
        if not isinstance(value, types) or isinstance(value, bool):
            kinds = " or ".join(t.__name__ for t in types)
            raise ValueError(f"{where}: {key} = {value!r} must be {kinds}")
        if key in valid and value not in valid[key]:
            raise ValueError(f"{where}: {UnknownName(key, value, valid[key])}")
    for f in fields(Claim):
        if f.name not in table and f.default is MISSING and f.default_factory is MISSING:
            raise ValueError(f"{where}: key '{f.name}' is missing")
    plain = dict(table)
    if isinstance(plain.get("epochs"), int):
        plain["epochs"] = [plain["epochs"]] * 2
    if "epochs" in plain:
        span = plain["epochs"]
        if len(span) != 2 or not all(type(edge) is int for edge in span) or span[0] > span[1]:
            raise ValueError(f"{where}: epochs = {span!r} must be a whole number or [first, last]")
        plain["epochs"] = tuple(span)
    for track, margin in plain.get("proxies", {}).items():
        if track not in TRACKS:
            raise ValueError(f"{where}: proxies: {UnknownName('track', track, TRACKS)}")
        if not isinstance(margin, int | float) or isinstance(margin, bool):
            raise ValueError(f"{where}: proxies.{track} = {margin!r} must be a number, the margin there")
    if not all(isinstance(row, str) for row in plain.get("references", [])):
        raise ValueError(f"{where}: references must be a list of row ids, such as ['r001']")
    for key in plain.get("unknown", []):
        if key not in SETTING:
            raise ValueError(f"{where}: unknown: {UnknownName('key of a setting', key, SETTING)}")
    for table_name, values in plain.get("changes", {}).items():
        if not isinstance(values, dict):
            raise ValueError(f"{where}: changes.{table_name} = {values!r} must be a table: {{ key = value }}")
    for key in ("references", "unknown"):
        plain[key] = tuple(plain.get(key, []))
    claim = Claim(**plain)
    _check(claim, where)
    return claim


def _check(claim: Claim, where: str) -> None:
    """What types alone cannot say."""
    if claim.kind == "number" and (claim.baseline or claim.proxies):
        raise ValueError(f"{where}: a number stands alone; drop 'baseline' and 'proxies', or choose kind 'gain'")
    if claim.kind != "number" and not claim.baseline:
        raise ValueError(f"{where}: key 'baseline' is missing; kind '{claim.kind}' compares with one")
    if claim.kind != "direction" and claim.value is None:
        raise ValueError(f"{where}: key 'value' is missing; only kind 'direction' goes without")
    if (claim.kind == "cost_ratio") and claim.evaluation != COST:
        raise ValueError(f"{where}: kind 'cost_ratio' needs evaluation = 'cost'")
    for key in SETTING:
        given, no_source = bool(getattr(claim, key)), key in claim.unknown
        if key == "protocol" and claim.evaluation == COST:
            if given or no_source:
                raise ValueError(f"{where}: a cost is of the pre-training and has no protocol; drop it")
        elif given and no_source:
            raise ValueError(f"{where}: {key} is given and said to be unknown; drop one of the two")
        elif not given and not no_source:
            raise ValueError(f"{where}: key '{key}' is missing; give it, or name it in 'unknown'")
    if (claim.spread is None) != (claim.spread_n is None):
        raise ValueError(f"{where}: 'spread' and 'spread_n' go together")
    if claim.n < 3:
        raise ValueError(f"{where}: n = {claim.n}; no test is made of fewer than 3")
    for at, margin in {claim.track: claim.margin, **claim.proxies}.items():
        if margin <= 0:
            raise ValueError(f"{where}: margin {margin:g} at {at} must be above 0")
        if claim.kind in ("gain", "direction") and claim.value is not None and margin > claim.value / 2:
            raise ValueError(
                f"{where}: margin {margin:g} at {at} is more than half of the claimed {claim.value:g}; lower it"
            )
