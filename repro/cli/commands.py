"""What each command does: take the options, call one function of a room, print. Each imports what it needs, when asked.

Every function takes the parsed options and returns the exit status.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from repro.cli.grammar_results import CLAIM_FILTERS
from repro.errors import UserError, printable, unknown

if TYPE_CHECKING:
    from repro.plan.request import Request
    from repro.run.live_boards import Views
    from repro.settings import Settings


def settings_of(options: argparse.Namespace) -> Settings:
    """What a command line says of where things are and how jobs run."""
    from repro import settings

    keys = ("workspace", "data_root", "executor", "cluster", "card", "cores", "memory_gb")
    return settings.load({key: getattr(options, key, None) for key in keys})


def request_of(options: argparse.Namespace, evaluations: Sequence[str] = ()) -> Request:
    """What a command line asks for."""
    from repro.plan.kinds import suites
    from repro.plan.request import Request

    if not evaluations and options.suite not in suites():
        raise unknown("suite", options.suite, suites())
    return Request(
        methods=tuple(getattr(options, "method", ())),
        track=options.track,
        evaluations=tuple(evaluations or options.eval or suites()[options.suite]),
        seeds=tuple(getattr(options, "seed", (0,))),
        data=options.data,
        overrides=tuple(options.set),
        protocols=tuple(options.protocol),
        processes=getattr(options, "processes", 1),
    )


def _views() -> Views:
    from repro.results.boards import write_boards
    from repro.results.end_of_run import finish
    from repro.run.live_boards import Views

    return Views(write_boards, finish)


# ------------------------------------------------------------------------------------------------------ plan and run


def run(options: argparse.Namespace) -> int:
    from repro.run import execute

    request, settings = request_of(options), settings_of(options)
    return execute.run(request, settings, options.words, _views(), options.budget, options.trim, options.yes)


def evaluate(options: argparse.Namespace) -> int:
    from repro.run import evaluate

    return evaluate.run(
        request_of(options),
        Path(options.checkpoint),
        settings_of(options),
        options.words,
        _views(),
        arch=options.arch,
        name=options.name,
        part=options.part,
        normalise=options.normalise,
        mean=options.mean,
        std=options.std,
        agreed=options.yes,
    )


def plan(options: argparse.Namespace) -> int:
    from repro.cli import tables
    from repro.plan import budget, cards, tuning
    from repro.plan.builder import make
    from repro.results import night, night_words
    from repro.run import submit

    request, settings = request_of(options), settings_of(options)
    tuning.refuse_kept(request.seeds)
    if options.card is not None:
        cards.find(options.card)  # UserError for an unknown one, also where it is ignored
    submit.require_profile(settings)
    hours = night.HOURS if options.night is None else night.checked(options.night)
    if options.calibrate is not None:
        from repro.measure import calibration

        print(calibration.calibrate(make(request, settings), settings, options.calibrate) + "\n")
    planned = budget.within(request, settings, options.budget, options.trim)
    print(tables.plan_table(planned, settings))
    if found := night.of(planned, settings, hours):
        print("\n" + night_words.words(found, planned, settings))
    elif options.night is not None:
        print("\n" + night_words.unused(planned))
    if options.card is not None and planned.card is None:
        print("\n" + night_words.for_gpus(planned, "--card"))
    return 0


def tune(options: argparse.Namespace) -> int:
    from repro.run import tune, tune_equal

    request = request_of(options, tune.EVALUATIONS)
    if options.equal:
        if options.trials or options.seed != [tune.SEED]:
            raise UserError("--equal has settings and seeds of its own; leave out --try and --seed")
        choices = {"write": options.write, "dry": options.dry_run}
        return tune_equal.tune(request, settings_of(options), options.words, options.yes, **choices)
    if options.write or options.dry_run:
        given = "--write" if options.write else "--dry-run"
        raise UserError(f"{given} works only with --equal; add --equal, or leave out {given}")
    return tune.tune(request, options.trials, settings_of(options), options.words, options.yes)


def status(options: argparse.Namespace) -> int:
    from repro.run import status

    if options.watch:
        status.watch(settings_of(options))
    else:
        print(status.status(settings_of(options)))
    return 0


def logs(options: argparse.Namespace) -> int:
    from repro.run import logs

    if options.follow:
        logs.follow(settings_of(options), options.task)
    else:
        print(logs.logs(settings_of(options), options.task))
    return 0


def cancel(options: argparse.Namespace) -> int:
    from repro.run import cancel_retry

    print(cancel_retry.cancel(settings_of(options), options.task))
    return 0


def retry(options: argparse.Namespace) -> int:
    from repro.run import cancel_retry

    return cancel_retry.retry(settings_of(options), options.task, _views())


def collect_garbage(options: argparse.Namespace) -> int:
    from repro.run import garbage

    print(garbage.clean(settings_of(options), options.delete))
    return 0


def doctor(options: argparse.Namespace) -> int:
    from repro.run import doctor

    def tell(finding: object) -> None:
        print(finding, flush=True)

    return 1 if doctor.examine(settings_of(options), options.track, options.method, options.seed, tell) else 0


def drill(options: argparse.Namespace) -> int:
    from repro.run import drill

    return drill.run(settings_of(options), options.seed, options.times, options.stage)


def gpu(options: argparse.Namespace) -> int:
    from repro.measure.gpu import check

    settings = settings_of(options)
    output = Path(options.output or os.environ.get("OUT") or settings.workspace)
    return check.run(settings, options.device, options.minutes, output, options.part, options.tests, options.threads)


# ---------------------------------------------------------------------------------------- what there is, how fast it is


def methods(options: argparse.Namespace) -> int:
    if options.cost:
        from repro.settings import require_temporary

        require_temporary()
        from repro.measure import cost

        print(cost.table(options.name, options.track or "embedded", settings_of(options)))
        return 0
    from repro.cli import tables

    if options.track:
        raise UserError("--track goes with --cost; a recipe is shown on all tracks")
    print(tables.method_recipe(options.name) if options.name else tables.methods_table())
    return 0


def protocols(options: argparse.Namespace) -> int:
    from repro.cli import tables

    print(tables.protocols_table(options.which))
    return 0


def bench(options: argparse.Namespace) -> int:
    from repro.cli import bench

    return bench.bench(options)


def data(options: argparse.Namespace) -> int:
    from repro.data import account, inventory, loading, packed, preparing, verifying
    from repro.data.data_sets import named
    from repro.terminal.counter import counter

    where = settings_of(options).where
    actions = ("list", "get", "verify", "prepare")
    if options.action not in actions:
        raise unknown("action of data", options.action, actions)
    if options.action == "list":
        from repro.cli import tables

        if options.name:
            raise UserError("data list takes no name", "it shows all data sets")
        print(tables.data_table(inventory.statuses(where), where))
        return 0
    if not options.name:
        raise UserError(f"name what to {options.action}: python -m repro data {options.action} NAME")
    if options.action == "get":
        from repro.run import missing_data

        return missing_data.get(options.name, where)
    if len(options.name) > 1:
        raise UserError(f"data {options.action} takes one name; {options.name[1]} is one too many")
    (name,) = options.name
    bar = counter(f"{options.action} {name}")
    if options.action == "verify":
        report = verifying.verify(name, where, bar)
        counts = ", ".join(f"{count:,} {split}" for split, count in report.counts.items())
        well = f"{report.name}: {report.files:,} files as they should be ({counts}) {report.note}".rstrip()
        print(printable(report.problem or well))
        return 0 if report.ok else 1
    entry = named(name)
    own = inventory.own_pictures(entry, where) if entry.own is not None else None
    path = preparing.prepare(name, where, size=options.size, progress=bar)
    if entry.kind == "detection":
        for line in loading.coco_set(name, where, progress=bar).remarks:
            print(printable(line))
        print(f"checked, to be read from {_short(path)}")
        return 0
    print(f"decoded to {_short(path)}")
    for line in packed.remarks(path):
        print(line)
    if own:
        print(account.words(own.account))
    return 0


def _short(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def export(options: argparse.Namespace) -> int:
    from repro.weights import libraries

    libraries.require(options.to)
    if (options.method is None) == (options.checkpoint is None):
        raise UserError("say what to export: either --method NAME or --checkpoint FILE")
    source = Path(options.checkpoint) if options.checkpoint is not None else _trained(options)
    from repro.weights import export

    print(export.write(source, options.to, Path(options.out)))
    return 0


def _trained(options: argparse.Namespace) -> Path:
    """The encoder that the workspace has of that pre-training; UserError with the command that makes it."""
    from repro.plan import registry
    from repro.plan.pretrained import pretraining

    method, track, seed, settings = options.method, options.track, options.seed, settings_of(options)
    registry.find(method)
    if settings.workspace.is_dir():  # planning would make it, to keep what it learns of the data
        _, path = pretraining(method, track, seed, options.set, settings, options.processes)
        if path.is_file():
            return path
    change = f" --processes {options.processes}" if options.processes > 1 else ""
    change += f" --set {' '.join(options.set)}" if options.set else ""
    raise UserError(
        f"{settings.workspace} has no encoder of {method} on {track} with seed {seed} by this recipe and code;"
        f" make it with: python -m repro run --method {method} --track {track} --seed {seed} --suite quick{change}"
    )


# -------------------------------------------------------------------------------------------------------------- results


def claims(options: argparse.Namespace) -> int:
    from repro.results import claim_listing, claim_page

    wanted = {name: getattr(options, name) for name in CLAIM_FILTERS if getattr(options, name) is not None}
    if options.claim is None:
        outcome = wanted.pop("outcome", None)
        print(claim_listing.listing(settings_of(options), wanted, outcome))
        return 0
    if wanted:
        raise UserError(f"{options.claim} is one claim; leave out --{next(iter(wanted))}, or the claim")
    print(claim_page.explain(settings_of(options), options.claim))
    return 0


def parse(words: Sequence[str]) -> Request:
    """The words of a command `run`, without `python -m repro`, as a request."""
    from repro.cli.grammar import build_parser

    return request_of(build_parser().parse_args(list(words)))


def gap(options: argparse.Namespace) -> int:
    from repro.results import gap

    print(gap.shortfall(settings_of(options), options.claim))
    return 0


def explain(options: argparse.Namespace) -> int:
    from repro.results.explain import explain

    print(explain(options.cell, settings_of(options)))
    return 0


def compare(options: argparse.Namespace) -> int:
    from repro.results.compare import compare

    print(compare(options.arms[0], options.arms[1], options.track, settings_of(options), options.trust))
    return 0


def verify(options: argparse.Namespace) -> int:
    from repro.results.verify import verify

    text, faults = verify(settings_of(options))
    print(text)
    return 1 if faults else 0


def report(options: argparse.Namespace) -> int:
    from repro.results import boards, export_report, publish

    if options.export is not None:
        if not options.export.strip():
            raise UserError("--export needs the name of a folder, for example --export tables")
        print(export_report.export_report(Path(options.export), options.published, settings_of(options)))
        return 0
    print(publish.report_published() if options.published else boards.report(settings_of(options)))
    return 0


def records(options: argparse.Namespace) -> int:
    from repro.results import export, import_records

    if options.action == "import":
        if options.file is None:
            raise UserError("name the file to import: python -m repro records import FILE --trust NAME")
        file, settings = Path(options.file), settings_of(options)
        print(import_records.bring_in(file, options.trust, settings, parse, options.lab))
        return 0
    if options.action != "export":
        raise unknown("action of records", options.action, ("export", "import"))
    if options.to is None or options.out is None:
        raise UserError("say what to write and where: python -m repro records --to NAME --out FILE")
    out = Path(options.out)
    print(export.export(options.to, out, options.method, options.track, options.published, settings_of(options)))
    return 0


def publish(options: argparse.Namespace) -> int:
    from repro.results import publish

    print(publish.publish(settings_of(options), options.method, options.track))
    return 0
