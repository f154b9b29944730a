"""Boards: records as Markdown tables. A view; the same records give the same bytes, and nobody edits one by hand.

A table holds numbers of one track, one data set and one protocol. A row is an arm: mean and sample standard deviation
over its seeds, the records it comes from at its end.
"""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from leaderboards.arms import MAIN_METRICS, Arm, Record, Setting, arms, entry, kind_of
from leaderboards.claims import NO_TRACK, TRACKS, VERIFIED, Claim, tracks_of
from leaderboards.verdicts import COMPUTE, Verdict, both

Link = Callable[[Record], str]

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
LEGEND = (
    "Mean ± sample standard deviation over seeds; n counts pre-trainings. Wall time and memory are those of the"
    " evaluation alone. Optimism: what choosing on the test set would have added, in points. Trials: tuning runs spent"
    " on the arm."
)


def build(records: Sequence[Record], claims: Sequence[Claim], link: Link, picture: str = "") -> dict[str, str]:
    """Every board by file name.

    Args:
        records: plain dicts of all kinds.
        claims: what `claims.load()` gives.
        link: record -> address of its file, relative to the boards.
        picture: address of what `plots.plot_efficiency` drew of the same records, or "" for none.
    """
    boards = {f"{name}.md": _evaluation(name, records, link) for name in MAIN_METRICS}
    boards["efficiency.md"] = _efficiency(records, picture)
    verdicts = {track: _verdicts(claims, records, track) for track in TRACKS}
    boards["claims.md"] = _claims(claims, verdicts)
    boards["index.md"] = _index(records, claims, verdicts)
    return {name: text.rstrip("\n") + "\n" for name, text in sorted(boards.items())}


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


def table(rows: Sequence[Mapping[str, Any]], lifted: Sequence[str] = ()) -> str:
    """Aligned Markdown. A column in which no row has anything to say is left out.

    lifted: columns that become a line above the table where all rows agree, which keeps the table narrow.
    """
    import pandas as pd
    from tabulate import tabulate

    frame = pd.DataFrame(rows).fillna("-").astype(str)
    frame = frame.replace({r"\|": "/", r"\s+": " "}, regex=True)
    frame = frame.loc[:, [column for column in frame.columns if set(frame[column]) - {"-", ""}]]
    common = [column for column in lifted if column in frame.columns and frame[column].nunique() == 1]
    above = "All rows: " + "; ".join(f"{column} {frame[column].iloc[0]}" for column in common) + ".\n\n"
    frame = frame.drop(columns=common)
    text = tabulate(
        frame.to_numpy().tolist(),
        headers=list(frame.columns),
        tablefmt="pipe",
        colalign=["left" if column in _WORDS else "right" for column in frame.columns],
        disable_numparse=True,
    )
    return (above if common else "") + str(text)


_WORDS = (
    "method",
    "variant",
    "which",
    "network",
    "device",
    "date",
    "from",
    "note",
    "board",
    "tracks",
    "paper",
    "verdicts",
)


def _scope(setting: Setting) -> str:
    protocol = f", protocol {setting.protocol} ({setting.protocol_hash[:8]})"
    source = setting.source if setting.source != "-" else setting.data
    return f"{setting.track}: {source}" + (protocol if setting.protocol != "-" else "")


def _by_scope(found: Iterable[Arm]) -> list[list[Arm]]:
    groups: dict[Any, list[Arm]] = defaultdict(list)
    for arm in found:
        groups[arm.setting.scope].append(arm)
    return [groups[scope] for scope in sorted(groups)]


def _identity(arm: Arm) -> dict[str, Any]:
    """The columns that say which arm a row is."""
    return {
        "method": arm.method,
        "variant": arm.variant or "-",
        "which": arm.label or "-",
        "network": arm.setting.network,
        "epochs": arm.setting.epochs if arm.setting.epochs is not None else "-",
    }


def _dates(arm: Arm) -> str:
    days = sorted({str(entry(record, "provenance", "date") or "-")[:10] for record in arm.records.values()})
    if len(days) == 1:
        return days[0]
    return f"{days[0]}..{days[-1][8:]}" if days[0][:8] == days[-1][:8] else f"{days[0]}..{days[-1]}"


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


