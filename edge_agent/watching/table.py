"""The live table: what a `Picture` holds, on a terminal of any size. The only module here that imports rich.

Rules: rich interprets no markup of what came by MQTT (every cell is a `Text`); it draws only when told to, with no thread of its own;
and drawing takes at most a tenth of the time, however slow the machine.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from edge_agent.contract.messages import Message
from edge_agent.watching import figures
from edge_agent.watching.known import Known
from edge_agent.watching.picture import Node, Picture, Sensor
from edge_agent.watching.view import ClosedError, Connected, Lost, Noted, Told
from edge_agent.wording import LOGGED, count, plain

#: Least seconds between two drawings, and how many times as long as a drawing takes they are at least.
_EVERY: Final = 0.5
_SHARE: Final = 10.0
_STATES: Final = {"online": "green", "degraded": "yellow", "offline": "red"}
#: From this many columns on, everything is shown; below the other number only what counts.
_WIDE: Final = 100
_NARROW: Final = 70
#: Lines from which on there is room for nodes beside sensors.
_ROOM_FOR_BOTH: Final = 8
#: Most refused filters that are named.
_REFUSED: Final = 3


def is_able() -> bool:
    """Tell whether this terminal can show a table in place of the one before."""
    return not Console().is_dumb_terminal


class TableView:
    """Shows the nodes (or the `node`) and sensors on the `console`'s terminal, which gets its own content back at the end, with the
    last table below it.
    """

    def __init__(self, known: Known, broker: str, node: str | None, console: Console | None = None) -> None:
        self._known = known
        self._node = node
        self._broker = broker
        self._console = console or Console(highlight=False)
        self._picture = Picture(known)
        self._live = Live(
            console=self._console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
        )
        self._started = False
        self._next = 0.0
        self._now = 0.0
        self._connected: Connected | None = None
        self._since = 0.0
        self._lost: Lost | None = None
        self._refused: dict[str, str] = {}
        self._noted: str | None = None

    @property
    def wanted(self) -> list[str]:
        """The topics of the nodes, and of all their answers."""
        return self._known.wanted

    def take(self, message: Message, now: float) -> None:
        """Keep a message for the next drawing."""
        self._picture.take(message, now)

    def tell(self, told: Told) -> None:
        """Note what became of the connection; the next turn shows it."""
        if isinstance(told, Connected):
            self._connected, self._since, self._lost = told, self._now, None
            self._refused.clear()
            self._noted = None
        elif isinstance(told, Lost):
            self._connected, self._lost = None, told
        elif isinstance(told, Noted):
            self._noted = told.text
        else:
            self._refused[told.topic] = told.reason
        self._next = 0.0

    def turn(self, now: float) -> float:
        """Draw, if it is time."""
        self._now = now
        if now < self._next:
            return self._next - now
        began = time.process_time()
        self._picture.settle(now)
        try:
            if not self._started:
                self._live.start()
                self._started = True
            self._live.update(self.drawing(now), refresh=True)
        except OSError:
            raise ClosedError from None
        pause = max(_EVERY, _SHARE * (time.process_time() - began))
        self._next = now + pause
        return pause

    def close(self) -> None:
        """Leave the last table on the terminal."""
        try:
            if self._started:
                self._live.stop()
            self._console.print(self.drawing(self._now))
        except OSError:
            raise ClosedError from None

    # -- drawing

    def drawing(self, now: float) -> RenderableType:
        """Return all of it, in as many lines as the terminal has."""
        height, width = self._console.size.height, self._console.size.width
        head, foot = self._head(), self._foot(now)[: max(1, height // 4)]
        nodes = sorted(self._picture.nodes.values(), key=lambda node: figures.natural(node.name))
        sensors = list(self._picture.sensors.values())
        room = height - 1 - len(foot) - 1  # a line tells what is left out
        for_nodes = min(len(nodes), max(1, room // 3 - 1)) if room >= _ROOM_FOR_BOTH or not sensors else 0
        for_sensors = max(1, room - (for_nodes + 2 if for_nodes else 0) - 1)
        parts: list[RenderableType] = [head]
        if for_nodes:
            parts += [self._nodes(nodes[:for_nodes], now, width), Text("")]
        if sensors:
            parts.append(self._sensors(_chosen(sensors, for_sensors, now), now, width, several=len(nodes) > 1))
        if (hidden := _hidden(len(nodes) - for_nodes, sensors, for_sensors, now)) is not None:
            parts.append(_text(hidden, "dim"))
        return Group(*parts, *foot)

    def _head(self) -> Text:
        picture = self._picture
        where = f"{self._broker}, MQTT {self._connected.protocol}" if self._connected else self._broker
        shown = (
            f"{count(len(picture.nodes), 'node')}, {count(len(picture.sensors), 'sensor')}, "
            f"{figures.a_second(picture.rates[0])} messages a second"
        )
        head = Text("edge-agent watch", "bold", no_wrap=True, overflow="ellipsis")
        return head.append(plain(f"   {where}   {shown}"), "not bold")

    def _foot(self, now: float) -> list[Text]:
        told: list[tuple[str | None, str]] = []
        if self._lost is not None:
            told.append((f"{self._lost.reason}; trying again", "red"))
        elif self._connected is None:
            told.append(("connecting", "yellow"))
        told.append((self._noted, "yellow"))
        refused = list(self._refused.items())
        told += [(f"subscription to {topic} refused: {reason}", "yellow") for topic, reason in refused[:_REFUSED]]
        if len(refused) > _REFUSED:
            told.append((f"and {len(refused) - _REFUSED} more subscriptions refused", "yellow"))
        told += [(trouble, "yellow") for trouble in figures.troubles(self._picture.nodes.values())[:_REFUSED]]
        if self._connected is not None:
            told.append((figures.nothing_there(self._picture, self._node, now - self._since), "yellow"))
        told += [
            (figures.sampled(self._picture), "dim"),
            (figures.left_out(self._known, self._picture.forgotten), "dim"),
        ]
        return [_text(said, style) for said, style in told if said is not None]

    def _nodes(self, nodes: Sequence[Node], now: float, width: int) -> Table:
        table = _table()
        table.add_column("node", no_wrap=True, min_width=6)
        table.add_column("state", no_wrap=True, min_width=8)
        if width >= _NARROW:
            table.add_column("models", no_wrap=True, max_width=width // 3)
        table.add_column("messages/s", no_wrap=True, justify="right", min_width=4)
        if width >= _WIDE:
            table.add_column("predictions/s", no_wrap=True, justify="right")
        table.add_column("p50 / p99 ms", no_wrap=True, justify="right", min_width=7)
        table.add_column("rejections", no_wrap=True, ratio=1)
        if width >= _WIDE:
            table.add_column("up", no_wrap=True, justify="right")
        for node in nodes:
            table.add_row(
                _text(node.name),
                _text(node.state or "-", _STATES.get(node.state, "")),
                *([_text(figures.served(node) or "-")] if width >= _NARROW else []),
                _text(figures.rate(node, "messages_per_second", now)),
                *([_text(figures.rate(node, "predictions_per_second", now))] if width >= _WIDE else []),
                _text(figures.latency(node, now)),
                _text(figures.rejections(node)),
                *([_text(figures.up(node, now))] if width >= _WIDE else []),
            )
        return table

    def _sensors(self, sensors: Sequence[Sensor], now: float, width: int, *, several: bool) -> Table:
        wide = width >= _WIDE
        table = _table()
        table.add_column("topic", no_wrap=True, max_width=2 * width // 5 if wide else width // 3)
        if several and wide:
            table.add_column("node", no_wrap=True, max_width=width // 6)
        table.add_column("label or value", no_wrap=True, max_width=width // 4)
        if wide:
            table.add_column("confidence", no_wrap=True, justify="right")
        ages = [figures.age(sensor, now) for sensor in sensors]
        table.add_column("age", no_wrap=True, justify="right", min_width=max(map(len, ages)))
        table.add_column("", no_wrap=True, ratio=1)
        for sensor, age in zip(sensors, ages, strict=True):
            reading = sensor.reading
            style = "red" if reading.error else "green" if reading.is_sound else "yellow"
            said = reading.error or reading.value
            table.add_row(
                _text(f"{sensor.topic} ({sensor.name})" if sensor.name else sensor.topic),
                *([_text(", ".join(sensor.nodes))] if several and wide else []),
                _text(said if wide or not reading.figure else f"{said} {reading.figure}", style),
                *([_text(reading.figure)] if wide else []),
                _text(age),
                _text(figures.note(sensor, now), "dim" if reading.is_sound else style),
            )
        return table


def _chosen(sensors: Sequence[Sensor], room: int, now: float) -> list[Sensor]:
    """Return the sensors to show, by name; where not all find room, first those with a rejection or a doubt."""
    if len(sensors) > room:
        sensors = sorted(sensors, key=lambda one: (not one.is_troubled(now), figures.natural(one.topic), one.name))[
            :room
        ]
    return sorted(sensors, key=lambda one: (figures.natural(one.topic), one.name))


def _hidden(nodes: int, sensors: Sequence[Sensor], room: int, now: float) -> str | None:
    told = [count(nodes, "node")] if nodes > 0 else []
    if (more := len(sensors) - room) > 0:
        troubled = sum(one.is_troubled(now) for one in sensors)
        told.append(f"{count(more, 'sensor')} (in all, {troubled} of {len(sensors)} have a rejection or a doubt)")
    return f"not shown: {', '.join(told)}" if told else None


def _table() -> Table:
    return Table(box=None, expand=True, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", highlight=False)


def _text(text: str, style: Any = "") -> Text:
    """Return a cell: neither markup nor controls of a text from the wire reach the terminal."""
    return Text(plain(text[:LOGGED]), style, no_wrap=True, overflow="ellipsis")
