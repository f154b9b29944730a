"""The report: one HTML file that needs nothing else, made of what `boards.compose` says and of drawings.

Its page is `report.html.jinja` beside this file. Nothing is computed here that a board also says.
"""

from __future__ import annotations

import base64
from collections import defaultdict
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from leaderboards import needs, plots
from leaderboards.answers import Answer, answers, scale
from leaderboards.arms import Arm, Arms, called
from leaderboards.assessments import tally, untestable
from leaderboards.boards import INDEX_INTRO, Board, Content, compose
from leaderboards.cells import Cell, Link, Row, duration, linked, signed, spread, whole, whole_numbers, words
from leaderboards.claims import Claim, arm_name
from leaderboards.columns import trials
from leaderboards.curves import ABOUT
from leaderboards.drawing import STYLE, Drawing
from leaderboards.markdown import markdown
from leaderboards.paired_arms import Difference, baseline_differences, no_ratio
from leaderboards.reading import CLAIMS_INTRO
from leaderboards.record_fields import TRUST, Record, entry, number
from leaderboards.suite import Suite
from leaderboards.tables import EMPTY, Table, arranged

if TYPE_CHECKING:
    from markupsafe import Markup

History = Sequence[Mapping[str, Any]]
Pictures = Mapping[str, str]

# A line of a history may hold accuracies under these names; of the terms of a loss it holds one or more.
_ACCURACIES = ("split_top1", "top1")
_SPREADS = {
    "std_z": "std_z (1 = uniform)",
    "std_features": "std_features (1 = uniform)",
}

FILE = "report.html"
PICTURE = "efficiency.svg"
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
    pictures: Mapping[str, Pictures] | None = None,
) -> dict[str, str]:
    """Every file of a folder of boards, by name: the Markdown boards, their picture and the report.

    Arguments as `Arms`, `boards.compose` and `page` have them.
    """
    content = compose(Arms(records, suite), claims, link)
    return {
        **markdown(content, picture=PICTURE),
        PICTURE: plots.efficiency_sheet(content.paid),
        FILE: page(content, histories, pictures),
    }


def page(
    content: Content,
    histories: Mapping[str, History] | None = None,
    pictures: Mapping[str, Pictures] | None = None,
) -> str:
    """The whole report as HTML.

    Args:
        content: what stands in the boards.
        histories: fingerprint -> lines of a training log that the record itself does not hold.
        pictures: fingerprint -> name of an artifact -> data URI.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    known, groups, seen = content.known, content.paid, content.watched
    names = sorted({*plots.names(groups), *called(seen)})
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files("leaderboards").joinpath("report.html.jinja").read_text(encoding="utf-8"))
    methods = sorted({str(record["method"]) for record in known.records})
    days = sorted(day for record in known.records if (day := str(entry(record, "provenance", "date") or "")))
    return template.render(
        style=Markup(STYLE),
        records=len(known.records),
        until=days[-1].replace("T", " ").replace("+00:00", " UTC") if days else "",
        empty=EMPTY,
        intro=INDEX_INTRO,
        claims_intro=CLAIMS_INTRO,
        sources=content.sources,
        overview=_view(Table("", [_summary(board) for board in content.evaluations])),
        assessments=content.assessments,
        answers=_answers(content),
        efficiency=[
            (group.title, [_element(drawing) for drawing in drawings])
            for group in groups
            if (drawings := [d for cost in plots.prices(group) if (d := plots.efficiency(group, cost, names))])
        ],
        monitor_about=ABOUT,
        monitors=_monitors(seen, names),
        curves=_curves(known, histories or {}),
        differences={
            track: _differences(track, items) for track, items in baseline_differences(content.claims, known).items()
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
        methods=[_method(name, content, pictures or {}) for name in methods],
    )


def _answers(content: Content) -> list[tuple[str, str, list[tuple[Answer, Markup | str]]]]:
    """(paper, citation, (answer, drawing of its difference)) for the first screen; one axis for all drawings."""
    found = answers(content.papers, content.needs)
    limit = scale(answer for claims in found.values() for answer in claims)
    return [
        (
            paper,
            content.papers[paper][0].claim.citation,
            [(answer, _element(drawn) if (drawn := plots.forest(answer, limit)) else "") for answer in claims],
        )
        for paper, claims in found.items()
        if claims
    ]


def _element(drawing: Drawing) -> Markup:
    """A drawing as a part of the page."""
    from markupsafe import Markup

    return Markup(drawing.svg())


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


def _summary(board: Board) -> Row:
    """A board as a row of the overview."""
    return {
        "board": linked([(board.title, f"#board-{board.name}")]),
        "arms": whole(board.arms),
        "records": whole(board.records),
        "tracks": words(board.tracks),
    }


def _differences(track: str, every: Sequence[Difference]) -> tuple[Any, dict[str, Any] | None, list[str]]:
    """The drawing of one track's differences, the same as a table, and what is not compared, as the arms are unlike."""
    found = [item for item in every if not item.apart]
    unlike = [
        f"{item.ours.name} and {item.theirs.name} in {item.evaluation}: {'; '.join(item.apart)}"
        for item in every
        if item.apart
    ]
    if not found:
        return "", None, list(dict.fromkeys(unlike))
    drawing = plots.differences(f"{track}: methods against their claims' baselines", found)
    return _element(drawing), _view(Table("", [_difference(item) for item in found])), list(dict.fromkeys(unlike))


