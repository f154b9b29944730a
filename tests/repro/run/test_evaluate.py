"""`repro eval`: from a file of weights to the boards, with nothing replaced."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from eval.features import extract
from methods.parts.encoders import build_encoder
from repro import jobs, settings
from repro.cli.dispatch import main
from repro.data import loading
from repro.plan.builder import make
from repro.plan.request import Checkpoint, Request
from repro.plan.tasks import graph_of
from repro.run import evaluate
from repro.stages.context import JobContext
from repro.store import checkpoints
from repro.store.encoder_file import ENCODER, Trained
from repro.store.encoder_file import load as load_encoder
from repro.store.workspace import Workspace
from repro.weights import export, layouts
from repro.weights.architectures import ARCHS

pytestmark = [pytest.mark.processes, pytest.mark.usefixtures("own_folder")]

FEW = "--executor local --set data.limit=100 knn.ks=[1,5]".split()
VIT = ["network.size=32", "network.patch=8", "network.dim=24", "network.depth=1", "network.heads=3"]


def records() -> dict[str, Any]:
    found = [json.loads(path.read_text()) for path in sorted(Path("repro-work/records").glob("*.json"))]
    return {record["kind"]: record for record in found}


def resnet18(seed: int = 0) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return torchvision.models.resnet18().eval()


def test_torchvisions_resnet_to_the_boards(capsys: pytest.CaptureFixture[str]) -> None:
    model = resnet18()
    torch.save({"state_dict": {f"module.{key}": value for key, value in model.state_dict().items()}}, "Author-R18.pth")
    pixels = "--mean 0.485,0.456,0.406 --std 0.228,0.224,0.225"
    line = f"eval --checkpoint Author-R18.pth --arch resnet18 {pixels} --track embedded --eval knn".split() + FEW
    assert main(line) == 0
    out = capsys.readouterr().out
    assert "author_r18:imported is resnet18 from Author-R18.pth" in out
    assert "120 weights matched: keys of torchvision under state_dict.module" in out
    assert "heads and classifiers: 2 tensors (state_dict.module.fc.weight, state_dict.module.fc.bias)" in out

    left = records()
    assert set(left) == {"import", "features", "knn"}
    about = left["import"]["details"]
    assert about["file"] == "Author-R18.pth" and about["role"] == "imported" and about["normalise"] == "given"
    assert (about["mean"], about["std"]) == ([0.485, 0.456, 0.406], [0.228, 0.224, 0.225])
    assert about["heads"] == ["state_dict.module.fc.weight", "state_dict.module.fc.bias"]
    assert len(about["recipe"]["checkpoint"]["sha256"]) == 64 and str(Path.cwd()) not in json.dumps(left)
    assert all(record["variant"] == "imported" for record in left.values())

    pictures = loading.load_classification("digits", "test", settings.load({}).where, size=32, limit=None)
    model.fc = nn.Identity()
    x = (torch.from_numpy(np.array(pictures.pixels[:32])).float() / 255 - torch.tensor(about["mean"]).view(3, 1, 1)) / (
        torch.tensor(about["std"]).view(3, 1, 1)
    )
    with torch.inference_mode():
        want = model(x)
    stored = np.load(f"repro-work/jobs/{left['features']['fingerprint'][:16]}/test_x.npy")
    torch.testing.assert_close(torch.from_numpy(stored[:32]), want, atol=1e-5, rtol=1e-5)

    board = Path("repro-work/boards/knn.md").read_text()
    assert "not trained here: weights of Author-R18.pth" in board and "| imported" in board and "ResNet-18" in board
    assert "author_r18" not in Path("repro-work/boards/efficiency.md").read_text()
    assert main(line) == 0
    assert "everything was cached: 3 jobs" in capsys.readouterr().out
    assert main(["explain", left["knn"]["fingerprint"][:12]]) == 0
    command = shlex.split(capsys.readouterr().out.strip().splitlines()[-1])[3:]
    assert command[:5] == ["eval", "--checkpoint", "Author-R18.pth", "--arch", "resnet18"]
    assert main([*command, "--executor", "local", "--set", "data.limit=100"]) == 0
    assert "everything was cached: 3 jobs" in capsys.readouterr().out


def in_this_process(request: Request) -> Path:
    """Do its jobs here; the encoder that the first of them, the import, leaves."""
    here = settings.load({})
    todo = make(request, here).jobs
    threads = torch.get_num_threads()
    jobs.run(str(here.workspace), [job.to_json() for job in todo], str(here.data_root) if here.data_root else None)
    torch.set_num_threads(threads)
    return Workspace(here.workspace).encoder(todo[0].fingerprint)


def imported(given: Checkpoint, *overrides: str) -> Path:
    """Do the import of that checkpoint here; the encoder that it leaves."""
    return in_this_process(Request((), evaluations=(), overrides=overrides, checkpoint=given))


@pytest.mark.parametrize("library", ["torchvision", "safetensors"])
def test_our_own_encoder_there_and_back(library: str) -> None:
    if library == "safetensors":
        pytest.importorskip("safetensors", reason="safetensors is not installed (extra 'export')")
    network = {"arch": "resnet", "depth": 18, "width": 64, "stem": "imagenet", "zero_init_residual": False}
    with torch.random.fork_rng():
        torch.manual_seed(3)
        encoder = build_encoder(network)
    state = {"form": ENCODER, "network": network, "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.25]}
    checkpoints.save(Path("encoder.pt"), {**state, "weights": encoder.state_dict()})
    out = "net.safetensors" if library == "safetensors" else "net.pth"
    export.write(Path("encoder.pt"), library, Path(out))
    arch = None if library == "safetensors" else "resnet18"
    images = np.random.default_rng(0).integers(0, 256, (8, 3, 32, 32), dtype=np.uint8)
    want = extract(encoder, images, state["mean"], state["std"])  # type: ignore[arg-type]
    for path, name, normalise in (("encoder.pt", None, "file"), (out, arch, "imagenet" if arch else "file")):
        given, _ = evaluate.checkpoint(Path(path), name)
        assert given.normalise == normalise
        back = load_encoder(imported(given))
        assert (back.mean == (0.5, 0.4, 0.3)) is (normalise == "file")
        got = extract(back.encoder, images, state["mean"], state["std"])  # type: ignore[arg-type]
        assert np.array_equal(got, want)


def test_what_the_fingerprint_covers(capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(resnet18().state_dict(), "a.pth")
    here = settings.load({})

    def marks(path: str = "a.pth", arch: str = "resnet18", **options: Any) -> list[str]:
        given, _ = evaluate.checkpoint(Path(path), arch, name="it", **options)
        made = make(Request((), evaluations=("knn", "finetune"), checkpoint=given), here)
        assert [job.kind for job in made.jobs] == ["import", "features", "knn", "finetune"]
        tasks = {task.stage: task for task in graph_of(made, here)}
        assert tasks["frozen"].after == tasks["finetune"].after == (tasks["import"].key,)
        return [job.fingerprint for job in made.jobs]

    base = marks()
    Path("elsewhere").mkdir()
    assert marks(str(Path("a.pth").rename("elsewhere/b.pth"))) == base, "the place of a file changes no number"
    torch.save(resnet18(1).state_dict(), "a.pth")
    others = [marks(), marks(normalise="data"), marks("elsewhere/b.pth", normalise="data")]
    assert all(not set(other) & set(base) for other in others) and len({other[0] for other in others}) == 3

    given, _ = evaluate.checkpoint(Path("a.pth"), "resnet18", name="it")
    torch.save(resnet18(2).state_dict(), "a.pth")
    with pytest.raises(SystemExit, match=r"a.pth: the file was changed after this job was planned"):
        imported(given)
    long = Path("a.pth").rename("n" * 250 + ".pth")
    assert graph_of(make(Request((), checkpoint=evaluate.checkpoint(long, "resnet18")[0]), here), here)
    long.rename("a.pth")
    given, lines = evaluate.checkpoint(Path("a.pth"), "resnet18", name="it", normalise="data")
    assert "training images" in lines[-1]
    pictures = loading.load_classification("digits", "train", here.where, size=32, limit={"pictures": 100, "seed": 0})
    assert load_encoder(imported(given, "data.limit=100")).mean == tuple(pictures.mean)


@pytest.mark.parametrize("normalise", ["imagenet", "data"])
def test_a_probe_on_crops_normalises_as_its_encoder(normalise: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network = {**ARCHS["vit_tiny"], "size": 32, "patch": 8, "dim": 24, "depth": 1}
    torch.save(layouts.VIT["timm"].theirs(build_encoder(network).state_dict()), "vit.pth")
    given, _ = evaluate.checkpoint(Path("vit.pth"), "vit_tiny", VIT, normalise=normalise)
    darkest = []
    encoder_of = JobContext.encoder

    def load(context: JobContext) -> Trained:
        trained = encoder_of(context)
        patches = trained.encoder.patches
        patches.register_forward_pre_hook(lambda _, inputs: darkest.append(inputs[0].amin(dim=(0, 2, 3))))
        return trained

    monkeypatch.setattr(JobContext, "encoder", load)
    here = settings.load({})
    few = ("data.limit=100", "linear.epochs=1")
    request = Request((), evaluations=("linear",), overrides=few, protocols=("linear=glnet",), checkpoint=given)
    in_this_process(request)
    pictures = loading.load_classification("digits", "train", here.where, size=32, limit={"pictures": 100, "seed": 0})
    assert pictures.pixels.min() == 0
    mean, std = (pictures.mean, pictures.std) if normalise == "data" else (given.mean, given.std)
    black = -torch.tensor(mean) / torch.tensor(std)
    assert len(darkest) > 1
    for found in darkest:
        torch.testing.assert_close(found, black)


def test_a_vit_sees_pictures_of_its_own_size(capsys: pytest.CaptureFixture[str]) -> None:
    network = {**ARCHS["vit_tiny"], "size": 32, "patch": 8, "dim": 24, "depth": 1}
    torch.save(layouts.VIT["timm"].theirs(build_encoder(network).state_dict()), "vit.pth")
    given, lines = evaluate.checkpoint(Path("vit.pth"), "vit_tiny", VIT)
    assert "heads 3, eps 1e-06, features by the class token" in lines[-1]
    here = settings.load({})
    request = Request((), evaluations=("knn", "reid", "detection"), checkpoint=given)
    assert {job.kind for job in make(request, here).jobs} == {"import", "features", "knn", "reid", "detection"}
    line = ["eval", "--checkpoint", "vit.pth", "--arch", "vit_tiny", "--set", *VIT]
    assert main([*line, "knn.size=[64,64]"]) == 2
    assert "knn: its images are 64 x 64" in capsys.readouterr().err
    other = dataclasses.replace(given, network={**given.network, "size": 64})
    with pytest.raises(Exception, match=r"--set knn.size=\[64,64\]"):
        make(dataclasses.replace(request, checkpoint=other), here)
    # Where pictures are stored larger than networks see them, the middle is seen: 224 of 256 on imagenet.
    usual = dataclasses.replace(given, network={**given.network, "size": 224})
    on_imagenet = Request((), "imagenet", ("knn", "linear", "finetune"), checkpoint=usual)
    assert "knn" in {job.kind for job in make(on_imagenet, here).jobs}
    with pytest.raises(Exception, match=r"images are 224 x 224, .* trained on 32 x 32"):
        make(dataclasses.replace(on_imagenet, checkpoint=given), here)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--arch resnet81", "did you mean 'resnet18'"),
        ("--arch resnet81 --checkpoint nothing.pth", "did you mean 'resnet18'"),
        ("", "say which network it holds with --arch"),
        ("--arch resnet50", "it fits --arch resnet18"),
        ("--arch resnet18 --part nowhere", "no such weights under this prefix"),
        ("--arch resnet18 --normalise imagnet", "did you mean 'imagenet'"),
        ("--arch resnet18 --normalise file", "does not say how its pixels were normalised"),
        ("--arch resnet18 --mean 0.5,0.5,0.5", "--mean alone: give --mean R,G,B and --std R,G,B together"),
        ("--arch resnet18 --mean 0.5,0.5,0.5 --std 0.2,0.2,0.2 --normalise data", "leave one of the two out"),
        ("--arch resnet18 --mean 0.5,0.5 --std 0.2,0.2,0.2", "--mean 0.5,0.5: three numbers R,G,B from 0 to 1"),
        ("--arch resnet18 --mean 0,0,0 --std 0.2,0,0.2", "--std 0.2,0,0.2: three numbers R,G,B from above 0 to 1"),
        ("--arch resnet18 --mean 0,0,nan --std 1,1,1", "--mean 0,0,nan: three numbers"),
        ("--arch resnet18 --mean 124,116,104 --std 58,57,57", "divided by 255"),
        ("--arch resnet18 --name a/b", "--name a/b"),
        (f"--arch resnet18 --name {'n' * 101}", "--name nnnnnnnnnnnnnnnnnnnn...: at most 100 characters"),
        ("--arch resnet18 --set pretrain.epochs=2", "not trained"),
        ("--arch resnet18 --set network.widht=2", "did you mean 'width'"),
        ("--arch resnet18 --set network.stem=none", "network.stem = 'none'"),
        ("--arch resnet18 --suite quik", "did you mean 'quick'"),
        ("--arch resnet18 --track minni", "did you mean 'mini'"),
        ("--arch resnet18 --checkpoint nothing.pth", "no such file: nothing.pth"),
        ("--arch resnet18 --checkpoint .", ". is a folder"),
    ],
)
def test_wrong_use(refused: Callable[[str], str], words: str, said: str) -> None:
    torch.save(resnet18().state_dict(), "a.pth")
    assert said in refused(f"eval --checkpoint a.pth {words}")
    assert not Path("repro-work/records").exists()


def test_every_name_of_a_file_that_does_not_fit(capsys: pytest.CaptureFixture[str]) -> None:
    state = {**resnet18().state_dict(), "optimizer": [{"buffer": torch.zeros(2)}] * 2}
    torch.save(state, "a.pth")
    assert main(["eval", "--checkpoint", "a.pth", "--arch", "resnet34"]) == 2
    error = capsys.readouterr().err
    wanted = torchvision.models.resnet34().state_dict().keys() - {"fc.weight", "fc.bias"}
    missing = sorted(name for name in wanted - state.keys() if "num_batches" not in name)
    assert f"{len(missing)} missing (" in error
    assert f"layer3 {sum(name.startswith('layer3') for name in missing)}" in error
    assert "4 left out (fc.weight, fc.bias, optimizer.0.buffer" in error
    assert error.rstrip().endswith("repro-work/a.pth.keys.txt") and error.count("\n") == 1
    lines = Path("repro-work/a.pth.keys.txt").read_text().splitlines()
    assert sorted(line.removeprefix("missing: ") for line in lines if line.startswith("missing: ")) == missing
    unused = ["fc.weight", "fc.bias", "optimizer.0.buffer", "optimizer.1.buffer"]
    assert [line for line in lines if not line.startswith("missing: ")] == [f"left out: {name}" for name in unused]


def test_pixels_by_given_statistics() -> None:
    torch.save(resnet18().state_dict(), "a.pth")
    given, lines = evaluate.checkpoint(Path("a.pth"), "resnet18", mean="0.485,0.456,0.406", std="0.228,0.224,0.225")
    assert (given.normalise, given.mean, given.std) == ("given", (0.485, 0.456, 0.406), (0.228, 0.224, 0.225))
    assert "divided by deviation (0.228, 0.224, 0.225), as given" in lines[-1]
