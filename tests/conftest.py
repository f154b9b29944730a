"""What every room's tests share: fixtures, and the rules that hold the markers to what the tests do."""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import io
import multiprocessing.process
import os
import signal
import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

# ------------------------------------------------------------------------------------------------ markers

STARTERS = {"fake_slurm", "on_two_processes", "real_slurm"}  # fixtures whose tests start processes
STARTS = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system"}  # audit events
PROBES = {"git", "nvidia-smi"}  # asked by many functions, once, for the commit and for the devices
FEW = 10  # optimiser steps: more of them are a training


class Watch:
    """What the running test has done that its markers must say."""

    def __init__(self) -> None:
        self.on = self.hooked = False
        self.processes: list[str] = []
        self.steps = 0

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.on and event in STARTS and not _importing():  # a package's start-up happens once, in any test
            command = arguments[1] if event == "subprocess.Popen" else event
            if not isinstance(command, list) or command[0] not in PROBES:
                self.processes.append(str(command))

    def begin(self) -> None:
        if "torch" in sys.modules and not self.hooked:
            from torch.optim.optimizer import register_optimizer_step_pre_hook

            register_optimizer_step_pre_hook(self.step)
            self.hooked = True
        self.on, self.processes, self.steps = True, [], 0

    def step(self, *_: Any) -> None:
        self.steps += 1

    def unsaid(self, item: pytest.Item) -> str:
        """Which marker the test lacks, in words; "" where it lacks none."""
        if self.processes and not item.get_closest_marker("processes"):
            return f"it starts another process, so it needs the marker `processes`: {self.processes[0]:.80}"
        if self.steps > FEW and not item.get_closest_marker("trains"):
            return f"it takes {self.steps} optimiser steps, so it needs the marker `trains`"
        return ""


watch = Watch()


def _importing() -> bool:
    frame = sys._getframe(2)
    while frame.f_back is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


def pytest_configure() -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in the background: what tests start must heed Ctrl-C
        signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.addaudithook(watch.audit)
    start = multiprocessing.process.BaseProcess.start

    def told(self: Any) -> None:
        sys.audit("os.spawn", self)  # multiprocessing starts its servers without an event
        start(self)

    multiprocessing.process.BaseProcess.start = told  # type: ignore[method-assign]


@pytest.hookimpl(tryfirst=True)  # before pytest selects by -m
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests of SLURM and of some fixtures start processes; slow tests are left out unless -m speaks of them."""
    for item in items:
        if item.get_closest_marker("slurm") or STARTERS & set(getattr(item, "fixturenames", ())):
            item.add_marker("processes")
    if "slow" not in config.option.markexpr:
        slow = [item for item in items if item.get_closest_marker("slow")]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]


def pytest_collection_finish() -> None:
    """What imports made stays: looking through it at each collection of garbage would cost a tenth of the time."""
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None]:
    watch.begin()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    yield
    if unsaid := watch.unsaid(item):
        pytest.fail(unsaid, pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown() -> Generator[None]:
    watch.on = False
    return (yield)


# ------------------------------------------------------------------------------------------------ fixtures


class Memory:
    """Where a training keeps its state (eval.context.Store), in memory, after every so many updates."""

    def __init__(self, every: int = 1) -> None:
        self.every, self.asked = every, 0
        self.kept: dict[str, bytes] = {}

    def load(self, name: str) -> tuple[dict[str, Any] | None, str]:
        import torch

        if name not in self.kept:
            return None, ""
        return torch.load(io.BytesIO(self.kept[name]), map_location="cpu", weights_only=True), ""

    def due(self) -> bool:
        self.asked += 1
        return self.asked % self.every == 0

    def save(self, name: str, state: Mapping[str, Any]) -> None:
        import torch

        stream = io.BytesIO()
        torch.save(dict(state), stream)
        self.kept[name] = stream.getvalue()

    def training(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()


@pytest.fixture
def memory() -> Callable[..., Memory]:
    """`memory(every)`: a store of trainings that outlives nothing but the training."""
    return Memory


@pytest.fixture
def yardstick() -> Callable[[], float]:
    """`yardstick()`: CPU seconds of a fixed piece of Python, 0.13 on an idle core, before the test or now.

    A busy machine lengthens CPU time too. A limit in yardsticks is one there as well.
    """

    def measure() -> float:
        start, table = time.process_time(), {}
        for number in range(200_000):
            table[str(number)] = [number]
        sorted(table)
        return time.process_time() - start

    before = measure()
    return lambda: max(before, measure())


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of the real-picture packs; tests that need it skip with a reason where it is not there."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    root = Path(os.environ.get("REPRO_DATA", beside))
    if not (root / "cifar10-jpeg").is_dir():
        pytest.skip(f"no image packs under {root}; set REPRO_DATA to a folder with cifar10-jpeg, coco-mini, ...")
    return root


def _beside(name: str) -> Any:
    """A module of this folder, which is no package."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def miniature() -> Callable[..., Path]:
    """`miniature(name, root, **sizes)`: a tiny data set of the right layout below a data root (tests/miniatures.py)."""
    writer: Callable[..., Path] = _beside("miniatures").write
    return writer


@pytest.fixture
def gpu() -> Iterator[Any]:
    """A GPU: one that is pretended, or with REPRO_GPU=real in the environment this machine's (tests/pretend_gpu.py)."""
    import pretend_gpu

    with pretend_gpu.chosen() as device:
        yield device