def _difference(item: Difference) -> Row:
    low, high = (signed(item.low), signed(item.high)) if item.mean else (None, None)
    return {
        "method": words(item.ours.name),
        "baseline": words(item.theirs.name),
        "evaluation": words(f"{item.evaluation} {item.metric}"),
        "network": words(item.ours.setting.network),
        "epochs": whole(item.ours.setting.epochs or None),
        "trials": trials(item.ours),
        "n": whole(len(item.seeds)),
        "difference": signed(item.mean.value if item.mean else next(iter(item.by_seed.values()))),
        "95 % interval": Cell(f"{low.text} to {high.text}", low.value) if low and high else Cell("none: one pair"),
    }


# --------------------------------------------------------------------------------------------------------------- curves


def _history(record: Record, logged: History) -> History:
    """What is known of the course of a job: lines that have an epoch each."""
    kept = entry(record, "details", "history")
    lines = kept if isinstance(kept, list) and kept else logged
    return [line for line in lines if isinstance(line, Mapping) and number(line, "epoch") is not None]


def _curves(known: Arms, histories: Mapping[str, History]) -> dict[str, list[list[Markup]]]:
    """Drawings by track, those of an arm together: loss, spread of what the network puts out, accuracy, as far as the
    histories go.
    """
    groups: dict[tuple[str, str, str, str], list[tuple[Record, History]]] = defaultdict(list)
    for kind in known.kinds:
        found = known.current(kind)
        for name, arm in zip(called(found), found, strict=True):
            for record in arm.records.values():
                if lines := _history(record, histories.get(record["fingerprint"], ())):
                    groups[arm.setting.track, name, kind, arm.setting.data].append((record, lines))
    drawn: dict[str, dict[str, list[Markup]]] = defaultdict(lambda: defaultdict(list))
    for (track, name, kind, data), members in sorted(groups.items(), key=lambda item: item[0]):
        members.sort(key=lambda member: (member[0]["seed"], member[0]["fingerprint"]))
        seeds = f"{len(members)} seeds" if len(members) > 1 else f"seed {members[0][0]['seed']}"
        for label, zero, read in _QUANTITIES:
            found_curves = [
                plots.Curve(f"seed {record['seed']}", points)
                for record, history in members
                if (points := _points(record, history, read))
            ]
            if found_curves:
                drawing = plots.curves(
                    f"{name}: {_job(kind, known.suite)}", f"{track}: {data}, {seeds}", label, found_curves, zero
                )
                drawn[track][name].append(_element(drawing))
    return {track: list(by_arm.values()) for track, by_arm in drawn.items()}


def _job(kind: str, suite: Suite) -> str:
    """A kind of record as it stands inside a sentence: `linear probe`, `k-NN`, `pre-training`."""
    title = suite.evaluations[kind].title if kind in suite.evaluations else "pre-training"
    return title if title[1:2].isupper() else title[:1].lower() + title[1:]


def _monitors(seen: Sequence[Arm], names: Sequence[str]) -> list[tuple[str, list[Markup]]]:
    """Drawings of the k-NN monitor by track and pictures, one for each thing that it can be held against.

    Device time is none of these where the arms had other devices or other parts of one.
    """
    groups: dict[tuple[object, ...], list[tuple[str, Arm]]] = defaultdict(list)
    for name, arm in zip(called(seen), seen, strict=True):
        groups[arm.setting.scope].append((name, arm))
    drawn = []
    for found in groups.values():
        first = found[0][1]
        timed = not any(no_ratio(first, arm) for _, arm in found)
        axes = [axis for axis in plots.MONITOR_AXES if axis != "device_s" or timed]
        where = first.setting.words
        panels = [plots.monitor("k-NN monitor, no test score", where, axis, found, names) for axis in axes]
        drawn.append((where, [_element(panel) for panel in panels]))
    return drawn


