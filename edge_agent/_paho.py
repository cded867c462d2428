"""How paho is set up and connected: options in, a connected client out, its exceptions mapped to ours.

A private part of `edge_agent.broker`, which runs the connection.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from edge_agent.errors import BrokerError
from edge_agent.messages import Answer

#: Topics that the broker may put a number in place of (MQTT 5, 3.3.2.3.4).
MAX_ALIASES: Final = 100


@dataclass(frozen=True, kw_only=True)
class TlsFiles:
    """Files of the TLS connection; None for `ca` takes the system's own."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where the broker is and how to log in. Times in seconds."""

    host: str = "localhost"
    port: int = 1883
    client_id: str
    username: str | None = None
    password: str | None = None
    tls: TlsFiles | None = None
    keepalive: int = 30
    session_expiry: int = 0
    receive_maximum: int = 500
    connect_timeout: float = 3.0

    def __repr__(self) -> str:  # a dataclass would show the password
        return f"Address({self.client_id}@{self})"

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def make_client(address: Address, protocol: str, will: Answer | None) -> paho.Client:
    """Return a client that is not connected yet. `protocol` is "5" or "3.1.1"."""
    is_5 = protocol == "5"
    client = paho.Client(
        CallbackAPIVersion.VERSION2,
        client_id=address.client_id,
        protocol=paho.MQTTv5 if is_5 else paho.MQTTv311,
        clean_session=None if is_5 else address.session_expiry == 0,
        reconnect_on_failure=False,
        manual_ack=True,
    )
    client.connect_timeout = address.connect_timeout
    # paho would walk its whole queue on every acknowledgement; the limit that counts is kept in `Link`.
    client.max_inflight_messages_set(0)
    # With this set, paho queues what it sends and leaves the writing to us: many packets a wake-up.
    client.on_socket_register_write = _leave_writing_to_us
    if address.username is not None:
        client.username_pw_set(address.username, address.password)
    if address.tls is not None:
        client.tls_set_context(_tls_context(address.tls))
    if will is not None:
        client.will_set(will.topic, will.payload, will.qos, will.retain)
    return client


def connect(client: paho.Client, address: Address, protocol: str) -> Any:
    """Connect TCP (and TLS), send CONNECT, and return the socket. Raises `BrokerError`."""
    options: dict[str, Any] = {}
    if protocol == "5":
        options["clean_start"] = address.session_expiry == 0
        options["properties"] = properties = _properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = address.session_expiry
        properties.ReceiveMaximum = address.receive_maximum
        properties.TopicAliasMaximum = MAX_ALIASES
    try:
        client.connect(address.host, address.port, address.keepalive, **options)
    except ssl.SSLCertVerificationError as error:
        raise BrokerError(
            f"broker {address}: its certificate is not accepted: {error.verify_message}; "
            "check tls.ca, the host name and the clock"
        ) from error
    except ssl.SSLError as error:
        raise BrokerError(f"broker {address}: no TLS connection: {error.reason or error}") from error
    except socket.gaierror as error:
        raise BrokerError(f"broker {address}: the host name is not known: {error.strerror}") from error
    except OSError as error:
        raise BrokerError(
            f"broker {address}: no connection: {error.strerror or error}; check mqtt.host, mqtt.port and "
            "that the broker runs"
        ) from error
    except ValueError as error:
        raise BrokerError(f"broker {address}: {error}") from error
    sock: Any = client.socket()
    if sock is None:
        raise BrokerError(f"broker {address}: closed the connection at once")
    # Without it, Nagle's algorithm and delayed acknowledgements stall each exchange by 40 ms.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def subscribe(client: paho.Client, protocol: str, filters: list[str], retained: Collection[str] = ()) -> None:
    """Ask for all `filters` at QoS 1, in one packet.

    A retained message comes when a subscription is new; for the filters in `retained` again with every connection, as
    MQTT 3.1.1 has it for all.
    """
    if protocol == "5":
        if_new = SubscribeOptions(qos=1, retainHandling=SubscribeOptions.RETAIN_SEND_IF_NEW_SUB)
        always = SubscribeOptions(qos=1, retainHandling=SubscribeOptions.RETAIN_SEND_ON_SUBSCRIBE)
        client.subscribe([(one, always if one in retained else if_new) for one in filters])
    else:
        client.subscribe([(one, 1) for one in filters])


def words(reason: Any, properties: Any) -> str:
    """Return a reason code in words, with the broker's own Reason String when it sent one."""
    own = getattr(properties, "ReasonString", None)
    return f"{reason} ({own!r})" if own else str(reason)


def _leave_writing_to_us(_client: object, _data: object, _socket: object) -> None:
    """Do nothing: `Link` asks `want_write` before every wait."""


def _properties(packet: int) -> Any:
    return Properties(packet)  # type: ignore[no-untyped-call]  # paho left this one out


def _tls_context(files: TlsFiles) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=files.ca)
        if files.certificate is not None:
            context.load_cert_chain(files.certificate, files.key)
    except (OSError, ssl.SSLError) as error:
        named = ", ".join(str(file) for file in (files.ca, files.certificate, files.key) if file is not None)
        raise BrokerError(f"TLS files can't be used ({named}): {error}") from error
    return context
