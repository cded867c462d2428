"""Debian's Prometheus, its exporters and promtool: installed, or unpacked into build/prometheus by `scripts/test`."""

from __future__ import annotations

import http.client
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

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


class Exporter:
    """A running exporter."""

    def __init__(self, port: int) -> None:
        self._port = port

    def metrics(self) -> list[str]:
        """Return the lines about agents that it exposes now; none while it does not listen yet."""
        connection = http.client.HTTPConnection(HOST, self._port, timeout=DEADLINE)
        try:
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
        except ConnectionRefusedError:
            return []
        finally:
            connection.close()
        return [line for line in text.split("\n") if "edge_agent_" in line]


@contextmanager
def exporter(name: str, *arguments: str, log: Path) -> Iterator[Exporter]:
    """Run an exporter; `{port}` in its arguments is the port that it is to listen on."""
    port = free_port()
    with log.open("wb") as told:
        process = subprocess.Popen(
            [program(name), *(one.format(port=port) for one in arguments)], stdout=told, stderr=subprocess.STDOUT
        )
    try:
        yield Exporter(port)
    finally:
        process.terminate()
        process.wait(DEADLINE)
        print(f"--- {name} said:\n{log.read_text()}")  # noqa: T201 - pytest shows it when the test fails
