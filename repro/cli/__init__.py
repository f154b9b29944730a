"""The command line: its grammar, and one function a command."""

from repro.cli.dispatch import main as main
