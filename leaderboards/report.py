"""The report: one HTML file that needs nothing else, made of what `boards.compose` says and of drawings.

Its page is `report.html.jinja` beside this file. Nothing is computed here that a board also says; sorting in the page
goes by the cells' own words.
"""

from __future__ import annotations

import base64
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from leaderboards import plots
from leaderboards.arms import TRUST, Arm, Protocols, Record, arms, called, entry, named, number
from leaderboards.assessments import CLAIMS_INTRO, Assessment, outcome, tally
from leaderboards.boards import (
    EMPTY,
    INDEX_INTRO,
    TITLES,
    Board,
    Content,
    Link,
    Marks,
    Row,
    Table,
    arranged,
    compose,
    duration,
    left_aligned,
    markdown,
    overview,
    paid,
    scope,
    spread,
)
from leaderboards.claims import Claim, arm_name
from leaderboards.curves import ABOUT, watched
from leaderboards.pairs import Difference, claimed, no_ratio

History = Sequence[Mapping[str, Any]]
Pictures = Mapping[str, str]

# A line of a history may hold accuracies under these names; of the terms of a loss it holds one or more.
_ACCURACIES = ("split_top1", "top1")
_SPREADS = {
    "std_z": "std_z (1 = uniform)",
    "std_features": "std_features (1 = uniform)",
}
_UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0, "MB": 1.0, "GB": 1024.0}


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
    histories: Mapping[str, History] | None = None,
    pictures: Mapping[str, Pictures] | None = None,
    protocols: Protocols | None = None,
) -> dict[str, str]:
    """Every file of a folder of boards, by name: the Markdown boards, their picture and the report.

    Arguments as `boards.compose` and `page` have them.  protocols: see `arms.named`.
    """
    records = named(records, protocols or {})
    content = compose(records, claims, link)
    return {
        **markdown(content, picture=PICTURE),
        PICTURE: plots.efficiency_sheet(records),
        FILE: page(content, records, claims, histories, pictures),
    }


