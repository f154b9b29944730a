"""Whether the files of a data set, and its decoded copies, still are what they were."""

from __future__ import annotations

from pathlib import Path

from repro.data import packed
from repro.data.data_sets import Entry, named
from repro.data.decoding import opened
from repro.data.inventory import counts, manifest_of, short
from repro.data.layouts.table import LAYOUTS
from repro.data.loading import coco_set
from repro.data.manifest import SUMS, Tree, check, files, parallel, read_sums, text_sha256, write_sums
from repro.data.names import is_picture
from repro.data.origins import ORIGINS
from repro.data.preparing import prepare
from repro.data.types import Progress, Report, quiet
from repro.errors import UserError
from repro.settings import Where


def verify(name_or_folder: str, where: Where, progress: Progress = quiet) -> Report:
    """Check a data set's counts and the hash of every file, and its decoded copies in the cache.

    Held against the SHA256SUMS file beside the data, the published md5 sums (official CIFAR), or the list written at
    the first `verify`, which then decodes every picture. The report names the first bad file.
    """
    entry = named(name_or_folder)
    origin, layout = ORIGINS[entry.origin], LAYOUTS[entry.layout]
    note, found = "", dict(entry.counts)
    published = origin.published_sums(entry, where)
    if published is not None:
        number, problem = published
    elif not layout.has_files:
        number, problem = 1, None
        note = f"decoded copy in {prepare(entry.name, where, size=entry.native)}"
    else:
        root = origin.obtain(entry, where)
        tree = layout.tree(entry, root)
        number = len(files(tree))
        problem, note = _check_files(entry, tree, where, progress)
        found = {} if problem else counts(entry, root)
    problem = problem or _bad_annotations(entry, where)
    gaps = [f"{gap} images" for gap in short(entry, found)]
    if problem is None and gaps:
        problem = f"{entry.title} is incomplete: {', '.join(gaps)}"
    return Report(entry.name, number, found, problem or _bad_pack(entry, where), note)


def _check_files(entry: Entry, tree: Tree, where: Where, progress: Progress) -> tuple[str | None, str]:
    """One line naming the first bad file, or None; and a note on what the files were held against."""
    sums = tree.root / SUMS
    if not sums.is_file():
        sums = where.cache / "sums" / f"{text_sha256(str(tree.root.resolve()), entry.name)[:16]}"
    if sums.is_file():
        return check(tree, read_sums(sums), progress), ""
    problem = _decode_all(tree, progress)
    if problem is None:
        sums.parent.mkdir(parents=True, exist_ok=True)
        write_sums(tree, sums)
    return problem, "no SHA256SUMS beside it: every image was decoded and the hashes written down for the next time"


def _bad_annotations(entry: Entry, where: Where) -> str | None:
    """Why the annotations of a detection set cannot be used."""
    if entry.kind != "detection":
        return None
    try:
        coco_set(entry.name, where)
    except UserError as error:
        return str(error)
    return None


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
            opened(tree.root / name, str(tree.root / name), 8, 8)
        except UserError as error:
            return str(error)
        return None

    names = [name for name in files(tree) if is_picture(Path(name))]
    for done, found in enumerate(parallel(problem, names), 1):
        if found:
            return found
        progress(done, len(names), {"what": names[done - 1]})
    return None
