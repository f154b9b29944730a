"""Boards: records as tables. `compose` says what stands in them; `markdown` here and `report.page` are views of that.

The same records give the same bytes, and nobody edits a view by hand. A table holds numbers of one track, one data set
and one protocol. A row is an arm: mean and sample standard deviation over its seeds, the records it comes from at its
end.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from leaderboards.arms import (
    MAIN_METRICS,
    OURS,
    Arm,
    Record,
    Setting,
    arms,
    entry,
    kind_of,
    number,
    recipes_apart,
    superseded,
)
from leaderboards.assessments import CLAIMS_INTRO, Assessment, assess, outcomes_by_basis, tally
from leaderboards.claims import TRACKS, Claim
from leaderboards.curves import ABOUT, Reach, reached
from leaderboards.pairs import no_ratio
from leaderboards.verdicts import HEADLINE

Link = Callable[[Record], str]
Row = Mapping[str, Any]  # column -> what its cell says; a Marks cell leads to records

HEADER = "<!-- generated from records by `python -m repro`; do not edit -->"
EMPTY = "No records yet."

# Further columns, where records have them.
SECONDARY: Mapping[str, tuple[str, ...]] = {
    "knn": ("top5",),
    "linear": ("top5", "top1_10_per_class", "top1_1pct", "top1_10pct"),
    "finetune": ("top1_selected", "top5"),
    "detection": ("bbox_AP50", "bbox_AP75"),
    "segmentation": ("segm_AP50", "segm_AP75"),
    "reid": ("rank5", "rank10", "mINP"),
    "reid_finetune": ("rank5", "rank10", "mINP"),
}
TITLES: Mapping[str, str] = {
    "knn": "k-NN",
    "linear": "Linear probe",
    "finetune": "Fine-tuning",
    "detection": "Object detection (boxes)",
    "segmentation": "Instance segmentation (masks)",
    "reid": "Re-identification",
    "reid_finetune": "Re-identification, fine-tuned",
}
UNITS: Mapping[str, str] = {
    **dict.fromkeys(("knn", "linear", "finetune", "reid", "reid_finetune"), "percent"),
    **dict.fromkeys(("detection", "segmentation"), "COCO average precision, 0 to 100"),
}
PRETEXT: Mapping[str, str] = {
    "final_location_accuracy": "location",
    "final_location_up_down": "up or down",
    "final_location_left_right": "left or right",
    "final_rotation_accuracy": "rotation",
}
"""Metrics of pre-trainings that count right answers, and what a board calls them."""
LEGEND = (
    "Mean ± sample standard deviation over seeds; n counts pre-trainings. Wall time and memory are those of the"
    " evaluation alone. Optimism: what choosing on the test set would have added, in points. Trials: tuning runs spent"
    " on the arm."
)
INDEX_INTRO = "Every number comes from a record; numbers of different tracks, data or protocols never share a table."


@dataclass(frozen=True)
class Marks:
    """A cell that leads to the records behind its row: (mark, address) of each."""

    links: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Table:
    """Rows whose numbers may stand beside each other, the best first."""

    title: str
    rows: Sequence[Row]
    lifted: tuple[str, ...] = ()  # columns that become a line above the table where all rows agree
    under: Sequence[str] = ()  # lines below the table


@dataclass(frozen=True)
class Board:
    """One board: of an evaluation, or of costs."""

    name: str
    title: str
    intro: str
    tables: list[Table]


@dataclass(frozen=True)
class Content:
    """What stands in the boards, before any view of it."""

    evaluations: list[Board]
    efficiency: Board
    pretext: Board
    papers: dict[str, list[Assessment]]
    link: Link

    def sources(self, item: Assessment) -> list[tuple[str, list[tuple[str, Marks]]]]:
        """What the verdicts on a claim were computed from: (where, (arm, its records) of each side)."""
        return [
            (verdict.place, [(used.arm, _marks(used.records, self.link)) for used in verdict.rests_on])
            for verdict in item.verdicts
            if verdict.rests_on
        ]

    @property
    def assessments(self) -> list[Assessment]:
        return [claim for found in self.papers.values() for claim in found]


def compose(records: Sequence[Record], claims: Sequence[Claim], link: Link) -> Content:
    """What stands in every board.

    Args:
        records: plain dicts of all kinds.
        claims: what `claims.load()` gives.
        link: record -> address of its file, relative to the boards.
    """
    papers: dict[str, list[Assessment]] = defaultdict(list)
    for item in assess(claims, records):
        papers[item.claim.paper].append(item)
    for found in papers.values():
        found.sort(key=lambda item: not item.answered)  # what records say of comes first
    boards = [_evaluation(name, records, link) for name in MAIN_METRICS]
    return Content(boards, _efficiency(records, claims, link), _pretext(records, link), dict(papers), link)


def markdown(content: Content, picture: str = "") -> dict[str, str]:
    """Every board by file name.

    picture: address of what `plots.efficiency_sheet` draws of the same records, or "" for none.
    """
    built = {f"{board.name}.md": _board_text(board) for board in content.evaluations}
    built["efficiency.md"] = _board_text(content.efficiency, picture)
    built["pretext.md"] = _board_text(content.pretext)
    built["claims.md"] = _claims_text(content)
    built["index.md"] = _index_text(content)
    return {name: text.rstrip("\n") + "\n" for name, text in sorted(built.items())}


# --------------------------------------------------------------------------------------------------------------- pieces


def spread(values: Iterable[float], digits: int = 2) -> str:
    """`71.25`, `71.25 ± 0.31`, or "-" for nothing."""
    values = list(values)
    if not values:
        return "-"
    mean = f"{statistics.fmean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


def count(values: Iterable[float], unit: float = 1.0, digits: int = 0) -> str:
    """Mean in multiples of `unit`, `79,872`, or "-" for nothing."""
    values = list(values)
    return f"{statistics.fmean(values) / unit:,.{digits}f}" if values else "-"


def duration(seconds: Iterable[float]) -> str:
    """Mean of times in seconds: `8.4 s`, `12.5 min`, `5.2 h`, or "-"."""
    seconds = list(seconds)
    if not seconds:
        return "-"
    mean = statistics.fmean(seconds)
    for unit, name in ((3600, "h"), (60, "min")):
        if mean >= unit:
            return f"{mean / unit:.1f} {name}"
    return f"{mean:.1f} s"


def memory(megabytes: Iterable[float]) -> str:
    """Largest of peaks in MiB: `812 MB`, `3.1 GB`, or "-"."""
    peak = max(megabytes, default=None)
    if peak is None:
        return "-"
    return f"{peak / 1024:.1f} GB" if peak >= 1024 else f"{peak:.0f} MB"


def peak(costs: Callable[[str], Mapping[int, float]]) -> str:
    """Peak memory of jobs: the device's where they ran on one, else the process's."""
    device = costs("peak_device_memory_mb")
    return f"{memory(device.values())} GPU" if device else memory(costs("peak_memory_mb").values())


def arranged(rows: Sequence[Row], lifted: Sequence[str] = ()) -> tuple[str, list[str], list[list[Any]]]:
    """(line above the table or "", heads, cells). A column in which no row has anything to say is left out.

    lifted: columns that become that line where all rows agree, which keeps the table narrow.
    """
    columns = dict.fromkeys(column for row in rows for column in row)
    found = {column: [_cell(row.get(column)) for row in rows] for column in columns}
    found = {column: cells for column, cells in found.items() if set(cells) - {"-", ""}}
    common = [column for column in lifted if column in found and len(set(found[column])) == 1]
    above = "All rows: " + "; ".join(f"{column} {found[column][0]}" for column in common) + "." if common else ""
    shown = {column: cells for column, cells in found.items() if column not in common}
    return above, list(shown), [list(cells) for cells in zip(*shown.values(), strict=True)]


def _cell(value: Any) -> str | Marks:
    return value if isinstance(value, Marks) else "-" if value is None else " ".join(str(value).split())


def left_aligned(column: str) -> bool:
    """Whether a column holds words, not numbers."""
    return column in _WORDS


def table(rows: Sequence[Row], lifted: Sequence[str] = (), links: list[str] | None = None) -> str:
    """Aligned Markdown of `arranged`. The addresses of its marks are added to `links`, as reference definitions."""
    from tabulate import tabulate

    above, heads, cells = arranged(rows, lifted)

    def text(cell: str | Marks) -> str:
        if isinstance(cell, str):
            return cell.replace("|", "/")
        found = []
        for mark, address in cell.links:
            assert links is not None
            links.append(f"[{len(links) + 1}]: {address}")
            found.append(f"[{mark}][{len(links)}]")
        return " ".join(found)

    drawn = tabulate(
        [[text(cell) for cell in row] for row in cells],
        headers=heads,
        tablefmt="pipe",
        colalign=["left" if left_aligned(column) else "right" for column in heads],
        disable_numparse=True,
    )
    return (above + "\n\n" if above else "") + str(drawn)


_WORDS = (
    "test set",
    "method",
    "variant",
    "which",
    "network",
    "device",
    "date",
    "from",
    "against",
    "trust",
    "where",
    "result",
    "baseline",
    "evaluation",
    "spread from",
    "note",
    "board",
    "tracks",
    "paper",
    "verdicts",
    "claim",
    "stated",
    "equal epochs",
    "equal compute",
    "own setting",
)


def scope(setting: Setting) -> str:
    """What all numbers of a table share, in words: `mini: CIFAR-10 (JPEG copy), protocol mini (08c879d4)`."""
    changed = f"; changed: {setting.changed}" if setting.changed else ""
    protocol = f", protocol {setting.protocol} ({setting.protocol_hash[:8]}{changed})"
    source = setting.source if setting.source != "-" else setting.data
    return f"{setting.track}: {source}" + (protocol if setting.protocol != "-" else "")


def _by_scope(found: Iterable[Arm]) -> list[list[Arm]]:
    groups: dict[Any, list[Arm]] = defaultdict(list)
    for arm in found:
        groups[arm.setting.scope].append(arm)
    return [groups[scope] for scope in sorted(groups)]


def _identity(arm: Arm, old: bool = False) -> dict[str, Any]:
    """The columns that say which arm a row is.  old: whether its recipe has been superseded."""
    return {
        "method": arm.method,
        "variant": arm.variant or "-",
        "which": ", ".join(word for word in (arm.label, "superseded" if old else "") if word) or "-",
        "trust": "-" if arm.trust == OURS else arm.trust,
        "network": arm.setting.network,
        "epochs": arm.setting.epochs if arm.setting.epochs is not None else "-",
    }


def _dates(records: Mapping[int, Record]) -> str:
    days = sorted({str(entry(record, "provenance", "date") or "-")[:10] for record in records.values()})
    if len(days) == 1:
        return days[0]
    return f"{days[0]}..{days[-1][8:]}" if days[0][:8] == days[-1][:8] else f"{days[0]}..{days[-1]}"


def _marks(records: Mapping[int, Record], link: Link) -> Marks:
    return Marks(tuple((f"s{seed}", link(record)) for seed, record in sorted(records.items())))


def _devices(arm: Arm) -> str:
    return ", ".join(sorted({str(entry(record, "provenance", "device") or "-") for record in arm.records.values()}))


def _note(arm: Arm) -> str:
    dirty = any(entry(record, "provenance", "dirty") for record in (*arm.records.values(), *arm.origins.values()))
    return "; ".join(note for note in (arm.flag, "uncommitted code" if dirty else "") if note) or "-"


def _order(arm: Arm, metric: str) -> tuple[float, str, str]:
    """Best first, then by name."""
    values = arm.values(metric).values()
    return (-statistics.fmean(values) if values else 1.0, arm.name, str(arm.setting) + arm.label)


# --------------------------------------------------------------------------------------------------------------- boards


def _evaluation(name: str, records: Sequence[Record], link: Link) -> Board:
    main = MAIN_METRICS[name]
    tables = []
    for group in _by_scope(arm for arm in arms(records, kind_of(name)) if arm.values(main[0])):
        rows, old = [], superseded(group)
        for arm in sorted(group, key=lambda arm: (arm in old, *_order(arm, main[0]))):
            best, chosen = arm.values(f"{main[0]}_best_on_test"), arm.values(main[0])
            rows.append(
                {
                    **_identity(arm, arm in old),
                    "n": len(chosen),
                    **{metric: spread(_told(arm, metric)) for metric in (*main, *SECONDARY[name])},
                    "optimism": spread([best[seed] - chosen[seed] for seed in chosen if seed in best]),
                    "trials": arm.tuned,
                    "wall time": duration(arm.costs("wall_s").values()),
                    "peak memory": peak(arm.costs),
                    "device": _devices(arm),
                    "test set": _test_set(arm),
                    "date": _dates(arm.records),
                    "from": _marks(arm.records, link),
                    "note": _note(arm),
                }
            )
        lifted = ("test set", "device", "trials", "date")
        tables.append(Table(scope(group[0].setting), rows, lifted, recipes_apart(group)))
    return Board(name, TITLES[name], f"{', '.join(main)}: {UNITS[name]}. {LEGEND}", tables)


def _told(arm: Arm, metric: str) -> list[float]:
    """The values of a metric that say something: fewer than five neighbours name fewer than five classes."""
    nearest = (number(record.get("details"), "k") for record in arm.records.values())
    if metric == "top5" and any(k is not None and k < 5 for k in nearest):
        return []
    return list(arm.values(metric).values())


_TEST_SETS = (  # where the details of a record say how large its test set was
    (("val", "pictures"), "pictures"),
    (("val", "instances"), "objects"),
    (("n_query",), "queries"),
    (("n_gallery",), "gallery pictures"),
    (("n_test",), "pictures"),
)


def _test_set(arm: Arm) -> str:
    """How much a number of this arm was measured on: `57 pictures, 517 objects`."""
    sizes = {
        ", ".join(f"{size:,} {what}" for path, what in _TEST_SETS if (size := entry(record, "details", *path)))
        for record in arm.records.values()
    }
    return " or ".join(sorted(sizes - {""})) or "-"


def _pretext(records: Sequence[Record], link: Link) -> Board:
    """What the networks learnt of the tasks that their methods made up, where a task has right answers."""
    tables = []
    known = [arm for arm in arms(records, "pretrain") if any(arm.values(metric) for metric in PRETEXT)]
    for group in _by_scope(known):
        rows, old = [], superseded(group)
        for arm in sorted(group, key=lambda arm: (arm in old, arm.name, str(arm.setting), arm.label)):
            shown = {words: spread(arm.values(metric).values(), 1) for metric, words in PRETEXT.items()}
            rows.append(
                {
                    **_identity(arm, arm in old),
                    "n": len(arm.records),
                    **shown,
                    "trials": arm.tuned,
                    "date": _dates(arm.records),
                    "from": _marks(arm.records, link),
                    "note": _note(arm),
                }
            )
        tables.append(Table(scope(group[0].setting), rows, ("trials", "date"), recipes_apart(group)))
    intro = (
        "Right answers in percent over the last batch of training pictures that was logged, mean ± sample standard"
        " deviation over seeds; n counts pre-trainings. By chance location is 25 (of four places), up or down and left"
        " or right 50 each, rotation 25 (of four angles). GLNet's pictures are mirrored at random before they are cut,"
        " which leaves nothing that tells left from right where they are symmetric; glnet:no_flip's are not. No verdict"
        " rests on this board."
    )
    return Board("pretext", "Pretext tasks", intro, tables)


@dataclass(frozen=True)
class Paid:
    """Arms of one scope whose pre-trainings ran on one device, so that their costs may be compared."""

    evaluation: str
    metric: str
    device: str
    arms: list[Arm]

    @property
    def title(self) -> str:
        return f"{TITLES[self.evaluation]}, {scope(self.arms[0].setting)}, trained on {self.device}"


def paid(records: Sequence[Record]) -> list[Paid]:
    """What accuracy and cost of pre-training are known of, by evaluation, scope and device; the best arm first."""
    found = []
    for name, (metric, *_) in MAIN_METRICS.items():
        known = [arm for arm in arms(records, kind_of(name)) if arm.values(metric) and arm.origins and not arm.imported]
        for group in _by_scope(known):
            by_device: dict[str, list[Arm]] = defaultdict(list)
            for arm in group:
                machines = {str(entry(origin, "provenance", "device") or "-") for origin in arm.origins.values()}
                by_device[", ".join(sorted(machines))].append(arm)
            for device, same in sorted(by_device.items()):
                found.append(Paid(name, metric, device, sorted(same, key=lambda arm: _order(arm, metric))))
    return found


def _efficiency(records: Sequence[Record], claims: Sequence[Claim], link: Link) -> Board:
    tables = [
        Table(
            group.title,
            [
                {
                    **_identity(arm, arm in old),
                    "n": len(arm.values(group.metric)),
                    f"{group.evaluation} {group.metric}": spread(arm.values(group.metric).values()),
                    "device time": duration(arm.training("device_s").values()),
                    "wall time": duration(arm.training("wall_s").values()),
                    "CPU time": duration(arm.cpu_time().values()),
                    "CPU share": _cpu_share(arm),
                    "updates": count(arm.training("updates").values()),
                    "image passes": count(arm.training("image_passes").values()),
                    "TFLOP": count(arm.training("flops").values(), unit=1e12, digits=1),
                    "peak memory": peak(arm.training),
                    "trials": arm.tuned,
                    "date": _dates(arm.origins),
                    "from": _marks(arm.origins, link),
                    "note": _note(arm),
                }
                for arm in sorted(group.arms, key=old.__contains__)
            ],
            ("trials", "date"),
            recipes_apart(group.arms),
        )
        for group in paid(records)
        for old in [superseded(group.arms)]
    ]
    intro = (
        "Costs are means a pre-training; memory is the largest peak. Image passes count each picture of each epoch"
        " once; TFLOP are of the whole pre-training. Wall time, CPU time and CPU share leave out trainings that were"
        " resumed and have them of the last attempt alone. A table holds one device. Where the"
        " CPU share is below 100 %, other work had the rest of the cores, and device and wall time are longer for it;"
        " CPU time is without that, and is the time to compare. Trials:"
        " tuning runs spent on the arm, which the costs do not hold."
    )
    races = _races(reached(claims, records), link)
    if races:
        intro += " The last tables say what a method needs to get as far as its claims' baselines end,"
        intro += f" both of as many epochs and tuning trials. {ABOUT}"
    return Board("efficiency", "Accuracy against cost of pre-training", intro, [*tables, *races])


def _cpu_share(arm: Arm) -> str:
    return "-" if arm.cpu_share is None else f"{100 * arm.cpu_share:.0f} %"


def _races(found: Sequence[Reach], link: Link) -> list[Table]:
    """By track and data, the time and operations after which a method is as good as its baselines end."""
    groups: dict[Any, list[Row]] = defaultdict(list)
    for item in found:
        there, where = item.there, item.ours.setting
        hindered = no_ratio(item.ours, item.theirs)
        row = {
            "method": item.ours.name,
            "baseline": item.theirs.name,
            "epochs": item.ours.setting.epochs or "-",
            "trials": item.ours.tuned,
            "n": len(item.seeds),
            "baseline ends at": f"{item.target.top1:.2f}",
            "method ends at": f"{item.last.top1:.2f}",
            "as good after": f"{there.epochs:.1f} epochs" if there else "never" if item.risen else "no race",
            "device time": duration([there.device_s]) if there else "-",
            "of the baseline's time": "-"
            if hindered
            else _share(there.device_s if there else None, item.target.device_s),
            "TFLOP": count([there.flops], unit=1e12, digits=1) if there else "-",
            "of the baseline's TFLOP": _share(there.flops if there else None, item.target.flops),
            "from": _marks({seed: item.ours.records[seed] for seed in item.seeds}, link),
            "against": _marks({seed: item.theirs.records[seed] for seed in item.seeds}, link),
            "note": "; ".join(
                word for word in ("" if item.risen else "one began as good as the baseline ends", hindered) if word
            )
            or "-",
        }
        groups[where.scope, f"As good as the baseline in k-NN on training pictures, {scope(where)}"].append(row)
    return [Table(title, rows) for (_, title), rows in groups.items()]


def _share(part: float | None, whole: float) -> str:
    return "-" if part is None or not whole else f"{100 * part / whole:.0f} %"


def overview(content: Content) -> list[tuple[Board, int, int, str]]:
    """(board, arms, records, tracks) of every evaluation."""
    found = []
    for board in content.evaluations:
        rows = [row for part in board.tables for row in part.rows]
        tracks = {part.title.partition(":")[0] for part in board.tables}
        known = ", ".join(track for track in TRACKS if track in tracks) or "no records yet"
        found.append((board, len(rows), sum(len(row["from"].links) for row in rows), known))
    return found


# ------------------------------------------------------------------------------------------------------------- Markdown


def _board_text(board: Board, picture: str = "") -> str:
    lines = [HEADER, f"# {board.title}", "", board.intro, ""]
    if board.tables and picture:
        lines += [f"![Accuracy against time of pre-training]({picture})", ""]
    links: list[str] = []
    for part in board.tables:
        lines += [f"## {part.title}", "", table(part.rows, part.lifted, links), ""]
        lines += [line for under in part.under for line in (under, "")]
    return "\n".join([*lines, *(links or ([] if board.tables else [EMPTY]))])


def _claims_text(content: Content) -> str:
    lines = [HEADER, "# Claims and verdicts", "", CLAIMS_INTRO, ""]
    rows = [
        {"paper": f"[{paper}](#{paper})", "claims": len(found), "verdicts": tally(found)}
        for paper, found in content.papers.items()
    ]
    lines += [table(rows), ""]
    for paper, found in content.papers.items():
        lines += [
            f"## {paper}",
            "",
            found[0].claim.citation,
            "",
            table([outcomes_by_basis(item) for item in found]),
            "",
        ]
        for item in found:
            lines += [
                f"- {' '.join(f'**{verdict.sentence}.**' for verdict in item.verdicts)}",
                f"  - {item.claim.statement}",
                f"  - `{item.claim.id}`, {item.about}",
                f"  - {item.source}",
                f"  - {item.test}",
                *([f"  - note: {item.claim.note}"] if item.claim.note else []),
                *(f"  - records at {where}: {_linked(sides)}" for where, sides in content.sources(item)),
            ]
        lines.append("")
    return "\n".join(lines)


def _linked(sides: Sequence[tuple[str, Marks]]) -> str:
    """`byol [s0](...) [s1](...); moco_v3 [s0](...)`."""
    return "; ".join(
        f"{arm} {' '.join(f'[{mark}]({address})' for mark, address in marks.links)}" for arm, marks in sides
    )


def _index_text(content: Content) -> str:
    rows = [
        {"board": f"[{board.title}]({board.name}.md)", "arms": arms, "records": records, "tracks": tracks}
        for board, arms, records, tracks in overview(content)
    ]
    claims = content.assessments
    return "\n".join(
        [
            HEADER,
            "# Leaderboards",
            "",
            INDEX_INTRO,
            "",
            table(rows),
            "",
            "[Accuracy against cost](efficiency.md)",
            "",
            "[Pretext tasks](pretext.md): whether a location or a rotation was told, and left from right",
            "",
            f"[Claims and verdicts](claims.md): {len(claims)} claims of {len(content.papers)} papers; verdicts,"
            f" of which a claim has one a track and basis: {tally(claims)}. Below n = {HEADLINE} none is a headline.",
            "",
            *(
                f"- {sentence} ([{item.claim.id}](claims.md#{item.claim.paper}))"
                for item in claims
                for sentence in item.brief
            ),
        ]
    )
