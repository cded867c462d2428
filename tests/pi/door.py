"""A way from a machine's own network to one place outside: passes bytes, both ways."""

from __future__ import annotations

import select
import socket
import threading
from types import TracebackType
from typing import Final, Self

DEADLINE: Final = 60.0
_PIECE: Final = 1 << 16


class Door:
    """Inside the block, who connects to `listener` is connected to the address."""

    def __init__(self, listener: socket.socket, to: tuple[str, int]) -> None:
        self._listener = listener
        self._to = to
        self._threads = [threading.Thread(target=self._accept, name="door")]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # shutdown wakes whoever waits in accept; close alone does not.
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(DEADLINE)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:  # closed, as above
                return
            thread = threading.Thread(target=self._pass_on, args=(near,), name="door")
            self._threads.append(thread)
            thread.start()

    def _pass_on(self, near: socket.socket) -> None:
        """Pass bytes on until one of the two ends has no more."""
        with near, socket.create_connection(self._to, DEADLINE) as far:
            other = {near: far, far: near}
            while True:
                for source in select.select(other, (), ())[0]:
                    try:
                        piece = source.recv(_PIECE)
                    except ConnectionResetError:
                        return
                    if not piece:
                        return
                    other[source].sendall(piece)
