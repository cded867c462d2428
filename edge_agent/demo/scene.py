"""The demo itself: starts broker and agent, simulates the sensors, and matches the answers."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import IO, Any, Final

from edge_agent.config.load import ENVIRONMENT
from edge_agent.contract import topics
from edge_agent.contract.card import ModelCard
from edge_agent.contract.messages import Answer, Message
from edge_agent.contract.templates import Template
from edge_agent.demo.sensors import PUBLISH, Reading, all_sensors, routes_of
from edge_agent.demo.view import Line, View
from edge_agent.errors import BrokerError
from edge_agent.link.link import Address, Link
from edge_agent.model.outputs import Output

_NODE: Final = "demo"
_PER_SECOND: Final = 8
#: Seconds for broker and agent to start, and for the last answers to arrive.
_DEADLINE: Final = 60.0
_LAST_ANSWERS: Final = 10.0
#: Most kinds of answers, and of errors, whose counts are shown.
_COUNTED: Final = 20


@dataclass
class Score:
    """The score: counts, and the times from a message's PUBLISH to its answer, in seconds.

    `counted` is what `answers` are counted by: what stands first in each. `sent` are the messages that have to be answered,
    `parts` those of which nothing can be answered yet.
    """

    counted: str
    sent: int = 0
    parts: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    rejections: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)

    @property
    def answered(self) -> int:
        """The number of answered messages."""
        return self.answers.total() + self.rejections.total()

    def summary(self) -> list[str]:
        """Return the figures, one per line."""
        parts = f"; {self.parts} more brought the first part of a row only" if self.parts else ""
        lines = [
            "",
            f"messages    {self.sent} sent, {self.answered} answered{parts}",
            f"{self.counted + 's':11} {_counts(self.answers)}",
            f"rejections  {_counts(self.rejections)}",
        ]
        if self.latencies:
            ordered = sorted(self.latencies)
            p50, p99 = ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]
            lines.append(
                f"latency     p50 {p50 * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms, from publish to answer, through the embedded broker"
            )
        return lines


class Scene:
    """One demo of one model, with its own topics on its own broker."""

    def __init__(self, card: ModelCard, output: Output, model: str, *, seed: int) -> None:
        self._routes = routes_of(card, model)
        self._output = output
        self._answers, self._errors = Template(PUBLISH), Template(f"{PUBLISH}/error")
        self._sensors = all_sensors(card, seed)
        self._waiting: dict[int, tuple[Reading, float]] = {}
        self.score = Score(output.columns[0])

    def play(
        self, seconds: float, view: View, stop: int, ready: Callable[[int], None], *, websockets: int | None = None
    ) -> None:
        """Play for `seconds`, or until the file descriptor `stop` is readable. `ready` is called with the broker's port before
        the first. The broker also listens for `websockets` on that port.
        """
        port = free_port()
        with _broker(port, websockets), _agent(port, self._routes):
            link = self._connect(port)
            ready(port)
            try:
                with view:
                    self._stream(link, seconds, view, stop)
            finally:
                link.close()

    def _connect(self, port: int) -> Link:
        """Connect the sensors' client and wait until the agent is online."""
        state = topics.state(_NODE)
        link = Link(
            Address(host="127.0.0.1", port=port, client_id="demo-sensors"),
            protocol="3.1.1",
            subscriptions=dict.fromkeys((self._answers.filter, self._errors.filter, state), False),
        )
        ends = time.monotonic() + _DEADLINE
        while time.monotonic() < ends:
            for message in link.receive(0.2):
                link.answer(message, [])
                if message.topic == state and message.payload == b"online":
                    return link
        raise BrokerError(f"the agent did not come online within {_DEADLINE:.0f} s")

    def _stream(self, link: Link, seconds: float, view: View, stop: int) -> None:
        began = time.monotonic()
        next_reading = began
        while time.monotonic() < began + seconds and not _readable(stop):
            if time.monotonic() >= next_reading:
                next_reading += 1 / _PER_SECOND
                self._send(link)
            self._collect(link, max(0.0, next_reading - time.monotonic()), view, stop)
        ends = time.monotonic() + _LAST_ANSWERS
        while self._waiting and time.monotonic() < ends:
            self._collect(link, ends - time.monotonic(), view, None)

    def _send(self, link: Link) -> None:
        reading = next(self._sensors)
        if reading.answered:
            self.score.sent += 1
            self._waiting[reading.id] = reading, time.monotonic()
        else:
            self.score.parts += 1
        link.publish(Answer(reading.topic, reading.payload, qos=1, content_type=None))

    def _collect(self, link: Link, timeout: float, view: View, stop: int | None) -> None:
        for message in link.receive(timeout, stop):
            link.answer(message, [])
            self._take(message, view)

    def _take(self, message: Message, view: View) -> None:
        template = self._errors if self._errors.match(message.topic) else self._answers
        captured = template.match(message.topic)
        content = _content(message.payload)
        if captured is None or content is None:
            return
        number = content.get("id")
        if type(number) is not int or number not in self._waiting:
            number = self._oldest_unnumbered(captured["sensor"])
        if number is None:
            return  # what a person sends from the page
        reading, sent = self._waiting.pop(number)
        self.score.latencies.append(time.monotonic() - sent)
        topic = reading.topic
        if "error" not in content:
            cells = self._output.cells(content)
            self.score.answers[cells[0]] += 1
            view.show(Line(topic, reading.summary, cells))
        else:
            first = content["detail"][0]
            self.score.rejections[content["error"]] += 1
            place = ".".join(str(part) for part in first["loc"])
            reason = f"{place}: {first['msg']}" if place else first["msg"]
            view.show(Line(topic, reading.summary, error=content["error"], reason=reason))

    def _oldest_unnumbered(self, sensor: str) -> int | None:
        """Return the oldest message of a sensor whose answer has no id of ours: answers are in order. None if there is none."""
        waiting = self._waiting.items()
        return next((number for number, (one, _) in waiting if one.sensor == sensor and not one.numbered), None)


