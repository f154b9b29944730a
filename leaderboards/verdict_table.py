"""The table of verdicts of the front page and of the index of the boards: one short line for each comparison tested.

Both sides' accuracies, evidence and settings stand on the page of claims, to which each line links.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from leaderboards.answers import Answer, Said, answers
from leaderboards.assessments import Assessment, older_recipes
from leaderboards.claims import COST, Claim
from leaderboards.markdown_tables import pipe
from leaderboards.reading import OLDER_RECIPE
from leaderboards.verdicts import NOT_RUN


def verdict_table(
    papers: Mapping[str, Sequence[Assessment]], page: str, warnings: Mapping[str, str] = MappingProxyType({})
) -> tuple[str, list[str]]:
    """The comparisons that were tested: what was found at equal epochs and at equal compute, and what each cost.

    Also sentences to stand below it: what is not shown, and what `older recipe` means, if a verdict is of one.

    page: address of the page of claims, to which each claim links.
    warnings: by id of a claim, why its test is weak; it stands behind the verdict.
    """
    every = [(papers[paper][0].claim.paper_title, one) for paper, found in answers(papers).items() for one in found]
    tested = [(paper, answer) for paper, answer in every if answer.verdict and not _single(answer)]
    tracks = {answer.where for _, answer in tested}
    rows, above = [], ""
    for paper, answer in tested:
        first = _paper(paper, answer.claim) if paper != above else ""
        rows.append([first, _claim(answer, page, tracks), *_found(answer, warnings.get(answer.claim.id, ""))])
        above = paper
    on = f" (on {next(iter(tracks))})" if len(tracks) == 1 else ""
    heads = ["paper", f"what was tested{on}", "equal epochs", "equal compute", "operations (baseline = 1)"]
    not_run, single = sum(not answer.verdict for _, answer in every), sum(_single(answer) for _, answer in every)
    left = [f"{not_run} comparisons were {NOT_RUN}"] * (not_run > 0) + [f"{single} have a single pair"] * (single > 0)
    others = f"The other claims state numbers or cannot be tested: [all claims]({page})."
    rest = f"Not in the table: {', '.join(left)}. {others}" if left else others
    older = older_recipes([item for items in papers.values() for item in items])
    return pipe(heads, rows) if rows else "", [rest, *([OLDER_RECIPE] * bool(older))]


def _single(answer: Answer) -> bool:
    """Whether a claim has but one pair, so that nothing can be said of it."""
    return bool(answer.verdict and answer.verdict.n == 1 and not answer.verdict.decided)


def _paper(paper: str, claim: Claim) -> str:
    """`Multi-network (not the paper's temperature)`, where our recipe departs from the paper's own form."""
    return f"{paper} (not {claim.form_name})" if claim.form else paper


def _claim(answer: Answer, page: str, tracks: set[str]) -> str:
    """`[better than BYOL](page#id), linear probe`; where tracks differ, also on which."""
    claim = answer.claim
    ours = " (baseline: our choice)" * claim.stand_in
    where = answer.where if len(tracks) > 1 else ""
    return ", ".join(filter(None, [f"[{claim.title}]({page}#{claim.id}){ours}", answer.evaluation, where]))


def _found(answer: Answer, warning: str) -> tuple[str, str, str]:
    """Equal epochs, equal compute, cost: of a claim on costs only the last, else the last has no verdict."""
    verdict, said = answer.verdict, answer.epochs
    if answer.claim.evaluation == COST and said:
        return "", "", _cost(said)
    times = verdict.times if verdict else None
    epochs = "; ".join(filter(None, [_accuracy(said), warning]))
    return epochs, _accuracy(answer.compute), f"{times:.2f}" if times else ""


def _accuracy(said: Said | None) -> str:
    """`**holds** +3.6 (+2.1 to +5.1), 6 pairs`."""
    if said is None or (said.word == NOT_RUN and not said.difference):
        return NOT_RUN
    if said.same_runs:
        return f"**{said.word}**, the same runs"
    between = f" ({said.between})" if said.between else ""
    margin = said.margin.removeprefix("within the ").replace(" of ", " ").removesuffix(" points")
    found = [f"**{said.word}** {said.amount}{between}".rstrip(), said.pairs, margin, *said.remarks]
    return ", ".join(filter(None, found))


def _cost(said: Said) -> str:
    """`**holds** 0.52 (0.38 to 0.71), 10 pairs`; of fewer epochs `epochs: ...`, and the operations behind it."""
    of = "" if said.cost in ("", "operations") else f"{said.cost}: "
    between = f" ({said.between})" if said.between else ""
    return of + ", ".join(filter(None, [f"**{said.word}** {said.amount}{between}".rstrip(), said.pairs, *said.notes]))