def page(
    content: Content,
    records: Sequence[Record],
    claims: Sequence[Claim],
    histories: Mapping[str, History] | None = None,
    pictures: Mapping[str, Pictures] | None = None,
) -> str:
    """The whole report as HTML.

    Args:
        content: what stands in the boards of these records.
        records: plain dicts of all kinds.
        claims: those that `content` was made with.
        histories: fingerprint -> lines of a training log that the record itself does not hold.
        pictures: fingerprint -> name of an artifact -> data URI.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    found = [_history(record, (histories or {}).get(record["fingerprint"], ())) for record in records]
    drawn = _curves(records, [(record, lines) for record, lines in zip(records, found, strict=True) if lines])
    pairs, groups = claimed(claims, records), paid(records)
    seen = watched(records)
    known = sorted({*plots.names(groups), *called(seen)})
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files("leaderboards").joinpath("report.html.jinja").read_text(encoding="utf-8"))
    days = sorted(day for record in records if (day := str(entry(record, "provenance", "date") or "")))
    return template.render(
        style=Markup(plots.STYLE),
        records=len(records),
        until=days[-1].replace("T", " ").replace("+00:00", " UTC") if days else "",
        empty=EMPTY,
        intro=INDEX_INTRO,
        claims_intro=CLAIMS_INTRO,
        sources=content.sources,
        overview=_view(
            Table(
                "",
                [
                    {
                        "board": Marks(((board.title, f"#board-{board.name}"),)),
                        "arms": count,
                        "records": held,
                        "tracks": at,
                    }
                    for board, count, held, at in overview(content)
                ],
            )
        ),
        assessments=content.assessments,
        efficiency=[
            (group.title, svgs)
            for group in groups
            if (svgs := [Markup(svg) for cost in plots.prices(group) if (svg := plots.efficiency(group, cost, known))])
        ],
        monitor_about=ABOUT,
        monitors=_monitors(seen, known),
        curves={track: [[Markup(svg) for svg in svgs] for svgs in by_arm.values()] for track, by_arm in drawn.items()},
        differences={track: _differences(track, items) for track, items in pairs.items()},
        boards=[
            (board, [_view(part) for part in board.tables])
            for board in (*content.evaluations, content.pretext, content.efficiency)
        ],
        papers=content.papers,
        tally=tally,
        outcome=_outcome,
        trust=[(name, words) for name, words in TRUST.items()],
        methods=[
            _method(name, content, records, pictures or {})
            for name in sorted({str(record["method"]) for record in records})
        ],
    )


# --------------------------------------------------------------------------------------------------------------- tables


def _view(table: Table) -> dict[str, Any]:
    """A table for the template: cells with their words, links and what they sort by."""
    above, heads, cells = arranged(table.rows, table.lifted)
    return {
        "title": table.title,
        "above": above,
        "under": table.under,
        "heads": [(head, left_aligned(head)) for head in heads],
        "rows": [
            [(cell, () if isinstance(cell, str) else cell.links, sort_key(cell)) for cell in row] for row in cells
        ],
    }


def sort_key(cell: str | Marks) -> str:
    """What a cell sorts by: a number where it begins with one, times in seconds and memory in MB; else its words."""
    if isinstance(cell, Marks):
        return " ".join(mark for mark, _ in cell.links)
    match = re.match(r"([+−-]?[\d,]*\.?\d+)(?: (s|min|h|MB|GB)\b)?", cell)
    if not match or re.match(r"\d{4}-\d\d", cell):
        return cell
    return f"{float(match[1].replace(',', '').replace('−', '-')) * _UNITS.get(match[2] or '', 1.0):.10g}"


def _differences(track: str, every: Sequence[Difference]) -> tuple[Any, dict[str, Any] | None, list[str]]:
    """The drawing of one track's differences, the same as a table, and what is not compared, as the arms are unlike."""
    from markupsafe import Markup

    found = [item for item in every if not item.apart]
    unlike = [
        f"{item.ours.name} and {item.theirs.name} in {item.evaluation}: {'; '.join(item.apart)}"
        for item in every
        if item.apart
    ]
    if not found:
        return "", None, list(dict.fromkeys(unlike))
    rows: list[Row] = [
        {
            "method": item.ours.name,
            "baseline": item.theirs.name,
            "evaluation": f"{item.evaluation} {item.metric}",
            "network": item.ours.setting.network,
            "epochs": item.ours.setting.epochs or "-",
            "trials": item.ours.tuned,
            "n": len(item.seeds),
            "difference": f"{item.mean.value if item.mean else next(iter(item.by_seed.values())):+.2f}",
            "95 % interval": f"{item.low:+.2f} to {item.high:+.2f}" if item.mean else "none: one pair",
            "spread from": item.mean.how if item.mean else "-",
        }
        for item in found
    ]
    svg = plots.differences(f"{track}: methods against their claims' baselines", found)
    return Markup(svg), _view(Table("", rows)), list(dict.fromkeys(unlike))


# --------------------------------------------------------------------------------------------------------------- curves


def _history(record: Record, logged: History) -> History:
    """What is known of the course of a job: lines that have an epoch each."""
    kept = entry(record, "details", "history")
    lines = kept if isinstance(kept, list) and kept else logged
    return [line for line in lines if isinstance(line, Mapping) and number(line, "epoch") is not None]


def _curves(records: Sequence[Record], found: Sequence[tuple[Record, History]]) -> dict[str, dict[str, list[str]]]:
    """Drawings by track and arm: loss, spread of what the network puts out, accuracy, as far as the histories go."""
    groups: dict[tuple[str, str, str, str], list[tuple[Record, History]]] = defaultdict(list)
    names: dict[str, tuple[str, str, str]] = {}  # which arm a record belongs to
    for kind in sorted({str(record["kind"]) for record, _ in found}):
        known = arms(records, kind)
        for name, arm in zip(called(known), known, strict=True):
            names |= {record["fingerprint"]: (name, kind, arm.setting.data) for record in arm.records.values()}
    for record, lines in found:
        groups[str(record["track"]), *names[record["fingerprint"]]].append((record, lines))
    drawn: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for (track, name, kind, data), members in sorted(groups.items()):
        members = sorted(members, key=lambda member: member[0]["seed"])
        under = f"{track}: {data}" + (
            f", {len(members)} seeds" if len(members) > 1 else f", seed {members[0][0]['seed']}"
        )
        title = f"{name}: {TITLES.get(kind, 'pre-training').lower() if kind != 'knn' else TITLES[kind]}"
        for label, zero, read in _QUANTITIES:
            found_curves = [
                plots.Curve(f"seed {record['seed']}", points)
                for record, history in members
                if (points := _points(record, history, read))
            ]
            if found_curves:
                drawn[track][name].append(plots.curves(title, under, label, found_curves, zero))
    return drawn


