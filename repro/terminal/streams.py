"""What a terminal or a file that is no UTF-8 is told."""

from __future__ import annotations

import io
import sys


def escape_what_cannot_be_shown() -> None:
    """From now on stdout and stderr show a character that they have no bytes for as `\\xe9` or `\\udce9`.

    In a locale of ASCII or ISO-8859-1 that is most of the world's letters, and anywhere a file name of other bytes than
    UTF-8. To print it would otherwise end the program.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
