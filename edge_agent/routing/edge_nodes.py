"""Edge nodes of Sparkplug B: their topics, and what their births said (Eclipse Sparkplug 3.0, 4 and 6).

    spBv1.0/{group}/NBIRTH, NDATA, NDEATH/{edge_node}
    spBv1.0/{group}/DBIRTH, DDATA, DDEATH/{edge_node}/{device}

Rules:

* a birth of a device, or of the node itself, explains the aliases and datatypes of its data until its next birth or death;
* with a birth of the node all births of its devices are void, since aliases may be others now; its devices follow;
* all messages of a node but its death are counted in `seq`, from 0 to 255. Where one is missing, or may be because the connection
  was lost, a birth may be: what all births of the node said is forgotten, for an alias is never guessed;
* that is told by `seq` only where a route takes all that a node says (`follows`), and of a node that has counted since its birth;
* where a message comes again nothing is missing: one with the number of the last one on this connection, or one that the broker marks
  as sent again;
* of a node with two gaps on one connection some messages never come, such as those of a device that access rules hide: it is
  taken for one that does not count until the next connection or reload. Else each of its births would soon be void;
* a death with another `bdSeq` than the last birth of the node is of an earlier session, and tells nothing;
* nothing grows without bound: the least recently heard node is forgotten first, with all its devices.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, NamedTuple

from edge_agent.contract.templates import Template
from edge_agent.errors import SettingsError
from edge_agent.payload.sparkplug import Birth
from edge_agent.routing.sensors import Sensor
from edge_agent.routing.sources import FEATURE, Source

NAMESPACE: Final = "spBv1.0"
#: Kinds of messages that are looked at, by the level that says them. Commands are for others.
NODE_KINDS: Final = frozenset({"NBIRTH", "NDATA", "NDEATH"})
DEVICE_KINDS: Final = frozenset({"DBIRTH", "DDATA", "DDEATH"})
_DATA: Final = frozenset({"NDATA", "DDATA"})
#: Longest topic that is looked at, in characters: its names are kept.
MAX_TOPIC: Final = 512
_SHAPE: Final = f"{NAMESPACE}/{{group}}/{{_}}/{{node}}/{{device}}, or {NAMESPACE}/{{group}}/{{_}}/{{node}} for metrics of the node itself"


class Told(NamedTuple):
    """What a topic says: the node (group and name), the kind of message, and the device; "" for the node itself."""

    node: tuple[str, str]
    kind: str
    device: str


def told(topic: str) -> Told | None:
    """Return what a topic says, None when it is no birth, death or data."""
    levels = topic.split("/")
    if len(topic) > MAX_TOPIC or not 4 <= len(levels) <= 5:
        return None
    _, group, kind, node, *device = levels
    if kind not in (DEVICE_KINDS if device else NODE_KINDS):
        return None
    return Told((group, node), kind, device[0] if device else "")


def is_data(topic: str) -> bool:
    """Tell whether a topic is of data: not of a birth or a death, nor of what is not looked at."""
    which = told(topic)
    return which is not None and which.kind in _DATA


def overheard(subscribe: Template) -> Source | None:
    """Return what a route has to take besides, when it takes devices: the births and deaths of their edge nodes."""
    levels = subscribe.text.split("/")
    return Source(Template("/".join(levels[:4])), overheard=True) if len(levels) == 5 else None


def takes_all(subscribe: Template) -> bool:
    """Tell whether a template takes all devices of the nodes that it takes."""
    levels = subscribe.text.split("/")
    return len(levels) == 5 and subscribe.levels[4] is None


def refuse_shape(subscribe: Template) -> None:
    """Raise `SettingsError` when a template does not take whole sessions: births, data and deaths."""
    levels = subscribe.text.split("/")
    if (
        levels[0] != NAMESPACE
        or len(levels) not in {4, 5}
        or levels[2] != "{_}"
        or "{_}" in (levels[1], *levels[3:])
        or subscribe.several is not None
        or FEATURE in subscribe.captures
    ):
        raise SettingsError(f"topic {subscribe.text!r}: with Sparkplug B, subscribe to {_SHAPE}")


#: So many gaps on one connection mean that some messages of a node never come.
_GAPS: Final = 2
#: Since when there is no birth of a device.
STARTED: Final = "since the agent or the node started"
_AWAY: Final = "since the connection to the broker was lost, and one may have been missed meanwhile"


class Device:
    """A device, or a node itself: the sensor that it is to the route, and what its birth said, None when that is unknown.

    `complained` says that data were already rejected for the lack of a birth, `since` since when there is none.
    """

    __slots__ = ("birth", "complained", "sensor", "since")

    def __init__(self, sensor: Sensor) -> None:
        self.sensor = sensor
        self.birth: Birth | None = None
        self.complained = False
        self.since = STARTED

    def forget_birth(self, since: str = STARTED) -> None:
        """Forget what its birth said; `since` when, in words."""
        if self.birth is not None:
            self.birth, self.since, self.complained = None, since, False


class _Node:
    """`counts` says whether its messages are numbered one after the other, None when that is not known yet; `gaps` how many there
    were since the connection or the last reload; `is_away` that nothing was counted on this connection.
    """

    __slots__ = ("bd_seq", "counts", "devices", "gaps", "is_away", "seq")

    def __init__(self) -> None:
        self.bd_seq: int | None = None
        self.counts: bool | None = None
        self.gaps = 0
        self.is_away = False
        self.seq: int | None = None
        self.devices: dict[str, Device] = {}


class EdgeNodes:
    """The edge nodes that a route has heard of. `limit` is the most devices, and the most nodes. `follows`: the route takes all
    that each node says.
    """

    def __init__(self, limit: int, *, follows: bool = False) -> None:
        self.follows = follows
        self._limit = 2 * limit
        #: Nodes and devices together.
        self._size = 0
        #: The least recently heard first.
        self._nodes: OrderedDict[tuple[str, str], _Node] = OrderedDict()

    def take_over(self, former: EdgeNodes) -> None:
        """Go on with what `former` has heard of; what is too much by now is forgotten when the next device is heard."""
        self._nodes, self._size = former._nodes, former._size
        for node in self._nodes.values():
            node.gaps = 0
            if former.follows != self.follows:
                node.seq = node.counts = None  # nothing was missed: one of the two did not look

    def device(self, which: Told, sensor: Sensor) -> tuple[Device, list[Device]]:
        """Return a device, which is known from now on, and those that were forgotten for it."""
        node = self._heard(which.node)
        found = node.devices.get(which.device)
        if found is not None:
            return found, []
        found = node.devices[which.device] = Device(sensor)
        self._size += 1
        return found, self._make_room(which.node)

    def born(self, which: Told, bd_seq: int | None) -> list[Device]:
        """Note the birth of a node; return devices that were forgotten for it."""
        node = self._heard(which.node)
        node.bd_seq = bd_seq
        for device in node.devices.values():
            device.forget_birth()
        return self._make_room(which.node)

    def died(self, which: Told, bd_seq: int | None) -> list[Device]:
        """Note a death; return those that died: a device, or a node with all of its devices."""
        node = self._nodes.get(which.node)
        if node is None:
            return []
        if which.kind == "NDEATH":
            if None not in {bd_seq, node.bd_seq} and bd_seq != node.bd_seq:
                return []
            dead = list(node.devices.values())
        else:
            dead = [device] if (device := node.devices.get(which.device)) is not None else []
        for device in dead:
            device.forget_birth()
        return dead

    def counted(self, which: Told, seq: int | None, *, duplicate: bool = False) -> None:
        """Note the number of a message, in the order in which they come; where one is missing, forget what births said.
        `duplicate` says that the broker sends it again.
        """
        node = self._nodes.get(which.node)
        if node is None or not self.follows or which.kind == "NDEATH":
            return
        before = node.seq
        follows = before is not None and seq == (before + 1) % 256
        if which.kind == "NBIRTH":
            node.counts = None if node.gaps < _GAPS else False
        elif before is None or seq is None:
            pass
        elif (seq == before and not node.is_away) or (duplicate and not follows):
            return
        elif node.counts is None:
            node.counts = follows
        elif node.counts and not follows:
            node.gaps += 1
            node.counts = node.gaps < _GAPS
            _forget_births(node, f"since a message of the edge node was missed (seq {seq} came after {before})")
        node.seq, node.is_away = seq, False

    def reconnected(self) -> None:
        """Note that messages may have been missed: a death counts, whichever session it belongs to, and what births said counts no
        more, unless the next message will tell whether one was missed.
        """
        for node in self._nodes.values():
            node.bd_seq, node.gaps, node.is_away = None, 0, True
            if not (self.follows and node.counts and node.seq is not None):
                _forget_births(node, _AWAY)

    def _heard(self, name: tuple[str, str]) -> _Node:
        node = self._nodes.get(name)
        if node is None:
            node = self._nodes[name] = _Node()
            self._size += 1
        self._nodes.move_to_end(name)
        return node

    def _make_room(self, latest: tuple[str, str]) -> list[Device]:
        forgotten: list[Device] = []
        while self._size > self._limit:
            if len(self._nodes) > 1:
                _, node = self._nodes.popitem(last=False)
                forgotten += node.devices.values()
                self._size -= 1 + len(node.devices)
            else:
                devices = self._nodes[latest].devices
                forgotten.append(devices.pop(next(iter(devices))))
                self._size -= 1
        return forgotten


def _forget_births(node: _Node, since: str) -> None:
    for device in node.devices.values():
        device.forget_birth(since)
