from __future__ import annotations

from pathlib import Path

import pytest

from slurm import scheduler


def test_what_accounting_says_of_a_job_that_was_queued_again() -> None:
    """Lines of a real sacct 22.05 (-X --duplicates): 78 was requeued once; a child of 77_1 and 80, 81 never ran, for
    want of what they waited for; 82 and 83 were cancelled by hand, 83 in its first second.
    """
    said = """78|REQUEUED|None|2026-11-22T12:26:57|2026-11-22T12:27:00
77_0|COMPLETED|None|2026-11-22T12:26:57|2026-11-22T12:26:58
77_1|FAILED|None|2026-11-22T12:26:57|2026-11-22T12:26:58
77_2|COMPLETED|JobArrayTaskLimit|2026-11-22T12:27:00|2026-11-22T12:27:01
79_1|CANCELLED|Dependency|None|2026-11-22T12:26:59
80|CANCELLED|None|None|2026-11-22T12:26:59
81|CANCELLED|None|2026-11-23T01:49:23|2026-11-23T01:49:23
82|CANCELLED by 0|None|2026-11-23T01:48:57|2026-11-23T01:49:02
83|CANCELLED by 0|None|2026-11-23T01:48:57|2026-11-23T01:48:57
78|RUNNING|BeginTime|2026-11-22T12:27:10|Unknown
"""
    found = scheduler._accounted(said)
    assert found["78"] == scheduler.Job("RUNNING", "BeginTime", 1)
    assert found["77_1"] == scheduler.Job("FAILED", "None", 0)
    assert {found[number] for number in ("79_1", "80", "81")} == {scheduler.Job("CANCELLED", "Dependency", 0)}
    assert {found[number] for number in ("82", "83")} == {scheduler.Job("CANCELLED", "None", 0)}


@pytest.mark.parametrize(
    ("ids", "jobs"),
    [
        ("7", ["7"]),
        ("7_2", ["7_2"]),
        ("7_[0-2,5%4]", ["7_0", "7_1", "7_2", "7_5"]),
        ("7_[3]", ["7_3"]),
        ("7_[2-17:15]", ["7_2", "7_17"]),
        ("7_[1,4-8:2%3]", ["7_1", "7_4", "7_6", "7_8"]),
    ],
)
def test_abbreviated_job_numbers(ids: str, jobs: list[str]) -> None:
    assert scheduler.expand(ids) == jobs


@pytest.mark.parametrize("indices", [(0,), (0, 1, 2), (3,), (0, 2, 3, 4, 9), tuple(range(1, 1001, 2))])
def test_elements_are_written_as_slurm_reads_them(indices: tuple[int, ...]) -> None:
    assert scheduler.expand(f"7_[{scheduler.abbreviated(indices)}%4]") == [f"7_{index}" for index in indices]
    assert scheduler.abbreviated((0, 1, 2, 5)) == "0-2,5"


def test_accounting_is_asked_for_whole_ranges(fake_slurm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_BITSTR_LEN", raising=False)
    (fake_slurm / "sacct").write_text('#!/bin/sh\necho "7_[0-1]|PENDING|None|Unknown|${SLURM_BITSTR_LEN:-64}"\n')
    assert scheduler.ask(["sacct"]).rstrip().endswith("|0")


def test_the_controllers_own_limit_of_elements_counts_too(fake_slurm: Path) -> None:
    answer = "MaxArraySize            = 1001\nSchedulerParameters     = defer,max_array_tasks=3,bf_interval=2\n"
    (fake_slurm / "scontrol.answer").write_text(answer)
    assert scheduler.longest_array() == 3
    (fake_slurm / "scontrol").write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(scheduler.NoAnswer, match="`scontrol` failed"):  # no guess, which sbatch might refuse
        scheduler.longest_array()


def test_a_refusal_of_sbatch_is_told_apart() -> None:
    lost = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"
    full = "sbatch: error: AssocMaxSubmitJobLimit\nsbatch: error: Batch job submission failed: Job violates a policy"
    wrong = "sbatch: error: invalid partition specified: nowhere"
    assert scheduler.why_refused(lost) == scheduler.Refusal(lost.removeprefix("sbatch: error: "), True, True)
    assert scheduler.why_refused(full) == scheduler.Refusal("Batch job submission failed: Job violates a policy", True)
    assert scheduler.why_refused(wrong) == scheduler.Refusal("invalid partition specified: nowhere")
    assert scheduler.why_refused("\n") == scheduler.Refusal("no message")


def test_the_parts_of_a_job_number() -> None:
    assert [scheduler.array_of(number) for number in ("7", "7_12")] == ["7", "7"]
    assert [scheduler.index_of(number) for number in ("7", "7_0", "7_12")] == [None, 0, 12]


def test_the_nodes_of_a_job_whatever_its_reason_says(fake_slurm: Path) -> None:
    lines = {
        "7_0": ("RUNNING", "1", "None", "n[1-2]"),
        "7_1": ("PENDING", "0", "ReqNodeNotAvail, UnavailableNodes:n2", ""),
    }
    columns = [f"{n:40}{word:20}{count:8}{why:100}{nodes:100}\n" for n, (word, count, why, nodes) in lines.items()]
    (fake_slurm / "squeue.answer").write_text("".join(columns))
    (fake_slurm / "sacct.answer").write_text(
        "8|NODE_FAIL|None|2026-01-01T00:00:00|2026-01-01T00:00:09|n2\n"
        "8|FAILED|None|2026-01-01T00:01:00|2026-01-01T00:01:09|n3\n"
        "9_[0-1]|CANCELLED|None|Unknown|Unknown|None assigned\n"
    )
    assert scheduler.jobs({"7_0", "7_1", "8", "9_0"}) == {
        "7_0": scheduler.Job("RUNNING", "None", 1, "n[1-2]"),
        "7_1": scheduler.Job("PENDING", "ReqNodeNotAvail, UnavailableNodes:n2", 0, ""),
        "8": scheduler.Job("FAILED", "None", 1, "n3"),
        "9_0": scheduler.Job("CANCELLED", "Dependency"),
        "9_1": scheduler.Job("CANCELLED", "Dependency"),
    }


def test_a_node_is_reached_by_its_name_or_where_slurm_reaches_it(fake_slurm: Path) -> None:
    (fake_slurm / "scontrol.answer").write_text("NodeName=n1 CPUTot=2 NodeAddr=10.0.0.7 NodeHostName=vm Port=27001\n")
    assert scheduler.address_of("localhost") == "localhost"
    assert scheduler.address_of("no-such-name.invalid") == "10.0.0.7"
