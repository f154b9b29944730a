"""As much of the track's SimCLR as the time allows: pre-trained, judged by k-NN and a linear probe, and recorded.

The jobs are those that `repro run` does, in its way, and leave the records that it leaves, with the device's name.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

from torch import Tensor

from repro import jobs
from repro.errors import UserError
from repro.measure.gpu import device, loops
from repro.measure.gpu.part import Case, Figures, Found, Tell
from repro.plan.builder import make
from repro.plan.planned import Plan, PlannedJob
from repro.plan.request import Request
from repro.settings import Settings
from repro.store import records
from repro.store.workspace import Workspace

METHOD = "simclr"
RECORDS = "records.jsonl"
_TRIED = 8  # loads that tell how long one takes
_SHARE = 0.6  # of the time for the training; the rest is for features, probes and what was not foreseen
_MOST = 1000  # epochs
_SMALL = ("data.limit=512", "pretrain.batch=64")  # of a small case


def plan(case: Case, data: str, epochs: int) -> Plan:
    """What `repro run` would do."""
    length = (f"pretrain.epochs={epochs}", f"pretrain.warmup_epochs={min(10, epochs // 10)}")
    request = Request(
        methods=(METHOD,),
        track=case.track,
        evaluations=("knn", "linear"),
        data=data,
        overrides=(*length, *(_SMALL if case.small else ())),
    )
    return make(request, Settings(workspace=case.workspace, data_root=case.data_root))


def epoch(case: Case, images: Tensor, job: PlannedJob) -> float:
    """Seconds of an epoch of that pre-training, by its first loads."""
    here, batch = device.of_kind(case.device), job.recipe["pretrain"]["batch"]
    with tempfile.TemporaryDirectory() as folder:
        for loads in (2, _TRIED):  # the first ones choose algorithms
            part, settings = images[: loads * batch], {"epochs": 2}
            loop = loops.loop_on(part, None, job.module, job.recipe, here, Path(folder), size=32, settings=settings)
            device.wait(here)
            began = time.monotonic()
            loops.train(loop, loads)
            device.wait(here)
    drawn = job.spec["data"]["limit"]
    return (time.monotonic() - began) / _TRIED * ((drawn["pictures"] if drawn else len(images)) // batch)


def affordable(seconds: float, each: float) -> int:
    """Epochs that fit where one takes `each`. UserError where not one does."""
    epochs = int(min(_MOST, seconds * _SHARE / each))
    if epochs < 1:
        raise UserError(f"an epoch takes {each:.0f} s, and {seconds:.0f} s are left: give more --minutes")
    return epochs


def run(case: Case, tell: Tell) -> Found:
    """Choose the epochs, train, judge; the records as figures too."""
    began, here = time.monotonic(), device.of_kind(case.device)
    images, data = loops.pictures(case)
    each = epoch(case, images, plan(case, data, 1).jobs[0])
    epochs = affordable(case.seconds - (time.monotonic() - began), each)
    figures: Figures = {"method": METHOD, "track": case.track, "data": data, "epochs": epochs, "epoch_s": each}
    tell(figures)
    planned = plan(case, data, epochs)
    place = Workspace(case.workspace)
    jobs.run(
        str(place.root.resolve()),
        [job.to_json() for job in planned.to_do()],
        str(case.data_root.resolve()) if case.data_root else None,
    )
    known = records.by_fingerprint(records.read_all(place.records)[0])
    found = figures["records"] = [known[job.fingerprint] for job in planned.jobs]
    (place.root / RECORDS).write_text("".join(json.dumps(record) + "\n" for record in found), encoding="utf-8")
    metrics = {record["kind"]: record["metrics"] for record in found}
    trained = next(record for record in found if record["kind"] == "pretrain")
    line = (
        f"{METHOD} on {data}, {epochs} epochs in {trained['cost']['device_s']:.0f} s on"
        f" {trained['provenance']['device']}: k-NN {metrics['knn']['top1']:.1f}, linear {metrics['linear']['top1']:.1f}"
    )
    name = device.facts(here)["name"]
    return Found(all(record["provenance"]["device"] == name for record in found), line, figures)
