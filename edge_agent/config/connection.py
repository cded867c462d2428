"""Settings of the connection to the broker: where it is, how to log in, TLS."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, StringConstraints, field_validator, model_validator

from edge_agent.config.values import MAX_STRING_BYTES, ClientId, FilePath, HostName, MqttText, Section
from edge_agent.errors import FileError, SettingsError, TopicError
from edge_agent.host import files
from edge_agent.routing.responses import DEFAULT_FILTERS, check_filter

#: Longest path of a unix socket: unix(7), `sun_path` less its closing zero.
_MAX_SOCKET_BYTES: Final = 107
#: Ports by (WebSockets, TLS).
_PORTS: Final = {(False, False): 1883, (False, True): 8883, (True, False): 80, (True, True): 443}


def _credential(name: str) -> Path | None:
    """Return the file of a systemd credential (systemd.exec(5), LoadCredential=), None when there is none."""
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    if not directory:
        return None
    path = Path(directory, name)
    try:
        return path if files.exists(path) else None
    except FileError as error:
        raise SettingsError(f"systemd credential {name}: {error}") from error


def _credentials_are_hidden() -> bool:
    """Whether there may be credentials that we are not shown: systemd 257 keeps them from the check of ExecReload=, which
    it tells the MAINPID of the service (systemd.exec(5)).
    """
    return "MAINPID" in os.environ and "CREDENTIALS_DIRECTORY" not in os.environ


class Tls(Section):
    """TLS to the broker; any key here, or `enabled`, turns it on."""

    enabled: bool = True
    #: Each of the three: when it is not set, the systemd credential mqtt-ca, mqtt-certificate or mqtt-key.
    ca: FilePath | None = None
    certificate: FilePath | None = None
    key: FilePath | None = None
    #: Protocols to offer (RFC 7301), best first; some brokers share port 443 with others and ask for one.
    alpn: Annotated[
        tuple[Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,255}$")], ...], Field(max_length=16)
    ] = ()

    def file(self, name: Literal["ca", "certificate", "key"]) -> Path | None:
        """Return the file set, or that of the systemd credential."""
        found: Path | None = getattr(self, name)
        return found or _credential(f"mqtt-{name}")

    def pair(self) -> tuple[Path | None, Path | None]:
        """Return certificate and key; neither where one is a credential that we are not shown."""
        certificate, key = self.file("certificate"), self.file("key")
        return (None, None) if certificate is None or key is None else (certificate, key)

    @model_validator(mode="after")
    def _both_or_none(self) -> Tls:
        one_only = (self.file("certificate") is None) != (self.file("key") is None)
        if one_only and not _credentials_are_hidden():
            raise ValueError("certificate and key go together")
        return self


class Mqtt(Section):
    """The connection to the broker. Times in seconds."""

    host: HostName = "localhost"
    port: Annotated[int, Field(ge=1, le=65_535)] | None = None
    transport: Literal["tcp", "websockets", "unix"] = "tcp"
    #: Of the URL, with WebSockets.
    path: Annotated[str, StringConstraints(pattern=r"^/[\x21-\x7e]*$", max_length=1024)] = "/mqtt"
    #: With "unix", in place of host and port.
    socket: FilePath | None = None
    protocol: Literal["auto", "5", "3.1.1"] = "auto"
    client_id: ClientId | None = None
    username: MqttText | None = None
    password_file: FilePath | None = None
    tls: Tls | None = None
    keepalive: Annotated[int, Field(ge=5, le=65_535)] = 30
    #: How long the broker keeps the session, and the messages for it, while the agent is away.
    session_expiry: Annotated[int, Field(ge=0, le=0xFFFF_FFFF)] = 86_400
    #: Unanswered messages the broker may have under way to us (MQTT 5).
    receive_maximum: Annotated[int, Field(ge=1, le=65_535)] = 500
    #: Topic filters: what senders may name as Response Topic (MQTT 5).
    response_topics: Annotated[tuple[str, ...], Field(max_length=64)] = DEFAULT_FILTERS
    connect_timeout: Annotated[float, Field(gt=0, le=60)] = 3.0
    #: Longest pause between two attempts to connect.
    max_backoff: Annotated[float, Field(ge=1, le=3600)] = 60.0

    @property
    def actual_port(self) -> int:
        """The port set, or the one that MQTT, or HTTP, has with and without TLS."""
        return self.port or _PORTS[self.transport == "websockets", self.uses_tls]

    @property
    def uses_tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.tls is not None and self.tls.enabled

    @field_validator("response_topics")
    @classmethod
    def _filters(cls, filters: tuple[str, ...]) -> tuple[str, ...]:
        try:
            return tuple(check_filter(one) for one in filters)
        except TopicError as error:
            raise ValueError(str(error)) from None

    @model_validator(mode="after")
    def _login(self) -> Mqtt:
        if self.password_file is not None and self.username is None:
            raise ValueError("password_file needs a username")
        return self

    @model_validator(mode="after")
    def _fits_the_transport(self) -> Mqtt:
        if (self.transport == "unix") != (self.socket is not None):
            raise ValueError('socket and transport = "unix" go together')
        if self.transport == "unix" and self.uses_tls:
            raise ValueError('transport = "unix" never leaves this machine and has no TLS; take [mqtt.tls] away')
        if len(os.fsencode(self.socket or "")) > _MAX_SOCKET_BYTES:
            raise ValueError(f"socket: the path is longer than the {_MAX_SOCKET_BYTES} bytes that Linux takes")
        return self

    def password(self) -> str | None:
        """Read the password, from `password_file` or the systemd credential `mqtt-password`; None without either."""
        path = self.password_file or _credential("mqtt-password")
        if path is None or self.username is None:
            return None
        try:
            content = files.read(path, limit=MAX_STRING_BYTES + len("\r\n"))
            password = content.decode().rstrip("\r\n")
        except FileError as error:
            raise SettingsError(f"mqtt.password_file: {error}") from error
        except UnicodeDecodeError:
            raise SettingsError(f"mqtt.password_file: {path} is not UTF-8 text; write it anew") from None
        if not password:
            raise SettingsError(f"mqtt.password_file: {path} is empty; write the password into it")
        if len(password.encode()) > MAX_STRING_BYTES:
            raise SettingsError(
                f"mqtt.password_file: {path} is too large: MQTT carries {MAX_STRING_BYTES} bytes at most"
            )
        return password

    def secrets(self) -> dict[str, Path]:
        """Return the files with secrets that are set, by the name of the setting."""
        named = {"mqtt.password_file": self.password_file, "mqtt.tls.key": self.tls.key if self.tls else None}
        return {name: path for name, path in named.items() if path is not None}
