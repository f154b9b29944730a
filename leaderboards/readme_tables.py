"""Tables of records for pages of text: READMEs have them between marks (`repro/results/readmes.py`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean

from leaderboards.answers import in_brief
from leaderboards.arms import PIXELS, Arm, Arms
from leaderboards.assessments import assess
from leaderboards.cells import signed
from leaderboards.claim_arms import COMPUTE
from leaderboards.claims import Claim, of_training
from leaderboards.controls import Controls
from leaderboards.gains import FEWEST, Gain, Row, columns_of, gains, part_names, parts
from leaderboards.markdown_tables import pipe
from leaderboards.record_fields import OURS, Record, entry
from leaderboards.suite import Suite
from leaderboards.summary import held, summarise
from leaderboards.verdict_table import OPERATIONS, accuracy

_UNIT = "moco_v3"  # what costs are relative to
_EXAMPLE = "knn"  # the evaluation whose cell is explained
_HEADS = {
    "knn": "k-NN",
    "linear": "linear",
    "finetune": "fine-tuning",
    "detection": "box AP",
    "segmentation": "mask AP",
    "reid": "Rank-1",
}
"""Evaluations, in the order in which they stand, and their names."""


def gains_table(records: Iterable[Record], suite: Suite, track: str) -> str:
    """Each method of a track: mean over seeds, and in brackets the points above the same network untrained."""
    names = [name for name in _HEADS if name in suite.evaluations and name != "finetune"]  # that few methods have
    heads = [_head(suite, name, metric) for name, metric in columns_of(suite, names)]
    rows = [
        [f"`{row.arm.name}`", _network(row), str(row.arm.setting.epochs or "-"), _seeds(row), *map(_cell, row.gains)]
        for row in sorted(gains(records, suite, track, names), key=lambda row: (row.arm.control, _network(row)))
    ]
    return pipe(["method", "network", "epochs", "seeds", *heads], rows)


def _network(row: Row) -> str:
    """`ResNet-10`, `ViT`; "-" of raw pixels."""
    return "-" if row.arm.variant == PIXELS else row.arm.setting.network.split()[0]


def _seeds(row: Row) -> str:
    """`5`, or `3 to 7` where its columns differ."""
    return " to ".join(map(str, dict.fromkeys(row.seeds)))


def run_table(
    records: Sequence[Record], claims: Sequence[Claim], suite: Suite, method: str, track: str, packages: Sequence[str]
) -> str:
    """The table of a run of one method (its lowest seed), the range over its seeds, the versions it ran on, and how to
    read a cell."""
    known = Arms(records, suite)
    kinds = [*suite.preparing, *dict.fromkeys(evaluation.kind for evaluation in suite.evaluations.values())]
    arms = [arm for kind in kinds for arm in known.current(kind) if arm.name == method and arm.setting.track == track]
    if not arms:
        return "no record yet"
    first = [arm.records[min(arm.records)] for arm in arms]
    controls = Controls((), known.records, suite, claims)
    said = summarise(first, claims, suite, controls)
    lines = ["```", said.table, "", *said.lines, "```", ""]
    ranges = []
    for name, metric in columns_of(suite, [name for name in _HEADS if name in suite.evaluations]):
        for values in (arm.values(metric).values() for arm in arms if arm.kind == suite.kind_of(name)):
            if len(values) > 1:
                ranges.append(f"{_head(suite, name, metric)} {min(values):.1f} to {max(values):.1f}")
    versions = entry(first[0], "provenance", "packages") or {}
    with_ = ", ".join(f"{name} {versions[name]}" for name in packages if name in versions)
    seeds = max((arm.records for arm in arms), key=len)
    lines.append(
        f"Seed {min(seeds)}, with {with_}; other versions give other numbers. Over {len(seeds)} seeds:"
        f" {', '.join(ranges)}."
    )
    return "\n".join(lines) + _example(Arms(first, suite), controls)


def _example(alone: Arms, controls: Controls) -> str:
    """What a cell of the table of a run says, by that of k-NN: `Example: `40.0* (+27.2)`: ...`."""
    for arm in alone.of(_EXAMPLE):
        control = controls.untrained(arm, alone.suite.evaluations[_EXAMPLE].metrics[0])
        if control:
            more = "more" if control.gain >= 0 else "less"
            said = f"k-NN on the untrained network gets {control.value:.1f} %"
            return f" Example: `{held(control)}`: {said}, on the trained one {abs(control.gain):.1f} points {more}."
    return ""


def costs_table(records: Iterable[Record], suite: Suite, track: str) -> str:
    """What the pre-training of each method costs, and per picture relative to MoCo-v3 on the same network."""
    arms = [
        arm
        for arm in Arms(records, suite).current("pretrain")
        if arm.setting.track == track and arm.trust == OURS and arm.costs("flops_per_image") and not arm.control
    ]
    unit = {arm.setting.network: _mean(arm, "flops_per_image") for arm in arms if arm.method == _UNIT}
    stands: dict[str, Arm] = {}
    for arm in arms:
        if not arm.variant and (arm.name not in stands or arm.standing > stands[arm.name].standing):
            stands[arm.name] = arm
    rows = []
    for name, arm in sorted(stands.items()):
        per_image, epochs = _mean(arm, "flops_per_image"), arm.setting.epochs or 1
        relative = f"{per_image / unit[arm.setting.network]:.2f}" if arm.setting.network in unit else "-"
        rows.append(
            [
                *(f"`{name}`", arm.setting.network, f"{per_image / 1e9:.3f}", relative, str(epochs)),
                f"{_mean(arm, 'updates') / epochs:,.0f}",
                f"{_mean(arm, 'image_passes'):,.0f}",
                f"{_mean(arm, 'flops') / 1e12:.1f}",
                str(len(arm.records)),
            ]
        )
    heads = ["GFLOP / image", f"{_UNIT} = 1", "epochs", "updates / epoch", "image passes", "TFLOP", "seeds"]
    return pipe(["method", "network", *heads], rows)


def _mean(arm: Arm, cost: str) -> float:
    return fmean(arm.costs(cost).values() or [0.0])


def parts_table(records: Iterable[Record], claims: Sequence[Claim], suite: Suite, track: str) -> str:
    """What each variant changes: the method minus the variant in linear probe and fine-tuning, paired seeds."""
    rows, known = [], Arms(records, suite)
    for evaluation in (name for name in ("linear", "finetune") if name in suite.evaluations):
        named = part_names(claims, evaluation)
        for part in parts(known, claims, track, evaluation):
            mean, least, largest = part.difference
            between = f"{least:+.1f} to {largest:+.1f}"
            pair = part.method.name, part.variant.name
            lacks = named.get(pair, "-")
            names = f"`{pair[0]}`", f"`{pair[1]}`", lacks, _HEADS[evaluation]
            rows.append([*names, signed(mean, 1).text, between, str(part.seeds)])
    if not rows:
        return f"No variant has {FEWEST} pairs with its method yet."
    return pipe(
        ["method", "variant", "what the method has", "evaluation", "method - variant", "range over seeds", "seeds"],
        rows,
    )


def parts_verdicts(records: Sequence[Record], claims: Sequence[Claim], suite: Suite, track: str) -> str:
    """What is decided of the parts of methods: a row for each, with equal epochs, equal compute and operations."""
    rows, before = [], ""
    for item in assess(claims, Arms(records, suite)):
        claim = item.claim
        here = [one for one in item.answered if one.track == track and not one.form]
        epochs = next((one for one in here if one.basis != COMPUTE), None)
        if not claim.part or epochs is None or not epochs.decided or of_training(claim):
            continue
        compute = next((in_brief(one) for one in here if one.basis == COMPUTE), None)
        sides = f"`{claim.arm}` against `{claim.baseline_arm}`"
        found = accuracy(in_brief(epochs)), accuracy(compute), f"{epochs.times:.2f}" if epochs.times else ""
        rows.append(["" if claim.paper_title == before else claim.paper_title, claim.part, sides, *found])
        before = claim.paper_title
    heads = ["paper", "part", "comparison", "equal epochs", "equal compute", OPERATIONS]
    return pipe(heads, rows) if rows else "Nothing is decided yet."


def _head(suite: Suite, evaluation: str, metric: str) -> str:
    """`k-NN`, or of the metric of few labels `10 labels per class`."""
    if metric == suite.evaluations[evaluation].metrics[0]:
        return _HEADS[evaluation]
    return metric.split("_", 1)[-1].replace("_per_", " labels per ")


def _cell(gain: Gain | None) -> str:
    if gain is None:
        return "-"
    return f"{gain.value:.1f}" + (f" ({gain.above[0]:+.1f})" if gain.above else "")
