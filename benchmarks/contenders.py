"""The subjects: how each is started and asked. Each is a program of its own; the agent is its real command.

`Contender` is one program on one protocol, so that the agent on MQTT 5 and the agent on 3.1.1 run side by side.
"""

from __future__ import annotations

import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks import http_load, load
from benchmarks.load import Connection, Outcome
from benchmarks.processes import READY_WITHIN, BenchmarkError, Program, free_port, wait_for_port
from benchmarks.scenarios import Scenario, Transport
from benchmarks.subjects.features import VARIABLE

ROOT: Final = Path(__file__).parent.parent
SENSOR: Final = "kitchen"
#: Seconds without an answer after which a measurement is given up.
_DEADLINE: Final = 20.0


@dataclass(frozen=True)
class Subject:
    """What stands in the report. `labels` is whether it answers with a label (an echo does not)."""

    name: str
    title: str
    transport: Transport
    labels: bool = True


SUBJECTS: Final = (
    Subject("agent", "edge-agent", "mqtt"),
    Subject("afternoon", "the afternoon version", "mqtt"),
    Subject("echo", "stock paho echo, no model", "mqtt", labels=False),
    Subject("fastapi", "FastAPI + uvicorn + scikit-learn", "http"),
    Subject("flask", "Flask + gunicorn + scikit-learn", "http"),
)


@dataclass(frozen=True)
class Setting:
    """What the subjects share: the broker, the two forms of the model, a directory for configuration and logs, and what
    ends them.
    """

    broker: int
    model: Path
    tree: Path
    directory: Path
    owner: ExitStack


class Contender(ABC):
    """A subject that can be started, asked, and ended."""

    def __init__(self, subject: Subject, protocol: str, setting: Setting) -> None:
        self.subject = subject
        self.protocol = protocol  # of MQTT; empty for HTTP
        self.name = f"{subject.name}-{protocol}" if protocol else subject.name
        self.setting = setting
        self._program: Program | None = None

    @property
    def running(self) -> bool:
        """Whether it was started and not ended."""
        return self._program is not None

    @property
    def program(self) -> Program:
        """The running program."""
        if self._program is None:
            raise BenchmarkError(f"{self.name} is not running")
        return self._program

    def start(self, question: bytes) -> float:
        """Start it and return the seconds from exec to its first answer, which is the one to `question`."""
        try:
            return self._start(question)
        except (OSError, BenchmarkError) as error:
            raise self._explained(error) from error

    def ask(
        self,
        scenario: Scenario,
        payloads: list[bytes],
        seconds: float,
        *,
        limit: int | None = None,
        on_answer: Callable[[bytes], None] | None = None,
    ) -> Outcome:
        """Ask as the scenario has it, for `seconds` or `limit` messages. Raises `BenchmarkError` when it fails."""
        try:
            outcome = self._ask(scenario, payloads, seconds, limit, on_answer)
        except OSError as error:
            raise self._explained(error) from error
        self.program.check()
        return outcome

    def end(self) -> None:
        """End it, when it runs."""
        program, self._program = self._program, None
        if program is not None:
            program.end()

    def takes(self, scenario: Scenario) -> bool:
        """Return whether the scenario can be asked of it."""
        return (scenario.transport, scenario.protocol) == (self.subject.transport, self.protocol)

    @abstractmethod
    def _command(self) -> list[str | Path]: ...

    @abstractmethod
    def _start(self, question: bytes) -> float: ...

    @abstractmethod
    def _ask(
        self,
        scenario: Scenario,
        payloads: list[bytes],
        seconds: float,
        limit: int | None,
        on_answer: Callable[[bytes], None] | None,
    ) -> Outcome: ...

    def _launch(self) -> Program:
        # No setting of the user's own agent may get in; nothing else of the environment is touched.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("EDGE_AGENT_")}
        environment[VARIABLE] = str(self.setting.tree)
        self._program = Program(
            self.name,
            self._command(),
            owner=self.setting.owner,
            directory=self.setting.directory,
            cwd=ROOT,
            environment=environment,
        )
        return self._program

    def _explained(self, error: Exception) -> BenchmarkError:
        """Return what to say of a failure: that the program ended, if it did, and in any case what it said last."""
        if isinstance(error, BenchmarkError):
            return error
        if self._program is None:
            return BenchmarkError(f"{self.name}: {error}")
        try:
            self._program.check()
        except BenchmarkError as ended:
            return ended
        return BenchmarkError(f"{self.name}: {error}; it said:\n{self._program.said()}")


