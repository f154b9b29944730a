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
    """No room may import another, so each has its own hint: the same words must be near for all.

    But for `eval`, whose code is part of fingerprints: it still takes half of the letters for near.
    """
    hints = {
        "repro": lambda word, name: str(unknown("thing", word, [name])),
        "leaderboards": lambda word, name: str(UnknownName("thing", word, [name])),
        "slurm": lambda word, name: did_you_mean(word, [name]),
    }
    # Shares of equal letters, by hand: three in four, three in five; then the same letters; then another case.
    for word, name, near in (
        ("abc_", "abcd", True),
        ("abc__", "abcde", False),
        ("asp", "aps", True),
        ("MoCo-V3", "moco_v3", True),
    ):
        said = {room: "did you mean" in hint(word, name) for room, hint in hints.items()}
        assert said == dict.fromkeys(hints, near)
    assert "did you mean" in tables.nearest("ab__", ["abcd"]) and "valid:" in tables.nearest("ab___", ["abcde"])


def test_a_long_list_of_names_is_shortened() -> None:
    names = [f"n{number:02}" for number in range(30)]
    for said in (str(unknown("thing", "x", names)), str(UnknownName("thing", "x", names))):
        assert "n00, n01, " in said and said.endswith("n19, ... (30)")


@pytest.mark.parametrize("error", [UserError("it is damaged", "delete it"), Unknown("method", "apss", ["aps"])])
def test_errors_survive_the_way_to_another_process(error: UserError) -> None:
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is type(error) and (str(back), back.problem, back.mend) == (str(error), error.problem, error.mend)


def test_what_steers_a_terminal_is_escaped_and_spaces_stay() -> None:
    steering = "\x1b[2J \x9b \n \u202e \u2066 \u200f \u2028 \udce9"
    assert str(UserError(steering)) == r"\x1b[2J \x9b \n \u202e \u2066 \u200f \u2028 \xe9"
    assert str(UserError("12\u202f345\u00a0pictures of Müller")) == "12\u202f345\u00a0pictures of Müller"
