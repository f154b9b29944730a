"""Downloads: whole, as published and in place, or not there at all. The internet is a server in this process."""

from __future__ import annotations

import hashlib
import socket
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from repro.data import download
from repro.data.download import Download
from repro.errors import UserError


@pytest.fixture
def wanted(internet: Any, tmp_path: Path) -> Download:
    """What the server has, as it is published."""
    md5 = hashlib.md5(internet.content).hexdigest()
    return Download(f"{internet.url}/a/pack.tar.gz", tmp_path / "data" / "pack.tar.gz", len(internet.content), md5)


def left(wanted: Download) -> set[str]:
    """The files beside the target, but the lock."""
    return {path.name for path in wanted.target.parent.iterdir() if path.suffix != ".lock"}


def refusal(wanted: Download) -> str:
    """The one line of a download that fails: it has the address, and the place for a file fetched by hand."""
    with pytest.raises(UserError) as caught:
        download.fetch(wanted)
    line = str(caught.value)
    assert "\n" not in line and line.endswith(f"download {wanted.url} with a browser and put it at {wanted.target}")
    assert not wanted.target.exists()
    return line


def test_a_whole_file_comes_by_one_request_and_leaves_nothing_beside_it(internet: Any, wanted: Download) -> None:
    seen: list[tuple[int, int]] = []
    download.fetch(wanted, lambda done, total, info: seen.append((done, total)))
    assert wanted.target.read_bytes() == internet.content and left(wanted) == {"pack.tar.gz"}
    assert seen[-1] == (10_240, 10_240) and seen == sorted(seen)
    download.fetch(wanted)
    assert internet.asked == [("/a/pack.tar.gz", None)]  # the second call asked nobody


def test_a_cut_download_goes_on_where_it_stopped(internet: Any, wanted: Download) -> None:
    internet.cuts = [1000, 2000]
    download.fetch(wanted)
    assert [asked for _, asked in internet.asked] == [None, "bytes=1000-", "bytes=3000-"]
    assert wanted.target.read_bytes() == internet.content


def test_a_later_command_goes_on_where_an_earlier_one_gave_up(internet: Any, wanted: Download) -> None:
    internet.cuts = [1000, 0, 0, 0]
    assert "(the connection ended after 1.0 kB of 10 kB), 1.0 kB of 10 kB are kept for the next try" in refusal(wanted)
    assert len(internet.asked) == 1 + download.TRIES and left(wanted) == {"pack.tar.gz.partial"}
    internet.asked.clear()
    download.fetch(wanted)
    assert [asked for _, asked in internet.asked] == ["bytes=1000-"]
    assert wanted.target.read_bytes() == internet.content and left(wanted) == {"pack.tar.gz"}


def test_a_server_without_ranges_sends_all_again(internet: Any, wanted: Download) -> None:
    internet.ranges, internet.cuts = False, [6000, 2000]
    download.fetch(wanted)
    assert len(internet.asked) == 3 and wanted.target.read_bytes() == internet.content


def test_a_server_without_ranges_that_always_cuts_ends_some_time(internet: Any, wanted: Download) -> None:
    internet.ranges, internet.cuts = False, [6000] * 100
    assert "the connection ended after 6.0 kB" in refusal(wanted)
    assert len(internet.asked) == 1 + download.TRIES


def test_another_file_than_the_published_one_is_put_aside(internet: Any, wanted: Download) -> None:
    published = replace(wanted, md5="0" * 32)
    line = refusal(published)
    assert f"md5 {wanted.md5}, not the published {'0' * 32}; it is kept as {wanted.target}.wrong" in line
    assert left(wanted) == {"pack.tar.gz.wrong"}
    assert Path(f"{wanted.target}.wrong").read_bytes() == internet.content


