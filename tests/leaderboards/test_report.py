"""The report: the boards' own numbers, drawings that can be read, and a real browser."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy import stats
from untuned import suite

from leaderboards import boards, cells, claim_files, plots, published, report
from leaderboards.arms import Arms
from leaderboards.efficiency import Paid
from leaderboards.efficiency import paid as paid_of
from leaderboards.paired_arms import Difference, baseline_differences
from leaderboards.pictured import Roles

Record = dict[str, Any]
Make = Callable[..., list[Record]]


def link(record: Record) -> str:
    return f"records/{record['fingerprint'][:8]}.json"


def page(records: list[Record], **more: Any) -> str:
    return report.page(boards.compose(Arms(records, suite()), claim_files.load(suite()), link), **more)


def paid(records: list[Record]) -> list[Paid]:
    return paid_of(Arms(records, suite()))


def differences(records: list[Record]) -> dict[str, list[Difference]]:
    return baseline_differences(claim_files.load(suite()), Arms(records, suite()))


class Tables(HTMLParser):
    """Rows of cell texts of every table of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self._inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self._inside = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th", "table"):  # a cell ends where the next begins, or its table does
            self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.rows[-1][-1] += data


def test_every_row_of_the_boards_stands_in_the_report() -> None:
    """Of the published ones, whose files are checked against their records elsewhere."""
    rows = {tuple(cell.strip() for cell in row) for row in Tables((published.FOLDER / report.FILE).read_text()).rows}
    compared = 0
    for name in (*suite().evaluations, "efficiency"):
        for line in (published.FOLDER / f"{name}.md").read_text().splitlines():
            if line.startswith("|") and not set(line) <= set("|:- "):
                cells = tuple(re.sub(r"\[(s?\d+)\]\[\d+\]", r"\1", cell.strip()) for cell in line.strip("|").split("|"))
                assert cells in rows, line
                compared += 1
    assert compared > 100


def test_claims_lead_with_their_verdict(sample: list[Record]) -> None:
    text = page(sample)
    for claim in claim_files.load(suite()):
        part = text.partition(f'id="claim-{claim.id}"')[2].partition('<div class="claim"')[0]
        assert 'class="verdict"' in part and part.index('class="verdict"') < part.index("<details>")
    assert "not decided yet on mini (3 pairs, evidence 10.6 of 160 that it is better): aps 3.00 points above" in text