@pytest.fixture
def valued_gpu() -> Iterator[Any]:
    """As `gpu`, and the pretended one has values: for libraries whose shapes depend on them."""
    import pretend_gpu

    with pretend_gpu.chosen(values=True) as device:
        yield device


@pytest.fixture(scope="session")
def shrunk() -> Callable[..., dict[str, dict[str, Any]]]:
    """`shrunk(name, variant, batch)`: a recipe with tiny networks, heads and memories; the algorithm stays as it is."""
    from repro.plan import recipes, registry

    def shrink(name: str, variant: str = "", batch: int = 16) -> dict[str, dict[str, Any]]:
        tables = recipes.resolve(registry.find(name)[0], variant, "embedded", {})
        slim: dict[str, Any] = {"depth": 18, "width": 8, "stem": "cifar"}
        vit: dict[str, Any] = {"dim": 24, "depth": 1, "heads": 2, "patch": 8}
        tables["network"] |= {"size": 32} | (slim if tables["network"]["arch"] == "resnet" else vit)
        for key, value in tables["method"].items():
            if key.endswith(("_hidden", "_dim")) and value:
                tables["method"][key] = 32
            if key.endswith("bank_size"):
                tables["method"][key] = min(value, 3 * batch // 2)
            if key == "view_size":
                tables["method"][key] = min(value, 40)
        tables["pretrain"] |= {"batch": batch, "devices": 1, "accumulate": 1, "precision": "fp32", "base_batch": batch}
        return tables

    return shrink


@pytest.fixture
def fake_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands that write down how they were called; the folder they lie in.

    sbatch counts from 101, keeps each script and the journal as it found it, prints the file `refuse` and fails where
    there is one, and fails as SLURM 22.05 does where more jobs would be `queued` than the file `limit` says; with
    --test-only it only fails where there is a file `limits`, and says what that holds. The others say what NAME.answer
    holds; squeue says `squeue.default` of all that sbatch took and squeue.answer does not name. For jobs that start and
    end by themselves see `simulated_slurm`.
    """
    folder = tmp_path / "bin"
    folder.mkdir()
    simulator = Path(__file__).with_name("simulated_slurm.py")
    simulated = f'[ -e {folder}/cluster.json ] && exec {sys.executable} -IS {simulator} {folder} "${{0##*/}}" "$@"'
    for name in ("srun", "squeue", "scancel", "scontrol", "sacct"):
        answer = f"cat {folder}/{name}.answer 2>/dev/null"
        (folder / name).write_text(f'#!/bin/sh\n{simulated}\necho {name} "$@" >>{folder}/calls\n{answer} || true\n')
    with (folder / "squeue").open("a") as script:
        script.write(
            f"""case "$*" in *--name=*) exit 0;; esac
[ -e {folder}/squeue.default ] && [ -e {folder}/taken ] || exit 0
while read -r job; do
    grep -qs "^$job " {folder}/squeue.answer || echo "$job $(cat {folder}/squeue.default)"
done <{folder}/taken
"""
        )
    (folder / "sbatch").write_text(
        f"""#!/bin/sh
{simulated}
case "$1" in --test-only) echo test "$@" >>{folder}/calls; cat {folder}/limits >&2 2>/dev/null && exit 1; exit 0;; esac
echo sbatch "$@" >>{folder}/calls
[ -e {folder}/refuse ] && {{ cat {folder}/refuse >&2; exit 1; }}
last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$1")
queued=$(($(cat {folder}/queued 2>/dev/null || echo 0) + ${{last:-0}} + 1))
if [ -e {folder}/limit ] && [ $queued -gt "$(cat {folder}/limit)" ]; then
    echo 'sbatch: error: AssocMaxSubmitJobLimit' >&2
    echo "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's size\
 and/or time limits)" >&2
    exit 1
fi
echo $queued >{folder}/queued
number=$((100 + $(grep -c ^sbatch {folder}/calls)))
if [ "$last" ]; then seq -f "${{number}}_%.0f" 0 "$last"; else echo $number; fi >>{folder}/taken
cp "$1" {folder}/script$number
cp "$(dirname "$(dirname "$1")")"/journal.jsonl {folder}/journal$number
echo Submitted batch job $number
"""
    )
    for file in folder.iterdir():
        file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


@pytest.fixture(scope="session")
def three_nodes() -> list[str]:
    """The names of the nodes of a SLURM that has three or more."""
    from slurm import scheduler

    if "PYTEST_XDIST_WORKER" in os.environ:
        pytest.skip("it ends nodes, and the jobs of tests beside it with them")
    if reason := scheduler.available():
        pytest.skip(f"{reason} (tests/slurm/cluster.sh start --nodes 3 starts one)")
    names = sorted(set(scheduler.ask(["sinfo", "--noheader", "--Node", "--format=%N"]).split()))
    if len(names) < 3:
        pytest.skip(f"this SLURM has too few nodes, {len(names)} (tests/slurm/cluster.sh start --nodes 3 starts three)")
    return names


@pytest.fixture
def simulated_slurm(fake_slurm: Path) -> Callable[..., Any]:
    """`simulated_slurm(max_submit=100, ...)`: the Cluster (simulated_slurm.py) that all commands are of from now on."""
    return lambda **settings: _beside("simulated_slurm").Cluster(fake_slurm, **settings)
