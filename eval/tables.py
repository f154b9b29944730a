"""Values of a TOML table against the types of a dataclass's fields: what fits is converted, what does not is one line.

A field's type may bound its values: ``Annotated[int, Meta(ge=0)]``. msgspec judges, the words are made here.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import typing
from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal

import msgspec

_BOUNDS = {
    "gt": "above {}",
    "ge": "{} or more",
    "lt": "below {}",
    "le": "at most {}",
    "min_length": "a list of {} or more",
}


def nearest(word: str, known: Collection[str]) -> str:
    """What to say after an unknown word: `; did you mean 'linear'?`, or all that there are."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; valid: {', '.join(known)}"


def types_of(kind: type) -> Mapping[str, Any]:
    """The fields of a dataclass and their types, bounds included."""
    return _types_of(kind)


@functools.cache  # two milliseconds, for every protocol that is made
def _types_of(kind: type) -> Mapping[str, Any]:
    hints = typing.get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def converted(value: Any, hint: Any, where: str) -> Any:
    """The value as that type: a list as a tuple, an int as a float. Others are a ValueError of one line."""
    try:
        return msgspec.convert(value, hint)
    except msgspec.ValidationError:
        raise ValueError(f"{where} {_fault(value, hint)}") from None


def _fits(value: Any, hint: Any) -> bool:
    try:
        msgspec.convert(value, hint)
    except msgspec.ValidationError:
        return False
    return True


def _fault(value: Any, hint: Any) -> str:
    """What a value is that does not fit, and what it should have been."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        bare, bounds = arguments
        if not _fits(value, bare):
            return _fault(value, bare)
        limits = [words.format(f"{n:g}") for key, words in _BOUNDS.items() if (n := getattr(bounds, key)) is not None]
        return f"must be {' and '.join(limits)}, not {value!r}"
    if origin is Literal:
        return f"must be one of {', '.join(arguments)}, not {value!r}{nearest(str(value), arguments)}"
    if origin is tuple:
        if isinstance(value, list | tuple):
            return _fault(next(item for item in value if not _fits(item, arguments[0])), arguments[0])
        item = typing.get_args(arguments[0])[0] if typing.get_origin(arguments[0]) is Annotated else arguments[0]
        return f"must be a list of {item.__name__}, not {value!r}"
    return f"must be {hint.__name__}, not {type(value).__name__} {value!r}"
