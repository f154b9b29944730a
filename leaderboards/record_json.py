"""The JSON of records, as strictly as it was written: what other programs would read as something else is refused."""

from __future__ import annotations

import json
import math
import unicodedata
from typing import Any

_DEEPEST = 50  # tables in tables; ours have five
_LONGEST = 1_000_000  # characters of a text
_LARGEST = 2**63  # what tables for other programs can hold


def parse(content: bytes) -> Any:
    """The value of a JSON text in UTF-8, with or without a byte order mark.

    Raises ValueError, in one printable line, for what is no such text, and for what is one only to some readers: a
    number that is not finite or beyond 64 bits, a key that a table has twice, texts that cannot be printed or have more
    than 1,000,000 characters, more than 50 levels of tables.
    """
    if content.startswith(b"\x1f\x8b"):
        raise ValueError("it is compressed; unpack it with gunzip")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is not UTF-8; convert it with iconv -t UTF-8") from None
    try:
        value = json.loads(
            text, object_pairs_hook=_table, parse_constant=_constant, parse_float=_decimal, parse_int=_whole
        )
        _check(value, (), 0)
    except RecursionError:
        raise ValueError(f"more than {_DEEPEST} levels of tables") from None
    return value


def _constant(name: str) -> float:
    raise ValueError(f"{name} is no finite number")


def _decimal(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits[:20]} is no finite number of 64 bits")
    return value


def _whole(digits: str) -> int:
    if len(digits) > 20 or not -_LARGEST <= int(digits) < _LARGEST:
        raise ValueError(f"{digits[:20]}{'...' if len(digits) > 20 else ''} is beyond whole numbers of 64 bits")
    return int(digits)


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"key {twice[:80]!a} is there twice")
    return table


def _check(value: Any, way: tuple[str, ...], depth: int) -> None:
    if isinstance(value, str):
        _check_text(value, way)
    elif isinstance(value, dict | list):
        if depth == _DEEPEST:
            raise ValueError(f"more than {_DEEPEST} levels of tables")
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            if isinstance(key, str):
                _check_text(key, way)
            _check(item, (*way, str(key)), depth + 1)


def _check_text(text: str, way: tuple[str, ...]) -> None:
    if not printable(text):
        odd = next(letter for letter in text if not printable(letter))
        raise ValueError(f"{_place(way)} holds {odd!a}, which cannot be printed; take it out")
    if len(text) > _LONGEST:
        raise ValueError(f"{_place(way)} has {len(text)} characters, more than {_LONGEST}")


def _place(way: tuple[str, ...]) -> str:
    return ascii(".".join(way)[-80:])[1:-1] or "a text"


def escaped(value: Any) -> Any:
    """A value of plain types whose texts `parse` reads: what cannot be printed is written as Python writes it."""
    if isinstance(value, str):
        return "".join(letter if printable(letter) else ascii(letter)[1:-1] for letter in value)
    if isinstance(value, dict):
        return {escaped(key): escaped(item) for key, item in value.items()}
    return [escaped(item) for item in value] if isinstance(value, list | tuple) else value


def printable(text: str) -> bool:
    """Whether it steers no terminal, breaks no line and can be written as UTF-8. Spaces of any width are fine."""
    return text.isprintable() or all(letter.isprintable() or unicodedata.category(letter) == "Zs" for letter in text)
