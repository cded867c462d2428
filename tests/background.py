"""What runs beside a test, in a thread of its own: begun and ended with a block, waited for with a deadline."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import ClassVar, Final, Self

from tests.brokers import HOST
from tests.patience import DEADLINE

#: Seconds before a client that was thrown out comes back, and between two looks at what makes waiting vain.
_PAUSE: Final = 0.1
_LOOK: Final = 0.2


class Background:
    """`with` it, `_run` runs until the end of the block, where `closed` is set: it is `_run` that has to look.

    What goes wrong in the thread is raised where the test waits, and at the end of the block.
    """

    deadline: ClassVar[float] = DEADLINE

    def __init__(self, name: str) -> None:
        self._name = name
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._keep_error, name=name)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
        if error is None:
            self._fail()

    def end(self) -> None:
        """Ask it to end, and wait for that."""
        self._closed.set()
        self._wake()
        self._thread.join(self.deadline)
        if self._thread.is_alive():
            raise TimeoutError(f"the {self._name} did not end within {self.deadline:g} s")

    def wait(self, ready: Callable[[], bool], what: str, deadline: float | None = None) -> None:
        """Return once `ready`, which is looked at after each piece of news."""
        limit = self.deadline if deadline is None else deadline
        ends = time.monotonic() + limit
        with self._changed:
            while not ready():
                self._fail()
                if reason := self._in_vain():
                    raise RuntimeError(f"{reason}; {what}; {self}")
                if (left := ends - time.monotonic()) <= 0:
                    raise TimeoutError(f"after {limit:g} s: {what}; {self}")
                self._changed.wait(min(left, _LOOK))

    def _fail(self) -> None:
        if self._error is not None:
            raise RuntimeError(f"the {self._name} has ended") from self._error

    def _in_vain(self) -> str | None:
        """Return why what is waited for can't come any more, None when nothing speaks against it."""
        return None

    def _wake(self) -> None:
        """Get the thread out of what it waits for, when it does not look at `_closed` by itself."""

    # -- in the thread

    def _keep_error(self) -> None:
        try:
            self._run()
        except BaseException as error:  # noqa: BLE001 - handed to the thread of the test
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _run(self) -> None:
        raise NotImplementedError


class Server(Background):
    """One client after the other is served at `port`, by `_serve`: what all brokers have in common that tests play."""

    #: What tells that a client is gone; the next one is served then.
    gone: ClassVar[type[OSError]] = OSError

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.connections = 0
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]

    def end(self) -> None:
        super().end()
        self._listener.close()

    def _wake(self) -> None:
        # shutdown wakes whoever waits in accept; close alone does not.
        self._listener.shutdown(socket.SHUT_RDWR)

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._accepted(sock)

    def _accepted(self, sock: socket.socket) -> None:
        with sock:
            try:
                self._serve(sock)
            except self.gone:
                return

    def _serve(self, sock: socket.socket) -> None:
        """One connection, until it breaks or the block ends."""
        raise NotImplementedError


class Client(Background):
    """Connects to `port`, and again when it is thrown out or the broker is away, which is what tests are about."""

    def __init__(self, name: str, port: int) -> None:
        super().__init__(name)
        self.connections = 0
        self._port = port

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                with socket.create_connection((HOST, self._port), DEADLINE) as sock:
                    self.connections += 1
                    self._serve(sock)
            except OSError:
                self._closed.wait(_PAUSE)

    def _serve(self, sock: socket.socket) -> None:
        """One connection, until it breaks (OSError) or the block ends."""
        raise NotImplementedError
