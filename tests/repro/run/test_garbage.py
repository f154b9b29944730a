"""`repro gc`: it takes what nobody needs, and what a run or a retry would miss stays."""

from __future__ import annotations

import dataclasses
import json
import os
import time
import zipfile
from pathlib import Path

import pytest

from repro.cli.dispatch import main
from repro.plan import fingerprints
from repro.plan.builder import make
from repro.plan.planned import Plan, PlannedJob
from repro.plan.request import Request
from repro.plan.tasks import graph_of
from repro.run import garbage
from repro.settings import Settings
from repro.store import records
from repro.store.hashes import file_digest
from repro.store.source_hash import source_hash
from repro.store.workspace import Workspace
from slurm.folder import Folder, Outcome, try_lock
from slurm.journal import Journal

REQUEST = Request(("aps",), evaluations=("knn", "finetune"))
FEATURES = {
    f"{split}_{key}": 1.0 for split in ("train", "test") for key in ("effective_rank", "feature_std", "norm_mean")
}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(workspace=tmp_path / "work", executor="local")


def write(path: Path, size: int = 1000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    return path


def old(path: Path) -> Path:
    """As if it had been left two hours ago."""
    os.utime(path, (time.time() - 7200,) * 2)
    return path


def done(place: Workspace, job: PlannedJob) -> None:
    """What a job that ended well leaves, and what one leaves that was killed right after its record was written."""
    record = {key: getattr(job, key) for key in ("fingerprint", "kind", "method", "variant", "track", "seed")}
    metrics = FEATURES if job.kind == "features" else {}
    records.write(place.records, {**record, "schema": 1, "metrics": metrics, "cost": {}, "provenance": {}})
    folder = place.job(job.fingerprint)
    write(folder / "log.jsonl")
    if job.kind == "pretrain":
        with zipfile.ZipFile(place.encoder(job.fingerprint), "w") as archive:
            archive.writestr("data", "weights")
        write(folder / "training.pt", 5000)
        write(folder / "training.pt.prev", 5000)
        write(folder / "reid_query_0123456789ab.npy", 300)
    elif job.kind == "finetune":
        for end in ("", ".prev", ".damaged"):
            write(folder / f"finetune.pt{end}", 700)
        write(folder / "picture.png")
    elif job.kind == "features":
        write(folder / "train_x.npy", 20_000)
        seen = {"job": job.parents[0], "sha256": file_digest(place.encoder(job.parents[0]))}
        (folder / "meta.json").write_text(json.dumps({"checkpoint": seen}))


@pytest.fixture
def finished(settings: Settings) -> Plan:
    """A workspace in which a run of REQUEST has ended well."""
    made, place = make(REQUEST, settings), Workspace(settings.workspace)
    for job in made.jobs:
        done(place, job)
    submitted(settings, made, "done")
    return made


def submitted(settings: Settings, made: Plan, state: str = "") -> None:
    """As the local executor notes that it was to do these jobs, and how they ended ("": the run died before)."""
    place = Workspace(settings.workspace)
    tasks = graph_of(
        dataclasses.replace(made, jobs=tuple(dataclasses.replace(j, cached=False) for j in made.jobs)), settings
    )
    folder, code = Folder(place.processes), place.code / "abcdef0123456789"
    write(code / "repro" / "cli.py", 3000)
    old(code)
    for task in tasks:
        folder.write_task(task)
    Journal(folder).started("run", tasks, str(code))
    for task in tasks:
        if state:
            folder.write_outcome(Outcome(task.key, state, digest=task.digest, ended=time.time() + 1))  # type: ignore[arg-type]


def names(settings: Settings) -> set[str]:
    place = Workspace(settings.workspace)
    return {path.relative_to(place.root).as_posix() for item in garbage.items(place) for path in item.paths}


def test_it_says_and_only_when_told_deletes_and_a_run_still_finds_all(
    settings: Settings, finished: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    place = Workspace(settings.workspace)
    mark = {job.kind: job.fingerprint[:16] for job in finished.jobs}
    temporary = old(write(place.records / ".record.abc", 10))
    fresh = write(place.job(finished.jobs[0].fingerprint) / ".encoder.pt.123", 10)
    for name in ("x.tar.gz.partial", "x.tar.gz.wrong"):  # a download that goes on, and one that was another file
        old(write(place.data / "downloads" / name, 10))
    expected = {
        *(
            f"jobs/{mark['pretrain']}/{name}"
            for name in ("training.pt", "training.pt.prev", "reid_query_0123456789ab.npy")
        ),
        *(f"jobs/{mark['finetune']}/finetune.pt{end}" for end in ("", ".prev", ".damaged")),
        *(f"jobs/{mark['features']}/{name}" for name in ("train_x.npy", "meta.json")),
        "records/.record.abc",
        "data/downloads/x.tar.gz.wrong",
        "code/abcdef0123456789",
    }
    assert names(settings) == expected
    before = sorted(place.root.rglob("*"))
    line = f"gc --workspace {settings.workspace}"
    assert main(line.split()) == 0
    out = capsys.readouterr().out
    assert "10 kB" in out and "its record is written: no job continues from it" in out and "add --delete" in out
    assert sorted(place.root.rglob("*")) == before

    assert main([*line.split(), "--delete"]) == 0
    assert "deleted 36 kB in 11 places" in capsys.readouterr().out
    assert not temporary.exists() and fresh.exists() and not names(settings)
    assert all((place.root / name).exists() is False for name in expected)
    assert len(list(place.records.glob("*.json"))) == len(finished.jobs)
    assert (place.job(mark["finetune"]) / "picture.png").exists() and len(list(place.root.rglob("log.jsonl"))) == 4

    assert not make(REQUEST, settings).to_do()
    more = dataclasses.replace(REQUEST, overrides=("knn.temperature=0.5",))  # the features are extracted anew for it
    assert [job.kind for job in make(more, settings).to_do()] == ["features", "knn"]
    assert main([*line.split(), "--delete"]) == 0
    assert "nothing to delete" in capsys.readouterr().out


@pytest.mark.parametrize("state", ["", "failed", "cancelled"])
def test_what_a_retry_needs_stays(settings: Settings, state: str) -> None:
    place, made = Workspace(settings.workspace), make(REQUEST, settings)
    kinds = {job.kind: job for job in made.jobs}
    for kind in ("pretrain", "features"):
        done(place, kinds[kind])
    write(place.job(kinds["finetune"].fingerprint) / "finetune.pt")
    submitted(settings, made, state)
    assert not names(settings)  # k-NN is still to be done on those features, fine-tuning has its checkpoint


def test_what_runs_stays_even_where_its_record_is_there(settings: Settings, finished: Plan) -> None:
    place = Workspace(settings.workspace)
    old(write(place.job(finished.jobs[0].fingerprint) / ".training.pt.77"))
    for outcome in (place.processes / "outcomes").iterdir():
        outcome.unlink()
    submitted(settings, finished)  # all of it again, by a run that is alive
    run = try_lock(Folder(place.processes).run("run"))
    assert run is not None
    try:
        assert not names(settings)
    finally:
        os.close(run)


def test_encoders_of_other_code_go_and_those_of_todays_stay(
    settings: Settings, finished: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = f"jobs/{finished.jobs[0].fingerprint[:16]}/encoder.pt"
    assert encoder not in names(settings)
    hashed = source_hash
    monkeypatch.setattr(fingerprints, "source_hash", lambda *modules, **_: hashed(*modules) + "edited" * bool(modules))
    assert encoder in names(settings)
    assert "trains another" in next(
        i.why for i in garbage.items(Workspace(settings.workspace)) if "encoder of" in i.what
    )
    main(["gc", "--workspace", str(settings.workspace), "--delete"])
    assert [job.kind for job in make(REQUEST, settings).to_do()] == ["pretrain", "features", "knn", "finetune"]
    # A method that is not to be found here cannot be judged, so its encoder stays.
    monkeypatch.setattr(fingerprints, "source_hash", lambda *modules, **_: "")
    write(Workspace(settings.workspace).encoder(finished.jobs[0].fingerprint))
    assert not any("older code" in item.why for item in garbage.items(Workspace(settings.workspace)))


def test_damaged_outputs_go_and_are_made_anew(settings: Settings, finished: Plan) -> None:
    place, job = Workspace(settings.workspace), finished.jobs[0]
    write(place.encoder(job.fingerprint), 50)
    whys = {item.what: item.why for item in garbage.items(place)}
    assert whys["encoder of pretrain aps seed 0"].startswith("damaged")
    assert whys["features aps seed 0"].startswith("damaged, or of another encoder")
    main(["gc", "--workspace", str(place.root), "--delete"])
    more = dataclasses.replace(REQUEST, overrides=("knn.temperature=0.5",))
    assert [job.kind for job in make(more, settings).to_do()] == ["pretrain", "features", "knn"]


def test_folders_that_no_process_knows_and_trials_that_are_only_named(
    settings: Settings, finished: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    place = Workspace(settings.workspace)
    stray, young = place.root / "jobs" / ("f" * 16) / "training.pt", place.root / "jobs" / ("e" * 16) / "training.pt"
    old(write(stray))
    write(young)
    trial = old(write(place.root / "tuning" / "jobs" / ("d" * 16) / "training.pt"))
    main(["gc", "--workspace", str(place.root), "--delete"])
    assert not stray.exists() and young.exists() and trial.exists()
    assert f"not touched: {place.root / 'tuning'}, 1.0 kB" in capsys.readouterr().out