def test_what_was_begun_of_another_file_is_put_aside_and_the_next_try_begins_anew(
    internet: Any, wanted: Download
) -> None:
    wanted.target.parent.mkdir()
    wanted.part.write_bytes(b"another file")
    assert "md5" in refusal(wanted) and left(wanted) == {"pack.tar.gz.wrong"}
    wanted.part.write_bytes(b"x" * (wanted.bytes + 1))  # more than there is
    assert "md5" in refusal(wanted) and left(wanted) == {"pack.tar.gz.wrong"}
    download.fetch(wanted)
    assert [asked for _, asked in internet.asked] == ["bytes=12-", None]


def test_a_file_of_another_size_is_refused_before_a_byte_is_written(internet: Any, wanted: Download) -> None:
    assert "it has 10,240 bytes there, the published file 10,241" in refusal(replace(wanted, bytes=10_241))
    assert left(wanted) == set()
    wanted.part.write_bytes(internet.content)
    larger = replace(wanted, bytes=20_000)
    internet.content = internet.content[:5000]  # asked for what follows byte 10,240 it answers 416
    assert "it has 5,000 bytes there, the published file 20,000" in refusal(larger)


@pytest.mark.parametrize(("status", "words"), [(404, "404 Not Found"), (403, "403 Forbidden")])
def test_a_refusal_is_not_asked_again(internet: Any, wanted: Download, status: int, words: str) -> None:
    internet.status = status
    assert f"the server refuses it: {words}" in refusal(wanted)
    assert len(internet.asked) == 1 and left(wanted) == set()


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_asked_again(internet: Any, wanted: Download, status: int) -> None:
    internet.status = status
    assert f"the server says {status} " in refusal(wanted)
    assert len(internet.asked) == download.TRIES and left(wanted) == set()


def test_a_server_that_falls_silent_is_given_up(
    internet: Any, wanted: Download, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "PATIENCE", 0.05)
    internet.stalls = [500, 0, 0, 0]
    assert "(no data for 0.05 s), 500 bytes of 10 kB are kept" in refusal(wanted)
    internet.gate.clear()
    assert "(no answer for 0.05 s)" in refusal(wanted)


def test_no_server_is_no_connection(wanted: Download) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # nobody listens there
        line = refusal(replace(wanted, url=f"http://127.0.0.1:{free.getsockname()[1]}/pack.tar.gz"))
    assert "(no connection: " in line and "refused" in line
    assert "no connection" in refusal(replace(wanted, url="http://no-such-host.invalid/pack.tar.gz"))


def test_the_proxy_of_the_environment_is_asked(
    internet: Any, wanted: Download, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", internet.url)
    download.fetch(replace(wanted, url="http://no-such-host.invalid/pack.tar.gz"))
    assert internet.asked == [("http://no-such-host.invalid/pack.tar.gz", None)]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.usefixtures("internet")
def test_a_full_disk_is_one_line(wanted: Download) -> None:
    wanted.target.parent.mkdir()
    wanted.part.symlink_to("/dev/full")
    line = refusal(wanted)
    assert f"cannot write {wanted.part} (no space left on device); free some space, or choose another place" in line


@pytest.mark.usefixtures("internet")
def test_a_folder_that_cannot_be_written_is_one_line(wanted: Download, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file where a folder should be")
    elsewhere = replace(wanted, target=tmp_path / "taken" / "below" / "pack.tar.gz")
    assert f"cannot write {tmp_path / 'taken'}" in refusal(elsewhere)


def test_of_two_at_once_one_downloads_and_the_other_waits(internet: Any, wanted: Download) -> None:
    internet.gate.clear()
    waiting = threading.Event()
    threads = [
        threading.Thread(target=download.fetch, args=(wanted,)),
        threading.Thread(target=download.fetch, args=(wanted, lambda *_: waiting.set())),
    ]
    threads[0].start()
    while not internet.asked:
        threads[0].join(0.01)
    threads[1].start()
    assert waiting.wait(30)  # it is told how far the first has come
    internet.gate.set()
    for thread in threads:
        thread.join(30)
    assert len(internet.asked) == 1 and wanted.target.read_bytes() == internet.content
