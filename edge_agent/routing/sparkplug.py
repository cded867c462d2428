"""Routes for Sparkplug B: what edge nodes and their devices publish, report by exception.

A message is read into the values of metrics by name, with what births said of aliases (`edge_agent.routing.edge_nodes`), and
from there on is one like any other that a route looks into. The agent only listens: it asks no edge node for a rebirth, since a
command to a plant is nothing that a route's configuration would make anybody expect.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from edge_agent.contract.card import Feature
from edge_agent.contract.messages import MAX_PAYLOAD_BYTES, ErrorCode, Message
from edge_agent.payload import sparkplug
from edge_agent.payload.features import Unusable, choose, refuse
from edge_agent.routing.documents import Document, Part
from edge_agent.routing.edge_nodes import STARTED, Device, EdgeNodes, Told, told
from edge_agent.routing.gathering import Due, GatheredTopic, Gathering
from edge_agent.routing.routes import Route
from edge_agent.routing.sensors import MAX_SENSORS
from edge_agent.routing.sources import Source

_BIRTHS: Final = frozenset({"NBIRTH", "DBIRTH"})
_DEATHS: Final = frozenset({"NDEATH", "DDEATH"})
_SESSIONS: Final = frozenset({"NBIRTH", *_DEATHS})
_NOTHING: Final = Part([], [], None, {})


class SparkplugGathering(Gathering):
    """One route for Sparkplug B. Its payloads are read as such, whatever content type they bring. `follows`: it takes all that
    an edge node and its devices say.
    """

    def __init__(
        self,
        route: Route,
        features: Sequence[Feature],
        *,
        max_sensors: int = MAX_SENSORS,
        max_bytes: int = MAX_PAYLOAD_BYTES,
        follows: bool = False,
    ) -> None:
        super().__init__(route, features, max_sensors=max_sensors, max_bytes=max_bytes)
        sparkplug.payload_type()  # imports protobuf, which takes longer than a message may
        self._max_bytes = max_bytes
        self.nodes = EdgeNodes(max_sensors, follows=follows)
        self._all = range(len(features))
        #: Metrics that are looked for, by the UTF-8 of their names.
        self.wanted = {key.encode(): key for reader in self._readers.values() for key in reader.keys}

    def take_over(self, former: Gathering) -> bool:
        """Go on with the values of the same route before a reload, and with what births said."""
        if isinstance(former, SparkplugGathering) and former.wanted == self.wanted:
            self.nodes.take_over(former.nodes)  # also where the values start over: births are not sent again for us
        return isinstance(former, SparkplugGathering) and super().take_over(former)

    def reconnected(self) -> None:
        """Note a new connection: an answer may be lost, and so may births, which are sent at QoS 0."""
        super().reconnected()
        self.nodes.reconnected()

    def topic_of(self, source: Source, captured: Mapping[str, str]) -> GatheredTopic:
        """Return what the topic is that the source captured this from; it has no sensor where it is only overheard."""
        return GatheredTopic(self, (), None, None) if source.overheard else super().topic_of(source, captured)

    def take(self, topic: GatheredTopic, message: Message, now: float) -> list[Due]:
        """Handle a message; return the answers that are due at once: at most one."""
        which, reader = told(message.topic), topic.reader
        if which is None or (reader is None and which.kind == "NDATA" and not self.nodes.follows):
            return self._ignore()
        read = self._read(message.payload)
        found, seq = (read, None) if isinstance(read, Unusable) else read
        self._note_session(which, found)
        self.nodes.counted(which, seq, duplicate=message.duplicate)
        if reader is None or which.kind in _DEATHS:
            return self._ignore()
        device, forgotten = self.nodes.device(which, topic.sensor)
        self._forget(forgotten)
        if isinstance(found, Unusable):
            if which.kind in _BIRTHS:
                self._forget([device])
            return [(self, topic.sensor, message.topic, found, message.qos, False)]
        part = self._part(reader, device, which, found)
        if part.is_empty:
            return self._ignore()
        due = self._take(topic, part, message, now)
        return [] if due is None else [due]

    def _note_session(self, which: Told, found: Sequence[Any] | Unusable) -> None:
        """Note that a node was born, or that it or a device died. A message that can't be read says so all the same."""
        if which.kind in _SESSIONS:
            bd_seq = None if isinstance(found, Unusable) else sparkplug.bd_seq(found)
            note = self.nodes.born if which.kind == "NBIRTH" else self.nodes.died
            self._forget(note(which, bd_seq))

    def _part(self, reader: Document, device: Device, which: Told, found: Sequence[Any]) -> Part:
        """Return what the metrics of a birth or of data bring."""
        if which.kind in _BIRTHS:
            device.birth, device.since = sparkplug.birth(found, self.wanted), STARTED
            part = reader.part(sparkplug.row(found, self.wanted, device.birth)[0])
            if not self._remembers:
                return part
            # It has all metrics that there are: what is not in it is no more.
            there = {position for position, _ in part.values}
            return part._replace(forgotten=[position for position in self._all if position not in there])
        values, unexplained = sparkplug.row(found, self.wanted, device.birth)
        part = reader.part(values)
        if unexplained is None or (part.refusal is None and len(part.values) + len(part.forgotten) == len(self._all)):
            return part
        if not device.complained:
            device.complained = True
            return part._replace(refusal=_no_birth(which, unexplained, device.since))
        return part if self._remembers else _NOTHING

    def _read(self, payload: bytes) -> sparkplug.Payload | Unusable:
        chosen = choose(payload, sparkplug.CONTENT_TYPE, (), max_bytes=self._max_bytes)
        if isinstance(chosen, Unusable):
            return chosen
        try:
            return sparkplug.read(payload)
        except ValueError as error:
            text = payload[:256].decode(errors="replace")
            return refuse(ErrorCode.MALFORMED_PAYLOAD, str(error), kind=chosen.invalid, shown=text)

    def _ignore(self) -> list[Due]:
        self.ignored += 1
        return []

    def _forget(self, devices: Sequence[Device]) -> None:
        """Take the values of devices away, and what their births said."""
        for device in devices:
            device.forget_birth()
            self.sensors.drop(device.sensor, self._all)


def _no_birth(which: Told, alias: int, since: str) -> Unusable:
    of = f"{'/'.join(which.node)}{f'/{which.device}' if which.device else ''}"
    kind = "DBIRTH" if which.device else "NBIRTH"
    words = (
        f"Alias {alias} stands for a metric that no {kind} has named: no {kind} of {of} was received {since}. "
        "Restart the edge node, or have a host application send it the NCMD 'Node Control/Rebirth'; "
        "until then its data are ignored"
    )
    return refuse(ErrorCode.INVALID_FEATURES, words, kind="birth_missing", shown=alias)
