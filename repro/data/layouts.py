"""How data sets lie on disk, as their authors hand them out. Every reader raises UserError where a layout is wrong."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import socket
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from repro.data.manifest import walk
from repro.data.types import MissingData, Progress, Split
from repro.errors import UserError

if TYPE_CHECKING:
    import numpy as np

PICTURES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm"})


def is_picture(path: Path) -> bool:
    return path.suffix.lower() in PICTURES and not path.name.startswith(".")


# ----------------------------------------------------------------------------------------- folders of class folders

TEST_SHARE = 0.2


@dataclass(frozen=True)
class FolderSplit:
    """The pictures of one split, sorted by path within each class; labels None for pictures without classes."""

    files: list[Path]
    labels: list[int] | None
    classes: tuple[str, ...]


def image_folder(root: Path, classes: Sequence[str] | None = None) -> dict[Split, FolderSplit]:
    """Read any of the layouts below; `classes` restricts to these class folders (all must be there).

    root/train/CLASS/*  with  root/val/CLASS/* or root/test/CLASS/*
    root/train/CLASS/*  or  root/CLASS/*     one fifth of each class becomes the test split (by hash of the path)
    root/train/*  or  root/*                 pictures without classes: only a training split, no labels
    """
    if not root.is_dir():
        raise MissingData(f"no folder {root}")
    held_out = [root / name for name in ("val", "test") if (root / name).is_dir()]
    top = root / "train" if (root / "train").is_dir() else root
    if held_out and top == root:
        raise UserError(f"{root} has '{held_out[0].name}' but no 'train'; name the folder of training pictures 'train'")
    train = _class_folders(top, classes)
    if held_out:
        folder = held_out[0]
        if train.labels is None:
            raise UserError(f"{top} has no class folders but {folder} is there; sort both by class")
        test = _class_folders(folder, classes)
        if test.labels is None:
            raise UserError(f"{folder} has no class folders; sort its pictures into one folder a class")
        extra = sorted(set(test.classes) - set(train.classes))
        if extra:
            raise UserError(f"{folder} has a class '{extra[0]}' that {top} lacks; rename or remove it")
        index = {name: i for i, name in enumerate(train.classes)}
        labels = [index[test.classes[label]] for label in test.labels]
        return {"train": train, "test": FolderSplit(test.files, labels, train.classes)}
    return {"train": train} if train.labels is None else _held_out(top, train)


def _class_folders(top: Path, classes: Sequence[str] | None) -> FolderSplit:
    folders = sorted(p for p in top.iterdir() if p.is_dir() and not p.name.startswith("."))
    loose = sorted(p for p in top.iterdir() if is_picture(p))
    if classes is not None:
        there = {p.name: p for p in folders}
        absent = [name for name in classes if name not in there]
        if absent:
            raise UserError(f"{top} lacks {len(absent)} of {len(classes)} class folders, the first is {absent[0]}")
        folders = [there[name] for name in sorted(classes)]
        loose = []
    members = [(folder, sorted(filter(is_picture, walk(folder)))) for folder in folders]
    members = [(folder, found) for folder, found in members if found or classes is not None]
    if loose and members:
        raise UserError(f"{top} has pictures beside class folders, the first is {loose[0].name}; move them")
    if loose:
        return FolderSplit(loose, None, ())
    if not members:
        raise UserError(f"no pictures below {top} (looked for {', '.join(sorted(PICTURES))})")
    empty = [folder for folder, found in members if not found]
    if empty:
        raise UserError(f"class folder {empty[0]} has no pictures")
    files = [path for _, found in members for path in found]
    labels = [label for label, (_, found) in enumerate(members) for _ in found]
    return FolderSplit(files, labels, tuple(folder.name for folder, _ in members))


def _held_out(top: Path, everything: FolderSplit) -> dict[Split, FolderSplit]:
    """Four fifths and one fifth of each class, by the hash of the path below `top`: the same on every machine."""
    groups: dict[int, list[Path]] = {}
    for path, label in zip(everything.files, everything.labels or (), strict=True):
        groups.setdefault(label, []).append(path)
    sides: dict[Split, list[tuple[int, Path]]] = {"train": [], "test": []}
    for label, files in groups.items():
        dealt = sorted(files, key=lambda p: hashlib.sha256(p.relative_to(top).as_posix().encode()).digest())
        held = max(1, round(TEST_SHARE * len(files))) if len(files) > 1 else 0
        sides["test"] += sorted((label, path) for path in dealt[:held])
        sides["train"] += sorted((label, path) for path in dealt[held:])
    return {
        side: FolderSplit([p for _, p in pairs], [label for label, _ in pairs], everything.classes)
        for side, pairs in sides.items()
    }


# ------------------------------------------------------------------------------------------------------------ CIFAR

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def cifar_jpeg(path: Path, split: Split) -> tuple[list[tuple[str, bytes]], np.ndarray, tuple[str, ...]]:
    """The JPEG copy of CIFAR-10 (one .npz, see its README): [(name, JPEG bytes)], labels int64 [N], classes."""
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as content:
            raw, offset = content[f"{split}_jpeg"].tobytes(), content[f"{split}_offset"]
            labels = content[f"{split}_label"].astype(np.int64)
            classes = tuple(str(name) for name in content["class_names"])
        if len(offset) != len(labels) + 1 or offset[-1] != len(raw) or not len(labels):
            raise ValueError("its arrays do not fit each other")
        if labels.min() < 0 or labels.max() >= len(classes):
            raise ValueError("a label without a class")
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path} is damaged or no CIFAR-10 JPEG pack ({error}); fetch it again") from error
    ends = offset.tolist()
    sources = [(f"{split} picture {i} in {path}", raw[a:b]) for i, (a, b) in enumerate(pairwise(ends))]
    return sources, labels, classes


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


def cifar_official(
    official: OfficialCifar, places: Sequence[Path], downloads: Path
) -> Iterator[tuple[Split, np.ndarray, np.ndarray, tuple[str, ...]]]:
    """Yields (split, pixels uint8 [N, 32, 32, 3], labels int64 [N], classes), read by torchvision.

    The archives are pickles. Every file's md5 is held against the published one before anything is unpickled, here
    (to name the file) and again by torchvision, whose CIFAR10 class checks all batches on construction. Where nothing
    is found the archive is downloaded into `downloads`. Raises MissingData where that fails.
    """
    import numpy as np
    from torchvision import datasets
    from torchvision.datasets.utils import extract_archive

    place = find_cifar(official, [*places, downloads])
    dataset = getattr(datasets, official.dataset)
    if place is None or (place == downloads and check_cifar(official, place)):  # the latter: a download cut short
        downloads.mkdir(parents=True, exist_ok=True)
        patience = socket.getdefaulttimeout()
        socket.setdefaulttimeout(30)
        try:
            dataset(str(downloads), download=True)
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
    for split in ("train", "test"):
        content = dataset(str(place), train=split == "train")
        yield split, content.data, np.asarray(content.targets, np.int64), tuple(content.classes)


# ------------------------------------------------------------------------------------------------------------- COCO


def coco_json(path: Path, pictures: Path) -> tuple[tuple[str, ...], int, int]:
    """Check one annotation file against its folder of pictures: (category names, pictures, instances).

    Raises UserError where it is no COCO instances file, names a picture that is not there, or refers to nothing.
    """
    try:
        content: Any = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read annotations {path} ({error}); fetch the file again") from error
    try:
        names = {image["id"]: image["file_name"] for image in content["images"]}
        categories = {category["id"]: category["name"] for category in content["categories"]}
        for annotation in content["annotations"]:
            if annotation["image_id"] not in names or annotation["category_id"] not in categories:
                raise UserError(f"{path}: annotation {annotation['id']} refers to an unlisted picture or category")
            if len(annotation["bbox"]) != 4 or "segmentation" not in annotation:
                raise UserError(f"{path}: annotation {annotation['id']} lacks its box or its mask")
    except (KeyError, TypeError) as error:
        raise UserError(f"{path} is no COCO instances file: {type(error).__name__} {error}") from error
    there = {p.name for p in pictures.iterdir()}
    for name in names.values():
        if name not in there:
            raise UserError(f"{pictures / name} is missing, {path.name} lists it; fetch the pictures again")
    return tuple(categories[i] for i in sorted(categories)), len(names), len(content["annotations"])


# ------------------------------------------------------------------------------------------------------ PASCAL VOC

VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog"),
    *("horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
VOC_SPLITS = {
    "train": (("VOC2007", "trainval"), ("VOC2012", "trainval")),
    "val": (("VOC2007", "test"),),
}


def voc_names(root: Path, split: str) -> list[tuple[str, str]]:
    """(year's folder, picture's name) of a split, in the order of its lists (ImageSets/Main). Raises UserError."""
    found = []
    for year, listed in VOC_SPLITS[split]:
        path = root / year / "ImageSets" / "Main" / f"{listed}.txt"
        try:
            names = read_lines(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"cannot read {path} ({error}); unpack the archive again") from error
        if not names:
            raise UserError(f"{path} names no picture; unpack the archive again")
        found += [(year, name) for name in names]
    return found


def voc_as_coco(root: Path, split: str, progress: Progress) -> dict[str, Any]:
    """A split of VOC07+12 in COCO's annotation format, without masks; file names are below `root`.

    Corners in the XML count pixels from 1 and are both inside the box, so in COCO's coordinates a box reaches from
    xmin - 1 to xmax. `difficult` is kept as a key of its own: what it means is the protocol's to say.
    Raises UserError naming the file that is missing or wrong.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    names = voc_names(root, split)
    for number, (year, stem) in enumerate(names, start=1):
        picture = f"{year}/JPEGImages/{stem}.jpg"
        if not (root / picture).is_file():
            raise UserError(f"{root / picture} is missing, a list of {year} names it; unpack the archive again")
        path = root / year / "Annotations" / f"{stem}.xml"
        try:
            tree = ElementTree.parse(path).getroot()
            width, height = (int(_text(tree, f"size/{side}")) for side in ("width", "height"))
            for found in tree.iter("object"):
                left, top, right, bottom = (
                    float(_text(found, f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax")
                )
                name = _text(found, "name")
                if name not in VOC_CLASSES:
                    raise ValueError(f"no class '{name}'")
                box = [left - 1, top - 1, right - left + 1, bottom - top + 1]
                if box[2] <= 0 or box[3] <= 0:
                    raise ValueError(f"a box of {box[2]:g} x {box[3]:g} pixels")
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": number,
                        "category_id": 1 + VOC_CLASSES.index(name),
                        "bbox": box,
                        "area": box[2] * box[3],
                        "iscrowd": 0,
                        "difficult": int(found.findtext("difficult", default="0")),
                    }
                )
        except (OSError, ElementTree.ParseError, ValueError) as error:
            raise UserError(f"{path} is no annotation of PASCAL VOC ({error}); unpack the archive again") from error
        images.append({"id": number, "file_name": picture, "width": width, "height": height})
        progress(number, len(names), {"what": f"annotations of {split}"})
    categories = [{"id": i, "name": name} for i, name in enumerate(VOC_CLASSES, start=1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def _text(node: ElementTree.Element, path: str) -> str:
    text = node.findtext(path)
    if text is None:
        raise ValueError(f"it has no {path}")
    return text.strip()


# ------------------------------------------------------------------------------------------------ re-identification

_MARKET = re.compile(r"^(-?\d+)_c(\d)")
_SYSU = re.compile(r"^(\d+(?:others)?)_?[^c]*c(\d)")


@dataclass(frozen=True)
class ReidFiles:
    files: list[Path]
    pids: list[int]
    cams: list[int]


def market_files(folder: Path) -> ReidFiles:
    """One folder of Market-1501: names PPPP_cC...; pid -1 junk, 0 distractor. Sorted by name."""
    return _reid_files(folder, sorted(p for p in folder.iterdir() if is_picture(p)), _MARKET, "0001_c1s1_000001_00.jpg")


def sysu_files(folder: Path) -> ReidFiles:
    """One test folder of SYSU-30k: folders by identity, names PPPPPPPPP_cC_N.jpg.

    The pictures of `0000others` get pid 0: distractors, not junk (the authors give them a label nobody has, -1000).
    """
    found = sorted(filter(is_picture, walk(folder)))
    return _reid_files(folder, found, _SYSU, "000028311_c1_1.jpg or 0000others_c1_1.jpg")


def _reid_files(folder: Path, found: list[Path], pattern: re.Pattern[str], example: str) -> ReidFiles:
    pids, cams = [], []
    for path in found:
        match = pattern.match(path.name)
        if not match:
            raise UserError(f"{path} tells neither identity nor camera; names look like {example}")
        pids.append(0 if match[1].endswith("others") else int(match[1]))
        cams.append(int(match[2]))
    if not found:
        raise UserError(f"no pictures in {folder}")
    return ReidFiles(found, pids, cams)


def read_lines(text: str) -> tuple[str, ...]:
    """The lines of a list, without blank ones."""
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def missing_parts(root: Path, parts: Sequence[str]) -> list[str]:
    """Which of the files or folders below `root` are not there (an unreadable place counts as not there)."""
    with contextlib.suppress(OSError):
        return [part for part in parts if not (root / part).exists()]
    return list(parts)
