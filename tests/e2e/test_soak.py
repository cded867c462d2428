"""An hour in the life of a service on a small Pi that somebody attacks: nothing honest is lost, late, or grows.

The agent has 128 MiB of memory and a quarter of one core (control groups; a machine that has none to give says so in the
figures). Honest questions come at a steady rate; beside them a hostile client sends all that tests/hostile.py knows. Every
now and then something is done to agent or broker. In the second half the agent is no longer killed, so that what it has in
memory can be watched.

What is counted as late: a question's time runs from when it was asked to its first answer. While broker or agent are down,
because the test has killed them, nobody can answer: a question of that time counts from the moment in which the first
question that was asked after the blow is answered. How long that takes is shown by itself.

EDGE_AGENT_SOAK_SECONDS is how long the full form takes (3600): scripts/test --long -k soak
"""

from __future__ import annotations

import bisect
import json
import os
import random
import signal
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from tests.background import Background
from tests.brokers import Mosquitto, running
from tests.budget import Budget
from tests.contract.client import Client
from tests.e2e.conftest import Agent
from tests.hostile import HEAVY, HostileClient
from tests.requirements import require_mosquitto
from tests.traffic import Traffic

SECONDS: Final = float(os.environ.get("EDGE_AGENT_SOAK_SECONDS", "3600"))
MEMORY: Final = 128 << 20
CORES: Final = 0.25
#: Messages a second: honest, hostile; seconds from one heavy hostile message to the next.
RATE: Final = 20.0
HOSTILE: Final = 5.0
HEAVY_EVERY: Final = 15.0
#: Seconds from one look at the memory to the next, and what may come to it in the second half.
LOOK: Final = 2.0
MAX_GROWTH: Final = 5 << 20
LATE: Final = 1.0
#: Mosquitto writes its store when this many things have changed since the last time (see test_nothing_lost.py).
SAVED_CHANGES: Final = 100
LINES: Final = (
    *("max_queued_messages 0", "log_type none", "log_type error", "log_type warning"),
    *("autosave_on_changes true", f"autosave_interval {SAVED_CHANGES}"),
)


class Form(NamedTuple):
    seconds: float
    #: Seconds from one blow to the next: least, most.
    pause: tuple[float, float]
    heavy_every: float
    judged: bool


FORMS: Final = [
    pytest.param(Form(20, (2, 4), 2, judged=False), id="short"),
    pytest.param(
        Form(SECONDS, (20, 40), HEAVY_EVERY, judged=True),
        marks=[pytest.mark.long, pytest.mark.timeout(SECONDS + 1800)],
        id="full",
    ),
]


class TimedTraffic(Traffic):
    """Knows when each question was asked and first answered, and when nobody could answer."""

    def __init__(self, port: int, **options: Any) -> None:
        super().__init__(port, RATE, **options)
        self._asked: dict[int, float] = {}
        self.spans: list[tuple[float, float]] = []
        #: From the blow to the first answer to a question asked after it.
        self.outages: list[tuple[float, float]] = []

    def _ask(self, sock: Any, count: int) -> None:
        now = time.monotonic()
        self._asked.update(dict.fromkeys(range(self.sent, self.sent + count), now))
        super()._ask(sock, count)

    def _take(self, sensor: str, answer: dict[str, object]) -> None:
        super()._take(sensor, answer)
        number = answer["id"]
        assert isinstance(number, int)
        if (asked := self._asked.pop(number, None)) is not None:
            self.spans.append((asked, time.monotonic()))

    def outage(self, blow: Callable[[], object]) -> float:
        """Do it, and return how long it took until somebody was answered again."""
        began = time.monotonic()
        blow()
        self.wait_for_news()
        ended = time.monotonic()
        self.outages.append((began, ended))
        return ended - began

    def latencies(self) -> list[float]:
        """Sorted seconds, of every question."""
        begins = [began for began, _ in self.outages]
        found = []
        for asked, answered in self.spans:
            place = bisect.bisect(begins, asked) - 1
            # One that was under way when the blow fell is one of that time, too.
            for began, ended in self.outages[max(place, 0) : place + 2]:
                if asked < ended and answered > began:
                    asked = min(ended, answered)  # noqa: PLW2901 - what counts as asked
            found.append(answered - asked)
        return sorted(found)


