"""The grammar of the command line: commands, their options and what `--help` says of them."""

from __future__ import annotations

import argparse

from repro import __version__
from repro.cli.grammar_results import add_results
from repro.cli.options import TRACKS, executor_choice, executor_options, workspace_options
from repro.cli.parser import Parser, Wrapped, command, number, whole

_EXAMPLES = """examples:
  handwritten digits, no download, minutes:
    python -m repro run --method aps
  three methods on CIFAR-10, which is in DIR:
    python -m repro run --method aps moco_v3 random:vit --track mini \\
      --data-root DIR
  download CIFAR-10:
    python -m repro data get mini
  number of jobs, time and disk, without running anything:
    python -m repro plan --method aps --track imagenet
  change values of a recipe or a protocol:
    python -m repro run --method aps --set pretrain.epochs=2 'knn.ks=[1,5]'
  evaluate an author's weights:
    python -m repro eval --checkpoint r50.pth --arch resnet50 --track mini
"""


def _request_options(
    parser: argparse.ArgumentParser, *, trains: bool = True, evaluations: bool = True, seed: int = 0, note: str = ""
) -> None:
    if trains:
        parser.add_argument(
            "--method",
            nargs="+",
            required=True,
            metavar="NAME",
            help="NAME, NAME:VARIANT, FILE.toml or all (python -m repro methods)",
        )
    parser.add_argument("--track", default="embedded", metavar="NAME", help=TRACKS)
    if evaluations:
        choice = parser.add_mutually_exclusive_group()
        choice.add_argument(
            "--suite",
            default="full",
            metavar="NAME",
            help="evaluations: full (default, all but reid_finetune) or quick (k-NN and linear)",
        )
        choice.add_argument(
            "--eval",
            nargs="+",
            metavar="NAME",
            help="single evaluations instead of a suite: knn, linear, finetune, detection, segmentation, reid,"
            " reid_finetune",
        )
    if trains:
        parser.add_argument(
            "--seed",
            nargs="+",
            type=whole,
            default=[seed],
            metavar="N",
            help=f"seeds; one run for each (default: {seed}{note})",
        )
        parser.add_argument(
            "--processes",
            type=whole,
            default=1,
            metavar="N",
            help="GPUs (or processes) per pre-training (default: 1)",
        )
    what = "pre-train and evaluate on" if trains else "evaluate on"
    used = f"images to {what}{' (k-NN, linear, fine-tuning)' if evaluations else ''}"
    parser.add_argument("--data", metavar="NAME", help=f"{used}: a data set, or a folder with one subfolder per class")
    parser.add_argument(
        "--protocol",
        nargs="+",
        action="extend",
        default=[],
        metavar="EVALUATION=NAME",
        help="how to evaluate, for example linear=fast or linear=fast,glnet (python -m repro protocols)",
    )
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="TABLE.KEY=VALUE",
        help="change a value of a recipe or a protocol, for example pretrain.epochs=10 or 'knn.ks=[1,5]'",
    )
    workspace_options(parser)
    group = executor_options(parser)
    executor_choice(group)


def _download_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--yes", action="store_true", help="download missing data without asking")


