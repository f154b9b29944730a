"""What the name of a file or folder tells: a picture, a split, something that is no data.

Nothing here looks at a disk. The types of pictures are listed, not asked of the installed Pillow, so that a folder has
the same pictures on every machine.
"""

from __future__ import annotations

import re
import unicodedata
from pathlib import PurePath
from typing import Literal

PICTURES = frozenset(
    f".{suffix}"
    for suffix in (
        "apng avif avifs blp bmp bw cur dcx dds dib fit fits flc fli ftc ftu gbr gif icb icns ico iim im j2c j2k jfif"
        " jp2 jpc jpe jpeg jpf jpg jpx mpo msp pbm pcd pcx pfm pgm png pnm ppm psd pxr qoi ras rgb rgba sgi tga tif"
        " tiff vda vst webp xbm xpm"
    ).split()
)
"""Suffixes of all that Pillow decodes by itself, in lower case. PostScript is left to Ghostscript, so it is out."""

SYSTEM = frozenset(
    (
        *("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "__pycache__"),
        *("picasa.ini", "zbthumbnail.info", "ehthumbs_vista.db"),
        *("lost+found", "found.000", "$recycle.bin", "system volume information"),
        *("network trash folder", "temporary items", "thevolumesettingsfolder"),
        *("@eadir", "@tmp", "#recycle", "#snapshot", "@recycle", "@recently-snapshot"),  # file servers
    )
)
"""Files and folders that operating systems and file servers leave among data, in lower case."""

Part = Literal["train", "val", "test"]
PARTS: dict[Part, tuple[str, ...]] = {
    "train": ("train", "training", "trainval"),
    "val": ("val", "valid", "validation", "validate", "dev"),
    "test": ("test", "tests", "testing", "eval", "evaluation"),
}
"""Names of split folders. Upper case, a `set`, `data`, `images` or `split` behind it, and a year make no difference."""

_PART_OF = {word: part for part, words in PARTS.items() for word in words}
_SPLIT = re.compile(rf"({'|'.join(_PART_OF)})(?:[ _.-]?(?:set|data|images|split))?(?:[ _.-]?(?:19|20)\d\d)?")


def is_picture(file: PurePath | str) -> bool:
    """Whether the name of a file is that of a picture."""
    name = file if isinstance(file, str) else file.name
    return f".{name.rpartition('.')[2].lower()}" in PICTURES and not is_hidden(name) and "." in name


def is_hidden(name: str) -> bool:
    """Whether it begins with a dot, as `.DS_Store`, `._0.jpg` and `.ipynb_checkpoints` do."""
    return name.startswith(".")


def is_system(name: str) -> bool:
    """Whether an operating system or a file server made it."""
    return name.lower() in SYSTEM


def part_of(name: str) -> Part | None:
    """The split that a folder of this name holds, `Train`, `valid`, `test_set`, `val2017`; None for another name."""
    found = _SPLIT.fullmatch(name.strip().casefold())
    return _PART_OF[found[1]] if found else None


def resembles(name: str) -> set[Part]:
    """The splits that are words of a name: `my_train` and `test (copy)`."""
    return {_PART_OF[word] for word in re.split(r"[^a-z]+", name.casefold()) if word in _PART_OF}


def composed(name: str) -> str:
    """A name in Unicode's composed form (NFC): macOS writes `é` as two characters, others as one."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def order(below: str) -> tuple[tuple[str, ...], str]:
    """What paths (POSIX, below a folder) are sorted by, the same on every machine."""
    return tuple(composed(below).split("/")), below
