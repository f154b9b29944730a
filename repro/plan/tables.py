"""TOML tables as dataclasses: the types of the fields say what the values may be.

The type of a single value says in words what it wants: `Annotated[float, Meta(gt=0, description="a number above 0")]`.
A `Literal` needs none: its values are named.
"""

from __future__ import annotations

import sys
import tomllib
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from repro.errors import UserError, bad_toml, unknown

Text = Annotated[str, Meta(description="a text")]
Whole = Annotated[int, Meta(description="a whole number")]
_MOST = sys.float_info.max
Number = Annotated[float, Meta(ge=-_MOST, le=_MOST, description="a finite number")]
Maybe = Annotated[Annotated[float, Meta(ge=-_MOST, le=_MOST)] | None, Meta(description="a finite number")]

T = TypeVar("T")


def toml(text: bytes, source: object) -> dict[str, Any]:
    """The tables of a TOML file; UserError, one line that begins with `source`, where it is none or not UTF-8."""
    try:
        return tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise bad_toml(source, error, text.decode(errors="replace")) from None


def typed(kind: type[T], table: Mapping[str, Any], where: str, **given: Any) -> T:
    """The dataclass `kind` of this table and of what is given beside it.

    The type of a field may itself be a dataclass, or a `Mapping` by name.

    Raises:
        UserError: a key is unknown or missing, or its type does not allow a value; one line with place and key.
    """
    if not isinstance(table, dict):
        raise UserError(f"{where} = {table!r} must be a table")
    types = {key: hint for key, hint in typing.get_type_hints(kind, include_extras=True).items() if key not in given}
    for key in table:
        if key not in types:
            raise UserError(f"{where}: {unknown('key', key, types)}")
    needed = [field.name for field in fields(kind) if field.default is field.default_factory is MISSING]  # type: ignore[arg-type]
    if missing := [f"'{name}'" for name in needed if name in types.keys() - table.keys()]:
        word, verb = ("key", "is") if len(missing) == 1 else ("keys", "are")
        raise UserError(f"{where}: {word} {', '.join(missing)} {verb} missing")
    return kind(**{key: _converted(value, types[key], key, where) for key, value in table.items()}, **given)


def _converted(value: Any, hint: Any, key: str, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if isinstance(hint, type) and is_dataclass(hint):
        return typed(hint, value, f"{where}: {key}")
    if origin is Mapping:
        if not isinstance(value, dict):
            raise UserError(f"{where}: {key} = {value!r} must be a table")
        return {name: _converted(item, arguments[1], f"{key}.{name}", where) for name, item in value.items()}
    try:
        return msgspec.convert(value, hint)
    except msgspec.ValidationError:
        if origin is Literal:
            raise UserError(f"{where}: {unknown(key, str(value), arguments)}") from None
        raise UserError(f"{where}: {key} = {value!r} must be {arguments[1].description}") from None
