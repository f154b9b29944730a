"""SLURM's commands, and how its words read: answers, refusals, what it writes into the log of a job it ends.

No other file takes these words apart. (Jobs are queued by submitit's own call of sbatch: slurm.cluster.)
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import socket
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass

# What sbatch says where a limit on queued jobs is reached or the controller is too busy: the same call may succeed
# later. After the last two it may even have succeeded.
_FULL = re.compile(
    r"\b(Assoc|QOS)\w*Submit\w*Limit\b|temporarily unable to accept job|Slurm job queue full"
    r"|Unable to create job record|Job creation temporarily disabled|Resource temporarily unavailable"
)
_ANSWER_LOST = re.compile(r"Socket timed out|Unable to contact slurm controller")
_OUT_OF_MEMORY = ("exceeded memory limit", "oom-kill", "oom_kill")
# submitit's words in a job that reached its limit and may not be queued again; SLURM calls it FAILED.
_TIMED_OUT_TOO_OFTEN = "not requeued because: timed-out"
_PATIENCE = 120.0  # seconds for a command to answer in
_MAX_ARRAY = 1001  # SLURM's own default
_BEFORE_NODES = 40 + 20 + 8 + 100  # letters of squeue's lines; a reason may have words, and a job no node


@dataclass(frozen=True)
class Job:
    """SLURM's word for a job's state, its reason, how often it was queued again, and the nodes that it has or had, as
    SLURM abbreviates them: "n1", "n[1-2]", empty where it has none yet."""

    word: str
    reason: str
    restarts: int = 0
    nodes: str = ""


@dataclass(frozen=True)
class Refusal:
    """Why sbatch queued nothing.

    Attributes:
        reason: one line.
        for_now: the same call may succeed later.
        uncertain: its answer was lost, the job may be queued all the same.
    """

    reason: str
    for_now: bool = False
    uncertain: bool = False


class NoAnswer(ValueError):
    """A command of SLURM's failed, said in one line."""


