"""A server in a thread of its own on a free loopback port: what all brokers have in common that tests play themselves."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import ClassVar, Self

from tests.brokers import HOST


class Server:
    """`with` it, one client after the other is served at `port`, by `_serve`, until the end of the block.

    What goes wrong in the thread is raised where the test waits.
    """

    deadline: ClassVar[float]
    #: What tells that a client is gone; the next one is served then.
    gone: ClassVar[type[OSError]] = OSError

    def __init__(self, name: str) -> None:
        self.connections = 0
        self._name = name
        self._changed = threading.Condition()
        self._closed = False
        self._error: BaseException | None = None
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, name=name)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(self.deadline)
        self._listener.close()

    def wait(self, ready: Callable[[], bool], what: str, deadline: float | None = None) -> None:
        """`ready` is looked at after each packet."""
        limit = self.deadline if deadline is None else deadline
        ends = time.monotonic() + limit
        with self._changed:
            while not ready():
                if self._error is not None:
                    raise RuntimeError(f"the {self._name} has ended") from self._error
                if not self._changed.wait(max(0.0, ends - time.monotonic())):
                    raise TimeoutError(f"after {limit:g} s: {what}; {self}")

    # -- in the thread

    def _run(self) -> None:
        try:
            while not self._closed:
                try:
                    sock, _ = self._listener.accept()
                except OSError:
                    return
                with sock:
                    self.connections += 1
                    try:
                        self._serve(sock)
                    except self.gone:
                        continue
        except BaseException as error:  # noqa: BLE001 - handed to the thread of the test
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _serve(self, sock: socket.socket) -> None:
        raise NotImplementedError
