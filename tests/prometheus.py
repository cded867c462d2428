"""Debian's Prometheus, its exporters and promtool: installed, or unpacked into build/prometheus by `scripts/test`."""

from __future__ import annotations

import http.client
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import pytest

from tests.brokers import HOST, find_program, free_port
from tests.patience import DEADLINE

ROOT: Final = Path(__file__).parent.parent
_UNPACKED: Final = ROOT / "build" / "prometheus" / "usr" / "bin"


def program(name: str) -> str:
    """Return where a program is; skip the test with a word where it is not."""
    found = find_program(name) or find_program(str(_UNPACKED / name))
    if found is None:
        pytest.skip(f"{name} is missing: sudo apt install prometheus prometheus-mqtt-exporter prometheus-node-exporter")
    return found


def promtool(*arguments: str, content: bytes | None = None, cwd: Path | None = None) -> str:
    """Run promtool; return what it says, empty for nothing to complain of. A complaint is an error."""
    done = subprocess.run(
        [program("promtool"), *arguments],
        input=content,
        capture_output=True,
        timeout=DEADLINE,
        check=False,
        cwd=cwd,
    )
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, said
    return said


@contextmanager
def running(name: str, *arguments: str, log: Path) -> Iterator[None]:
    """Run one of the programs until the end of the block; what it says is shown when the test fails."""
    with log.open("wb") as told:
        process = subprocess.Popen([program(name), *arguments], stdout=told, stderr=subprocess.STDOUT)
    try:
        yield
    finally:
        process.terminate()
        process.wait(DEADLINE)
        print(f"--- {name} said:\n{log.read_text()}")  # noqa: T201


def get(port: int, path: str) -> str:
    """Return what a program answers to a request; nothing while it does not listen yet."""
    connection = http.client.HTTPConnection(HOST, port, timeout=DEADLINE)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    except ConnectionRefusedError:
        return ""
    finally:
        connection.close()


def asked(port: int, query: str) -> list[Any]:
    """Return what a Prometheus answers to a query now, none while it does not listen yet or has nothing."""
    text = get(port, f"/api/v1/query?{urlencode({'query': query})}")
    if not text.startswith("{"):
        return []  # it starts
    answer = json.loads(text)
    assert answer["status"] == "success", text
    found: list[Any] = answer["data"]["result"]
    return found


class Exporter:
    """A running exporter."""

    def __init__(self, port: int) -> None:
        self.port = port

    def metrics(self) -> list[str]:
        """Return the lines about agents that it exposes now; none while it does not listen yet."""
        return [line for line in get(self.port, "/metrics").split("\n") if "edge_agent_" in line]


@contextmanager
def exporter(name: str, *arguments: str, log: Path) -> Iterator[Exporter]:
    """Run an exporter; `{port}` in its arguments is the port that it is to listen on."""
    port = free_port()
    with running(name, *(one.format(port=port) for one in arguments), log=log):
        yield Exporter(port)
