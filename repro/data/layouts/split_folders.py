"""Which folders of one's own pictures are splits, told by their names and by what is in them.

A split folder holds class folders, and a class folder holds pictures. So a class may be called `train`. Where names and
content do not fit each other the user is asked, by one line.
"""

from __future__ import annotations

from dataclasses import dataclass

from repro.data.listing import Folder, Listing
from repro.data.names import part_of, resembles
from repro.errors import UserError
from repro.terminal.text import some


@dataclass(frozen=True)
class Chosen:
    """The folders that are used.

    train: holds classes or pictures.  test: None where there is none.  others: folders with pictures beside them.
    """

    train: Folder
    test: Folder | None
    others: tuple[Folder, ...] = ()


@dataclass(frozen=True)
class _Shape:
    """A folder and what pictures are in it: directly, and in folders below."""

    folder: Folder
    direct: bool
    nested: bool


def choose(listing: Listing) -> Chosen:
    """The split folders of a folder of pictures; its root is `train` where there are none.

    Raises UserError where it cannot be told which folders are splits.
    """
    root, here = listing.root, listing.root.path
    tops = [_shape(listing, folder) for folder in listing.folders(root)]
    full = [top for top in tops if top.direct or top.nested]
    empty = [top.folder for top in tops if top not in full]
    train = [top for top in full if part_of(top.folder.name) == "train"]
    held = [top for top in full if part_of(top.folder.name) in ("val", "test")]
    others = [top for top in full if top not in train and top not in held]
    if not train and not held:
        _require_no_hidden_splits(listing, full)
        return Chosen(root, None)
    best = [top for top in held if _preference(top) == min(map(_preference, held))]
    for what, alike in (("training", train), ("test", best)):
        if len(alike) > 1:
            names = some(top.folder.name for top in alike)
            raise UserError(f"{here} has {len(alike)} folders that may be the {what} split ({names})", "keep one there")
    for folder in empty:
        alike_to = part_of(folder.name)
        if (alike_to == "train" and not train) or (alike_to in ("val", "test") and not held):
            raise UserError(f"{folder.path} has no images", "fill the folder or remove it")
    if not train:
        name = held[0].folder.name
        raise UserError(
            f"{here} has '{name}' but no 'train'",
            f"name the folder of training images 'train', or rename '{name}' if it is a class",
        )
    if held:
        test = best[0].folder
        rest = [top.folder for top in (*others, *held) if top.folder is not test]
        return Chosen(train[0].folder, test, tuple(rest))
    if not others:
        return Chosen(train[0].folder, None)
    if not train[0].nested and any(top.direct for top in others):
        _require_no_hidden_splits(listing, full)
        return Chosen(root, None)  # a class of that name
    name, other = train[0].folder.name, others[0].folder.name
    raise UserError(
        f"{here}: '{name}' may be the training split or a class, as '{other}' beside it has images too",
        f"move '{other}' elsewhere if '{name}' is the split, or rename '{name}' if it is a class",
    )


def require_no_splits(listing: Listing, classes: list[Folder]) -> None:
    """Raise UserError where a class folder holds a training and a test split, which would be mixed."""
    for folder in classes:
        below = [found for found in listing.folders(folder) if part_of(found.name) and listing.has_pictures(found)]
        parts = {part_of(found.name) for found in below}
        if "train" in parts and len(parts) > 1:
            raise UserError(
                f"{folder.path} holds splits ({some(found.name for found in below)}), so it is not a class",
                f"give {folder.path} as the folder, or sort as SPLIT/CLASS/*",
            )


def holder_of_classes(listing: Listing, top: Folder) -> Folder | None:
    """The folder below `top` whose folders are the classes, where each on the way there holds one folder alone.

    None where `top` has several folders itself, or where no such folder comes before the pictures.
    """
    here = top
    while not listing.pictures(here):
        full = [folder for folder in listing.folders(here) if listing.has_pictures(folder)]
        if len(full) != 1:
            return here if full and here is not top else None
        here = full[0]
    return None


def _shape(listing: Listing, folder: Folder) -> _Shape:
    nested = any(map(listing.has_pictures, listing.folders(folder)))
    return _Shape(folder, bool(listing.pictures(folder)), nested)


def _preference(held: _Shape) -> tuple[bool, int, bool]:
    """Of several held-out splits the first is used: one with classes, `val` before `test` before other names."""
    name = held.folder.name
    return not held.nested, ["val", "test", name].index(name), part_of(name) != "val"


def _require_no_hidden_splits(listing: Listing, tops: list[_Shape]) -> None:
    """Raise UserError where folders of classes look like splits by names that are not known."""
    nested = [top.folder for top in tops if top.nested and not top.direct]
    alike = [folder for folder in nested if resembles(folder.name)]
    parts = {part for folder in alike for part in resembles(folder.name)}
    if len(alike) > 1 and "train" in parts and len(parts) > 1:
        raise UserError(
            f"{listing.root.path}: {some(folder.name for folder in alike)} look like splits, but their names are not"
            " known as such",
            "name them 'train' and 'val', or rename them if they are classes",
        )
