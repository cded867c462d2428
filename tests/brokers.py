"""Brokers that run as processes of their own, each on free ports of the loopback interface, with nothing left behind.

All have one face: `start`, `stop` (asked to end), `kill` (no goodbye), `host`, `port`, `protocols` and `log()`. A broker
starts again on the port it had, so clients can be watched while they reconnect. `start` returns when the broker takes
connections. Those beside Mosquitto and amqtt, and what each of them can and can't, stand in `tests/every_broker.py`.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Final, TypeVar

from paho.mqtt.enums import MQTTProtocolVersion

from tests.patience import DEADLINE

HOST = "127.0.0.1"
#: Seconds in which a broker that is asked to end does; amqtt sometimes never does, and nothing of it is waited for.
_GOODBYE = 20.0


def find_program(name: str) -> str | None:
    """Where a program is; Debian keeps brokers in /usr/sbin, which is not on everybody's PATH."""
    return shutil.which(name) or shutil.which(name, path="/usr/local/sbin:/usr/sbin:/sbin")


#: Sockets of the ports that were given out last, bound and not listening, and how many: far more than a test has.
_HELD: Final[deque[socket.socket]] = deque()
_MOST_HELD: Final = 64


def free_port() -> int:
    """A port that stays free for a broker, before its first start and between two of them, whoever else asks the kernel for
    ports meanwhile: it gives none away that a socket is bound to. A broker, which lets its address be reused as every server does,
    may have it all the same, as long as the other one does not listen; and until it does, connecting is refused."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((HOST, 0))
    _HELD.append(sock)
    if len(_HELD) > _MOST_HELD:
        _HELD.popleft().close()
    port: int = sock.getsockname()[1]
    return port


class BrokerProcess:
    """A broker that runs as a process of its own; what it says goes to a file in its directory, which it makes."""

    name: ClassVar[str]
    #: The protocols it speaks, the newest first.
    protocols: ClassVar[tuple[MQTTProtocolVersion, ...]]
    #: Whether it is a family of processes, which end together.
    family: ClassVar[bool] = False

    def __init__(self, directory: Path, port: int | None = None) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.host = HOST
        self.port = port or free_port()
        self.directory = directory
        self._log = directory / "broker.log"
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        """Variables that it gets besides ours."""
        return {}

    def start(self) -> None:
        if self.running:
            return
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment()},
                start_new_session=self.family,
            )
        self._wait_until_ready(self._process)

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + DEADLINE
        while True:
            try:
                socket.create_connection((self.host, self.port), timeout=1).close()
            except OSError as error:
                refused = error
            else:
                return
            try:
                # Wait for the process to die in vain, for a moment: a broker that can't start is told at once.
                status = process.wait(0.01)
            except subprocess.TimeoutExpired:
                if time.monotonic() < deadline:
                    continue
                self.kill()
                raise TimeoutError(
                    f"{self.name} took no connection in {DEADLINE:g} s: {refused}\n{self.log()}"
                ) from None
            raise RuntimeError(f"{self.name} ended at start with status {status}:\n{self.log()}")

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError(f"{self.name} is not running")
        return self._process.pid

    def stop(self) -> None:
        """Ask it to end: it says goodbye, and writes its store when it has one."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a power cut would."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        self._signal(process, how)
        try:
            process.wait(_GOODBYE)
        except subprocess.TimeoutExpired:
            self._signal(process, signal.SIGKILL)
            process.wait(DEADLINE)
        if process.stdin is not None:
            process.stdin.close()

    def _signal(self, process: subprocess.Popen[bytes], how: signal.Signals) -> None:
        if not self.family:
            process.send_signal(how)
        elif process.poll() is None:
            os.killpg(process.pid, how)

    def restart(self) -> None:
        self.stop()
        self.start()

    def log(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def end(self) -> None:
        """Stop it and print what it said: pytest shows that when the test fails."""
        self.stop()
        print(f"--- {self.name} on port {self.port} said:\n{self.log()}")  # noqa: T201


SomeBroker = TypeVar("SomeBroker", bound=BrokerProcess)


@contextmanager
def running(broker: SomeBroker) -> Iterator[SomeBroker]:
    """A broker that is started here and ended afterwards."""
    broker.start()
    try:
        yield broker
    finally:
        broker.end()


class Mosquitto(BrokerProcess):
    """Mosquitto with a configuration of its own.

    `lines` are added to the configuration as they stand. `users` are names and passwords (nobody else gets in then);
    `acl` is the text of an acl_file; `persistence` keeps the store in the broker's directory across restarts.
    """

    name = "mosquitto"
    program = "mosquitto"
    protocols = (MQTTProtocolVersion.MQTTv5, MQTTProtocolVersion.MQTTv311)

    def __init__(
        self,
        directory: Path,
        *,
        lines: Iterable[str] = (),
        users: Mapping[str, str] | None = None,
        acl: str | None = None,
        persistence: bool = False,
        port: int | None = None,
    ) -> None:
        super().__init__(directory, port)
        self.configure(lines=lines, users=users, acl=acl, persistence=persistence)

    def configure(
        self,
        *,
        lines: Iterable[str] = (),
        users: Mapping[str, str] | None = None,
        acl: str | None = None,
        persistence: bool = False,
    ) -> None:
        """Write the configuration; a broker that runs takes it up at its next start."""
        text = [
            f"listener {self.port} {self.host}",
            f"allow_anonymous {'false' if users else 'true'}",
            f"persistence {'true' if persistence else 'false'}",
            # Started as root it would become the user mosquitto, who can't read the directories of tests.
            "user root",
            "log_dest stderr",
            "log_type all",
        ]
        if persistence:
            text.append(f"persistence_location {self.directory}/")
        if users:
            text.append(f"password_file {self._write_passwords(users)}")
        if acl is not None:
            acl_file = self.directory / "acl"
            acl_file.write_text(acl)
            acl_file.chmod(0o600)
            text.append(f"acl_file {acl_file}")
        self.configuration = self.directory / "mosquitto.conf"
        self.configuration.write_text("\n".join([*text, *lines]) + "\n")

    def _write_passwords(self, users: Mapping[str, str]) -> Path:
        program = find_program("mosquitto_passwd")
        if program is None:
            raise FileNotFoundError("mosquitto_passwd is missing: it comes with the broker's package")
        file = self.directory / "passwords"
        file.unlink(missing_ok=True)
        file.touch(0o600)
        for user, password in users.items():
            subprocess.run(
                [program, "-b", str(file), user, password], check=True, capture_output=True, timeout=DEADLINE
            )
        return file

    def command(self) -> list[str]:
        program = find_program(self.program)
        if program is None:
            raise FileNotFoundError(f"{self.program} is missing")
        return [program, "-c", str(self.configuration)]


class Amqtt(BrokerProcess):
    """amqtt, the broker inside `edge-agent demo`: pure Python, and MQTT 3.1.1 only.

    It runs apart from the tests, so that its warnings are its own affair.
    """

    name = "amqtt"
    protocols = (MQTTProtocolVersion.MQTTv311,)

    def command(self) -> list[str]:
        script = Path(__file__).parent / "contract" / "run_amqtt.py"
        return [sys.executable, "-W", "ignore", str(script), self.host, str(self.port)]
