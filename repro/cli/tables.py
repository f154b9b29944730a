"""What the commands print as tables: plans, protocols, methods, data sets."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Sequence
from typing import Any

from repro.data import account
from repro.data.types import Status
from repro.errors import unknown
from repro.plan import disk, few_pictures, kinds, protocol_files, recipes, registry, tracks, tuning
from repro.plan.planned import CONSTANTS, PRICED_BY, Plan
from repro.results import claim_listing
from repro.settings import Settings, Where
from repro.terminal.text import duration, gpu_hours, table

_NETWORKS = {"resnet": "ResNet", "vit": "ViT"}
_BATCH = {"global": "whole batch", "per_device": "one device", "none": "none"}


def plan_table(plan: Plan, settings: Settings) -> str:
    """The graph of jobs with dependencies, cache state and estimates."""
    numbers = {job.fingerprint: number for number, job in enumerate(plan.jobs, 1)}
    rows = []
    on_gpus = any(plan.resources(job).gpus for job in plan.jobs)
    for job in plan.jobs:
        need = plan.resources(job)
        times = f"{job.ranks} x " if job.ranks > 1 else ""
        state = "cached" if job.cached else "no data" if job.missing else "to do"
        rows.append(
            [
                numbers[job.fingerprint],
                job.kind,
                job.arm,
                job.seed,
                ", ".join(str(numbers[parent]) for parent in job.parents),
                state,
                "" if job.cached else "~" + duration(job.seconds),
                *(["" if job.cached else gpu_hours(plan.gpu_hours(job), 2)] if on_gpus else []),
                "" if job.cached else job.priced_by,
                times + f"{need.cpus} CPU" + (f" + {need.gpus} GPU" if need.gpus else ""),
                times + f"{need.memory_gb:g} GB",
                job.protocol.get("name", ""),
                job.fingerprint[:8],
            ]
        )
    head = ["#", "job", "method", "seed", "after job", "state", "time", *(["GPU-hours"] if on_gpus else [])]
    head += ["estimate from", "resources", "memory", "protocol", "fingerprint"]
    todo = plan.to_do()
    counts = {name: sum(job.priced_by == name for job in todo) for name in PRICED_BY}
    sums = f"about {duration(plan.seconds)} of work"
    sums += f", {gpu_hours(sum(map(plan.gpu_hours, todo)))} GPU-hours" if on_gpus else ""
    sources = ", ".join(f"{count} from {name}" for name, count in counts.items() if count)
    lines = [
        f"track {plan.track.name}: {plan.track.summary}",
        "",
        table(rows, head),
        "",
        f"{len(plan.jobs)} jobs, {len(plan.jobs) - len(todo)} cached, {len(todo)} to do;"
        f" {sums} (estimate{': ' if sources else ''}{sources}), workspace {settings.workspace}",
    ]
    if counts[CONSTANTS]:
        device = plan.card.title if plan.card else plan.track.device
        lines.append(f"constants: estimates for {device}; --calibrate measures this machine")
    if any(job.kind == "detection" and job.spec["protocol"]["values"]["masks"] for job in plan.jobs):
        lines.append("detection trains one Mask R-CNN; it gives the results of both detection and segmentation")
    lines += plan.left_out_lines()
    lines += [choice.line(choice.here) for choice in plan.choices]
    for line in dict.fromkeys(job.missing for job in todo if job.missing):
        lines.append(f"data: {line}")
    lines += [f"skipped: {fault}" for fault in plan.faults]
    lines += [account.words(plan.account)] if plan.account else []
    lines += plan.other_data_lines() + few_pictures.words(plan.fits)
    lines += disk.lines(plan, settings)
    return "\n".join(lines)


def protocols_table(which: str | None) -> str:
    """All protocols by evaluation; those of one evaluation beside each other; or `linear=glnet`, with every value."""
    if which is None:
        own: dict[tuple[str, str], list[str]] = {}
        for track in tracks.tracks().values():
            for kind in kinds.judged():
                own.setdefault((kind, track.protocol(kind)), []).append(track.name)
                for arch, other in track.protocols_of.items():
                    if kind in other:
                        own.setdefault((kind, other[kind]), []).append(f"{track.name} ({arch})")
        theirs = claim_listing.papers_by_protocol()
        rows = [
            [kind, name, ", ".join(own.get((kind, name), ())) or "-", ", ".join(theirs.get((kind, name), ())) or "-"]
            for kind in kinds.judged()
            for name in protocol_files.names(kind)
        ]
        return table(rows, ["evaluation", "protocol", "used on the tracks", "for claims of"])
    kind, _, name = which.partition("=")
    if kind not in kinds.judged():
        raise unknown("evaluation", kind, kinds.judged())
    if name and name not in protocol_files.names(kind):
        raise unknown(f"{kind} protocol", name, protocol_files.names(kind))
    names = [name] if name else list(protocol_files.names(kind))
    columns = [protocol_files.load(kind, each).values() for each in names]
    rows = [[key, *(_value(column[key]) for column in columns)] for key in columns[0]]
    if not name:  # side by side only what they differ in
        rows = [[row[0], *map(_short, row[1:])] for row in rows if len(set(row[1:])) > 1]
    return table(rows, [kind, *names])


def _value(value: Any) -> str:
    return " ".join(f"{item:g}" for item in value) or "-" if isinstance(value, list) else str(value)


def _short(text: str) -> str:
    words = text.split()
    return text if len(words) < 4 else f"{words[0]} .. {words[-1]}"


def methods_table() -> str:
    """Every method of the registry, with what helps to choose one; its variants below."""
    rows, variants = [], []
    width = shutil.get_terminal_size((100, 24)).columns
    for info in sorted(registry.methods().values(), key=lambda m: (registry.ROLES.index(m.role), m.name)):
        stated = registry.find(info.base)[0].tracks if info.base else info.tracks  # an auxiliary task has its base's
        networks = dict.fromkeys(
            recipes.resolve(info, variant, track, {})["network"]["arch"]
            for variant in ("", *info.variants)
            for track in stated
        )
        control = info.role == "control"
        rows.append(
            [
                info.name,
                info.role,
                ", ".join(_NETWORKS.get(arch, arch) for arch in networks if arch != "pixels") or "-",
                f"{registry.relative_cost(info, ''):.1f}",
                "-" if control else _BATCH[registry.negatives(info, "")],
                "-" if control else _cited(info.paper),
            ]
        )
        if info.variants:
            listed = f"{info.name}: {', '.join(info.variants)}"
            variants.append(textwrap.fill(listed, width, subsequent_indent="  ", break_on_hyphens=False))
    head = ["method", "role", "network", "cost", "batch", "paper"]
    notes = [
        "network: of the recipe, then those of variants with another one",
        "cost: passes of the network (forward and backward) per image and epoch, on ImageNet; supervised training: 1.0",
        "batch: on which other images the loss of an image depends: the whole batch, its part on one device, or none",
        "python -m repro methods glnet: its paper, recipe and variants; run a variant with --method glnet:no_location",
    ]
    said = [textwrap.fill(note, width, subsequent_indent="  ", break_on_hyphens=False) for note in notes]
    return "\n".join([table(rows, head), "", *said, "", "variants", *variants])


def _cited(paper: str) -> str:
    """`Shen 2025`: the first author and the year."""
    author = re.split(r" et al\.| and |[,;]", paper)[0]
    year = re.search(r"\b(?:19|20)\d\d\b", paper)
    return f"{author} {year[0]}" if year else author or "-"


def method_recipe(name: str) -> str:
    """One method: what it is and its recipe on each track."""
    info, variant = registry.find(name)
    lines = [f"{info.name}: {info.title}", info.paper + (f" (arXiv:{info.arxiv})" if info.arxiv else ""), ""]
    for other, change in info.variants.items():
        lines.append(f"variant {info.name}:{other}: {change.summary}")
    for track in tracks.tracks():
        if found := tuning.section(info, variant, track):
            lines.append(f"tuned on {track} by {found.procedure}: {found.point}")
    columns = [recipes.resolve(info, variant, track, {}) for track in tracks.tracks()]
    rows = [
        [f"{key}.{item}", *(column[key][item] for column in columns)]
        for key in registry.TABLES
        for item in columns[0][key]
    ]
    return "\n".join([*lines, "", table(rows, ["key", *tracks.tracks()])])


def data_table(statuses: Sequence[Status], where: Where) -> str:
    """Every data set of every track."""
    rows = []
    for status in statuses:
        counts = ", ".join(f"{count:,} {split}" for split, count in status.counts.items())
        rows.append(
            [status.name, status.kind, ", ".join(status.tracks), "found" if status.found else "missing", counts or "-"]
        )
    lines = [table(rows, ["data set", "for", "tracks", "state", "images"]), ""]
    for status in statuses:
        lines.append(f"{status.name}: {status.title}. Licence: {status.licence}.")
        lines.append(
            f"    {'found in' if status.found else 'searched:'} {status.place}"
            + (f"; {status.note}" if status.note else "")
        )
        if not status.found:
            lines.append(f"    get it: {status.how}")
    lines += ["", f"data root: {where.data_root or 'not set (--data-root, REPRO_DATA or data_root in repro.toml)'}"]
    return "\n".join(lines)