def available() -> str | None:
    """None where jobs can be submitted from this machine, else one line that says why not and what to do."""
    for command in ("sbatch", "srun", "squeue", "scancel"):
        if not shutil.which(command):
            return f"no `{command}` on PATH: run this on a login node of a SLURM cluster, or use the local executor"
    try:
        ping = subprocess.run(
            ["scontrol", "ping"], capture_output=True, text=True, errors="backslashreplace", timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return "SLURM's controller does not answer `scontrol ping`: wait for it, or use the local executor"
    if ping.returncode:
        return "SLURM's controller is down (`scontrol ping`): wait for it, or use the local executor"
    return None


def config() -> dict[str, str]:
    """SLURM's configuration. Raises ValueError where it does not answer."""
    pairs = (line.partition("=") for line in ask(["scontrol", "show", "config"]).splitlines())
    return {key.strip(): value.strip() for key, equals, value in pairs if equals}


def longest_array() -> int:
    """Elements that one array may have: MaxArraySize, or max_array_tasks; 1 where arrays are switched off. Raises
    ValueError where SLURM does not answer."""
    told = config()
    fewer = re.findall(r"\bmax_array_tasks=(\d+)", told.get("SchedulerParameters", ""))
    return max(1, min(map(int, [told.get("MaxArraySize", _MAX_ARRAY), *fewer])))


def user() -> str:
    """Our name, by which SLURM knows us: not the environment's, which another may have left there."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def jobs(numbers: Iterable[str], owners: Iterable[str] = ()) -> dict[str, Job]:
    """Each job as squeue tells it, which remembers a job for some minutes, else as sacct does: one call of each.

    owners: whose jobs they are (default: ours). Those that neither knows are left out. Raises ValueError where squeue
    does not answer.
    """
    numbers = set(numbers)
    if not numbers:
        return {}
    known = {}
    columns = "--Format=JobArrayID:40,State:20,RestartCnt:8,Reason:100,NodeList:100"
    users = f"--user={','.join(sorted(set(owners))) or user()}"
    for line in ask(["squeue", users, "--array", "--states=all", "--noheader", columns]).splitlines():
        number, word, restarts, *reason = line[:_BEFORE_NODES].split(maxsplit=3)
        known[number] = Job(word, "".join(reason).strip(), int(restarts), line[_BEFORE_NODES:].strip())
    forgotten = {array_of(number) for number in numbers - known.keys()}
    if forgotten:
        command = [
            "sacct",
            "-X",
            "--allusers",
            "--duplicates",
            "--noheader",
            "--parsable2",
            "--format=JobID,State,Reason,Start,End,NodeList",
        ]
        # Without accounting the outcomes must do.
        with contextlib.suppress(ValueError):
            for number, job in _accounted(ask([*command, f"--jobs={','.join(sorted(forgotten, key=int))}"])).items():
                known.setdefault(number, job)
    return known


def _accounted(answer: str) -> dict[str, Job]:
    """sacct's lines: one for each time that a job ran, the last one telling how it stands."""
    known: dict[str, Job] = {}
    # Ranges last: one that was cancelled as a whole ("7_[0-2]") includes elements that had left it.
    for line in sorted(answer.splitlines(), key=lambda line: "[" in line):
        ids, word, reason, start, end, *nodes = line.split("|", 5)
        where = "".join(nodes).replace("None assigned", "")
        word, _, by = word.partition(" ")  # "CANCELLED by 1000"
        if word == "CANCELLED" and (start in ("None", "Unknown") or (start == end and not by)):
            reason = "Dependency"  # accounting does not always keep it, and may have a start of what never began
        for number in expand(ids):
            if "[" not in ids:
                known[number] = Job(word, reason, known[number].restarts + 1 if number in known else 0, where)
            else:
                known.setdefault(number, Job(word, reason, nodes=where))
    return known


def array_of(number: str) -> str:
    """The array that a job belongs to, by its number: "7" of "7_2"; the job's own number where it is alone."""
    return number.partition("_")[0]


def index_of(number: str) -> int | None:
    """Which element of its array a job is: 2 of "7_2"; None where it is alone."""
    index = number.partition("_")[2]
    return int(index) if index else None


def expand(ids: str) -> list[str]:
    """Job numbers as sacct abbreviates them: "7", "7_2", "7_[0-2,5%4]", "7_[2-17:15]"."""
    match = re.fullmatch(r"(\d+)_\[([\d,:-]+)(?:%\d+)?\]", ids)
    if not match:
        return [ids]
    numbers: list[str] = []
    for part in match[2].split(","):
        span, _, step = part.partition(":")
        first, _, last = span.partition("-")
        numbers += [f"{match[1]}_{index}" for index in range(int(first), int(last or first) + 1, int(step or 1))]
    return numbers


def abbreviated(indices: Iterable[int]) -> str:
    """Rising numbers of elements as sbatch takes them: "0-2,5"."""
    spans: list[list[int]] = []
    for index in indices:
        if spans and index == spans[-1][1] + 1:
            spans[-1][1] = index
        else:
            spans.append([index, index])
    return ",".join(f"{first}" if first == last else f"{first}-{last}" for first, last in spans)


def cancel(numbers: Iterable[str]) -> None:
    """Cancel jobs; quiet about those that have ended since."""
    if numbers := sorted(set(numbers)):
        ask(["scancel", "--quiet", *numbers])


def named(names: Iterable[str]) -> set[str]:
    """The numbers of our queued or running jobs of these names."""
    answer = ask(["squeue", "--me", "--noheader", f"--name={','.join(names)}", "--format=%A"])
    return set(answer.split())


def node_of(number: str) -> str:
    """The machine that a job runs on."""
    return ask(["squeue", f"--jobs={number}", "--noheader", "--format=%N"]).strip()


def free_nodes(partition: str = "") -> list[str]:
    """The machines of a partition (default: of any) that could begin a job now, sorted."""
    where = [f"--partition={partition}"] if partition else []
    return sorted(set(ask(["sinfo", "--noheader", "--Node", "--states=idle,mixed", "--format=%N", *where]).split()))


def address_of(node: str) -> str:
    """Where a machine is reached: under its name, or, where that means nothing here, at SLURM's own address of it."""
    try:
        socket.getaddrinfo(node, None)
        return node
    except OSError:
        told = re.search(r"\bNodeAddr=(\S+)", ask(["scontrol", "--oneliner", "show", "node", node]))
        return told[1] if told else node


def jobs_on(node: str) -> set[str]:
    """The numbers of all jobs on a machine, whoever's they are."""
    return set(ask(["squeue", f"--nodelist={node}", "--noheader", "--format=%A"]).split())


def take_down(node: str, reason: str) -> None:
    """Take a machine out of service: its jobs end, and are queued again where they may be."""
    ask(["scontrol", "update", f"nodename={node}", "state=down", f"reason={reason}"])


def resume(node: str) -> None:
    """Bring it back."""
    ask(["scontrol", "update", f"nodename={node}", "state=resume"])


def is_down(node: str) -> bool:
    """Whether SLURM has taken a machine out of service."""
    return "down" in ask(["sinfo", f"--nodes={node}", "--noheader", "--format=%T"])


def why_refused(said: str) -> Refusal:
    """What the error text of sbatch, as submitit passes it on, means."""
    lines = said.strip().splitlines() or ["no message"]
    uncertain = bool(_ANSWER_LOST.search(said))
    return Refusal(lines[-1].removeprefix("sbatch: error: "), uncertain or bool(_FULL.search(said)), uncertain)


def killed_for_memory(log: Iterable[str]) -> bool:
    """Whether SLURM's own words among these lines of a log are that the job took more memory than it had asked for.

    Where memory is watched without control groups, SLURM calls such a job only FAILED.
    """
    return any(line.startswith("slurmstepd") and any(word in line for word in _OUT_OF_MEMORY) for line in log)


def is_remark(line: str) -> bool:
    """Whether a line of a log is a remark of srun's, and no error."""
    return line.startswith("srun: ") and not line.startswith("srun: error:")


def timed_out_too_often(reason: str) -> bool:
    """Whether a job failed because it had reached its limit and might not be queued again."""
    return _TIMED_OUT_TOO_OFTEN in reason


def ask(command: list[str]) -> str:
    """What a command of SLURM's prints. Raises NoAnswer where it fails."""
    whole = os.environ | {"SLURM_BITSTR_LEN": "0"}  # ranges of array elements are cut short otherwise
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="backslashreplace", timeout=_PATIENCE, env=whole
        )
    except FileNotFoundError:
        raise NoAnswer(f"no `{command[0]}` on PATH: run this on a login node of a SLURM cluster") from None
    except subprocess.TimeoutExpired:
        raise NoAnswer(f"`{command[0]}` did not answer for {_PATIENCE:g} s: try again later") from None
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise NoAnswer(f"`{command[0]}` failed: {said}")
    return done.stdout
