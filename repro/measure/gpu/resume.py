"""Does a training that was killed go on bit for bit on this device?

Each training is a process of its own, the interrupted one two: the first is ended by SIGKILL in its second epoch, the
second goes on from the checkpoint. Where a device adds in an order of its own choice, not even two whole trainings are
equal; then all are done again with deterministic algorithms alone, and those must be. They are forked, so this process
must not have used the device.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import tempfile
from pathlib import Path

import torch

from repro.errors import UserError
from repro.measure.gpu import device, loops
from repro.measure.gpu.part import Case, Figures, Found, Tell
from repro.plan import tracks
from repro.store import checkpoints
from slurm.logs import last_line, quoted
from slurm.process import death, lead

METHOD = "simclr"
_EPOCHS, _LOADS = 3, 4
_KILLED_AT = _LOADS + 2  # loads
_FEW = 16  # pictures a load of a small case
_RESULT = "result.json"


def train(case: Case, folder: Path, deterministic: bool, kill_at: int) -> None:
    """A tiny training in that folder; with `kill_at` the process dies after so many loads, else it leaves a result."""
    if deterministic:
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # read when the device is first used
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    if kill_at:
        checkpoints.SAVE_EVERY = 0.0
    track = tracks.find(case.track)
    few = {"batch": _FEW} if case.small else {}
    module, recipe = loops.recipe_of(METHOD, track.name, epochs=_EPOCHS, warmup_epochs=1, **few)
    images, _ = loops.noise(_LOADS * recipe["pretrain"]["batch"], track)
    here = device.of_kind(case.device)
    loop = loops.loop_on(images, None, module, recipe, here, folder, size=track.size)
    began = -1
    for done, _ in enumerate(loop.train(), 1):
        began = loop.updates if began < 0 else began
        if done == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
    digest = hashlib.sha256()
    for name, tensor in sorted(loop.method.state_dict().items()):
        digest.update(name.encode() + tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    result = {"weights": digest.hexdigest(), "losses": loop.losses, "updates": loop.updates, "first": began}
    (folder / _RESULT).write_text(json.dumps(result), encoding="utf-8")


def _in_a_process(case: Case, folder: Path, deterministic: bool, kill_at: int = 0) -> Figures:
    """The result of `train`; {} of one that was to be killed and was."""
    log, arguments = folder / "log.txt", (case, folder, deterministic, kill_at)
    # spawned, not forked: threads that autograd has started here would not live on in a fork
    process = multiprocessing.get_context("spawn").Process(target=lead, args=(str(log), train, arguments))
    process.start()
    process.join()
    if kill_at and process.exitcode == -signal.SIGKILL:
        return {}
    if kill_at or process.exitcode:
        raise UserError(death(process.exitcode or 0) + quoted(last_line(log)))
    found: Figures = json.loads((folder / _RESULT).read_text(encoding="utf-8"))
    return found


def trainings(case: Case, deterministic: bool) -> Figures:
    """Results of a whole training, of another, and of one that was killed and went on."""
    found: Figures = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in ("whole", "again", "killed"):
            place = Path(folder) / name
            place.mkdir()
            if name == "killed":
                _in_a_process(case, place, deterministic, _KILLED_AT)
            found[name] = _in_a_process(case, place, deterministic)
    return found


def judge(found: Figures) -> Figures:
    """Whether the trainings are equal, and where the killed one went on."""
    whole, again, killed = ((one["weights"], one["losses"]) for one in (found[n] for n in ("whole", "again", "killed")))
    return {"repeats": whole == again, "resumes": whole == killed, "went on at": found["killed"]["first"]}


def run(case: Case, tell: Tell) -> Found:
    """With the algorithms as they are chosen; where those do not repeat themselves, with deterministic ones too."""
    figures: Figures = {"method": METHOD, "track": case.track, "as they are": judge(trainings(case, False))}
    tell(figures)
    usual = figures["as they are"]
    where = f"killed in epoch 2, it went on at update {usual['went on at']}"
    if usual["repeats"]:
        return Found(usual["resumes"], f"{where}; {_equal(usual['resumes'])}", figures)
    strict = figures["deterministic"] = judge(trainings(case, True))
    good = strict["repeats"] and strict["resumes"]
    line = f"{where}; two trainings are not equal as they are; by deterministic algorithms {_equal(good)}"
    return Found(good, line, figures)


def _equal(same: bool) -> str:
    return "equal to the bit" if same else "NOT equal"
