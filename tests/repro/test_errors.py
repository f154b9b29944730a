"""Errors that users see: the facts as fields, and one line made of them."""

from __future__ import annotations

import pickle

import pytest

from repro.errors import Unknown, UserError, unknown


def test_an_unknown_name_keeps_what_it_knows() -> None:
    error = unknown("method", "apss", ["glnet", "aps"])
    assert (error.kind, error.name, error.nearest, error.valid) == ("method", "apss", "aps", ["aps", "glnet"])
    assert str(error) == "unknown method 'apss'; did you mean 'aps'? valid: aps, glnet"
    assert str(unknown("method", "x", ["glnet", "aps"])) == "unknown method 'x'; valid: aps, glnet"
    assert str(unknown("record", "apss", ["aps"], "give its file")).endswith("did you mean 'aps'? give its file")
    assert str(unknown("record", "x", ["aps"], "give its file")) == "unknown record 'x'; give its file"


@pytest.mark.parametrize("error", [UserError("it is damaged", "delete it"), Unknown("method", "apss", ["aps"])])
def test_errors_survive_the_way_to_another_process(error: UserError) -> None:
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is type(error) and (str(back), back.problem, back.mend) == (str(error), error.problem, error.mend)
