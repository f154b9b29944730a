"""The night of one GPU (night.py) in words, at most 100 columns wide."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterable

from repro.plan.planned import CONSTANTS, PRICED_BY, Plan
from repro.results import night as nights
from repro.results.night import PAIRS, Arm, Comparison, Night
from repro.settings import Settings
from repro.store.workspace import Workspace
from repro.terminal import text

_NEGATIVES = {
    "global": "its negatives are the whole batch, which accumulation would change",
    "per_device": "its negatives are the rows of one device, which accumulation would change",
}


def words(night: Night, planned: Plan, settings: Settings) -> str:
    """What the night is good for, and the command."""
    lines = [f"one GPU, one night ({night.hours:g} h) on {night.card.title_and_memory}", ""]
    if night.comparisons:
        head = ["comparison", "evaluated by", "epochs", "h per pair", "pairs", f"{PAIRS} pairs with", "memory"]
        lines += [text.table([_row(one, night) for one in night.comparisons], head), ""]
    lines += [line for arm in _arms(night.comparisons) for line in _unfit(arm, night)]
    lines += _settles(night, planned, settings)
    lines += _sources(night, settings)
    if night.absent:
        lines.append(_absent(night))
    return "\n".join(part for line in lines for part in _wrapped(line))


def unused(planned: Plan) -> str:
    """Why --night says nothing of a plan."""
    if planned.card is None:
        return for_gpus(planned, "--night")
    if planned.request.processes > 1:
        return f"--night is ignored: it is for one GPU, and --processes {planned.request.processes} uses more"
    return f"--night is ignored: no claim compares one of these methods on {planned.track.name} by these evaluations"


def for_gpus(planned: Plan, option: str) -> str:
    """Why an option says nothing of a plan without a GPU."""
    return f"{option} is ignored: it is for tracks that need a GPU, and {planned.track.name} needs none"


def _absent(night: Night) -> str:
    """The methods that claims compare with and that were not asked for."""
    named = ", ".join(
        f"{name} ({count} claim{'' if count == 1 else 's'})" for name, count in sorted(night.absent.items())
    )
    if night.comparisons:
        return f"more can be compared: claims compare these methods with {named}; add to --method what you want"
    return f"no pair can be planned: claims compare these methods with {named}; add one to --method"


def _wrapped(line: str) -> list[str]:
    if line.startswith("  python") or len(line) <= text.WIDTH or "  " in line.strip():  # a command, a row of a table
        return [line]
    return text.wrapped(line, others="  ")


def _row(one: Comparison, night: Night) -> list[str]:
    hours = one.hours()
    pairs = int(night.hours / hours) if one.fits else 0
    epochs = min(one.affordable(night.hours), one.epochs)
    shown = f"{epochs} epochs" if epochs >= nights.LEAST_EPOCHS else "too few"
    peak = max(arm.memory.gb for arm in one.arms)
    names = f"{one.arm.name} / {one.baseline.name}"
    memory = f"{peak:.1f} GB" + ("" if one.fits else ", no")
    row = [names, " ".join(one.evaluations), str(one.epochs), _hours(hours)]
    return [*row, str(pairs) if one.fits else "-", shown if one.fits else "-", memory]


def _hours(hours: float) -> str:
    return f"{hours:.0f}" if hours >= 10 else f"{hours:.1f}"


def _arms(of: Iterable[Comparison]) -> list[Arm]:
    return list({arm.name: arm for one in of for arm in one.arms}.values())


def _unfit(arm: Arm, night: Night) -> list[str]:
    """What an arm needs that does not fit as its recipe says."""
    memory = arm.memory
    if memory.fits and not memory.parts:
        return []
    if memory.parts:
        return [
            f"{arm.name}: fits with pretrain.accumulate={memory.parts}; the negatives stay the same, but BatchNorm"
            f" sees {memory.rows} rows at a time"
        ]
    if memory.bf16_fits:
        return [f"{arm.name}: {memory.gb:.1f} GB in fp32; fits with --set pretrain.precision=bf16"]
    why = _NEGATIVES.get(memory.negatives, "two rows at a time do not fit either")
    more = f"; a card like {memory.least} holds it" if memory.least else ""
    return [
        f"{arm.name}: needs {memory.gb:.1f} GB plus reserve; a {night.card.memory_gb:g} GB card is too small,"
        f" and {why}{more}"
    ]


def _settles(night: Night, planned: Plan, settings: Settings) -> list[str]:
    if not night.chosen or night.plan is None:
        if not night.comparisons:
            return []
        fixed = nights.epochs_are_set(planned)
        fitting = [one for one in night.comparisons if one.fits]
        lengths = [one.epochs if fixed else min(one.epochs, nights.LEAST_EPOCHS) for one in fitting]
        needed = [(PAIRS * one.hours(epochs), epochs) for one, epochs in zip(fitting, lengths, strict=True)]
        if not needed:
            return [f"none of these fits in {night.card.memory_gb:g} GB"]
        least, epochs = min(needed)
        shortest = f"the shortest takes {_hours(least)} h with {epochs} epochs{', as --set says' if fixed else ''}"
        return [f"no comparison gets {PAIRS} pairs in {night.hours:g} h: {shortest}, see --night"]
    runs = sum(job.kind == "pretrain" for job in night.plan.to_do())
    free = shutil.disk_usage(Workspace(settings.workspace).on_disk).free / 2**30
    count = f"{len(night.chosen)} comparison" + "s" * (len(night.chosen) > 1)
    ids = ", ".join(name for one in night.chosen for name in one.claims)
    hours, disk = _hours(night.plan.seconds / 3600), runs * planned.track.disk_gb
    lines = [
        f"the night: {night.pairs} pairs of {count} with {night.epochs} epochs, about"
        f" {hours} h and {disk:.3g} GB of disk ({free:.0f} GB free)",
        f"for the claims: {ids}",
    ]
    if disk > free:
        lines.append("the disk is too small: python -m repro gc --delete frees space, or use another --workspace")
    if night.shortened:
        lines.append("fewer epochs than the recipes': a verdict holds at that length, not at the papers'")
    if told := [change for change in nights.changes(night, planned) if not change.startswith("pretrain.epochs")]:
        lines.append(f"changed for all methods of the command: {', '.join(told)}")
    return [*lines, "", "  " + command(night, planned, settings), ""]


def command(night: Night, planned: Plan, settings: Settings) -> str:
    """The command that does the night, with what the user said of data, protocols, recipes and places."""
    asked = nights.request(night, planned)
    words = ["python", "-m", "repro", "run", "--track", asked.track, "--method", *asked.methods]
    words += ["--eval", *asked.evaluations, "--seed", *map(str, asked.seeds)]
    words += ["--data", asked.data] if asked.data else []
    kept = [text for text in asked.protocols if text.partition("=")[0] in asked.evaluations]
    words += ["--protocol", *kept] if kept else []
    words += ["--set", *asked.overrides] if asked.overrides else []
    words += ["--card", settings.card] if settings.card else []
    words += ["--workspace", str(settings.workspace)] if settings.workspace != Settings.workspace else []
    return shlex.join([*words, "--budget", f"{night.hours:g}gpuh"])


def _sources(night: Night, settings: Settings) -> list[str]:
    card, arms = night.card, _arms(night.comparisons)
    counts = {name: sum(arm.priced_by == name for arm in arms) for name in PRICED_BY}
    told = ", ".join(f"{count} from {name}" for name, count in counts.items() if count)
    lines = [f"hours: pre-training of {len(arms)} methods or variants, estimates: {told}"] if arms else []
    if any(arm.priced_by == CONSTANTS for arm in arms):
        lines.append(
            f"constants: {card.rate('bf16') / 1e12:.3g} TFLOP/s, estimated from {card.bandwidth:,g} GB/s and"
            f" {card.bf16 or card.fp32:g} TFLOP/s in {card.precision('bf16')} ({card.source});"
            " --calibrate measures it on the card"
        )
    if any(not arm.memory.recorded for arm in arms):
        lines.append(
            "memory: of pre-training, estimated from network, batch and optimiser; disk: the track's constant a run"
        )
    if not card.bf16:
        lines.append(f"{card.title} has no bf16: all in fp32")
    return lines
