"""The named protocols: repro asks for them here, so that a damaged file is one line with its path."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from eval import protocols
from eval.protocols.base import Protocol
from repro.errors import UserError


@cache
def names(kind: str) -> tuple[str, ...]:
    """The names of a kind's protocols, in the order of its file.

    Raises:
        UserError: the file is no valid TOML, or holds a protocol that cannot be built; one line with its path.
    """
    table = protocols.KINDS[kind]
    mend = "fix it, or restore it with git"
    try:
        named = table.named
    except (OSError, ValueError) as error:
        raise UserError(f"{table.source}: not valid TOML ({error})", mend) from None
    for name, stated in named.items():
        if not isinstance(stated, Mapping):
            raise UserError(f"{table.source}: {name} = {stated!r} must be a table", mend)
        try:
            table.protocol.build(name, stated)
        except ValueError as error:
            raise UserError(f"{table.source}: [{name}]: {error}", mend) from None
    if not named:
        raise UserError(f"{table.source}: holds no protocol", mend)
    return tuple(named)


def load(kind: str, name: str, overrides: Mapping[str, Any] | None = None) -> Protocol:
    """`eval.protocols.load`, with its ValueError for an unknown name or a wrong override; UserError as `names`."""
    names(kind)
    return protocols.load(kind, name, overrides)
