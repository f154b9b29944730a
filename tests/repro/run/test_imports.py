"""Libraries that a file on the import path may hide."""

from __future__ import annotations

import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from repro.run.imports import LIBRARIES


def test_every_library_that_we_depend_on_is_looked_for() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    installed = packages_distributions()  # by what is imported
    ours = {canonicalize_name(dist) for name in LIBRARIES for dist in installed.get(name, ())}
    assert ours == {canonicalize_name(Requirement(line).name) for line in project["dependencies"]}
