"""The agent writes nothing to disk while it serves: SD cards last."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from edge_agent.model.store import Store
from tests.brokers import find_program
from tests.contract.agents import wait_until
from tests.contract.client import Client
from tests.e2e.conftest import Agent
from tests.e2e.tracks import IMPOSSIBLE, ROCK
from tests.versions import version

STATE = "edge/node/state"
MESSAGES = 2000
#: Mosquitto keeps 1,000 messages for a client that is behind.
AT_ONCE = 500
#: System calls that make or change something on a file system. Of open and its kind only those for writing count.
CHANGING = "open,openat,openat2,creat,mkdir,mkdirat,rename,renameat,renameat2,unlink,unlinkat,truncate,ftruncate,fsync"
FOR_WRITING = re.compile(r"O_WRONLY|O_RDWR|O_CREAT")


def written(pid: int) -> int:
    """proc(5): bytes that the process has caused to be sent to storage; sockets and pipes do not count."""
    fields = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    return int(fields["write_bytes"])


@pytest.fixture
def serving(agent: Agent, client: Client, tmp_path: Path) -> Agent:
    """The agent, with its model from a store, once it has answered and rejected: from here on it is in steady state."""
    store = Store(tmp_path / "models")
    store.use("genre", store.add("genre", "1.1.0", version("1.1.0")).sha256)
    client.subscribe(STATE, "music/+/genre/#", "edge/node/health")
    # Health every second, so that reports are among what is looked at.
    agent.start(EDGE_AGENT_HEALTH__INTERVAL="1", EDGE_AGENT_MODELS__DIRECTORY=str(store.directory))
    client.wait_for_payload(STATE, "online")
    load(client, 10)
    return agent


def load(client: Client, count: int) -> None:
    """Send messages, every tenth of them impossible, and wait until all are answered and a report has come."""
    for begin in range(0, count, AT_ONCE):
        client.forget()
        numbers = range(begin, min(begin + AT_ONCE, count))
        for number in numbers:
            row = IMPOSSIBLE if number % 10 == 0 else ROCK
            client.publish(f"music/{number % 7}/features", {**row, "id": number}, wait=False)
        client.messages(len(numbers), "music/#")
    client.forget()
    client.message("edge/node/health")


def test_nothing_is_written_to_disk(serving: Agent, client: Client) -> None:
    assert serving.process is not None
    before = written(serving.process.pid)
    load(client, MESSAGES)
    after = written(serving.process.pid)
    log = serving.log()
    # The log goes to a file here, as it goes to journald there: that much is the test's own.
    assert after - before <= 4096 * (log.count("\n") + 1), log
    assert log.count("\n") < 20, "the log grows with the messages"


def test_no_file_is_opened_for_writing(serving: Agent, client: Client, tmp_path: Path) -> None:
    strace = find_program("strace")
    if strace is None:
        pytest.skip("strace is missing: sudo apt install strace")
    assert serving.process is not None
    trace = tmp_path / "trace"
    command = [strace, "-f", "-qq", "-e", f"trace={CHANGING}", "-o", str(trace), "-p", str(serving.process.pid)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
        try:
            status = Path(f"/proc/{serving.process.pid}/status")
            wait_until(
                lambda: "TracerPid:\t0\n" not in status.read_text() or tracer.poll() is not None,
                "strace does not attach",
            )
            if tracer.poll() is not None:
                assert tracer.stderr is not None
                pytest.skip(f"strace may not look: {tracer.stderr.read().strip()}")
            load(client, MESSAGES)
        finally:
            tracer.terminate()
    calls = trace.read_text().splitlines()
    made = [call for call in calls if not re.search(r"\bopen(at2?)?\(", call) or FOR_WRITING.search(call)]
    # What strace says about its own end.
    made = [call for call in made if "+++" not in call and "---" not in call]
    assert made == []
    # The trace works: each health report reads the memory from /proc.
    assert any("/proc/self/statm" in call for call in calls), calls
