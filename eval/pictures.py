"""Drawings that an evaluation leaves beside its metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

# Colour-blind safe (Okabe and Ito): what the detector says, what is true.
FOUND, TRUE = "#d55e00", "#00b0ff"
CERTAIN, MOST, UNCERTAIN = 0.3, 8, 3


def draw_detections(
    files: Sequence[Path],
    truths: Sequence[Sequence[Mapping[str, Any]]],
    detections: Sequence[Sequence[Mapping[str, Any]]],
    names: Mapping[int, str],
    path: Path,
) -> None:
    """Write a PNG: each picture with its true boxes dashed and its detections in full, masks filled, with scores.

    truths, detections: for each picture entries of COCO's annotation and results formats (masks as run lengths);
    names: by category id. Shown are at most `MOST` detections, those with a score of `CERTAIN` or more; where there
    are none, the best ones, as many as there are objects but no more than `UNCERTAIN`.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Rectangle
    from pycocotools import mask as coding

    figure = Figure(figsize=(5.5 * len(files), 6.2), layout="constrained")
    panels = figure.subplots(1, len(files), squeeze=False)[0]
    outline: dict[str, Any] = {"fill": False, "color": (0.0, 0.0, 0.0, 0.6), "linewidth": 3.5}
    dashed: dict[str, Any] = {"fill": False, "color": TRUE, "linewidth": 1.8, "linestyle": (0, (4, 3))}
    for axes, file, truth, found in zip(panels, files, truths, detections, strict=True):
        with Image.open(file) as picture:
            axes.imshow(picture.convert("RGB"))
        best = sorted(found, key=lambda entry: -entry["score"])[:MOST]
        shown = [entry for entry in best if entry["score"] >= CERTAIN] or best[: min(UNCERTAIN, len(truth))]
        for entry in truth:
            x, y, width, height = entry["bbox"]
            axes.add_patch(Rectangle((x, y), width, height, **outline))
            axes.add_patch(Rectangle((x, y), width, height, **dashed))
        for entry in reversed(shown):  # the best on top
            x, y, width, height = entry["bbox"]
            mask = coding.decode(entry["segmentation"]).astype(bool)
            tint = np.zeros((*mask.shape, 4))
            tint[mask] = (*(int(FOUND[i : i + 2], 16) / 255 for i in (1, 3, 5)), 0.4)
            axes.imshow(tint)
            axes.add_patch(Rectangle((x, y), width, height, fill=False, color=FOUND, linewidth=1.8))
            label = f"{names[entry['category_id']]} {entry['score']:.2f}"
            box = {"facecolor": FOUND, "edgecolor": "none", "pad": 1.5}
            axes.text(x, y, label, color="white", fontsize=11, bbox=box, verticalalignment="bottom", clip_on=True)
        best_score = f", best score {best[0]['score']:.2f}" if best else ""
        axes.set_title(f"{file.name}: {len(truth)} true, {len(found)} found{best_score}", fontsize=11)
        axes.set_axis_off()
    lines = [Line2D([], [], color=FOUND, linewidth=2), Line2D([], [], color=TRUE, linewidth=2, linestyle=(0, (4, 3)))]
    figure.legend(lines, ["detected (score)", "ground truth"], loc="outside lower center", ncols=2, fontsize=12)
    figure.savefig(path, dpi=80)
