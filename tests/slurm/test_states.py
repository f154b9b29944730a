from __future__ import annotations

import itertools

import pytest

from slurm.states import ENDED, FORGOTTEN, RULES, RUNNING, Facts, rule_for

LOG = "; last line of its log: epoch 3"
CASES = [
    ("blocked before it was queued", Facts(queued=False, lost_parent="failed", blocked="'a' failed"), "'a' failed"),
    ("never queued", Facts(queued=False), "not queued: "),
    ("never queued", Facts(queued=False, lost_parent="unsubmitted", blocked="'a' unsubmitted"), "not queued: "),
    ("about to be cancelled", Facts(word="COMPLETING", cancelled=True), "on request"),
    ("about to be cancelled", Facts(word="PENDING", cancelled=True), "on request"),
    ("running", Facts(word="RUNNING", why="None"), ""),
    ("running", Facts(word="SUSPENDED"), "suspended"),
    ("waiting", Facts(word="PENDING", why="Priority"), "Priority"),
    ("waiting", Facts(word="A_NEW_WORD", why="Priority", left="failed"), "Priority"),
    ("done", Facts(word="COMPLETED", left="done"), ""),
    ("done", Facts(left="done"), ""),
    (
        "done, whatever SLURM calls it",
        Facts(word="TIMEOUT", left="done"),
        "its result is complete, although SLURM calls it",
    ),
    (
        "no requeue is left",
        Facts(word="FAILED", left="failed", timed_out_too_often=True),
        "reached its time limit again",
    ),
    ("failed and said why", Facts(word="FAILED", left="failed", left_reason="ValueError: {0}"), "ValueError: {0}"),
    (
        "ended because its parent failed",
        Facts(word="CANCELLED", why="Dependency", lost_parent="timeout", blocked="'a' timeout", cancelled=True),
        "'a' timeout",
    ),
    ("cancelled on request", Facts(word="CANCELLED", why="Dependency", cancelled=True), "on request"),
    ("cancelled on request", Facts(cancelled=True, lost_parent="failed"), "on request"),
    ("cancelled by others", Facts(word="CANCELLED"), "by hand, or by the cluster"),
    ("one rank said why", Facts(word="FAILED", failed_rank="rank 1 of 2: ValueError"), "rank 1 of 2: ValueError"),
    ("blocked and forgotten", Facts(lost_parent="failed", blocked="'a' failed"), "'a' failed"),
    ("forgotten", Facts(last_line="epoch 3"), f"SLURM no longer knows it{LOG}"),
    ("forgotten", Facts(lost_parent="unsubmitted"), "SLURM no longer knows it"),
    ("reached its time limit", Facts(word="TIMEOUT", last_line="epoch 3"), f"reached its time limit{LOG}"),
    ("reached its time limit", Facts(word="TIMEOUT", failed_rank="rank 1 of 2: killed"), "reached its time limit"),
    ("killed for its memory", Facts(word="FAILED", killed_for_memory=True, last_line="epoch 3"), "ran out of mem"),
    ("its node cannot write here", Facts(word="FAILED", no_log=True, nodes="n3"), "it left no log: n3 cannot write"),
    ("ended without a reason", Facts(word="FAILED", no_log=True), "failed"),
    ("ended without a reason", Facts(word="NODE_FAIL", last_line="epoch 3"), f"its machine failed{LOG}"),
    ("ended without a reason", Facts(word="COMPLETED"), "SLURM calls it COMPLETED, but it left no result"),
]


@pytest.mark.parametrize(("name", "facts", "reason"), CASES)
def test_the_first_rule_that_fits_says_where_a_task_stands(name: str, facts: Facts, reason: str) -> None:
    rule = rule_for(facts)
    assert rule.name == name
    assert rule.words(facts).startswith(reason)


def test_every_rule_is_reached() -> None:
    reached = {rule_for(facts).name for _, facts, _ in CASES}
    assert reached == {rule.name for rule in RULES}
    assert len(reached) == len(RULES), "each rule has a name of its own"


def test_some_rule_fits_whatever_slurm_says() -> None:
    words = (*RUNNING, *ENDED, FORGOTTEN, "PENDING", "A_NEW_WORD")
    for word, left, lost_parent in itertools.product(words, ("", "done", "failed"), ("", "unsubmitted", "failed")):
        state = rule_for(Facts(word=word, left=left, lost_parent=lost_parent)).state
        assert (state == "running") == (word in RUNNING)
        if word in ENDED or word == FORGOTTEN:
            assert state not in ("pending", "unsubmitted") and (state == "done") == (left == "done")