def _points(record: Record, history: History, read: Any) -> list[tuple[float, float]]:
    """(epochs done, value) of each line of a history that has the value.

    A log of a pre-training counts updates, many an epoch; where it does not, a line stands for a whole epoch.
    """
    epochs = number(entry(record, "details", "recipe", "pretrain"), "epochs")
    updates = number(record.get("cost"), "updates")
    points = []
    for line in history:
        value, done = read(line), number(line, "updates")
        if value is not None:
            share = epochs / updates if epochs and updates else 0.0
            points.append((done * share if done is not None and share else float(line["epoch"]), value))
    return points


def _loss(line: Mapping[str, Any]) -> float | None:
    terms = [value for key in line if key.startswith("loss") and (value := number(line, key)) is not None]
    return sum(terms) if terms else None


def _first(line: Mapping[str, Any], names: Sequence[str]) -> float | None:
    return next((value for name in names if (value := number(line, name)) is not None), None)


_QUANTITIES: tuple[tuple[str, bool, Any], ...] = (
    ("training loss", False, _loss),
    *((label, True, lambda line, name=name: number(line, name)) for name, label in _SPREADS.items()),
    ("held-out accuracy (%)", False, lambda line: _first(line, _ACCURACIES)),
)


# -------------------------------------------------------------------------------------------------------------- methods


def _method(name: str, content: Content, pictures: Mapping[str, Pictures]) -> dict[str, Any]:
    """What the section of one method shows."""
    claimed_of = [item for item in content.assessments if item.claim.method == name]
    known = content.known
    shown = []  # the first seed of an arm that has pictures stands for it
    for kind in known.kinds:
        for arm in known.current(kind):
            if arm.method == name:
                shown += [r for _, r in sorted(arm.records.items()) if r["fingerprint"] in pictures][:1]
    trained = [arm for arm in known.current("pretrain") if arm.method == name]
    return {
        "name": name,
        "papers": list(dict.fromkeys(item.claim.citation for item in claimed_of)),
        "trainings": _view(Table("", [_training(arm) for arm in trained])),
        "results": _view(Table("", [row for board in content.evaluations for row in _results(name, board)])),
        "claims": claimed_of,
        "pictures": [
            (
                uri,
                f"{CAPTIONS[what]}: {arm_name(name, record['variant'])}, {record['track']},"
                f" seed {record['seed']}; {entry(record, 'provenance', 'data', 'source') or '-'}",
            )
            for record in shown
            for what, uri in pictures.get(record["fingerprint"], {}).items()
        ],
    }


def _training(arm: Arm) -> Row:
    """What was trained, how it ended."""
    collapsed = [entry(record, "details", "collapsed_at_update") is not None for record in arm.records.values()]
    size = number(next(iter(arm.records.values())).get("details"), "encoder_parameters")
    millions = f"{size / 1e6:.2f}" if size else ""
    return {
        "method": words(arm.name),
        "which": words(arm.told_apart or "-"),
        "tracks": words(arm.setting.track),
        "network": words(arm.setting.network),
        "parameters": Cell(f"{millions} M", float(millions)) if millions else Cell("-"),
        "epochs": whole(arm.setting.epochs),
        "batch": whole(arm.setting.batch),
        "seeds": whole_numbers(sorted(arm.records)),
        "last spread": spread(arm.values("final_std_z").values()),
        "collapsed": Cell(f"{sum(collapsed)} of {len(collapsed)}", sum(collapsed)) if any(collapsed) else Cell("-"),
        "device time": duration(arm.costs("device_s").values()),
    }


def _results(name: str, board: Board) -> list[Row]:
    """The rows of one method on one board, its numbers as words of one column, so that boards can follow each other."""
    return [
        {
            "board": words(board.title),
            "result": words(", ".join(f"{metric} {row[metric].text}" for metric in board.metrics)),
            "tracks": words(part.setting.track),
            **{key: row[key] for key in ("variant", "which", "trust", "network", "epochs", "n", "from")},
            "where": words(part.setting.place),
        }
        for part in board.tables
        if part.setting
        for row in part.rows
        if row["method"].text == name
    ]
