"""Where things are and how jobs run: command-line option, then environment, then `repro.toml`, then default."""

from __future__ import annotations

import math
import os
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from repro.errors import UserError, bad_toml, unknown

FILE = "repro.toml"
EXECUTORS = ("auto", "local", "slurm")
STORED = ("packed", "jpeg")


@dataclass(frozen=True)
class Where:
    """Where data lives: `data_root` (None: not set) is written by `data get` alone; `cache` is below the workspace.

    stored: one of STORED. Pictures of classes are decoded once into a pack, or stay in files of their own.
    """

    data_root: Path | None
    cache: Path
    stored: str = STORED[0]

    @property
    def downloads(self) -> Path:
        """Where downloads go that the data root does not take."""
        return self.cache / "downloads"


@dataclass(frozen=True)
class Settings:
    """The settings of one call. A file `repro.toml` in the working directory may hold any of these keys."""

    workspace: Path = Path("repro-work")
    data_root: Path | None = None  # also REPRO_DATA
    executor: str = "auto"
    cluster: str = "default"  # profile of the SLURM cluster
    card: str = ""  # that estimates are for, see repro/plan/cards.toml; default: the one of this machine
    cores: int | None = None  # for the local executor; default: all that this process may use
    memory_gb: float | None = None  # likewise; default: what is free
    hang_minutes: float | None = None  # likewise; a task in which nothing moves for so long is ended, 0: never

    @property
    def where(self) -> Where:
        """Where data sets are looked for."""
        return Where(data_root=self.data_root, cache=self.workspace / "data")

    @property
    def patience(self) -> float:
        """Seconds in which nothing moves in a task on this machine until it is ended; 0: for ever."""
        from slurm.watch import PATIENCE

        return PATIENCE if self.hang_minutes is None else 60 * self.hang_minutes


def _typed(key: str, value: Any, source: str) -> Any:
    if key in ("workspace", "data_root"):
        if not isinstance(value, str | Path):
            raise UserError(f"{source}: {key} must be a path, not {value!r}")
        return Path(value).expanduser()
    if key == "executor" and value not in EXECUTORS:
        raise UserError(f"{source}: {unknown('executor', str(value), EXECUTORS)}")
    if key == "cores" and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise UserError(f"{source}: cores must be a whole number of at least 1, not {value!r}")
    if key == "memory_gb" and (
        not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf
    ):
        raise UserError(f"{source}: memory_gb must be a positive number, not {value!r}")
    if key == "hang_minutes" and (not isinstance(value, int | float) or isinstance(value, bool) or not value >= 0):
        raise UserError(f"{source}: hang_minutes must be a number from 0, not {value!r}")
    if key in ("cluster", "card") and not isinstance(value, str):
        what = "card" if key == "card" else "profile"
        raise UserError(f"{source}: {key} must be the name of a {what}, not {value!r}")
    return value


def load(options: Mapping[str, Any]) -> Settings:
    """Settings from the given options (None = not given), the environment and `repro.toml` of this folder."""
    keys = [field.name for field in fields(Settings)]
    values: dict[str, Any] = {}
    path = Path(FILE)
    if path.is_file():
        try:
            stated = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise bad_toml(path, error, path.read_text(encoding="utf-8", errors="replace")) from None
        for key, value in stated.items():
            if key not in keys:
                raise UserError(f"{path}: {unknown('setting', key, keys)}")
            values[key] = _typed(key, value, str(path))
    if "REPRO_DATA" in os.environ:
        values["data_root"] = Path(os.environ["REPRO_DATA"])
    for key in keys:
        if options.get(key) is not None:
            values[key] = _typed(key, options[key], f"--{key.replace('_', '-')}")
    settings = Settings(**values)
    if settings.data_root is not None and not settings.data_root.is_dir():
        raise UserError(f"the data root {settings.data_root} is not a directory; fix --data-root, REPRO_DATA or {FILE}")
    return settings


def require_temporary() -> None:
    """Make TMPDIR a folder that can be written, and say so where it was not; one clear line where there is none."""
    from slurm import temporary

    try:
        if said := temporary.settle():
            print(said, file=sys.stderr, flush=True)
    except ValueError as error:
        raise UserError(str(error)) from None


def require_writable(workspace: Path) -> None:
    """Make the workspace; one clear line where that cannot be."""
    try:
        workspace.mkdir(parents=True, exist_ok=True)
        probe = workspace / f".probe-{os.getpid()}"
        probe.write_text("", encoding="utf-8")
        probe.unlink()
    except OSError as error:
        reason = (error.strerror or "not writable").lower()
        raise UserError(
            f"cannot write to the workspace {workspace} ({reason}); choose another with --workspace"
        ) from None
