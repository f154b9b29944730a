"""The grammar of the command line: commands, their options and what `--help` says of them."""

from __future__ import annotations

import argparse

from repro import __version__

_EXAMPLES = """examples:
  python -m repro run --method aps --suite full                      digits, no download, minutes
  python -m repro run --method aps moco_v3 random --track mini --seed 0 1 2 --data-root DIR
  python -m repro plan --method aps --track imagenet                 what would run, and how long
  python -m repro data get mini                                      download CIFAR-10, say where the rest must be put
  python -m repro run --method aps --set pretrain.epochs=2 knn.ks=[1,5]
  python -m repro eval --checkpoint r50.pth --arch resnet50 --suite quick       an author's weights, our protocols
"""


CLAIM_FILTERS = {
    "paper": "of this paper: the name of its file",
    "method": "of this method, or against this baseline",
    "kind": "number, gain, direction or cost_ratio",
    "evaluation": "knn, linear, finetune, ..., or cost",
    "track": "that can be put to the test on this track",
    "data": "on this data set",
    "verified": "read, abstract (nothing else could be read) or recalled",
    "outcome": "with this verdict (with --track: there)",
    "text": "in whose words this stands",
}


def _workspace_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("where")
    group.add_argument("--workspace", metavar="DIR", help="folder to work in (default: ./repro-work)")
    group.add_argument("--data-root", metavar="DIR", help="folder that holds the data sets (or REPRO_DATA)")


def _request_options(
    parser: argparse.ArgumentParser, *, trains: bool = True, evaluations: bool = True, seed: int = 0
) -> None:
    if trains:
        parser.add_argument(
            "--method", nargs="+", required=True, metavar="NAME", help="NAME, NAME:VARIANT, FILE.toml or all"
        )
    parser.add_argument("--track", default="embedded", metavar="NAME", help="embedded (default), mini, cifar, ...")
    if evaluations:
        choice = parser.add_mutually_exclusive_group()
        choice.add_argument("--suite", default="full", metavar="NAME", help="full (default) or quick (k-NN and linear)")
        choice.add_argument("--eval", nargs="+", metavar="NAME", help="single evaluations instead of a suite")
    if trains:
        parser.add_argument(
            "--seed", nargs="+", type=int, default=[seed], metavar="N", help=f"one run a seed (default: {seed})"
        )
        parser.add_argument(
            "--processes",
            type=int,
            default=1,
            metavar="N",
            help="ranks that share each pre-training, a GPU each (default: 1)",
        )
    what = "pre-train on" if trains else "classify"
    parser.add_argument("--data", metavar="NAME", help=f"pictures to {what}: a data set, or a folder (ImageFolder)")
    parser.add_argument(
        "--protocol",
        nargs="+",
        action="extend",
        default=[],
        metavar="KIND=NAME",
        help="protocol of an evaluation, or several: linear=fast,glnet (python -m repro protocols lists them)",
    )
    parser.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="TABLE.KEY=VALUE", help="change a recipe or a protocol"
    )
    _workspace_options(parser)
    group = _executor_options(parser)
    group.add_argument("--executor", metavar="NAME", help="auto (default), local or slurm")


def _download_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--yes", action="store_true", help="download data that is missing without a question")


def _budget_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how much")
    group.add_argument(
        "--budget", metavar="AMOUNT", help="refuse what is estimated at more: 2h or 90min of work, 12gpuh of GPU-hours"
    )
    group.add_argument("--trim", action="store_true", help="with --budget: drop last seeds, then evaluations, to fit")


