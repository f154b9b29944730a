"""The table of verdicts of the front page and of the index of the boards: one short line for each comparison tested.

Both sides' accuracies, evidence and settings stand on the page of claims, to which each line links.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from leaderboards.answers import Answer, Beside, Said, by_outcome
from leaderboards.cells import signed
from leaderboards.claims import COST
from leaderboards.markdown_tables import pipe
from leaderboards.outcomes import outcome_word
from leaderboards.verdicts import NOT_RUN, two_bases

NOT_THE_PAPERS = "†"
"""Behind a claim whose test departs from the paper's own form."""
OPERATIONS = "FLOPs: method / baseline"
"""The head of the last column."""


def verdict_table(
    papers: Mapping[str, Sequence[Answer]],
    page: str,
    warnings: Mapping[str, str] = MappingProxyType({}),
    most: int | None = None,
) -> tuple[str, str]:
    """What was found at equal epochs and at equal compute, and at what cost; and a sentence on what is not shown.

    Both are "" where nothing was tested.

    papers: what a paper calls its method -> its claims.
    page: address of the page of claims, to which each claim links.
    warnings: by id of a claim, why its test is weak; it stands behind the verdict.
    most: rows of a short table: one for each paper, then what is decided. Else all that have two pairs or more.
    """
    tested = {paper: [answer for answer in found if answer.verdict] for paper, found in papers.items()}
    if not any(tested.values()):
        return "", ""
    shown = _chosen(tested, most) if most is not None else {paper: _several(found) for paper, found in tested.items()}
    every = [answer for found in shown.values() for answer in found]
    tracks = {answer.where for answer in every}
    rows = []
    for paper, found in shown.items():
        for number, answer in enumerate(sorted(found, key=lambda answer: answer.claim.evaluation == COST)):
            first = paper if number == 0 else ""
            rows.append([first, _claim(answer, page, tracks), *_found(answer, warnings.get(answer.claim.id, ""))])
    on = f" (on {next(iter(tracks))})" if len(tracks) == 1 else ""
    heads = ["paper", f"what was tested{on}", "equal epochs", "equal compute", OPERATIONS]
    left = Counter(outcome_word(answer.epochs) for found in papers.values() for answer in found if answer not in every)
    hidden = ", ".join(f"{left[outcome]} {outcome}" for outcome in sorted(left, key=by_outcome))
    others = "claims that state a number, and claims that cannot be tested"
    said = f"Not in the table: {', '.join(filter(None, (hidden, others)))}. See [all claims]({page})."
    if any(answer.claim.form for answer in every):
        said = f"{NOT_THE_PAPERS}: our recipe departs from the paper's own form. {said}"
    return pipe(heads, rows) if rows else "", said


def _chosen(tested: Mapping[str, Sequence[Answer]], most: int) -> dict[str, list[Answer]]:
    """So many, in their order: one of each paper, decided or with most pairs; then the others that are decided."""
    decided = [answer for found in tested.values() for answer in found if answer.verdict and answer.verdict.decided]

    def weight(answer: Answer) -> tuple[bool, int]:
        return answer in decided, answer.verdict.n if answer.verdict else 0

    leading = [max(found, key=weight) for found in tested.values() if found]
    chosen = [*leading, *(answer for answer in decided if answer not in leading)][:most]
    return {paper: [answer for answer in found if answer in chosen] for paper, found in tested.items()}


def _several(found: Sequence[Answer]) -> list[Answer]:
    """Those of which more than a single pair speaks."""
    return [answer for answer in found if answer.verdict and (answer.verdict.n != 1 or answer.verdict.decided)]


def _claim(answer: Answer, page: str, tracks: set[str]) -> str:
    """`[better than BYOL](page#id)†, linear probe (paper: +2.5 on CIFAR-100)`; where tracks differ, also on which."""
    mark = NOT_THE_PAPERS if answer.claim.form else ""
    where = answer.where if len(tracks) > 1 else ""
    parts = [f"[{answer.title}]({page}#{answer.claim.id}){mark}", answer.evaluation, where]
    stated = "" if answer.claimed is None else f" (paper: {signed(answer.claimed, 1).text} on {answer.claim.data_name})"
    return ", ".join(filter(None, parts)) + stated


def _found(answer: Answer, warning: str) -> tuple[str, str, str]:
    """Equal epochs, equal compute, and the operations of both trainings; a claim on costs has no equal compute."""
    verdict, said = answer.verdict, answer.epochs
    times = verdict.times if verdict else None
    shown = f"{times:.2f}" if times else ""
    if answer.claim.evaluation == COST and said:
        return _cost(answer, said), "", shown
    epochs = "; ".join(filter(None, [accuracy(said), *_forms(answer, said, answer.beside), warning]))
    if not two_bases(answer.claim):
        return epochs, "", shown
    compute = [accuracy(answer.compute), *_forms(answer, answer.compute, answer.beside_compute)]
    return epochs, "; ".join(compute), shown