def _evaluation(name: str, records: Sequence[Record], link: Link) -> str:
    main = MAIN_METRICS[name]
    lines = [HEADER, f"# {TITLES[name]}", "", f"{', '.join(main)}: {UNITS[name]}. {LEGEND}", ""]
    groups = _by_scope(arm for arm in arms(records, kind_of(name)) if arm.values(main[0]))
    links: list[str] = []
    for group in groups:
        rows = []
        for arm in sorted(group, key=lambda arm: _order(arm, main[0])):
            best, chosen = arm.values(f"{main[0]}_best_on_test"), arm.values(main[0])
            marks = []
            for seed, record in sorted(arm.records.items()):
                links.append(f"[{len(links) + 1}]: {link(record)}")
                marks.append(f"[s{seed}][{len(links)}]")
            rows.append(
                {
                    **_identity(arm),
                    "n": len(chosen),
                    **{metric: spread(arm.values(metric).values()) for metric in (*main, *SECONDARY[name])},
                    "optimism": spread([best[seed] - chosen[seed] for seed in chosen if seed in best]),
                    "trials": ", ".join(map(str, arm.trials())) or "-",
                    "wall time": duration(arm.costs("wall_s").values()),
                    "peak memory": peak(arm.costs),
                    "device": _devices(arm),
                    "date": _dates(arm),
                    "from": " ".join(marks),
                    "note": _note(arm),
                }
            )
        lines += [f"## {_scope(group[0].setting)}", "", table(rows, ("device", "trials", "date")), ""]
    return "\n".join([*lines, *(links or ([] if groups else [EMPTY]))])


def _efficiency(records: Sequence[Record], picture: str) -> str:
    lines = [
        HEADER,
        "# Accuracy against cost of pre-training",
        "",
        "Costs are means a pre-training; memory is the largest peak. Image passes count each picture of each epoch"
        " once; TFLOP are of the whole pre-training. A table holds one device, so that times may be compared.",
        "",
    ]
    before = len(lines)
    for name in ("knn", "linear", "finetune"):
        metric = MAIN_METRICS[name][0]
        paid = [arm for arm in arms(records, name) if arm.values(metric) and arm.origins and not arm.imported]
        for group in _by_scope(paid):
            by_device: dict[str, list[Arm]] = defaultdict(list)
            for arm in group:
                machines = {str(entry(origin, "provenance", "device") or "-") for origin in arm.origins.values()}
                by_device[", ".join(sorted(machines))].append(arm)
            for device, same in sorted(by_device.items()):
                rows = [
                    {
                        **_identity(arm),
                        "n": len(arm.values(metric)),
                        f"{name} {metric}": spread(arm.values(metric).values()),
                        "device time": duration(arm.training("device_s").values()),
                        "wall time": duration(arm.training("wall_s").values()),
                        "updates": count(arm.training("updates").values()),
                        "image passes": count(arm.training("image_passes").values()),
                        "TFLOP": count(arm.training("flops").values(), unit=1e12, digits=1),
                        "peak memory": peak(arm.training),
                        "note": _note(arm),
                    }
                    for arm in sorted(same, key=lambda arm: _order(arm, metric))
                ]
                lines += [f"## {TITLES[name]}, {_scope(group[0].setting)}, trained on {device}", "", table(rows), ""]
    if len(lines) == before:
        lines.append(EMPTY)
    elif picture:
        lines[before:before] = [f"![Accuracy against device time of pre-training]({picture})", ""]
    return "\n".join(lines)


def _verdicts(claims: Sequence[Claim], records: Sequence[Record], track: str) -> dict[str, list[Verdict]]:
    """Verdicts by claim at one track, for the claims that the track can test."""
    return both([claim for claim in claims if track in tracks_of(claim)], records, track)


def _said(claim: Claim, verdicts: Mapping[str, Mapping[str, Sequence[Verdict]]]) -> list[Verdict]:
    """What there is to say of a claim: at its own track always, elsewhere where it was run."""
    found = [verdict for track in tracks_of(claim) for verdict in verdicts[track][claim.id]]
    said = [
        verdict
        for verdict in found
        if verdict.track == claim.track or verdict.outcome != "not run" or verdict.basis == COMPUTE
    ]
    if claim.track == NO_TRACK and not said:
        sentence = f"not run: no track runs {claim.data}"
        return [Verdict(claim=claim.id, track=NO_TRACK, outcome="not run", sentence=sentence)]
    return said


