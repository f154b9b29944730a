"""Options that many commands take."""

from __future__ import annotations

import argparse

from repro.cli.parser import number, whole

TRACKS = "scale of data and training: embedded (default), mini, cifar, imagenet100 or imagenet"


def workspace_options(parser: argparse.ArgumentParser) -> None:
    """Where a command works and finds data."""
    group = parser.add_argument_group("where")
    group.add_argument("--workspace", metavar="DIR", help="folder for all results (default: ./repro-work)")
    group.add_argument(
        "--data-root", metavar="DIR", help="folder with the data sets (default: the environment variable REPRO_DATA)"
    )


def executor_options(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """On what a command runs its tasks; returns the group, which may get more."""
    group = parser.add_argument_group("how")
    group.add_argument(
        "--cluster", metavar="NAME", help="SLURM profile: a name or FILE.toml (default: the one named default)"
    )
    group.add_argument("--cores", type=whole, metavar="N", help="CPU cores to use on this machine (default: all)")
    group.add_argument(
        "--memory-gb", type=number, metavar="N", help="memory to use on this machine (default: the free memory)"
    )
    return group


def executor_choice(group: argparse._ArgumentGroup) -> None:
    """Where a command runs its tasks."""
    group.add_argument(
        "--executor", metavar="NAME", help="local, slurm, or auto (default: slurm where sbatch is found, else local)"
    )
