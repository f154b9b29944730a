"""The report: one HTML file that needs nothing else, made of what `boards.compose` says and of drawings.

Its page is `report.html.jinja` beside this file. Nothing is computed here that a board also says.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from leaderboards import courses, forests, needs, pictures, plots, report_rows
from leaderboards.answers import MARKS, Answer, answers, at_a_glance, scale
from leaderboards.arms import Arms
from leaderboards.assessments import older_recipes, tally, untestable
from leaderboards.board_texts import INDEX_INTRO
from leaderboards.boards import Content, compose
from leaderboards.cells import Cell, Link
from leaderboards.claims import Claim, arm_name
from leaderboards.courses import History
from leaderboards.curves import ABOUT
from leaderboards.drawing import STYLE, Drawing
from leaderboards.markdown import markdown
from leaderboards.outcomes import outcomes
from leaderboards.paired_arms import Difference, baseline_differences
from leaderboards.pictured import Roles
from leaderboards.reading import AT_MOST, HOW_TESTED, evidence, terms
from leaderboards.record_fields import TRUST, Record, entry
from leaderboards.suite import PROGRAM, Suite
from leaderboards.tables import EMPTY, Table, arranged
from leaderboards.verdicts import NOT_RUN

Pictures = Mapping[str, str]

_UNITS = {"min": 60.0, "h": 3600.0, "GB": 1024.0}  # as the page's script knows them, in seconds and MB
_CODED = re.compile(r"`([^`]+)`")  # words of a program in Markdown, as boards have them
FILE = "report.html"
PICTURE, VERDICTS = "efficiency.svg", "verdicts.svg"
CAPTIONS = {"detections": "Detections over ground truth", "ranking": "Re-ID ranking of queries"}
"""Artifacts of evaluations that people can look at."""


def data_uri(webp: bytes) -> str:
    """A WebP picture as an address that needs no file."""
    return "data:image/webp;base64," + base64.b64encode(webp).decode()


def everything(
    records: Sequence[Record],
    claims: Sequence[Claim],
    link: Link,
    suite: Suite,
    histories: Mapping[str, History] | None = None,
    artifacts: Mapping[str, Pictures] | None = None,
) -> dict[str, str]:
    """Every file of a folder of boards, by name: the Markdown boards, their pictures and the report.

    Arguments as `Arms`, `boards.compose` and `page` have them.
    """
    content = compose(Arms(records, suite), claims, link)
    return {
        **markdown(content, picture=PICTURE, verdicts=VERDICTS),
        PICTURE: pictures.sheet(content),
        VERDICTS: pictures.verdicts(content),
        FILE: page(content, histories, artifacts),
    }


def page(
    content: Content,
    histories: Mapping[str, History] | None = None,
    artifacts: Mapping[str, Pictures] | None = None,
) -> str:
    """The whole report as HTML.

    Args:
        content: what stands in the boards.
        histories: fingerprint -> lines of a training log that the record itself does not hold.
        artifacts: fingerprint -> name of an artifact -> data URI of its picture.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup, escape

    known, shown = content.known, answers(content.papers, content.needs)
    roles = Roles(content.claims, known.suite)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["coded"] = lambda said: Markup(_CODED.sub(r"<code>\1</code>", str(escape(said))))
    template = environment.from_string(files("leaderboards").joinpath("report.html.jinja").read_text(encoding="utf-8"))
    methods = sorted({str(record["method"]) for record in known.records})
    days = sorted(day for record in known.records if (day := str(entry(record, "provenance", "date") or "")))
    return template.render(
        style=Markup(STYLE),
        records=len(known.records),
        until=days[-1].replace("T", " ").replace("+00:00", " UTC") if days else "",
        empty=EMPTY,
        keyed=_keyed,
        program=PROGRAM,
        bibliography=dict(known.suite.bibliography),
        units=_UNITS,
        intro=INDEX_INTRO,
        terms=terms(older_recipes(content.assessments)),
        evidence=evidence(),
        error_rate=AT_MOST,
        how_tested=HOW_TESTED,
        sources=content.sources,
        overview=_view(Table("", [report_rows.summary(board) for board in content.evaluations])),
        assessments=content.assessments,
        answers=_answers(content, shown),
        learnt=content.learnt,
        again=lambda answer: report_rows.again(answer, known.suite),
        marks=plots.MARKS,
        efficiency=pictures.efficiency(content, roles),
        monitor_about=ABOUT,
        monitors=courses.monitors(content, roles),
        shared=courses.shared(content, histories or {}, roles),
        losses=courses.losses(content, histories or {}),
        contributions=pictures.contributions(content),
        differences={
            track: _differences(content, track, items)
            for track, items in baseline_differences(content.claims, known).items()
        },
        boards=[
            (board, [_view(part) for part in board.tables])
            for board in (*content.evaluations, content.pretext, content.efficiency)
        ],
        papers=content.papers,
        needs_intro=needs.INTRO,
        needs=_view(Table("", needs.rows(content.needs), needs.LIFTED)),
        tally=tally,
        untestable=untestable,
        trust=[(name, words) for name, words in TRUST.items()],
        methods=[_method(name, content, artifacts or {}) for name in methods],
    )


