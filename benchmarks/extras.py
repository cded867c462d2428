"""What the agent's extras cost a message, and how much memory they take: the same agent with each of them and without, side by side
on one broker, with many sensors.

    python -m benchmarks.extras [--sensors N] [--rounds N]

The extras are the file for Prometheus (`[metrics]`) and discovery by Home Assistant (`[home_assistant]`). Each
agent has topics of its own, and they take turns, in another order each round: every agent gets a message from each sensor, with 500 unanswered
at any time, and then some one after the other. A figure is the lowest tenth over the rounds, because whatever else runs on the machine
can only add to it, and a ratio is that of two figures; an agent without extras once more shows how far such a ratio can be trusted.

What is measured is an agent at work, so:

* all sensors are announced before (once for each start of the agent), which is waited for;
* no report (health, and the file) falls among the messages, where it would be as many as the wait for the broker is long. What
  reports cost is measured by other agents, which do nothing else; the ratios contain one report for each message of every sensor, as where
  sensors send as often as the agent reports;
* the broker sends at once (`set_tcp_nodelay`): by Mosquitto's default, one message after the other takes 40 ms, spent asleep.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

from benchmarks import load, payloads
from benchmarks.processes import HOST, READY_WITHIN, BenchmarkError, Program, free_port, start_mosquitto
from edge_agent.model.library import Library

_SENSORS: Final = 5_000
_ROUNDS: Final = 41
#: Messages one after the other in a turn, at most: they take far longer.
_ALONE: Final = 150
_OUTSTANDING: Final = 500
#: Seconds between two reports: where there is to be none, and where they are measured, for so many seconds.
_NEVER: Final = 86_400.0
_OFTEN: Final = 1.0
_REPORTING: Final = 10.0
#: The agent that all others are compared with, and the same once more.
_NONE: Final = "none"
_CONTROL: Final = "none, again"


class Turn(NamedTuple):
    """CPU time of a message in seconds, with many unanswered and with one."""

    many: float
    one: float


class Cost(NamedTuple):
    """An agent's CPU time of a message and of a report, in us; its ratios to the agent without extras, where each sensor sends one
    message for a report; its RSS in bytes.
    """

    many: float
    many_ratio: float
    one: float
    one_ratio: float
    report: float
    rss: int


class Agent:
    """A running agent with topics of its own, and what the load asks it."""

    def __init__(
        self,
        name: str,
        extras: Mapping[str, str],
        port: int,
        owner: ExitStack,
        directory: Path,
        *,
        interval: float = _NEVER,
    ) -> None:
        self._port = port
        node = name.replace(", ", "-")
        self._root = f"extras/{node}"
        self._prefix = extras.get("HOME_ASSISTANT__PREFIX")
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
            "HEALTH__INTERVAL": str(interval),
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

    def learn(self, sensors: int) -> None:
        """Ask once for every sensor, and return when the agent has announced all of them."""
        self.ask(sensors, _OUTSTANDING)
        if self._prefix is None:
            return
        with load.Connection(self._port, client_id="announced", deadline=READY_WITHIN) as listener:
            listener.subscribe(f"{self._prefix}/device/+/config", 1)
            announced = 0
            while announced < sensors + 2:  # the first one, and the node itself
                announced += listener.receive_answers()

    def idle(self) -> float:
        """Return the CPU time so far, in seconds, of an agent that is asked nothing."""
        self._program.check()
        return self._cpu_seconds()

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
    print(f"{'extras':32}{f'{_OUTSTANDING} unanswered':>22}{'one at a time':>22}{'a report':>12}{'RSS, MiB':>18}")
    least = costs[_NONE].rss
    for name, cost in costs.items():
        more = f"({(cost.rss - least) / (1 << 20):+.2f})"
        print(
            f"{name:32}{cost.many:12.1f} ({cost.many_ratio:.3f} x){cost.one:12.1f} ({cost.one_ratio:.3f} x)"
            f"{cost.report:12.0f}"
            f"{cost.rss / (1 << 20):9.1f} {more:>8}"
        )
    return 0


def measure(sensors: int, rounds: int, extras: Collection[str] = (), reporting: float = _REPORTING) -> dict[str, Cost]:
    """Return the costs of each agent, by what it has: those with these `extras`, or all. Reports are measured for `reporting`
    seconds. Raises `BenchmarkError`.
    """
    with tempfile.TemporaryDirectory() as made, ExitStack() as owner:
        directory, port = Path(made), free_port()
        start_mosquitto(directory, port, owner, "set_tcp_nodelay true")
        chosen = {name: given for name, given in _variants(directory).items() if not extras or name in {_NONE, *extras}}
        reports = _reports(chosen, port, directory, reporting)
        agents = {name: Agent(name, given, port, owner, directory) for name, given in chosen.items()}
        for agent in agents.values():
            agent.learn(sensors)
        turns: dict[str, list[Turn]] = {name: [] for name in agents}
        order = [*agents]
        source = random.Random(payloads.SEED)
        for _ in range(rounds):
            source.shuffle(order)
            for name in order:
                agent = agents[name]
                turns[name].append(Turn(agent.ask(sensors, _OUTSTANDING), agent.ask(min(sensors, _ALONE), 1)))
        return {
            name: cost(sensors, (turns[name], reports[name]), (turns[_NONE], reports[_NONE]), agent.rss())
            for name, agent in agents.items()
        }


def _reports(variants: Mapping[str, Mapping[str, str]], port: int, directory: Path, seconds: float) -> dict[str, float]:
    """Return the CPU time of a report in seconds, of agents that do nothing else."""
    with ExitStack() as owner:
        agents = {name: Agent(name, given, port, owner, directory, interval=_OFTEN) for name, given in variants.items()}
        before = {name: agent.idle() for name, agent in agents.items()}
        time.sleep(seconds)
        return {name: (agent.idle() - before[name]) / (seconds / _OFTEN) for name, agent in agents.items()}


#: An agent's turns, and the CPU time of a report in seconds.
Measured: TypeAlias = tuple[Sequence[Turn], float]


def cost(sensors: int, measured: Measured, without: Measured, rss: int) -> Cost:
    """Return the figures of an agent, and their ratios to those of the one `without` extras."""
    many, one, report = _figures(measured)
    without_many, without_one, without_report = _figures(without)
    share, without_share = report / sensors, without_report / sensors
    return Cost(
        many * 1e6,
        (many + share) / (without_many + without_share),
        one * 1e6,
        (one + share) / (without_one + without_share),
        report * 1e6,
        rss,
    )


def _figures(measured: Measured) -> tuple[float, float, float]:
    """Return the CPU time of a message with many unanswered, of one with none, and of a report."""
    turns, report = measured
    tenth = len(turns) // 10
    return sorted(turn.many for turn in turns)[tenth], sorted(turn.one for turn in turns)[tenth], report


def _variants(directory: Path) -> dict[str, dict[str, str]]:
    """Return the agents to compare, by name, with their settings as environment variables."""
    textfile = {"METRICS__TEXTFILE": str(directory / "{}.prom")}
    discovery = {"HOME_ASSISTANT__ENABLED": "true", "HOME_ASSISTANT__PREFIX": "{}"}
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