def _budget_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how much")
    group.add_argument(
        "--budget",
        metavar="AMOUNT",
        help="refuse plans above this estimate: 2h or 90min (sum of the times of all jobs), or 12gpuh (GPU-hours)",
    )
    group.add_argument(
        "--trim", action="store_true", help="with --budget: drop the last seeds, then evaluations, until the plan fits"
    )
    group.add_argument(
        "--card", metavar="NAME", help="GPU to estimate for, by name or memory, for example rtx4090 or 24GB"
    )


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = Parser(
        prog="repro",
        description="Test whether claims of papers on efficient self-supervised pre-training hold.",
        epilog=_EXAMPLES,
        formatter_class=Wrapped,
    )
    parser.add_argument("--version", action="version", version=f"repro {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="COMMAND", required=True)

    verb = command(
        verbs,
        "run",
        help="pre-train and evaluate; run only jobs without a result",
        description="Pre-train and evaluate methods. Jobs that have a result are not run again. The results are printed"
        " as a table and written as boards into the workspace.",
        examples="run --method aps moco_v3 --track mini --seed 0 1",
    )
    _request_options(verb)
    _budget_options(verb)
    _download_option(verb)
    verb = command(
        verbs,
        "eval",
        help="evaluate weights from a file: ours, torchvision's, timm's, ...",
        description="Evaluate weights from a file under the same protocols as run. To evaluate the untrained or the"
        " supervised network, use run --method random supervised (random:vit: the untrained ViT).",
        examples="eval --checkpoint r50.pth --arch resnet50 --track mini",
    )
    verb.add_argument("--checkpoint", required=True, metavar="FILE", help="a PyTorch or safetensors file")
    verb.add_argument(
        "--arch",
        metavar="NAME",
        help="network: resnet18, resnet34, resnet50; for small images resnet18-cifar, resnet34-cifar, resnet50-cifar;"
        " vit_tiny, vit_small or vit_base. Required, unless repro wrote the file",
    )
    verb.add_argument("--name", metavar="NAME", help="name on the boards (default: the name of the file)")
    verb.add_argument("--part", metavar="PREFIX", help="prefix of the keys to use if the file holds several networks")
    verb.add_argument(
        "--normalise",
        metavar="NAME",
        help="pixel normalisation: imagenet, data or file (default: as stated in the file, else imagenet)",
    )
    verb.add_argument("--mean", metavar="R,G,B", help="mean of pixels in [0, 1]; with --std, instead of --normalise")
    verb.add_argument("--std", metavar="R,G,B", help="standard deviation of pixels, for example 0.228,0.224,0.225")
    _request_options(verb, trains=False)
    _download_option(verb)
    verb = command(
        verbs,
        "plan",
        help="show jobs, estimated time and disk; run nothing",
        description="Show what run would do with the same options: jobs, estimated time, memory and disk. Nothing is"
        " run.",
        examples="plan --method all --track cifar --card rtx4090",
    )
    _request_options(verb)
    _budget_options(verb)
    verb.add_argument(
        "--calibrate",
        nargs="?",
        type=number,
        const=20.0,
        metavar="SECONDS",
        help="measure each kind of job on this machine (default: 20 seconds in all) and estimate from that",
    )
    verb.add_argument(
        "--night",
        type=number,
        metavar="HOURS",
        help="on tracks that need a GPU: show which comparisons one GPU can finish in this many hours (default: 10)",
    )
    verb = command(
        verbs,
        "tune",
        help="try settings of a recipe, evaluated on held-out training images",
        description="Try settings of a recipe. They are evaluated on held-out training images, never on test"
        " images. Without --try and --equal it runs one trial, the recipe as it is.",
        examples="tune --method byol --try pretrain.lr=0.5 --try pretrain.lr=2",
    )
    _request_options(verb, evaluations=False, seed=100, note="; run does not accept seeds used for tuning")
    verb.add_argument(
        "--try",
        dest="trials",
        nargs="+",
        action="append",
        default=[],
        metavar="TABLE.KEY=VALUE",
        help="the changes of one trial; repeat the option for more trials",
    )
    verb.add_argument(
        "--equal", action="store_true", help="the same search for every method; methods/tuning.toml lists the changes"
    )
    verb.add_argument(
        "--write", action="store_true", help="with --equal: write the chosen settings into the recipe files"
    )
    verb.add_argument("--dry-run", action="store_true", help="with --equal: run nothing; print how long it takes")
    _download_option(verb)
    verb = command(verbs, "status", help="show the progress of all tasks of a workspace")
    verb.add_argument("--watch", action="store_true", help="repeat every few seconds until all tasks have ended")
    workspace_options(verb)
    verb = command(verbs, "logs", help="show the last lines of the log of a task")
    verb.add_argument("task", metavar="TASK", help="task as printed by status, or a SLURM job number")
    verb.add_argument("--follow", action="store_true", help="keep printing new lines until the task ends")
    workspace_options(verb)
    verb = command(verbs, "cancel", help="stop queued and running tasks; checkpoints are kept")
    verb.add_argument(
        "task",
        nargs="*",
        metavar="TASK",
        help="task as printed by status, RUN or a SLURM job number (default: ALL tasks of the workspace)",
    )
    workspace_options(verb)
    verb = command(verbs, "retry", help="run failed tasks again, and the tasks that wait for them")
    verb.add_argument(
        "task",
        nargs="*",
        metavar="TASK",
        help="task as printed by status, RUN or a SLURM job number (default: all that failed)",
    )
    workspace_options(verb)
    executor_options(verb)

    verb = command(verbs, "gc", help="list files that can be deleted safely")
    verb.add_argument("--delete", action="store_true", help="delete them (default: only list them)")
    workspace_options(verb)

    verb = command(verbs, "doctor", help="check packages, data, disk, GPUs and cluster")
    verb.add_argument(
        "--track",
        default="embedded",
        metavar="NAME",
        help="track whose data and hardware needs are checked (default: embedded)",
    )
    verb.add_argument(
        "--method",
        nargs="+",
        default=["all"],
        metavar="NAME",
        help="methods used to estimate disk space (default: all)",
    )
    verb.add_argument(
        "--seed", nargs="+", type=whole, default=[0], metavar="N", help="seeds used to estimate disk space (default: 0)"
    )
    workspace_options(verb)
    group = executor_options(verb)
    executor_choice(group)

    verb = command(
        verbs,
        "drill",
        help="test recovery from crashes: interrupt a short job in many ways",
        examples="drill --stage linear --times 5",
    )
    verb.add_argument(
        "--seed",
        type=whole,
        default=0,
        metavar="N",
        help="seed of the random steps at which it interrupts (default: 0)",
    )
    verb.add_argument("--times", type=whole, default=2, metavar="N", help="interruptions of each kind (default: 2)")
    verb.add_argument(
        "--stage",
        default="pretrain",
        metavar="NAME",
        help="pretrain (default), linear, finetune, detection or reid_finetune",
    )
    verb.add_argument(
        "--workspace", metavar="DIR", help="folder in which it makes a temporary folder (default: ./repro-work)"
    )
    verb.add_argument(
        "--cluster", metavar="NAME", help="SLURM profile: a name or FILE.toml (default: the one named default)"
    )
    verb.add_argument(
        "--executor",
        metavar="NAME",
        help="local, slurm, or auto (default: on this machine, and on SLURM if there is one)",
    )

    verb = command(verbs, "gpu", help="check a GPU in eight minutes: results, speed, memory, resumed training")
    verb.add_argument(
        "--minutes", type=number, default=8.0, metavar="N", help="time for all parts together (default: 8)"
    )
    verb.add_argument(
        "--device", default="cuda", metavar="NAME", help="cuda (default), or cpu (the same checks with small sizes)"
    )
    verb.add_argument(
        "--part",
        nargs="+",
        default=[],
        metavar="NAME",
        help="parts to run: stages, agreement, precision, speed, memory, resume, training (default: all)",
    )
    verb.add_argument(
        "--tests",
        nargs="+",
        default=[],
        metavar="FILE",
        help="test files to run with pytest (default: the tests of the stages)",
    )
    verb.add_argument("--threads", type=whole, metavar="N", help="threads of torch (default: all cores; with cpu: 1)")
    verb.add_argument("--output", metavar="DIR", help="folder for results (default: $OUT, else the workspace)")
    workspace_options(verb)

    verb = command(verbs, "methods", help="list methods, their papers and variants, or print a recipe")
    verb.add_argument(
        "name", nargs="?", help="method whose recipe is printed, on every track; with --cost: measure its variants"
    )
    verb.add_argument(
        "--cost", action="store_true", help="measure operations (FLOPs), updates and memory, relative to MoCo-v3"
    )
    verb.add_argument("--track", metavar="NAME", help="with --cost: track of the recipes (default: embedded)")
    workspace_options(verb)

    verb = command(verbs, "protocols", help="list the protocols of the evaluations")
    verb.add_argument(
        "which",
        nargs="?",
        metavar="KIND[=NAME]",
        help="an evaluation, or one of its protocols, for example linear=glnet",
    )

    verb = command(
        verbs,
        "bench",
        help="measure the speed of pre-training and evaluations on this machine",
        examples="bench pretrain --method aps moco_v3 --track cifar",
    )
    verb.add_argument(
        "what",
        metavar="WHAT",
        help="pretrain (training steps), tried (our training step against variants of it), eval (evaluations), or"
        " exchange (gradient all-reduce between processes)",
    )
    verb.add_argument("--method", nargs="+", default=[], metavar="NAME", help="NAME or NAME:VARIANT (default: all)")
    verb.add_argument("--track", metavar="NAME", help="track of the recipes (default: mini)")
    verb.add_argument(
        "--precision",
        nargs="+",
        default=[],
        metavar="NAME",
        help="fp32, bf16 or both (default: both; with tried: bf16)",
    )
    verb.add_argument("--compile", action="store_true", help="with tried: also measure torch.compile (takes minutes)")
    verb.add_argument(
        "--seconds", type=number, default=4.0, metavar="N", help="seconds for each measurement (default: 4)"
    )
    verb.add_argument("--threads", type=whole, metavar="N", help="threads of torch (default: torch decides)")
    verb.add_argument(
        "--processes", type=whole, metavar="N", help="with exchange: processes that train together (default: 2)"
    )
    verb.add_argument("--sizes", metavar="NAME", help="with eval: small (default), or peers (larger; minutes per row)")
    verb.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="TABLE.KEY=VALUE", help="change a value of the recipes"
    )

    verb = command(verbs, "export", help="write a trained encoder for another library")
    verb.add_argument("--to", required=True, metavar="NAME", help="torchvision, timm, mmpretrain or safetensors")
    verb.add_argument("--out", required=True, metavar="FILE", help="file to write")
    verb.add_argument("--method", metavar="NAME", help="NAME or NAME:VARIANT that was pre-trained in this workspace")
    verb.add_argument(
        "--track", default="embedded", metavar="NAME", help="track it was pre-trained on (default: embedded)"
    )
    verb.add_argument("--seed", type=whole, default=0, metavar="N", help="seed of the pre-training (default: 0)")
    verb.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="TABLE.KEY=VALUE",
        help="the same --set as in its run",
    )
    verb.add_argument(
        "--processes", type=whole, default=1, metavar="N", help="the same --processes as in its run (default: 1)"
    )
    verb.add_argument("--checkpoint", metavar="FILE", help="an encoder.pt file, instead of --method")
    workspace_options(verb)

    verb = command(
        verbs,
        "data",
        help="list, download, verify or prepare data sets",
        description="List, download, verify or prepare data sets. list shows every data set and whether it is there."
        " get downloads the official CIFAR archives into the data root if it is set, else into the workspace. An"
        " interrupted download continues where it stopped. For other data sets get prints where to get them and where"
        " to put them; its exit status is 1 while one is missing. verify compares the files with their checksums."
        " prepare decodes the images once, before the first run needs them; of a detection data set it checks the"
        " annotations.",
        examples="data get mini",
    )
    verb.add_argument(
        "action", nargs="?", default="list", metavar="ACTION", help="list (default), get, verify or prepare"
    )
    verb.add_argument(
        "name",
        nargs="*",
        metavar="NAME",
        help="a data set; with get: data sets or tracks; with prepare: also a folder of images",
    )
    verb.add_argument(
        "--size",
        type=whole,
        default=256,
        metavar="PIXELS",
        help="with prepare: side of the decoded images (default: 256)",
    )
    workspace_options(verb)

    add_results(verbs)
    return parser
