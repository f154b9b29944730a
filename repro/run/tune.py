"""`tune`: settings of a recipe side by side, judged on training pictures that were held out, never on test pictures.

A trial is an ordinary run with changes to its recipe, in a workspace of its own, so that it reaches no board. What is
printed of it are the scores by which the k-NN and linear protocols choose their own settings: accuracy on the part of
the training pictures that those protocols hold out from their references, of few labels too where the linear protocol
has such a probe. Seeds of short trainings differ by several points: give more than one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from repro.errors import UserError
from repro.plan import registry
from repro.plan.builder import make
from repro.plan.planned import Plan, merge
from repro.plan.request import Request
from repro.run import execute
from repro.settings import Settings
from repro.store import records
from repro.store.workspace import Workspace
from repro.terminal import text

FOLDER = "tuning"
EVALUATIONS = ("knn", "linear")
SEED = 100  # none of those that results are reported of


def tune(
    request: Request,
    changes: Sequence[Sequence[str]],
    settings: Settings,
    command: Sequence[str],
    agreed: bool = False,
) -> int:
    """Run the recipes of `request` as they are and once with each of `changes`, print them side by side; exit status.

    changes: each a list of "table.key=value", on top of the request's own.  agreed: see `missing_data.complete`.
    """
    for change in (change for changed in changes for change in changed):
        if change.partition(".")[0] not in registry.TABLES:
            raise UserError(
                f"--try {change}: a trial changes a recipe; write it as pretrain.lr=0.5 or method.key=value"
            )
    users, settings = settings, apart(settings)
    trials = {
        " ".join(texts) or "-": make(dataclasses.replace(request, overrides=(*request.overrides, *texts)), settings)
        for texts in ((), *changes)
    }
    for kind in EVALUATIONS:
        used = {
            job.protocol["name"]: job.protocol["values"]
            for made in trials.values()
            for job in made.jobs
            if job.kind == kind
        }
        if len(used) > 1:
            raise UserError(f"--protocol {kind}={','.join(used)}: a trial is evaluated with one protocol; name one")
        for name, values in used.items():
            if not values["holdout"]:
                raise UserError(
                    f"--protocol {kind}={name}: it has no held-out training images, so it cannot score a trial"
                )
    share_downloads(users.where.downloads, settings.where.downloads)
    return execute.perform(
        merge(list(trials.values())),
        settings,
        command,
        lambda: print(_report(trials, settings.workspace)),
        agreed=agreed,
    )


def apart(settings: Settings) -> Settings:
    """The settings with the workspace of the trials."""
    trials = dataclasses.replace(settings, workspace=settings.workspace / FOLDER)
    if settings.where.downloads.is_dir():  # which the plan looks at
        share_downloads(settings.where.downloads, trials.where.downloads)
    return trials


def share_downloads(users: Path, ours: Path) -> None:
    """Let the workspace of the trials have the downloads of the user's: nothing is downloaded twice."""
    with contextlib.suppress(OSError):  # whoever cannot write there is told by what follows
        users.mkdir(parents=True, exist_ok=True)
        ours.parent.mkdir(parents=True, exist_ok=True)
        ours.symlink_to(os.path.relpath(users, ours.parent))


def _report(trials: Mapping[str, Plan], workspace: Path) -> str:
    found = {record["fingerprint"]: record for record in records.read_all(Workspace(workspace).records)[0]}
    request, resolved = next((planned.request, planned.recipes) for planned in trials.values())
    head = ["method", "changes", "k-NN", "linear", "few labels", "mean", "of seeds", "collapsed", "training"]
    lines = [
        "",
        "top-1 on held-out training images",
        text.table([row for name in request.methods for row in _rows(name, trials, found)], head),
        "",
    ]
    for name in request.methods:
        info, variant = registry.find(name)
        tried = {
            json.dumps(record["details"]["recipe"], sort_keys=True)
            for record in found.values()
            if record["kind"] == "pretrain"
            and (record["method"], record["variant"], record["track"]) == (info.name, variant, request.track)
        }
        stated = resolved[name]["pretrain"]["tuning_trials"]
        lines.append(f"{name} on {request.track}: {len(tried)} settings in {workspace}; its recipe says {stated}")
    return "\n".join(lines)


def _rows(name: str, trials: Mapping[str, Plan], found: Mapping[str, records.Record]) -> list[list[Any]]:
    """One row a trial of this arm, the best first; means over the seeds that are there."""
    rows = []
    for label, planned in trials.items():
        mine: dict[str, list[records.Record]] = {kind: [] for kind in ("pretrain", *EVALUATIONS)}
        for job in planned.jobs:
            if job.arm == name and job.kind in mine and job.fingerprint in found:
                mine[job.kind].append(found[job.fingerprint])
        knn = [record["details"]["split_top1"][str(record["details"]["k"])] for record in mine["knn"]]
        linear = [max(record["details"]["split_top1_last_epoch"]) for record in mine["linear"]]
        few = [score for record in mine["linear"] for score in _few_labels(record)]
        if not knn or not linear:
            rows.append((-1.0, [name, label, "not finished", "", "", "", "", "", ""]))
            continue
        scores = [statistics.fmean(found) for found in (knn, linear, few) if found]
        each = [round(statistics.fmean(pair), 1) for pair in zip(knn, linear, strict=False)]
        collapsed = sum(record["details"]["collapsed_at_update"] is not None for record in mine["pretrain"])
        seconds = sum(record["cost"]["wall_s"] for record in mine["pretrain"]) / max(len(mine["pretrain"]), 1)
        mean = statistics.fmean(scores)
        shown = [f"{score:.1f}" for score in scores] + [""] * (3 - len(scores)) + [f"{mean:.1f}"]
        spread = f"{min(each):.1f} to {max(each):.1f}" if len(each) > 1 else ""
        state = f"{collapsed} of {len(mine['pretrain'])}"
        rows.append((mean, [name, label, *shown, spread, state, text.duration(seconds)]))
    return [row for _, row in sorted(rows, key=lambda pair: -pair[0])]


def _few_labels(record: records.Record) -> list[float]:
    """Held-out accuracy of every draw of the linear protocol's first probe of few labels; [] where it has none."""
    probes = [runs for runs in record["details"].get("low_shot", {}).values() if isinstance(runs, list)]
    return [run["split_top1"] for runs in probes[:1] for run in runs if "split_top1" in run]
