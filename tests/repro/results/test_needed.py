"""What decides claims on a track, by the prices of the plan: against plans made from the printed commands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from leaderboards import claim_files
from leaderboards.claims import Claim
from leaderboards.testable import hindrance
from repro.cli.commands import request_of
from repro.cli.dispatch import main
from repro.cli.grammar import build_parser
from repro.plan import builder, prices
from repro.results import find_records, pair_prices
from repro.results.suite import suite
from repro.settings import Settings
from repro.store import records
from repro.store.workspace import Workspace

GAIN = "glnet-imagenet-gain"
LOST = "aps-imagenet-b16-300: the paper's setting is unknown"


@pytest.fixture
def claims() -> dict[str, Claim]:
    return {claim.id: claim for claim in claim_files.load(suite())}


@pytest.mark.parametrize(("name", "track", "own"), [(GAIN, "imagenet", True), ("aps-cifar100-s2-3200", "cifar", True)])
def test_a_price_is_that_of_the_plan_of_the_printed_command(
    claims: dict[str, Claim], own_folder: None, name: str, track: str, own: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prices, "_published", tuple)
    on = Settings(card="a100-40")
    price = pair_prices.price(claims[name], track, own, on)
    parsed = [build_parser().parse_args(list(words[3:])) for words in pair_prices.next_words(claims[name], track, own)]
    planned = [builder.make(request_of(options), on, build=False) for options in parsed]
    by_hand = sum(plan.gpu_hours(job) for plan in planned for job in plan.jobs)
    assert price is not None and price.gpu and price.hours == pytest.approx(by_hand) and price.hours > 10
    assert price.sources == ("constants",) and price.card == "A100 40 GB"


def test_records_of_the_workspace_come_before_constants(
    claims: dict[str, Claim], own_folder: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prices, "_published", tuple)
    name, on = "rotation_aux-byol-few-epochs-knn", Settings(workspace=tmp_path / "ws", card="a100-40")
    guessed = pair_prices.price(claims[name], "cifar", False, on)
    (words,) = pair_prices.next_words(claims[name], "cifar", False)
    planned = builder.make(request_of(build_parser().parse_args(list(words[3:]))), on, build=False)
    trained = [job for job in planned.jobs if job.kind == "pretrain"]
    for job in trained:  # each took ten hours by another seed
        cost = {"wall_s": 36000.0, "device_s": 36000.0, "image_passes": job.amount, "peak_device_memory_mb": 1.0}
        about = {"device": "NVIDIA A100-SXM4-40GB", "threads": job.spec["threads"], "data": {"name": "cifar10"}}
        left = {key: getattr(job, key) for key in ("kind", "method", "variant", "track")}
        left |= {"schema": records.SCHEMA, "seed": 7, "fingerprint": job.fingerprint[::-1], "parents": []}
        left |= {"protocol": {"values": {}, **job.protocol}, "cost": cost, "metrics": {}, "provenance": about}
        records.write(Workspace(on.workspace).records, {**left, "details": {"recipe": job.spec["recipe"]}})
    measured = pair_prices.price(claims[name], "cifar", False, on)
    assert guessed is not None and measured is not None and guessed.sources == ("constants",)
    assert measured.sources == ("records", "constants")  # the probes were not measured
    rest = sum(planned.gpu_hours(job) for job in planned.jobs if job.kind != "pretrain")
    assert len(trained) == 2 and measured.hours == pytest.approx(20 + rest)


@pytest.mark.seconds
def test_the_boards_price_every_test_on_a_track_of_gpus_and_nothing_else(claims: dict[str, Claim]) -> None:
    for claim in claims.values():
        for track in ("cifar", "imagenet100", "imagenet"):
            if track in claim.proxies and hindrance(claim, suite(), track) is None:
                assert suite().price(claim, track, False) is not None, claim.id
        if "mini" in claim.proxies:
            assert suite().price(claim, "mini", False) is None


def test_a_dry_run_at_a_large_track_says_pairs_hours_and_their_source(
    own_folder: None, capsys: pytest.CaptureFixture[str]
) -> None:
    line = f"settle {GAIN} --track imagenet --dry-run"
    assert main(line.split()) == 0
    slow = capsys.readouterr().out
    assert main([*line.split(), "--card", "h200"]) == 0
    fast = capsys.readouterr().out
    assert "on A100 40 GB" in slow and "on H200" in fast and "(constants)" in slow and "+2.4 points (paper)" in slow
    assert (
        "on imagenet: pairs and hours for a decision with a probability of 80 % if the true difference is +2.4 points"
        " (paper)," in slow
    )

    def hours(out: str) -> float:
        row = next(line for line in out.splitlines() if line.startswith(GAIN))
        return float(row.split()[-5].replace(",", ""))

    assert hours(fast) < hours(slow)
    assert main("settle --paper multi_network --track cifar --dry-run".split()) == 0
    out = capsys.readouterr().out
    assert "no track runs tiny_imagenet: multi_network-tiny-byol" in out
    assert "the recipe of byol lacks method.view_size, which this setting changes: multi_network-cifar100-byol" in out


def test_one_table_says_how_many_pairs_and_which_do_not_count(
    own_folder: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "rotation_aux-byol-few-epochs"
    older, _ = find_records.published_records()
    for record in older:
        record["provenance"]["data"].pop("limit", None)
    monkeypatch.setattr(find_records, "published_records", lambda: (older, []))
    assert main(f"settle {name} --track mini --budget 3h --dry-run --allow-unequal-tuning".split()) == 0
    first, _, second = capsys.readouterr().out.partition(
        "starting from no pairs on mini: pairs and hours for a decision"
    )
    row = next(line for line in first.splitlines() if line.startswith(name))
    assert "not run (3 older pairs do not count)" in row
    said = re.search(r"about (\d+) pairs, .* \(probability \d+", row)
    assert said and 7 <= int(said[1]) < 20  # fewer than 7 cannot decide one of five claims
    assert "starts from none" in second


def test_arms_that_claims_share_are_summed_once(own_folder: None, capsys: pytest.CaptureFixture[str]) -> None:
    both = "multi_network-cifar10-simclr multi_network-cifar10-simsiam"
    found = []
    for names in (*both.split(), both):
        assert main(f"settle {names} --track cifar --dry-run".split()) == 0
        said = next(line for line in capsys.readouterr().out.splitlines() if line.endswith("(estimates)"))
        found.append(float(said.split()[-3]))
    assert max(found[:2]) < found[2] < found[0] + found[1]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (f"settle {GAIN}", "settle needs --budget TIME"),
        (f"settle {GAIN} --track cifar --dry-run --card a101", "unknown card 'a101'"),
        (f"settle {GAIN} --track embedded --dry-run", "use --track mini, cifar or imagenet"),
        (f"settle {GAIN} --track embedded --budget 3h", "use --track mini, cifar or imagenet"),
        (
            "settle --paper aps --track embedded --budget 3h",
            "none of these claims can be tested on embedded",
        ),
        ("settle aps-imagenet-b16-300 --track mini --dry-run", f"no track can test {LOST}"),
        ("settle aps-imagenet-b16-300 --track imagenet --dry-run", f"no track can test {LOST}"),
        ("settle aps-imagenet-b16-300 --track imagenet --budget 3h", f"no track can test {LOST}"),
    ],
)
def test_wrong_use_is_one_line(own_folder: None, refused: object, line: str, said: str) -> None:
    assert callable(refused) and said in refused(line)


@pytest.mark.processes
def test_a_dry_run_imports_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from repro.cli.dispatch import main;"
        f" main('settle {GAIN} --track imagenet --dry-run --budget 3d'.split());"
        " sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and GAIN in done.stdout, done.stderr
