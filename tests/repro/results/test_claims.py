"""`repro claims` and `repro gap`: names in claims are ours, and every command that they print can be planned."""

from __future__ import annotations

import copy
import dataclasses
import re
import shlex
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from eval import protocols
from leaderboards import claim_files, evalues
from leaderboards.arms import Arms
from leaderboards.claims import MECHANISM, NO_TRACK, Claim
from leaderboards.missing_runs import ALONE, Missing
from leaderboards.references import references
from leaderboards.setting import network_name
from leaderboards.testable import unreachable
from repro.cli.commands import request_of
from repro.cli.dispatch import main
from repro.cli.grammar import build_parser
from repro.errors import UserError
from repro.plan import registry
from repro.plan.builder import make
from repro.plan.planned import Plan
from repro.results import claim_commands, find_records
from repro.results.suite import suite
from repro.settings import Settings

CLAIMS = claim_files.load(suite())
OF_EACH = {
    (claim.paper, claim.kind, claim.evaluation, claim.data, claim.variant): claim
    for claim in CLAIMS
    if claim.track != NO_TRACK and not unreachable(claim, suite())  # else nothing that can be run counts as its setting
}


@cache
def planned(line: str) -> Plan:
    words = shlex.split(line)
    assert words[:3] == ["python", "-m", "repro"]
    return make(request_of(build_parser().parse_args(words[3:])), Settings())


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_names_in_claims_are_ours(claim: Claim) -> None:
    for arm in filter(None, (claim.arm, claim.baseline_arm)):
        registry.find(arm)
    if claim.form:
        registry.find(claim.as_published.arm)
    if claim.protocol:
        kind = suite().kind_of(claim.evaluation)
        assert claim.protocol in protocols.names(kind)
        known = protocols.load(kind, claim.protocol).values()
        assert set(claim.changes.get(kind, {})) <= set(known)


@pytest.mark.parametrize("claim", OF_EACH.values(), ids=lambda claim: claim.id)
def test_commands_for_the_own_setting_plan_it(claim: Claim) -> None:
    (line,) = [words.strip() for words in claim_commands.wanting(claim, Arms([], suite()), claim.track, own=True)[1:]]
    made = planned(line)
    trained = [job for job in made.jobs if job.kind == "pretrain"]
    assert {(job.arm, job.seed) for job in trained} == {
        (arm, seed) for arm in filter(None, (claim.arm, claim.baseline_arm)) for seed in range(evalues.least(ALONE))
    }
    lengths = {job.spec["recipe"]["pretrain"]["epochs"] for job in trained}
    assert len(lengths) == 1 and all(not claim.epochs or claim.epochs[0] <= e <= claim.epochs[1] for e in lengths)
    assert {job.spec["recipe"]["pretrain"]["batch"] for job in trained} <= {claim.batch} or claim.batch is None
    if claim.backbone:
        assert {network_name(job.spec["recipe"]["network"]) for job in trained} == {claim.backbone}
    if claim.evaluation == "cost":
        assert {job.spec["data"]["name"] for job in trained} == {claim.data}
        return
    judged = [job for job in made.jobs if job.kind == suite().kind_of(claim.evaluation)]
    assert {(job.protocol["name"], job.spec["data"]["name"]) for job in judged if "data" in job.spec} <= {
        (claim.protocol, claim.data)
    }
    for table, values in claim.changes.items():
        for job in judged:
            assert {key: job.protocol["values"][key] for key in values} == values, table


def test_arms_of_a_direction_are_told_to_train_alike() -> None:
    claim = next(claim for claim in CLAIMS if claim.id == "glnet-imagenet-gain")
    (line,) = [words.strip() for words in claim_commands.wanting(claim, Arms([], suite()), "cifar", own=False)[1:]]
    jobs = [job for job in planned(line).jobs if job.kind == "pretrain"]
    settings = {(job.spec["recipe"]["pretrain"]["epochs"], job.spec["recipe"]["pretrain"]["batch"]) for job in jobs}
    assert len(jobs) == 2 * evalues.least(ALONE) and len(settings) == 1


