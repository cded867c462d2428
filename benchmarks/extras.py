"""What the agent's extras cost a message, and how much memory they take: the same agent with each of them and without, side by side
on one broker, with many sensors.

    python -m benchmarks.extras [--sensors N] [--seconds N] [--copies N] [--each]

The extras are the file for Prometheus (`[metrics]`) and discovery by Home Assistant (`[home_assistant]`); `--each` measures each by itself, too.

Whatever else runs on the machine takes from the processor's caches and clock, by tens of percent and for seconds, so costs are compared while
they last: for some minutes there are short rounds, in each of which every agent has a turn, in another order. A turn is a few messages with up
to 500 unanswered, and then some one after the other, from the next of all sensors. A ratio is the median of those within the rounds, with the
interval that holds the true median in 95 % of cases. Two processes of the same program differ by a percent, for as long as they live,
by where their memory happens to lie: so there are copies of each agent, which take turns by rounds; and other copies
without extras are the control, which shows how far a ratio can be trusted.

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
import math
import os
import random
import sys
import tempfile
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import cache
from itertools import count
from pathlib import Path
from statistics import fmean, median
from typing import Final, NamedTuple, TypeAlias

from benchmarks import load, payloads
from benchmarks.processes import HOST, READY_WITHIN, BenchmarkError, Program, free_port, start_mosquitto
from edge_agent.model.library import Library

_SENSORS: Final = 5_000
#: Seconds for all of it.
_SECONDS: Final = 270.0
_COPIES: Final = 3
#: Rounds of each copy, at least.
_LEAST: Final = 2
#: Messages of a turn: with many unanswered, and one after the other, which take far longer.
_MANY: Final = 250
_ALONE: Final = 30
_OUTSTANDING: Final = 500
#: Seconds between two reports: where there is to be none, and where they are measured, for so many seconds.
_NEVER: Final = 86_400.0
_OFTEN: Final = 1.0
_REPORTING: Final = 10.0
#: The agent that all others are compared with, and the same once more.
_NONE: Final = "none"
_CONTROL: Final = "none, again"
_BOTH: Final = "textfile, discovery"


class Turn(NamedTuple):
    """CPU time of a message in seconds, with many unanswered and with one."""

    many: float
    one: float


class Ratio(NamedTuple):
    """The median of paired ratios, and the interval that holds it in 95 % of cases."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.3f} x [{self.low:.3f}, {self.high:.3f}]"


class Cost(NamedTuple):
    """An agent's CPU time of a message and of a report, in us; its ratios to the agent without extras, where each sensor sends one
    message for a report; its RSS in bytes.
    """

    many: float
    many_ratio: Ratio
    one: float
    one_ratio: Ratio
    report: float
    rss: float
    rounds: int


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
        node = name.replace(", ", "-").replace(" ", "-")
        extras = {key: value.format(node) for key, value in extras.items()}
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
        self.ask(range(sensors), _OUTSTANDING)
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

    def ask(self, sensors: range, outstanding: int) -> float:
        """Ask once for each of these sensors; return the CPU time of a message in seconds."""
        before = self._cpu_seconds()
        outcome = load.ask(self._port, self._asked(sensors), answers=f"{self._root}/+/genre", outstanding=outstanding)
        self._program.check()
        if outcome.messages != len(sensors):
            raise BenchmarkError(f"{self._program.name}: {outcome.messages} answers to {len(sensors)} messages")
        return (self._cpu_seconds() - before) / outcome.messages

    def _asked(self, sensors: range) -> Iterator[load.Question]:
        questions = _questions()
        for number in sensors:
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
    parser.add_argument(
        "--seconds",
        type=float,
        default=_SECONDS,
        help="how long all of it takes, unless starting takes longer (default: %(default)g)",
    )
    parser.add_argument("--copies", type=int, default=_COPIES, help="processes of each agent")
    parser.add_argument("--each", action="store_true", help="measure each extra by itself, too")
    chosen = parser.parse_args(arguments)
    extras = (*_VARIANTS,) if chosen.each else (_CONTROL, _BOTH)
    try:
        costs = measure(chosen.sensors, chosen.seconds, extras, copies=chosen.copies)
    except BenchmarkError as error:
        print(f"benchmarks.extras: {error}", file=sys.stderr)
        return 1
    print(
        f"{chosen.sensors:,} sensors, {chosen.copies} processes of each, {costs[_NONE].rounds} rounds; us of CPU a message, MQTT 5, QoS 1; "
        "medians of paired ratios with their 95 % intervals"
    )
    print(f"{'extras':22}{f'{_OUTSTANDING} unanswered':>34}{'one at a time':>34}{'a report':>10}{'RSS, MiB':>16}")
    least = costs[_NONE].rss
    for name, cost in costs.items():
        more = f"({(cost.rss - least) / (1 << 20):+.2f})"
        print(
            f"{name:22}{cost.many:8.1f} {cost.many_ratio!s:>25}{cost.one:9.1f} {cost.one_ratio!s:>24}{cost.report:10.0f}"
            f"{cost.rss / (1 << 20):8.1f} {more:>7}"
        )
    return 0


