"""Checks that the libraries that jobs need are the real ones: a file `torch.py` on PYTHONPATH would hide torch."""

from __future__ import annotations

from repro.errors import UserError
from slurm import shadows

LIBRARIES = (
    *("numpy", "torch", "torchvision", "mmengine", "mmcv", "mmdet", "mmpretrain", "PIL", "pandas", "scipy"),
    *("submitit", "psutil", "msgspec", "rich", "jinja2", "pycocotools", "faster_coco_eval", "mlxtend", "packaging"),
    *("tabulate", "yaml"),
)


def require_real() -> None:
    """Raises UserError naming a file that would be imported in place of a library."""
    if file := shadows.hidden(LIBRARIES):
        raise UserError(shadows.line(file))
