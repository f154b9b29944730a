"""Forest plots: a difference and its interval a row, against 0."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from leaderboards.answers import Answer, Said, many, scale
from leaderboards.cells import signed
from leaderboards.drawing import CHARACTER, HOLLOW, Drawing, mark, text_at

_WIDE, _THIN = 190, 22  # pixels of one line of the drawing of one claim
_EDGE = 14  # pixels from the end of the axis to the edge of the drawing
_CIRCLE, _SQUARE, _UP, _DOWN = 0, 1, 2, 4  # marks of both bases, and of both in the paper's own form
_BASES = {
    _CIRCLE: "",
    _SQUARE: "equal compute: ",
    _UP: "the paper's own form: ",
    _DOWN: "the paper's own form, equal compute: ",
}


def forest(answer: Answer, limit: float) -> Drawing | None:
    """One claim's mean differences and 95 % intervals against 0, and against what the paper states.

    Equal epochs is a line with a circle; equal compute, where it took other runs, one below it with a square. The mark
    of a single pair is hollow and has no interval. What lies beyond the axis is an arrow at its end. None without a
    difference in points or AP at equal epochs.

    limit: points or AP from 0 to either end of the axis.
    """
    if answer.mean is None:
        return None
    lines = [(said, _CIRCLE if said is answer.epochs else _SQUARE) for said in answer.drawn]
    return _lines(answer, lines, _Across(limit, _WIDE))


def _lines(answer: Answer, lines: Sequence[tuple[Said, int]], across: _Across) -> Drawing:
    """These differences below each other, each with its mark."""
    height = _THIN * len(lines)
    drawn = [f'<line class="axis" x1="{across.at(0):.1f}" x2="{across.at(0):.1f}" y1="0" y2="{height}"/>']
    words = []
    for row, (said, style) in enumerate(lines):
        drawn += _line(said, answer.unit, across, _THIN * (row + 0.5), style)
        between = f", interval {' to '.join(signed(end, 1).text for end in said.interval)}" if said.interval else ""
        words.append(f"{_BASES[style]}{signed(said.mean or 0.0, 1).text} {answer.unit}{between}")
        if said is answer.epochs and answer.claimed is not None:
            drawn.append(f'<path class="line axis" d="M{across.at(answer.claimed):.1f} 2l5 9l-5 9l-5 -9z"/>')
            words.append(f"the paper states {answer.claimed:+g}")
    return Drawing(across.width, height, "\n".join(drawn), "; ".join(words))


def _line(said: Said, unit: str, across: _Across, y: float, style: int) -> list[str]:
    """The grid, the interval and the mean of one basis."""
    mean, between = said.mean or 0.0, said.interval
    drawn = [f'<line class="grid" x1="{_EDGE}" x2="{across.width - _EDGE}" y1="{y:g}" y2="{y:g}"/>']
    note = f"{_BASES[style]}{signed(mean).text} {unit}, one pair"
    if between:
        low, high = (across.at(end) for end in between)
        drawn.append(f'<path class="line thick k{style}" d="M{low:.1f} {y:g}H{high:.1f}"/>')
        ends = " to ".join(signed(end).text for end in between)
        note = f"{_BASES[style]}{signed(mean).text} {unit}, 95 % interval (fixed n) {ends}"
    for side in sorted({math.copysign(1, end) for end in (*(between or ()), mean) if abs(end) > across.limit}):
        tip = f"M{across.at(side * across.limit) - 5 * side:.1f} {y - 4:g}l{5 * side:g} 4l{-5 * side:g} 4"
        drawn.append(f'<path class="line thick k{style}" d="{tip}"><title>{note}</title></path>')
    if abs(mean) <= across.limit:
        drawn.append(mark(across.at(mean), y, style if between else style + HOLLOW, note))
    return drawn


def axis(limit: float, width: float = _WIDE) -> Drawing:
    """The numbers of the axis that these drawings share, to stand above or below them."""
    across = _Across(limit, width)
    parts = 4 if width > _WIDE else 2
    ends = [(2 * n / parts - 1) * limit for n in range(parts + 1)]
    drawn = "".join(text_at(across.at(end), 13, f"{end:+g}" if end else "0", "soft", "middle") for end in ends)
    return Drawing(width, 16, drawn, f"axis from {-limit:+g} to {limit:+g}")


@dataclass(frozen=True)
class _Across:
    """The axis of these drawings: from -limit to limit, in so many pixels."""

    limit: float
    width: float

    def at(self, value: float) -> float:
        """Where a difference lies, in pixels; the end of the axis for what is beyond."""
        return self.width / 2 + max(-1.0, min(1.0, value / self.limit)) * (self.width / 2 - _EDGE)


_PLOT = 330  # pixels of the axis of the picture of verdicts
_PAPER, _FIRST = 24, 61  # pixels of the name of a paper, and of the explanation on top
_LETTER = 0.95 * CHARACTER  # pixels of a letter: a line of words is nearer to the average


def verdicts(papers: Mapping[str, Sequence[Answer]]) -> Drawing | None:
    """The comparisons of accuracy with two pairs or more on one axis: what was tested, the difference, the verdict.

    Where our recipe departs from the paper's own form, that has lines of its own. None without any.

    papers: what a paper calls its method -> its claims.
    """
    shown = {name: [answer for answer in found if answer.interval] for name, found in papers.items()}
    every = [answer for found in shown.values() for answer in found]
    if not every:
        return None
    tracks = {answer.where for answer in every}
    titles = {answer.claim.id: ", ".join(_title(answer, tracks)) for answer in every}
    lines = {answer.claim.id: _explained(answer) for answer in every}
    left = 24 + _LETTER * max(map(len, titles.values()))
    right = 16 + _LETTER * max(len(words) for found in lines.values() for _, _, words in found)
    across = _Across(scale(every), _PLOT)
    top, parts = float(_FIRST), list[str]()
    for name, found in shown.items():
        if not found:
            continue
        parts.append(text_at(4, top + 16, name, "bold"))
        top += _PAPER
        for answer in found:
            parts.append(text_at(16, top + _THIN / 2 + 4, titles[answer.claim.id]))
            drawn = _lines(answer, [(said, style) for said, style, _ in lines[answer.claim.id]], across)
            parts.append(drawn.svg((left, top)))
            for number, (said, _, words) in enumerate(lines[answer.claim.id]):
                kind = "" if said.verdict and said.verdict.decided else "soft"
                parts.append(text_at(left + _PLOT + 8, top + _THIN * (number + 0.5) + 4, words, kind))
            top += drawn.height
    on = f" on {next(iter(tracks))}" if len(tracks) == 1 else ""
    explained = [
        f"Difference in points or AP{on}, with its 95 % interval; right of 0 the method is better than its baseline.",
        "● equal epochs; ■ equal compute, if it needed separate runs; ▲ and ▼ the same with the paper's own settings.",
        "◇ the gain that the paper states, for its own data and network; arrow: the interval is longer than the axis.",
    ]
    head = [text_at(4, 14 + 17 * number, line, "soft") for number, line in enumerate(explained)]
    ends = axis(across.limit, _PLOT)
    about = f"{many(len(every))}: difference at equal epochs and at equal compute, with 95 % intervals"
    body = "\n".join([*head, *parts, ends.svg((left, top + 2))])
    width = max(left + _PLOT + right, _LETTER * max(map(len, explained)))
    return Drawing(round(width), top + 2 + ends.height, body, about)


def _title(answer: Answer, tracks: set[str]) -> list[str]:
    return [part for part in (answer.title, answer.evaluation, answer.where if len(tracks) > 1 else "") if part]


def _explained(answer: Answer) -> list[tuple[Said, int, str]]:
    """The lines of a claim in that picture: what is drawn, with which mark, and the verdict beside it."""
    lines = []
    for said in answer.drawn:
        also = said is answer.epochs and answer.compute is not None and bool(answer.compute.same_runs)
        basis = "" if said is answer.epochs else "equal compute: "
        words = f"{basis}{said.word} {said.amount}" + ", the same runs at equal compute" * also
        lines.append((said, _CIRCLE if said is answer.epochs else _SQUARE, words))
    own = answer.claim.form_name.removeprefix("the ")
    shown = False  # whether a line at equal epochs names the form
    for style, basis, beside in ((_UP, "", answer.beside), (_DOWN, ", equal compute", answer.beside_compute)):
        for other in beside:
            if other.form and other.said.interval and not other.said.same_runs:
                head = "same" if basis and shown else own
                shown = shown or not basis
                lines.append((other.said, style, f"{head}{basis}: {other.said.word} {other.said.amount}"))
    return lines
