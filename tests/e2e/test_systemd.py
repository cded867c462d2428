"""The service: the notify protocol of sd_notify(3) as systemd would see it, and the unit file."""

from __future__ import annotations

import configparser
import json
import re
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from tests.contract.client import Client
from tests.e2e.conftest import END_WITHIN, ROOT, Agent, call
from tests.e2e.tracks import ROCK
from tests.patience import DEADLINE, fair

UNIT = ROOT / "systemd" / "edge-agent.service"
#: Short, so that the test is; the unit says 30.
WATCHDOG_SECONDS = 2.4


class Notified:
    """The socket that systemd would listen on: what arrived, in order, with the time of arrival."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.bind(address.replace("@", "\0", 1))
        self.lines: list[tuple[float, str]] = []
        self.in_vain: Callable[[], str | None] = lambda: None

    def wait_for(self, line: str, count: int = 1) -> list[float]:
        """When the first `count` lines that begin so arrived."""
        deadline = time.monotonic() + DEADLINE
        while True:
            times = [when for when, text in self.lines if text.startswith(line)]
            if len(times) >= count:
                return times[:count]
            self._socket.settimeout(0.2)
            try:
                data = self._socket.recv(65536)
            except TimeoutError:
                if reason := self.in_vain():
                    raise RuntimeError(reason) from None
                if time.monotonic() < deadline:
                    continue
                raise TimeoutError(f"{len(times)} of {count} {line!r} in {DEADLINE:g} s; came: {self.lines}") from None
            now = time.monotonic()
            self.lines += [(now, text) for text in data.decode().splitlines()]

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def notified(request: pytest.FixtureRequest, agent: Agent) -> Iterator[Notified]:
    # A socket's address holds 107 bytes at most, so it does not lie below tmp_path.
    directory = Path(tempfile.mkdtemp(prefix="notify-"))
    path = directory / "socket"
    notified = Notified(f"@{path}" if getattr(request, "param", "") == "abstract" else str(path))
    notified.in_vain = agent.in_vain
    yield notified
    notified.close()
    shutil.rmtree(directory)


@pytest.mark.parametrize("notified", ["path", "abstract"], indirect=True)
def test_serving_comes_after_the_subscription(agent: Agent, client: Client, notified: Notified) -> None:
    client.subscribe("music/+/genre")
    agent.start(NOTIFY_SOCKET=notified.address)
    notified.wait_for("READY=1")
    notified.wait_for("STATUS=serving genre")
    # It is subscribed by now, so this must be answered; published before, it would be lost.
    client.publish("music/a/features", ROCK, qos=0)
    assert json.loads(client.message("music/a/genre").payload)["label"] == "Rock"
    assert agent.stop() == 0
    notified.wait_for("STOPPING=1")
    kinds = [text for _, text in notified.lines]
    assert kinds.index("READY=1") < kinds.index("STOPPING=1")
    assert kinds.count("READY=1") == 1


def test_it_lives_without_a_broker(agent: Agent, notified: Notified) -> None:
    """A broker that is away is no reason to be killed, nor to keep a boot waiting: it is ready, says what is missing, and
    feeds the watchdog.
    """
    agent.broker.stop()
    agent.start(NOTIFY_SOCKET=notified.address, WATCHDOG_USEC=str(int(WATCHDOG_SECONDS * 1e6)))
    notified.wait_for("READY=1")
    notified.wait_for("STATUS=waiting for the broker: ")
    notified.wait_for("WATCHDOG=1", 2)
    agent.broker.start()
    notified.wait_for("STATUS=serving genre")
    kinds = [text.partition("=")[0] for _, text in notified.lines]
    assert kinds.count("READY") == 1
    assert agent.stop() == 0


@pytest.mark.parametrize("content", ["[mqtt\n", '[[route]]\nmodel = "nowhere"\n'])
def test_what_only_an_edit_can_mend_ends_the_start(
    agent: Agent, notified: Notified, tmp_path: Path, content: str
) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(content)
    agent.start("--config", str(file), NOTIFY_SOCKET=notified.address)
    assert agent.process is not None
    assert agent.process.wait(DEADLINE) in {2, 3}
    agent.end()
    notified.wait_for("STATUS=can't start: ")
    assert not [text for _, text in notified.lines if text.startswith("READY=1")]


def test_the_watchdog_is_fed_in_time(agent: Agent, notified: Notified) -> None:
    agent.start(NOTIFY_SOCKET=notified.address, WATCHDOG_USEC=str(int(WATCHDOG_SECONDS * 1e6)))
    notified.wait_for("READY=1")
    times = notified.wait_for("WATCHDOG=1", 4)
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert max(gaps) < fair(WATCHDOG_SECONDS), gaps


def test_a_watchdog_for_another_process_is_not_fed(agent: Agent, notified: Notified) -> None:
    agent.start(NOTIFY_SOCKET=notified.address, WATCHDOG_USEC="100000", WATCHDOG_PID="1")
    notified.wait_for("READY=1")
    assert agent.stop() == 0
    notified.wait_for("STOPPING=1")
    assert not [text for _, text in notified.lines if text.startswith("WATCHDOG=1")]


def write(file: Path, publish: str) -> None:
    file.write_text(f'[[route]]\nsubscribe = "music/{{sensor}}/features"\npublish = "{publish}"\n')


def test_a_reload_takes_new_settings_and_loses_nothing(
    agent: Agent, client: Client, notified: Notified, tmp_path: Path
) -> None:
    file = tmp_path / "agent.toml"
    write(file, "old/{sensor}")
    client.subscribe("old/+", "new/+", "edge/node/state")
    agent.start("--config", str(file), NOTIFY_SOCKET=notified.address)
    notified.wait_for("STATUS=serving genre")
    write(file, "new/{sensor}")
    for number in range(200):
        client.publish("music/a/features", {**ROCK, "id": number}, qos=1)
        if number == 50:
            agent.send(signal.SIGHUP)
    notified.wait_for("STATUS=serving genre", 2)
    client.publish("music/b/features", {**ROCK, "id": 200}, qos=1)
    assert json.loads(client.message("new/b").payload)["label"] == "Rock"
    answered = {json.loads(message.payload)["id"] for message in client.seen("+/a")}
    assert answered == set(range(200))
    # RELOADING with the time it was said at, and READY after it: what Type=notify-reload waits for.
    kinds = [text.partition("=")[0] for _, text in notified.lines if not text.startswith("STATUS")]
    assert kinds == ["READY", "RELOADING", "MONOTONIC_USEC", "READY"]
    # On one connection, which nobody saw end.
    assert [message.payload for message in client.seen("edge/node/state")] == [b"online"]
    assert agent.broker.log().count("Received SUBSCRIBE from edge-agent-node") == 1
    assert agent.stop() == 0


@pytest.mark.parametrize("broken", ["[mqtt\n", '[[route]]\nmodel = "nowhere"\n'])
def test_a_reload_that_can_t_be_is_refused(
    agent: Agent, client: Client, notified: Notified, tmp_path: Path, broken: str
) -> None:
    file = tmp_path / "agent.toml"
    write(file, "old/{sensor}")
    client.subscribe("old/+")
    agent.start("--config", str(file), NOTIFY_SOCKET=notified.address)
    notified.wait_for("STATUS=serving genre")
    file.write_text(broken)
    agent.send(signal.SIGHUP)
    notified.wait_for("STATUS=reload rejected: ")
    client.publish("music/a/features", ROCK, qos=1)
    assert json.loads(client.message("old/a").payload)["label"] == "Rock"
    write(file, "old/again/{sensor}")
    client.subscribe("old/again/+")
    agent.send(signal.SIGHUP)
    notified.wait_for("READY=1", 3)
    notified.wait_for("STATUS=serving genre", 2)
    client.publish("music/a/features", ROCK, qos=1)
    assert json.loads(client.message("old/again/a").payload)["label"] == "Rock"
    assert agent.stop() == 0
    assert agent.log().count("reload rejected") == 1


def test_a_reload_ends_without_a_broker_too(agent: Agent, notified: Notified, tmp_path: Path) -> None:
    """`systemctl reload` waits for READY=1 after RELOADING=1; a broker that is away must not hold it up."""
    agent.broker.stop()
    file = tmp_path / "agent.toml"
    write(file, "old/{sensor}")
    agent.start("--config", str(file), NOTIFY_SOCKET=notified.address)
    notified.wait_for("STATUS=waiting for the broker: ")
    file.write_text("[mqtt\n")
    agent.send(signal.SIGHUP)
    notified.wait_for("STATUS=reload rejected: ")
    notified.wait_for("READY=1", 2)
    write(file, "new/{sensor}")
    agent.send(signal.SIGHUP)
    notified.wait_for("READY=1", 3)
    agent.broker.start()
    notified.wait_for("STATUS=serving genre")
    assert agent.log().count("reload rejected") == 1
    assert agent.stop() == 0


def test_reloads_leave_nothing_behind(agent: Agent, notified: Notified, tmp_path: Path) -> None:
    """What was in use before is given back, also where it refers to itself: two of three reloads leave a connection."""
    file = tmp_path / "agent.toml"
    file.write_text("")
    agent.start("--config", str(file), NOTIFY_SOCKET=notified.address)
    notified.wait_for("READY=1")

    def reload(first: int, last: int) -> int:
        """Reload so often; return the resident memory afterwards."""
        for number in range(first, last):
            file.write_text(f"[mqtt]\nkeepalive = {20 + number % 3 // 2}\n")
            agent.send(signal.SIGHUP)
            notified.wait_for("READY=1", number + 1)
        return agent.memory().now

    before = reload(1, 15)
    # A kilobyte or so each is the allocator's; what one agent leaves in cycles is more than thirty.
    assert reload(15, 45) - before < 1 << 19
    assert agent.stop() == 0


def test_no_systemd_no_notify(agent: Agent, client: Client) -> None:
    client.subscribe("edge/+/state")
    agent.start()
    client.wait_for_payload("edge/node/state", "online")
    assert agent.stop() == 0


def test_a_socket_that_is_gone_does_no_harm(agent: Agent, client: Client, tmp_path: Path) -> None:
    client.subscribe("edge/+/state")
    agent.start(NOTIFY_SOCKET=str(tmp_path / "none"), WATCHDOG_USEC="100000")
    client.wait_for_payload("edge/node/state", "online")
    assert agent.stop() == 0


# The unit file.


class Unit(configparser.RawConfigParser):
    def optionxform(self, optionstr: str) -> str:
        return optionstr


@pytest.fixture(scope="module")
def unit() -> Unit:
    # Not strict: a unit may say a key several times; the last one stays.
    parser = Unit(strict=False, delimiters=("=",), comment_prefixes=("#", ";"))
    parser.read_string(UNIT.read_text())
    return parser


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("Type", "notify-reload"),
        ("NotifyAccess", "main"),
        ("ExecStart", "/usr/bin/edge-agent run --config /etc/edge-agent/edge-agent.toml"),
        ("WatchdogSec", "60"),
        ("Restart", "always"),
        ("DynamicUser", "yes"),
        ("StateDirectory", "edge-agent edge-agent/models"),
    ],
)
def test_the_service_is_as_agreed(unit: Unit, key: str, value: str) -> None:
    assert unit["Service"][key] == value


def test_the_unit_gives_the_agent_its_time(unit: Unit) -> None:
    assert float(unit["Service"]["TimeoutStopSec"]) > END_WITHIN
    assert unit["Unit"]["Wants"] == "network-online.target"
    assert {"network-online.target", "mosquitto.service"} <= set(unit["Unit"]["After"].split())
    # It restarts for as long as it takes: a device in the field has nobody to start it again.
    assert unit["Unit"]["StartLimitIntervalSec"] == "0"
    assert unit["Install"]["WantedBy"] == "multi-user.target"


def test_the_service_does_not_report_home() -> None:
    assert "\nEnvironment=ORT_DISABLE_TELEMETRY=1\n" in UNIT.read_text()


def test_the_sandbox_leaves_the_processors_visible(unit: Unit) -> None:
    """onnxruntime aborts at import when /sys/devices/system/cpu is hidden."""
    hiding = {"ProcSubset", "InaccessiblePaths", "TemporaryFileSystem", "RootDirectory", "RootImage"}
    assert not hiding & unit["Service"].keys()


def test_systemd_accepts_the_unit(unit: Unit, tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is missing")
    text = UNIT.read_text().replace("/usr/bin/edge-agent ", "/bin/true ")
    copy = tmp_path / UNIT.name
    copy.write_text(text)
    done = call(program, "verify", "--man=no", "--recursive-errors=no", copy)
    if "unrecognized option" in done.stderr or "Failed to connect" in done.stderr:
        pytest.skip(f"systemd-analyze can't verify here: {done.stderr.strip()}")
    complaints = [
        line
        for line in done.stderr.splitlines()
        # What is newer than this systemd is ignored by it: notify-reload (253), RestartSteps and ImportCredential (254).
        if UNIT.name in line
        and not re.search(r"Unknown key (name )?'(Restart(Steps|MaxDelaySec)|ImportCredential)'|notify-reload", line)
    ]
    assert complaints == []
