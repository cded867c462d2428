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
    """Return the file of a systemd credential (systemd.exec(5), LoadCredential=); None when it is not set."""
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    if not directory:
        return None
    path = Path(directory, name)
    try:
        return path if files.exists(path) else None
    except FileError as error:
        raise SettingsError(f"systemd credential {name}: {error}") from error


def _credentials_are_hidden() -> bool:
    """Whether credentials may exist that we can't see: systemd 257 does not pass them to the check in ExecReload=, which
    is recognized by MAINPID in its environment (systemd.exec(5)).
    """
    return "MAINPID" in os.environ and "CREDENTIALS_DIRECTORY" not in os.environ


class Tls(Section):
    """TLS to the broker; any key here, or `enabled`, turns it on."""

    enabled: bool = True
    #: Default of each: the systemd credential mqtt-ca, mqtt-certificate or mqtt-key.
    ca: FilePath | None = None
    certificate: FilePath | None = None
    key: FilePath | None = None
    #: Protocols to offer (RFC 7301), best first; some brokers share port 443 with other services and require one.
    alpn: Annotated[
        tuple[Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,255}$")], ...], Field(max_length=16)
    ] = ()

    def file(self, name: Literal["ca", "certificate", "key"]) -> Path | None:
        """Return the configured file, or that of the systemd credential."""
        found: Path | None = getattr(self, name)
        return found or _credential(f"mqtt-{name}")

    def pair(self) -> tuple[Path | None, Path | None]:
        """Return certificate and key; neither where one is a credential that we can't see."""
        certificate, key = self.file("certificate"), self.file("key")
        return (None, None) if certificate is None or key is None else (certificate, key)

    @model_validator(mode="after")
    def _both_or_none(self) -> Tls:
        one_only = (self.file("certificate") is None) != (self.file("key") is None)
        if one_only and not _credentials_are_hidden():
            raise ValueError("certificate and key must be set together")
        return self


class Mqtt(Section):
    """The connection to the broker. Times in seconds."""

    host: HostName = "localhost"
    port: Annotated[int, Field(ge=1, le=65_535)] | None = None
    transport: Literal["tcp", "websockets", "unix"] = "tcp"
    #: Path of the WebSocket's URL.
    path: Annotated[str, StringConstraints(pattern=r"^/[\x21-\x7e]*$", max_length=1024)] = "/mqtt"
    #: Used with transport "unix", instead of host and port.
    socket: FilePath | None = None
    protocol: Literal["auto", "5", "3.1.1"] = "auto"
    client_id: ClientId | None = None
    username: MqttText | None = None
    password_file: FilePath | None = None
    tls: Tls | None = None
    keepalive: Annotated[int, Field(ge=5, le=65_535)] = 30
    #: How long the broker keeps the session, and the messages for it, while the agent is away.
    session_expiry: Annotated[int, Field(ge=0, le=0xFFFF_FFFF)] = 86_400
    #: Messages that the broker may send before we acknowledge the first (MQTT 5).
    receive_maximum: Annotated[int, Field(ge=1, le=65_535)] = 500
    #: Whether messages of ours may be retained; "auto": as far as the broker takes such.
    retain: bool | Literal["auto"] = "auto"
    #: Topic filters of the Response Topics that are followed (MQTT 5).
    response_topics: Annotated[tuple[str, ...], Field(max_length=64)] = DEFAULT_FILTERS
    connect_timeout: Annotated[float, Field(gt=0, le=60)] = 3.0
    #: Longest pause between two connection attempts.
    max_backoff: Annotated[float, Field(ge=1, le=3600)] = 60.0

    @property
    def actual_port(self) -> int:
        """The configured port, or the standard one for MQTT or HTTP, with or without TLS."""
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
            raise ValueError('socket and transport = "unix" must be set together')
        if self.transport == "unix" and self.uses_tls:
            raise ValueError('transport = "unix" does not use TLS; remove [mqtt.tls]')
        if len(os.fsencode(self.socket or "")) > _MAX_SOCKET_BYTES:
            raise ValueError(f"socket: the path is longer than Linux allows ({_MAX_SOCKET_BYTES} bytes)")
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
            raise SettingsError(f"mqtt.password_file: {path} is not UTF-8 text; write the password again") from None
        if not password:
            raise SettingsError(f"mqtt.password_file: {path} is empty; write the password into it")
        if len(password.encode()) > MAX_STRING_BYTES:
            raise SettingsError(
                f"mqtt.password_file: {path} is too large: a password in MQTT has at most {MAX_STRING_BYTES} bytes"
            )
        return password

    def secrets(self) -> dict[str, Path]:
        """Return the configured files with secrets, by the name of the setting."""
        named = {"mqtt.password_file": self.password_file, "mqtt.tls.key": self.tls.key if self.tls else None}
        return {name: path for name, path in named.items() if path is not None}
