"""The weights of a network out of a file, whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from repro.errors import UserError
from repro.weights import wording
from repro.weights.architectures import ARCHS
from repro.weights.files import File
from repro.weights.matching import Elsewhere, Match, Several, match


class Misfit(UserError):
    """A file whose encoder is not wholly the network's.  names: a line for every key without counterpart, and why."""

    def __init__(self, text: str, names: Sequence[str]) -> None:
        super().__init__(text)
        self.names = names


def find(file: File, network: Mapping[str, Any], said: str, part: str | None = None) -> Match:
    """`match`; UserError, in one line, where the encoder of the file is not wholly that network's.

    said: the network as the user named it. Raises Misfit where weights are at fault, and not the choice of a part.
    """
    found = match(file, network, part)
    if isinstance(found, Several):
        raise UserError(wording.several(file, found))
    if isinstance(found, Elsewhere):
        raise UserError(wording.elsewhere(file, found, part or ""))
    if found is None:
        raise Misfit(wording.no_weight(file, said, fitting(file)), wording.names_of_no_weight(file))
    if not found.whole:
        raise Misfit(wording.not_whole(file, said, network, found, fitting(file, part)), wording.names(found))
    if found.infinite:
        raise UserError(wording.infinite(file, found))
    if found.negative:
        raise UserError(wording.negative(file, found))
    if found.blank:
        raise UserError(wording.blank(file))
    return found


def fitting(file: File, part: str | None = None) -> list[str]:
    """The architectures that the file does hold wholly, once or several times."""
    found = {name: match(file, network, part) for name, network in ARCHS.items()}
    return [name for name, one in found.items() if isinstance(one, Several) or (isinstance(one, Match) and one.whole)]
