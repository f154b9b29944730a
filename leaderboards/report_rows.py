"""Rows of the tables that the report has beside the boards: trainings, results of a method, differences, claims."""

from __future__ import annotations

from leaderboards.answers import Answer
from leaderboards.arms import Arm
from leaderboards.boards import Board
from leaderboards.cells import NOTHING, Cell, Row, duration, linked, signed, spread, whole, whole_numbers, words
from leaderboards.columns import trials
from leaderboards.deviations import of_older_recipe
from leaderboards.paired_arms import Difference
from leaderboards.record_fields import entry, number
from leaderboards.suite import Suite


def summary(board: Board) -> Row:
    """A board as a row of the overview."""
    return {
        "board": linked([(board.title, f"#board-{board.name}")]),
        "rows": whole(board.arms),
        "records": whole(board.records),
        "tracks": words(board.tracks),
    }


def difference(item: Difference) -> Row:
    low, high = (signed(item.low), signed(item.high)) if item.mean else (None, None)
    return {
        "method": words(item.ours.name),
        "baseline": words(item.theirs.name),
        "evaluation": words(f"{item.evaluation} {item.metric}"),
        "network": words(item.ours.setting.network),
        "epochs": whole(item.ours.setting.epochs or None),
        "trials": trials(item.ours),
        "n": whole(len(item.seeds)),
        "difference": signed(item.mean.value if item.mean else next(iter(item.by_seed.values()))),
        "95 % interval": Cell(f"{low.text} to {high.text}", low.value) if low and high else Cell("none: one pair"),
    }


def training(arm: Arm) -> Row:
    """What was trained, how it ended."""
    collapsed = [entry(record, "details", "collapsed_at_update") is not None for record in arm.records.values()]
    size = number(next(iter(arm.records.values())).get("details"), "encoder_parameters")
    millions = f"{size / 1e6:.2f}" if size else ""
    return {
        "method": words(arm.name),
        "which": words(arm.told_apart or "-"),
        "tracks": words(arm.setting.track),
        "network": words(arm.setting.network),
        "parameters": Cell(f"{millions} M", float(millions)) if millions else Cell("-"),
        "epochs": whole(arm.setting.epochs),
        "batch": whole(arm.setting.batch),
        "seeds": whole_numbers(sorted(arm.records)),
        "last spread": spread(arm.values("final_std_z").values()),
        "collapsed": Cell(f"{sum(collapsed)} of {len(collapsed)}", sum(collapsed)) if any(collapsed) else Cell("-"),
        "device time": duration(arm.costs("device_s").values()),
    }


def results(name: str, board: Board) -> list[Row]:
    """The rows of one method on one board, its numbers as words of one column, so that boards can follow each other."""
    return [
        {
            "board": words(board.title),
            "result": words(", ".join(f"{metric} {row[metric].text}" for metric in board.metrics)),
            "tracks": words(part.setting.track),
            **{key: row[key] for key in ("variant", "which", "trust", "network", "epochs", "n")},
            "where": words(part.setting.place),
        }
        for part in board.tables
        if part.setting
        for row in part.rows
        if row["method"].text == name
    ]


def claim(answer: Answer) -> Row:
    """A claim of the first screen."""
    said, other = answer.epochs, answer.compute
    low, high = (signed(end) for end in answer.interval) if answer.interval else (NOTHING, NOTHING)
    return {
        "paper": words(answer.claim.paper),
        "claim": words(answer.claim.statement),
        "tested on": words(answer.where or "-"),
        "equal epochs": words(said.word if said else "not run"),
        "difference": words(said.difference if said and said.difference else "-"),
        "95 % low": low,
        "95 % high": high,
        "n": whole((answer.verdict.n or None) if answer.verdict else None),
        "paper states": NOTHING if answer.claimed is None else signed(answer.claimed),
        "equal compute": words(f"{other.word} {other.difference} {other.n}".rstrip() if other else "-"),
    }


def again(answer: Answer, suite: Suite) -> list[tuple[str, str]]:
    """The sides of what a claim rests on, each with the command that runs its first seed again by today's recipe."""
    verdict, found = answer.verdict, []
    for arm in verdict.arms if verdict else ():
        if of_older_recipe(arm, suite):
            continue
        usual = suite.recipe(arm.name, arm.setting.track).get("pretrain", {}).get("epochs")
        seed = min(verdict.series.seeds if verdict and verdict.series.seeds else arm.records)
        words = ["python -m repro run", "--method", arm.name, "--track", arm.setting.track, "--seed", str(seed)]
        words += (
            ["--eval", answer.claim.evaluation]
            if answer.claim.evaluation in suite.evaluations
            else ["--suite", "quick"]
        )
        words += ["--set", f"pretrain.epochs={arm.setting.epochs}"] if arm.setting.epochs not in (usual, None) else []
        found.append((arm.name, " ".join(words)))
    return found
