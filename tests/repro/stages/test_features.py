"""The frozen encoder sees each picture once; what it saw serves its evaluations and nobody else's."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from repro import jobs
from repro.plan.builder import make
from repro.plan.planned import Plan
from repro.plan.request import Request
from repro.plan.tasks import graph_of
from repro.settings import Settings
from repro.store import checkpoints, encoder_file, records
from repro.store.encoder_file import ENCODER
from repro.store.workspace import Workspace

pytestmark = pytest.mark.trains

SMALL = (
    "network.depth=1 network.dim=24 data.limit=200 linear.epochs=2 linear.low_shot_splits=2 knn.ks=[1,5]"
    " pretrain.epochs=1"
).split()
REQUEST = Request(("random:vit",), evaluations=("knn", "linear"), overrides=tuple(SMALL))


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(workspace=tmp_path)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> collections.Counter[bytes]:
    """How often each normalised picture went through a frozen encoder's `features`."""
    counted: collections.Counter[bytes] = collections.Counter()
    real = encoder_file.load

    def load(path: Path, device: torch.device) -> Any:
        trained = real(path, device)
        inner = trained.encoder.features

        def features(x: torch.Tensor) -> torch.Tensor:
            counted.update(picture.numpy().tobytes() for picture in x)
            return inner(x)

        trained.encoder.features = features  # type: ignore[assignment]
        return trained

    monkeypatch.setattr(encoder_file, "load", load)
    return counted


def run(request: Request, settings: Settings) -> Plan:
    """The jobs that are to do, in this process."""
    planned = make(request, settings)
    jobs.run(str(settings.workspace), [job.to_json() for job in planned.to_do()])
    return planned


def record(settings: Settings, kind: str) -> dict[str, Any]:
    (found,) = (r for r in records.read_all(Workspace(settings.workspace).records)[0] if r["kind"] == kind)
    return found


def change_a_weight(path: Path) -> None:
    state = checkpoints.load(path, ENCODER)
    next(iter(state["weights"].values())).view(-1)[0] += 1.0
    checkpoints.save(path, state)


def test_one_process_has_all_that_is_asked_of_the_frozen_encoder(settings: Settings) -> None:
    planned = make(dataclasses.replace(REQUEST, evaluations=("knn", "linear", "reid")), settings)
    (task,) = (task for task in graph_of(planned, settings) if task.stage == "frozen")
    assert [job["kind"] for job in task.args["jobs"]] == ["features", "knn", "linear", "reid"]


def test_each_picture_is_seen_once(settings: Settings, seen: collections.Counter[bytes]) -> None:
    planned = run(dataclasses.replace(REQUEST, evaluations=("knn", "linear", "reid")), settings)
    asked = sum(record(settings, kind)["cost"]["image_passes"] for kind in ("features", "reid"))
    assert sum(seen.values()) == asked
    assert asked == 200 + record(settings, "knn")["details"]["n_test"] + _reid_pictures(settings)
    assert max(seen.values()) == 1
    assert "top1_10_per_class" in record(settings, "linear")["metrics"]  # low-shot on the same features

    # Another protocol on the same features needs no encoder, another transform does.
    seen.clear()
    other = dataclasses.replace(REQUEST, evaluations=("knn",), overrides=(*SMALL, "knn.temperature=0.2"))
    assert [job.kind for job in run(other, settings).to_do()] == ["knn"]
    assert not seen
    mirrored = dataclasses.replace(other, overrides=(*SMALL, "knn.flip=sum"))
    assert [job.kind for job in run(mirrored, settings).to_do()] == ["features", "knn"]
    assert sum(seen.values()) == 2 * (200 + record_of(settings, planned, "knn")["details"]["n_test"])

    # The same of re-ID.
    pictures = _reid_pictures(settings)
    for change, times in (("reid.rerank=true", 0), ("reid.flip=sum", 2)):
        seen.clear()
        other = dataclasses.replace(REQUEST, evaluations=("reid",), overrides=(*SMALL, change))
        assert [job.kind for job in run(other, settings).to_do()] == ["reid"]
        assert sum(seen.values()) == times * pictures


