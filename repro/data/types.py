"""The shapes in which data leaves this package. No torch, no heavy import."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from eval.coco_file import CocoData
from repro.errors import UserError

if TYPE_CHECKING:
    import numpy as np

Kind = Literal["classification", "detection", "reid"]
Split = Literal["train", "test"]
RGB = tuple[float, float, float]
FLAT = 1.0  # the deviation of a channel of one value; any other of numbers from 0 to 1 is at most a half
Progress = Callable[[int, int, Mapping[str, Any]], None]  # (done, total, {"what": ...})


class Drawn(TypedDict):
    """Training pictures drawn from a data set that has more: how many, and the seed of the draw."""

    pictures: int
    seed: int


class MissingData(UserError):
    """A data set that is not where it was looked for. The line says what, where, and how to get it.

    download: how many bytes `repro data get` would download; None for what it may not.
    """

    def __init__(self, problem: str, mend: str = "", download: int | None = None) -> None:
        super().__init__(problem, mend)
        self.download = download


def quiet(done: int, total: int, info: Mapping[str, Any]) -> None:
    """A progress callback that does nothing."""


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """What is told of every data set.

    source: what boards print; manifest: 64 hex digits that stand for the content
    """

    name: str
    source: str
    manifest: str


@dataclass(frozen=True)
class Pictures(DataSet):
    """One split of a classification data set, decoded.

    pixels: uint8 [N, 3, S, S], a read-only memory map unless a limit was asked for; or `unpacked.Files`, which are
        read as an array is
    labels: int64 [N], indices into `classes`; None for pictures without classes
    mean, std: of the training split, per channel, of pixels / 255; a channel of one value has the deviation 1
    remarks: a line on each thing that files hold and pixels do not
    """

    pixels: np.ndarray
    labels: np.ndarray | None
    classes: tuple[str, ...]
    mean: RGB
    std: RGB
    remarks: tuple[str, ...] = ()

    @property
    def one_colour(self) -> bool:
        """Whether all pixels of all training pictures are alike."""
        return all(value == FLAT for value in self.std)


@dataclass(frozen=True)
class CocoSet(DataSet):
    """A detection data set in COCO format, with or without masks: annotation files, checked, and their pictures."""

    content: CocoData

    @property
    def classes(self) -> tuple[str, ...]:
        return self.content.train.names

    @property
    def remarks(self) -> list[str]:
        """What of the files was mended or left out, a line each."""
        return [*self.content.train.lines(), *self.content.val.lines()]


@dataclass(frozen=True)
class ReidSplit:
    """pixels: uint8 [N, 3, H, W] (read-only memory map); pids, cams: int64 [N]; files: paths below the split's folder.

    pid -1 is junk (to be ignored when ranking), pid 0 a distractor (in the gallery, nobody's match).
    """

    pixels: np.ndarray
    pids: np.ndarray
    cams: np.ndarray
    files: list[str]


@dataclass(frozen=True)
class ReidSet(DataSet):
    """A re-identification data set; training and test identities are disjoint. `train` may be empty (SYSU-30k).

    mean, std, remarks: as of `Pictures`.
    """

    train: ReidSplit
    query: ReidSplit
    gallery: ReidSplit
    mean: RGB
    std: RGB
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Status:
    """One line of `repro data`. `counts`: pictures a split, empty where missing or not counted yet."""

    name: str
    title: str
    kind: Kind
    tracks: tuple[str, ...]
    found: bool
    place: str
    counts: Mapping[str, int]
    licence: str
    how: str
    note: str


@dataclass(frozen=True)
class Report:
    """What `verify` found. `problem` is None or one line that names the first bad file."""

    name: str
    files: int
    counts: Mapping[str, int]
    problem: str | None
    note: str

    @property
    def ok(self) -> bool:
        return self.problem is None