def measure(
    sensors: int, seconds: float, extras: Collection[str], *, copies: int = _COPIES, reporting: float = _REPORTING
) -> dict[str, Cost]:
    """Return the costs of the agent without extras and of those with these `extras`, by what they have. All takes so many
    `seconds`, unless starting takes longer; reports are measured for `reporting` seconds. Raises `BenchmarkError`.
    """
    ends = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as made, ExitStack() as owner:
        directory, port = Path(made), free_port()
        start_mosquitto(directory, port, owner, "set_tcp_nodelay true")
        textfile = str(directory / "{}.prom")
        chosen = {
            name: {key: value or textfile for key, value in given.items()}
            for name, given in _VARIANTS.items()
            if name in {_NONE, *extras}
        }
        reports = _reports(chosen, port, directory, reporting)
        agents = [
            {name: Agent(f"{name} {copy}", given, port, owner, directory) for name, given in chosen.items()}
            for copy in range(copies)
        ]
        for copy in agents:
            for agent in copy.values():
                agent.learn(sensors)
        turns: dict[str, list[Turn]] = {name: [] for name in chosen}
        source, order = random.Random(payloads.SEED), [*chosen]
        for number in count():
            if number >= _LEAST * copies and time.monotonic() >= ends:
                break
            copy = agents[number % copies]
            source.shuffle(order)
            for name in order:
                asked = [copy[name].ask(_next(sensors, number // copies, size), most) for size, most in _TURN]
                turns[name].append(Turn(*asked))
        rss = {name: fmean(copy[name].rss() for copy in agents) for name in chosen}
        return {
            name: cost(sensors, (turns[name], reports[name]), (turns[_NONE], reports[_NONE]), rss[name])
            for name in chosen
        }


def _next(sensors: int, number: int, size: int) -> range:
    """Return which of all sensors have their turn in a round."""
    size = min(size, sensors)
    begin = number % (sensors // size) * size
    return range(begin, begin + size)


def _reports(variants: Mapping[str, Mapping[str, str]], port: int, directory: Path, seconds: float) -> dict[str, float]:
    """Return the CPU time of a report in seconds, of agents that do nothing else."""
    with ExitStack() as owner:
        agents = {name: Agent(name, given, port, owner, directory, interval=_OFTEN) for name, given in variants.items()}
        before = {name: agent.idle() for name, agent in agents.items()}
        time.sleep(seconds)
        return {name: (agent.idle() - before[name]) / (seconds / _OFTEN) for name, agent in agents.items()}


#: An agent's turns, and the CPU time of a report in seconds.
Measured: TypeAlias = tuple[Sequence[Turn], float]


def cost(sensors: int, measured: Measured, without: Measured, rss: float) -> Cost:
    """Return the figures of an agent, and their ratios to those of the one `without` extras in the same rounds."""
    (turns, report), (turns_without, report_without) = measured, without
    share, share_without = report / sensors, report_without / sensors

    def paired(times: Iterable[float], times_without: Iterable[float]) -> Ratio:
        pairs = zip(times, times_without, strict=True)
        return ratio([(one + share) / (other + share_without) for one, other in pairs])

    return Cost(
        median(one.many for one in turns) * 1e6,
        paired((one.many for one in turns), (one.many for one in turns_without)),
        median(one.one for one in turns) * 1e6,
        paired((one.one for one in turns), (one.one for one in turns_without)),
        report * 1e6,
        rss,
        len(turns),
    )


def ratio(ratios: Sequence[float]) -> Ratio:
    """Return the median of `ratios`, with its interval by their order: how many lie below it is a matter of tossing coins."""
    order, half = sorted(ratios), len(ratios) / 2
    away = 1.96 * math.sqrt(len(ratios)) / 2
    return Ratio(median(order), order[max(0, round(half - away) - 1)], order[min(len(order) - 1, round(half + away))])


#: The settings of each agent, as environment variables; `{}` stands for its node id, and an empty text for the path of a file.
_TEXTFILE: Final = {"METRICS__TEXTFILE": ""}
_DISCOVERY: Final = {"HOME_ASSISTANT__ENABLED": "true", "HOME_ASSISTANT__PREFIX": "{}"}
_VARIANTS: Final[Mapping[str, Mapping[str, str]]] = {
    _NONE: {},
    _CONTROL: {},
    "textfile": _TEXTFILE,
    "discovery": _DISCOVERY,
    _BOTH: {**_TEXTFILE, **_DISCOVERY},
}
_TURN: Final = ((_MANY, _OUTSTANDING), (_ALONE, 1))


@cache
def _questions() -> list[bytes]:
    return payloads.single(Library().load("genre").card)


if __name__ == "__main__":
    sys.exit(main())
