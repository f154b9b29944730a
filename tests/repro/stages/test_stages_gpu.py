"""Every stage of a run on a GPU, as a job does it: it mixes no devices, and waits where `pretend_gpu.PLACES` says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pretend_gpu import MixedDevices, pretend

from eval import linear_heads
from repro import jobs
from repro.plan.builder import make
from repro.plan.request import Request
from repro.run import evaluate
from repro.settings import Settings
from repro.store import records
from repro.store.workspace import Workspace
from repro.weights import export

pytestmark = pytest.mark.seconds
NETWORK = {
    "vit": "network.depth=1 network.dim=24",
    "resnet": "network.arch=resnet network.depth=18 network.width=8",
}
SMALL = "data.limit=60"
FINETUNE = (
    "finetune.epochs=2 finetune.warmup_epochs=0 finetune.batch=24 finetune.holdout=0.2 finetune.test_every=1"
    " finetune.label_smoothing=0.1 finetune.clip_grad=1.0 finetune.reported=selected"
)


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def carried_out(request: Request, folder: Path) -> dict[str, dict[str, Any]]:
    """The records of a request by kind: all its jobs in this process, on the device."""
    settings = Settings(workspace=folder)
    planned = make(request, settings)
    jobs.run(str(settings.workspace), [job.to_json() for job in planned.to_do()])
    return {record["kind"]: record for record in records.read_all(Workspace(settings.workspace).records)[0]}


def metrics(kind: str, overrides: str, folder: Path, arch: str = "vit") -> dict[str, Any]:
    """The metrics of an evaluation of an untrained encoder."""
    words = f"{SMALL} {NETWORK[arch]} {overrides}".split()
    method = "random:vit" if arch == "vit" else "random"
    return dict(carried_out(Request((method,), evaluations=(kind,), overrides=tuple(words)), folder)[kind]["metrics"])


def waited(gpu: Any) -> set[str]:
    """The functions in which the stages waited for the device, but for those that save and hash."""
    names = {place.split(":")[1].rpartition(".")[2] for place in gpu.waits}
    return names - {"identity", "save", "<lambda>"}


@pytest.mark.parametrize("arch", NETWORK)
def test_features_and_knn(gpu: Any, tmp_path: Path, arch: str) -> None:
    found = metrics("knn", "knn.ks=[1,5] knn.precision=bf16 knn.flip=sum", tmp_path, arch)
    assert found.keys() >= {"top1", "top5", "top1_k5"}
    assert gpu.real or waited(gpu) == {"extract", "true_ranks"}


@pytest.mark.parametrize("optimizer", ["sgd", "lars"])
def test_linear_and_ridge(gpu: Any, tmp_path: Path, optimizer: str) -> None:
    few = "linear.epochs=2 linear.low_shot=[2] linear.low_shot_shares=[0.5] linear.low_shot_splits=1"
    found = metrics("linear", f"{few} linear.learning_rates=[0.1,1.0] linear.optimizer={optimizer}", tmp_path)
    assert found.keys() >= {"top1", "top1_selected", "top1_2_per_class", "top1_50pct"}
    assert gpu.real or waited(gpu) == {"extract", "ranks", "ridge"}


def test_linear_on_crops(gpu: Any, tmp_path: Path) -> None:
    crops = "linear.crop_scale=[0.2,1.0] linear.hflip=true linear.normalise=none linear.low_shot=[]"
    found = metrics("linear", f"{crops} linear.low_shot_shares=[] linear.epochs=1 linear.batch=30", tmp_path)
    assert found.keys() >= {"top1", "test_effective_rank"}
    assert gpu.real or waited(gpu) == {"extract", "ranks"}


@pytest.mark.parametrize(
    ("arch", "more"),
    [
        ("vit", "finetune.randaugment=true finetune.erasing=0.5 finetune.mixup=0.8 finetune.cutmix=1.0"),
        ("resnet", "finetune.crop_scale=[0.2,1.0] finetune.crop_padding=0 finetune.optimizer=sgd"),
        ("resnet", "finetune.channels_last=true finetune.precision=bf16"),
    ],
)
@pytest.mark.trains
def test_finetuning(gpu: Any, tmp_path: Path, arch: str, more: str) -> None:
    found = metrics("finetune", f"{FINETUNE} {more}", tmp_path, arch)
    assert found.keys() >= {"top1", "top1_selected", "top1_best_on_test"}
    assert gpu.real or waited(gpu) == {"evaluate", "ranks_of"}
    # the sum of the losses of each epoch, and no update
    assert gpu.real or gpu.waits["eval/finetune.py:evaluate"] == 2


@pytest.mark.parametrize("more", ["reid.flip=triplet", "reid.metric=euclidean"])
def test_reid(gpu: Any, tmp_path: Path, more: str) -> None:
    found = metrics("reid", more, tmp_path)
    assert found.keys() >= {"rank1", "mAP", "query_effective_rank"}
    assert gpu.real or waited(gpu) == {"extract", "_similarities"}


def test_reid_with_reranking(valued_gpu: Any, tmp_path: Path) -> None:
    """Its neighbours and their distances come to the host apart, and must agree: made-up ones would not."""
    found = metrics("reid", "reid.rerank=true reid.rerank_k1=5", tmp_path)
    assert found.keys() >= {"rank1", "mAP", "query_effective_rank"}
    assert valued_gpu.real or waited(valued_gpu) == {"extract", "distances", "_nearest", "_pairs"}


@pytest.mark.trains
def test_reid_finetuning(gpu: Any, tmp_path: Path) -> None:
    few = "reid_finetune.epochs=1 reid_finetune.warmup_epochs=0 reid_finetune.milestones=[]"
    found = metrics("reid_finetune", few, tmp_path)
    assert found.keys() >= {"rank1", "mAP"}
    assert gpu.real or waited(gpu) == {"evaluate", "extract", "_similarities"}
    assert gpu.real or gpu.waits["eval/reid_finetune.py:evaluate"] == 1


def test_what_a_device_trained_is_exported_and_judged_as_a_foreign_encoder(valued_gpu: Any, tmp_path: Path) -> None:
    network = ("network.arch=resnet", "network.depth=18", "network.width=64", "network.stem=imagenet")
    made = carried_out(Request(("random",), evaluations=(), overrides=network), tmp_path / "trained")
    encoder = Workspace(tmp_path / "trained").encoder(made["pretrain"]["fingerprint"])
    export.write(encoder, "torchvision", tmp_path / "net.pth")
    given, _ = evaluate.checkpoint(tmp_path / "net.pth", "resnet18")
    few = (SMALL, "knn.ks=[1,5]")
    found = carried_out(Request((), evaluations=("knn",), overrides=few, checkpoint=given), tmp_path / "judged")
    assert found["import"]["details"]["role"] == "imported" and found["knn"]["metrics"].keys() >= {"top1"}
    assert valued_gpu.real or waited(valued_gpu) == {"extract", "true_ranks"}


def test_a_planted_host_tensor_in_an_evaluation_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels that nobody brought to the device."""
    ranks = linear_heads.ranks

    def of_host(x: torch.Tensor, y: torch.Tensor, *head: torch.Tensor) -> Any:
        return ranks(x, torch.zeros(len(y), dtype=torch.int64), *head)

    monkeypatch.setattr(linear_heads, "ranks", of_host)
    with pretend(), pytest.raises((SystemExit, MixedDevices), match="tensors of the host and of the device"):
        metrics("linear", "linear.epochs=1 linear.learning_rates=[0.1]", tmp_path)
