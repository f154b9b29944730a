"""Tables of records for pages of text: READMEs have them between marks (`repro/results/readmes.py`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from types import MappingProxyType

from leaderboards.answers import Said, answers, summary
from leaderboards.arms import Arm, Arms
from leaderboards.assessments import Assessment, assess, older_recipes
from leaderboards.cells import signed
from leaderboards.claims import Claim
from leaderboards.controls import Controls
from leaderboards.gains import FEWEST, Gain, Row, columns_of, gains, parts
from leaderboards.learnt import briefly
from leaderboards.reading import OLDER_RECIPE
from leaderboards.record_fields import OURS, Record, entry
from leaderboards.suite import Suite
from leaderboards.summary import summarise
from leaderboards.verdicts import NOT_RUN

MOST = 18  # rows of the front page's table of claims; the page may have 150 lines
_UNIT = "moco_v3"  # what costs are relative to
_HEADS = {"knn": "k-NN", "linear": "linear", "detection": "box AP", "segmentation": "mask AP", "reid": "Rank-1"}


def gains_table(records: Iterable[Record], suite: Suite, track: str) -> str:
    """Each method of a track: mean over seeds, and in brackets the points above the same network untrained."""
    names = [name for name in _HEADS if name in suite.evaluations]
    heads = [_head(suite, name, metric) for name, metric in columns_of(suite, names)]
    rows = [
        [f"`{row.arm.name}`", str(row.arm.setting.epochs or "-"), _seeds(row), *(_cell(gain) for gain in row.gains)]
        for row in gains(records, suite, track, names)
    ]
    return _table(["method", "epochs", "seeds", *heads], rows)


def _seeds(row: Row) -> str:
    """`5`, or `3 to 7` where its columns differ."""
    return " to ".join(map(str, dict.fromkeys(row.seeds)))


def run_table(
    records: Sequence[Record], claims: Sequence[Claim], suite: Suite, method: str, track: str, packages: Sequence[str]
) -> str:
    """The table of a run of one method (its lowest seed), the range over its seeds, and the versions it ran on."""
    known = Arms(records, suite)
    kinds = [*suite.preparing, *dict.fromkeys(evaluation.kind for evaluation in suite.evaluations.values())]
    arms = [arm for kind in kinds for arm in known.current(kind) if arm.name == method and arm.setting.track == track]
    if not arms:
        return "no record yet"
    first = [arm.records[min(arm.records)] for arm in arms]
    said = summarise(first, claims, suite, Controls((), known.records, suite, claims))
    lines = ["```", said.table, "", *said.lines, "```", ""]
    ranges = []
    for name, metric in columns_of(suite, [name for name in _HEADS if name in suite.evaluations]):
        for values in (arm.values(metric).values() for arm in arms if arm.kind == suite.kind_of(name)):
            if len(values) > 1:
                ranges.append(f"{_head(suite, name, metric)} {min(values):.1f} to {max(values):.1f}")
    versions = entry(first[0], "provenance", "packages") or {}
    with_ = ", ".join(f"{name} {versions[name]}" for name in packages if name in versions)
    seeds = max((arm.records for arm in arms), key=len)
    lines.append(f"Seed {min(seeds)}, with {with_}. Over {len(seeds)} seeds: {', '.join(ranges)}.")
    return "\n".join(lines)


def costs_table(records: Iterable[Record], suite: Suite, track: str) -> str:
    """What the pre-training of each method costs, and per picture relative to MoCo-v3 on the same network."""
    arms = [
        arm
        for arm in Arms(records, suite).current("pretrain")
        if arm.setting.track == track and arm.trust == OURS and arm.costs("flops_per_image") and not arm.control
    ]
    unit = {arm.setting.network: _mean(arm, "flops_per_image") for arm in arms if arm.method == _UNIT}
    stands: dict[str, Arm] = {}
    for arm in arms:
        if not arm.variant and (arm.name not in stands or arm.standing > stands[arm.name].standing):
            stands[arm.name] = arm
    rows = []
    for name, arm in sorted(stands.items()):
        per_image, epochs = _mean(arm, "flops_per_image"), arm.setting.epochs or 1
        relative = f"{per_image / unit[arm.setting.network]:.2f}" if arm.setting.network in unit else "-"
        rows.append(
            [
                *(f"`{name}`", arm.setting.network, f"{per_image / 1e9:.3f}", relative, str(epochs)),
                f"{_mean(arm, 'updates') / epochs:,.0f}",
                f"{_mean(arm, 'image_passes'):,.0f}",
                f"{_mean(arm, 'flops') / 1e12:.1f}",
                str(len(arm.records)),
            ]
        )
    heads = ["GFLOP / image", f"{_UNIT} = 1", "epochs", "updates / epoch", "image passes", "TFLOP", "seeds"]
    return _table(["method", "network", *heads], rows)


def _mean(arm: Arm, cost: str) -> float:
    return fmean(arm.costs(cost).values() or [0.0])


def parts_table(records: Iterable[Record], claims: Sequence[Claim], suite: Suite, track: str) -> str:
    """What each variant changes: the method minus the variant in linear probe, paired seeds."""
    rows = []
    for part in parts(Arms(records, suite), claims, track, "linear"):
        mean, least, largest = part.difference
        between = f"{least:+.1f} to {largest:+.1f}"
        names = f"`{part.method.name}`", f"`{part.variant.name}`"
        rows.append([*names, signed(mean, 1).text, between, str(part.seeds)])
    if not rows:
        return f"No variant has {FEWEST} pairs with its method yet."
    return _table(["method", "variant", "method - variant", "range over seeds", "seeds"], rows)


def front(records: Sequence[Record], claims: Sequence[Claim], suite: Suite, page: str) -> str:
    """What the front page says of the claims: how many have which outcome, then `verdicts_text` of MOST claims.

    page: address of the page of claims.
    """
    known = Arms(records, suite)
    found = assess(claims, known)
    papers: dict[str, list[Assessment]] = {}
    for item in found:
        papers.setdefault(item.claim.paper, []).append(item)
    every = [answer for those in answers(papers).values() for answer in those]
    table = verdicts_text(papers, page, briefly(found, Controls((), known.records, suite)), MOST)
    return f"{summary(every)}\n\n{table}"


def verdicts_text(
    papers: Mapping[str, Sequence[Assessment]],
    page: str,
    adds: Mapping[str, Sequence[str]] = MappingProxyType({}),
    most: int | None = None,
) -> str:
    """The comparative claims that were tested: what was found, at equal epochs and at equal compute, and where.

    Below the table: how many are not shown, and what `older recipe` means, if a verdict is of one.

    page: address of the page of claims, to which each claim links.
    adds: by id of a claim, what pre-training adds, and why its test is weak; it stands behind the verdict.
    most: rows; of more claims one of each paper comes first, then those that are decided or have the most pairs.
    """
    every = [(papers[paper][0].claim.paper_title, one) for paper, found in answers(papers).items() for one in found]
    tested = [(paper, answer, answer.verdict) for paper, answer in every if answer.verdict]
    ranked = sorted(tested, key=lambda item: (not item[2].decided, -item[2].n))
    leading = {paper: answer.claim.id for paper, answer, _ in reversed(ranked)}  # the first of each
    ranked.sort(key=lambda item: item[1].claim.id != leading[item[0]])
    first = {answer.claim.id for _, answer, _ in ranked[:most]}
    rows = [
        [
            paper,
            f"[{answer.claim.statement}]({page}#{answer.claim.id})",
            answer.tested,
            "; ".join([_found(answer.epochs), *adds.get(answer.claim.id, ()), *answer.beside]),
            "; ".join([_found(answer.compute), *answer.beside_compute]),
        ]
        for paper, answer, _ in tested
        if answer.claim.id in first
    ]
    heads = ["paper", "claim", "tested", "equal epochs (95 % interval)", "equal compute (95 % interval)"]
    numbers = Counter(verdict.outcome for _, answer, verdict in tested if answer.claim.id not in first)
    numbers[NOT_RUN] += len(every) - len(tested)
    hidden = ", ".join(f"{number} {what}" for what, number in numbers.items() if number)
    left = f"Not shown: {hidden}. " if hidden else ""
    rest = f"{left}The other claims state numbers or cannot be tested: [all claims]({page})."
    older = older_recipes([item for items in papers.values() for item in items])
    return "\n\n".join(filter(None, [_table(heads, rows) if rows else "", rest, OLDER_RECIPE if older else ""]))


def _found(said: Said | None) -> str:
    """`**holds**: +3.6 points (+2.1 to +5.1), 6 pairs`; the evidence of what is open stands on the page of claims."""
    if said is None:
        return "-"
    between = f" ({said.between})" if said.between else ""
    numbers = [said.same_runs] if said.same_runs else [said.difference + between, said.levels, said.pairs]
    found = ", ".join(filter(None, [*numbers, *said.notes]))
    return f"**{said.word}**" + (f": {found}" if found else "")


def _head(suite: Suite, evaluation: str, metric: str) -> str:
    """`k-NN`, or of the metric of few labels `10 labels per class`."""
    if metric == suite.evaluations[evaluation].metrics[0]:
        return _HEADS[evaluation]
    return metric.split("_", 1)[-1].replace("_per_", " labels per ")


def _cell(gain: Gain | None) -> str:
    if gain is None:
        return "-"
    return f"{gain.value:.1f}" + (f" ({gain.above[0]:+.1f})" if gain.above else "")


def _table(heads: list[str], rows: list[list[str]]) -> str:
    from tabulate import tabulate

    return str(tabulate(rows, headers=heads, tablefmt="pipe", disable_numparse=True))