def _monitors(seen: Sequence[Arm], known: Sequence[str]) -> list[tuple[str, list[Any]]]:
    """Drawings of the k-NN monitor by track and pictures, one for each thing that it can be held against.

    Device time is none of these where the arms had other devices or other parts of one.
    """
    from markupsafe import Markup

    groups: dict[Any, list[tuple[str, Arm]]] = defaultdict(list)
    for name, arm in zip(called(seen), seen, strict=True):
        groups[arm.setting.scope, scope(arm.setting)].append((name, arm))

    def axes(found: Sequence[tuple[str, Arm]]) -> list[str]:
        first = found[0][1]
        timed = not any(no_ratio(first, arm) for _, arm in found)
        return [axis for axis in plots.MONITOR_AXES if axis != "device_s" or timed]

    return [
        (
            where,
            [Markup(plots.monitor("k-NN monitor, no test score", where, axis, found, known)) for axis in axes(found)],
        )
        for (_, where), found in groups.items()
    ]


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


def _outcome(item: Assessment) -> str:
    """The outcomes of a claim in a word or two, for a list."""
    return "; ".join(outcome(verdict) for verdict in item.verdicts)


def _method(
    name: str,
    content: Content,
    records: Sequence[Record],
    pictures: Mapping[str, Pictures],
) -> dict[str, Any]:
    """What the section of one method shows."""
    claimed_of = [item for item in content.assessments if item.claim.method == name]
    mine = sorted((r for r in records if r["method"] == name), key=lambda r: (r["track"], r["seed"], r["fingerprint"]))
    shown = []  # the first seed of an arm that has pictures stands for it
    for kind in sorted({str(record["kind"]) for record in mine}):
        for arm in arms(mine, kind):
            shown += [r for _, r in sorted(arm.records.items()) if r["fingerprint"] in pictures][:1]
    return {
        "name": name,
        "papers": list(dict.fromkeys(item.claim.citation for item in claimed_of)),
        "trainings": _view(Table("", _trainings(mine))),
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


def _trainings(mine: Sequence[Record]) -> list[Row]:
    """One row an arm: what was trained, how it ended."""
    rows: list[Row] = []
    for arm in arms(mine, "pretrain"):
        collapsed = [entry(record, "details", "collapsed_at_update") is not None for record in arm.records.values()]
        first = next(iter(arm.records.values()))
        size = number(first.get("details"), "encoder_parameters")
        rows.append(
            {
                "method": arm.name,
                "which": arm.told_apart or "-",
                "tracks": arm.setting.track,
                "network": arm.setting.network,
                "parameters": f"{size / 1e6:.2f} M" if size else "-",
                "epochs": arm.setting.epochs if arm.setting.epochs is not None else "-",
                "batch": arm.setting.batch if arm.setting.batch is not None else "-",
                "seeds": " ".join(map(str, sorted(arm.records))),
                "last spread": spread(arm.values("final_std_z").values()),
                "collapsed": f"{sum(collapsed)} of {len(collapsed)}" if any(collapsed) else "-",
                "device time": duration(arm.costs("device_s").values()),
            }
        )
    return rows


def _results(name: str, board: Board) -> list[Row]:
    """The rows of one method on one board, its numbers as words of one column, so that boards can follow each other."""
    rows: list[Row] = []
    for part in board.tables:
        for row in part.rows:
            if row["method"] == name:
                metrics = board.intro.partition(":")[0].split(", ")
                track, _, where = part.title.partition(": ")
                rows.append(
                    {
                        "board": board.title,
                        "result": ", ".join(f"{metric} {row[metric]}" for metric in metrics),
                        "tracks": track,
                        **{key: row[key] for key in ("variant", "which", "trust", "network", "epochs", "n", "from")},
                        "where": where,
                    }
                )
    return rows
