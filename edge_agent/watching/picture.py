"""What the table shows: the nodes, and the latest answer of each sensor.

Taking a message costs next to nothing, whatever is in it: its payload is kept until the table is drawn, in place of the one
before it on its topic. So thousands of messages a second are counted, and few of them read.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Any, Final

from edge_agent.contract.messages import Message
from edge_agent.watching.known import INFO, MOST_INFO, MOST_NODES, STATE, Known, Place
from edge_agent.watching.reading import Reading, decoded, read
from edge_agent.wording import LOGGED

#: Most sensors that are kept; the least recently heard goes first.
MOST_SENSORS: Final = 5000
#: Topics whose payloads may wait to be read; most that are read for one drawing; most that wait on a topic that many sensors share.
_MOST_WAITING: Final = MOST_SENSORS + 3 * MOST_NODES
_READ: Final = 500
_SHARED: Final = 64
#: Most bytes of a state that are kept.
_STATE: Final = 40
#: Seconds for which a rejection is shown after the sensor was answered again.
_LATELY: Final = 60.0
#: Seconds over which messages are counted for a rate.
_SPAN: Final = 5.0


@dataclass(slots=True)
class Node:
    """A node. `state` is as it said; `heard` is when its last health came, in seconds of the clock."""

    name: str
    state: str = ""
    info: dict[str, Any] = field(default_factory=dict)
    health: dict[str, Any] = field(default_factory=dict)
    heard: float | None = None


@dataclass(slots=True)
class Sensor:
    """A sensor of a route with its latest answer, or the rejection that came after it, and with the latest rejection. `arrived` is None
    for what the broker had kept. `nodes` are those whose routes publish there.
    """

    topic: str
    name: str
    nodes: tuple[str, ...]
    model: str
    reading: Reading
    arrived: float | None = None
    rejection: Reading | None = None
    rejected: float = 0.0

    def is_troubled(self, now: float) -> bool:
        """Tell whether there is a doubt about the latest answer, or was a rejection lately."""
        return not self.reading.is_sound or self.rejected_lately(now) is not None

    def rejected_lately(self, now: float) -> Reading | None:
        """Return the latest rejection, also where it was answered since, while it is not old."""
        return self.rejection if now - self.rejected < _LATELY else None


class Picture:
    """Nodes and sensors, as `known` tells where they belong."""

    def __init__(self, known: Known) -> None:
        self.known = known
        self.nodes: dict[str, Node] = {}
        #: By the topic of the answers, and the sensor that answers on a shared topic name; the least recently heard first.
        self.sensors: OrderedDict[tuple[str, str], Sensor] = OrderedDict()
        #: Messages that came, and sensors and nodes that made room for others or found none.
        self.taken = 0
        self.forgotten = 0
        #: Messages that were read.
        self.read = 0
        #: Payloads that wait to be read, by topic, the topic that waits longest first.
        self._waiting: OrderedDict[str, deque[tuple[Message, float]]] = OrderedDict()
        self._counts: deque[tuple[float, int, int]] = deque()

    def take(self, message: Message, now: float) -> None:
        """Take a message that arrived at `now`."""
        self.taken += 1
        topic = message.topic
        waiting = self._waiting.get(topic)
        if waiting is None:
            is_own = self.known.kind_of(topic) is not None
            places = () if is_own else self.known.places(topic)
            if not (is_own or places) or len(self._waiting) >= _MOST_WAITING:
                return
            waiting = deque(maxlen=_SHARED if any(place.shared for place in places) else 1)
            self._waiting[topic] = waiting
        waiting.append((message, now))

    def settle(self, now: float) -> None:
        """Read what waits, as much of it as one drawing may cost."""
        left = _READ
        while self._waiting and left > 0:
            topic, messages = self._waiting.popitem(last=False)
            for message, arrived in messages:
                self._settle(topic, message, None if message.retained else arrived)
            left -= len(messages)
        self._counts.append((now, self.taken, self.read))
        while self._counts[0][0] < now - _SPAN:
            self._counts.popleft()

    @property
    def rates(self) -> tuple[float, float]:
        """Messages a second that come, and that are read, over the last seconds."""
        if not self._counts:
            return 0.0, 0.0
        (began, taken, read_), (ended, more, more_read) = self._counts[0], self._counts[-1]
        span = ended - began
        return ((more - taken) / span, (more_read - read_) / span) if span else (0.0, 0.0)

    def _settle(self, topic: str, message: Message, arrived: float | None) -> None:
        self.read += 1
        kind = self.known.kind_of(topic)
        if kind is not None:
            self._told(*kind, message, arrived)
        elif message.payload and (places := self.known.places(topic)):
            self._answered(places, message, arrived)

    def _told(self, name: str, what: str, message: Message, arrived: float | None) -> None:
        node = self.nodes.get(name)
        if node is None:
            if not message.payload:
                return
            if len(self.nodes) >= MOST_NODES:
                self.forgotten += 1
                return
            node = self.nodes[name] = Node(name)
        if what == STATE:
            node.state = message.payload[:_STATE].decode(errors="replace")
        elif what == INFO:
            info = decoded(message, MOST_INFO)
            self.known.take(name, info)
            node.info = info if isinstance(info, dict) else {}
        elif isinstance(health := decoded(message), dict):
            node.health, node.heard = health, arrived
        if not (message.payload or node.state or node.info):
            # Whoever clears what the broker keeps of a node says that it is gone.
            del self.nodes[name]

    def _answered(self, places: tuple[Place, ...], message: Message, arrived: float | None) -> None:
        place = places[0]
        reading = read(message)
        reading = reading._replace(note=reading.note[:LOGGED])
        key = place.topic, reading.sensor if place.shared else ""
        sensor = self.sensors.get(key)
        if sensor is None:
            if len(self.sensors) >= MOST_SENSORS:
                self.sensors.popitem(last=False)
                self.forgotten += 1
            sensor = self.sensors[key] = Sensor(place.topic, key[1], (), "", reading)
        if reading.error and arrived is not None:
            sensor.rejection, sensor.rejected = reading, arrived
        if sensor.arrived is not None and (arrived is None or arrived < sensor.arrived):
            return  # kept by the broker, or overtaken while it waited
        self.sensors.move_to_end(key)
        sensor.nodes = tuple(dict.fromkeys(one.node for one in places))
        sensor.model, sensor.reading, sensor.arrived = place.model, reading, arrived
