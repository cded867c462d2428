"""How `edge-agent watch` shows what comes: lines that never wait for their reader, a table that fits, and the loop."""

from __future__ import annotations

import io
import json
import os
import signal
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from edge_agent.contract.messages import Message, Refused
from edge_agent.errors import BrokerError
from edge_agent.host.process import Signals
from edge_agent.testing import FakeClock, FakeLink
from edge_agent.watching import lines
from edge_agent.watching.known import Known
from edge_agent.watching.lines import All, LineView
from edge_agent.watching.loop import Watch
from edge_agent.watching.output import Output
from edge_agent.watching.view import ClosedError, Connected, Lost
from edge_agent.watching.view import Refused as ToldRefused
from tests.unit.test_watching import REJECTED, ROCK, ROUTE, message

HOSTILE = "\x1b]0;pwned\x07\u202e[bold red]x[/]\r\n"


class Pipe:
    """A pipe to write to, whose reader reads when it is told to."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        self.output = Output(self.writer)

    def read(self) -> str:
        os.set_blocking(self.reader, False)
        try:
            return os.read(self.reader, 1 << 20).decode()
        except BlockingIOError:
            return ""

    def close(self) -> None:
        for end in (self.reader, self.writer):
            try:
                os.close(end)
            except OSError:
                continue


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.close()


def events_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


# -- lines


def test_a_reader_that_is_slow_never_holds_us_up(pipe: Pipe) -> None:
    view = LineView(All(Known(), "hint"), pipe.output, as_json=True, clock=lambda: "now")
    for second in range(20):
        for _ in range(1000):
            view.take(message("edge/pi-1/state", b"x" * 30), float(second))
        view.turn(float(second))
    assert pipe.output.waits
    got = ""
    while more := pipe.read():
        got += more
        view.turn(20.0)
    told = events_of(got[: got.rindex("\n")])
    assert sum(event["messages"] for event in told if event["event"] == "skipped") > 0
    assert all(event["time"] == "now" for event in told)


def test_a_reader_that_has_gone_is_noticed_with_nothing_to_say(pipe: Pipe) -> None:
    pipe.output.flush()
    os.close(pipe.reader)
    with pytest.raises(ClosedError):
        pipe.output.flush()


def test_more_than_can_be_read_in_a_second_is_counted(pipe: Pipe) -> None:
    view = LineView(All(Known(), "hint"), pipe.output, as_json=True)
    for _ in range(lines.MOST + 7):
        view.take(message("edge/pi-1/state", b"online"), 5.0)
        view.turn(5.0)
        if pipe.output.waits:
            pipe.read()
    pipe.read()
    view.take(message("edge/pi-1/state", b"online"), 6.5)
    view.turn(6.5)
    assert next(event for event in events_of(pipe.read()) if event["event"] == "skipped")["messages"] == 7


def test_where_answers_come_is_read_in_a_flood_too(pipe: Pipe) -> None:
    view = LineView(All(Known(), "hint"), pipe.output, as_json=True)
    for _ in range(lines.MOST + 1):
        view.take(message("edge/pi-1/state", b"x"), 0.0)
    view.take(message("edge/pi-1/info", {"routes": [ROUTE]}), 0.0)
    assert view.wanted[-2:] == ["music/+/genre", "music/+/genre/error"]
    for number in range(1000):
        view.take(message(f"edge/{number}/info", {"routes": [{**ROUTE, "publish": f"{number}/x"}]}), 0.0)
    assert len(view.wanted) < 200
    view.take(message("edge/pi-1/info", {"routes": [{}]}), 2.0)
    view.tell(Connected("localhost:1883", "5"))
    got = ""
    for _ in range(100):
        view.turn(2.0)
        got += pipe.read()
    told = [event["note"] for event in events_of(got) if event["event"] == "note"]
    assert told == ["1 route left out: too many, or not valid"]


def test_news_of_the_connection_and_a_hint_in_words(pipe: Pipe) -> None:
    view = LineView(All(Known(), "check the rules"), pipe.output, as_json=False)
    view.tell(Lost(f"broker away {HOSTILE}", 2.0))
    assert view.turn(1.0) == 1.0
    view.turn(50.0)
    view.tell(Connected("localhost:1883", "5"))
    view.tell(ToldRefused("edge/+/info", "Not authorized"))
    view.turn(60.0)
    view.turn(70.0)
    view.close()
    said = pipe.read().splitlines()
    assert [line.partition(" ")[2] for line in said] == [
        r"broker away \x1b]0;pwned\x07\u202e[bold red]x[/]\r\n; trying again in 2 s",
        "connected to localhost:1883 over MQTT 5",
        "subscription to edge/+/info refused: Not authorized",
        "check the rules",
    ]


# -- the table


def table(width: int, height: int) -> tuple[Any, io.StringIO]:
    pytest.importorskip("rich", reason="the extra `watch` is not installed")
    from rich.console import Console

    from edge_agent.watching.table import TableView

    screen = io.StringIO()
    console = Console(file=screen, width=width, height=height, force_terminal=True, highlight=False)
    return TableView(Known(), "localhost:1883", None, console), screen


def drawn(view: Any, now: float, width: int, height: int) -> list[str]:
    from rich.console import Console

    console = Console(file=io.StringIO(), width=width, height=height, record=True)
    console.print(view.drawing(now))
    return console.export_text().rstrip("\n").split("\n")


@pytest.mark.parametrize(("width", "height"), [(200, 60), (100, 24), (80, 24), (60, 12), (40, 8), (20, 6)])
def test_the_table_fits_and_shows_nothing_that_acts(width: int, height: int) -> None:
    view, screen = table(width, height)
    view.tell(Connected("localhost:1883", "5"))
    node = {
        "agent": HOSTILE,
        "models": [{"name": HOSTILE, "version": HOSTILE}, 5],
        "reason": HOSTILE,
        "routes": [ROUTE],
    }
    for number in range(40):
        name = f"node-{number}" if number else "n" + HOSTILE.replace("/", "")
        view.take(message(f"edge/{name}/state", b"degraded"), 0.0)
        view.take(message(f"edge/{name}/info", node), 0.0)
        view.take(
            message(
                f"edge/{name}/health", {"rejections": {HOSTILE: 1}, "uptime": "x", "latency_ms": [], "interval": {}}
            ),
            0.0,
        )
    view.turn(0.0)
    for number in range(100):
        view.take(message(f"music/{number}/genre", {**ROCK, "label": HOSTILE}), 1.0)
    view.take(message("music/100/genre/error", {**REJECTED, "error": HOSTILE}), 1.0)
    view.take(message("music/[red]/genre", {"label": None, "uncertain": True, "outside": [HOSTILE]}), 1.0)
    view.turn(2.0)
    rows = drawn(view, 2.0, width, height)
    assert len(rows) <= height
    assert all(len(row) <= width for row in rows)
    text = screen.getvalue()
    for control in ("\x1b]", "\x07", "\u202e", "\x1b[31m]"):
        assert control not in text
    if width >= 80:
        assert any("not shown:" in row for row in rows)
        assert any("[bold red]" in row for row in rows)


def test_doubtful_sensors_come_first_where_not_all_find_room() -> None:
    view, _ = table(120, 20)
    view.take(message("edge/pi-1/info", {"routes": [ROUTE]}), 0.0)
    view.turn(0.0)
    for number in range(50):
        view.take(message(f"music/{number}/genre", ROCK), 1.0)
    view.take(message("music/49/genre/error", REJECTED), 2.0)
    view.turn(3.0)
    rows = drawn(view, 3.0, 120, 20)
    shown = [row.split()[0] for row in rows if row.startswith("music/")]
    assert shown[:3] == ["music/0/genre", "music/1/genre", "music/2/genre"]
    assert shown[-1] == "music/49/genre"
    assert len(shown) + 38 >= 50
    assert any(
        f"not shown: {50 - len(shown)} sensors (in all, 1 of 50 have a rejection or a doubt)" in row for row in rows
    )


def test_what_the_table_says_of_the_connection() -> None:
    view, _ = table(120, 20)
    assert any("connecting" in row for row in drawn(view, 0.0, 120, 20))
    view.tell(Lost("broker away", 5.0))
    assert any("broker away; trying again" in row for row in drawn(view, 0.0, 120, 20))
    view.tell(Connected("localhost:1883", "5"))
    view.tell(ToldRefused("edge/+/info", "Not authorized"))
    rows = drawn(view, 60.0, 120, 20)
    assert any("subscription to edge/+/info refused: Not authorized" in row for row in rows)
    assert any("nothing on edge/+/#" in row for row in rows)


# -- the loop


class Seen:
    """A view that notes what it is given."""

    def __init__(self) -> None:
        self.wanted = ["a"]
        self.messages: list[str] = []
        self.told: list[Any] = []
        self.closed = False
        self.gone = False

    def take(self, message: Message, now: float) -> None:  # noqa: ARG002 - the interface
        self.messages.append(message.topic)

    def tell(self, told: Any) -> None:
        self.told.append(told)

    def turn(self, now: float) -> float:  # noqa: ARG002
        if self.gone:
            raise ClosedError
        return 0.0

    def close(self) -> None:
        self.closed = True


def loop(view: Seen, *links: FakeLink | BrokerError, clock: FakeClock, **options: Any) -> tuple[Watch, list[list[str]]]:
    waiting, asked = list(links), []

    def connect(filters: Sequence[str]) -> tuple[Any, list[Message]]:
        asked.append(list(filters))
        link = waiting.pop(0)
        if isinstance(link, BrokerError):
            raise link
        return link, [Message("early", b"")]

    return Watch(connect, view, Signals(reloads=False), broker="b", clock=clock, **options), asked


def test_it_connects_again_and_follows_what_is_wanted() -> None:
    clock, view, first, second = FakeClock(), Seen(), FakeLink(), FakeLink()
    first.refused = [Refused("a", "Not authorized")]
    watch, asked = loop(view, BrokerError("away"), first, second, clock=clock)
    watch.turn()
    assert view.told == [Lost("away", 1.0)]
    clock.advance(1.0)
    watch.turn()
    assert view.told[1:] == [Connected("b", "5"), ToldRefused("a", "Not authorized")]
    view.wanted = ["a", "b"]
    first.arrive(Message("one", b"", 1), Message("two", b""))
    watch.turn()
    assert first.subscribed == [({"a": False, "b": False}, set())]
    assert view.messages == ["early", "one", "two"]
    assert [one.topic for one, _ in first.answered] == ["one"]
    first.lose(BrokerError("gone"))
    watch.turn()
    assert first.abandoned
    assert view.told[-1] == Lost("gone", 2.0)
    clock.advance(2.0)
    watch.turn()
    assert asked == [["a"], ["a"], ["a", "b"]]
    assert watch.connected


def test_it_ends_with_its_time_a_signal_or_its_reader() -> None:
    clock, view = FakeClock(), Seen()
    watch, _ = loop(view, BrokerError("away"), clock=clock, seconds=5.0)
    watch.turn()
    clock.advance(6.0)
    watch.run()
    assert view.closed
    link, view = FakeLink(), Seen()
    watch, _ = loop(view, link, clock=clock)
    watch.turn()
    view.gone = True
    watch.run()
    assert view.closed
    assert link.closed


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_also_while_it_connects(number: int) -> None:
    view = Seen()

    def connect(filters: Sequence[str]) -> tuple[Any, list[Message]]:
        signal.raise_signal(number)
        raise AssertionError("the signal did not come through")

    with Signals(reloads=False) as signals:
        watch = Watch(connect, view, signals, broker="b")
        watch.run()
    assert view.closed
    assert not watch.connected
