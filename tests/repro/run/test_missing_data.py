"""What is missing is fetched when the user says so, and only then; the internet is a server in this process."""

from __future__ import annotations

import hashlib
import io
import pickle
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from repro import settings
from repro.cli.dispatch import main
from repro.data import archives, inventory, loading
from repro.data.archives import OFFICIAL_CIFAR
from repro.data.types import MissingData
from repro.errors import UserError
from repro.plan.builder import make
from repro.plan.kinds import evaluations
from repro.plan.planned import Plan
from repro.plan.request import Request
from repro.run import missing_data, tune

pytestmark = pytest.mark.usefixtures("own_folder", "published")

DOWNLOADED = Path("repro-work/data/downloads/cifar-10-python.tar.gz")
RUN = "run --method random --track mini --suite quick"


def batches() -> dict[str, bytes]:
    """The files of a CIFAR-10 of two pictures a batch, by name."""
    rng = np.random.default_rng(0)
    names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    files = {n: {"data": rng.integers(0, 256, (2, 3072), dtype=np.uint8), "labels": [0, 1]} for n in names}
    meta = {"label_names": ["airplane", "automobile"]}
    return {name: pickle.dumps(content) for name, content in {**files, "batches.meta": meta}.items()}


def packed(files: dict[str, bytes]) -> bytes:
    """The archive of these files, as it is laid out officially."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


@pytest.fixture
def published(internet: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """The server has such an archive, and its sums are the published ones. Returns its files."""
    files = batches()
    internet.content = packed(files)
    official = replace(
        OFFICIAL_CIFAR["cifar10"],
        url=f"{internet.url}/cifar-10-python.tar.gz",
        bytes=len(internet.content),
        archive_md5=hashlib.md5(internet.content).hexdigest(),
        md5=tuple((name, hashlib.md5(content).hexdigest()) for name, content in files.items()),
    )
    monkeypatch.setitem(archives.OFFICIAL_CIFAR, "cifar10", official)
    return files


def quick(*overrides: str) -> Plan:
    return make(Request(("random",), "mini", ("knn",), overrides=overrides), settings.load({}))


def test_get_downloads_into_the_workspace_once(internet: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "get", "cifar10"]) == 0
    said = capsys.readouterr()
    assert f"from {internet.url}/cifar-10-python.tar.gz to {DOWNLOADED}" in said.out
    assert "\r" not in said.err and said.err.splitlines()[-1].startswith("cifar10: ")  # plain lines: no terminal
    assert DOWNLOADED.read_bytes() == internet.content
    assert main(["data", "get", "cifar10"]) == 0
    assert "CIFAR-10 [cifar10] is here: " in capsys.readouterr().out
    assert len(internet.asked) == 1


def test_get_downloads_into_the_data_root_that_is_set(internet: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("root").mkdir()
    monkeypatch.setenv("REPRO_DATA", "root")
    assert main(["data", "get", "cifar10"]) == 0
    assert Path("root/cifar10/cifar-10-python.tar.gz").read_bytes() == internet.content
    assert not DOWNLOADED.exists()


def test_a_data_root_that_is_marked_read_only_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    Path("root").mkdir(mode=0o555)
    assert main(["data", "get", "cifar10", "--data-root", "root"]) == 0
    assert "root is not writable: downloads go into the workspace" in capsys.readouterr().out
    assert DOWNLOADED.is_file() and not list(Path("root").iterdir())
    found = {status.name: status for status in inventory.statuses(settings.load({"data_root": "root"}).where)}
    assert found["cifar10"].found


def test_a_title_with_brackets_stands_in_none() -> None:
    with pytest.raises(MissingData, match=r"^CIFAR-10 \(JPEG copy\) \[cifar10-jpeg\] is missing \(searched: "):
        inventory.manifest_of("cifar10-jpeg", settings.Where(Path("root"), Path("cache")))


def test_the_official_pictures_are_all_that_mini_needs(internet: Any, capsys: pytest.CaptureFixture[str]) -> None:
    Path("root").mkdir()
    assert main(["data", "get", "mini", "--data-root", "root"]) == 0
    said = capsys.readouterr().out
    assert Path("root/cifar10/cifar-10-python.tar.gz").is_file() and len(internet.asked) == 1
    for name in ("cifar10-scenes", "cifar10-cameras"):
        assert said.count(f" [{name}] is made of cifar10 on first use\n") == 1
    assert main(["data", "get", "cifar10-scenes", "--data-root", "root"]) == 0
    assert "CIFAR-10 [cifar10] is here: " in capsys.readouterr().out and len(internet.asked) == 1
    every = tuple(evaluations())
    plan = make(Request(("random",), "mini", every), settings.load({"data_root": "root"}))
    assert not [job.missing for job in plan.jobs if job.missing]
    assert {job.spec["data"]["name"] for job in plan.jobs if "data" in job.spec} == {
        "cifar10",
        "cifar10-scenes",
        "cifar10-cameras",
    }


def test_get_of_a_track_says_what_is_left_to_the_user(capsys: pytest.CaptureFixture[str]) -> None:
    Path("root").mkdir()
    assert main(["data", "get", "cifar10", "coco-mini", "vehicle-reid-market", "--data-root", "root"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert Path("root/cifar10/cifar-10-python.tar.gz").is_file()
    for name, address in (("coco-mini", "cocodataset.org"), ("vehicle-reid-market", "github.com/Khoa-Nguyen-Truong")):
        (line,) = [line for line in lines if f" [{name}] is not downloaded by repro" in line]
        assert address in line and f"put it at root/{name}" in line
    assert main(["data", "get", "imagenet", "sysu30k"]) == 1  # as a track, so with its other data sets
    names = [line.split("[")[1].split("]")[0] for line in capsys.readouterr().out.splitlines()]
    assert names == ["imagenet", "coco2017", "market1501", "sysu30k"]
    assert main(["data", "get", "market1501"]) == 1  # without a data root
    assert "put it at DATA_ROOT/market1501 (DATA_ROOT is --data-root, REPRO_DATA or" in capsys.readouterr().out
    assert main(["data", "get", "embedded"]) == 0


def test_get_that_fails_is_one_line_and_status_2(internet: Any, capsys: pytest.CaptureFixture[str]) -> None:
    internet.status = 404
    assert main(["data", "get", "cifar10", "coco-mini"]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("repro: cannot download") and said.err.count("\n") == 1
    assert str(DOWNLOADED) in said.err and "coco-mini" in said.out and not DOWNLOADED.exists()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("data get", "name what to get"),
        ("data get cifar11", "did you mean 'cifar10'"),
        ("data get minni", "did you mean 'mini'"),
        ("data verify cifar10 cifar100", "takes one name; cifar100 is one too many"),
        ("data list cifar10", "data list takes no name"),
        ("data verify cifar10", "python -m repro data get cifar10"),
        ("data prepare cifar10", "python -m repro data get cifar10"),
    ],
)
def test_wrong_use(internet: Any, refused: Callable[[str], str], line: str, words: str) -> None:
    assert words in refused(line)
    assert internet.asked == []


def test_an_archive_that_is_not_as_published_is_put_aside(internet: Any, capsys: pytest.CaptureFixture[str]) -> None:
    DOWNLOADED.parent.mkdir(parents=True)
    DOWNLOADED.write_bytes(b"cut short")
    assert main(["data", "verify", "cifar10"]) == 1
    assert "python -m repro data get cifar10 puts it aside and downloads it again" in capsys.readouterr().out
    assert main(["data", "get", "cifar10"]) == 0
    assert f"it is kept as {DOWNLOADED}.wrong" in capsys.readouterr().out
    assert Path(f"{DOWNLOADED}.wrong").read_bytes() == b"cut short"
    assert DOWNLOADED.read_bytes() == internet.content


def test_what_is_there_unpacked_and_spoilt_is_the_users_to_delete(
    internet: Any,
    published: dict[str, bytes],
    refused: Callable[[str], str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = Path("repro-work/data/downloads/cifar-10-batches-py")
    folder.mkdir(parents=True)
    for name, content in published.items():
        (folder / name).write_bytes(content)
    assert main(["data", "verify", "cifar10"]) == 0
    assert "7 files as they should be" in capsys.readouterr().out
    (folder / "data_batch_3").unlink()
    assert f"{folder}/data_batch_3 is missing; delete {folder} and unpack" in refused("data get cifar10")
    assert internet.asked == [] and len(list(folder.iterdir())) == 6


def test_the_pictures_of_an_archive_are_those_that_were_packed(
    published: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the server to arrays: of an archive in a data root nothing is unpacked there."""
    from torchvision.datasets import CIFAR10

    sums = [list(pair) for pair in archives.OFFICIAL_CIFAR["cifar10"].md5]
    monkeypatch.setattr(CIFAR10, "train_list", sums[:5])
    monkeypatch.setattr(CIFAR10, "test_list", sums[5:6])
    monkeypatch.setattr(CIFAR10, "meta", {"filename": sums[6][0], "key": "label_names", "md5": sums[6][1]})
    Path("root").mkdir()
    assert main(["data", "get", "cifar10", "--data-root", "root"]) == 0
    where = settings.load({"data_root": "root"}).where
    unpacking = where.cache / "downloads" / "cifar-10-batches-py.0123.part"  # what a killed process left
    unpacking.mkdir(parents=True)
    train = loading.load_classification("cifar10", "train", where, size=32)
    expected = np.concatenate([pickle.loads(published[f"data_batch_{number}"])["data"] for number in range(1, 6)])
    assert np.array_equal(train.pixels.reshape(10, 3072), expected)
    assert train.classes == ("airplane", "automobile") and train.labels is not None
    assert not unpacking.exists() and len(list(Path("root").rglob("*.tar.gz"))) == 1
    assert [path.name for path in Path("root/cifar10").iterdir() if path.is_dir()] == []
    (where.cache / "downloads" / "cifar-10-batches-py" / "test_batch").write_bytes(b"spoilt since")
    with pytest.raises(UserError, match="test_batch does not have the published md5; delete repro-work/data/downloads"):
        loading.load_classification("cifar10", "train", where, size=24)