def _answers(content: Content, found: Mapping[str, Sequence[Answer]]) -> dict[str, Any]:
    """The first screen: each paper's answers with their drawings, on one axis."""
    limit = scale(answer for claims in found.values() for answer in claims)
    items = {item.claim.id: item for item in content.assessments}
    return {
        "axis": forests.axis(limit),
        "not_run": MARKS[NOT_RUN][1],
        "table": _view(Table("", [report_rows.claim(answer) for claims in found.values() for answer in claims])),
        "tested": any(answer.epochs or answer.compute for claims in found.values() for answer in claims),
        "outcomes": outcomes([answer for claims in found.values() for answer in claims]),
        "looks": MARKS,
        "card": " or ".join(dict.fromkeys(need.price.card for need in content.needs if need.price.card)),
        "papers": [
            (
                content.papers[paper][0].claim,
                at_a_glance(claims),
                [(answer, forests.forest(answer, limit), items[answer.claim.id]) for answer in claims],
            )
            for paper, claims in found.items()
            if claims
        ],
    }


# --------------------------------------------------------------------------------------------------------------- tables


def _view(table: Table) -> dict[str, Any]:
    """A table for the template."""
    shown = arranged(table)
    return {
        "title": table.title,
        "under": table.under,
        "above": shown.above,
        "heads": shown.heads,
        "rows": shown.rows,
        "silent": table.silent,
        "first": _view(Table("", table.first, under=table.under)) if table.first else None,
    }


def _keyed(cell: Cell) -> bool:
    """Whether the page's script would read another number in a cell's text than the one that it sorts by."""
    if cell.value is None:
        return False
    read = re.match(r"([+-]?\d+(?:\.\d+)?)(?: (\w+))?", re.sub(r"(?<=\d),(?=\d{3})", "", cell.text))
    return read is None or f"{float(read[1]) * _UNITS.get(read[2], 1.0):.10g}" != cell.key


def _differences(
    content: Content, track: str, every: Sequence[Difference]
) -> tuple[list[Drawing], dict[str, Any] | None, list[str]]:
    """The drawings of one track's differences, all as a table, and what is not compared, as the arms are unlike."""
    found = [item for item in every if not item.apart]
    unlike = [
        f"{item.ours.name} and {item.theirs.name} in {item.evaluation}: {'; '.join(item.apart)}"
        for item in every
        if item.apart
    ]
    drawn = pictures.differences(content, track, found) if found else []
    view = _view(Table("", [report_rows.difference(item) for item in found])) if found else None
    return drawn, view, list(dict.fromkeys(unlike))


# -------------------------------------------------------------------------------------------------------------- methods


def _method(name: str, content: Content, artifacts: Mapping[str, Pictures]) -> dict[str, Any]:
    """What the section of one method shows."""
    claimed_of = [item for item in content.assessments if item.claim.method == name]
    known = content.known
    shown = []  # the first seed of an arm that has pictures stands for it
    for kind in known.kinds:
        for arm in known.current(kind):
            if arm.method == name:
                shown += [r for _, r in sorted(arm.records.items()) if r["fingerprint"] in artifacts][:1]
    trained = [arm for arm in known.current("pretrain") if arm.method == name]
    return {
        "name": name,
        "papers": list(dict.fromkeys(item.claim.citation for item in claimed_of)),
        "trainings": _view(Table("", [report_rows.training(arm) for arm in trained])),
        "results": _view(Table("", [row for board in content.evaluations for row in report_rows.results(name, board)])),
        "claims": claimed_of,
        "pictures": [
            (
                uri,
                f"{CAPTIONS[what]}: {arm_name(name, record['variant'])}, {record['track']},"
                f" seed {record['seed']}; {entry(record, 'provenance', 'data', 'source') or '-'}",
            )
            for record in shown
            for what, uri in artifacts.get(record["fingerprint"], {}).items()
        ],
    }
