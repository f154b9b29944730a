"""Cluster profiles: small TOML files with the settings of a cluster (profiles/default.toml explains the keys)."""

from __future__ import annotations

import dataclasses
import importlib.resources
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import msgspec
from msgspec import Meta

from slurm.graph import Resources
from slurm.nearest import did_you_mean
from slurm.watch import PATIENCE

# The description says in words what a value must be.
Text = Annotated[str, Meta(description="a text")]
Whole = Annotated[int, Meta(ge=0, description="a whole number from 0")]
Factor = Annotated[float, Meta(gt=0, description="a number above 0")]
NotNegative = Annotated[float, Meta(ge=0, description="a number from 0")]
Lines = Annotated[tuple[str, ...], Meta(description="a list of texts")]
Option = Annotated[str | int | float | bool, Meta(description="a text, a number or true")]


@dataclass(frozen=True)
class Profile:
    """The settings of a cluster; with 0 and "" SLURM decides."""

    partition: Text = ""
    account: Text = ""
    qos: Text = ""
    gpus_per_node: Whole = 0
    cpus_per_node: Whole = 0
    max_minutes: Whole = 0
    time_scale: Factor = 1.0
    parallel: Whole = 256
    requeues: Whole = 3
    hang_minutes: NotNegative = PATIENCE / 60
    scratch: Text = ""
    setup: Lines = ()
    srun: Lines = ()
    python: Text = ""
    sbatch: Annotated[Mapping[str, Any], Meta(description="a table")] = field(default_factory=dict)

    @classmethod
    def load(cls, name: str) -> Profile:
        """A profile of the package, by its name, or any other, by its path (ending in .toml).

        Raises ValueError if there is none, or if it holds an unknown key or a value of the wrong type.
        """
        if name.endswith(".toml"):
            if not Path(name).is_file():
                raise ValueError(
                    f"cluster profile {name}: no such file;"
                    " give an existing file, or the name of a profile, such as default"
                )
            text = Path(name).read_bytes()
        else:
            folder = importlib.resources.files("slurm") / "profiles"
            names = sorted(file.name.removesuffix(".toml") for file in folder.iterdir() if file.name.endswith(".toml"))
            if name not in names:
                hint = did_you_mean(name, names, otherwise=f"valid: {', '.join(names)};")
                raise ValueError(f"no cluster profile '{name}': {hint} or give a file that ends in .toml")
            text = (folder / f"{name}.toml").read_bytes()
        try:
            data = tomllib.loads(text.decode())
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"cluster profile {name}: not valid TOML ({error}){_line_of(error, text)}") from None
        return cls.from_json(data, f"cluster profile {name}")

    @classmethod
    def from_json(cls, data: Mapping[str, Any], source: str) -> Profile:
        """A profile from plain values, each checked; `source` begins the message of the ValueError."""
        types = get_type_hints(cls, include_extras=True)
        for key in data:
            if key not in types:
                hint = did_you_mean(key, types, otherwise=f"valid: {', '.join(types)}")
                raise ValueError(f"{source}: unknown key '{key}'; {hint} (other sbatch options: [sbatch])")
        profile = cls(**{key: _converted(value, types[key], f"{source}: {key}") for key, value in data.items()})
        for key, value in profile.sbatch.items():
            _converted(value, Option, f"{source}: sbatch.{key}")
            if key.replace("-", "_") in types:
                raise ValueError(f"{source}: sbatch.{key}: write {key.replace('-', '_')} above [sbatch] instead")
            if key in _OURS:
                raise ValueError(f"{source}: sbatch.{key}: this option is set for every job; leave it out")
        return profile

    def spread(self, wanted: Resources) -> Resources:
        """The same ranks on as few machines as have enough GPUs and CPUs, with equally many ranks on each.

        Raises ValueError if one rank needs more than a machine has by the profile.
        """
        most = wanted.ranks_per_node
        for what, have, each in (("gpu", self.gpus_per_node, wanted.gpus), ("cpu", self.cpus_per_node, wanted.cpus)):
            if not have or not each:
                continue
            if each > have:
                raise ValueError(
                    f"a task wants {each} {what.upper()}s of one machine, and the cluster profile says"
                    f" {what}s_per_node = {have}: choose another partition, or correct the profile"
                )
            most = min(most, have // each)
        if most == wanted.ranks_per_node:
            return wanted
        here = next(count for count in range(most, 0, -1) if wanted.ranks % count == 0)
        return dataclasses.replace(wanted, nodes=wanted.ranks // here, ranks_per_node=here)


_OURS = ("array", "dependency", "output", "error", "open-mode", "signal", "job-name", "kill-on-invalid-dep")


def _line_of(error: ValueError, text: bytes) -> str:
    """`: partition =`, the line that the TOML parser complains of; "" where it names none.

    As `repro.errors.bad_toml`, which this package must not import.
    """
    number = re.search(r"at line (\d+)", str(error))
    line = text.splitlines()[int(number[1]) - 1 :][:1] if number else []
    return f": {line[0].decode().strip():.80}" if line else ""


def _converted(value: Any, hint: Any, where: str) -> Any:
    """The value as that type, or a ValueError that says what it should have been."""
    try:
        return msgspec.convert(value, hint)
    except msgspec.ValidationError:
        raise ValueError(f"{where} = {value!r} must be {hint.__metadata__[0].description}") from None
