"""A `model-index.yml` as the OpenMMLab repositories have: a collection a method, a model an arm or import."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from leaderboards.arms import Arm, Arms
from leaderboards.record_fields import ORIGINS, OURS
from leaderboards.suite import Evaluation
from repro.plan import registry
from repro.results.find_records import with_ancestors
from repro.results.suite import suite
from repro.store.records import Record
from slurm.files import write_atomic

_METRICS = {
    "top1": "Top 1 Accuracy",
    "top5": "Top 5 Accuracy",
    "bbox_AP": "box AP",
    "segm_AP": "mask AP",
    "rank1": "Rank-1",
    "mAP": "mAP",
}


def write_model_index(chosen: Sequence[Record], every: Sequence[Record], out: Path) -> str:
    """Write the arms of the chosen records to `out`; returns how many there are."""
    import yaml

    found = with_ancestors(chosen, every)
    wanted = {(record["method"], record["variant"]) for record in chosen}
    every_arm = Arms(found, suite())
    trained = [arm for kind in ORIGINS for arm in every_arm.of(kind) if (arm.method, arm.variant) in wanted]
    judged = [(shown, arm) for shown in suite().evaluations.values() for arm in every_arm.of(shown.kind)]
    known = registry.methods()
    collections, models = [], []
    for method in sorted({arm.method for arm in trained}):
        mine = [arm for arm in trained if arm.method == method]
        collection: dict[str, Any] = {
            "Name": method,
            "Metadata": {
                "Training Data": sorted({arm.setting.source for arm in mine if not arm.imported}),
                "Architecture": sorted({arm.setting.network for arm in mine}),
            },
        }
        if method in known:
            info = known[method]
            collection["Paper"] = {"Title": info.title} | (
                {"URL": f"https://arxiv.org/abs/{info.arxiv}"} if info.arxiv else {}
            )
        collection["README"] = "README.md"
        collections.append(collection)
        models += [_model(arm, [pair for pair in judged if _comes_from(pair[1], arm)]) for arm in mine]
    text = yaml.safe_dump({"Collections": collections, "Models": models}, sort_keys=False, allow_unicode=True)
    write_atomic(out, text)
    return f"{len(collections)} collections, {len(models)} models"


def _comes_from(judged: Arm, trained: Arm) -> bool:
    known = {record["fingerprint"] for record in trained.records.values()}
    return any(origin["fingerprint"] in known for origin in judged.origins.values())


def _model(arm: Arm, judged: Sequence[tuple[Evaluation, Arm]]) -> dict[str, Any]:
    setting, first = arm.setting, next(iter(arm.records.values()))
    length = "" if setting.epochs is None else f"{setting.epochs}e"
    words = [arm.name, setting.network, length, setting.track, arm.told_apart]
    flops = list(arm.costs("flops").values())
    results = []
    for evaluation, other in judged:
        means = {
            _METRICS[metric]: sum(values.values()) / len(values)
            for metric in dict.fromkeys((*evaluation.metrics, "top5"))
            if metric in _METRICS and (values := other.values(metric))
        }
        if means:
            results.append({"Task": evaluation.task, "Dataset": other.setting.source, "Metrics": means})
    metadata = {
        "Epochs": setting.epochs,
        "Batch Size": setting.batch,
        "Parameters": (first.get("details") or {}).get("parameters"),
        "Training FLOPs": sum(flops) / len(flops) if flops else None,
        "Training Data": None if arm.imported else setting.source,
        "Training Resources": None if arm.imported else first["provenance"].get("device"),
        "Seeds": sorted(arm.records),
        "Trust": None if arm.trust == OURS else arm.trust,
    }
    model = {
        "Name": re.sub(r"[^a-z0-9.]+", "-", " ".join(words).lower()).strip("-"),
        "In Collection": arm.method,
        "Metadata": {key: value for key, value in metadata.items() if value is not None},
        "Results": results or None,
    }
    ours = arm.method in registry.methods() and not arm.imported
    return model | ({"Config": f"methods/recipes/{arm.method}.toml"} if ours else {})
