"""The way in: parse, call one command, turn errors into one line and an exit status.

0 done   1 a job failed   2 wrong use or bad input   130 interrupted
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence

from repro.cli import commands, settling
from repro.cli.grammar import build_parser
from repro.errors import UserError, printable, unwritable
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
    options = build_parser().parse_args(words)
    options.words = words  # for messages that say how to go on
    try:
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
