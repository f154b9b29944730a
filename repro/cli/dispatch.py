"""The entry point: parse, call one command, turn errors into one line and an exit status.

0 done   1 a job failed   2 wrong use or bad input   130 interrupted
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence

from repro.cli import commands, settling
from repro.cli.grammar import build_parser
from repro.errors import UserError, printable, unknown, unwritable
from repro.terminal.streams import escape_what_cannot_be_shown

COMMANDS: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "run": commands.run,
    "eval": commands.evaluate,
    "plan": commands.plan,
    "tune": commands.tune,
    "status": commands.status,
    "logs": commands.logs,
    "cancel": commands.cancel,
    "retry": commands.retry,
    "gc": commands.collect_garbage,
    "doctor": commands.doctor,
    "drill": commands.drill,
    "gpu": commands.gpu,
    "methods": commands.methods,
    "protocols": commands.protocols,
    "bench": commands.bench,
    "export": commands.export,
    "data": commands.data,
    "claims": commands.claims,
    "settle": settling.settle,
    "gap": commands.gap,
    "explain": commands.explain,
    "compare": commands.compare,
    "verify": commands.verify,
    "report": commands.report,
    "records": commands.records,
    "publish": commands.publish,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command (default: that of this process's command line); returns the exit status."""
    escape_what_cannot_be_shown()
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        options = _parsed(words)
        return COMMANDS[options.verb](options)
    except UserError as error:
        print(f"repro: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except OSError as error:
        if not (line := unwritable(error)):
            raise
        print(f"repro: {printable(line)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _parsed(words: list[str]) -> argparse.Namespace:
    """What the words say. UserError for wrong use."""
    if not words:
        raise UserError("name a command", "python -m repro --help lists them")
    if words[0] not in COMMANDS and words[0] not in ("-h", "--help", "--version"):
        raise unknown("command", words[0], COMMANDS, "see python -m repro --help")
    options = build_parser().parse_args(words)
    options.words = words  # for messages that say how to go on
    return options
