"""A broker in memory, and nodes that speak the topics as agents do: for tests of roll-outs, without a socket or a second of waiting.

room = Room()
nodes = [ScriptedNode(room, f"pi-{number}") for number in range(20)]
wire = room.wire()
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, Final

from edge_deploy.wire import Limits

from edge_agent.contract import topics
from edge_agent.contract.manifest import Envelope, Manifest, is_meant, read
from edge_agent.contract.messages import Message


class Room:
    """Keeps retained messages, and delivers to whoever listens; its clock advances when a wire waits."""

    def __init__(self) -> None:
        self.time = 0.0
        self.retained: dict[str, bytes] = {}
        #: Everything that was published, in order.
        self.published: list[tuple[str, bytes]] = []
        self.limits = Limits()
        #: Whether what is retained is kept; there are brokers that confirm it, and don't.
        self.keeps: Callable[[str, bytes], bool] = lambda _topic, _payload: True
        #: Called whenever somebody waits, with the time.
        self.turns: list[Callable[[float], None]] = []
        self._listeners: list[tuple[Callable[[], Iterable[str]], Callable[[Message], None]]] = []

    def clock(self) -> float:
        """Return the time in seconds."""
        return self.time

    def wire(self) -> RoomWire:
        """Return a connection."""
        return RoomWire(self)

    def listen(self, filters: Callable[[], Iterable[str]], take: Callable[[Message], None]) -> None:
        """Deliver to `take` what is published on the topics of `filters` from now on."""
        self._listeners.append((filters, take))

    def publish(self, topic: str, payload: bytes, *, retain: bool = True) -> None:
        """Deliver a message, and keep it."""
        self.published.append((topic, payload))
        if retain and self.keeps(topic, payload):
            if payload:
                self.retained[topic] = payload
            else:
                self.retained.pop(topic, None)
        for filters, take in list(self._listeners):
            if any(matches(one, topic) for one in filters()):
                take(Message(topic, payload, 1))

    def kept(self, filter_: str) -> list[Message]:
        """Return the retained messages of a filter."""
        return [
            Message(topic, payload, 1, retained=True)
            for topic, payload in self.retained.items()
            if matches(filter_, topic)
        ]

    def wait(self, seconds: float) -> None:
        """Let time pass, and everybody act."""
        self.time += seconds
        for turn in list(self.turns):
            turn(self.time)


class RoomWire:
    """A `Wire` in a room."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._filters: set[str] = set()
        self._inbox: list[Message] = []
        self.connected = True
        self.closed = False
        room.listen(lambda: self._filters, self._inbox.append)

    @property
    def limits(self) -> Limits:
        """What the room takes."""
        return self._room.limits

    def subscribe(self, filters: Iterable[str]) -> None:
        """Subscribe, and get what is retained."""
        for one in filters:
            self._filters.add(one)
            self._inbox += self._room.kept(one)

    def unsubscribe(self, filters: Iterable[str]) -> None:
        """Take subscriptions back."""
        self._filters -= set(filters)

    def publish(self, topic: str, payload: bytes) -> None:
        """Deliver a retained message."""
        self._room.publish(topic, payload)

    def settle(self) -> None:
        """Do nothing: what is published has arrived."""

    def receive(self, seconds: float) -> list[Message]:
        """Return what arrived; time passes where that is nothing."""
        if not self._inbox:
            self._room.wait(seconds)
        inbox = self._inbox[:]
        self._inbox.clear()
        return inbox

    def close(self) -> None:
        """Note it."""
        self.closed = True


def matches(filter_: str, topic: str) -> bool:
    """Tell whether a topic is one of a filter's (MQTT 5, 4.7)."""
    wanted, levels = filter_.split("/"), topic.split("/")
    if wanted[-1] == "#":
        wanted, levels = wanted[:-1], levels[: len(wanted) - 1]
    return len(wanted) == len(levels) and all(one in {"+", level} for one, level in zip(wanted, levels, strict=True))


#: What a node goes through, and the seconds that each takes.
WAY: Final = (("fetching", 2.0), ("verified", 1.0), ("testing", 2.0), ("committed", 5.0), ("idle", 0.0))


class ScriptedNode:
    """Speaks as an agent with `[update]` does, and does as it is told: `refuses` is its reason, `stays` the state that it never leaves,
    `leaves` the state in which it goes offline without a word, `returns` the state in which it goes back. Who is `deaf` hears no manifest.
    """

    def __init__(
        self,
        room: Room,
        name: str,
        *,
        model: str = "genre",
        version: str = "1.0.0",
        channel: str = "stable",
        online: bool = True,
        refuses: str | None = None,
        stays: str | None = None,
        leaves: str | None = None,
        returns: str | None = None,
        deaf: bool = False,
    ) -> None:
        self.room, self.name, self.model, self.version, self.channel = room, name, model, version, channel
        self.refuses, self.stays, self.leaves, self.returns = refuses, stays, leaves, returns
        self.online = online
        self.state = "idle"
        self.serial = 0
        self.heard: Manifest | None = None
        self._left: list[tuple[str, float]] = []
        self._next = 0.0
        self.say_state()
        self.say()
        room.listen(lambda: [] if deaf else [topics.manifest(channel)], self.take)
        room.turns.append(self.turn)

    def say_state(self) -> None:
        """Publish whether it is online."""
        self.room.publish(topics.state(self.name), b"online" if self.online else b"offline")

    def say(self, reason: str = "", **more: Any) -> None:
        """Publish what it says of its model."""
        latest = self.heard.models[0].version if self.heard else self.version
        word = {
            "installed_version": self.version,
            "latest_version": latest,
            "in_progress": self.state in {"fetching", "testing"} or (self.state == "verified" != self.stays),
            "title": self.model,
            "state": self.state,
            "serial": self.serial or None,
            "channel": self.channel,
            "reason": reason,
            **more,
        }
        self.room.publish(topics.model(self.name, self.model), json.dumps(word).encode())

    def come(self) -> None:
        """Come back, and take what the channel has."""
        self.online = True
        self.say_state()
        for message in self.room.kept(topics.manifest(self.channel)):
            self.take(message)

    def take(self, message: Message) -> None:
        """Take a manifest."""
        if not self.online:
            return
        envelope = read(Envelope, message.payload, "manifest")
        manifest = read(Manifest, envelope.manifest, "manifest")
        wave = ("*",) if envelope.wave is None else envelope.wave
        is_mine = is_meant(self.name, self.channel, manifest.meant) and is_meant(self.name, self.channel, wave)
        if manifest.serial < self.serial or (manifest.serial == self.serial and not is_mine):
            return
        if self.refuses is not None:
            self.state = "refused"  # what it does not believe tells it no serial
            self.say(self.refuses)
            return
        is_new, self.serial, self.heard = manifest.serial > self.serial, manifest.serial, manifest
        if not is_mine or self.version == manifest.models[0].version:
            self.state, self._left = "idle", []
            self.say()
            return
        if self._left and not is_new:
            return
        self._left = list(WAY)
        self._next = self.room.time

    def turn(self, now: float) -> None:
        """Go on with what it has taken."""
        while self.online and self._left and now >= self._next and self.heard is not None:
            self.state, seconds = self._left.pop(0)
            before = self.version
            if self.state == "committed":
                self.version = self.heard.models[0].version
            self._next += seconds
            if self.state == self.leaves:
                self.online = False
                self.say_state()
                return
            if self.state == self.returns:
                self.state, self._left, self.version = "rolled_back", [], before
                self.say("inference failed")
                return
            self.say(update_percentage=50 if self.state == "fetching" else None)
            if self.state == self.stays:
                self._left = []
