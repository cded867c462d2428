"""`edge-agent watch` sees a running agent through a real broker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import pytest

from tests.brokers import HOST
from tests.contract.agents import NODE, RunningAgent, wait_until
from tests.contract.conftest import Connect, MosquittoFactory
from tests.e2e.tracks import ROCK
from tests.patience import DEADLINE
from tests.terminal import Screen

SENSOR = "music/hall"


class Watching:
    """`edge-agent watch` in a process of its own; its lines are kept."""

    def __init__(self, file: Path, *arguments: str) -> None:
        program = Path(sys.executable).with_name("edge-agent")
        self.process = subprocess.Popen(
            [program, "watch", "--config", file, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "COVERAGE": ""},
        )
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, name="watching")
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self.process.kill()
        self._thread.join(DEADLINE)
        self.process.wait(DEADLINE)
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def line(self, accept: Callable[[str], bool]) -> str:
        """The first line that `accept` takes."""
        with self._changed:
            if not self._changed.wait_for(lambda: any(map(accept, self.lines)), DEADLINE):
                raise TimeoutError(f"none of these lines: {self.lines[-20:]}")
            return next(filter(accept, self.lines))

    def event(self, kind: str, **wanted: Any) -> dict[str, Any]:
        """The first event of a kind with these values."""

        def accept(line: str) -> bool:
            event = json.loads(line)
            return event["event"] == kind and all(event.get(key) == value for key, value in wanted.items())

        found: dict[str, Any] = json.loads(self.line(accept))
        return found

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Tell it to end; return its status, and what it complained about."""
        self.process.send_signal(number)
        status = self.process.wait(DEADLINE)
        assert self.process.stderr is not None
        return status, self.process.stderr.read()


@pytest.fixture
def configuration(tmp_path: Path) -> Callable[..., Path]:
    def write(port: int, more: str = "") -> Path:
        file = tmp_path / "watch.toml"
        file.write_text(f'[node]\nid = "{NODE}"\n[mqtt]\nhost = "{HOST}"\nport = {port}\n{more}\n')
        return file

    return write


def test_events_of_a_node_and_its_sensors(
    mosquitto: MosquittoFactory, connect: Connect, stack: ExitStack, configuration: Callable[..., Path]
) -> None:
    broker = mosquitto()
    watching = stack.enter_context(Watching(configuration(broker.port), "--json"))
    assert watching.event("connected")["broker"] == f"{HOST}:{broker.port}"
    client = connect(broker)
    with RunningAgent(broker.port, health={"interval": 1}):
        assert watching.event("state", node=NODE)["state"] == "online"
        assert watching.event("info")["info"]["models"][0]["name"] == "genre"
        # Where answers come it knows from the info.
        wait_until(lambda: "music/+/genre/error (QoS 0)" in broker.log(), "the subscription to the answers")
        client.publish(f"{SENSOR}/features", ROCK)
        client.publish(f"{SENSOR}/features", '{"tempo": -5}')
        assert watching.event("health", node=NODE)["health"]["interval"] > 0
        prediction = watching.event("prediction", topic=f"{SENSOR}/genre", nodes=[NODE])
        assert prediction["prediction"]["label"] == "Rock"
        rejection = watching.event("rejection", topic=f"{SENSOR}/genre/error", model="genre")
        assert rejection["rejection"]["error"] == "invalid_features"
    watching.event("state", state="offline")
    broker.stop()
    assert "trying again" not in watching.event("lost")["reason"]
    broker.start()
    watching.line(lambda _: sum('"connected"' in one for one in watching.lines) == 2)
    assert watching.end() == (0, "")


def test_plain_lines_of_one_node(
    mosquitto: MosquittoFactory, connect: Connect, stack: ExitStack, configuration: Callable[..., Path]
) -> None:
    broker = mosquitto()
    client = connect(broker)
    watching = stack.enter_context(Watching(configuration(broker.port), "--node", NODE))
    watching.line(lambda line: "connected to" in line)
    client.publish("edge/other/state", "online", retain=True)
    client.publish(f"edge/{NODE}/state", "on\x1b]0;pwned\x07line", retain=True)
    assert watching.line(lambda line: NODE in line).endswith(f"{NODE}  on\\x1b]0;pwned\\x07line")
    assert not any("other" in line for line in watching.lines)
    assert watching.end(signal.SIGINT) == (0, "")


def test_a_reader_that_has_ended_ends_it(mosquitto: MosquittoFactory, configuration: Callable[..., Path]) -> None:
    program = Path(sys.executable).with_name("edge-agent")
    ours, its = os.pipe()
    with subprocess.Popen(
        [program, "watch", "--config", configuration(mosquitto().port)], stdout=its, stderr=subprocess.PIPE, text=True
    ) as process:
        os.close(its)
        assert b"connected" in os.read(ours, 1000)
        os.close(ours)
        assert process.communicate(timeout=DEADLINE)[1] == ""
        assert process.returncode == 0


