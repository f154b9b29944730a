"""The official archives of CIFAR: fetched where they are not there, held against published sums, unpacked."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from repro.data.types import MissingData
from repro.errors import UserError


@dataclass(frozen=True)
class OfficialCifar:
    """The official archive of CIFAR-10 or CIFAR-100. The md5 sums are the ones that torchvision checks."""

    dataset: str  # torchvision's class
    url: str
    archive_md5: str
    folder: str
    md5: tuple[tuple[str, str], ...]

    @property
    def archive(self) -> str:
        return self.url.rpartition("/")[2]


OFFICIAL_CIFAR = {
    "cifar10": OfficialCifar(
        "CIFAR10",
        "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        "c58f30108f718f92721af3b95e74349a",
        "cifar-10-batches-py",
        (
            ("data_batch_1", "c99cafc152244af753f735de768cd75f"),
            ("data_batch_2", "d4bba439e000b95fd0a9bffe97cbabec"),
            ("data_batch_3", "54ebc095f3ab1f0389bbae665268c751"),
            ("data_batch_4", "634d18415352ddfa80567beed471001a"),
            ("data_batch_5", "482c414d41f54cd18b22e5b47cb7c3cb"),
            ("test_batch", "40351d587109b95175f43aff81a1287e"),
            ("batches.meta", "5ff9c542aee3614f3951f8cda6e48888"),
        ),
    ),
    "cifar100": OfficialCifar(
        "CIFAR100",
        "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
        "eb9058c3a382ffc7106e4002c42a8d85",
        "cifar-100-python",
        (
            ("train", "16019d7e3df5f24257cddd939b257f8d"),
            ("test", "f0ef6b0ae62326f3e7ffdfab6717acfc"),
            ("meta", "7973b15100ade9c7d40fb424638fde48"),
        ),
    ),
}


def file_md5(path: Path) -> str:
    """md5 of a file's content, hex: no protection, but what the authors of CIFAR publish."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "md5").hexdigest()


def find_cifar(official: OfficialCifar, places: Sequence[Path]) -> Path | None:
    """The first place that holds the unpacked folder or the archive."""
    for place in places:
        if (place / official.folder).is_dir() or (place / official.archive).is_file():
            return place
    return None


def check_cifar(official: OfficialCifar, place: Path) -> str | None:
    """One line naming the first file whose md5 is not the published one, or None."""
    if not (place / official.folder).is_dir():
        archive = place / official.archive
        return (
            None
            if file_md5(archive) == official.archive_md5
            else f"{archive} has not the published md5; fetch it again"
        )
    for name, expected in official.md5:
        path = place / official.folder / name
        if not path.is_file():
            return f"{path} is missing; unpack {official.archive} again"
        if file_md5(path) != expected:
            return f"{path} has not the published md5; unpack {official.archive} again"
    return None


def fetch_cifar(official: OfficialCifar, places: Sequence[Path], downloads: Path) -> Path:
    """The place whose folder is unpacked and checked. Where nothing is found the archive is downloaded.

    The archives are pickles. Every file's md5 is held against the published one before anything is unpickled, here
    (to name the file) and again by torchvision, whose CIFAR10 class checks all batches on construction.
    Raises MissingData where it cannot be downloaded into `downloads`, UserError where a file is another.
    """
    from torchvision import datasets
    from torchvision.datasets.utils import extract_archive

    place = find_cifar(official, [*places, downloads])
    if place is None or (place == downloads and check_cifar(official, place)):  # the latter: a download cut short
        downloads.mkdir(parents=True, exist_ok=True)
        patience = socket.getdefaulttimeout()
        socket.setdefaulttimeout(30)
        try:
            getattr(datasets, official.dataset)(str(downloads), download=True)
        except (OSError, RuntimeError) as error:
            raise MissingData(
                f"cannot download {official.url} ({error}); put {official.archive} into "
                f"{places[0] if places else downloads} by hand"
            ) from error
        finally:
            socket.setdefaulttimeout(patience)
        place = downloads
    problem = check_cifar(official, place)
    if problem:
        raise UserError(problem)
    if not (place / official.folder).is_dir():
        extract_archive(str(place / official.archive), str(downloads))
        place = downloads
    return place
