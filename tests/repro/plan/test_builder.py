"""The plan: pure, quick, and its fingerprints say what would change a number."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from repro.cli import tables
from repro.data.data_sets import DATA_SETS, entry_of
from repro.errors import UserError
from repro.plan.builder import make
from repro.plan.fingerprints import fingerprint_of
from repro.plan.kinds import KINDS, suites
from repro.plan.planned import PlannedJob
from repro.plan.request import Request
from repro.plan.tasks import graph_of
from repro.settings import Settings
from repro.store import records
from repro.store.workspace import Workspace


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(workspace=tmp_path)


APS = Request(("aps",))


def test_a_full_run_is_one_graph(settings: Settings) -> None:
    made = make(APS, settings)
    kinds = [job.kind for job in made.jobs]
    assert sorted(kinds) == sorted(["pretrain", "features", "knn", "linear", "reid", "finetune", "detection"])
    by_mark = made.by_fingerprint()
    needs = {job.kind: [by_mark[parent].kind for parent in job.parents] for job in made.jobs}
    assert needs["knn"] == needs["linear"] == ["features"]
    assert needs["features"] == needs["reid"] == needs["finetune"] == needs["detection"] == ["pretrain"]
    graph = graph_of(made, settings)
    assert sorted(task.stage for task in graph) == ["detection", "finetune", "frozen", "pretrain"]
    for task in graph:
        assert (task.after == ()) is (task.stage == "pretrain")


def test_a_task_without_resources_on_a_track_is_one_line(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = dataclasses.replace(KINDS["knn"], task="neighbours")
    monkeypatch.setitem(KINDS, "knn", alone)
    with pytest.raises(UserError, match=r"tracks.toml: embedded: .*; add 'neighbours' to \[embedded.resources\], or"):
        make(dataclasses.replace(APS, evaluations=("knn",)), settings)
    monkeypatch.setitem(KINDS, "knn", dataclasses.replace(alone, resources="finetune"))
    made = make(dataclasses.replace(APS, evaluations=("knn",)), settings)
    assert made.resources(made.jobs[-1]) == made.track.resources["finetune"]


def test_quick_needs_no_detector(settings: Settings) -> None:
    made = make(dataclasses.replace(APS, evaluations=suites()["quick"]), settings)
    assert {job.kind for job in made.jobs} == {"pretrain", "features", "knn", "linear"}


def test_detection_and_segmentation_are_one_training(settings: Settings) -> None:
    for names in (("detection",), ("segmentation",), ("detection", "segmentation")):
        made = make(dataclasses.replace(APS, evaluations=names), settings)
        assert [job.kind for job in made.jobs] == ["pretrain", "detection"]


def test_fine_tuned_reid_is_asked_for_by_name(settings: Settings) -> None:
    assert not any("reid_finetune" in names for names in suites().values())
    made = make(dataclasses.replace(APS, evaluations=("reid_finetune",)), settings)
    assert [job.kind for job in made.jobs] == ["pretrain", "reid_finetune"]
    assert made.jobs[1].spec["data"]["name"] == "digit-cameras"
    assert sorted(task.stage for task in graph_of(made, settings)) == ["pretrain", "reid_finetune"]


def detection_job(settings: Settings, method: str, track: str, *overrides: str, protocol: str = "") -> PlannedJob:
    chosen = (f"detection={protocol}",) if protocol else ()
    request = Request((method,), track, ("detection",), overrides=overrides, protocols=chosen)
    made = make(request, settings)
    return next(job for job in made.jobs if job.kind == "detection")


def test_a_data_set_without_masks_or_protocol_is_told_which_need_none(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    boxes = dataclasses.replace(entry_of("voc0712"), protocol="")
    monkeypatch.setitem(DATA_SETS, "voc0712", boxes)
    with pytest.raises(UserError, match=r"'fast' needs; take --protocol detection=glnet_voc or voc or triplet_voc$"):
        detection_job(settings, "glnet", "imagenet", "data.detection=voc0712")


def test_a_data_set_without_masks_brings_its_protocol(settings: Settings) -> None:
    job = detection_job(settings, "glnet", "imagenet", "data.detection=voc0712")
    assert job.spec["protocol"]["name"] == "voc" and not job.spec["protocol"]["values"]["masks"]
    assert "PASCAL VOC 2007 + 2012 [voc0712] is missing (no data root" in job.missing
    other = detection_job(settings, "glnet", "imagenet", "data.detection=voc0712", protocol="triplet_voc")
    assert other.spec["protocol"]["values"]["lr"] == 0.2
    with pytest.raises(UserError, match=r"has no masks, which .*'fast' needs.*detection=voc"):
        detection_job(settings, "glnet", "imagenet", "data.detection=voc0712", protocol="fast")
    with pytest.raises(UserError, match=r"'voc' needs; leave out --set detection.masks$"):
        changes = "data.detection=voc0712", "detection.masks=true", "detection.metric=coco"
        detection_job(settings, "glnet", "imagenet", *changes)
    with pytest.raises(UserError, match=r"no masks for segmentation"):
        make(Request(("glnet",), "imagenet", ("segmentation",), overrides=("data.detection=voc0712",)), settings)
    with pytest.raises(UserError, match=r"did you mean 'triplet'"):
        detection_job(settings, "glnet", "imagenet", protocol="tripet")


@pytest.mark.parametrize(
    ("track", "size", "crop"), [("mini", [], 1.0), ("cifar", [], 1.0), ("imagenet100", [224, 224], 224 / 256)]
)
def test_frozen_features_are_of_what_networks_see(settings: Settings, track: str, size: list[int], crop: float) -> None:
    made = make(Request(("aps",), track, ("knn", "linear")), settings)
    (features,) = (job for job in made.jobs if job.kind == "features")  # both evaluations look at the same
    seen = features.spec["transform"]
    assert (seen["size"], seen["test_crop"]) == (size, crop)
    assert made.jobs[0].spec["recipe"]["network"]["size"] == (size or [made.track.size])[0]


@pytest.mark.parametrize(
    ("track", "finetune", "detection"),  # of a ViT and of a ResNet
    [
        ("mini", ("mini", "mini"), ("mini", "mini")),
        ("cifar", ("aps", "resnet"), ("cifar", "cifar")),
        ("imagenet100", ("fast", "fast"), ("vit", "fast")),
        ("imagenet", ("fast", "fast"), ("vit", "fast")),
    ],
)
def test_a_track_knows_what_suits_a_network(
    settings: Settings, track: str, finetune: tuple[str, str], detection: tuple[str, str]
) -> None:
    both = Request(("aps", "moco_v3:resnet"), track, ("finetune", "detection"))
    made = make(both, settings)
    assert tuple(job.protocol["name"] for job in made.jobs if job.kind == "finetune") == finetune
    assert tuple(job.protocol["name"] for job in made.jobs if job.kind == "detection") == detection
    # What is usual for a network has the usual name; what was asked for beside it says what it is.
    names = {task.key.partition("-aps")[0].partition("-moco_v3")[0] for task in graph_of(made, settings)}
    assert names == {"pretrain", "finetune", "detection"}
    asked = dataclasses.replace(both, protocols=(f"detection={detection[1]},c4_2x",), evaluations=("detection",))
    assert {job.protocol["name"] for job in make(asked, settings).jobs if job.protocol} == {detection[1], "c4_2x"}
    # Another network by --set counts as what it is.
    other = make(Request(("moco_v3",), track, ("detection",), overrides=("network.arch=resnet",)), settings)
    assert other.jobs[-1].protocol["name"] == detection[1]


def test_protocols_are_listed_with_the_networks_that_they_are_for() -> None:
    rows = {tuple(line.split()[:2]): line for line in tables.protocols_table(None).splitlines()}
    assert "imagenet100 (vit), imagenet (vit)" in rows["detection", "vit"]
    assert "cifar (resnet)" in rows["finetune", "resnet"] and rows["finetune", "aps"].split()[2:] == ["cifar", "aps"]


def test_estimates_of_detection_follow_the_pixels_and_the_tokens(settings: Settings) -> None:
    base = detection_job(settings, "glnet", "cifar").seconds
    assert detection_job(settings, "glnet", "cifar", "detection.iterations=22500").seconds == pytest.approx(base / 2)
    vit = detection_job(settings, "aps", "cifar").seconds
    assert vit == pytest.approx(base * (1 + 64 * 96 / (6 * 192)))  # 6,144 tokens of 192 channels
    assert vit < 86400
    assert detection_job(settings, "aps", "cifar", protocol="fast").seconds > 100 * 86400


def marks(settings: Settings, **change: object) -> dict[str, str]:
    return {job.kind: job.fingerprint for job in make(dataclasses.replace(APS, **change), settings).jobs}


def test_fingerprints_change_with_what_they_cover_only(settings: Settings) -> None:
    base = marks(settings)
    assert marks(settings) == base
    everything = set(base)

    def changed(**change: object) -> set[str]:
        other = marks(settings, **change)
        return {kind for kind in base if other[kind] != base[kind]}

    assert changed(seeds=(1,)) == everything
    assert changed(overrides=("pretrain.epochs=2",)) == everything
    assert changed(overrides=("knn.temperature=0.5",)) == {"knn"}
    assert changed(overrides=("finetune.epochs=9",)) == {"finetune"}
    assert changed(protocols=("reid=triplet",)) == {"reid"}
    assert changed(overrides=("detection.iterations=9",)) == {"detection"}
    assert changed(overrides=("data.limit=1000",)) == everything


def test_what_has_a_record_is_cached_and_not_in_the_graph(settings: Settings) -> None:
    job = make(APS, settings).jobs[0]
    record = {
        **{key: getattr(job, key) for key in ("fingerprint", "kind", "method", "variant", "track", "seed")},
        "schema": 1,
        "metrics": {},
        "cost": {},
        "provenance": {},
    }
    records.write(settings.workspace / "records", record)
    assert not [j for j in make(APS, settings).jobs if j.cached], "its encoder is not there, and is needed"
    encoder = Workspace(settings.workspace).encoder(job.fingerprint)
    encoder.parent.mkdir(parents=True)
    encoder.touch()
    made = make(APS, settings)
    assert [j.kind for j in made.jobs if j.cached] == ["pretrain"]
    graph = graph_of(made, settings)
    assert "pretrain" not in {task.stage for task in graph}
    assert all(task.after == () for task in graph)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"methods": ("asp",)}, "did you mean 'aps'"),
        ({"track": "mimi"}, "did you mean 'mini'"),
        ({"evaluations": ("lineer",)}, "did you mean 'linear'"),
        ({"overrides": ("pretrain.epoch=2",)}, "did you mean 'epochs'"),
        ({"overrides": ("pretrian.epochs=2",)}, "did you mean 'pretrain'"),
        ({"overrides": ("pretrain.epochs=many",)}, "must be an integer"),
        ({"overrides": ("knn.temprature=1",)}, "temperature"),
        ({"overrides": ("knn.temperature=hot",)}, "float"),
        ({"overrides": ("segmentation.lr=1",)}, "detection.lr"),
        ({"protocols": ("reid=triplett",)}, "did you mean 'triplet'"),
        ({"overrides": ("pretrain.epochs",)}, "table.key=value"),
        ({"protocols": ("linear=mnl",)}, "did you mean 'mncl'"),
        ({"protocols": ("linaer=mncl",)}, "did you mean 'linear'"),
        ({"protocols": ("linear",)}, "write it as EVALUATION=NAME"),
        ({"protocols": ("linear=",)}, "write it as EVALUATION=NAME"),
        ({"protocols": ("segmentation=mini",)}, "write detection=mini"),
        ({"protocols": ("linear=mini", "linear=mncl")}, "write linear=mini,mncl"),
        ({"protocols": ("linear=mncl",), "evaluations": ("knn",)}, "add it to --eval"),
        ({"data": "cifar"}, "did you mean"),
        ({"data": "./nowhere"}, "no such folder"),
        ({"data": "coco-mini"}, "classification"),
        ({"overrides": ("method.sampling_ratio=0.6",)}, "aps: method.repeats = 2 .* do not fit"),
        ({"methods": ("nnclr",), "overrides": ("method.bank_size=32",)}, "method.bank_size=64"),
        ({"methods": ("glnet",), "overrides": ("method.objective=foo",)}, "method.objective = 'foo': must be one of"),
        ({"methods": ("multi_network",), "overrides": ("method.split=3",)}, "method.split = 3 does not divide"),
        ({"methods": ("rotation_aux",), "overrides": ("method.rotation_reduction=max",)}, "rotation_reduction"),
        ({"methods": ("truncated_triplet",), "overrides": ("method.deputy=worst",)}, "the deputy must be one of"),
        ({"seeds": (-1,)}, "seed"),
        ({"seeds": (0, 2**63)}, "from 0 to 9223372036854775807"),
        ({"methods": ()}, "at least one method"),
    ],
)
def test_wrong_use_gets_one_line_that_names_the_fix(settings: Settings, change: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        make(dataclasses.replace(APS, **change), settings)
    assert "\n" not in str(caught.value)


def test_protocols_by_name(settings: Settings) -> None:
    asked = dataclasses.replace(
        APS, protocols=("linear=embedded,mncl,fast", "finetune=resnet,embedded", "reid=triplet")
    )
    usual, made = make(APS, settings), make(asked, settings)
    named = [(job.kind, job.protocol["name"]) for job in made.jobs if job.protocol]
    assert sorted(named) == sorted(
        [("linear", name) for name in ("embedded", "mncl", "fast")]
        + [("finetune", name) for name in ("embedded", "resnet")]
        + [("reid", "triplet"), ("knn", "embedded"), ("detection", "embedded")]
    )
    marks = {job.fingerprint for job in usual.jobs}
    same = [(job.kind, job.protocol.get("name")) for job in made.jobs if job.fingerprint in marks]
    assert ("linear", "embedded") in same and ("finetune", "embedded") in same and ("knn", "embedded") in same
    # linear "fast" has features of its own (bf16); a probe on crops has none, and needs the encoder alone
    assert [job.kind for job in made.jobs].count("features") == 2
    by_mark = made.by_fingerprint()
    probe = next(job for job in made.jobs if job.protocol.get("name") == "mncl")
    assert [by_mark[parent].kind for parent in probe.parents] == ["pretrain"]
    tasks = {task.key.partition("-aps")[0]: task for task in graph_of(made, settings)}
    assert set(tasks) == {"pretrain", "frozen", "linear-mncl", "finetune", "finetune-resnet", "detection"}
    assert len(tasks["frozen"].args["jobs"]) == 6
    assert tasks["linear-mncl"].stage == "linear" and len(tasks["linear-mncl"].args["jobs"]) == 1


def test_set_reaches_every_protocol_of_its_evaluation(settings: Settings) -> None:
    asked = dataclasses.replace(APS, protocols=("linear=embedded,mncl",), overrides=("linear.epochs=3",))
    made = make(asked, settings)
    assert [job.protocol["values"]["epochs"] for job in made.jobs if job.kind == "linear"] == [3, 3]


def test_missing_data_is_noted_in_the_plan(settings: Settings) -> None:
    made = make(dataclasses.replace(APS, track="mini"), settings)
    assert all(job.missing for job in made.jobs)
    assert "python -m repro data get mini" in made.jobs[0].missing
    by_hand = dataclasses.replace(APS, track="mini", overrides=("data.reid=vehicle-reid-market",))
    by_hand = dataclasses.replace(by_hand, evaluations=("reid",))
    assert any("--data-root" in job.missing for job in make(by_hand, settings).jobs)


@pytest.mark.parametrize("track", ["cifar", "imagenet100", "imagenet"])
def test_the_big_tracks_have_a_whole_graph_with_estimates(settings: Settings, track: str) -> None:
    made = make(Request(("all",), track), settings)
    assert len(made.jobs) >= 4 * 7 and all(job.seconds > 0 for job in made.jobs)


@pytest.mark.processes
def test_looking_imports_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from repro.cli import dispatch as cli;"
        "[cli.main(line.split()) for line in ('plan --method all --track imagenet',"
        " 'plan --method multi_network byol --track cifar', 'methods', 'methods aps', 'data',"
        " 'protocols', 'status', 'plan --method aps')];"
        "heavy = {'torch', 'mmengine', 'mmdet', 'pandas', 'scipy', 'matplotlib', 'torchvision'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)


def test_several_processes_are_asked_for_where_something_is_trained(settings: Settings) -> None:
    methods = ("aps", "random:vit")
    one, two = (make(Request(methods, evaluations=("knn",), processes=count), settings) for count in (1, 2))
    assert [job.ranks for job in two.jobs if job.kind == "pretrain"] == [2, 1]
    # Another number of processes is another pre-training, and what it is not asked of stays what it was.
    marks = [{job.arm: job.fingerprint for job in made.jobs if job.kind == "pretrain"} for made in (one, two)]
    assert marks[0]["aps"] != marks[1]["aps"] and marks[0]["random:vit"] == marks[1]["random:vit"]
    assert not any("processes" in job.spec for job in one.jobs)
    wanted = {task.key.rsplit("-", 3)[0]: task.resources for task in graph_of(two, settings)}
    assert {key: each.ranks for key, each in wanted.items()} == {
        "pretrain-aps": 2,
        "pretrain-random-vit": 1,
        "frozen-aps": 1,
        "frozen-random-vit": 1,
    }
    shown = tables.plan_table(two, settings)
    assert "2 x 1 CPU" in shown and "2 x 2 GB" in shown
    spread = (
        "pretrain.batch=64",
        "pretrain.devices=4",
    )
    triplet = Request(("truncated_triplet",), evaluations=("knn",), overrides=spread, processes=2)
    assert make(triplet, settings).jobs[0].ranks == 2
    over = Request(("rotation_aux:truncated_triplet",), evaluations=("knn",), processes=2)
    with pytest.raises(UserError, match=r"negatives of rotation_aux:\w+ come from one device \(pretrain.devices = 1\)"):
        make(over, settings)


def test_half_precision_of_the_exchange_is_another_pre_training_of_several_processes(settings: Settings) -> None:
    asked = Request(("simclr",), evaluations=("knn",), processes=2, overrides=("pretrain.exchange=bf16",))
    half, full = make(asked, settings).jobs[0], make(dataclasses.replace(asked, overrides=()), settings).jobs[0]
    assert half.recipe["pretrain"]["exchange"] == "bf16" and half.fingerprint != full.fingerprint
    # One of before there was the key is the same as one in full precision.
    pretrain = {key: value for key, value in full.recipe["pretrain"].items() if key != "exchange"}
    before = dataclasses.replace(full, spec={**full.spec, "recipe": {**full.recipe, "pretrain": pretrain}})
    assert fingerprint_of(before) == full.fingerprint
    with pytest.raises(UserError, match=r"simclr: pretrain\.exchange = bf16, but a single rank .*--processes 2"):
        make(dataclasses.replace(asked, processes=1), settings)
    with pytest.raises(UserError, match=r"pretrain\.exchange 'int8'.*bf16, fp16, full"):
        make(dataclasses.replace(asked, overrides=("pretrain.exchange=int8",)), settings)


def test_one_picture_a_class_leaves_nothing_to_judge_on(tmp_path: Path, settings: Settings) -> None:
    for name in ("a", "b"):
        (tmp_path / "own" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "own" / name / "0.png")
    request = Request(("random",), data=str(tmp_path / "own"), evaluations=("knn",))
    with pytest.raises(UserError, match=r"each class has one image, .* none to evaluate knn on; give each class"):
        make(request, settings)
    assert len(make(dataclasses.replace(request, evaluations=("reid",)), settings).jobs) == 2
    Image.new("RGB", (8, 8)).save(tmp_path / "own" / "a" / "1.png")
    assert len(make(request, settings).jobs) == 3


def own_pictures(folder: Path) -> Path:
    """Two classes of ten files each: a plan decodes none."""
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        for i in range(10):
            (folder / name / f"{i}.jpg").write_bytes(f"{name} {i}".encode())
    return folder


def test_own_pictures_are_the_same_wherever_their_folder_lies(settings: Settings, tmp_path: Path) -> None:
    def marks(folder: Path) -> list[str]:
        request = dataclasses.replace(APS, data=str(folder), evaluations=suites()["quick"])
        return [job.fingerprint for job in make(request, settings).jobs]

    folder = own_pictures(tmp_path / "pics")
    before = marks(folder)
    moved = folder.rename(tmp_path / "pics2")
    assert marks(moved) == before
    (moved / "cat" / "3.jpg").write_bytes(b"another")
    assert not set(marks(moved)) & set(before)


def test_a_plan_says_what_is_taken_of_own_pictures(settings: Settings, tmp_path: Path) -> None:
    folder = own_pictures(tmp_path / "pics")
    request = dataclasses.replace(APS, data=str(folder), evaluations=("knn",))
    (folder / "notes.txt").write_text("x")
    made = make(request, settings)
    assert made.account is not None and made.account.of("train") == 16
    assert tables.plan_table(made, settings).splitlines()[-2] == (
        "20 images of 2 classes (cat, dog) taken: 16 train, 4 test (a share of 20% of each class);"
        " passed over: 1 other file (notes.txt)"
    )
    (folder / "cat" / "4.jpg").write_bytes(b"")
    with pytest.raises(UserError, match=r"cannot decode .*4\.jpg \(it is empty\)"):
        make(request, settings)
    assert make(dataclasses.replace(APS, evaluations=("knn",)), settings).account is None
