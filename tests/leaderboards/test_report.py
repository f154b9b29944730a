"""The report: the boards' own numbers, drawings that can be read, and a real browser."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy import stats

from leaderboards import boards, cells, claim_files, plots, published, report
from leaderboards.arms import Arms
from leaderboards.efficiency import Paid
from leaderboards.efficiency import paid as paid_of
from leaderboards.paired_arms import Difference, baseline_differences
from leaderboards.pictured import Roles
from repro.results.suite import suite

Record = dict[str, Any]
Make = Callable[..., list[Record]]


def link(record: Record) -> str:
    return f"records/{record['fingerprint'][:8]}.json"


def sample(make: Make) -> list[Record]:
    """Three seeds of a method and its baseline in two evaluations; fine-tuning with its history, k-NN curves."""
    records: list[Record] = []
    for seed in range(3):
        for method, shift in (("aps", 3.0), ("moco_v3", 0.0), ("byol", -2.0)):
            cost = {"device_s": 300.0 + 60 * shift + seed, "flops": 1e13 * (4 + shift), "updates": 10, "wall_s": 1.0}
            top1 = 38.0 + shift + 0.4 * seed
            records += make(method, "knn", {"top1": top1, "top5": 80.0}, seed=seed, cost=cost)
            records += make(method, "finetune", {"top1": top1 + 20 + 0.1 * seed}, seed=seed, cost=cost)
            history = [{"epoch": e + 1, "loss": 2.0 / (e + 1), "split_top1": 20.0 + 5 * e} for e in range(4)]
            records[-1]["details"] = {"history": history}
            looks = [[2 * e, e, 30.0 * e, 1e12 * e, top1 - 20 / e] for e in (1, 4, 7, 10)]
            records[-2]["details"]["knn_curve"] = looks
    return list({record["fingerprint"]: record for record in records}.values())


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
        if tag in ("td", "th"):
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


def test_claims_lead_with_their_verdict(make: Make) -> None:
    text = page(sample(make))
    for claim in claim_files.load(suite()):
        part = text.partition(f'id="claim-{claim.id}"')[2].partition('<div class="claim"')[0]
        assert 'class="verdict"' in part and part.index('class="verdict"') < part.index("<details>")
    assert "not decided yet at mini (3 pairs, evidence 10.6 of the 160 needed): aps 3.00 points above" in text


def test_drawings_are_sound_labelled_and_do_not_rest_on_colour(make: Make) -> None:
    text = page(sample(make))
    drawings = [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", text, flags=re.S)]
    small = [drawing for drawing in drawings if float(drawing.get("width") or 0) < 300]  # a claim's difference
    drawings = [drawing for drawing in drawings if drawing not in small]
    assert len(small) == 1 and "points, interval" in (small[0].get("aria-label") or "")
    # two evaluations, the monitor, accuracy of fine-tuning by epoch, differences
    assert len(drawings) == 2 + 1 + 1 + 1
    space = "{http://www.w3.org/2000/svg}"
    for drawing in drawings:
        words = [element.text or "" for element in drawing.iter(f"{space}text")]
        axes = ("operations of pre-training (TFLOP)", "epochs", "difference (points)")
        assert any(word.removesuffix(", so far") in axes for word in words)
        assert drawing.get("aria-label")
        assert len([word for word in words if re.fullmatch(r"−?[\d.,]+", word)]) >= 4  # numbers on the scales
        named = [e.text for e in drawing.iter(f"{space}text") if e.get("class") == "name"]
        assert sorted(named) == ["aps", "byol", "moco_v3"] or "difference (points)" in words
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
        roles = Roles(claim_files.load(suite()))
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
    assert "aps and moco_v3 in knn: trials 3 against 7" in text and "Paired differences at mini" not in text

    for seed in range(2):
        records += make("moco_v3", "knn", {"top1": 35.0}, seed=seed, epochs=4, trials=3)
    (item,) = differences(records)["mini"]
    assert not item.apart and item.by_seed == {0: 5.0, 1: 6.0}
    text = page(records)
    assert "Paired differences at mini" in text and "in knn: " not in text

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
    assert "seed 0: 3 at 1, 2.25 at 4" in text and "byol: 0.9 at 1, 0.9 at 4, n = 1" in text
    assert "std_z (1 = uniform)" in text
    assert "std_z (1 = uniform)" not in page([trained, judged])


def test_the_same_records_give_the_same_bytes(make: Make) -> None:
    records = sample(make)
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
        (cells.words("57 pictures,\n517 objects"), "57 pictures, 517 objects", "57 pictures, 517 objects"),
        (cells.linked([("s0", "a"), ("s1", "b")]), "s0 s1", "s0 s1"),
    ],
)
def test_cells_say_and_sort_by_what_they_mean(cell: cells.Cell, text: str, key: str) -> None:
    assert (cell.text, cell.key) == (text, key)


PROBE = """
<script>
window.addEventListener("load", () => {
  const found = {};
  document.querySelectorAll("details").forEach(part => part.open = true);
  const table = [...document.querySelectorAll("table.sortable")].find(t => t.tHead.textContent.includes("wall time"));
  const heads = [...table.tHead.rows[0].cells].map(h => h.textContent);
  const column = heads.indexOf("top1"), button = table.tHead.rows[0].cells[column].firstElementChild;
  const values = () => [...table.tBodies[0].rows].map(row => parseFloat(row.cells[column].textContent));
  button.focus();
  found.focused = document.activeElement === button && button.tabIndex === 0;
  button.click(); found.up = values(); found.said = button.parentElement.getAttribute("aria-sort");
  button.click(); found.down = values();
  found.resources = performance.getEntriesByType("resource").length;
  found.wide = [document.documentElement.scrollWidth, window.innerWidth];
  const spilled = () => {  // parts of an answer whose text leaves its box, or that lie over each other
    let count = 0;
    for (const answer of document.querySelectorAll(".answer")) {
      const boxes = [...answer.children].map(part => part.getBoundingClientRect());
      count += [...answer.children].filter(part => part.scrollWidth > part.clientWidth + 1).length;
      boxes.forEach((a, i) => boxes.slice(i + 1).forEach(b => {
        if (Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
          && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1) count += 1;
      }));
    }
    return count;
  };
  found.answers = document.querySelectorAll(".answer").length;
  found.spilled = [spilled()];
  const missing = link => !document.getElementById(decodeURIComponent(link.getAttribute("href").slice(1)));
  found.lost = [...document.querySelectorAll('a[href^="#"]')].filter(missing).length;
  document.body.style.width = "390px";  // narrower than a window may be
  found.spilled.push(spilled());
  found.narrow = document.body.scrollWidth;
  document.body.style.width = "";
  found.errors = window.errors;
  const marks = [...document.querySelectorAll("text")].map(text => getComputedStyle(text).fill);
  found.colours = [getComputedStyle(document.body).backgroundColor, ...new Set(marks)];
  found.pictures = [...document.images].map(image => image.naturalWidth);
  const drawings = [...document.querySelectorAll("svg.plot")];
  found.hidden = drawings.filter(svg => svg.getBoundingClientRect().width < 200).length;
  document.body.textContent = "FOUND" + JSON.stringify(found) + "END";
});
</script>
"""
_PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
    "+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@pytest.mark.processes
@pytest.mark.parametrize("scheme, width", [("light", 1280), ("dark", 500)])
def test_a_browser_opens_it_from_the_disk(make: Make, tmp_path: Path, scheme: str, width: int) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not browser:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    records = sample(make)
    text = page(records, artifacts={records[1]["fingerprint"]: {"detections": _PIXEL}})
    catch = "<script>window.errors = []; window.addEventListener('error', e => errors.push(e.message));</script>"
    (tmp_path / "report.html").write_text(
        text.replace("<title>", catch + "<title>").replace("</body>", PROBE + "</body>")
    )
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    done = subprocess.run(
        [
            browser,
            *flags.split(),
            *("--disable-component-update", "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}"),
            *("--enable-logging=stderr", f"--blink-settings=preferredColorScheme={int(scheme == 'light')}"),
            *(f"--window-size={width},800", "--dump-dom", f"file://{tmp_path / 'report.html'}"),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    match = re.search(r"FOUND(\{.*\})END", done.stdout)
    assert match, done.stderr[-2000:]
    found = json.loads(match[1])
    assert found["up"] == sorted(found["up"]) and found["down"] == found["up"][::-1] and len(set(found["up"])) == 3
    assert found["said"] == "ascending" and found["focused"]
    assert found["errors"] == [] and "CONSOLE" not in done.stderr
    assert found["resources"] == 0 and found["pictures"] == [1]
    assert found["wide"][0] <= found["wide"][1]  # tables and drawings scroll in their boxes, the page does not
    assert found["hidden"] == 0 and found["narrow"] <= 390
    assert found["answers"] > 5 and found["spilled"] == [0, 0] and found["lost"] == 0
    paper, *inks = (sum(map(int, re.findall(r"\d+", colour))) / 3 for colour in found["colours"])
    assert (paper > 200) == (scheme == "light") and all(abs(ink - paper) > 100 for ink in inks)