def record_of(settings: Settings, planned: Plan, kind: str) -> dict[str, Any]:
    done = records.by_fingerprint(records.read_all(Workspace(settings.workspace).records)[0])
    return next(done[job.fingerprint] for job in planned.jobs if job.kind == kind)


def _reid_pictures(settings: Settings) -> int:
    details = record(settings, "reid")["details"]
    return int(details["n_query"] + details["n_without_match"] + details["n_gallery"])


def test_a_changed_checkpoint_never_meets_an_old_cache(
    settings: Settings, seen: collections.Counter[bytes], tmp_path: Path
) -> None:
    place = Workspace(settings.workspace)
    planned = run(dataclasses.replace(REQUEST, evaluations=("knn",)), settings)
    of = {job.kind: job for job in planned.jobs}
    cache = place.job(of["features"].fingerprint) / "test_x.npy"
    old, names = np.load(cache), {record(settings, kind)["details"]["checkpoint"] for kind in ("features", "knn")}
    assert len(names) == 1

    # One weight of the file: whoever has the old plan in hand is refused, the same command extracts anew.
    to_do = make(dataclasses.replace(REQUEST, evaluations=("linear",)), settings)
    assert [job.kind for job in to_do.to_do()] == ["linear"]
    change_a_weight(place.encoder(of["pretrain"].fingerprint))
    seen.clear()
    with pytest.raises(SystemExit, match=r"these features come from another encoder than .*encoder\.pt; run again"):
        jobs.run(str(settings.workspace), [job.to_json() for job in to_do.to_do()])
    again = run(dataclasses.replace(REQUEST, evaluations=("linear",)), settings)
    assert [job.kind for job in again.to_do()] == ["features", "linear"]
    assert len(seen) == 200 + record(settings, "linear")["details"]["n_test"]
    assert not np.array_equal(np.load(cache), old)
    assert record(settings, "linear")["details"]["checkpoint"] not in names

    # Another pre-training, another cache: nothing of the first is touched.
    before = cache.stat().st_mtime_ns
    other = run(dataclasses.replace(REQUEST, evaluations=("knn",), seeds=(1,)), settings)
    assert [job.kind for job in other.to_do()] == ["pretrain", "features", "knn"]
    assert {job.fingerprint for job in other.jobs}.isdisjoint(job.fingerprint for job in planned.jobs)
    assert cache.stat().st_mtime_ns == before


def test_features_outlive_their_encoder_but_not_a_damaged_note(settings: Settings) -> None:
    place = Workspace(settings.workspace)
    planned = run(dataclasses.replace(REQUEST, evaluations=("knn",)), settings)
    of = {job.kind: job for job in planned.jobs}
    place.encoder(of["pretrain"].fingerprint).unlink()
    linear = dataclasses.replace(REQUEST, evaluations=("linear",))
    assert [job.kind for job in make(linear, settings).to_do()] == ["linear"]
    meta = place.job(of["features"].fingerprint) / "meta.json"
    meta.write_text(meta.read_text()[:-9])
    assert [job.kind for job in make(linear, settings).to_do()] == ["pretrain", "features", "linear"]


def test_a_recipe_may_state_how_pixels_are_normalised(settings: Settings) -> None:
    """It is trained with these statistics and judged with them: the encoder's file carries them."""
    place, found = Workspace(settings.workspace), []
    stated = ["method.mean=[0.5,0.4,0.3]", "method.std=[0.2,0.3,0.4]"]
    for own in ([], stated):
        asked = Request(("aps",), evaluations=(), overrides=(*SMALL, *own))
        (job,) = run(asked, settings).jobs
        found.append(checkpoints.load(place.encoder(job.fingerprint), ENCODER))
    assert (found[1]["mean"], found[1]["std"]) == ([0.5, 0.4, 0.3], [0.2, 0.3, 0.4])
    assert found[0]["mean"] != found[1]["mean"] and found[0]["std"] != found[1]["std"]
    trained = [state["weights"]["norm.weight"] for state in found]
    assert not torch.equal(*trained)
