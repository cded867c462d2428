"""What the agent's extras cost a message, and how much memory they take: the same agent with each of them and without, side by side
on one broker, with many sensors.

    python -m benchmarks.extras [--sensors N] [--rounds N]

The extras are the file for Prometheus (`[metrics]`) and discovery by Home Assistant (`[home_assistant]`). Each
agent has topics of its own, and they take turns: in each round every agent gets a message from each sensor, with 500 unanswered
at any time, and then some one after the other. A ratio is the median over the rounds, each against the agent without extras in the same
round; an agent without extras once more shows how far such a ratio can be trusted. Reports are so frequent (each second)
that there is about one for each message of a sensor: as where sensors send as often as the agent reports.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks import load, payloads
from benchmarks.processes import HOST, READY_WITHIN, BenchmarkError, Program, free_port, start_mosquitto
from edge_agent.model.library import Library

_SENSORS: Final = 5_000
_ROUNDS: Final = 41
#: Messages one after the other in a turn, at most: they take far longer.
_ALONE: Final = 100
_OUTSTANDING: Final = 500
_INTERVAL: Final = 1.0
#: The agent that all others are compared with, and the same once more.
_NONE: Final = "none"
_CONTROL: Final = "none, again"


class Turn(NamedTuple):
    """CPU time of a message in seconds, with many unanswered and with one."""

    many: float
    one: float


class Cost(NamedTuple):
    """An agent's CPU time of a message, in us; its ratios to that of the agent without extras; its RSS in bytes."""

    many: float
    many_ratio: float
    one: float
    one_ratio: float
    rss: int


class Agent:
    """A running agent with topics of its own, and what the load asks it."""

    def __init__(self, name: str, extras: Mapping[str, str], port: int, owner: ExitStack, directory: Path) -> None:
        self._port = port
        node = name.replace(", ", "-")
        self._root = f"extras/{node}"
        route = {
            "model": "genre",
            "subscribe": f"{self._root}/{{sensor}}/features",
            "publish": f"{self._root}/{{sensor}}/genre",
            "errors": f"{self._root}/{{sensor}}/error",
        }
        settings = {
            "MQTT__HOST": HOST,
            "MQTT__PORT": str(port),
            "NODE__ID": node,
            "HEALTH__INTERVAL": str(_INTERVAL),
            "ROUTE": json.dumps([route]),
            **extras,
        }
        with load.Connection(port, client_id="first", deadline=READY_WITHIN) as listener:
            # A retained question waits in the broker: once it is answered, the agent is there.
            listener.subscribe(f"{self._root}/first/genre", 1)
            listener.retain(f"{self._root}/first/features", _questions()[0])
            self._program = Program(
                name,
                [sys.executable, "-m", "edge_agent", "run"],
                owner=owner,
                directory=directory,
                cwd=Path.cwd(),
                environment={**os.environ, **{f"EDGE_AGENT_{key}": value for key, value in settings.items()}},
            )
            listener.receive_answers()

    def ask(self, sensors: int, outstanding: int) -> float:
        """Ask once for every sensor; return the CPU time of a message in seconds."""
        before = self._cpu_seconds()
        outcome = load.ask(self._port, self._asked(sensors), answers=f"{self._root}/+/genre", outstanding=outstanding)
        self._program.check()
        if outcome.messages != sensors:
            raise BenchmarkError(f"{self._program.name}: {outcome.messages} answers to {sensors} messages")
        return (self._cpu_seconds() - before) / outcome.messages

    def _asked(self, sensors: int) -> Iterator[load.Question]:
        questions = _questions()
        for number in range(sensors):
            topic = f"{self._root}/sensor-{number}/features"
            yield load.Question(topic, questions[number % len(questions)])

    def rss(self) -> int:
        """Return its memory now, in bytes."""
        return self._program.memory().rss

    def _cpu_seconds(self) -> float:
        """Return the CPU time so far (clock_getcpuclockid(3): the clock of another process has a number made of its id)."""
        return time.clock_gettime(~self._program.pid << 3 | 2)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.extras", description=(__doc__ or "").partition("\n\n")[0]
    )
    parser.add_argument("--sensors", type=int, default=_SENSORS)
    parser.add_argument("--rounds", type=int, default=_ROUNDS)
    chosen = parser.parse_args(arguments)
    try:
        costs = measure(chosen.sensors, chosen.rounds)
    except BenchmarkError as error:
        print(f"benchmarks.extras: {error}", file=sys.stderr)
        return 1
    print(f"{chosen.sensors:,} sensors, {chosen.rounds} rounds; us of CPU a message, MQTT 5, QoS 1")
    print(f"{'extras':32}{f'{_OUTSTANDING} unanswered':>22}{'one at a time':>22}{'RSS, MiB':>18}")
    least = costs[_NONE].rss
    for name, cost in costs.items():
        more = f"({(cost.rss - least) / (1 << 20):+.2f})"
        print(
            f"{name:32}{cost.many:12.1f} ({cost.many_ratio:.3f} x){cost.one:12.1f} ({cost.one_ratio:.3f} x)"
            f"{cost.rss / (1 << 20):9.1f} {more:>8}"
        )
    return 0


def measure(sensors: int, rounds: int, extras: Collection[str] = ()) -> dict[str, Cost]:
    """Return the costs of each agent, by what it has: those with these `extras`, or all. Raises `BenchmarkError`."""
    with tempfile.TemporaryDirectory() as made, ExitStack() as owner:
        directory, port = Path(made), free_port()
        start_mosquitto(directory, port, owner)
        agents = {
            name: Agent(name, given, port, owner, directory)
            for name, given in _variants(directory).items()
            if not extras or name in {_NONE, *extras}
        }
        for agent in agents.values():  # every sensor is known then
            agent.ask(sensors, _OUTSTANDING)
        turns: dict[str, list[Turn]] = {name: [] for name in agents}
        for _ in range(rounds):
            for name, agent in agents.items():
                turns[name].append(Turn(agent.ask(sensors, _OUTSTANDING), agent.ask(min(sensors, _ALONE), 1)))
        return {name: cost(turns[name], turns[_NONE], agent.rss()) for name, agent in agents.items()}


def cost(turns: Sequence[Turn], without: Sequence[Turn], rss: int) -> Cost:
    """Return the medians over the rounds of an agent's turns, and of their ratios to those `without` extras."""
    pairs = list(zip(turns, without, strict=True))
    return Cost(
        statistics.median(turn.many for turn in turns) * 1e6,
        statistics.median(turn.many / other.many for turn, other in pairs),
        statistics.median(turn.one for turn in turns) * 1e6,
        statistics.median(turn.one / other.one for turn, other in pairs),
        rss,
    )


def _variants(directory: Path) -> dict[str, dict[str, str]]:
    """Return the agents to compare, by name, with their settings as environment variables."""
    textfile = {"METRICS__TEXTFILE": str(directory / "{}.prom")}
    discovery = {"HOME_ASSISTANT__ENABLED": "true"}
    found: dict[str, dict[str, str]] = {
        _NONE: {},
        _CONTROL: {},
        "textfile": textfile,
        "discovery": discovery,
        "textfile, discovery": {**textfile, **discovery},
    }
    return {
        name: {key: value.format(name.replace(", ", "-")) for key, value in settings.items()}
        for name, settings in found.items()
    }


@cache
def _questions() -> list[bytes]:
    return payloads.single(Library().load("genre").card)


if __name__ == "__main__":
    sys.exit(main())
