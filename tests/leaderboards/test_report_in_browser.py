"""The report in a real browser: it opens from the disk, sorts, switches, saves, and nothing overlaps or overflows."""

from __future__ import annotations

import csv
import html
import io
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from leaderboards import boards, claim_files, published, report
from leaderboards.arms import Arms
from repro.results.suite import suite

Record = dict[str, Any]
Make = Callable[..., list[Record]]

PROBE = """
<script>
window.addEventListener("load", () => {
  const found = {};
  const hidden = () => [...document.querySelectorAll(".more")].filter(part => part.offsetHeight === 0).length;
  const all = document.querySelectorAll(".more").length;
  found.more = [all, hidden()];
  document.getElementById("more").click();
  document.querySelectorAll("details").forEach(part => part.open = true);
  found.more.push(hidden());
  const table = [...document.querySelectorAll("table.sortable")].find(t => t.tHead.textContent.includes("wall time"));
  const heads = [...table.tHead.rows[0].cells].map(h => h.textContent);
  const column = heads.indexOf("top1"), button = table.tHead.rows[0].cells[column].firstElementChild;
  const values = () => [...table.tBodies[0].rows].map(row => parseFloat(row.cells[column].textContent));
  button.focus();
  found.focused = document.activeElement === button && button.tabIndex === 0;
  button.click(); found.up = values(); found.said = button.parentElement.getAttribute("aria-sort");
  button.click(); found.down = values();
  const sort = name => {  // the texts of a column, smallest first
    const sorted = [...document.querySelectorAll("table.sortable")].filter(t => t.rows.length > 2);
    for (const other of sorted) {
      const at = [...other.tHead.rows[0].cells].findIndex(head => head.textContent === name);
      if (at < 0) continue;
      other.tHead.rows[0].cells[at].firstElementChild.click();
      return [...other.tBodies[0].rows].map(row => row.cells[at].textContent);
    }
  };
  found.sorted = [sort("device time"), sort("method")];
  const saved = [];  // what the buttons would write
  window.Blob = class { constructor(parts) { saved.push(parts.join("")); } };
  URL.createObjectURL = () => "#";
  HTMLAnchorElement.prototype.click = function () { saved.push(this.download); };
  const press = (box, word) => [...box.querySelectorAll(".take button")].find(b => b.textContent === word).click();
  const scroll = table.closest(".scroll");
  press(scroll.parentElement, "CSV");
  const beside = scroll.nextElementSibling;
  saved.length = 0;
  [...beside.children].forEach(button => button.click());
  const more = [...document.querySelectorAll(".scroll")].map(box => [box.getAttribute("aria-label"), box]);
  const results = more.find(([title]) => title === "aps: results")[1];
  press(document.querySelector("#efficiency ~ .scenes figure"), "SVG");
  found.saved = saved.slice(0, 6);
  saved.length = 0;
  [...results.nextElementSibling.children].find(b => b.textContent === "CSV").click();
  found.results = saved[0];
  found.covered = [];  // names that lie over other text of their image
  found.outside = [];  // texts that leave it
  for (const drawing of document.querySelectorAll("svg.plot")) {
    const texts = [...drawing.querySelectorAll("text")].map(text => [text, text.getBoundingClientRect()]);
    const box = drawing.getBoundingClientRect();
    const leaves = a => Math.min(a.left - box.left, box.right - a.right, a.top - box.top, box.bottom - a.bottom) < -1;
    texts.forEach(([text, a]) => leaves(a) && found.outside.push(text.textContent));
    texts.forEach(([text, a]) => text.classList.contains("name") && texts.forEach(([other, b]) => {
      if (other !== text && Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
        && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 4) found.covered.push(text.textContent);
    }));
  }
  found.resources = performance.getEntriesByType("resource").length;
  found.wide = [document.documentElement.scrollWidth, window.innerWidth];
  const spilled = () => {  // parts of an answer whose text leaves its box, or that lie over each other
    let count = 0;
    for (const answer of document.querySelectorAll(".answer summary, .row.heads")) {
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
  document.body.style.width = "320px";
  found.spilled.push(spilled());
  document.body.style.width = "";
  document.documentElement.style.fontSize = "20px";  // a reader's larger text
  found.large = [document.documentElement.scrollWidth, window.innerWidth];
  document.documentElement.style.fontSize = "";
  found.errors = window.errors;
  const marks = [...document.querySelectorAll("text")].map(text => getComputedStyle(text).fill);
  found.colours = [getComputedStyle(document.body).backgroundColor, ...new Set(marks)];
  found.pictures = [...document.images].map(image => image.naturalWidth);
  const drawings = [...document.querySelectorAll("svg.plot")];
  found.hidden = drawings.filter(svg => !svg.closest(".row") && svg.getBoundingClientRect().width < 200).length;
  document.body.textContent = "FOUND" + JSON.stringify(found) + "END";
});
</script>
"""
_PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
    "+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def opened(text: str, folder: Path, scheme: str, width: int) -> dict[str, Any]:
    """What the probe finds in this report in a browser; the test is skipped where there is none."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not browser:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    catch = "<script>window.errors = []; window.addEventListener('error', e => errors.push(e.message));</script>"
    (folder / "report.html").write_text(
        text.replace("<title>", catch + "<title>").replace("</body>", PROBE + "</body>")
    )
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    done = subprocess.run(
        [
            browser,
            *flags.split(),
            *("--disable-component-update", "--disable-sync", f"--user-data-dir={folder / 'profile'}"),
            *("--enable-logging=stderr", f"--blink-settings=preferredColorScheme={int(scheme == 'light')}"),
            *(f"--window-size={width},800", "--dump-dom", f"file://{folder / 'report.html'}"),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    match = re.search(r"FOUND(\{.*\})END", done.stdout)
    assert match, done.stderr[-2000:]
    assert "CONSOLE" not in done.stderr
    found: dict[str, Any] = json.loads(html.unescape(match[1]))
    return found


def assert_nothing_overlaps_or_is_lost(found: dict[str, Any]) -> None:
    """At the width of the window, at 390 and 320 pixels, and with larger text."""
    assert found["errors"] == [] and found["covered"] == [] and found["outside"] == [] and found["resources"] == 0
    assert found["wide"][0] <= found["wide"][1]  # tables and drawings scroll in their boxes, the page does not
    assert found["large"][0] <= found["large"][1]
    assert found["hidden"] == 0 and found["narrow"] <= 390
    assert found["answers"] > 5 and found["spilled"] == [0, 0, 0] and found["lost"] == 0


@pytest.mark.processes
@pytest.mark.parametrize("scheme, width", [("light", 1400), ("dark", 500)])
def test_a_browser_opens_it_from_the_disk(
    make: Make, sample: list[Record], tmp_path: Path, scheme: str, width: int
) -> None:
    records = list(sample)
    for seed in range(3):  # an ablation and two lengths: behind the switch
        for variant, epochs in (("no_location", 4), ("", 4), ("", 8)):
            records += make("glnet", "knn", {"top1": 30.0 + seed}, variant=variant, epochs=epochs, seed=seed)
    content = boards.compose(Arms(records, suite()), claim_files.load(suite()), lambda record: record["fingerprint"])
    text = report.page(content, artifacts={records[1]["fingerprint"]: {"detections": _PIXEL}})
    found = opened(text, tmp_path, scheme, width)
    assert found["up"] == sorted(found["up"]) and found["down"] == found["up"][::-1] and len(set(found["up"])) == 4
    assert found["said"] == "ascending" and found["focused"]
    times, names = found["sorted"]
    minutes = [float(text.removesuffix(" min")) for text in times]
    assert minutes == sorted(minutes) and len(set(minutes)) > 2 and names == sorted(names)
    drawings, hidden, left = found["more"]
    assert drawings == hidden > 0 == left  # one switch shows what is not current
    table, table_name, tex, tex_name, drawing, drawing_name = found["saved"]
    rows = list(csv.DictReader(io.StringIO(table)))
    assert {"method", "top1", "top1 sd", "n"} <= rows[0].keys() and table_name.endswith(".csv")
    aps = next(row for row in rows if row["method"] == "aps")
    assert (float(aps["top1"]), float(aps["top1 sd"]), aps["n"]) == (41.4, 0.4, "3")
    cited = {row["method"]: row["cite"] for row in rows}
    assert cited["aps"] == "repro aps" and all(
        cite == f"repro {name.partition('@')[0]}" for name, cite in cited.items()
    )
    of_method = list(csv.DictReader(io.StringIO(found["results"])))  # texts that hold several means stay whole
    assert "result sd" not in of_method[0] and any(" ± " in row["result"] for row in of_method)
    assert all(row["cite"] == "repro aps" for row in of_method)
    assert " \\cite{repro} Methods: \\cite{" in tex and "\n% @software{repro,\n" in tex and "\n% @misc{aps,\n" in tex
    assert "\\toprule" in tex and tex.count("\\\\\n") == len(rows) + 1 and tex_name.endswith(".tex")
    words = " ".join(ElementTree.fromstring(drawing).itertext())
    assert "moco_v3" in words and "var(" not in drawing and drawing_name.endswith(".svg")
    assert found["pictures"] == [1]
    assert_nothing_overlaps_or_is_lost(found)
    paper, *inks = (sum(map(int, re.findall(r"\d+", colour))) / 3 for colour in found["colours"])
    assert (paper > 200) == (scheme == "light") and all(abs(ink - paper) > 100 for ink in inks)


@pytest.mark.processes
@pytest.mark.parametrize("width", [1400, 500])
def test_the_published_report_fits_its_boxes(tmp_path: Path, width: int) -> None:
    """With the longest texts that there are."""
    known = Arms(published.load_published(), suite())
    text = report.page(boards.compose(known, claim_files.load(suite()), lambda record: record["fingerprint"]))
    assert len(text) < 1_500_000
    assert_nothing_overlaps_or_is_lost(opened(text, tmp_path, "light", width))
