"""Errors that users see: the facts as fields, and one line made of them."""

from __future__ import annotations

import pickle

import pytest

from eval import tables
from leaderboards.unknown_names import UnknownName
from repro.errors import Unknown, UserError, unknown
from slurm.nearest import did_you_mean


def test_an_unknown_name_keeps_what_it_knows() -> None:
    error = unknown("method", "apss", ["glnet", "aps"])
    assert (error.kind, error.name, error.nearest, error.valid) == ("method", "apss", "aps", ["aps", "glnet"])
    assert str(error) == "unknown method 'apss'; did you mean 'aps'? valid: aps, glnet"
    assert str(unknown("method", "x", ["glnet", "aps"])) == "unknown method 'x'; valid: aps, glnet"
    assert str(unknown("record", "apss", ["aps"], "give its file")).endswith("did you mean 'aps'? give its file")
    assert str(unknown("record", "x", ["aps"], "give its file")) == "unknown record 'x'; give its file"


def test_every_room_takes_the_same_names_for_near() -> None:
    """No room may import another, so each has its own hint: the same words must be near for all."""
    hints = {
        "repro": lambda word, name: str(unknown("thing", word, [name])),
        "leaderboards": lambda word, name: str(UnknownName("thing", word, [name])),
        "eval": lambda word, name: tables.nearest(word, [name]),
        "slurm": lambda word, name: did_you_mean(word, [name]),
    }
    # Shares of equal letters, by hand: two in four, two in five.
    for word, name, near in (("ab__", "abcd", True), ("ab___", "abcde", False)):
        said = {room: "did you mean" in hint(word, name) for room, hint in hints.items()}
        assert said == dict.fromkeys(hints, near)


@pytest.mark.parametrize("error", [UserError("it is damaged", "delete it"), Unknown("method", "apss", ["aps"])])
def test_errors_survive_the_way_to_another_process(error: UserError) -> None:
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is type(error) and (str(back), back.problem, back.mend) == (str(error), error.problem, error.mend)


def test_what_steers_a_terminal_is_escaped_and_spaces_stay() -> None:
    steering = "\x1b[2J \x9b \n \u202e \u2066 \u200f \u2028 \udce9"
    assert str(UserError(steering)) == r"\x1b[2J \x9b \n \u202e \u2066 \u200f \u2028 \xe9"
    assert str(UserError("12\u202f345\u00a0pictures of Müller")) == "12\u202f345\u00a0pictures of Müller"
