"""Cluster profiles: small TOML files with what a cluster wants to be told (profiles/default.toml explains the keys)."""

from __future__ import annotations

import dataclasses
import importlib.resources
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from slurm.graph import Resources
from slurm.nearest import did_you_mean


@dataclass(frozen=True)
class Profile:
    """What a cluster wants to be told; 0 and "" leave a thing to SLURM."""

    partition: str = ""
    account: str = ""
    qos: str = ""
    gpus_per_node: int = 0
    max_minutes: int = 0
    time_scale: float = 1.0
    parallel: int = 256
    requeues: int = 3
    scratch: str = ""
    setup: tuple[str, ...] = ()
    srun: tuple[str, ...] = ()
    python: str = ""
    sbatch: Mapping[str, str | int | float | bool] = field(default_factory=dict)

    @classmethod
    def load(cls, name: str) -> Profile:
        """A profile that comes with the package, by its name, or anybody's, by its path (ending in .toml).

        Raises ValueError where there is none, or where one holds an unknown key or a value of the wrong type.
        """
        if name.endswith(".toml"):
            if not Path(name).is_file():
                raise ValueError(f"cluster profile {name}: no such file")
            text = Path(name).read_text(encoding="utf-8")
        else:
            folder = importlib.resources.files("slurm") / "profiles"
            names = sorted(file.name.removesuffix(".toml") for file in folder.iterdir() if file.name.endswith(".toml"))
            if name not in names:
                hint = did_you_mean(name, names, otherwise=f"there are: {', '.join(names)};")
                raise ValueError(f"no cluster profile '{name}': {hint} or give a file that ends in .toml")
            text = (folder / f"{name}.toml").read_text(encoding="utf-8")
        try:
            data = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ValueError(f"cluster profile {name}: not valid TOML ({error})") from None
        return cls.from_json(data, f"cluster profile {name}")

    @classmethod
    def from_json(cls, data: Mapping[str, Any], source: str) -> Profile:
        """A profile from plain values, each checked; `source` begins the message of the ValueError."""
        defaults = {item.name: getattr(cls(), item.name) for item in fields(cls)}
        for key, value in data.items():
            if key not in defaults:
                hint = did_you_mean(key, defaults, otherwise=f"valid: {', '.join(defaults)}")
                raise ValueError(f"{source}: unknown key '{key}'; {hint} (other sbatch options: [sbatch])")
            if wanted := _wrong(value, defaults[key]):
                raise ValueError(f"{source}: {key} = {value!r} must be {wanted}")
        for key, value in data.get("sbatch", {}).items():
            if not isinstance(value, str | int | float):
                raise ValueError(f"{source}: sbatch.{key} = {value!r} must be a text, a number or true")
            if key.replace("-", "_") in defaults:
                raise ValueError(f"{source}: sbatch.{key}: write {key.replace('-', '_')} above [sbatch] instead")
            if key in _OURS:
                raise ValueError(f"{source}: sbatch.{key}: this option is set for every job; leave it out")
        lines = {key: tuple(data[key]) for key in ("setup", "srun") if key in data}
        return cls(**{**data, **lines})

    def spread(self, wanted: Resources) -> Resources:
        """The same ranks over as few machines as have the GPUs for them, equally many on each.

        Raises ValueError where one rank wants more GPUs than the profile says a machine has.
        """
        if not self.gpus_per_node or wanted.ranks_per_node * wanted.gpus <= self.gpus_per_node:
            return wanted
        if wanted.gpus > self.gpus_per_node:
            raise ValueError(
                f"a task wants {wanted.gpus} GPUs of one machine, and the cluster profile says gpus_per_node ="
                f" {self.gpus_per_node}: choose another partition, or correct the profile"
            )
        most = self.gpus_per_node // wanted.gpus
        here = next(count for count in range(most, 0, -1) if wanted.ranks % count == 0)
        return dataclasses.replace(wanted, nodes=wanted.ranks // here, ranks_per_node=here)


_OURS = ("array", "dependency", "output", "error", "open-mode", "signal", "job-name", "kill-on-invalid-dep")


def _wrong(value: Any, default: Any) -> str:
    """What a value should have been, empty where it is right."""
    match default:
        case tuple():
            fits, wanted = isinstance(value, list) and all(isinstance(line, str) for line in value), "a list of texts"
        case float():
            fits, wanted = type(value) in (int, float) and value > 0, "a number above 0"
        case int():
            fits, wanted = type(value) is int and value >= 0, "a whole number from 0"
        case str():
            fits, wanted = isinstance(value, str), "a text"
        case _:
            fits, wanted = isinstance(value, dict), "a table"
    return "" if fits else wanted
