"""A Home Assistant core, and an agent that is a process: started, watched, and ended with the test."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Self

from tests.background import Background
from tests.patience import DEADLINE
from tests.trusted import ANN, CHANNEL

ROOT: Final = Path(__file__).parents[2]
PYTHON: Final = ROOT / ".venv-home-assistant" / "bin" / "python"


class HomeAssistant(Background):
    """`with HomeAssistant(directory, port) as core:` what is in the directory outlasts it."""

    def __init__(self, directory: Path, port: int) -> None:
        super().__init__("Home Assistant")
        self._directory = directory
        self._command = [str(PYTHON), str(Path(__file__).with_name("core.py")), str(directory), str(port)]
        #: The last state of each entity, None of one that was removed, and what else was said.
        self.states: dict[str, dict[str, Any] | None] = {}
        self.said: list[dict[str, Any]] = []
        directory.mkdir(exist_ok=True)
        (directory / "configuration.yaml").touch()

    def __enter__(self) -> Self:
        self._log = (self._directory / "core.log").open("ab")
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True
        )
        super().__enter__()
        self.wait(lambda: bool(self.of("running")), "Home Assistant to run")
        return self

    def end(self) -> None:
        """Ask it to end, and wait for that."""
        assert self._process.stdin is not None
        if not self._process.stdin.closed:
            self._process.stdin.close()
        try:
            self._process.wait(DEADLINE)
        finally:
            self._process.kill()
        super().end()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._log.close()

    def of(self, kind: str) -> list[dict[str, Any]]:
        """What of a kind was said."""
        return [one for one in self.said if one["kind"] == kind]

    def state(self, entity: str) -> str | None:
        """The state of an entity, None where there is none."""
        found = self.states.get(entity)
        return None if found is None else found["state"]

    def number(self, entity: str) -> object:
        """The state of an entity as a number, what else it is where it is none."""
        try:
            return float(self.state(entity) or "")
        except ValueError:
            return self.state(entity)

    def attribute(self, entity: str, name: str) -> Any:
        """An attribute of an entity."""
        found = self.states.get(entity)
        return None if found is None else found["attributes"].get(name)

    def shows(self, entity: str, name: str, value: object) -> None:
        """Wait for an attribute of an entity, which may come after its state."""
        self.wait(lambda: self.attribute(entity, name) == value, f"{name} of {entity} to be {value}")

    def sees(self, entity: str, state: object, again: Callable[[], object] = lambda: None) -> None:
        """Wait for a state, or a number about it; `again` is what brings it about, once more each second: Home Assistant may
        not listen yet.
        """
        ends = time.monotonic() + DEADLINE
        while True:
            again()
            try:
                self.wait(lambda: state in (self.state(entity), self.number(entity)), f"{entity} to be {state}", 1.0)
            except TimeoutError:
                if time.monotonic() > ends:
                    raise TimeoutError(f"{entity} is {self.state(entity)}, not {state}; {self.said[-5:]}") from None
            else:
                return

    def _run(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            told = json.loads(line)
            with self._changed:
                self.said.append(told)
                if told["kind"] == "state":
                    self.states[told["entity"]] = told if "state" in told else None
                self._changed.notify_all()
        if self._process.wait() and not self._closed.is_set():
            raise AssertionError(f"Home Assistant ended: see {self._log.name}")


class Agent:
    """An agent of its own process, with a configuration that may be written anew."""

    def __init__(self, directory: Path, port: int) -> None:
        self.directory = directory
        self.file = directory / "edge-agent.toml"
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None
        directory.mkdir(exist_ok=True)

    def write(self, routes: str, *, expire_after: float = 3600, enabled: bool = True) -> None:
        """Write the configuration."""
        self.file.write_text(
            f"""
            [node]
            id = "pi-1"
            [mqtt]
            host = "127.0.0.1"
            port = {self._port}
            max_backoff = 1
            [models]
            directory = "{self.directory}"
            [health]
            interval = 1
            [home_assistant]
            enabled = {str(enabled).lower()}
            expire_after = {expire_after}
            [update]
            channel = "{CHANNEL}"
            trusted_keys = ["{ANN.public_key.text}"]
            by_hand = true
            {routes}
            """
        )

    def start(self) -> None:
        with (self.directory / "agent.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "edge_agent", "run", "--config", str(self.file)], stderr=log, stdout=log
            )

    def reload(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    def stop(self, how: int = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(DEADLINE)
            self._process = None

    def log(self) -> str:
        return (self.directory / "agent.log").read_text()