def test_without_a_terminal_a_run_names_the_command(internet: Any, refused: Callable[[str], str]) -> None:
    line = refused(RUN)
    assert "CIFAR-10 [cifar10] is missing (searched: " in line and "get it: python -m repro data get mini (" in line
    assert line.endswith("or add --yes to this command\n")
    assert "get it: python -m repro data get cifar100 (169 MB)" in refused(f"{RUN} --data cifar100")
    for verb in ("tune --method random --track mini", "run --method random --track cifar --suite quick"):
        assert "get it: python -m repro data get" in refused(verb)
    assert internet.asked == []


def test_what_is_the_users_to_fetch_is_said_before_anything_is_downloaded(
    internet: Any, refused: Callable[[str], str]
) -> None:
    older = "--set data.detection=coco-mini data.reid=vehicle-reid-market"
    line = refused(f"run --method random --track mini {older} --yes")
    for name in ("cifar10", "coco-mini", "vehicle-reid-market", "python -m repro data get mini", "--data-root"):
        assert name in line
    assert internet.asked == []


def test_a_plan_says_what_is_missing_and_downloads_nothing(internet: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(RUN.replace("run", "plan", 1).split()) == 0
    out = capsys.readouterr().out
    assert out.count("\ndata: ") == 1 and "is missing" in out and "get it: python -m repro data get mini (" in out
    assert "no data" in out and internet.asked == []


def test_yes_downloads_without_a_question(internet: Any, capsys: pytest.CaptureFixture[str]) -> None:
    missing_data.complete(quick(), settings.load({}).where, agreed=True)
    assert DOWNLOADED.read_bytes() == internet.content and "[y/N]" not in capsys.readouterr().err
    assert not any(job.missing for job in quick().jobs)
    DOWNLOADED.unlink()
    internet.status = 403
    assert main([*RUN.split(), "--yes"]) == 2
    assert "the server refuses it: 403" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("answer", "comes"), [("y\n", True), ("yes\n", True), ("\n", False), ("no\n", False), ("", False)]
)
def test_on_a_terminal_one_question_is_asked(
    answer: str, comes: bool, internet: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(missing_data, "can_ask", lambda: True)
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    plan = quick()
    if comes:
        missing_data.complete(plan, settings.load({}).where, agreed=False)
    else:
        with pytest.raises(UserError, match=r"nothing was run: CIFAR-10 \[cifar10\]"):
            missing_data.complete(plan, settings.load({}).where, agreed=False)
    assert DOWNLOADED.is_file() == comes == bool(internet.asked)
    asked = f"CIFAR-10 ({len(internet.content) / 1000:.0f} kB) is missing. Download it from {internet.url}/cifar-10-"
    err = capsys.readouterr().err
    assert asked in err and f"to {DOWNLOADED}? [y/N] " in err and err.count("[y/N]") == 1


def test_trials_have_the_downloads_of_the_workspace(internet: Any) -> None:
    missing_data.get(["cifar10"], settings.load({}).where)
    trials = settings.load({"workspace": "repro-work/tuning"})
    request = Request(("random",), "mini", ("knn",))
    assert make(request, trials).jobs[0].missing
    with pytest.raises(UserError, match="has no held-out training images"):  # which is seen after the plan is made
        wrong = replace(request, protocols=("linear=glnet",), evaluations=tune.EVALUATIONS)
        tune.tune(wrong, (), settings.load({}), ())
    assert not make(request, trials).jobs[0].missing and len(internet.asked) == 1