def test_what_was_trained_longer_for_another_claim_draws_no_other_arm_after_it(every: list[dict[str, Any]]) -> None:
    """BYOL is there with 8 and with 15 epochs, multi-network's recipe has 8: the pair goes on with the former."""
    claim = next(claim for claim in CLAIMS if claim.id == "multi_network-cifar10-byol")
    byol = [record for record in every if record["method"] == "byol"]
    assert {record["details"]["recipe"]["pretrain"]["epochs"] for record in byol if record["kind"] == "pretrain"} == {
        8,
        15,
    }
    (line,) = [shlex.join(words) for words in claim_commands.next_runs(claim, Arms(byol, suite()), "mini", own=False)]
    jobs = [job for job in planned(line).jobs if job.kind == "pretrain"]
    assert [(job.arm, job.seed, job.spec["recipe"]["pretrain"]["epochs"]) for job in jobs] == [("multi_network", 0, 8)]


def test_equal_compute_goes_on_with_the_length_that_its_arms_have(
    every: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a claim's own setting, too, whose commands otherwise name the paper's epochs."""
    (arm,) = (arm for arm in Arms(every, suite()).of("linear") if arm.name == "byol" and arm.setting.epochs == 15)
    claim = next(claim for claim in CLAIMS if claim.id == "rotation_aux-byol-few-epochs")
    lacking = [Missing(claim, "byol", (7,), like=arm, beside=None)]
    for own, epochs in ((False, 15), (True, None)):
        ((*words,),) = claim_commands.runs_of(lacking, "mini", own)
        assert (f"pretrain.epochs={epochs}" in words) is not own
    longer = [dataclasses.replace(lacking[0], epochs=20)]
    ((*words,),) = claim_commands.runs_of(longer, "mini", False)
    assert [word for word in words if "pretrain.epochs" in word] == ["pretrain.epochs=20"]


def test_an_interaction_trains_both_arms_at_both_lengths() -> None:
    claim = next(claim for claim in CLAIMS if claim.id == "rotation_aux-byol-fewer-epochs")
    commands = claim_commands.next_runs(claim, Arms([], suite()), "mini", own=False)
    jobs = [job for words in commands for job in planned(shlex.join(words)).jobs if job.kind == "pretrain"]
    trained = {(job.arm, job.seed, job.spec["recipe"]["pretrain"]["epochs"]) for job in jobs}
    assert trained == {(arm, 0, epochs) for arm in ("rotation_aux", "byol") for epochs in (8, 24)}


def test_arms_of_every_mechanism_can_be_trained_alike_at_mini() -> None:
    for claim in CLAIMS:
        if claim.kind == MECHANISM and "mini" in claim.proxies:
            (words,) = claim_commands.next_runs(claim, Arms([], suite()), "mini", own=False)
            jobs = [job for job in planned(shlex.join(words)).jobs if job.kind == "pretrain"]
            tables = [job.spec["recipe"]["pretrain"] for job in jobs]
            assert {job.arm for job in jobs} == {claim.arm, claim.baseline_arm}, claim.id
            assert len({(table["epochs"], table["batch"]) for table in tables}) == 1, claim.id


def test_the_commands_that_would_mislead_are_not_printed() -> None:
    """Short trainings are asked for as short ones; of a cost without chance one epoch, once; no seeds in vain."""
    known = {claim.id: claim for claim in CLAIMS}

    def wanted(name: str, track: str) -> list[str]:
        return claim_commands.wanting(known[name], Arms([], suite()), track, own=False)

    for name in ("rotation_aux-byol-few-epochs", "rotation_aux-simsiam-few-epochs"):
        jobs = [job for job in planned(wanted(name, "cifar")[1].strip()).jobs if job.kind == "pretrain"]
        assert {job.spec["recipe"]["pretrain"]["epochs"] for job in jobs} == {20}
    jobs = [job for job in planned(wanted("aps-memory", "cifar")[1].strip()).jobs if job.kind == "pretrain"]
    assert [(job.method, job.seed, job.spec["recipe"]["pretrain"]["epochs"]) for job in jobs] == [
        ("aps", 0, 1),
        ("moco_v3", 0, 1),
    ]
    jobs = planned(wanted("aps-coco-detection", "mini")[1].strip()).jobs
    (data,) = {job.spec["data"]["name"] for job in jobs if job.kind == "detection"}
    assert data.endswith("-scenes")  # the 57 pictures of coco-mini would decide nothing


def test_list_filters_and_names_its_claims(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["claims", "--method", "byol", "--track", "cifar", "--evaluation", "knn"]) == 0
    out = capsys.readouterr().out
    assert re.findall(r"^[a-z]+_?[a-z]*-\S+", out, re.MULTILINE) == ["rotation_aux-byol-few-epochs-knn"]
    assert f"1 of {len(CLAIMS)} claims" in out
    assert "No claim is tested on embedded" in out and "above the same network untrained" in out
    assert main(["claims", "--outcome", "holds", "--track", "cifar"]) == 0
    assert f"0 of {len(CLAIMS)} claims" in capsys.readouterr().out


def test_the_papers_own_form_is_asked_for_where_a_track_has_another(capsys: pytest.CaptureFixture[str]) -> None:
    """multi_network has temperature 0.2 on mini; on cifar it has the paper's, and there is nothing to add."""
    for name in ("multi_network-cifar10-moco_v2", "multi_network-cifar10-moco_v2:t1"):
        assert main(["claims", name]) == 0
        needed = capsys.readouterr().out.split("needed next")[1]
        assert needed.count("the paper's temperature (t1)") == 1
        _, after = re.split(r"the paper's temperature \(t1\), mini, better or not: at least \d+ pairs", needed)
        line = after.strip().splitlines()[0]
        runs = [job for job in planned(line).jobs if job.kind == "pretrain"]
        heats = {job.arm: job.recipe["method"]["temperature"] for job in runs}
        assert set(heats) == {"multi_network:t1", "moco_v2"} and heats["multi_network:t1"] == 1.0
        assert len({job.recipe["pretrain"]["epochs"] for job in runs}) == 1


def joined(page: str) -> str:
    """A page without its line breaks."""
    return " ".join(page.split())


def test_a_claim_is_explained_with_what_would_complete_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found, _ = find_records.everything(Settings())
    older = copy.deepcopy(found)
    for record in older:
        record["provenance"]["data"].pop("limit", None)
    monkeypatch.setattr(find_records, "everything", lambda s: (older, []))
    assert main(["claims", "rotation_aux-byol-few-epochs"]) == 0
    out = capsys.readouterr().out
    for words in (
        "(the abstract was read, not the paper)",
        "pairs of pre-trainings with the same seed; family rotation_aux, testable claims: 5 on mini",
        "margin 1.5 points",
        "not run on mini: 3 older pairs do not count, as all seeds shared one training subset",
        "needed next",
    ):
        assert words in joined(out)
    assert re.search(r"^  protocol +not known$", out, re.MULTILINE)
    # No new seed can join pairs that share one subset of the pictures: both arms are asked for anew.
    (line,) = (line for line in re.findall(r"python -m repro run .*", out) if "--track mini" in line)
    # One of five claims takes evidence of 200: pairs that all say the same reach it with seven, not with six.
    assert evalues.above([1.0] * 6) < 200 <= evalues.above([1.0] * 7)
    assert "--method rotation_aux byol --seed 0 1 2 3 4 5 6 --track mini --eval linear" in line
    monkeypatch.setattr(find_records, "everything", lambda s: (found, []))
    assert main(["claims", "rotation_aux-byol-few-epochs"]) == 0
    out = capsys.readouterr().out
    assert "5,000 training images drawn for each seed" in joined(out) and "older pairs" not in out
    assert "not decided yet on mini (3 pairs, evidence" in out
    assert "repro cannot download cifar10-jpeg: without that --set, pairs on other images start again" in out
    assert "mini, better or not: at least 4 more pairs" in out and "cifar, better or not: at least 7 pairs" in out
    commands = re.findall(r"python -m repro run .*", out)
    missing = {line.split("--method ")[1].split(" --")[0]: line for line in commands if "--track mini" in line}
    assert set(missing) == {"rotation_aux", "byol"}
    for line in missing.values():  # three pairs are there; seven may reach the 200 that one of five claims takes
        assert "--seed 3 4 5 6 --track mini --eval linear" in line
        assert {job.seed for job in planned(line).jobs} == {3, 4, 5, 6}
        # The pictures of the records that they join, whatever else is there.
        assert {job.spec["data"]["name"] for job in planned(line).jobs if "data" in job.spec} == {"cifar10-jpeg"}
    monkeypatch.setattr(find_records, "everything", lambda s: ([r for r in found if r["method"] != "byol"], []))
    assert main(["claims", "rotation_aux-byol-few-epochs"]) == 0
    (line,) = re.findall(r"python -m repro run --method byol .*--track mini.*", capsys.readouterr().out)
    assert {job.spec["data"]["name"] for job in planned(line).jobs if "data" in job.spec} == {"cifar10-jpeg"}
    assert "we cannot rerun it (not known: protocol, backbone, epochs, batch)" in out


def test_of_seeds_that_ran_twice_a_new_workspace_is_the_way_out(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found, _ = find_records.everything(Settings())
    again = [{**r, "fingerprint": r["fingerprint"][::-1]} for r in found if r["method"] == "byol"]
    monkeypatch.setattr(find_records, "everything", lambda s: ([*found, *again], []))
    assert main(["claims", "rotation_aux-byol-few-epochs"]) == 0
    out = capsys.readouterr().out
    assert "each have several runs" in out.split("needed next")[1]
    command = "settle rotation_aux-byol-few-epochs --track mini --budget 3h --workspace NEW"
    assert f"    python -m repro {command}   (" in out
    assert main([*command.split(), "--dry-run"]) == 0


def test_a_setting_that_an_arm_cannot_be_given_is_said_so(capsys: pytest.CaptureFixture[str]) -> None:
    """Multi-network's own setting enlarges the views of both arms; BYOL's recipe cannot."""
    assert main(["claims", "multi_network-cifar10-byol"]) == 0
    out = capsys.readouterr().out
    assert "cifar, setting of the paper: the recipe of byol lacks method.view_size" in out
    assert "linear.size" in out and "network.stem" in out


def test_gap_prints_what_is_there_and_the_commands_for_the_rest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["gap", "glnet-imagenet-gain"]) == 0
    out = capsys.readouterr().out
    assert "\nNo result in the paper's setting yet, so the gap cannot be split up.\n" in out
    assert "\nOther results, in other settings (not used)\n" in out and "track mini, the claim's is imagenet" in out
    assert re.search(r"linear-glnet-mini-s0-[0-9a-f]{12}\.json", out)
    a, _, b, c = (line.strip().partition(": ")[2] for line in out.splitlines() if re.match(r"  [abc]: python", line))
    assert (
        "eval --checkpoint FILE --arch resnet50 --name glnet --track imagenet --eval linear --protocol linear=glnet"
        in a
    )
    names: list[Any] = [{job.protocol["name"] for job in planned(line).jobs if job.kind == "linear"} for line in (b, c)]
    assert names == [{"glnet"}, {"imagenet"}]


def test_an_authors_vit_is_asked_for_as_the_recipe_has_it() -> None:
    claim = next(claim for claim in CLAIMS if claim.id == "aps-cifar10-s2-1600")
    line = claim_commands.weights(claim, claim.method, claim.variant)
    for words in (
        "--arch vit_small",
        "--name aps_small",
        "finetune.lr=0.001",
        "network.patch=2",
        "network.qkv_bias=false",
    ):
        assert words in line
    assert "network.depth" not in line and line.count("--set") == 1


def test_reported_conflicts_have_value_and_source(capsys: pytest.CaptureFixture[str]) -> None:
    rows = {row.id: row for row in references()}
    claim = next(claim for claim in CLAIMS if any(rows[row_id].conflicts for row_id in claim.references))
    assert main(["claims", claim.id]) == 0
    out = capsys.readouterr().out
    out = joined(out)
    for row_id in claim.references:
        assert rows[row_id].words in out
        for other in rows[row_id].conflicts:
            row = rows[other]
            assert f"also reported: {other} {row.method} " in out and f"{row.value:g} {row.unit}, {row.source}" in out


def test_the_name_of_a_paper_is_no_claim_and_says_how_to_list_its_claims() -> None:
    with pytest.raises(UserError, match="aps is a paper, not a claim; python -m repro claims --paper aps lists"):
        find_records.find_claim("aps")


def test_a_claim_on_a_method_that_is_not_registered_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = replace(next(claim for claim in CLAIMS if claim.baseline), baseline="byoll", baseline_variant="")
    monkeypatch.setattr(claim_files, "load", lambda suite: [wrong])
    with pytest.raises(UserError, match=rf"claims/{wrong.paper}\.toml: claim '{wrong.id}': unknown method 'byoll'"):
        find_records.every_claim()
