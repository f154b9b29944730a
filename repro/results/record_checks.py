"""Whether records agree with themselves and with the records before them.

Every rule recomputes what a record says from something else that it or another record holds; where either is missing,
as in numbers from elsewhere, the rule says nothing.
"""

from __future__ import annotations

import base64
import datetime
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from eval import scores
from leaderboards.record_fields import COUNTED, entry, last_attempt_only, number, trust_of
from repro.plan import kinds
from repro.store import records
from repro.store.records import Record

_LAST_ATTEMPT_ONLY = frozenset({"ba9289fbf6cc", "996a06bacd1a", "e285eb6877b0", "dfeb36b12f8c"})
"""Beginnings of fingerprints: trainings recorded before jobs kept the seconds of all their attempts."""
_UNEXPECTED = (TypeError, ValueError, LookupError, ArithmeticError, AttributeError)
_EARLIEST = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
_CLOCKS = datetime.timedelta(hours=1)  # that the clocks of two machines may differ
_SLACK = 1e-6
_ROUNDING = 0.0015  # seconds: costs are rounded to thousandths
_NESTING = 0.02  # of AP50: what is found at a strict threshold is found at a loose one, but for rare ties


@dataclass(frozen=True)
class _Family:
    """The records of one folder, by fingerprint, and those that come from each."""

    known: Mapping[str, Record]
    children: Mapping[str, Sequence[Record]]


def contradictions(found: Sequence[Record]) -> Iterator[tuple[Record, str]]:
    """Each contradiction among records whose metrics are in order: where it is, and in words what it is."""
    known, children = records.by_fingerprint(found), defaultdict(list)
    for record in found:
        for parent in record.get("parents") or ():
            children[parent].append(record)
    family = _Family(known, children)
    for record in found:
        for rule in _RULES:
            try:
                yield from [(record, fault) for fault in rule(record, family)]
            except _UNEXPECTED as error:  # of records from elsewhere, whose details are anything
                lacks = f", or lacks {error}"[:80] if isinstance(error, KeyError) else ""
                yield record, f"its {rule.__name__.strip('_')} cannot be checked, an entry is of another form{lacks}"


def own_contradictions(record: Record) -> list[str]:
    """What `contradictions` finds in a record alone, without those before and after it."""
    return [fault for _, fault in contradictions([{**record, "parents": []}])]


def _ancestry(record: Record, family: _Family) -> Iterator[str]:
    absent = [parent[:12] for parent in record.get("parents") or () if parent not in family.known]
    if absent:
        yield f"the job before it, {', '.join(absent)}, left no record here"
    for parent in (family.known[name] for name in record.get("parents") or () if name in family.known):
        for key in ("method", "variant", "track", "seed"):
            if record[key] != parent[key]:
                yield f"{key} is {record[key]!r}, but {parent[key]!r} in the job before it"
        first, then = _date(parent), _date(record)
        if first and then and then < first - _CLOCKS:
            yield f"it is of {then:%Y-%m-%d %H:%M}, the job before it of {first:%Y-%m-%d %H:%M}"
        if parent["kind"] == "features":
            judged, extracted = (entry(one, "details", "checkpoint") for one in (record, parent))
            if judged and extracted and judged != extracted:
                yield "it evaluated another checkpoint than the one its features come from"
            passes = entry(parent, "cost", "image_passes")
            counts = [entry(record, "details", key) for key in ("n_train", "n_test")]
            if passes and None not in counts and sum(counts) != passes:
                yield f"{' + '.join(map(str, counts))} images, but features of {passes}"


def _date(record: Record) -> datetime.datetime | None:
    try:
        found = datetime.datetime.fromisoformat(record["provenance"]["date"])
    except (KeyError, TypeError, ValueError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=datetime.UTC)


def _dated(record: Record, _: _Family) -> Iterator[str]:
    stated, date = entry(record, "provenance", "date"), _date(record)
    if stated is not None and date is None:
        yield f"date {stated!r:.80} is not a date; write it as 2026-01-31T12:00:00+00:00"
    elif date and not _EARLIEST <= date <= datetime.datetime.now(datetime.UTC) + _CLOCKS:
        yield f"date {stated} is in the future or before 2020"


def _protocol(record: Record, _: _Family) -> Iterator[str]:
    stated = record.get("protocol") or {}
    if record["kind"] in kinds.KINDS and stated.get("values") and stated.get("hash"):
        given = records.protocol_of(record["kind"], stated.get("name", ""), stated["values"])["hash"]
        if given != stated["hash"]:
            yield f"the protocol's hash is {stated['hash']}, but its values give {given}"


