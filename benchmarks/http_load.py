"""A load generator for HTTP/1.1 on bare sockets, for the reason that load.py has one for MQTT.

Each connection is kept alive and has one request in flight, as HTTP clients do: `connections` is what is outstanding.
It reads answers that have a Content-Length, and gives up loudly on anything else and on any status but 200.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack

from benchmarks.load import Outcome

_CHUNK = 1 << 18


def run(
    port: int,
    *,
    path: str,
    payloads: list[bytes],
    seconds: float,
    connections: int = 20,
    limit: int | None = None,
    deadline: float = 30.0,
    on_answer: Callable[[bytes], None] | None = None,
) -> Outcome:
    """POST `payloads` in turn to `path` for `seconds`, or `limit` requests; `on_answer` is given each answer's body.

    Raises `TimeoutError` when no answer comes for `deadline` seconds.
    """
    requests = [_request(path, payload) for payload in payloads]
    latencies: list[float] = []
    sent = 0
    with ExitStack() as stack:
        poll = stack.enter_context(select.epoll())
        waiting: dict[int, _Exchange] = {}
        opened: list[_Exchange] = []
        for _ in range(connections):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=deadline))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            poll.register(sock, select.EPOLLIN)
            opened.append(_Exchange(sock))
        began = time.perf_counter()
        ends = began + seconds
        for exchange in opened[:limit]:
            exchange.ask(requests[sent % len(requests)])
            waiting[exchange.sock.fileno()] = exchange
            sent += 1
        while waiting:
            ready = poll.poll(deadline)
            if not ready:
                raise TimeoutError(f"no answer on port {port} for {deadline:g} s")
            for number, _ in ready:
                exchange = waiting[number]
                body = exchange.receive()
                if body is None:
                    continue
                now = time.perf_counter()
                latencies.append(now - exchange.asked)
                if on_answer is not None:
                    on_answer(body)
                if now < ends and (limit is None or sent < limit):
                    exchange.ask(requests[sent % len(requests)])
                    sent += 1
                else:
                    poll.unregister(number)
                    del waiting[number]
        return Outcome(len(latencies), time.perf_counter() - began, latencies)


class _Exchange:
    """One connection with its request in flight."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.asked = 0.0
        self._buffer = b""

    def ask(self, request: bytes) -> None:
        self.asked = time.perf_counter()
        self.sock.sendall(request)

    def receive(self) -> bytes | None:
        """Read what has arrived; return the body once the answer is complete."""
        data = self.sock.recv(_CHUNK)
        if not data:
            raise ConnectionError("the server closed a connection that was to be kept alive")
        self._buffer += data
        answer = parse(self._buffer)
        if answer is not None:
            self._buffer = b""
        return answer


def parse(data: bytes) -> bytes | None:
    """Return the body of an answer, or None when it is not complete. Raises `ConnectionError` on what is not expected."""
    head, separator, body = data.partition(b"\r\n\r\n")
    if not separator:
        return None
    status, *fields = head.split(b"\r\n")
    for field in fields:
        name, _, value = field.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
            break
    else:
        raise ConnectionError(f"an answer without Content-Length: {head!r}")
    if len(body) < length:
        return None
    if status.split(b" ")[1] != b"200" or len(body) > length:
        raise ConnectionError(f"not an answer: {data[:500]!r}")
    return body


def _request(path: str, payload: bytes) -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(payload)}\r\n\r\n"
    )
    return head.encode() + payload