def _content(payload: bytes) -> dict[str, Any] | None:
    """Return the answer to one row; None for anything else, which others may publish."""
    try:
        content = json.loads(payload)
    except ValueError:
        return None
    return content if isinstance(content, dict) and "model" in content else None


def _counts(counter: Counter[str]) -> str:
    """Return the most common ones, each with its count."""
    shown = [f"{count} {name}" for name, count in counter.most_common(_COUNTED)]
    return ", ".join(shown if len(counter) <= _COUNTED else [*shown, "…"]) or "none"


def _readable(descriptor: int) -> bool:
    return bool(select.select([descriptor], [], [], 0)[0])


def free_port() -> int:
    """Return a loopback port that was free a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@contextlib.contextmanager
def _broker(port: int, websockets: int | None) -> Iterator[None]:
    command = [sys.executable, "-m", "edge_agent.demo.broker", str(port)]
    if websockets is not None:
        command.append(str(websockets))
    with _process(command, dict(os.environ), "broker") as (process, said):
        assert process.stdout is not None  # noqa: S101 - a pipe was asked for
        if not select.select([process.stdout], [], [], _DEADLINE)[0] or process.stdout.readline() != b"ready\n":
            raise BrokerError(f"the embedded broker did not start: {_tail(said)}")
        yield


@contextlib.contextmanager
def _agent(port: int, routes: list[dict[str, Any]]) -> Iterator[None]:
    """Run the real agent with the demo's settings, ignoring the user's."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ENVIRONMENT)}
    environment |= {
        "EDGE_AGENT_NODE__ID": _NODE,
        "EDGE_AGENT_MQTT__HOST": "127.0.0.1",
        "EDGE_AGENT_MQTT__PORT": str(port),
        "EDGE_AGENT_MQTT__PROTOCOL": "3.1.1",  # the only version that the embedded broker supports
        "EDGE_AGENT_MQTT__SESSION_EXPIRY": "0",
        "EDGE_AGENT_ROUTE": json.dumps(routes),
    }
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as empty:
        command = [sys.executable, "-m", "edge_agent", "run", "--config", empty.name]
        with _process(command, environment, "agent") as (process, said):
            try:
                yield
            except BrokerError as error:
                raise BrokerError(f"{error}; the agent's log: {_tail(said)}") from None
            process.send_signal(signal.SIGTERM)
            if process.wait(_DEADLINE) != 0:
                raise BrokerError(f"the agent ended with {process.returncode}: {_tail(said)}")


@contextlib.contextmanager
def _process(
    command: list[str], environment: dict[str, str], name: str
) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
    """Run a process in its own group (Ctrl-C reaches only the demo); it is stopped afterwards."""
    with tempfile.TemporaryFile(prefix=name) as said:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter with our own modules
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            start_new_session=True,
        )
        try:
            yield process, said
        finally:
            process.terminate()
            try:
                process.wait(_DEADLINE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()


def _tail(said: IO[bytes]) -> str:
    said.seek(0)
    lines = said.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "(nothing)"
