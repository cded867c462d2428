"""The installed thing: the wheel in an environment of its own, with nothing of the source tree in reach.

`scripts/test` names a wheel that it has built (TESTED_WHEEL) or an environment that has it installed already
(TESTED_VENV: the old end of the version ranges). Without either, both are made here.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.brokers import HOST, Mosquitto, running
from tests.contract.client import Client
from tests.patience import DEADLINE, fair
from tests.requirements import require_mosquitto

ROOT = Path(__file__).parent.parent.parent
#: The promise of `run`: SIGTERM ends it within this many seconds (of a machine of its own).
END_WITHIN = 5.0


def call(*command: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    options.setdefault("timeout", 1500)
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, **options)


def must(*command: str | Path) -> None:
    done = call(*command)
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}"


def uv() -> str | None:
    return None if os.environ.get("WITHOUT_UV") else shutil.which("uv")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if given := os.environ.get("TESTED_WHEEL"):
        return Path(given)
    if not (ROOT / "edge_agent").is_dir():
        pytest.skip("no source here to build a wheel from")
    directory = tmp_path_factory.mktemp("wheel")
    if uv():
        must("uv", "build", "--wheel", "--python", sys.executable, "--out-dir", directory, ROOT)
    else:
        must(sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", directory, ROOT)
    (built,) = directory.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def venv(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the base install and nothing else, or the one that was named."""
    if given := os.environ.get("TESTED_VENV"):
        return Path(given)
    wheel = request.getfixturevalue("wheel")
    directory = tmp_path_factory.mktemp("installed") / "venv"
    if uv():
        must("uv", "venv", "--python", sys.executable, directory)
        must("uv", "pip", "install", "--python", directory / "bin" / "python", wheel)
    else:
        must(sys.executable, "-m", "venv", directory)
        must(directory / "bin" / "python", "-m", "pip", "install", wheel)
    return directory


@pytest.fixture(scope="session")
def python(venv: Path) -> Path:
    return venv / "bin" / "python"


@pytest.fixture(scope="session")
def edge_agent(venv: Path) -> Path:
    """The installed command."""
    return venv / "bin" / "edge-agent"


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory to run commands in, with no setting of the agent in the environment."""
    for name in list(os.environ):
        if name.startswith(("EDGE_AGENT_", "NOTIFY_", "WATCHDOG_", "JOURNAL_", "PYTHON")):
            monkeypatch.delenv(name)
    directory = tmp_path / "elsewhere"
    directory.mkdir()
    monkeypatch.chdir(directory)
    return directory


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    require_mosquitto()
    with running(Mosquitto(tmp_path / "broker")) as broker:
        yield broker


@pytest.fixture
def client(broker: Mosquitto) -> Iterator[Client]:
    with Client(broker.port) as client:
        yield client


class Memory(NamedTuple):
    """Resident bytes of a process (proc(5): VmRSS and VmHWM, in KiB there)."""

    now: int
    peak: int

    def growth(self, before: Memory) -> int:
        """By how many bytes it has grown, or has been above all that it had been."""
        return max(self.now - before.now, self.peak - before.peak)


class Agent:
    """`edge-agent run` as a process."""

    def __init__(self, command: Path, directory: Path, broker: Mosquitto) -> None:
        self._command = command
        #: What the command is an argument of (what puts it into a control group, say).
        self.wrapper: Sequence[str] = ()
        self._log = directory / "agent.log"
        self.broker = broker
        self.process: subprocess.Popen[bytes] | None = None
        self._asked = False

    def start(self, *arguments: str, **environment: str) -> None:
        settings = {
            "EDGE_AGENT_NODE__ID": "node",
            "EDGE_AGENT_MQTT__HOST": HOST,
            "EDGE_AGENT_MQTT__PORT": str(self.broker.port),
            **environment,
        }
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.wrapper, str(self._command), "run", *arguments],
                env={**os.environ, **settings},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def stop(self, how: signal.Signals = signal.SIGTERM, *, patience: float = 1.0) -> int:
        """End it as asked and return its exit status; fails when it takes more than `patience` times as long as it may."""
        assert self.process is not None
        self._asked = True
        self.send(how)
        return self.process.wait(patience * fair(END_WITHIN))

    def in_vain(self) -> str | None:
        """Whether it died, so that waiting for it is in vain."""
        if self.process is None or self._asked or self.process.poll() is None:
            return None
        return f"edge-agent ended with {self.process.returncode}:\n{self.log()}"

    def end(self) -> None:
        self._asked = True
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(DEADLINE)

    def send(self, what: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(what)

    def memory(self) -> Memory:
        """How much it has in memory now, and had at the most."""
        assert self.process is not None
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        values = dict(line.split(":", 1) for line in lines)
        return Memory(*(int(values[name].split()[0]) << 10 for name in ("VmRSS", "VmHWM")))

    def processor_time(self) -> float:
        """Seconds of processor time that it has used."""
        assert self.process is not None
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def log(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""


@pytest.fixture
def agent(edge_agent: Path, elsewhere: Path, broker: Mosquitto, client: Client, tmp_path: Path) -> Iterator[Agent]:
    """Not yet started; the client stops waiting when it dies."""
    agent = Agent(edge_agent, tmp_path, broker)
    client.in_vain = agent.in_vain
    yield agent
    agent.end()
    print(f"--- edge-agent said:\n{agent.log()}")  # noqa: T201