def claims_table(claims: Sequence[Claim], records: Sequence[Record]) -> str:
    """The claims with their verdicts as a plain table for the terminal, about 120 columns wide."""
    from tabulate import tabulate

    verdicts = {track: _verdicts(claims, records, track) for track in TRACKS}
    rows = [
        [verdict.sentence, f"{claim.id}: {claim.statement}", claim.stated, claim.verified]
        for claim in claims
        for verdict in _said(claim, verdicts)
    ]
    heads = ["verdict", "claim", "stated", "verified"]
    text = str(tabulate(rows, heads, tablefmt="simple", disable_numparse=True, maxcolwidths=[46, 44, 18, None]))
    if any(record["track"] == "embedded" for record in records):
        text += "\n\nembedded: no verdicts at this track, whatever its records say"
    return text


def _claims(claims: Sequence[Claim], verdicts: Mapping[str, Mapping[str, Sequence[Verdict]]]) -> str:
    lines = [
        HEADER,
        "# Claims and verdicts",
        "",
        "A verdict holds at the track that it names, and nowhere else. A paper's own claim stays `not run` until"
        " records of its own network, epochs, data and protocol exist. No verdict is given at embedded.",
        "",
    ]
    papers: dict[str, list[Claim]] = defaultdict(list)
    for claim in claims:
        papers[claim.paper].append(claim)
    rows = [
        {"paper": f"[{paper}](#{paper})", "claims": len(found), "verdicts": _tally(found, verdicts)}
        for paper, found in papers.items()
    ]
    lines += [table(rows), ""]
    for paper, found in papers.items():
        lines += [f"## {paper}", "", found[0].citation, ""]
        for claim in found:
            reported = f"; reported numbers {', '.join(claim.references)}" if claim.references else ""
            elsewhere = [track for track in TRACKS if track in claim.proxies]
            also = f"; its direction also at {', '.join(elsewhere)}" if elsewhere else ""
            lines += [
                f"- {' '.join(f'**{verdict.sentence}.**' for verdict in _said(claim, verdicts))}",
                f"  - {claim.statement}",
                f"  - `{claim.id}`, {claim.kind.replace('_', ' ')}: {claim.stated};"
                f" {claim.evaluation} {claim.metric} on {claim.data}{_setting_words(claim)}",
                f"  - source ({VERIFIED[claim.verified]}): {claim.source}{reported}",
                f"  - test: margin {claim.margin:g}, n = {claim.n}, family {claim.family}{also}",
                *([f"  - note: {claim.note}"] if claim.note else []),
            ]
        lines.append("")
    return "\n".join(lines)


def _tally(claims: Iterable[Claim], verdicts: Mapping[str, Mapping[str, Sequence[Verdict]]]) -> str:
    said = [verdict for claim in claims for verdict in _said(claim, verdicts)]
    outcomes = Counter(v.outcome + (f" ({COMPUTE})" if v.basis == COMPUTE else "") for v in said)
    return ", ".join(f"{outcome} {number}" for outcome, number in sorted(outcomes.items())) or "none"


def _setting_words(claim: Claim) -> str:
    words = [claim.backbone]
    if claim.epochs:
        words.append("-".join(str(edge) for edge in dict.fromkeys(claim.epochs)) + " epochs")
    if claim.batch:
        words.append(f"batch {claim.batch}")
    said = ", ".join(word for word in words if word)
    return f", {said}" if said else ""


def _index(
    records: Sequence[Record], claims: Sequence[Claim], verdicts: Mapping[str, Mapping[str, Sequence[Verdict]]]
) -> str:
    rows = []
    for name, title in TITLES.items():
        found = [arm for arm in arms(records, kind_of(name)) if arm.values(MAIN_METRICS[name][0])]
        tracks = {arm.setting.track for arm in found}
        rows.append(
            {
                "board": f"[{title}]({name}.md)",
                "arms": len(found),
                "records": sum(len(arm.records) for arm in found),
                "tracks": ", ".join(track for track in TRACKS if track in tracks) or "no records yet",
            }
        )
    return "\n".join(
        [
            HEADER,
            "# Leaderboards",
            "",
            "Every number comes from a record; numbers of different tracks, data or protocols never share a table.",
            "",
            table(rows),
            "",
            "[Accuracy against cost](efficiency.md)",
            "",
            f"[Claims and verdicts](claims.md): {len(claims)} claims of"
            f" {len({claim.paper for claim in claims})} papers; " + _tally(claims, verdicts),
        ]
    )
