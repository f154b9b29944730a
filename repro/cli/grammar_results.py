"""The commands about results, from claims to publishing: their options and what `--help` says of them."""

from __future__ import annotations

import argparse

from repro.cli.options import TRACKS, executor_choice, executor_options, workspace_options
from repro.cli.parser import Parser, command, number

CLAIM_FILTERS = {
    "paper": "claims of this paper, for example glnet",
    "method": "claims about this method, or against this baseline",
    "kind": "number, gain, direction, cost_ratio, interaction (effect at few against many epochs) or mechanism (our own"
    " claim on why a method works)",
    "evaluation": "claims measured by this: knn, linear, finetune, detection, segmentation, reid, reid_finetune"
    " or cost",
    "track": "claims that this track can test",
    "data": "claims on this data set",
    "verified": "how we checked the source: read (the code page), abstract (only the abstract), recalled (from"
    " memory, unchecked) or ours",
    "outcome": "claims with this verdict, for example holds, opposite, 'not decided yet' or 'not run' (with --track: on"
    " that track)",
    "text": "claims whose text contains this",
}


def add_results(verbs: argparse._SubParsersAction[Parser]) -> None:
    """Add them to the command line."""
    verb = command(
        verbs,
        "claims",
        help="list the papers' claims and their verdicts, or explain one",
        description="List the papers' claims and their verdicts, from the records of the workspace and the published"
        " ones. With ID: the source of one claim, our test, its verdicts, and the commands for what is missing.",
    )
    verb.add_argument(
        "claim", nargs="?", metavar="ID", help="explain this claim: source, conditions, our test, what is missing"
    )
    group = verb.add_argument_group("only claims")
    for name, words in CLAIM_FILTERS.items():
        group.add_argument(f"--{name}", metavar=name.upper(), help=words)
    workspace_options(verb)

    verb = command(
        verbs,
        "settle",
        help="run the pairs of seeds that decide claims, within a budget",
        description="Decide claims. A pair is a method and its baseline, trained from the same seed. settle runs pairs"
        " until a claim is decided or the budget is spent: first at equal epochs, then at equal compute (the baseline"
        " trains for more or fewer epochs). You may look at the results after every pair: the error rate stays the"
        " same. Run the same command again to continue. On SLURM it submits the pairs and a small job that"
        " reads the results and submits more.",
        examples="settle --paper glnet --budget 3h",
    )
    verb.add_argument("claim", nargs="*", metavar="ID", help="claims to decide; python -m repro claims lists them")
    verb.add_argument(
        "--paper", metavar="NAME", help="instead of ID: every claim of this paper that the track can test; or all"
    )
    verb.add_argument("--track", default="mini", metavar="NAME", help="track to test them on (default: mini)")
    verb.add_argument(
        "--budget",
        metavar="TIME",
        help="time to spend: 90min, 3h or 2d (clock time on this machine; on SLURM GPU-hours, also written 12gpuh)",
    )
    group = verb.add_argument_group("your own method, instead of ID: settle --method mine.toml --against byol")
    group.add_argument("--method", metavar="NAME", help="your method: a name or a recipe file")
    group.add_argument(
        "--against", nargs="+", default=[], metavar="NAME", help="methods to compare it with, one at a time"
    )
    group.add_argument(
        "--eval", default="linear", metavar="NAME", help="evaluation to compare them in (default: linear)"
    )
    group.add_argument(
        "--margin",
        type=number,
        default=1.0,
        metavar="POINTS",
        help="a smaller difference counts as none (default: 1 point)",
    )
    verb.add_argument(
        "--dry-run",
        action="store_true",
        help="run nothing; print the pairs and hours needed. With --budget also the probability of a decision. Claims"
        " run in the order of the rows",
    )
    verb.add_argument(
        "--card", metavar="NAME", help="with --dry-run: estimate for this GPU, for example rtx4090 or 24GB"
    )
    workspace_options(verb)
    verb.add_argument(
        "--allow-unequal-tuning",
        action="store_true",
        help="also compare methods that were not tuned alike; the verdict says so",
    )
    group = executor_options(verb)
    executor_choice(group)
    verb = command(
        verbs,
        "gap",
        help="break down the gap between the paper's number and ours",
        examples="gap aps-cifar100-finetune-gain",
    )
    verb.add_argument("claim", metavar="ID", help="a claim that states a number or a gain")
    workspace_options(verb)

    verb = command(
        verbs,
        "explain",
        help="show how a number on a board was made, and the command to make it again",
        examples="explain 77dfef892b64",
    )
    verb.add_argument(
        "cell", metavar="RECORD", help="link of the number on a board, or the first 6 or more digits of its fingerprint"
    )
    workspace_options(verb)

    verb = command(
        verbs,
        "compare",
        help="compare two methods seed by seed, with intervals",
        examples="compare glnet moco_v3:resnet --track mini",
    )
    verb.add_argument(
        "arms",
        nargs=2,
        metavar="METHOD",
        help="NAME, NAME:VARIANT or NAME@EPOCHS, for example byol@15. NAME@RECIPE selects by the first six or more"
        " letters of the recipe's hash",
    )
    verb.add_argument("--track", default="embedded", metavar="NAME", help=TRACKS)
    verb.add_argument(
        "--trust", nargs="+", default=[], metavar="NAME", help="also use records made by others: author, self-reported"
    )
    workspace_options(verb)

    verb = command(verbs, "verify", help="check records, and that the published boards match them")
    workspace_options(verb)

    verb = command(
        verbs,
        "report",
        help="write boards and report from the records",
        description="Write the boards (Markdown tables of results and verdicts) and report.html from the records of the"
        " workspace, into its folder boards/.",
    )
    verb.add_argument(
        "--published", action="store_true", help="read leaderboards/records instead and write the repository's boards"
    )
    verb.add_argument(
        "--export", metavar="FOLDER", help="for a paper: write each table as .csv and .tex and each plot as .svg"
    )
    workspace_options(verb)

    verb = command(
        verbs,
        "records",
        help="export records (CSV, Parquet, LaTeX, model-index) or import some",
        description="Export records, or import them. A record is the JSON file that a finished run leaves.",
        examples="records --to csv --out all.csv\nrecords import theirs.jsonl --trust peer --lab NAME",
    )
    verb.add_argument("action", nargs="?", default="export", metavar="ACTION", help="export (default) or import")
    verb.add_argument(
        "file",
        nargs="?",
        metavar="FILE",
        help="import: a JSON file (a record or a list of records), .jsonl (one per line), or a folder of them",
    )
    verb.add_argument("--to", metavar="NAME", help="export: csv, parquet, latex or model-index")
    verb.add_argument("--out", metavar="FILE", help="export: file to write")
    verb.add_argument("--method", nargs="+", metavar="NAME", help="export: only records of these methods")
    verb.add_argument("--track", metavar="NAME", help="export: only records of this track")
    verb.add_argument(
        "--published", action="store_true", help="export: the repository's records instead of the workspace's"
    )
    verb.add_argument(
        "--trust",
        metavar="NAME",
        help="import: who made the records: self-reported (not measured with repro), author (from the authors'"
        " weights) or peer (with repro in another lab)",
    )
    verb.add_argument("--lab", default="", metavar="NAME", help="import with --trust peer: the name of that lab")
    workspace_options(verb)

    verb = command(
        verbs,
        "publish",
        help="copy records into the repository and write its boards",
        description="Copy the workspace's records into leaderboards/records of this repository and write its boards.",
    )
    verb.add_argument("--method", nargs="+", metavar="NAME", help="only records of these methods")
    verb.add_argument("--track", metavar="NAME", help="only records of this track")
    workspace_options(verb)