def _forms(answer: Answer, said: Said | None, beside: Iterable[Beside]) -> list[str]:
    """What the paper's own form found; its outcome is named where that is another one."""
    here = said.word if said else NOT_RUN
    return [
        f"with {answer.claim.form_name} also {one.said.amount}" if one.said.word == here else _in_form(answer, one)
        for one in beside
        if one.form
    ]


def accuracy(said: Said | None) -> str:
    """`**holds** +3.6 (+2.1 to +5.1), 6 pairs`."""
    if said is None or (said.word == NOT_RUN and not said.difference):
        return NOT_RUN
    if said.same_runs:
        return f"**{said.word}**, the same runs"
    between = f" ({said.between})" if said.between else ""
    margin = f"margin {said.margin.removesuffix(' points')}" if said.margin else ""
    found = [f"**{said.word}** {said.amount}{between}".rstrip(), said.pairs, margin, *said.remarks]
    return ", ".join(filter(None, found))


def _cost(answer: Answer, said: Said) -> str:
    """`**holds** 0.52 times the operations (0.38 to 0.71), 10 pairs; with the paper's temperature ...`."""
    between = f" ({said.between})" if said.between else ""
    of = f" the {said.cost}" if said.cost else ""
    amount = f" {said.amount} times{of}{between}" if said.amount else ""
    found = [f"**{said.word}**{amount}", said.pairs, *said.notes]
    forms = [_in_form(answer, one) for one in answer.beside if one.form]
    return "; ".join([", ".join(filter(None, found)), *forms])


def _in_form(answer: Answer, one: Beside) -> str:
    """`with the paper's temperature **opposite** -2.3`."""
    times = " times" if answer.claim.evaluation == COST else ""
    return f"with {answer.claim.form_name} **{one.said.word}** {one.said.amount}{times}".rstrip()


def beside_words(papers: Mapping[str, Sequence[Answer]]) -> list[str]:
    """What was found of the papers' own forms, where our recipes have another, and on further tracks; a line for each.

    `† Multi-network, the paper's temperature (t1) in place of our recipe's: **holds**: better than BYOL (+3.6, 8
    pairs); at equal compute **not decided yet**: better than BYOL (+1.6, 9 pairs).`
    """
    lines = []
    for paper, found in papers.items():
        at_epochs = _by_name((answer, other) for answer in found for other in answer.beside)
        at_compute = _by_name((answer, other) for answer in found for other in answer.beside_compute)
        for name in dict.fromkeys([*at_epochs, *at_compute]):
            first, second = at_epochs.get(name, []), at_compute.get(name, [])
            form = any(other.form for _, other in (*first, *second))
            head = f"{NOT_THE_PAPERS} {paper}, {name} in place of our recipe's" if form else f"{paper}, {name}"
            said = [_grouped(first)] if first else []
            said += [f"at equal compute {_grouped(second)}"] if second else []
            lines.append(f"{head}: {'; '.join(said)}.")
    return lines


def _by_name(found: Iterable[tuple[Answer, Beside]]) -> dict[str, list[tuple[Answer, Beside]]]:
    named: dict[str, list[tuple[Answer, Beside]]] = {}
    for answer, other in found:
        named.setdefault(other.name, []).append((answer, other))
    return named


def _grouped(found: Sequence[tuple[Answer, Beside]]) -> str:
    """`**holds**: better than BYOL (+3.6, 8 pairs); **opposite**: better than SimCLR (-2.4, 9 pairs)`."""
    often = Counter(answer.title for answer, _ in found)
    by_word: dict[str, list[str]] = {}
    for answer, other in found:
        where = f", {answer.evaluation}" if often[answer.title] > 1 and answer.evaluation else ""
        by_word.setdefault(other.said.word, []).append(f"{answer.title}{where} ({_numbers(answer, other.said)})")
    return "; ".join(f"**{word}**: {', '.join(by_word[word])}" for word in sorted(by_word, key=by_outcome))


def _numbers(answer: Answer, said: Said) -> str:
    """`+3.6, 8 pairs`; of costs `1.25 times, 9 pairs`."""
    if said.same_runs:
        return said.same_runs
    amount = f"{said.amount} times" if answer.claim.evaluation == COST else said.amount
    return ", ".join(filter(None, (amount, said.pairs)))
