"""What the tests of the hall share: a folder of their own, what wrong use is told, and an internet of one server."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from repro.cli.dispatch import main
from repro.data import download


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test runs in a folder that is empty, and knows of no data."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("REPRO_DATA", raising=False)


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[[str], str]:
    """`refused(line)`: what a wrong command line is told, exactly one line on stderr, with status 2."""

    def told(line: str) -> str:
        assert main(line.split()) == 2
        streams = capsys.readouterr()
        assert streams.out == "" and streams.err.count("\n") == 1 and streams.err.startswith("repro: ")
        return streams.err

    return told


class Internet:
    """A server on a thread of this process: it has one file, whatever it is asked for, and every fault of a server.

    cuts, stalls: of each answer in turn, the bytes after which the connection ends or nothing more comes.
    gate: answers wait for it.  asked: path and Range of each request.
    """

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        self.content = bytes(range(256)) * 40
        self.status, self.ranges = 200, True
        self.cuts: list[int] = []
        self.stalls: list[int] = []
        self.asked: list[tuple[str, str | None]] = []
        self.gate, self.over = threading.Event(), threading.Event()
        self.gate.set()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        wanted = handler.headers.get("Range")
        self.asked.append((handler.path, wanted))
        self.gate.wait(30)
        begin = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.ranges else 0
        if self.status != 200 or begin > len(self.content):
            handler.send_error(416 if self.status == 200 else self.status)
            return
        handler.send_response(206 if begin else 200)
        handler.send_header("Content-Length", str(len(self.content) - begin))
        if begin:
            handler.send_header("Content-Range", f"bytes {begin}-{len(self.content) - 1}/{len(self.content)}")
        handler.end_headers()
        limits = self.stalls or self.cuts
        stalling, limit = bool(self.stalls), limits.pop(0) if limits else None
        handler.wfile.write(self.content[begin:][:limit])
        if stalling:
            handler.wfile.flush()
            self.over.wait(30)


@pytest.fixture
def internet(monkeypatch: pytest.MonkeyPatch) -> Iterator[Internet]:
    """What stands for the internet. No proxy is known, and nobody waits before another try."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr(download, "PAUSE", 0.0)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            net.answer(self)

        def log_message(self, *words: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *words: object) -> None:  # whoever hangs up is no fault of the server
            pass

    server = Server(("127.0.0.1", 0), Handler)
    server.block_on_close = False
    net = Internet(server)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield net
    net.over.set()
    net.gate.set()
    server.shutdown()
    server.server_close()
    thread.join()
