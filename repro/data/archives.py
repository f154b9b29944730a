"""The official archives of CIFAR: what is published of them, whether files are those, and how they are unpacked."""

from __future__ import annotations

import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from repro.data.cache import build
from repro.data.download import Download, file_md5
from repro.errors import UserError


@dataclass(frozen=True)
class OfficialCifar:
    """The official archive of CIFAR-10 or CIFAR-100. The md5 sums are the ones that torchvision checks."""

    dataset: str  # torchvision's class
    url: str
    bytes: int  # of the archive
    archive_md5: str
    folder: str
    md5: tuple[tuple[str, str], ...]

    @property
    def archive(self) -> str:
        return self.url.rpartition("/")[2]

    def download(self, folder: Path) -> Download:
        """The archive, to be downloaded into a folder."""
        return Download(self.url, folder / self.archive, self.bytes, self.archive_md5)


OFFICIAL_CIFAR = {
    "cifar10": OfficialCifar(
        "CIFAR10",
        "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        170_498_071,
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
        169_001_437,
        "eb9058c3a382ffc7106e4002c42a8d85",
        "cifar-100-python",
        (
            ("train", "16019d7e3df5f24257cddd939b257f8d"),
            ("test", "f0ef6b0ae62326f3e7ffdfab6717acfc"),
            ("meta", "7973b15100ade9c7d40fb424638fde48"),
        ),
    ),
}


def find_cifar(official: OfficialCifar, places: Sequence[Path]) -> Path | None:
    """The first place that holds the unpacked folder or the archive."""
    for place in places:
        if (place / official.folder).is_dir() or (place / official.archive).is_file():
            return place
    return None


def check_cifar(official: OfficialCifar, place: Path) -> str | None:
    """One line naming the first file whose md5 is not the published one, or None."""
    if (place / official.folder).is_dir():
        return _check_folder(official, place / official.folder)
    archive = place / official.archive
    if file_md5(archive) == official.archive_md5:
        return None
    again = f"python -m repro data get {official.dataset.lower()}"
    return f"{archive} does not have the published md5; {again} puts it aside and downloads it again"


def _check_folder(official: OfficialCifar, folder: Path) -> str | None:
    mend = f"delete {folder} and unpack {official.archive} again"
    for name, expected in official.md5:
        path = folder / name
        if not path.is_file():
            return f"{path} is missing; {mend}"
        if file_md5(path) != expected:
            return f"{path} does not have the published md5; {mend}"
    return None


def unpacked(official: OfficialCifar, place: Path, cache: Path) -> Path:
    """The folder whose `official.folder` holds the checked batches: `place`, or `cache`, into which they are unpacked.

    The archives are pickles. Every file's md5 is held against the published one before anything is unpickled, here
    (to name the file) and again by torchvision, whose CIFAR10 class checks all batches on construction.
    Raises UserError where a file is another.
    """
    problem = check_cifar(official, place)
    if problem:
        raise UserError(problem)
    if (place / official.folder).is_dir():
        return place

    def fill(folder: Path) -> None:
        with tarfile.open(place / official.archive) as archive:
            for member in archive:
                if member.isfile() and member.name.startswith(f"{official.folder}/"):
                    member.name = member.name.removeprefix(f"{official.folder}/")
                    archive.extract(member, folder, filter="data")

    if problem := _check_folder(official, build(cache / official.folder, fill)):
        raise UserError(problem)
    return cache
