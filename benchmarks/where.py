"""Where a message's time goes: the running agent under load, sampled by py-spy, once with paho carrying the messages
(as they went before `edge_agent.link.fast_lane`) and once as it is.

    .venv-bench/bin/python -m benchmarks.where

CPU time, user and system, of the agent for one message at QoS 1 with 500 outstanding, shared out by where the samples
were: by the file of the innermost Python frame, to which what it calls in C counts.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from benchmarks import load, payloads
from benchmarks.processes import HOST, READY_WITHIN, BenchmarkError, Program, free_port, start_mosquitto
from edge_agent.model.library import Library

SECONDS: Final = 12.0
_SAMPLED: Final = 8
_RATE: Final = 500
_QUESTION: Final = "music/where/features"
_ANSWER: Final = "music/where/genre"

#: Parts of "function (file:line)" of the innermost frame, the first that fits; the rest is "the rest of Python".
_PLACES: Final = (
    ("sockets and waiting for them", re.compile(r"(^|\.)(receive|flush|_wait|_sock_recv|_sock_send) \(")),
    ("paho", re.compile(r"paho/")),
    (
        "connection: packets and acknowledgements",
        re.compile(r"edge_agent/link/"),
    ),
    ("payload to features (pydantic)", re.compile(r"edge_agent/payload/|pydantic")),
    ("the model (onnxruntime, numpy)", re.compile(r"edge_agent/model/|onnxruntime|numpy")),
    (
        "pipeline: routes and answers",
        re.compile(r"edge_agent/(contract|routing|serving/(pipeline|engine|writing))"),
    ),
    ("the loop and its counters", re.compile(r"edge_agent/(serving|tally)")),
)
_COMMANDS: Final = {"through paho": ["-m", "benchmarks.subjects.plain"], "as it is": ["-m", "edge_agent"]}


def main() -> int:
    """Print the table."""
    card = Library().load("genre").card
    found: dict[str, dict[str, float]] = {}
    try:
        for protocol in ("3.1.1", "5"):
            for name, module in _COMMANDS.items():
                found[f"{name}, {protocol}"] = _sample(module, protocol, payloads.single(card))
    except BenchmarkError as error:
        print(f"benchmarks.where: {error}", file=sys.stderr)
        return 1
    places = [name for name, _ in _PLACES] + ["the rest of Python"]
    print(f"{'us of CPU a message, MQTT':42}" + "".join(f"{name:>20}" for name in found))
    for place in [*places, "all"]:
        print(f"{place:42}" + "".join(f"{one.get(place, 0.0):20.1f}" for one in found.values()))
    return 0


def _sample(module: list[str], protocol: str, questions: list[bytes]) -> dict[str, float]:
    """Return the CPU time of one message by place, in us."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as owner:
        directory, port = Path(name), free_port()
        start_mosquitto(directory, port, owner)
        settings = {"MQTT__HOST": HOST, "MQTT__PORT": str(port), "MQTT__PROTOCOL": protocol, "NODE__ID": "where"}
        with load.Connection(port, protocol, client_id="first", deadline=READY_WITHIN) as listener:
            # A retained question waits in the broker: once it is answered, the agent is there.
            listener.subscribe(_ANSWER, 1)
            listener.retain(_QUESTION, questions[0])
            agent = Program(
                "agent",
                [sys.executable, *module, "run"],
                owner=owner,
                directory=directory,
                cwd=Path.cwd(),
                environment={**os.environ, **{f"EDGE_AGENT_{key}": value for key, value in settings.items()}},
            )
            listener.receive_answers()
        _load(port, questions, protocol, 2.0)
        raw = directory / "raw"
        spy = [
            Path(sys.executable).with_name("py-spy"),
            "record",
            "--format",
            "raw",
            "--output",
            raw,
            "--pid",
            agent.pid,
        ]
        sampling = subprocess.Popen(
            [str(word) for word in (*spy, "--duration", _SAMPLED, "--rate", _RATE)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        owner.callback(sampling.wait)
        before = agent.cpu_seconds()
        outcome = _load(port, questions, protocol, SECONDS)
        each = (agent.cpu_seconds() - before) / outcome.messages * 1e6
        if sampling.wait() or not raw.exists():
            raise BenchmarkError("py-spy could not look into the agent: it may need root, or ptrace to be allowed")
        samples = _by_place(raw.read_text())
    return {place: each * count / samples.total() for place, count in samples.items()} | {"all": each}


def _load(port: int, questions: list[bytes], protocol: str, seconds: float) -> load.Outcome:
    return load.run(
        port,
        question=_QUESTION,
        answer=_ANSWER,
        payloads=questions,
        seconds=seconds,
        protocol=protocol,
    )


def _by_place(raw: str) -> Counter[str]:
    samples = Counter[str]()
    for line in raw.splitlines():
        stack, _, count = line.rpartition(" ")
        innermost = stack.rpartition(";")[2]
        place = next((name for name, fits in _PLACES if fits.search(innermost)), "the rest of Python")
        samples[place] += int(count)
    return samples


if __name__ == "__main__":
    sys.exit(main())
