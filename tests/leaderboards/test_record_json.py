"""The JSON of records: what programs read differently is refused in one printable line."""

from __future__ import annotations

import json

import pytest

from leaderboards.record_json import escaped, parse


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b'{"a": [1, -2.5, true, null, "\xc3\xa4"]}', {"a": [1, -2.5, True, None, "ä"]}),
        (b'\xef\xbb\xbf{"a": 1}\r\n', {"a": 1}),
        (b"9223372036854775807", 2**63 - 1),
        (b"-9223372036854775808", -(2**63)),
        (b"1e308", 1e308),
        (b"1e-999", 0.0),
        (b"[" * 50 + b"]" * 50, json.loads("[" * 50 + "]" * 50)),
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b'"wide \xe3\x80\x80 space"', "wide \u3000 space"),
    ],
)
def test_what_is_read(text: bytes, value: object) -> None:
    assert parse(text) == value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"NaN", "NaN is no finite number"),
        (b'{"a": -Infinity}', "-Infinity is no finite number"),
        (b"1e999", "1e999 is no finite number of 64 bits"),
        (b"9223372036854775808", "beyond whole numbers of 64 bits"),
        (b"1" * 6000, r"11111111111111111111\.\.\. is beyond"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "key 'c' is there twice"),
        (b"[" * 51 + b"]" * 51, "more than 50 levels of tables"),
        (b"[" * 200_000, "more than 50 levels of tables"),
        (b'{"a":' * 200_000, "more than 50 levels of tables"),
        (b'{"a": "\xff"}', "byte 7 is not UTF-8"),
        (b"\xff\xfe[\x001\x00]\x00", "byte 0 is not UTF-8"),
        (b"\x1f\x8b\x08\x00", "gunzip"),
        (b'{"a": ["\\u001b[31m"]}', r"a\.0 holds '\\x1b', which cannot be printed"),
        (b'{"\\u0007": 1}', r"holds '\\x07'"),
        (b'["two\\nlines"]', r"holds '\\n'"),
        (b'["\\ud800"]', r"holds '\\ud800'"),
        (b'["\xe2\x80\xae"]', r"holds '\\u202e'"),
        (b'"' + b"a" * 1_000_001 + b'"', "1000001 characters"),
        (b'{"a": 1', "delimiter"),
        (b"", "Expecting value"),
    ],
)
def test_what_is_refused(text: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        parse(text)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 300


def test_what_is_escaped_can_be_read() -> None:
    given = {"file\x1b[31m": ["a\nb", "\ud800", "ä", 1.5, None, (True,)]}
    wanted = {"file\\x1b[31m": ["a\\nb", "\\ud800", "ä", 1.5, None, [True]]}
    assert escaped(given) == wanted == parse(json.dumps(escaped(given)).encode())
