"""Records for other programs (`repro records --to ...`), and records from elsewhere (`repro records import`)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leaderboards import boards, claims, published
from leaderboards.arms import (
    MAIN_METRICS,
    ORIGINS,
    OURS,
    TRUST,
    Arm,
    arms,
    entry,
    kind_of,
    network_name,
    origin_of,
    trust_of,
)
from leaderboards.arms import Record as AnyRecord
from repro.errors import UserError, unknown
from repro.plan import recipes
from repro.plan.kinds import KINDS
from repro.plan.tracks import tracks
from repro.settings import Settings, require_writable
from repro.store import records
from repro.store.hashes import digest
from repro.store.records import Record
from repro.store.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd


def export(
    to: str, out: Path, methods: Sequence[str] | None, track: str | None, published_ones: bool, settings: Settings
) -> str:
    """Write the chosen records to `out`; returns what to tell the user.

    Args:
        to: csv, parquet, latex or model-index.
        methods: NAME or NAME:VARIANT; None for all.
        published_ones: the repository's records instead of the workspace's.

    Raises:
        UserError: unknown format, method or track; no record; no engine for Parquet; a file that cannot be written.
    """
    if to not in _FORMATS:
        raise unknown("format", to, _FORMATS)
    place = published.FOLDER / "records" if published_ones else Workspace(settings.workspace).records
    every, faults = records.read_all(place)
    chosen = choose(every, methods, track)
    if not chosen:
        raise UserError(f"no record in {place} fits; see python -m repro status")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        said = _FORMATS[to](chosen, every, out)
    except OSError as error:
        raise UserError(f"cannot write {out} ({error.strerror or error}); choose another file with --out") from None
    return "\n".join([*(f"passed over: {fault}" for fault in faults), f"wrote {out}: {said}"])


def choose(found: Sequence[Record], methods: Sequence[str] | None, track: str | None) -> list[Record]:
    """The records of these methods (NAME, NAME:VARIANT or NAME:imported) and of this track; None for all of them."""
    if track is not None and track not in tracks():
        raise unknown("track", track, tracks())
    imported = {f"{r['method']}:{r['variant']}": (r["method"], r["variant"]) for r in found if r["kind"] == "import"}
    wanted = {imported[name] if name in imported else _arm(name) for name in methods or []}
    return [
        record
        for record in found
        if (not wanted or (record["method"], record["variant"]) in wanted) and track in (None, record["track"])
    ]


def _arm(name: str) -> tuple[str, str]:
    info, variant = recipes.find(name)
    return info.name, variant


# --------------------------------------------------------------------------------------------------------------- tables

_PROVENANCE = ("commit", "dirty", "source_hash", "python", "device", "threads", "trials", "date")


def flat(record: Record, origin: AnyRecord | None) -> dict[str, Any]:
    """A record as one row: plain values under dotted names; lists as JSON.

    origin: its pre-training, whose recipe and network the row shows.
    """
    about = record["provenance"]
    protocol = record.get("protocol") or {}
    recipe = entry(origin or {}, "details", "recipe") or {}
    row = {
        "fingerprint": record["fingerprint"],
        "kind": record["kind"],
        "method": record["method"],
        "variant": record["variant"],
        "track": record["track"],
        "seed": record["seed"],
        "trust": trust_of(record, origin),
        "network": network_name(recipe.get("network")),
        "protocol": protocol.get("name", ""),
        "protocol_hash": protocol.get("hash", ""),
        "parents": " ".join(record.get("parents") or ()),
        **_under("metrics", record["metrics"]),
        **_under("cost", record["cost"]),
        **_under("provenance", {key: about.get(key) for key in _PROVENANCE}),
        **_under("data", about.get("data") or {}),
    }
    for table, values in sorted(recipe.items()):
        row |= _under(f"recipe.{table}", values)
    return row


def _under(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        f"{name}.{key}": json.dumps(value) if isinstance(value, list | dict) else value for key, value in values.items()
    }


def _frame(chosen: Sequence[Record], every: Sequence[Record]) -> pd.DataFrame:
    """One row a record. Columns keep the type of their values; where records disagree, it is text."""
    import pandas as pd

    by_mark = records.by_fingerprint(every)
    rows = [flat(record, origin_of(record, by_mark)) for record in chosen]
    order = ("metrics.", "cost.", "provenance.", "data.", "recipe.")
    names = list(dict.fromkeys(name for row in rows for name in row))
    names.sort(key=lambda name: next((i for i, part in enumerate(order, 1) if name.startswith(part)), 0))
    columns = {}
    for name in names:
        values = [row.get(name) for row in rows]
        kinds = {type(value) for value in values if value is not None}
        kind = kinds.pop() if len(kinds) == 1 else float if kinds == {int, float} else str
        columns[name] = pd.array([None if value is None else kind(value) for value in values], dtype=_COLUMNS[kind])
    return pd.DataFrame(columns)


_COLUMNS: Mapping[type, Any] = {bool: "boolean", int: "Int64", float: "Float64", str: "string"}


def _csv(chosen: Sequence[Record], every: Sequence[Record], out: Path) -> str:
    frame = _frame(chosen, every)
    records.write_atomic(out, frame.to_csv(index=False))
    return f"{len(frame)} records, {len(frame.columns)} columns"


def _parquet(chosen: Sequence[Record], every: Sequence[Record], out: Path) -> str:
    frame = _frame(chosen, every)
    try:
        frame.to_parquet(out, index=False)
    except ImportError:
        raise UserError("Parquet needs another package: pip install 'repro-ssl[parquet]'; or use --to csv") from None
    return f"{len(frame)} records, {len(frame.columns)} columns"


# ---------------------------------------------------------------------------------------------------------------- LaTeX

_NOT_ON_PAPER = ("optimism", "wall time", "peak memory", "device", "date", "from", "note", "updates", "image passes")


def _latex(chosen: Sequence[Record], every: Sequence[Record], out: Path) -> str:
    """The tables of the boards, each in an environment of its own."""
    from tabulate import tabulate

    content = boards.compose(_with_ancestors(chosen, every), claims.load(), lambda record: "")
    lines = ["% generated from records by `python -m repro records --to latex`; needs \\usepackage{booktabs}"]
    count = 0
    for board in (*content.evaluations, content.pretext, content.efficiency):
        for number, part in enumerate(board.tables, 1):
            rows = [{key: cell for key, cell in row.items() if key not in _NOT_ON_PAPER} for row in part.rows]
            above, heads, cells = boards.arranged(rows, part.lifted)
            drawn = tabulate(
                cells,
                headers=heads,
                tablefmt="latex_booktabs",
                colalign=["left" if boards.left_aligned(head) else "right" for head in heads],
                disable_numparse=True,
            )
            title = part.title if part.title.startswith(board.title) else f"{board.title}, {part.title}"
            about = "Mean ± sample standard deviation over n pre-trainings."
            caption = " ".join(filter(None, [f"{title}.", about, above, *part.under]))
            lines += [
                "",
                "\\begin{table}",
                "\\centering",
                f"\\caption{{{_typeset(caption)}}}",
                f"\\label{{tab:{board.name}-{number}}}",
                str(drawn).replace("±", "$\\pm$"),
                "\\end{table}",
            ]
            count += 1
    records.write_atomic(out, "\n".join(lines) + "\n")
    return f"{count} tables"


def _typeset(text: str) -> str:
    from tabulate import LATEX_ESCAPE_RULES

    return "".join(LATEX_ESCAPE_RULES.get(letter, letter) for letter in text).replace("±", "$\\pm$")


def _with_ancestors(chosen: Sequence[Record], every: Sequence[Record]) -> list[Record]:
    """The chosen records and the pre-trainings that they come from."""
    by_mark = records.by_fingerprint(every)
    found = {record["fingerprint"]: record for record in chosen}
    todo = list(chosen)
    while todo:
        for parent in todo.pop().get("parents") or ():
            if parent in by_mark and parent not in found:
                found[parent] = by_mark[parent]
                todo.append(by_mark[parent])
    return list(found.values())


# ---------------------------------------------------------------------------------------------------------- model index

_TASKS = {
    "knn": "k-NN Classification",
    "linear": "Linear Classification",
    "finetune": "Image Classification",
    "detection": "Object Detection",
    "segmentation": "Instance Segmentation",
    "reid": "Re-Identification",
    "reid_finetune": "Re-Identification",
}
_METRICS = {
    "top1": "Top 1 Accuracy",
    "top5": "Top 5 Accuracy",
    "bbox_AP": "box AP",
    "segm_AP": "mask AP",
    "rank1": "Rank-1",
    "mAP": "mAP",
}


def _model_index(chosen: Sequence[Record], every: Sequence[Record], out: Path) -> str:
    """A `model-index.yml` as the OpenMMLab repositories have: a collection a method, a model an arm or import."""
    import yaml

    found = _with_ancestors(chosen, every)
    wanted = {(record["method"], record["variant"]) for record in chosen}
    trained = [arm for kind in ORIGINS for arm in arms(found, kind) if (arm.method, arm.variant) in wanted]
    judged = [(name, arm) for name in MAIN_METRICS for arm in arms(found, kind_of(name))]
    known = recipes.methods()
    collections, models = [], []
    for method in sorted({arm.method for arm in trained}):
        mine = [arm for arm in trained if arm.method == method]
        collection: dict[str, Any] = {
            "Name": method,
            "Metadata": {
                "Training Data": sorted({arm.setting.source for arm in mine if not arm.imported}),
                "Architecture": sorted({arm.setting.network for arm in mine}),
            },
        }
        if method in known:
            info = known[method]
            collection["Paper"] = {"Title": info.title} | (
                {"URL": f"https://arxiv.org/abs/{info.arxiv}"} if info.arxiv else {}
            )
        collection["README"] = "README.md"
        collections.append(collection)
        models += [_model(arm, [pair for pair in judged if _comes_from(pair[1], arm)]) for arm in mine]
    text = yaml.safe_dump({"Collections": collections, "Models": models}, sort_keys=False, allow_unicode=True)
    records.write_atomic(out, text)
    return f"{len(collections)} collections, {len(models)} models"


def _comes_from(judged: Arm, trained: Arm) -> bool:
    marks = {record["fingerprint"] for record in trained.records.values()}
    return any(origin["fingerprint"] in marks for origin in judged.origins.values())


def _model(arm: Arm, judged: Sequence[tuple[str, Arm]]) -> dict[str, Any]:
    setting, first = arm.setting, next(iter(arm.records.values()))
    length = "" if setting.epochs is None else f"{setting.epochs}e"
    words = [arm.name, setting.network, length, setting.track, arm.told_apart]
    flops = list(arm.costs("flops").values())
    results = []
    for name, other in judged:
        means = {
            _METRICS[metric]: sum(values.values()) / len(values)
            for metric in dict.fromkeys((*MAIN_METRICS[name], "top5"))
            if metric in _METRICS and (values := other.values(metric))
        }
        if means:
            results.append({"Task": _TASKS[name], "Dataset": other.setting.source, "Metrics": means})
    metadata = {
        "Epochs": setting.epochs,
        "Batch Size": setting.batch,
        "Parameters": (first.get("details") or {}).get("parameters"),
        "Training FLOPs": sum(flops) / len(flops) if flops else None,
        "Training Data": None if arm.imported else setting.source,
        "Training Resources": None if arm.imported else first["provenance"].get("device"),
        "Seeds": sorted(arm.records),
        "Trust": None if arm.trust == OURS else arm.trust,
    }
    model = {
        "Name": re.sub(r"[^a-z0-9.]+", "-", " ".join(words).lower()).strip("-"),
        "In Collection": arm.method,
        "Metadata": {key: value for key, value in metadata.items() if value is not None},
        "Results": results or None,
    }
    ours = arm.method in recipes.methods() and not arm.imported
    return model | ({"Config": f"methods/recipes/{arm.method}.toml"} if ours else {})


_FORMATS: dict[str, Callable[[Sequence[Record], Sequence[Record], Path], str]] = {
    "csv": _csv,
    "parquet": _parquet,
    "latex": _latex,
    "model-index": _model_index,
}


# --------------------------------------------------------------------------------------------------------------- import

_FOREIGN = tuple(trust for trust in TRUST if trust != OURS)
_KEYS = (
    *("schema", "fingerprint", "kind", "method", "variant", "track", "seed", "parents", "protocol", "metrics", "cost"),
    *("provenance", "details", "artifacts"),
)


def bring_in(file: Path, trust: str, settings: Settings) -> str:
    """Write the records of a JSON file (one, or a list) to the workspace, marked with `trust`; what to tell the user.

    Every record gets a fingerprint of its own, made of what it says, so that none can stand in for a job of ours;
    parents are followed within the file. Artifacts, which lie on another machine, are left out.

    Raises:
        UserError: unknown trust, a file or record that is damaged or breaks an invariant. Nothing is written then.
    """
    if trust not in _FOREIGN:
        raise unknown("trust", trust, _FOREIGN)
    given = _read(file)
    marks = [str(record.get("fingerprint") or f"row {row}") for row, record in enumerate(given)]
    where = [f"{file}: record {row}" for row in range(1, len(given) + 1)]
    twice = next((i for i, mark in enumerate(marks) if mark in marks[:i]), None)
    if twice is not None:
        raise UserError(f"{where[twice]}: its fingerprint is used twice; give each record one of its own, or none")
    checked = {mark: _checked(record, trust, at) for mark, record, at in zip(marks, given, where, strict=True)}
    made: dict[str, Record] = {}
    lost = 0

    def make(mark: str, below: tuple[str, ...]) -> str:
        nonlocal lost
        if mark in below:
            raise UserError(f"{file}: record {mark[:12]} is its own ancestor; mend its parents")
        if mark not in made:
            record = checked[mark]
            parents = [parent for parent in record["parents"] if parent in checked]
            lost += len(record["parents"]) - len(parents)
            record["parents"] = [make(parent, (*below, mark)) for parent in parents]
            made[mark] = {**record, "fingerprint": digest({"imported": record})}
        return str(made[mark]["fingerprint"])

    for mark in checked:
        make(mark, ())
    for record, at in zip(made.values(), where, strict=True):
        faults = records.problems(record)
        if faults:
            raise UserError(f"{at}: {faults[0]}; mend it in the file")
    require_writable(settings.workspace)
    place = Workspace(settings.workspace).records
    new = sum(records.write(place, record)[1] for record in made.values())
    lines = [f"{new} records imported as {trust}, {len(made) - new} were there; they lie in {place}"]
    if lost:
        lines.append(f"{lost} parents are not in the file: what their recipes say shows as '-'")
    lines.append("boards show their trust, verdicts leave them out; now: python -m repro report")
    return "\n".join(lines)


def _read(file: Path) -> list[Record]:
    def no_constant(name: str) -> None:
        raise ValueError(f"{name} is no finite number")

    try:
        given = json.loads(file.read_text(encoding="utf-8"), parse_constant=no_constant)
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: cannot be read as JSON ({error})") from None
    found = given if isinstance(given, list) else [given]
    if not found or not all(isinstance(record, dict) for record in found):
        raise UserError(f"{file}: holds no record; give one JSON object, or a list of them")
    return found


def _checked(given: Record, trust: str, at: str) -> Record:
    """A record with all that ours have, as far as it is known, without its fingerprint."""
    for key in given:
        if key not in _KEYS:
            raise UserError(f"{at}: {unknown('key', key, _KEYS)}")
    for key in ("kind", "method", "track", "seed", "metrics"):
        if key not in given:
            raise UserError(f"{at}: key '{key}' is missing")
    schema = given.get("schema", 1)  # of what is written by hand no more is asked than of the oldest
    if not isinstance(schema, int) or not 1 <= schema <= records.SCHEMA:
        raise UserError(f"{at}: schema {schema!r} is none that this repro reads (1 to {records.SCHEMA})")
    kinds: Mapping[str, type] = {
        **dict.fromkeys(("kind", "method", "variant", "track"), str),
        **dict.fromkeys(("metrics", "cost", "provenance", "protocol", "details"), dict),
        "seed": int,
        "parents": list,
    }
    for key, kind in kinds.items():
        if key in given and (not isinstance(given[key], kind) or isinstance(given[key], bool)):
            raise UserError(f"{at}: {key} = {given[key]!r} must be {kind.__name__}")
    if given["kind"] not in KINDS:
        raise UserError(f"{at}: {unknown('kind', given['kind'], KINDS)}")
    if given["track"] not in tracks():
        raise UserError(f"{at}: {unknown('track', given['track'], tracks())}")
    for key in ("method", "variant"):
        if not re.fullmatch(r"[a-z0-9][a-z0-9_]*" if key == "method" else r"[a-z0-9_]*", given.get(key, "")):
            raise UserError(f"{at}: {key} '{given[key]}' must be of small letters, digits and underscores")
    if given["seed"] < 0:
        raise UserError(f"{at}: seed {given['seed']} is below 0")
    about = given.get("provenance", {})
    data = about.get("data")
    if not isinstance(data, dict) or not isinstance(data.get("name"), str):
        raise UserError(
            f"{at}: provenance.data.name is missing; say which pictures, as python -m repro data names them"
        )
    return {
        "schema": schema,
        "kind": given["kind"],
        "method": given["method"],
        "variant": given.get("variant", ""),
        "track": given["track"],
        "seed": given["seed"],
        "parents": [str(parent) for parent in given.get("parents", [])],
        "protocol": {"name": "", "hash": "", "values": {}, **given.get("protocol", {})},
        "metrics": given["metrics"],
        "cost": given.get("cost", {}),
        "provenance": {
            "commit": "unknown",
            "packages": {},
            **about,
            "data": {"source": data["name"], "manifest": "unknown", **data},
            "trust": trust,
        },
        "details": given.get("details", {}),
        "artifacts": {},
    }