class Watch(Background):
    """Looks at the agent's memory every LOOK seconds: when, resident bytes, and which process it was."""

    def __init__(self, agent: Agent) -> None:
        super().__init__("watch")
        self._agent = agent
        self.seen: list[tuple[float, int, int]] = []
        self.peak = 0

    def _run(self) -> None:
        while not self._closed.wait(LOOK):
            process = self._agent.process
            try:
                memory = self._agent.memory()
            except (OSError, KeyError):
                # Just killed: it has no memory any more.
                continue
            if process is not None and process is self._agent.process:
                self.seen.append((time.monotonic(), memory.now, process.pid))
                self.peak = max(self.peak, memory.peak)

    def last_life(self) -> list[tuple[float, int]]:
        """Of the process that there is now."""
        return [(when, size) for when, size, pid in self.seen if pid == self.seen[-1][2]]


class Figures:
    """What came out, and its words."""

    def __init__(self, latencies: list[float], watch: Watch) -> None:
        self._latencies = latencies
        self._peak = watch.peak
        self._life = life = watch.last_life()
        self.lasted = life[-1][0] - life[0][0]
        # The first fifth is for warming up.
        fifth = max(len(life) // 5, 1)
        sizes = [size for _, size in life]
        self.grown = statistics.median(sizes[-fifth:]) - statistics.median(sizes[fifth : 2 * fifth] or sizes)
        warm = life[fifth :: max(len(life) // 200, 1)]
        slopes = [(b - a) / (u - t) for i, (t, a) in enumerate(warm) for u, b in warm[i + 1 :]]
        #: Bytes an hour, by Theil and Sen.
        self.slope = statistics.median(slopes) * 3600 if slopes else 0.0

    def share(self, share: float) -> float:
        """Seconds within which this share of the questions was answered."""
        return self._latencies[min(int(len(self._latencies) * share), len(self._latencies) - 1)]

    def lateness(self) -> str:
        shares = (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("longest", 1))
        return ", ".join(f"{name} {self.share(share) * 1000:.0f} ms" for name, share in shares)

    def _tenths(self) -> list[float]:
        tenth = max(len(self._life) // 10, 1)
        sizes = [size for _, size in self._life]
        return [statistics.median(sizes[place : place + tenth]) for place in range(0, len(sizes), tenth)][:10]

    def memory(self) -> str:
        mib = 1 << 20
        return (
            f"RSS {self._life[-1][1] / mib:.1f} MiB, at most {self._peak / mib:.1f}; in its last {self.lasted:.0f} s it grew by"
            f" {self.grown / mib:+.2f} MiB, {self.slope / mib:+.2f} MiB an hour;"
            f" in tenths of that: {', '.join(f'{size / mib:.0f}' for size in self._tenths())}"
        )


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    require_mosquitto()
    with running(Mosquitto(tmp_path / "broker", lines=LINES, persistence=True)) as broker:
        yield broker


class Blows:
    """What is done, in turn; killing the agent only while that is allowed."""

    def __init__(self, agent: Agent, file: Path) -> None:
        self._agent = agent
        self._file = file
        self._round = 0
        self.may_kill = True
        self.done = Counter[str]()
        self.longest: dict[str, float] = {}

    def next(self, traffic: TimedTraffic) -> None:
        kinds: dict[str, Callable[[], object]] = {
            "agent killed": self._kill_agent,
            "reloaded": self._reload,
            "broker killed": self._kill_broker,
            "reloaded with other settings": self._change,
            "agent restarted": self._restart_agent,
            "broker restarted": self._agent.broker.restart,
        }
        names = [name for name in kinds if self.may_kill or not name.startswith("agent")]
        name = names[self._round % len(names)]
        self._round += 1
        took = traffic.outage(kinds[name])
        self.done[name] += 1
        self.longest[name] = max(self.longest.get(name, 0.0), took)

    def told(self) -> list[str]:
        return [f"{name}: {n}, answered again within {self.longest[name]:.1f} s" for name, n in self.done.items()]

    def _kill_agent(self) -> None:
        self._agent.stop(signal.SIGKILL)
        self.start()

    def _restart_agent(self) -> None:
        assert self._agent.stop(patience=1 / CORES) == 0
        self.start()

    def _kill_broker(self) -> None:
        self._agent.broker.kill()
        self._agent.broker.start()

    def _reload(self) -> None:
        self._agent.send(signal.SIGHUP)

    def _change(self) -> None:
        """Connect anew: another keepalive."""
        self._file.write_text(f"[mqtt]\nkeepalive = {20 + self._round}\n")
        self._reload()

    def start(self) -> None:
        self._agent.start("--config", str(self._file), EDGE_AGENT_MQTT__MAX_BACKOFF="1")


@pytest.mark.parametrize("form", FORMS)
def test_soak(form: Form, agent: Agent, client: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    moments = random.Random(1)
    file = tmp_path / "agent.toml"
    file.write_text("")
    blows = Blows(agent, file)
    with Budget(memory=MEMORY, cores=CORES) as budget:
        agent.wrapper = budget.wrapper
        blows.start()
        client.subscribe("edge/node/state")
        client.wait_for_payload("edge/node/state", "online")
        client.close()
        port = agent.broker.port
        traffic = TimedTraffic(port, doubt=10 * SAVED_CHANGES, in_vain=agent.in_vain)
        hostile = HostileClient(port, rate=HOSTILE, heavy_every=form.heavy_every)
        with traffic, hostile, Watch(agent) as watch:
            traffic.wait_for_news()
            began = time.monotonic()
            ends = began + form.seconds
            while time.monotonic() < ends:
                # The moment is what is tested, so it is drawn; nothing is waited for here.
                time.sleep(min(moments.uniform(*form.pause), max(ends - time.monotonic(), 0)))
                blows.may_kill = time.monotonic() - began < form.seconds / 2
                blows.next(traffic)
            traffic.finish(f"soaked for {form.seconds:g} s", at_least=int(form.seconds * RATE * 0.8))
            status = ask_status(port)
        used = agent.processor_time()
        assert agent.stop(patience=1 / CORES) == 0
        held_back = budget.held_back()

    figures = Figures(traffic.latencies(), watch)
    lines = [
        f"soak of {time.monotonic() - began:.0f} s under {MEMORY >> 20} MiB and {CORES:g} of a core",
        *(f"            {what}" for what in budget.lacking),
        f"honest      {traffic}, 0 lost",
        f"hostile     {hostile}; {hostile.connections} connections, {hostile.confirmed} confirmed by the broker",
        *(f"blows       {blow}" for blow in blows.told()),
        f"latency     {figures.lateness()}; {sum(b - a for a, b in traffic.outages):.0f} s of outages apart",
        f"memory      {figures.memory()}",
        f"processor   {used:.1f} s since its last start; held back {held_back} times in all",
        "agent       " + ", ".join(f"{name} {status.get(name)}" for name in SHOWN),
    ]
    with capsys.disabled():
        print("\n" + "\n".join(lines))  # noqa: T201
    # Of what is resident, the libraries' pages can be taken back: a control group judges by the rest, and kills.
    if budget.lacking:
        assert watch.peak < MEMORY
    assert status.get("faults", 0) == 0
    if form.judged:
        assert figures.share(0.99) < LATE
        # Each heavy message has been there twice by then, once while it was warming up.
        if figures.lasted >= 2 * len(HEAVY) * HEAVY_EVERY:
            assert figures.grown < MAX_GROWTH


SHOWN: Final = (
    *("uptime", "received", "redelivered", "predictions", "rejections", "answered", "refused", "unrouted"),
    *("poisoned", "faults", "acknowledged", "connections"),
)


def ask_status(port: int) -> dict[str, Any]:
    with Client(port) as asking:
        asking.subscribe("edge/node/response/status")
        asking.publish("edge/node/request/status")
        answer: dict[str, Any] = json.loads(asking.message("edge/node/response/status").payload)
        return answer