class MqttContender(Contender):
    """One that takes its questions from the broker."""

    def __init__(self, subject: Subject, protocol: str, setting: Setting) -> None:
        super().__init__(subject, protocol, setting)
        self._topic = f"bench/{self.name}"
        self._question, self._answer = f"{self._topic}/{SENSOR}/features", f"{self._topic}/{SENSOR}/genre"
        self._starts = 0

    def _command(self) -> list[str | Path]:
        if self.subject.name == "agent":
            return [Path(sys.executable).with_name("edge-agent"), "run", "--config", self._write_configuration()]
        command: list[str | Path] = [sys.executable, "-m", f"benchmarks.subjects.{self.subject.name}"]
        command += ["--port", str(self.setting.broker), "--protocol", self.protocol, "--topic", self._topic]
        return command if self.subject.name == "echo" else [*command, "--model", self.setting.model]

    def _write_configuration(self) -> Path:
        """The address and the route; everything else is the default."""
        file = self.setting.directory / f"{self.name}.toml"
        file.write_text(
            f"""[node]
id = "{self.name.replace(".", "-")}-{self._starts}"
[mqtt]
host = "127.0.0.1"
port = {self.setting.broker}
protocol = "{self.protocol}"
[[route]]
model = "{self.setting.model}"
subscribe = "{self._topic}/{{sensor}}/features"
publish = "{self._topic}/{{sensor}}/genre"
"""
        )
        return file

    def _start(self, question: bytes) -> float:
        # A retained message waits in the broker; the subject gets it, once, when it subscribes.
        self._starts += 1
        # The short deadline is for looking whether it still lives.
        with Connection(self.setting.broker, self.protocol, client_id="first", deadline=0.5) as listener:
            listener.subscribe(self._answer, 1)
            listener.retain(self._question, question)
            began = time.perf_counter()
            program = self._launch()
            while time.perf_counter() < began + READY_WITHIN:
                try:
                    if listener.receive_answers():
                        return time.perf_counter() - began
                except TimeoutError:
                    program.check()
        raise BenchmarkError(f"{self.name} gave no answer in {READY_WITHIN:g} s; it said:\n{program.said()}")

    def _ask(
        self,
        scenario: Scenario,
        payloads: list[bytes],
        seconds: float,
        limit: int | None,
        on_answer: Callable[[bytes], None] | None,
    ) -> Outcome:
        return load.run(
            self.setting.broker,
            question=self._question,
            answer=self._answer,
            payloads=payloads,
            seconds=seconds,
            qos=scenario.qos,
            protocol=scenario.protocol,
            outstanding=scenario.outstanding,
            limit=limit,
            deadline=_DEADLINE,
            on_answer=on_answer,
        )


class HttpContender(Contender):
    """One that serves HTTP on a port of its own."""

    def __init__(self, subject: Subject, setting: Setting) -> None:
        super().__init__(subject, "", setting)
        self._port = 0

    def _command(self) -> list[str | Path]:
        python = Path(sys.executable)
        application = f"benchmarks.subjects.{self.subject.name}_app:app"
        if self.subject.name == "fastapi":
            # [standard] brings uvloop and httptools, which uvicorn then takes by itself. No line a request on stdout.
            options = ["--host", "127.0.0.1", "--port", str(self._port), "--no-access-log"]
            return [python, "-m", "uvicorn", application, *options]
        # gunicorn's default worker closes the connection after each answer; gthread keeps it alive.
        options = ["--bind", f"127.0.0.1:{self._port}", "--workers", "1", "--worker-class", "gthread"]
        return [python, "-m", "gunicorn", *options, "--threads", "4", application]

    def _start(self, question: bytes) -> float:
        self._port = free_port()
        began = time.perf_counter()
        wait_for_port(self._launch(), self._port)
        http_load.run(self._port, path="/predict", payloads=[question], seconds=READY_WITHIN, connections=1, limit=1)
        return time.perf_counter() - began

    def _ask(
        self,
        scenario: Scenario,
        payloads: list[bytes],
        seconds: float,
        limit: int | None,
        on_answer: Callable[[bytes], None] | None,
    ) -> Outcome:
        return http_load.run(
            self._port,
            path="/predict" if scenario.rows == 1 else "/predict/batch",
            payloads=payloads,
            seconds=seconds,
            connections=scenario.outstanding,
            limit=limit,
            deadline=_DEADLINE,
            on_answer=on_answer,
        )


def make(subject: Subject, scenarios: tuple[Scenario, ...], setting: Setting) -> list[Contender]:
    """Return what is needed of a subject to go through the scenarios."""
    if subject.transport == "http":
        return [HttpContender(subject, setting)]
    protocols = dict.fromkeys(scenario.protocol for scenario in scenarios if scenario.transport == "mqtt")
    return [MqttContender(subject, protocol, setting) for protocol in protocols]
