"""An MQTT client to look at the agent from outside: paho with its own thread, knowing nothing of the agent.

Everything that waits has a deadline, and says what it saw when the deadline passes.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Self

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from tests.contract import witness
from tests.patience import DEADLINE

PROPERTIES = ("ContentType", "CorrelationData", "MessageExpiryInterval", "ResponseTopic", "UserProperty")
Message = mqtt.MQTTMessage


def _properties(packet_type: int) -> Properties:
    made: Properties = Properties(packet_type)  # type: ignore[no-untyped-call] # paho's one class without types
    return made


class Client:
    """`with Client(broker.port) as client:` is connected inside the block; every message that arrives is kept."""

    def __init__(
        self,
        port: int,
        *,
        host: str = "127.0.0.1",
        protocol: MQTTProtocolVersion = MQTTProtocolVersion.MQTTv5,
        client_id: str | None = None,
        username: str | None = None,
        password: str | None = None,
        clean: bool = True,
        session_expiry: int | None = None,
        websockets: str | None = None,
        will: tuple[str, bytes] | None = None,
    ) -> None:
        """`websockets` is the path of the URL, without which it is plain TCP; `will` is a retained one: topic, payload."""
        self.protocol = protocol
        self._address = (host, port)
        self._changed = threading.Condition()
        self._connected: ReasonCode | None = None
        self._subscribed: dict[int, list[ReasonCode]] = {}
        self._messages: list[Message] = []
        #: Asked while waiting: a reason why waiting is in vain (the agent under test has died), or None.
        self.in_vain: Callable[[], str | None] = lambda: None
        self._clean = clean
        self._session_expiry = session_expiry
        v5 = protocol == MQTTProtocolVersion.MQTTv5
        self.paho = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id or f"test-{uuid.uuid4().hex[:12]}",
            clean_session=None if v5 else clean,
            protocol=protocol,
            transport="tcp" if websockets is None else "websockets",
        )
        if websockets is not None:
            self.paho.ws_set_options(path=websockets)
        if will is not None:
            self.paho.will_set(*will, qos=1, retain=True)
        self.paho.max_inflight_messages_set(1000)
        if username is not None:
            self.paho.username_pw_set(username, password)
        self.paho.on_connect = self._on_connect
        self.paho.on_subscribe = self._on_subscribe
        self.paho.on_message = self._on_message

    def __enter__(self) -> Self:
        return self.connect()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def connect(self, deadline: float = DEADLINE) -> Self:
        host, port = self._address
        if self.protocol == MQTTProtocolVersion.MQTTv5:
            properties = _properties(PacketTypes.CONNECT)
            if self._session_expiry is not None:
                properties.SessionExpiryInterval = self._session_expiry
            self.paho.connect(host, port, clean_start=self._clean, properties=properties)
        else:
            self.paho.connect(host, port)
        self.paho.loop_start()
        self._wait(lambda: self._connected is not None, deadline, lambda: "no CONNACK")
        if self._connected is not None and self._connected.is_failure:
            self.close()
            raise ConnectionRefusedError(f"the broker refused the test client: {self._connected}")
        return self

    def close(self) -> None:
        self.paho.disconnect()
        self.drop()

    def drop(self) -> None:
        """Lose the connection with no DISCONNECT, so that the broker sends the will."""
        self.paho.loop_stop()
        # paho has no public way to close its sockets (there are two more, by which it wakes its thread).
        self.paho._reset_sockets()

    def subscribe(self, *filters: str, qos: int = 1) -> None:
        """Subscribe, and return when the broker has granted it all."""
        requests: list[tuple[str, Any]] = [
            (topic, SubscribeOptions(qos=qos) if self.protocol == MQTTProtocolVersion.MQTTv5 else qos)
            for topic in filters
        ]
        _, mid = self.paho.subscribe(requests)
        if mid is None:
            raise ConnectionError("not connected")
        self._wait(lambda: mid in self._subscribed, DEADLINE, lambda: f"no SUBACK for {filters}")
        refused = [str(code) for code in self._subscribed[mid] if code.is_failure]
        if refused:
            raise PermissionError(f"the broker refused a subscription of the test client: {refused}")

    def publish(
        self,
        topic: str,
        payload: object = b"",
        *,
        qos: int = 1,
        retain: bool = False,
        wait: bool = True,
        user_properties: Iterable[tuple[str, str]] = (),
        **properties: object,
    ) -> mqtt.MQTTMessageInfo:
        """Publish bytes or text as they stand and anything else as JSON.

        `properties` are MQTT 5's by paho's names (`ResponseTopic`, `CorrelationData`, `ContentType`, ...). With `wait`
        it returns when the message is acknowledged (QoS 1, 2) or written (QoS 0).
        """
        data = payload if isinstance(payload, bytes | str) else json.dumps(payload)
        witness.current.published.add((topic, data.encode() if isinstance(data, str) else data))
        if "ResponseTopic" in properties:
            witness.current.response_topics.add(str(properties["ResponseTopic"]))
        given: Properties | None = None
        pairs = list(user_properties)
        if properties or pairs:
            given = _properties(PacketTypes.PUBLISH)
            for name, value in properties.items():
                setattr(given, name, value)
            if pairs:
                given.UserProperty = pairs
        info = self.paho.publish(topic, data, qos=qos, retain=retain, properties=given)
        if wait:
            info.wait_for_publish(DEADLINE)
            if not info.is_published():
                raise TimeoutError(f"the message on {topic} was not acknowledged in {DEADLINE:g} s")
        return info

    def messages(self, count: int = 1, topic: str | None = None, deadline: float = DEADLINE) -> list[Message]:
        """The first `count` messages (on topics that match `topic`), as soon as they are there; they stay kept."""

        def found() -> list[Message]:
            return [m for m in self._messages if topic is None or mqtt.topic_matches_sub(topic, m.topic)]

        def told() -> str:
            seen = "".join(f"\n  {m.topic} {m.payload[:200]!r}" for m in self._messages[-20:])
            return f"{len(found())} of {count} messages on {topic or 'any topic'}; the last that came:{seen or ' none'}"

        self._wait(lambda: len(found()) >= count, deadline, told)
        with self._changed:
            return found()[:count]

    def message(self, topic: str | None = None, deadline: float = DEADLINE) -> Message:
        return self.messages(1, topic, deadline)[0]

    def json(self, topic: str | None = None, deadline: float = DEADLINE) -> Any:
        """The first message on a topic, read as JSON."""
        return json.loads(self.message(topic, deadline).payload)

    def properties(self, topic: str | None = None, deadline: float = DEADLINE) -> dict[str, Any]:
        """The MQTT 5 properties of the first message on a topic, by their names in the standard without spaces."""
        given = self.message(topic, deadline).properties
        return {} if given is None else {name: getattr(given, name) for name in PROPERTIES if hasattr(given, name)}

    def wait_for(self, accept: Callable[[Message], bool], deadline: float = DEADLINE) -> Message:
        """The first message that `accept` takes."""
        found: list[Message] = []

        def look() -> bool:
            found[:] = [message for message in self._messages if accept(message)]
            return bool(found)

        self._wait(look, deadline, lambda: f"none of {len(self._messages)} messages was the one")
        return found[0]

    def wait_for_payload(self, topic: str, payload: bytes | str, deadline: float = DEADLINE) -> Message:
        wanted = payload.encode() if isinstance(payload, str) else payload
        return self.wait_for(lambda m: m.topic == topic and m.payload == wanted, deadline)

    def seen(self, topic: str | None = None) -> list[Message]:
        """What has arrived so far; to be sure that nothing more is under way, call `barrier` first."""
        with self._changed:
            return [m for m in self._messages if topic is None or mqtt.topic_matches_sub(topic, m.topic)]

    def forget(self) -> None:
        with self._changed:
            self._messages.clear()

    def barrier(self) -> None:
        """Return when all that the broker had for this client before the call has arrived (brokers keep the order)."""
        topic = f"test/barrier/{uuid.uuid4().hex}"
        self.subscribe(topic)
        self.publish(topic, b"")
        self.message(topic)
        self.paho.unsubscribe(topic)
        with self._changed:
            self._messages[:] = [message for message in self._messages if message.topic != topic]

    def _wait(self, ready: Callable[[], bool], deadline: float, told: Callable[[], str]) -> None:
        end = time.monotonic() + deadline
        with self._changed:
            while not ready():
                left = end - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"after {deadline:g} s: {told()}")
                if not self._changed.wait(min(left, 0.2)) and (reason := self.in_vain()) and not ready():
                    raise RuntimeError(f"{reason}; {told()}")

    # paho's thread calls these, by position.

    def _on_connect(
        self, _client: mqtt.Client, _data: Any, _flags: mqtt.ConnectFlags, reason: ReasonCode, _props: Properties | None
    ) -> None:
        with self._changed:
            self._connected = reason
            self._changed.notify_all()

    def _on_subscribe(
        self, _client: mqtt.Client, _data: Any, mid: int, reasons: list[ReasonCode], _props: Properties | None
    ) -> None:
        with self._changed:
            self._subscribed[mid] = reasons
            self._changed.notify_all()

    def _on_message(self, _client: mqtt.Client, _data: Any, message: Message) -> None:
        content_type = getattr(message.properties, "ContentType", None)
        witness.current.came.append(witness.Came(message.topic, bytes(message.payload), content_type))
        with self._changed:
            self._messages.append(message)
            self._changed.notify_all()
