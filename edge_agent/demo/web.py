"""Serves the page of `edge-agent demo --page`: one file, on a port of the loopback interface."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class _Handler(BaseHTTPRequestHandler):
    """Answers with the page at `/`, and with 404 elsewhere."""

    protocol_version = "HTTP/1.1"
    page = b""

    def do_GET(self) -> None:
        found = self.path.partition("?")[0] == "/"
        content = self.page if found else b"there is one page here: /\n"
        self.send_response(HTTPStatus.OK if found else HTTPStatus.NOT_FOUND)
        self.send_header("Content-Type", f"text/{'html' if found else 'plain'}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as in the base class
        """The terminal shows the demo; requests for its page are not of interest."""


@contextmanager
def served(page: bytes) -> Iterator[str]:
    """Serve the page and return its address; it ends with the block."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("_Page", (_Handler,), {"page": page}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, name="page", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
