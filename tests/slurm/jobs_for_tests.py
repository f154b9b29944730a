"""Targets that the tests' tasks call, and (as a program) an executor to be interrupted from outside:

python jobs_for_tests.py FOLDER GRAPH.json [GRACE]
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from slurm import local, progress
from slurm.graph import Graph, Task


def add(a, b):
    sys.stdout.write(f"adding {a} and {b}\n")
    return a + b


def say(words):
    for word in words:
        sys.stdout.write(f"{word}\n")
    return words


def open_a_sound():
    import wave

    return wave.open("none")


def nap(seconds, notes):
    start = time.time()
    time.sleep(seconds)
    with Path(notes).open("a") as file:
        file.write(json.dumps([start, time.time()]) + "\n")


def fail(message):
    sys.stdout.write("about to fail\n")
    raise ValueError(f"{message}\nsecond line")


def die():
    sys.stdout.write("allocating far too much\n")
    os.kill(os.getpid(), signal.SIGKILL)


def quit_without_a_word():
    os._exit(3)


def not_json():
    return {1, 2}


def surroundings():
    return {
        "threads": os.environ["OMP_NUM_THREADS"],
        "gpus": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "cwd_on_path": str(Path.cwd()) in sys.path or "" in sys.path,
        "directory": str(Path.cwd()),
    }


def who(folder):
    """What each of several ranks is told, in a file of its own."""
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "CUDA_VISIBLE_DEVICES")
    told = {name: os.environ.get(name) for name in (*names, "OMP_NUM_THREADS")}
    told |= {"reports": bool(os.environ.get(progress.VARIABLE)), "port": os.environ.get("MASTER_PORT")}
    rank = os.environ.get("RANK", os.environ.get("SLURM_PROCID"))
    Path(folder, rank).write_text(json.dumps(told))
    return rank


def one_of_them(marks, deaths):
    """Each of several ranks leaves the number of its process and waits; `deaths` says how some end before that."""
    rank = os.environ.get("RANK", os.environ.get("SLURM_PROCID"))
    mark = Path(marks, rank)
    mark.with_suffix(".tmp").write_text(str(os.getpid()))
    mark.with_suffix(".tmp").rename(mark)
    if rank in deaths:
        while len([path for path in Path(marks).iterdir() if path.name.isdigit()]) < 2:
            time.sleep(0.05)
        seconds, how = deaths[rank]
        time.sleep(seconds)
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise ValueError(how)
    try:
        time.sleep(300)
    finally:
        Path(marks, f"{rank}.farewell").touch()


def wait_for_nobody():
    """Hangs as processes do that wait for each other: looks now and then whether it may go on."""
    sys.stdout.write("waiting for a word\n")
    progress.report(3, 20, {"job": "knn"})
    while True:
        time.sleep(0.2)


def compute_in_silence(seconds):
    """Takes CPU time, here and in a process of its own, and says nothing."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
    program = f"import time\nwhile time.process_time() < {seconds}: pass"
    subprocess.run([sys.executable, "-c", program], check=True)
    return "computed"


def count(total):
    for done in range(total + 1):
        progress.report(done, total, {"loss": 1.0})
        time.sleep(0.25)


def wait_with_child(pids, polite=True):
    """Writes the numbers of this process and of one of its own, and waits; says so when it is asked to end."""
    if not polite:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen(["sleep", "300"], preexec_fn=lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN))
    Path(pids + ".tmp").write_text(f"{os.getpid()} {child.pid}")
    Path(pids + ".tmp").rename(pids)
    try:
        while True:
            time.sleep(0.1)
    finally:
        Path(pids + ".farewell").touch()


def second_time_lucky(notes):
    """Waits for ever when first called; the second call goes on from what the first one left."""
    if not Path(notes).exists():
        Path(notes).write_text("first")
        time.sleep(600)
    return Path(notes).read_text() + " second"


def second_try(notes):
    """Fails when first called; does its work the second time."""
    if not Path(notes).exists():
        Path(notes).write_text("first")
        raise ValueError("not yet")
    return "done at last"


def eat(megabytes):
    """Takes memory, and holds it long enough for somebody to see."""
    held = bytearray(megabytes * 2**20)
    held[::4096] = b"x" * len(held[::4096])
    time.sleep(300)


if __name__ == "__main__":
    tasks = [Task.from_json(task) for task in json.loads(Path(sys.argv[2]).read_text())]
    grace = float(sys.argv[3]) if len(sys.argv) > 3 else 10.0
    outcomes = local.run(
        Graph(tasks),
        folder=Path(sys.argv[1]),
        cores=4,
        memory_gb=8,
        grace=grace,
        on_event=lambda event: (sys.stdout.write(event.kind + "\n"), sys.stdout.flush()),
    )
    sys.stdout.write(json.dumps({key: outcome.value for key, outcome in outcomes.items()}) + "\n")
