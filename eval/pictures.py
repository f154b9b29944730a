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
DPI = 100


def draw_detections(
    files: Sequence[Path],
    truths: Sequence[Sequence[Mapping[str, Any]]],
    detections: Sequence[Sequence[Mapping[str, Any]]],
    names: Mapping[int, str],
    path: Path,
) -> None:
    """Write a PNG: each picture with its true boxes dashed and its detections in full, masks filled, with scores.

    truths, detections: for each picture entries of COCO's annotation and results formats (masks, where there are some,
    as run lengths);
    names: by category id. Shown are at most `MOST` detections, those with a score of `CERTAIN` or more; where there
    are none, the best ones, as many as there are objects but no more than `UNCERTAIN`.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Rectangle
    from pycocotools import mask as coding

    pictures = []
    for file in files:
        with Image.open(file) as picture:
            pictures.append(picture.convert("RGB"))
    tallest = min(1.0, max(picture.height / picture.width for picture in pictures))
    figure = Figure(figsize=(5.5 * len(files), 5.5 * tallest + 0.9), layout="constrained")
    panels = figure.subplots(1, len(files), squeeze=False)[0]
    outline: dict[str, Any] = {"fill": False, "color": (0.0, 0.0, 0.0, 0.6), "linewidth": 3.5}
    dashed: dict[str, Any] = {"fill": False, "color": TRUE, "linewidth": 1.8, "linestyle": (0, (4, 3))}
    labels: list[tuple[Any, list[Mapping[str, Any]]]] = []
    for axes, file, image, truth, found in zip(panels, files, pictures, truths, detections, strict=True):
        axes.imshow(image)
        best = sorted(found, key=lambda entry: -entry["score"])[:MOST]
        shown = [entry for entry in best if entry["score"] >= CERTAIN] or best[: min(UNCERTAIN, len(truth))]
        for entry in truth:
            x, y, width, height = entry["bbox"]
            axes.add_patch(Rectangle((x, y), width, height, **outline))
            axes.add_patch(Rectangle((x, y), width, height, **dashed))
        for entry in reversed(shown):  # the best on top
            x, y, width, height = entry["bbox"]
            if "segmentation" in entry:
                mask = coding.decode(entry["segmentation"]).astype(bool)
                tint = np.zeros((*mask.shape, 4))
                tint[mask] = (*(int(FOUND[i : i + 2], 16) / 255 for i in (1, 3, 5)), 0.4)
                axes.imshow(tint)
            axes.add_patch(Rectangle((x, y), width, height, fill=False, color=FOUND, linewidth=1.8))
        labels.append((axes, shown))
        best_score = f", best score {best[0]['score']:.2f}" if best else ""
        axes.set_title(f"{file.name}: {len(truth)} true, {len(found)} found{best_score}", fontsize=11)
        axes.set_axis_off()
    lines = [Line2D([], [], color=FOUND, linewidth=2), Line2D([], [], color=TRUE, linewidth=2, linestyle=(0, (4, 3)))]
    figure.legend(lines, ["detected (score)", "ground truth"], loc="outside lower center", ncols=2, fontsize=12)
    figure.draw_without_rendering()  # settles where the panels are
    figure.set_layout_engine("none")
    for axes, shown in labels:
        _label(axes, [(f"{names[entry['category_id']]} {entry['score']:.2f}", entry["bbox"]) for entry in shown])
    figure.savefig(path, dpi=DPI)


def _label(axes: Any, texts: Sequence[tuple[str, Sequence[float]]]) -> None:
    """Write labels at corners of their boxes: inside the picture, and where there is room not over each other."""
    style = {"facecolor": FOUND, "edgecolor": "none", "pad": 1.5}
    right, bottom = axes.get_xlim()[1], axes.get_ylim()[0]
    taken: list[tuple[float, float, float, float]] = []
    for text, (x, y, width, height) in texts:
        label = axes.text(0, 0, text, color="white", fontsize=10, bbox=style, verticalalignment="top")
        extent = label.get_window_extent().transformed(axes.transData.inverted())
        wide, high = extent.width * 1.06, abs(extent.height) * 1.25
        corners = [(x, y - high), (x, y), (x, y + height - high), (x, y + height), (x + width - wide, y)]
        spots = [(min(max(a, 0), right - wide), min(max(b, 0), bottom - high)) for a, b in corners]
        covered = [
            sum(max(0, wide - abs(a - left)) * max(0, high - abs(b - top)) for left, top, wide, high in taken)
            for a, b in spots
        ]
        left, top = spots[covered.index(min(covered))]
        taken.append((left, top, wide, high))
        label.set_position((left, top))
