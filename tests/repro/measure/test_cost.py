"""`repro methods --cost`: operations and bytes against what is known of small layers, and MoCo-v3 beside itself."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from repro.cli.dispatch import main
from repro.measure import cost
from repro.plan import recipes, registry
from repro.store import records

Shrunk = Callable[..., recipes.Recipe]

pytestmark = pytest.mark.usefixtures("own_folder")


def measured(shrunk: Shrunk, name: str, rows: int = 16) -> cost.Cost:
    info, variant = registry.find(name)
    return cost._measure(info.module, shrunk(info.name, variant), 32, rows)


def test_bytes_kept_for_the_backward_pass_are_those_of_the_layers() -> None:
    model = nn.Sequential(nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 3))
    x = torch.randn(11, 7)
    with cost._saved(model) as kept:
        model(x).sum().backward()
    assert sum(kept.values()) == 4 * 11 * (7 + 5)  # both inputs of linear layers; the second is ReLU's output as well


@pytest.mark.trains
def test_operations_of_a_picture_do_not_depend_on_the_rows(shrunk: Shrunk) -> None:
    few, many = (measured(shrunk, "simsiam", rows) for rows in (8, 32))
    assert few.flops == many.flops > 0
    assert few.saved == pytest.approx(many.saved, rel=0.05)
    assert (few.parameters, few.encoder, few.state) == (many.parameters, many.encoder, many.state)


@pytest.mark.trains
def test_passes_of_the_backbone_are_counted(shrunk: Shrunk) -> None:
    """One view forward and backward is 1, a view forward alone a third: 2 for SimSiam, 2 2/3 for BYOL."""
    one, two, more = (measured(shrunk, name).flops for name in ("supervised", "simsiam", "byol"))
    assert two / one == pytest.approx(2, rel=0.05) and more / one == pytest.approx(8 / 3, rel=0.05)


def test_what_a_method_holds(shrunk: Shrunk) -> None:
    got = measured(shrunk, "supervised")
    width = 8 * 8  # of the last stage, in front of ten classes
    assert got.parameters == got.encoder + 10 * width + 10
    assert shrunk("supervised")["pretrain"]["optimizer"] == "sgd"
    least = 4 * 3 * got.parameters  # weights, gradients, momentum; BatchNorm's buffers come on top
    assert least < got.state < 1.1 * least
    untrained = measured(shrunk, "random")
    assert (untrained.flops, untrained.saved, untrained.updates) == (0, 0, 0)


def test_the_table_of_one_method_and_its_variants(capsys: pytest.CaptureFixture[str]) -> None:
    peak = {"peak_memory_mb": 2048.0}
    keys: dict[str, Any] = {"kind": "pretrain", "method": "random", "variant": "vit", "track": "embedded", "seed": 0}
    more = {"schema": records.SCHEMA, "fingerprint": "f" * 64, "metrics": {}, "cost": peak, "provenance": {}}
    records.write(Path("repro-work/records"), {**keys, **more, "parents": [], "details": {}, "artifacts": {}})
    assert main("methods random --cost".split()) == 0
    out = capsys.readouterr().out
    assert re.search(r"^random +resnet 18, 8 wide +0 +0\.00 +0 .* -$", out, re.M), out
    assert re.search(r"^random:vit +vit 64x3/4 +0 +0\.00 +0 .* 2\.00 GB$", out, re.M), out


@pytest.mark.trains
def test_moco_v3_is_one_and_a_method_that_cannot_be_measured_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {name: registry.methods()[name] for name in ("moco_v3", "simsiam", "supervised")}
    monkeypatch.setattr(registry, "methods", lambda: known)
    original = cost.measure

    def measure(module: str, *rest: Any) -> cost.Cost:
        if "supervised" in module:
            raise ValueError("no labels here\nand more")
        return original(module, *rest)

    monkeypatch.setattr(cost, "measure", measure)
    assert main(["methods", "--cost", "--track", "embedded"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^moco_v3 +vit 64x3/4 +\S+ +1\.00 ", out, re.M), out
    ratio = re.search(r"^simsiam +resnet 18, 8 wide +\S+ +(\S+) ", out, re.M)
    assert ratio and 0.7 < float(ratio[1]) < 0.8  # 2 passes of 2 2/3
    assert "not measured: supervised: no labels here\n" in out


@pytest.mark.trains
def test_rows_are_raised_for_a_method_that_needs_more(shrunk: Shrunk, monkeypatch: pytest.MonkeyPatch) -> None:
    info, _ = registry.find("simsiam")
    tried = []
    original = cost._measure

    def picky(module: str, recipe: recipes.Recipe, size: int, rows: int) -> cost.Cost:
        tried.append(rows)
        if rows < 64:
            raise ValueError("too few rows")
        return original(module, recipe, size, rows)

    monkeypatch.setattr(cost, "_measure", picky)
    assert cost.measure(info.module, shrunk("simsiam"), 32).flops > 0
    assert tried == [16, 32, 64]
    monkeypatch.setattr(cost, "_measure", lambda *_: (_ for _ in ()).throw(ValueError("never")))
    with pytest.raises(ValueError, match="never"):
        cost.measure(info.module, shrunk("simsiam"), 32)