def test_drawings_are_sound_labelled_and_do_not_rest_on_colour(sample: list[Record]) -> None:
    text = page(sample)
    drawings = [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", text, flags=re.S)]
    small = [drawing for drawing in drawings if float(drawing.get("width") or 0) < 300]  # a claim's difference
    drawings = [drawing for drawing in drawings if drawing not in small]
    said = [drawing.get("aria-label") or "" for drawing in small]
    axes = [words for words in said if words.startswith("axis from -")]  # above each paper's claims, the same one
    (claim,) = set(said) - set(axes)
    assert "points, interval" in claim and len(set(axes)) == 1 and len(axes) == text.count('class="paper"')
    # two evaluations, the monitor and the accuracy of fine-tuning by epoch (a paper and another method each), shares
    # of the operations, differences
    assert len(drawings) == 2 + 2 + 2 + 1 + 1
    space = "{http://www.w3.org/2000/svg}"
    for drawing in drawings:
        words = [element.text or "" for element in drawing.iter(f"{space}text")]
        rows = ("difference (points)", "operations to the same accuracy, the baseline's = 1")
        axes = ("operations of pre-training (TFLOP)", "epochs", *rows)
        assert any(word.removesuffix(", so far") in axes for word in words)
        assert drawing.get("aria-label")
        fewest = 3 if any(row in words for row in rows) else 4
        assert len([word for word in words if re.fullmatch(r"−?[\d.,]+", word)]) >= fewest  # numbers on the scales
        named = sorted(e.text or "" for e in drawing.iter(f"{space}text") if e.get("class") == "name")
        shown = (["aps@16", "byol@16", "moco_v3@16"], ["aps@16", "moco_v3@16"], ["byol@16"])
        assert named in shown or any(row in words for row in rows)
    first = drawings[0]
    marks = [e for e in first.iter() if "mark" in (e.get("class") or "") and e.find(f"{space}title") is not None]
    shapes = Counter(e.tag + str(len((e.get("points") or "").split())) + (e.get("class") or "") for e in marks)
    assert sorted(shapes.values()) == [1, 2]  # a method and two baselines, by shape


def test_the_front_is_what_no_arm_beats_at_its_price() -> None:
    drawn = random.Random(0)
    for _ in range(50):
        points = [(float(drawn.randint(0, 9)), float(drawn.randint(0, 9))) for _ in range(12)]
        naive = {
            p for p in points if not any(q != p and q[0] <= p[0] and q[1] >= p[1] for q in points)
        }  # nobody is at least as cheap and as good
        assert plots.front(points) == sorted(naive)


def test_controls_are_drawn_but_no_part_of_the_front(make: Make) -> None:
    free = {"cost": {"wall_s": 1.0, "device_s": 0.0, "flops": 0.0}}
    records = make("random", "knn", {"top1": 60.0}, epochs=0, **free) + make("supervised", "knn", {"top1": 90.0})
    records += make("aps", "knn", {"top1": 40.0}) + make("moco_v3", "knn", {"top1": 50.0}, epochs=8)

    def drawn(records: list[Record]) -> str:
        (group,) = paid(records)
        roles = Roles(claim_files.load(suite()), suite())
        panel = plots.efficiency(group, roles.pictured(group.arms).first, roles)
        assert panel
        return panel.svg()

    assert drawn(records).count("<title>") == 4
    assert 'class="line front"' not in drawn(records)  # both methods cost the same: the front is one point
    cheaper = {"cost": {"wall_s": 1.0, "device_s": 1.0, "flops": 1e12}}
    records = records[:4] + make("aps", "knn", {"top1": 40.0}, **cheaper) + records[6:]
    assert drawn(records).count('class="line front"') == 1


def test_differences_are_the_paired_t_interval(make: Make) -> None:
    """With two arms alone nothing is pooled, so the interval is the textbook's."""
    generator = np.random.default_rng(0)
    ours, theirs = generator.normal(40, 1, 3), generator.normal(38, 1, 3)
    records: list[Record] = []
    for seed in range(3):
        records += make("aps", "knn", {"top1": float(ours[seed])}, seed=seed)
        records += make("moco_v3", "knn", {"top1": float(theirs[seed])}, seed=seed)
    (item,) = differences(records)["mini"]
    want = stats.ttest_rel(ours, theirs).confidence_interval(0.95)
    assert (item.low, item.high) == pytest.approx((want.low, want.high))
    text = page(records)
    assert f"{want.low:+.2f} to {want.high:+.2f}" in text

    one = [record for record in records if record["seed"] == 0]
    assert differences(one)["mini"][0].mean is None
    assert "none: one pair" in page(one)


def test_fair_pairs_come_before_full_ones_and_unlike_ones_are_only_named(make: Make) -> None:
    """Three seeds of 8 epochs and of other tuning, two alike: the two are compared."""
    records: list[Record] = []
    for seed in range(3):
        records += make("aps", "knn", {"top1": 40.0 + seed}, seed=seed, epochs=4, trials=3)
        records += make("moco_v3", "knn", {"top1": 30.0}, seed=seed, epochs=8, trials=3)
        records += make("moco_v3", "knn", {"top1": 31.0}, seed=seed, epochs=4, trials=7)
    (unlike,) = differences(records)["mini"]
    assert unlike.apart == ["trials 3 against 7"]
    text = page(records)
    assert "aps and moco_v3 in knn: trials 3 against 7" in text and "Paired differences on mini" not in text

    for seed in range(2):
        records += make("moco_v3", "knn", {"top1": 35.0}, seed=seed, epochs=4, trials=3)
    (item,) = differences(records)["mini"]
    assert not item.apart and item.by_seed == {0: 5.0, 1: 6.0}
    text = page(records)
    assert "Paired differences on mini" in text and "in knn: " not in text

    again = make("moco_v3", "knn", {"top1": 90.0}, seed=0, epochs=4, trials=3, code="0ther")
    (item,) = differences([*records, *again])["mini"]
    assert item.apart  # of two records of one seed neither is the arm's


def test_imported_records_are_compared_with_nothing(make: Make) -> None:
    records = make("aps", "knn", {"top1": 90.0}) + make("moco_v3", "knn", {"top1": 38.0})
    assert differences(records)
    for record in records[:2]:
        record["provenance"]["trust"] = "self-reported"
    assert not differences(records)
    assert "self-reported" in page(records)


def test_logs_become_curves_over_epochs(make: Make) -> None:
    trained, judged = make("byol", "knn", {"top1": 40.0}, epochs=4)  # 624 updates in 4 epochs
    log = [{"epoch": e, "updates": 156 * (e + 1), "loss_a": 1.0, "loss_b": 2.0 - e / 4, "std_z": 0.9} for e in range(4)]
    text = page([trained, judged], histories={trained["fingerprint"]: log})
    assert "seed 0: 3 at 1, 2.25 at 4" in text and "byol@4: 0.9 at 1, 0.9 at 4, n = 1" in text
    assert "std_z (1 = uniform)" in text
    assert "std_z (1 = uniform)" not in page([trained, judged])


def test_the_same_records_give_the_same_bytes(sample: list[Record]) -> None:
    records = sample
    first = page(records)
    random.Random(1).shuffle(records)
    assert page(records) == first
    assert "No records yet." in page([])


def test_words_of_records_stay_words(make: Make) -> None:
    evil = "<script>alert(1)</script>"
    text = page(make("aps", "knn", {"top1": 40.0}, source=evil) + make("byol", "knn", {"top1": 4.0}, source=evil))
    assert evil not in text and "&lt;script&gt;alert(1)" in text


@pytest.mark.parametrize(
    "cell, text, key",
    [
        (cells.spread([71.0, 71.5]), "71.25 ± 0.35", "71.25"),
        (cells.count([79_872.0]), "79,872", "79872"),
        (cells.duration([8.4]), "8.4 s", "8.4"),
        (cells.duration([750.0]), "12.5 min", "750"),
        (cells.duration([18_720.0]), "5.2 h", "18720"),
        (cells.peak({"peak_device_memory_mb": {0: 3174.4, 1: 12.0}}.__getitem__), "3.1 GB GPU", "3174.4"),
        (cells.memory([1023.6]), "1024 MB", "1024"),
        (cells.signed(0.5), "+0.50", "0.5"),
        (cells.signed(-0.5), "-0.50", "-0.5"),
        (cells.percent(0.404), "40 %", "40"),
        (cells.whole_numbers([3, 7], ", "), "3, 7", "3"),
        (cells.words("2026-11-20..22"), "2026-11-20..22", "2026-11-20..22"),
        (cells.spread([]), "-", "-"),
        (cells.words("57 images,\n517 objects"), "57 images, 517 objects", "57 images, 517 objects"),
        (cells.linked([("s0", "a"), ("s1", "b")]), "s0 s1", "s0 s1"),
    ],
)
def test_cells_say_and_sort_by_what_they_mean(cell: cells.Cell, text: str, key: str) -> None:
    assert (cell.text, cell.key) == (text, key)


@pytest.mark.seconds
def test_two_thousand_records_stay_under_a_megabyte_and_a_half(make: Make) -> None:
    """Three seeds each of 144 arms in four evaluations; as in real records, trainings have a monitor and fine-tuning
    has a history."""
    names = [
        f"{name}{tail}"
        for name in ("aps", "byol", "glnet", "moco_v3", "simclr", "truncated_triplet")
        for tail in ("", "_two", "_three")
    ]
    drawn, records = random.Random(0), list[Record]()
    for number, name in enumerate(names * 8):
        more = {
            "variant": f"without_part_{number // len(names)}" if number >= len(names) else "",
            "epochs": 4 + number % 9,
        }
        for seed in range(3):
            top1 = drawn.uniform(25, 45)
            for kind in ("knn", "linear", "finetune", "reid"):
                metrics = {"rank1": top1, "mAP": top1 / 2} if kind == "reid" else {"top1": top1, "top5": top1 + 40}
                records += make(name, kind, metrics, seed=seed, **more)
                if kind == "finetune":
                    steps = [{"epoch": e, "loss": 2.0, "top1": top1 - 1 / e} for e in range(1, 21)]
                    records[-1]["details"]["history"] = steps
            records[-2]["details"]["knn_curve"] = [[e, e, 9.0 * e, 1e12 * e, drawn.uniform(20, 40)] for e in range(7)]
    found = list({record["fingerprint"]: record for record in records}.values())
    assert len(found) > 2000

    def address(record: Record) -> str:
        return f"records/mini/{record['method']}-{record['variant']}.jsonl#{record['fingerprint'][:12]}"

    content = boards.compose(Arms(found, suite()), claim_files.load(suite()), address)
    size = len(report.page(content).encode())
    assert size + _PUBLISHED_PICTURES < 1_500_000


_PUBLISHED_PICTURES = sum(path.stat().st_size * 4 // 3 for path in published.FOLDER.rglob("records/**/*.webp"))