def _trials(record: Record, _: _Family) -> Iterator[str]:
    trials = entry(record, "provenance", "trials")
    wanted = entry(record, "details", "recipe", "pretrain", "tuning_trials") if record["kind"] == "pretrain" else 0
    if trials is not None and trust_of(record) in COUNTED and trials != (wanted or 0):
        yield f"trials is {trials}, but its recipe says {wanted or 0}"


def _training(record: Record, family: _Family) -> Iterator[str]:
    """Operations, passes and updates of a pre-training: from its recipe, its curve and the pictures there were."""
    if record["kind"] != "pretrain":
        return
    flops, a_picture, passes, updates, device = (
        number(record["cost"], key) for key in ("flops", "flops_per_image", "image_passes", "updates", "device_s")
    )
    made = None if a_picture is None or passes is None else a_picture * passes
    if flops is not None and made is not None and abs(flops - made) > 1e-9 * made:
        yield f"flops is {flops:g}, but {a_picture:g} an image in {passes:g} passes make {made:g}"
    epochs, batch = (number(entry(record, "details", "recipe", "pretrain"), key) for key in ("epochs", "batch"))
    if epochs is None or not batch:
        return
    if passes:
        pictures = {
            entry(judged, "details", "n_train")
            for features in family.children.get(record["fingerprint"], ())
            if features["kind"] == "features" and _manifest(features) == _manifest(record)
            for judged in family.children.get(features["fingerprint"], ())
        }
        whole = {epochs * batch * (count // batch) for count in pictures if isinstance(count, int)}
        if not epochs or passes % (epochs * batch) or (whole and whole != {passes}):
            yield f"image_passes is {passes:g}, which {epochs:g} epochs in batches of {batch:g} do not make"
        elif updates and updates % (passes / batch):
            yield f"updates is {updates:g}, which {passes / batch:g} batches do not make"
    curve = entry(record, "details", "knn_curve")
    if curve and len(curve[-1]) == 5:
        last_epoch, last_update, seconds, operations, _ = curve[-1]
        ends = (("epochs", epochs, last_epoch), ("updates", updates, last_update), ("flops", flops, operations))
        for key, stated, last in ends:
            if stated is not None and abs(stated - last) > 1e-9 * abs(last):
                yield f"{key} is {stated:g}, but its curve ends after {last:g}"
        if device is not None and seconds > device / (entry(record, "provenance", "processes") or 1) + _ROUNDING:
            yield f"device_s is {device:g}, but its curve ends after {seconds:g} s"


def _manifest(record: Record) -> object:
    return entry(record, "provenance", "data", "manifest")


def known_short(record: Record) -> bool:
    """Whether it is one of the four whose seconds are known to be of their last attempt alone."""
    return record["fingerprint"][:12] in _LAST_ATTEMPT_ONLY and last_attempt_only(record)


def _seconds(record: Record, _: _Family) -> Iterator[str]:
    wall, device, cpu = (number(record["cost"], key) for key in ("wall_s", "device_s", "cpu_s"))
    if wall is None:
        return
    processes = entry(record, "provenance", "processes") or 1
    if device is not None and record["kind"] != "pretrain" and abs(device - wall * processes) > _ROUNDING * processes:
        yield f"wall_s is {wall:g}, but device_s {device:g}"
    elif last_attempt_only(record) and not known_short(record):
        yield f"wall_s is {wall:g}, less than its device_s of {device:g} on {processes} at a time"
    cores = re.match(r"CPU \(.*, (\d+) cores\)", str(entry(record, "provenance", "device")))
    if cpu is not None and cores and cpu > 1.01 * wall * int(cores[1]) + 0.1:
        yield f"cpu_s is {cpu:g}, more than {cores[1]} cores have in {wall:g} s"


def _counted(record: Record) -> str:
    """The metric that the packed flags of right answers must give again, "" where there are none."""
    kind = kinds.KINDS.get(record["kind"])
    return kind.evaluations[0].metrics[0] if kind and kind.judges else ""


def _answers(record: Record, _: _Family) -> Iterator[str]:
    """Metrics from the packed right answers, and what follows from them."""
    metrics, details = record["metrics"], record.get("details", {})
    name = _counted(record)
    total = details.get("n_query", details.get("n_test"))
    if name and isinstance(details.get("correct"), str) and isinstance(total, int):
        try:
            room = 8 * len(base64.b64decode(details["correct"]))
        except ValueError:  # binascii.Error is one
            yield "its right answers, details.correct, are not base64"
            return
        if not room - 8 < total <= room or total < 1:
            yield f"{total} images, but right answers of {room - 7} to {room}"
            return
        counted = scores.percent(scores.unpack(details["correct"], total))
        if abs(counted - metrics[name]) > _SLACK:
            yield f"{name} is {metrics[name]:g}, but its right answers count {counted:g}"
        error = scores.standard_error(metrics[name], total)
        if abs(details.get("standard_error", error) - error) > _SLACK:
            yield f"standard_error is {details['standard_error']:g}, but that of {name} is {error:g}"
    if "optimism" in metrics and abs(metrics["top1_best_on_test"] - metrics["top1"] - metrics["optimism"]) > _SLACK:
        yield "optimism is not best-on-test less what is reported"


def _selection(record: Record, _: _Family) -> Iterator[str]:
    """What was chosen among k, epochs or draws, from the values that it was chosen among."""
    metrics, details = record["metrics"], record.get("details", {})
    by_k = {key: value for key, value in metrics.items() if re.fullmatch(r"top1_k\d+", key)}
    if record["kind"] == "knn" and by_k and "k" in details:
        if metrics["top1"] != by_k.get(f"top1_k{details['k']}"):
            yield f"top1 is {metrics['top1']:g}, not that of the chosen k = {details['k']}"
        if metrics.get("top1_best_on_test", max(by_k.values())) != max(by_k.values()):
            yield "top1_best_on_test is not the best of all k"
        held_out = details.get("split_top1") or {}
        if held_out and held_out.get(str(details["k"])) != max(held_out.values()):
            yield f"k = {details['k']} is not the best on the images held out"
    last = details.get("test_top1_last_epoch")
    if last and metrics.get("top1_best_on_test", max(last)) < max(last) - _SLACK:
        yield "top1_best_on_test is below what the last epoch gave"
    for name, draws in (details.get("low_shot") or {}).items():
        if isinstance(draws, str):  # why there are none
            continue
        if not draws:
            yield f"details.low_shot.{name:.80} holds no draws"
            continue
        mean = sum(draw["top1"] for draw in draws) / len(draws)
        if abs(metrics.get(f"top1_{name}", mean) - mean) > _SLACK:
            yield f"top1_{name} is {metrics[f'top1_{name}']:g}, but its draws have a mean of {mean:g}"


def _ranking(record: Record, _: _Family) -> Iterator[str]:
    """Bounds of mAP.

    At a hit at rank r the trapezoid rule takes away (r - i) / 2 r (r - 1) for the i-th hit: nothing for one at rank 1,
    at most 1/4 for a first one below it, at most 1/12 for the others. Values in [0, 100] with a mean of m have a
    standard deviation of at most sqrt(m (100 - m)).
    """
    metrics, details = record["metrics"], record.get("details", {})
    if {"mAP", "mAP_trapezoid", "rank1"} <= metrics.keys():
        first = metrics["rank1"] / 100
        most = metrics["mAP_trapezoid"] + 25 * (1 - first) + 25 / 3 * first
        if metrics["mAP"] > most + _SLACK:
            yield f"mAP is {metrics['mAP']:g}, above {most:g}, the most that its mAP_trapezoid allows"
    if {"standard_error_mAP", "n_query"} <= details.keys():
        most = scores.standard_error(metrics["mAP"], details["n_query"])
        if details["standard_error_mAP"] > most + _SLACK:
            yield f"mAP is {metrics['mAP']:g}, too near the edge for its standard error"


def _detection(record: Record, _: _Family) -> Iterator[str]:
    """AP is the mean over ten thresholds, five from that of AP50 on, five from that of AP75 on, each below the last."""
    metrics = record["metrics"]
    for of in ("bbox", "segm", "coco_bbox"):
        if {f"{of}_AP", f"{of}_AP50", f"{of}_AP75"} <= metrics.keys():
            ap, loose, strict = (metrics[f"{of}_AP{at}"] for at in ("", "50", "75"))
            low, high = (loose + 5 * strict) / 10, (loose + strict) / 2
            if not low - _NESTING * loose - _SLACK <= ap <= high + _NESTING * loose + _SLACK:
                yield f"{of}_AP is {ap:g}, but AP50 and AP75 leave it {low:g} to {high:g}"


_RULES: tuple[Callable[[Record, _Family], Iterator[str]], ...] = (
    _ancestry,
    _dated,
    _protocol,
    _trials,
    _training,
    _seconds,
    _answers,
    _selection,
    _ranking,
    _detection,
)
