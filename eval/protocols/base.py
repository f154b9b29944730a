"""What a protocol is: every constant that can change the number of an evaluation, frozen and free of torch.

A protocol is a frozen dataclass whose field defaults are the suite's own choice. The type of a field says what its
values may be; what must hold between fields stands in `__post_init__`. Both are checked whenever one is made.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

from msgspec import Meta

from eval import tables

Precision = Literal["fp32", "bf16"]
Interpolation = Literal["bilinear", "bicubic"]
Schedule = Literal["update", "epoch", "epoch_late", "steps"]  # see schedules.rates
Statistics = Literal["data", "imagenet"]  # whose mean and standard deviation: the pre-training's or ImageNet's

Count = Annotated[int, Meta(gt=0)]
Counts = tuple[Count, ...]
Whole = Annotated[int, Meta(ge=0)]
Positive = Annotated[float, Meta(gt=0)]
Positives = Annotated[tuple[Positive, ...], Meta(min_length=1)]
NotNegative = Annotated[float, Meta(ge=0)]
Probability = Annotated[float, Meta(ge=0, le=1)]
Portion = Annotated[float, Meta(gt=0, le=1)]  # of a whole, which may be all of it
Share = Annotated[float, Meta(gt=0, lt=1)]  # of pictures, some of which are left
ShareOrNone = Annotated[float, Meta(ge=0, lt=1)]

LATER = {"later": True}  # metadata of a field that came after records were published: see protocols.hashed


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """The constants of one evaluation. A kind of evaluation is a subclass, by whose `kind` its protocols are found."""

    kind: ClassVar[str]
    name: str  # a label: it can change no number

    def __post_init__(self) -> None:
        """ValueError of one line for a value that is not of its field's type, or out of its bounds."""
        for key, hint in tables.types_of(type(self)).items():
            object.__setattr__(self, key, tables.converted(getattr(self, key), hint, f"{self.kind}.{key}"))

    @classmethod
    def build(cls, name: str, stated: Mapping[str, Any]) -> Self:
        """A protocol of these values, the others at their defaults; ValueError of one line for an unknown key."""
        known = [key for key in tables.types_of(cls) if key != "name"]
        for key in stated:
            if key not in known:
                raise ValueError(f"{cls.kind} protocol has no key {key!r}{tables.nearest(key, known)}")
        return cls(name=name, **stated)

    def values(self) -> dict[str, Any]:
        """All that can change a number, as plain JSON: every field but the name."""
        fields = dataclasses.asdict(self)
        del fields["name"]
        return {key: list(value) if isinstance(value, tuple) else value for key, value in fields.items()}

    @classmethod
    def required(cls, stated: Mapping[str, Any]) -> tuple[str, ...]:
        """The metrics that every record under a protocol of these values must have."""
        return ()


@dataclass(frozen=True, kw_only=True)
class Features(Protocol):
    """What the frozen encoder sees and says: the first fields of every protocol on features."""

    size: Counts = ()  # height and width in pixels to which pictures are resized; () = as they are
    interpolation: Interpolation = "bilinear"  # of that resize, always antialiased
    precision: Precision = "fp32"  # autocast of the encoder; features come out as float32 either way
    flip: Literal["none", "sum", "triplet"] = "none"  # how the mirrored picture's feature is added: features.extract
    # middle of the pictures that is seen, as a share of their shorter side
    test_crop: Portion = dataclasses.field(default=1.0, metadata=LATER)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_size(self)

    def transform(self) -> dict[str, Any]:
        """What decides the features: keyword arguments of features.extract, to be part of a feature cache's key."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(Features) if field.name != "name"}


def collapse_metrics(*splits: str) -> tuple[str, ...]:
    """The metrics by which features of these pictures can be seen to have collapsed (features.summary)."""
    return tuple(f"{split}_{key}" for split in splits for key in ("effective_rank", "feature_std", "norm_mean"))


def require(holds: bool, protocol: Protocol, keys: str, what: str) -> None:
    """ValueError `linear.hflip must be false ..., not True` unless that holds.  keys: one, or several by ", "."""
    if not holds:
        got = ", ".join(repr(getattr(protocol, key)) for key in keys.split(", "))
        raise ValueError(f"{protocol.kind}.{keys} must be {what}, not {got}")


def require_size(protocol: Any) -> None:
    """Of pictures: none, or height and width."""
    require(len(protocol.size) in (0, 2), protocol, "size", "[] or [height, width]")


def require_crops(protocol: Any) -> None:
    """The ranges of random crops."""
    scale, ratio = protocol.crop_scale, protocol.crop_ratio
    rising = "[] or [smallest, largest], above 0 and at most 1"
    require(not scale or (len(scale) == 2 and 0 < scale[0] <= scale[1] <= 1), protocol, "crop_scale", rising)
    require(len(ratio) == 2 and 0 < ratio[0] <= ratio[1], protocol, "crop_ratio", "[smallest, largest], above 0")


def require_milestones(protocol: Any) -> None:
    """Those of the schedule that has some."""
    require(bool(protocol.milestones) == (protocol.schedule == "steps"), protocol, "milestones", "given with 'steps'")
