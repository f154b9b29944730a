"""The parser of command lines: as argparse's, but wrong use raises a UserError of one line, without the usage."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from repro.errors import UserError, unknown

_OPTION = re.compile(r"--?[A-Za-z]")  # no negative number, and not "--" alone


def _dashed(words: Sequence[str] | None) -> bool:
    """Whether a value may begin with "-": a word that does is no option."""
    return any(word.startswith("-") and not word.startswith("--") for word in words or ())


class Parser(argparse.ArgumentParser):
    """An ArgumentParser, also for subcommands, that raises UserError and names the nearest option."""

    def __init__(self, **options: Any) -> None:
        super().__init__(exit_on_error=False, **options)

    def error(self, message: str) -> NoReturn:
        """Raises UserError."""
        raise UserError(message, self._help)

    def parse_known_args(  # type: ignore[override]  # its overloads are for a namespace of one's own
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """What the words say, and no words left over: UserError for any that it does not know."""
        try:
            found, left = super().parse_known_args(args, namespace)
        except argparse.ArgumentError as error:
            said = f"{error.argument_name}: {error.message}" if error.argument_name else error.message
            dashed = error.argument_name and "expected" in error.message
            fix = f"write {error.argument_name}=VALUE if the value begins with '-'; {self._help}"
            raise UserError(said, fix if dashed and _dashed(args) else self._help) from None
        except UserError:  # an option is missing: perhaps it is there, misspelt
            if self._subparsers is None:
                self._require_known(args or ())
            raise
        self._require_known(left[:1])
        if left:
            raise UserError(f"'{left[0]}' is one word too many", self._help)
        return found, left

    def _require_known(self, words: Iterable[str]) -> None:
        """UserError for the first option among them that there is not."""
        for word in words:
            option = word.partition("=")[0]
            if _OPTION.match(word) and not any(known.startswith(option) for known in self._option_string_actions):
                raise unknown("option", option, self._option_string_actions, self._help)

    @property
    def _help(self) -> str:
        return f"see python -m {self.prog} --help"


class Wrapped(argparse.HelpFormatter):
    """Wraps descriptions; keeps a line that begins with a space, such as the command of an example."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        fill = super()._fill_text
        return "\n".join(line if line.startswith(" ") else fill(line, width, indent) for line in text.splitlines())


def command(
    verbs: argparse._SubParsersAction[Parser], name: str, *, help: str, description: str = "", examples: str = ""
) -> Parser:
    """Add a command. help: its line in the list of commands, which as a sentence is the default of the description.

    examples: a command a line, without `python -m repro`.
    """
    said = description or f"{help[0].upper()}{help[1:]}."
    lines = [f"  python -m repro {line}" for line in examples.splitlines()]
    ending = "\n".join(["examples:" if len(lines) > 1 else "example:", *lines]) if lines else None
    return verbs.add_parser(name, help=help, description=said, epilog=ending, formatter_class=Wrapped)


def whole(text: str) -> int:
    """The value of an option that takes a whole number."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number, such as 0 or 3") from None


def number(text: str) -> float:
    """The value of an option that takes a number."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number, such as 2 or 0.5") from None
