"""`python -m repro`."""

from repro.cli.dispatch import main

if __name__ == "__main__":
    raise SystemExit(main())