def test_the_way_of_one_sensors_messages(
    mosquitto: MosquittoFactory, connect: Connect, stack: ExitStack, configuration: Callable[..., Path]
) -> None:
    broker = mosquitto()
    client = connect(broker)
    stack.enter_context(RunningAgent(broker.port))
    topic = f"{SENSOR}/features"
    watching = stack.enter_context(Watching(configuration(broker.port), "--json", "--topic", topic))
    wait_until(lambda: f"{SENSOR}/genre/error (QoS 0)" in broker.log(), "the subscription to the answers")
    client.publish("music/attic/features", ROCK)
    client.publish(topic, {**ROCK, "id": 1})
    client.publish(topic, {"tempo": -5, "id": 2})
    assert watching.event("message", topic=topic)["message"] == {**ROCK, "id": 1}
    prediction = watching.event("prediction", topic=f"{SENSOR}/genre", to=topic)
    assert prediction["prediction"]["label"] == "Rock"
    rejection = watching.event("rejection", to=topic)
    assert len(rejection["rejection"]["detail"]) == 8
    assert min(prediction["after_ms"], rejection["after_ms"]) >= 0
    assert not any("attic" in line for line in watching.lines)
    assert watching.end() == (0, "")


def test_a_broker_that_retains_nothing(
    mosquitto: MosquittoFactory, connect: Connect, stack: ExitStack, configuration: Callable[..., Path]
) -> None:
    broker = mosquitto(lines=["retain_available false"])
    client = connect(broker)
    client.subscribe(f"edge/{NODE}/state")
    stack.enter_context(RunningAgent(broker.port))
    client.wait_for_payload(f"edge/{NODE}/state", "online")
    # Nobody tells it the routes any more, but the configuration does.
    watching = stack.enter_context(Watching(configuration(broker.port), "--json"))
    wait_until(lambda: "music/+/genre/error (QoS 0)" in broker.log(), "the subscription to the answers")
    client.publish(f"{SENSOR}/features", ROCK)
    assert watching.event("prediction", nodes=[NODE])["topic"] == f"{SENSOR}/genre"


def test_a_broker_that_is_away_is_said_and_tried_again(
    mosquitto: MosquittoFactory, stack: ExitStack, configuration: Callable[..., Path]
) -> None:
    broker = mosquitto(start=False)
    watching = stack.enter_context(Watching(configuration(broker.port), "--json"))
    assert "no connection: Connection refused" in watching.event("lost")["reason"]
    broker.start()
    watching.event("connected")
    assert watching.end() == (0, "")


def test_what_it_may_not_read_is_said(
    mosquitto: MosquittoFactory, stack: ExitStack, configuration: Callable[..., Path], tmp_path: Path
) -> None:
    password = tmp_path / "password"
    password.write_text("wrong")
    broker = mosquitto(users={"ann": "secret"}, acl=f"user ann\ntopic read edge/{NODE}/#\n")
    login = f'username = "ann"\npassword_file = "{password}"'
    watching = stack.enter_context(Watching(configuration(broker.port, login), "--json"))
    assert "refused the connection: Not authorized; check mqtt.username" in watching.event("lost")["reason"]
    password.write_text("secret")  # it is read again with each attempt
    watching.event("connected")
    assert "this user may read" in watching.event("hint")["hint"]  # nothing comes
    assert watching.end() == (0, "")


def test_the_table_on_a_terminal(
    mosquitto: MosquittoFactory, connect: Connect, stack: ExitStack, configuration: Callable[..., Path]
) -> None:
    pytest.importorskip("rich", reason="the extra `watch` is not installed")
    broker = mosquitto()
    client = connect(broker)
    stack.enter_context(RunningAgent(broker.port))
    program = Path(sys.executable).with_name("edge-agent")
    with Screen([program, "watch", "--config", configuration(broker.port)]) as written:
        wait_until(lambda: "music/+/genre/error (QoS 0)" in broker.log(), "the subscription to the answers")
        client.publish(f"{SENSOR}/features", ROCK)
        client.publish("music/attic/features", {"tempo": -5})
        written.read_until(f"{SENSOR}/genre", "Rock", "music/attic/genre", "invalid_features", NODE, "online")
        written.process.send_signal(signal.SIGINT)
        assert written.end() == 0
    screen, _, left = written.text.rpartition("\x1b[?1049l")
    assert "\x1b[?1049h" in screen  # the terminal gets its own content back, and below it the last table
    assert screen.count("\x1b[?25l") == written.text.count("\x1b[?25h") == 1  # and its cursor
    assert f"{SENSOR}/genre" in left
    assert "Traceback" not in written.text


def test_it_ends_after_some_seconds(mosquitto: MosquittoFactory, configuration: Callable[..., Path]) -> None:
    broker = mosquitto(start=False)
    with Watching(configuration(broker.port), "--seconds", "0.1") as watching:
        assert watching.process.wait(DEADLINE) == 1  # it never had a connection
    broker.start()
    with Watching(configuration(broker.port), "--seconds", "1") as watching:
        watching.line(lambda line: "connected to" in line)
        assert watching.process.wait(DEADLINE) == 0
