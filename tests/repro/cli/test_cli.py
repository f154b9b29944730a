"""The command line: one line and status 2 for wrong use, and nothing recorded is lost."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest

from repro.cli.dispatch import COMMANDS, main
from repro.measure.gpu.parts import PARTS
from repro.plan import tracks
from repro.plan.kinds import evaluations, suites
from repro.weights.architectures import ARCHS

pytestmark = pytest.mark.usefixtures("own_folder")


@pytest.mark.parametrize(
    "line, words",
    [
        ("", "name a command; python -m repro --help lists them"),
        ("frobnicate", "unknown command 'frobnicate'; see python -m repro --help"),
        ("pan --method aps", "unknown command 'pan'; did you mean 'plan'?"),
        ("--verbose", "unknown command '--verbose'"),
        ("run", "required: --method; see python -m repro run --help"),
        ("run --methd aps", "unknown option '--methd'; did you mean '--method'? see python -m repro run --help"),
        ("run --meth aps --trakc mini", "unknown option '--trakc'; did you mean '--track'?"),
        (
            "run --method aps --seed a",
            "--seed: 'a' is not a whole number, such as 0 or 3; see",
        ),
        ("run --method aps --cores 1.5", "--cores: '1.5' is not a whole number"),
        ("plan --method aps --night x", "--night: 'x' is not a number, such as 2 or 0.5"),
        ("plan --method aps --nigth=3", "unknown option '--nigth'; did you mean '--night'?"),
        ("plan --method aps --track", "--track: expected one argument; see python -m repro plan --help"),
        ("plan --method aps --suite quick --eval knn", "--eval: not allowed with argument --suite"),
        ("plan --method aps --trim -3", "'-3' is one word too many"),
        ("settle --paper aps --budget -3h", "write --budget=VALUE if the value begins with '-'"),
        ("compare aps byol glnet", "'glnet' is one word too many; see python -m repro compare --help"),
        ("settle --method aps --margin one", "--margin: 'one' is not a number"),
        ("run --method apss", "did you mean 'aps'"),
        ("plan --method aps:flipaware", "did you mean 'flip_aware'"),
        ("plan --method aps --track minni", "did you mean 'mini'"),
        ("plan --method aps --suite ful", "did you mean 'full'"),
        ("plan --method aps --eval nkk", "--eval: unknown evaluation 'nkk'; valid: detection, "),
        ("settle --method aps --against byol --eval knnn", "--eval: unknown evaluation 'knnn'; did you mean 'knn'?"),
        ("plan --method aps --seed 0 -1", "--seed -1: a seed is a whole number from 0 to 9223372036854775807"),
        ("plan --method aps --set pretrain.epoch=2", "did you mean 'epochs'"),
        ("plan --method aps --set pretrain.epochs=two", "must be an integer"),
        ("plan --method aps --set finetune.epoch=2", "epochs"),
        ("plan --method aps --executor slrum", "did you mean 'slurm'"),
        ("plan --method aps --cluster a10", "did you mean 'a100'"),
        ("run --method aps --cluster a10", "did you mean 'a100'"),
        ("tune --method aps --cluster mine.toml", "cluster profile mine.toml: no such file"),
        ("plan --method aps --cluster mine.toml", "cluster profile mine.toml: no such file"),
        ("plan --method aps --cores 0", "at least 1"),
        ("plan --method aps --seed 0 101", "--seed 101: this seed is kept for tuning"),
        ("plan --method aps --card rtx40900", "did you mean 'rtx4090'"),
        ("tune --method aps --try pretrain.lr=1 --write", "--write works only with --equal; add --equal"),
        ("plan --method aps --data-root nowhere", "not a directory"),
        ("plan --method nothing.toml", "no recipe file nothing.toml; give the path of a .toml file, or a name from"),
        ("run --method aps --track mini", "get it: python -m repro data get mini (170 MB), or add --yes"),
        ("run --method aps --data ./pictures", "no such folder"),
        ("methods simclrr", "unknown method"),
        ("data verfy", "did you mean 'verify'"),
        ("data verify", "name what to verify"),
        ("data verify cifar11", "did you mean"),
        ("claims --paper glnett", "did you mean 'glnet'"),
        ("claims glnet-imagenet-gian", "did you mean 'glnet-imagenet-gain'"),
        ("claims aps-foo", "unknown claim 'aps-foo'; claims of aps: aps-"),
        ("claims foo", "unknown claim 'foo'; python -m repro claims lists them"),
        ("claims glnet-imagenet-gain --kind gain", "is one claim; leave out --kind"),
        ("claims --track embedded", "no claim is tested on embedded; choose from mini"),
        ("claims --outcome not_run", "did you mean 'not run'"),
        ("gap glnet-imagenet100-time", "is about cost"),
        ("gap aps-coco-detection", "states no number"),
        ("publish --track mnii", "mini"),
        ("status", "no workspace"),
        ("plan --method aps --protocol linear=glnett", "did you mean 'glnet'"),
        ("plan --method aps --protocol linear=mncl --set linear.learning_rates=[1,2]", "holdout"),
        ("protocols linaer", "did you mean 'linear'"),
        ("protocols linear=glnett", "did you mean 'glnet'"),
        ("plan --method aps --processes 0", "at least 1"),
        ("plan --method aps --processes 3", "aps has 128 images per micro-batch"),
        ("plan --method truncated_triplet --processes 2", "--set pretrain.devices=2"),
        ("tune --method aps --protocol linear=glnet", "has no held-out training images"),
        ("tune --method aps --protocol linear=fast,mini", "name one"),
        ("bench train", "did you mean 'pretrain'"),
        ("bench evil", "did you mean 'eval'"),
        ("bench eval --seconds 0", "must be positive"),
        ("bench eval --track mini", "--track applies only to bench pretrain and bench tried"),
        ("bench eval --sizes peer", "did you mean 'peers'"),
        ("bench pretrain --sizes peers", "--sizes applies only to bench eval"),
        ("bench pretrain --processes 2", "--processes applies only to bench exchange"),
        ("bench exchange --processes 1", "use --processes 2 or more"),
        ("bench exchange --processes 100000", "ranks need a core each; use --processes "),
        ("bench exchange --seconds inf", "must be positive"),
        ("bench pretrain --seconds nan", "must be positive"),
        ("plan --method aps --calibrate nan", "seconds must be positive"),
        ("plan --method aps --memory-gb nan", "memory_gb must be a positive number"),
        ("bench exchange --threads 2", "--threads applies only to bench pretrain"),
        ("bench tried --sizes peers", "--sizes applies only to bench eval"),
        ("bench tried --method aps", "--method applies only to bench pretrain; leave it out"),
        ("bench eval --compile", "--compile applies only to bench tried"),
        ("bench pretrain --method simclrr", "unknown method"),
        ("bench pretrain --precision fp23", "did you mean 'fp32'"),
        ("bench pretrain --track minni", "did you mean 'mini'"),
        ("bench pretrain --seconds 0", "must be positive"),
        ("bench pretrain --threads 0", "must be positive"),
        ("bench pretrain --method random", "it makes no update"),
        ("methods --cost --track mnii", "did you mean 'mini'"),
        ("methods --track mini", "--cost"),
        ("methods apss --cost", "aps"),
        ("records", "--to NAME --out FILE"),
        ("records --to cvs --out x --published", "did you mean 'csv'"),
        ("records --to csv --out x", "no record in"),
        ("records --to csv --out x --published --track mnii", "did you mean 'mini'"),
        ("records --to csv --out . --published", "cannot write"),
        ("records imprt x", "did you mean 'import'"),
        ("records import", "name the file to import: python -m repro records import FILE --trust NAME"),
        ("records import x.json", "x.json: cannot be read, no such file; give the path of"),
        ("records import x.json --trust author", "x.json: cannot be read, no such file; give the path of"),
        ("records import . --trust author", ".: no .json file lies in this folder; give the records folder"),
    ],
)
def test_wrong_use(refused: Callable[[str], str], line: str, words: str) -> None:
    assert words in refused(line)
    assert not Path("repro-work/records").exists()


@pytest.mark.parametrize(
    "line",
    (
        *("status", "status --watch", "logs x", "logs x --follow", "cancel", "retry", "gc", "gc --delete", "report"),
        *("compare glnet random --track mini", "verify", "explain abcdef0", "claims", "claims glnet-imagenet-gain"),
        *("gap aps-cifar100-finetune-gain", "records --to csv --out o", "publish"),
        "export --to timm --out o --method random",
    ),
)
def test_what_only_reads_makes_no_workspace(refused: Callable[[str], str], line: str) -> None:
    said = refused(f"{line} --workspace nowhere")
    assert any(
        f"{words} nowhere" in said or f"nowhere {words}" in said
        for words in ("no workspace", "no record in", "has no encoder")
    )
    assert not Path("nowhere").exists()


@pytest.mark.seconds
def test_looking_at_a_folder_leaves_it_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    Path("some").mkdir()
    for line in ("status", "cancel", "retry", "gc", "verify"):
        assert main([line, "--workspace", "some"]) == 0, capsys.readouterr()
    assert not list(Path("some").iterdir())


def test_slurm_where_there_is_none(refused: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    assert "sbatch" in refused("run --method aps --executor slurm")


def test_a_wrong_settings_file_is_named_with_its_key(refused: Callable[[str], str]) -> None:
    Path("repro.toml").write_text('worksapce = "x"\n')
    assert "repro.toml" in (said := refused("plan --method aps")) and "did you mean 'workspace'" in said
    Path("repro.toml").write_text("workspace = 3\n")
    assert "workspace must be a path" in refused("plan --method aps")
    Path("repro.toml").write_text("workspace = \n")
    assert "not valid TOML" in refused("plan --method aps")
    Path("repro.toml").write_text("cores = 1\ncluster = a100\n")
    assert "repro.toml: not valid TOML" in (said := refused("plan --method aps")) and said.endswith(
        ": cluster = a100\n"
    )


def test_options_win_over_environment_and_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from repro import settings

    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    Path("repro.toml").write_text('data_root = "a"\nworkspace = "w"\n')
    assert settings.load({}).data_root == Path("a") and settings.load({}).workspace == Path("w")
    monkeypatch.setenv("REPRO_DATA", "b")
    assert settings.load({}).data_root == Path("b")
    assert settings.load({"data_root": "c"}).data_root == Path("c")


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/proc/self").exists(), reason="needs a folder nobody can write")
def test_an_unwritable_workspace(refused: Callable[[str], str]) -> None:
    Path("taken").write_text("a file where a folder should be")
    assert "cannot write to the workspace" in refused("run --method aps --workspace taken/below")
    assert "cannot write to the workspace" in refused("run --method aps --workspace /proc/1/repro")


def test_a_record_of_a_newer_schema_is_passed_over_and_stays(capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path("repro-work/records")
    folder.mkdir(parents=True)
    text = json.dumps(
        {**dict.fromkeys(("fingerprint", "kind", "method", "variant", "track", "seed"), "x"), "schema": 9}
    )
    text = text[:-1] + ', "metrics": {}, "cost": {}, "provenance": {}}'
    (folder / "new.json").write_text(text)
    assert main("report".split()) == 0
    out = capsys.readouterr().out
    assert "newer repro" in out and "new.json" in out
    assert (folder / "new.json").read_text() == text


def test_protocols_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["protocols"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["linear", "mncl", "-", "multi_network"] in rows and ["finetune", "aps", "cifar", "aps"] in rows
    assert ["knn", "fast", "cifar", "-"] in rows
    assert main(["protocols", "linear"]) == 0
    out = capsys.readouterr().out
    assert "learning_rates" in out and "momentum" not in out  # only what they differ in
    assert main(["protocols", "linear=mncl"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["momentum", "0.9"] in rows and ["optimizer", "lars"] in rows and ["crop_scale", "0.08", "1"] in rows


@pytest.mark.parametrize(
    ("command", "option", "named"),
    [
        *((command, "--track", tracks.tracks()) for command in ("run", "plan", "compare")),
        ("gpu", "--part", PARTS),
        ("eval", "--arch", ARCHS),
        ("claims", "--evaluation", evaluations()),
        *((command, "--eval", evaluations()) for command in ("run", "plan", "eval")),
        *((command, "--suite", suites()) for command in ("run", "plan", "eval")),
    ],
)
def test_help_names_every_value(
    command: str, option: str, named: Collection[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    told = capsys.readouterr().out.partition("\noptions:")[2]
    words = re.split(r"\n  --", told)
    (mine,) = [" ".join(part.split()) for part in words if part.startswith(f"{option[2:]} ")]
    assert [name for name in named if not re.search(rf"\b{re.escape(name)}(?![\w-])", mine)] == []


def test_the_full_suite_lacks_what_its_help_says(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    (lacking,) = set(evaluations()) - set(suites()["full"])
    assert f"full (default, all but {lacking})" in told


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_explains_the_command_in_80_columns(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        main([*command.split(), "--help"])
    told = capsys.readouterr().out
    assert max(map(len, told.splitlines())) <= 80
    said = " ".join(told.split("\n\n")[1].split())
    assert said[0].isupper() and said.endswith(".")


@pytest.mark.processes
def test_help_is_quick() -> None:
    def spent(*command: str) -> float:
        """CPU seconds of three starts of Python."""
        started = os.times()
        for _ in range(3):
            subprocess.run([sys.executable, *command], check=True, capture_output=True)
        ended = os.times()
        return ended.children_user + ended.children_system - started.children_user - started.children_system

    assert spent("-m", "repro", "--help") < 4 * spent("-c", "import argparse, json, pathlib")  # 0.06 s and 0.07 s


@pytest.mark.processes
@pytest.mark.parametrize("hidden", ["eval", "slurm"])
def test_a_folder_of_that_name_in_the_working_directory_hides_no_room(hidden: str) -> None:
    Path(hidden).mkdir()
    Path(hidden, "__init__.py").write_text("raise RuntimeError('the wrong one')\n")
    answer = subprocess.run(
        [sys.executable, "-m", "repro", "plan", "--method", "aps"], capture_output=True, text=True, timeout=60
    )
    assert answer.returncode == 0, answer.stderr


@pytest.mark.seconds
def test_a_plan_is_made_in_under_two_seconds_of_cpu(yardstick: Callable[[], float]) -> None:
    started = time.process_time()
    assert main("plan --method all --track imagenet --seed 0 1 2 3 4".split()) == 0
    spent = time.process_time() - started
    assert spent < 15 * yardstick()


def test_a_message_steers_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "--checkpoint", "a\x1b[31m\rb.pth", "--arch", "resnet18"]) == 2
    assert capsys.readouterr().err == "repro: no such file: a\\x1b[31m\\rb.pth; give an existing file\n"


@pytest.mark.parametrize("value", ["-1", "true", "'long'", "nan"])
def test_patience_must_be_a_number(value: str, refused: Callable[[str], str]) -> None:
    Path("repro.toml").write_text(f"hang_minutes = {value}\n")
    assert "repro.toml: hang_minutes must be a number from 0" in refused("plan --method aps --suite quick")


@pytest.mark.parametrize("line", ["run --executor local", "plan --calibrate 1 --set network.width=7"])
@pytest.mark.parametrize(("value", "seconds"), [("", 1800.0), ("hang_minutes = 5", 300.0), ("hang_minutes = 0", 0.0)])
def test_patience_is_handed_to_the_executor(
    line: str, value: str, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    from slurm import local

    Path("repro.toml").write_text(value + "\n")
    told: list[float] = []

    def run(graph: object, **options: Any) -> dict[str, Any]:
        told.append(options["patience"])
        raise ValueError("enough")

    monkeypatch.setattr(local, "run", run)
    assert main(f"{line} --method random --eval knn --workspace w".split()) == 2
    assert told == [seconds]


def test_a_workspace_that_python_cannot_import_from_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main("run --method random --eval knn --workspace a:b --executor local".split()) == 2
    assert "on Python's import path ':' separates folders" in capsys.readouterr().err


@pytest.mark.parametrize(
    "line",
    [
        "run --method random --eval knn --executor local",
        "plan --method random --eval knn --calibrate 1 --set network.width=7",
        "methods aps --cost",
    ],
)
def test_no_folder_for_temporary_files_is_one_line(
    line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/none"])
    assert main(line.split()) == 2
    assert capsys.readouterr().err.startswith("repro: cannot write temporary files (TMPDIR")


@pytest.mark.parametrize("name", ["n" * 61, "é", "sim+clr", "a/b", "-x", ""])
def test_a_name_that_no_file_can_have_is_refused(name: str, refused: Callable[[str], str]) -> None:
    import methods

    recipe = (Path(methods.__file__).parent / "recipes" / "random.toml").read_text(encoding="utf-8")
    assert 'name = "random"' in recipe
    Path("mine.toml").write_text(recipe.replace('name = "random"', f'name = "{name}"'), encoding="utf-8")
    said = refused("run --method mine.toml --eval knn --executor local")
    assert "mine.toml: the name" in said and "cannot be part of a file name" in said
