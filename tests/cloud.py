"""What brokers of the cloud let their clients do, as their documentation says; `tests/played.py` plays them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True)
class Limits:
    """What a broker lets its clients do. Where it says so in CONNACK, `connack` holds the properties of MQTT 5."""

    title: str
    connack: bytes = b""
    filters_at_once: int | None = None
    #: Topic filters of one client.
    max_filters: int | None = None
    max_qos: int = 2
    max_packet: int | None = None
    max_slashes: int | None = None
    retain: bool = True
    #: Whether what holds for messages holds for the will, too.
    checks_will: bool = True
    shared: bool = True
    #: Seconds of silence after which it closes, in place of those that the client asked for.
    keep_alive: int | None = None
    login: tuple[str, str] | None = None
    #: What may be published, and which topic filters may be subscribed to. It closes the connection over what may not.
    allows: Callable[[str], bool] = field(default=lambda _: True)
    #: The filters of which it says that they may not be subscribed to.
    refuses: Callable[[str], bool] = field(default=lambda _: False)


def _byte(kind: int, value: int) -> bytes:
    return bytes((kind, value))


def maximum_packet_size(size: int) -> bytes:
    return b"\x27" + size.to_bytes(4)


def maximum_qos(qos: int) -> bytes:
    return _byte(0x24, qos)


def server_keep_alive(seconds: int) -> bytes:
    return b"\x13" + seconds.to_bytes(2)


NO_RETAIN: Final = _byte(0x25, 0)
NO_SHARE: Final = _byte(0x2A, 0)

#: Retained messages need a rule of their own there (iot:RetainPublish); these are with and without it.
AWS: Final = Limits(
    "AWS IoT Core",
    maximum_qos(1) + maximum_packet_size(149_504),
    filters_at_once=8,
    max_qos=1,
    max_packet=149_504,
    max_slashes=7,
)
AWS_WITHOUT_RETAIN: Final = Limits(
    "AWS IoT Core, without iot:RetainPublish", AWS.connack, 8, None, 1, AWS.max_packet, 7, retain=False
)
AZURE: Final = Limits(
    "Azure Event Grid",
    NO_RETAIN + maximum_qos(1) + maximum_packet_size(524_288),
    max_qos=1,
    max_packet=524_288,
    retain=False,
)
HIVEMQ: Final = Limits(
    "HiveMQ Cloud", maximum_packet_size(5_242_880), max_packet=5_242_880, login=("edge", "a-password")
)
EMQX: Final = Limits("EMQX", maximum_packet_size(1_048_576), max_packet=1_048_576)
PLAYED: Final = {"aws": AWS, "azure": AZURE, "hivemq": HIVEMQ, "emqx": EMQX}
