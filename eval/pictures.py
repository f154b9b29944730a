"""Drawings of an evaluation, beside its metrics: what a detector found, and how a gallery was ranked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from eval.data import Features, Identified, Ids, Pixels
from eval.decoding import read
from eval.deep_pixels import Reach

RGB = tuple[int, int, int]
Box = tuple[float, float, float, float]  # x, y, width, height

INK, WHITE = (40, 40, 40), (255, 255, 255)
# Colour-blind safe (Okabe and Ito): what the detector says, what is true.
FOUND, TRUE = (213, 94, 0), (0, 176, 255)
RIGHT, WRONG = (0, 140, 70), (200, 40, 40)
CERTAIN, MOST, UNCERTAIN = 0.3, 8, 3
SIDE, MARGIN, TITLE, LEGEND = 540, 5, 26, 34  # pixels: longest side of a drawn picture, what is round it


def draw_detections(
    files: Sequence[Path],
    truths: Sequence[Sequence[Mapping[str, Any]]],
    detections: Sequence[Sequence[Mapping[str, Any]]],
    names: Mapping[int, str],
    path: Path,
    *,
    reach: Reach | None = None,
) -> None:
    """Write a PNG: each picture with its true boxes dashed and its detections in full, masks filled, with scores.

    truths, detections: for each picture entries of COCO's annotation and results formats (masks, where there are some,
    as run lengths);
    names: by category id. Shown are at most `MOST` detections, those with a score of `CERTAIN` or more; where there
    are none, the best ones, as many as there are objects but no more than `UNCERTAIN`. reach: as of `decoding.read`.
    """
    panels = []
    for file, truth, found in zip(files, truths, detections, strict=True):
        drawn = _detected(read(file, str(file), reach), truth, found, names)
        best = max((entry["score"] for entry in found), default=None)
        best_score = "" if best is None else f", best score {best:.2f}"
        panels.append((drawn, f"{file.name}: {len(truth)} true, {len(found)} found{best_score}"))
    wide, tallest = SIDE + 2 * MARGIN, max(drawn.height for drawn, _ in panels)
    sheet = Image.new("RGB", (wide * len(panels), TITLE + tallest + LEGEND), WHITE)
    title = ImageFont.load_default(15)
    for number, (drawn, words) in enumerate(panels):
        panel = Image.new("RGB", (wide, TITLE + drawn.height), WHITE)  # of its own, so that a long title ends with it
        panel.paste(drawn, ((wide - drawn.width) // 2, TITLE))
        draw = ImageDraw.Draw(panel)
        draw.text((max(MARGIN, (wide - draw.textlength(words, title)) / 2), 3), words, fill=INK, font=title)
        sheet.paste(panel, (number * wide, (tallest - drawn.height) // 2))
    _legend(sheet)
    sheet.save(path)


def _detected(
    picture: Image.Image,
    truth: Sequence[Mapping[str, Any]],
    found: Sequence[Mapping[str, Any]],
    names: Mapping[int, str],
) -> Image.Image:
    """The picture, scaled to `SIDE`, with its boxes, masks and labels."""
    from pycocotools import mask as coding

    scale = SIDE / max(picture.size)
    picture = picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture, "RGBA")
    best = sorted(found, key=lambda entry: -entry["score"])[:MOST]
    shown = [entry for entry in best if entry["score"] >= CERTAIN] or best[: min(UNCERTAIN, len(truth))]
    for entry in truth:
        corners = _corners(entry["bbox"], scale)
        draw.rectangle(corners, outline=(0, 0, 0, 150), width=5)
        _dashed(draw, corners)
    for entry in reversed(shown):  # the best on top
        if "segmentation" in entry:
            mask = Image.fromarray(coding.decode(entry["segmentation"]) * np.uint8(102))
            picture.paste(FOUND, (0, 0), mask.resize(picture.size))
        draw.rectangle(_corners(entry["bbox"], scale), outline=FOUND, width=3)
    taken: list[Box] = []
    for entry in shown:
        x, y, width, height = (scale * value for value in entry["bbox"])
        words = f"{names[entry['category_id']]} {entry['score']:.2f}"
        taken.append(_label(draw, words, (x, y, width, height), picture.size, taken))
    return picture


def _corners(box: Sequence[float], scale: float) -> tuple[float, float, float, float]:
    """Left, top, right and bottom, in pixels of the drawing."""
    x, y, width, height = (scale * value for value in box)
    return x, y, x + width, y + height


def _dashed(draw: ImageDraw.ImageDraw, corners: tuple[float, float, float, float], on: int = 10, off: int = 7) -> None:
    left, top, right, bottom = corners
    for start in np.arange(left, right, on + off):
        for y in (top + 1, bottom - 1):
            draw.line((start, y, min(start + on, right), y), fill=TRUE, width=3)
    for start in np.arange(top, bottom, on + off):
        for x in (left + 1, right - 1):
            draw.line((x, start, x, min(start + on, bottom)), fill=TRUE, width=3)


def _label(
    draw: ImageDraw.ImageDraw, words: str, box: Box, size: tuple[int, int], taken: Sequence[Box]
) -> tuple[float, float, float, float]:
    """Write a label at a corner of its box: inside the picture, and where there is room not over those before it.

    Returns the box of the label.
    """
    font, pad = ImageFont.load_default(14), 3
    left, top, right, bottom = draw.textbbox((0, 0), words, font=font)
    wide, high = right - left + 2 * pad, bottom - top + 2 * pad
    x, y, width, height = box
    corners = [(x, y - high), (x, y), (x, y + height - high), (x, y + height), (x + width - wide, y)]
    spots = [(min(max(a, 0), size[0] - wide), min(max(b, 0), size[1] - high)) for a, b in corners]
    covered = [
        sum(max(0, wide - abs(a - other[0])) * max(0, high - abs(b - other[1])) for other in taken) for a, b in spots
    ]
    a, b = spots[covered.index(min(covered))]
    draw.rectangle((a, b, a + wide, b + high), fill=FOUND)
    draw.text((a + pad - left, b + pad - top), words, fill=WHITE, font=font)
    return a, b, wide, high


def _legend(sheet: Image.Image) -> None:
    """What the two kinds of boxes mean, in the middle of the foot of the sheet."""
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(17)
    line, gap, words = 36, 8, ("detected (score)", "ground truth")
    lengths = [draw.textlength(text, font) for text in words]
    x, y = (sheet.width - sum(lengths) - 2 * (line + gap) - 3 * gap) / 2, sheet.height - LEGEND / 2
    draw.line((x, y, x + line, y), fill=FOUND, width=3)
    draw.text((x + line + gap, y), words[0], fill=INK, font=font, anchor="lm")
    x += line + lengths[0] + 4 * gap
    for start in range(0, line, 14):
        draw.line((x + start, y, x + start + 8, y), fill=TRUE, width=3)
    draw.text((x + line + gap, y), words[1], fill=INK, font=font, anchor="lm")


@dataclass(frozen=True)
class Ranking:
    """What is shown of one query: `nearest` and `first` (right answer) are gallery indices, junk left out."""

    query: int
    nearest: Ids
    first: int
    rank: int  # of `first`, from 1
    right: Ids  # gallery indices, all of them
    similarity: Features  # of `nearest`, then of `first`


def draw_rankings(
    rankings: Sequence[Ranking], query: Identified[Pixels], gallery: Identified[Pixels], path: Path
) -> None:
    """Write a PNG: a row a query, with its nearest pictures, and at the end its first right one if that is not there.

    Pictures are drawn as the network gets them. A green frame and + mean the same identity, a red frame and x another;
    under each picture stands its similarity: cosine, or minus the squared or the re-ranked distance.
    """
    wide, gap, text, head, font = 96, 10, 30, 26, ImageFont.load_default(12)
    high = round(wide * min(max(query.x.shape[2] / query.x.shape[3], 0.5), 2))
    left, columns = gap + wide + 3 * gap, max(len(ranking.nearest) for ranking in rankings)
    last = left + columns * (wide + gap) + 2 * gap
    width = max(last + wide + gap, left + 720)
    sheet = Image.new("RGB", (width, head + (high + text + gap) * len(rankings) + gap), WHITE)
    draw = ImageDraw.Draw(sheet)

    def place(pixels: Pixels, x: int, y: int, colour: RGB, caption: str) -> None:
        picture = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
        scale = min((wide - 8) / picture.width, (high - 8) / picture.height)
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        picture = picture.resize(size, Image.Resampling.BICUBIC)
        sheet.paste(picture, (x + (wide - picture.width) // 2, y + (high - picture.height) // 2))
        draw.rectangle((x, y, x + wide - 1, y + high - 1), outline=colour, width=3)
        draw.text((x, y + high + 1), caption, fill=colour, font=font, spacing=1)

    at = left
    draw.text((gap, 6), "query", fill=INK, font=font)
    for words, colour in (
        ("nearest gallery images:", INK),
        ("green + = same identity", RIGHT),
        ("red x = another", WRONG),
        ("(junk and the query's identity by its own camera left out)", INK),
    ):
        draw.text((at, 6), words, fill=colour, font=font)
        at += round(draw.textlength(words, font=font)) + 16
    if any(ranking.first not in ranking.nearest for ranking in rankings):
        draw.text((last, 6), "first right one", fill=RIGHT, font=font)
    for number, ranking in enumerate(rankings):
        i, y = ranking.query, head + number * (high + text + gap)
        caption = f"id {query.pid[i]}, cam {query.cam[i]}\nfirst right: rank {ranking.rank}"
        place(query.x[i], gap, y, INK, caption)
        for column, (j, similarity) in enumerate(zip(ranking.nearest, ranking.similarity[:-1], strict=True)):
            colour, sign = (RIGHT, "+") if j in ranking.right else (WRONG, "x")
            caption = f"{sign} {similarity:.3f}  cam {gallery.cam[j]}"
            place(gallery.x[j], left + column * (wide + gap), y, colour, caption)
        if ranking.first not in ranking.nearest:
            caption = f"+ {ranking.similarity[-1]:.3f}  cam {gallery.cam[ranking.first]}\nrank {ranking.rank}"
            place(gallery.x[ranking.first], last, y, RIGHT, caption)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