def _executor_options(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    group = parser.add_argument_group("how")
    group.add_argument("--cluster", metavar="NAME", help="profile of the SLURM cluster: a name, or FILE.toml")
    group.add_argument("--cores", type=int, metavar="N", help="CPU cores to use on this machine (default: all)")
    group.add_argument(
        "--memory-gb", type=float, metavar="N", help="memory to use on this machine (default: what is free)"
    )
    return group


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = argparse.ArgumentParser(
        prog="repro",
        description="Find out whether the claims of efficient self-supervised pre-training papers hold.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"repro {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="COMMAND", required=True)

    verb = verbs.add_parser("run", help="pre-train, evaluate, and print one table; does only what is missing")
    _request_options(verb)
    _budget_options(verb)
    _download_option(verb)
    verb = verbs.add_parser(
        "eval",
        help="evaluate weights from a file: ours, torchvision's, timm's, mmpretrain's, MoCo's, ...",
        description="Evaluate weights from a file as a run does what it has trained. The untrained and the supervised"
        " network are methods: python -m repro run --method random supervised.",
    )
    verb.add_argument("--checkpoint", required=True, metavar="FILE", help="PyTorch's or safetensors, of anybody")
    verb.add_argument("--arch", metavar="NAME", help="resnet50, resnet18-cifar, vit_small, ...; not for files of repro")
    verb.add_argument("--name", metavar="NAME", help="what boards are to call it (default: as the file)")
    verb.add_argument("--part", metavar="PREFIX", help="whose keys, where the file holds several networks")
    verb.add_argument(
        "--normalise", metavar="NAME", help="of pixels: imagenet, data (the track's) or file (default, else imagenet)"
    )
    verb.add_argument("--mean", metavar="R,G,B", help="of pixels in [0, 1], with --std, instead of --normalise")
    verb.add_argument("--std", metavar="R,G,B", help="0.228,0.224,0.225 for example")
    _request_options(verb, trains=False)
    _download_option(verb)
    verb = verbs.add_parser("plan", help="print the jobs of a run, what is cached, and estimates; runs nothing")
    _request_options(verb)
    _budget_options(verb)
    verb.add_argument(
        "--calibrate",
        nargs="?",
        type=float,
        const=20.0,
        metavar="SECONDS",
        help="first begin here what has no record of this device, for 20 seconds in all, and estimate by that",
    )
    verb = verbs.add_parser("tune", help="try settings of a recipe, judged on training pictures that were held out")
    _request_options(verb, evaluations=False, seed=100)  # 100: none of those that results are reported of
    verb.add_argument(
        "--try",
        dest="trials",
        nargs="+",
        action="append",
        default=[],
        metavar="TABLE.KEY=VALUE",
        help="the changes of one trial; may be given many times",
    )
    _download_option(verb)
    verb = verbs.add_parser("status", help="where the tasks of this workspace stand, a row a run")
    verb.add_argument("--watch", action="store_true", help="again every few seconds until all have ended")
    _workspace_options(verb)
    verb = verbs.add_parser("logs", help="the last lines of what a task printed")
    verb.add_argument("task", metavar="JOB", help="TASK-RUN as status prints them, or SLURM's job number")
    verb.add_argument("--follow", action="store_true", help="and what it adds, until it has ended")
    _workspace_options(verb)
    verb = verbs.add_parser("cancel", help="end tasks that are queued or running; checkpoints are kept")
    verb.add_argument("task", nargs="*", metavar="JOB", help="TASK-RUN, RUN or SLURM's job number (default: all)")
    _workspace_options(verb)
    verb = verbs.add_parser("retry", help="do failed tasks again, and those that wait for them")
    verb.add_argument("task", nargs="*", metavar="JOB", help="TASK-RUN, RUN or SLURM's job number (default: all)")
    _workspace_options(verb)
    _executor_options(verb)

    verb = verbs.add_parser("gc", help="what of a workspace nobody needs any more, with sizes and reasons")
    verb.add_argument("--delete", action="store_true", help="delete it (default: only say what)")
    _workspace_options(verb)

    verb = verbs.add_parser("doctor", help="check packages, data, disk and cluster before anything is queued")
    verb.add_argument("--track", default="embedded", metavar="NAME", help="whose data and machines (default: embedded)")
    verb.add_argument("--method", nargs="+", default=["all"], metavar="NAME", help="for the disk (default: all)")
    verb.add_argument("--seed", nargs="+", type=int, default=[0], metavar="N", help="likewise (default: 0)")
    _workspace_options(verb)
    group = _executor_options(verb)
    group.add_argument("--executor", metavar="NAME", help="auto (default), local or slurm")

    verb = verbs.add_parser("drill", help="interrupt a short job in every way and see that its results stay the same")
    verb.add_argument("--seed", type=int, default=0, metavar="N", help="of the steps to strike at (default: 0)")
    verb.add_argument("--times", type=int, default=2, metavar="N", help="interruptions in each way (default: 2)")
    verb.add_argument(
        "--stage",
        default="pretrain",
        metavar="NAME",
        help="pretrain (default), linear, finetune, detection or reid_finetune",
    )
    verb.add_argument(
        "--workspace", metavar="DIR", help="folder to make a throw-away folder in (default: ./repro-work)"
    )
    verb.add_argument("--cluster", metavar="NAME", help="profile of the SLURM cluster: a name, or FILE.toml")
    verb.add_argument(
        "--executor", metavar="NAME", help="auto (default: on SLURM too where it answers), local or slurm"
    )

    verb = verbs.add_parser("methods", help="list methods with paper, variants and tracks; --cost: what they cost")
    verb.add_argument("name", nargs="?", help="one method: its recipe on every track; with --cost: its variants")
    verb.add_argument("--cost", action="store_true", help="measure operations, updates and memory beside MoCo-v3")
    verb.add_argument("--track", metavar="NAME", help="with --cost: of the recipes of this track (default: embedded)")
    _workspace_options(verb)

    verb = verbs.add_parser("protocols", help="list the protocols of the evaluations and their values")
    verb.add_argument("which", nargs="?", metavar="KIND[=NAME]", help="one evaluation, or one of its protocols")

    verb = verbs.add_parser("bench", help="how fast pre-training and the evaluations are here, beside other ways")
    verb.add_argument("what", metavar="WHAT", help="pretrain or eval; eval takes only --seconds, --threads and --sizes")
    verb.add_argument("--method", nargs="+", default=[], metavar="NAME", help="NAME or NAME:VARIANT (default: all)")
    verb.add_argument("--track", metavar="NAME", help="whose recipes (default: mini)")
    verb.add_argument("--precision", nargs="+", default=[], metavar="NAME", help="fp32, bf16 or both (default)")
    verb.add_argument("--seconds", type=float, default=4.0, metavar="N", help="for each side of each row (default: 4)")
    verb.add_argument("--threads", type=int, metavar="N", help="threads of torch (default: as it chooses)")
    verb.add_argument("--sizes", metavar="NAME", help="of eval: small (default) or peers, of minutes a row")
    verb.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="TABLE.KEY=VALUE", help="change a recipe"
    )

    verb = verbs.add_parser("export", help="write a trained encoder under the keys of another library, and check it")
    verb.add_argument("--to", required=True, metavar="NAME", help="torchvision, timm, mmpretrain or safetensors")
    verb.add_argument("--out", required=True, metavar="FILE", help="file to write")
    verb.add_argument("--method", metavar="NAME", help="NAME or NAME:VARIANT that the workspace has pre-trained")
    verb.add_argument("--track", default="embedded", metavar="NAME", help="on this track (default: embedded)")
    verb.add_argument("--seed", type=int, default=0, metavar="N", help="with this seed (default: 0)")
    verb.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="TABLE.KEY=VALUE", help="with this change"
    )
    verb.add_argument("--processes", type=int, default=1, metavar="N", help="by so many together (default: 1)")
    verb.add_argument("--checkpoint", metavar="FILE", help="an encoder.pt instead of --method")
    _workspace_options(verb)

    verb = verbs.add_parser(
        "data",
        help="list, get, verify or prepare data sets",
        description="get downloads the official CIFAR archives into the data root if it is set, else into the"
        " workspace. An interrupted download continues where it stopped. For other data sets it prints where to get"
        " them and where to put them; its exit status is 1 while one is missing.",
    )
    verb.add_argument(
        "action", nargs="?", default="list", metavar="ACTION", help="list (default), get, verify or prepare"
    )
    verb.add_argument(
        "name",
        nargs="*",
        metavar="NAME",
        help="a data set; get: several, or tracks; prepare: or a folder of pictures",
    )
    verb.add_argument(
        "--size", type=int, default=256, metavar="PIXELS", help="prepare: side to decode to (default: 256)"
    )
    _workspace_options(verb)

    verb = verbs.add_parser("claims", help="list the papers' claims with their verdicts, or explain one")
    verb.add_argument("claim", nargs="?", metavar="ID", help="one claim: source, conditions, our test, what is missing")
    group = verb.add_argument_group("only claims")
    for name, words in CLAIM_FILTERS.items():
        group.add_argument(f"--{name}", metavar="NAME", help=words)
    _workspace_options(verb)

    verb = verbs.add_parser("gap", help="what a shortfall is due to: evaluation, pre-training or protocol")
    verb.add_argument("claim", metavar="ID", help="a claim that states a number")
    _workspace_options(verb)

    verb = verbs.add_parser("explain", help="walk from a cell of a board to what made it and how to do it again")
    verb.add_argument("cell", metavar="RECORD", help="what the cell links to, or a fingerprint's beginning")
    _workspace_options(verb)

    verb = verbs.add_parser("compare", help="two arms seed by seed, with mean differences and their intervals")
    verb.add_argument(
        "arms", nargs=2, metavar="ARM", help="NAME or NAME:VARIANT, with @EPOCHS or @RECIPE to choose: byol@15"
    )
    verb.add_argument("--track", default="embedded", metavar="NAME", help="embedded (default), mini, cifar, ...")
    verb.add_argument("--trust", nargs="+", default=[], metavar="NAME", help="also of author, self-reported records")
    _workspace_options(verb)

    verb = verbs.add_parser("verify", help="check all records and that the published boards are what theirs give")
    _workspace_options(verb)

    verb = verbs.add_parser("report", help="write boards and report anew from the records")
    verb.add_argument("--published", action="store_true", help="the repository's, from leaderboards/records alone")
    _workspace_options(verb)

    verb = verbs.add_parser("records", help="records as CSV, Parquet, LaTeX or model-index; records from elsewhere")
    verb.add_argument("action", nargs="?", default="export", metavar="ACTION", help="export (default) or import")
    verb.add_argument(
        "file", nargs="?", metavar="FILE", help="import: JSON, one record or a list of them; or .jsonl, one a line"
    )
    verb.add_argument("--to", metavar="NAME", help="export: csv, parquet, latex or model-index")
    verb.add_argument("--out", metavar="FILE", help="export: file to write")
    verb.add_argument("--method", nargs="+", metavar="NAME", help="export: only records of these methods")
    verb.add_argument("--track", metavar="NAME", help="export: only records of this track")
    verb.add_argument("--published", action="store_true", help="export: the repository's records, not the workspace's")
    verb.add_argument("--trust", metavar="NAME", help="import: self-reported, or author (made with authors' weights)")
    _workspace_options(verb)

    verb = verbs.add_parser("publish", help="copy chosen records into the repository and rebuild its boards")
    verb.add_argument("--method", nargs="+", metavar="NAME", help="only records of these methods")
    verb.add_argument("--track", metavar="NAME", help="only records of this track")
    _workspace_options(verb)
    return parser
