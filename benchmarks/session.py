"""The run itself: the broker, the starts, do they agree, the rounds, the rest; everything is ended at the end."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, Self

from benchmarks import contenders, payloads
from benchmarks.contenders import ROOT, Contender, Setting, Subject
from benchmarks.processes import BenchmarkError, Program, free_port, start_mosquitto, uninterrupted
from benchmarks.results import Measurement, Results
from benchmarks.scenarios import Plan, Scenario
from benchmarks.targets import IMPORT
from edge_agent.model.library import load, locate

MODEL: Final = "genre"
_LIBRARIES: Final = "import onnxruntime, paho.mqtt.client, pydantic"
_TIMEOUT: Final = 120.0

Say = Callable[[str], None]


class Session:
    """One run of a plan over some subjects. Use as a context manager: on leaving, nothing is left running."""

    def __init__(self, plan: Plan, subjects: Sequence[Subject], directory: Path, say: Say) -> None:
        self.plan = plan
        self.results = Results(plan)
        self._subjects = subjects
        self._directory = directory
        self._say = say
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with uninterrupted():
            self._stack.close()

    def run(self) -> Results:
        """Do it all. Raises `BenchmarkError` when a program fails."""
        model = locate(MODEL)
        self._predictor = load(model)
        self._singles = payloads.single(self._predictor.card)
        self._batches: dict[int, list[bytes]] = {}
        tree = self._directory / "tree.joblib"
        if any(subject.transport == "http" for subject in self._subjects):
            self._say("teaching scikit-learn the same tree")
            from benchmarks.subjects.tree import learn

            learn(model, tree)
        port = free_port()
        self._broker = start_mosquitto(self._directory, port, self._stack)
        setting = Setting(port, model, tree, self._directory, self._stack)
        field = [made for subject in self._subjects for made in contenders.make(subject, self.plan.scenarios, setting)]
        self._measure_starts(field)
        for one in field:
            if not one.running:
                one.start(self._singles[0])
            self._compare(one)
        for stage in self.plan.stages:
            for number in range(self.plan.rounds):
                self._round(number, stage, field)
        self._rest(field)
        return self.results

    def _measure_starts(self, field: list[Contender]) -> None:
        """From exec to the first label, in turns with a Python that only imports the agent's libraries."""
        # One program a subject will do: the protocol makes no difference to a start.
        starters = {one.subject.name: one for one in reversed(field)}
        # The first start reads everything from the disk and is not counted.
        self._import_libraries()
        for number in range(self.plan.rounds):
            self._say(f"starts, {number + 1} of {self.plan.rounds}")
            self._note_start(IMPORT, self._import_libraries())
            for name in reversed(starters):
                # What was started in the round before ends here: those of the last one stay for the measurements.
                starters[name].end()
                self._note_start(name, starters[name].start(self._singles[0]))

    def _note_start(self, name: str, seconds: float) -> None:
        self.results.starts.setdefault(name, []).append(seconds)

    def _import_libraries(self) -> float:
        began = time.perf_counter()
        with uninterrupted():
            subprocess.run([sys.executable, "-c", _LIBRARIES], check=True, cwd=ROOT, timeout=_TIMEOUT)
        return time.perf_counter() - began

    def _compare(self, one: Contender) -> None:
        """Note on what share of the rows a contender has the label that the model itself gives."""
        if not one.subject.labels:
            return
        scenario = next(scenario for scenario in self.plan.scenarios if one.takes(scenario))
        answers: list[dict[str, Any]] = []
        # One after the other, so that over HTTP too the answers come in the order of the questions.
        alone = Scenario(scenario.transport, 1, 1, scenario.qos, scenario.protocol)
        one.ask(
            alone,
            self._singles,
            seconds=_TIMEOUT,
            limit=len(self._singles),
            on_answer=lambda body: answers.append(json.loads(body)),
        )
        rows = [json.loads(payload) for payload in self._singles]
        names = self._predictor.card.feature_names
        expected = map(self._predictor.read, self._predictor.predict([[row[name] for name in names] for row in rows]))
        if [answer["id"] for answer in answers] != [row["id"] for row in rows]:
            raise BenchmarkError(f"{one.name} did not answer every question in its turn")
        same = sum(answer["label"] == label for answer, (label, _) in zip(answers, expected, strict=True))
        self.results.agreement[one.name] = same / len(rows)

    def _round(self, number: int, stage: Sequence[Scenario], field: list[Contender]) -> None:
        """Each scenario, and in it each contender in turn: what is compared was measured seconds apart."""
        for scenario in stage:
            here = [one for one in field if one.takes(scenario)]
            if here:
                self._say(f"round {number + 1} of {self.plan.rounds}: {scenario}")
            for one in here:
                self.results.measurements.append(self._measure(number, one, scenario))

    def _measure(self, number: int, one: Contender, scenario: Scenario) -> Measurement:
        questions = self._questions(scenario)
        one.ask(scenario, questions, self.plan.warm_up)
        broker, subject, own = self._broker.cpu_seconds(), one.program.cpu_seconds(), time.process_time()
        outcome = one.ask(scenario, questions, self.plan.seconds)
        own = time.process_time() - own
        subject = one.program.cpu_seconds() - subject
        broker = self._broker.cpu_seconds() - broker
        memory = one.program.memory()
        return Measurement(
            subject=one.subject.name,
            scenario=scenario,
            round=number,
            messages=outcome.messages,
            seconds=outcome.seconds,
            p50=outcome.percentile(0.5),
            p99=outcome.percentile(0.99),
            cpu_per_1000=1000 * subject / outcome.messages,
            rss=memory.rss,
            pss=memory.pss,
            generator=own / outcome.seconds,
            broker=broker / outcome.seconds,
        )

    def _questions(self, scenario: Scenario) -> list[bytes]:
        if scenario.rows == 1:
            return self._singles
        if scenario.rows not in self._batches:
            self._batches[scenario.rows] = payloads.batches(self._predictor.card, scenario.rows)
        return self._batches[scenario.rows]

    def _rest(self, field: list[Contender]) -> None:
        """CPU of everybody while nobody is asked anything."""
        self._say(f"no messages for {self.plan.idle:g} s")
        programs: list[Program] = [one.program for one in field]
        before = [program.cpu_seconds() for program in programs]
        began = time.perf_counter()
        time.sleep(self.plan.idle)
        after = [program.cpu_seconds() for program in programs]
        seconds = time.perf_counter() - began
        for program, start, end in zip(programs, before, after, strict=True):
            program.check()
            self.results.idle[program.name] = (end - start) / seconds
