"""A file server on loopback that fails as it is told to."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

CHUNK = 1 << 12


class Loopback(ThreadingHTTPServer):
    """Serves the files of `folder`, by name: whatever stands before it in the path is left out.

    Attributes:
        cuts: positions in the file; each cuts one connection that comes to it, and is used up.
        ranges: whether a request for the rest of a file is understood.
        statuses: answers to give first, one a request, in place of the file.
        seconds_per_chunk: of waiting before each chunk of 4 KiB.
        served: the paths asked for, each with the position that sending began at.
    """

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.cuts: list[int] = []
        self.ranges = True
        self.statuses: list[int] = []
        self.seconds_per_chunk = 0.0
        self.served: list[tuple[str, int]] = []

    @property
    def url(self) -> str:
        """Its address, without a slash at the end."""
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is no error here."""


class _Handler(BaseHTTPRequestHandler):
    server: Loopback
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        data = (self.server.folder / Path(self.path).name).read_bytes()
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked[1]) if asked and self.server.ranges else 0
        self.server.served.append((self.path, start))
        if self.server.statuses:
            self._answer(self.server.statuses.pop(0), 0)
        elif start >= len(data) and asked and self.server.ranges:
            self._answer(416, 0, f"bytes */{len(data)}")
        elif asked and self.server.ranges:
            self._answer(206, len(data) - start, f"bytes {start}-{len(data) - 1}/{len(data)}")
            self._send(data, start)
        else:
            self._answer(200, len(data))
            self._send(data, 0)

    def _answer(self, status: int, length: int, content_range: str | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        if content_range:
            self.send_header("Content-Range", content_range)
        self.end_headers()

    def _send(self, data: bytes, start: int) -> None:
        cut = next((cut for cut in self.server.cuts if start <= cut < len(data)), None)
        for position in range(start, len(data) if cut is None else cut, CHUNK):
            time.sleep(self.server.seconds_per_chunk)
            self.wfile.write(data[position : min(position + CHUNK, len(data) if cut is None else cut)])
        if cut is not None:
            self.server.cuts.remove(cut)
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Not on the terminal."""


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[Loopback]:
    """A running server of the files of `folder`."""
    with Loopback(folder) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
