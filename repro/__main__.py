"""`python -m repro`, and the command `repro`."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command of this process's command line; returns the exit status.

    Of an error that comes from a file which hides a module of Python's, one line names the file.
    """
    try:
        from repro.cli.dispatch import main as command

        return command()
    except Exception as error:
        from slurm import shadows

        if not (file := shadows.guilty(error)):
            raise
        sys.stderr.write(f"repro: {shadows.line(file)}\n")
        return 2


if __name__ == "__main__":
    raise SystemExit(main())
