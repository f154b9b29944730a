"""Gains over the untrained network and the parts of a method: means of differences on the same seeds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from untuned import suite

from leaderboards import claim_files
from leaderboards.arms import Arms
from leaderboards.gains import gains, parts
from leaderboards.readme_tables import costs_table, gains_table, parts_table, run_table
from repro.plan import recipes, registry

Record = dict[str, Any]
Make = Callable[..., list[Record]]


def network(method: str) -> dict[str, Any]:
    found: dict[str, Any] = recipes.resolve(*registry.find(method), "mini", {})["network"]
    return found


def of(make: Make, method: str, by_seed: dict[int, float], **options: Any) -> list[Record]:
    options = {"network": network("aps"), **options}
    return [r for seed, value in by_seed.items() for r in make(method, "knn", {"top1": value}, seed=seed, **options)]


def test_a_gain_is_the_mean_of_the_differences_on_the_same_seeds(make: Make) -> None:
    records = of(make, "aps", {0: 40.0, 1: 43.0, 2: 50.0})
    records += of(make, "random", {0: 30.0, 1: 31.0}, variant="vit", epochs=0)  # nothing of seed 2
    aps, control = gains(records, suite(), "mini", ["knn"])
    (gain,), (beside,) = aps.gains, control.gains
    assert gain is not None and beside is not None
    assert gain.value == pytest.approx((40 + 43 + 50) / 3) and gain.above == pytest.approx((11.0, 10.0, 12.0))
    assert (aps.arm.name, aps.seeds, control.arm.name, beside.above) == ("aps", (3, 3), "random:vit", None)
    assert gains(records, suite(), "embedded", ["knn"]) == []


def test_a_column_holds_numbers_of_one_data_set_and_protocol(make: Make) -> None:
    """What was measured under another protocol before is left out, though the arm has more seeds there."""
    old = of(make, "aps", {0: 10.0, 1: 11.0}, protocol="older", protocol_hash="ffff")
    new = of(make, "aps", {2: 40.0})
    (row,) = gains(old + new, suite(), "mini", ["knn"])
    assert row.seeds == (1, 1) and row.gains[0] is not None and row.gains[0].value == 40.0


def test_methods_come_by_their_gain_and_controls_last(make: Make) -> None:
    records = of(make, "aps", {0: 40.0}) + of(make, "moco_v3", {0: 45.0}) + of(make, "random", {0: 30.0}, epochs=0)
    records += of(make, "aps", {0: 50.0}, variant="one_update")  # a variant is no row
    lines = gains_table(records, suite(), "mini").splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["`moco_v3`", "`aps`", "`random`"]
    assert "45.0 (+15.0)" in lines[2] and "40.0 (+10.0)" in lines[3] and "30.0 " in lines[4]


def test_a_part_needs_three_shared_seeds_and_the_same_epochs(make: Make) -> None:
    records = of(make, "aps", {0: 40.0, 1: 42.0, 2: 45.0, 3: 90.0})
    records += of(make, "aps", {0: 39.0, 1: 40.0, 2: 42.0}, variant="one_update")
    records += of(make, "aps", {0: 1.0, 1: 1.0, 2: 1.0}, variant="uniform", epochs=3)
    records += of(make, "aps", {0: 1.0, 1: 1.0}, variant="clip")
    (part,) = parts(Arms(records, suite()), (), "mini", "knn")
    assert (part.method.name, part.variant.name, part.seeds) == ("aps", "aps:one_update", 3)
    assert part.difference == pytest.approx((2.0, 1.0, 3.0))
    assert parts_table(records, (), suite(), "mini") == "No variant has 3 pairs with its method yet."  # in linear
    older = [r for seed in range(3) for r in make("aps", "knn", {"top1": 9.0}, seed=seed, drawn=None)]
    older += [r for seed in range(3) for r in make("aps", "knn", {"top1": 1.0}, seed=seed, drawn=None, variant="clip")]
    assert parts(Arms(older, suite()), (), "mini", "knn") == []


def test_a_row_is_of_one_length_of_training_and_says_how_many_seeds_its_columns_have(make: Make) -> None:
    """That of the recipe, though there are more seeds of another; without it, that with most seeds."""
    usual = suite().recipe("aps", "mini")["pretrain"]["epochs"]
    other = of(make, "aps", {0: 30.0, 1: 31.0, 2: 32.0, 3: 33.0}, epochs=usual + 5)
    (row,) = gains(other, suite(), "mini", ["knn", "linear"])
    assert (row.arm.setting.epochs, row.seeds) == (usual + 5, (4, 4))
    mine = of(make, "aps", {0: 40.0, 1: 41.0}, epochs=usual)
    mine += make("aps", "linear", {"top1": 50.0}, seed=0, epochs=usual, network=network("aps"))
    (row,) = gains([*other, *mine], suite(), "mini", ["knn", "linear"])
    assert (row.arm.setting.epochs, row.seeds) == (usual, (1, 2))
    assert [gain.value for gain in row.gains if gain] == [40.5, 50.0]
    assert "| 1 to 2 |" in " ".join(gains_table([*other, *mine], suite(), "mini").split())


def test_a_test_set_that_is_too_small_is_in_no_column(make: Make) -> None:
    """Though its records are the newest."""
    large = make("aps", "reid", {"rank1": 25.0}, data="cifar10-jpeg-cameras")
    small = make("aps", "reid", {"rank1": 30.0}, data="vehicle-reid-market", salt="small")
    for record in small:
        record["provenance"]["date"] = "2099-01-01T00:00:00+00:00"
    (row,) = gains([*large, *small], suite(), "mini", ["reid"])
    assert row.gains[0] is not None and row.gains[0].value == 25.0


def test_arms_of_one_subset_for_all_seeds_are_in_no_row(make: Make) -> None:
    older = make("aps", "knn", {"top1": 40.0}, drawn=None)
    assert gains(older, suite(), "mini", ["knn"]) == []


def test_a_variant_over_another_base_is_no_part(make: Make) -> None:
    """A claim compares rotation over SimSiam with SimSiam; shuffled labels are a part of rotation that is changed."""
    records = [
        record
        for variant in ("", "simsiam", "shuffled")
        for record in of(make, "rotation_aux", {0: 40.0, 1: 42.0, 2: 45.0}, variant=variant)
    ]
    found = parts(Arms(records, suite()), claim_files.load(suite()), "mini", "knn")
    assert [part.variant.name for part in found] == ["rotation_aux:shuffled"]


def test_the_table_of_a_run_names_versions_and_the_range_over_seeds(make: Make) -> None:
    records = of(make, "aps", {0: 40.0, 1: 43.0})
    for record in records:
        record["provenance"]["packages"] = {"torch": "9.9"}
    said = run_table(records, [], suite(), "aps", "mini", ("torch", "torchvision"))
    assert "top1 40.0" in said and "top1 43.0" not in said
    last = "Seed 0, with torch 9.9; other versions give other numbers. Over 2 seeds: k-NN 40.0 to 43.0."
    assert said.splitlines()[-1] == last  # no untrained network, so no cell to explain
    control = of(make, "random", {0: 30.5}, variant="vit", epochs=0)
    said = run_table([*records, *control], [], suite(), "aps", "mini", ("torch", "torchvision"))
    cell = "Example: `30.5* (+9.5)`: k-NN on the untrained network gets 30.5 %, on the trained one 9.5 points more."
    assert said.endswith(f"k-NN 40.0 to 43.0. {cell}")
    assert run_table(records, [], suite(), "byol", "mini", ()) == "no record yet"


def test_costs_are_per_picture_relative_to_moco_v3_on_the_same_network(make: Make) -> None:
    records: list[Record] = []
    resnet = {"arch": "resnet", "depth": 18, "width": 16}
    for method, variant, net, per_image, epochs in (
        ("moco_v3", "", None, 2e9, 4),
        ("moco_v3", "resnet", resnet, 1e9, 4),
        ("glnet", "", resnet, 1.5e9, 4),
        ("glnet", "", resnet, 9e9, 8),  # another length, of one seed
        ("aps", "", None, 1e9, 8),
        ("supervised", "", resnet, 5e9, 8),
    ):
        for seed in range(1 if epochs == 8 and method == "glnet" else 2):
            passes = 100.0 * epochs
            cost = {
                "flops_per_image": per_image,
                "flops": per_image * passes,
                "image_passes": passes,
                "updates": epochs,
            }
            records += make(method, "pretrain", {}, variant=variant, network=net, seed=seed, epochs=epochs, cost=cost)
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in costs_table(records, suite(), "mini").splitlines()
    ]
    assert {row[0]: row[2:] for row in rows[2:]} == {
        "`aps`": ["1.000", "0.50", "8", "1", "800", "0.8", "2"],
        "`glnet`": ["1.500", "1.50", "4", "1", "400", "0.6", "2"],
        "`moco_v3`": ["2.000", "1.00", "4", "1", "400", "0.8", "2"],
    }
