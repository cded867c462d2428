"""Settings: what can be set, its bounds and its defaults. `edge_agent.config.load` reads them from file and environment.

The defaults run the bundled model against a broker on this machine.
"""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from edge_agent.config.values import (
    MAX_STRING_BYTES,
    Age,
    Bytes,
    ClientId,
    ContentType,
    FeatureName,
    FieldPath,
    FilePath,
    HostName,
    Many,
    Model,
    MqttText,
    Pool,
    TopicText,
    Wait,
)
from edge_agent.contract.messages import JSON_TYPE, MAX_ANSWER_BYTES, MAX_PAYLOAD_BYTES
from edge_agent.contract.topics import Template
from edge_agent.errors import FileError, SettingsError, TopicError
from edge_agent.host import files
from edge_agent.payload import formats
from edge_agent.payload.features import MAX_BATCH_ROWS
from edge_agent.routing.responses import DEFAULT_FILTERS, check_filter
from edge_agent.routing.routes import Route, refuse_loops, refuse_mixtures, refuse_overlaps
from edge_agent.routing.sensors import MAX_SENSORS

#: Longest path of a unix socket: unix(7), `sun_path` less its closing zero.
_MAX_SOCKET_BYTES: Final = 107
#: Ports by (WebSockets, TLS).
_PORTS: Final = {(False, False): 1883, (False, True): 8883, (True, False): 80, (True, True): 443}


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


def host_name() -> str:
    """Return the host name without its domain, as one topic level."""
    return one_word(socket.gethostname().partition(".")[0]) or "edge"


def one_word(text: str) -> str:
    """Return text as it can stand in a node id."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", text)


class Node(_Section):
    """Who this device is."""

    #: Stands in `edge/{id}/...` and in the client id, so it is one plain word. Default: see `edge_agent.config.load`.
    id: str = Field(default_factory=host_name)

    @field_validator("id")
    @classmethod
    def _one_word(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", name):
            raise ValueError("write one word of letters (a to z), digits, '.', '_' and '-', at most 64 characters")
        return name


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


class Tls(_Section):
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


class Mqtt(_Section):
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


class RouteSettings(_Section):
    """Which topics carry a model's features, and where its answers go."""

    model: Model = "genre"
    subscribe: TopicText = "music/{sensor}/features"
    publish: TopicText = "music/{sensor}/genre"
    #: Default: `publish` + "/error".
    errors: TopicText | None = None
    #: Agents with the same name here take turns: each message goes to one of them.
    share: Pool | None = None
    #: Of messages that do not say; MQTT 3.1.1 can't.
    content_type: ContentType = JSON_TYPE
    #: Where a feature sits in the sensor's own JSON: "audio.bpm", or a list where a key has a dot in it.
    fields: Annotated[dict[FeatureName, FieldPath], Field(max_length=1024)] = Field(default_factory=dict)
    #: Seconds; both are for routes that capture {feature}.
    max_age: Age | None = None
    debounce: Wait = 0.0
    #: Whether an answer says, in `sensor`, what the route captured.
    name_sensor: bool = False

    @field_validator("fields")
    @classmethod
    def _paths(cls, fields: dict[str, FieldPath]) -> dict[str, FieldPath]:
        for name, path in fields.items():
            if not path or not all(_steps(path)):
                raise ValueError(f'{name}: {path!r} leads nowhere; write for example "audio.bpm"')
        return fields

    def route(self) -> Route:
        """Return the route with its templates; raises `TopicError` or `SettingsError`."""
        subscribe, publish = Template(self.subscribe), Template(self.publish)
        errors = Template(self.errors if self.errors is not None else f"{self.publish}/error")
        for template in (publish, errors):
            if missing := template.captures - subscribe.captures:
                unset = "" if "publish" in self.model_fields_set else " (the default of publish: set it)"
                raise SettingsError(
                    f"topic {template.text!r}{unset}: {{{min(missing)}}} does not stand in {subscribe.text!r}, "
                    "so nothing is known to put there"
                )
            if template.text.startswith("$"):
                raise SettingsError(f"topic {template.text!r}: topics that begin with $ belong to the broker")
        if self.subscribe.startswith("$share/"):
            raise SettingsError(f'topic {self.subscribe!r}: write share = "…" instead')
        fields = tuple((name, _steps(path)) for name, path in self.fields.items())
        content_type = None if self.content_type == JSON_TYPE else self.content_type
        if not formats.ALL[self.content_type].is_there():
            raise SettingsError(f"{content_type} needs {formats.ALL[self.content_type].needs}")
        route = Route(
            self.model,
            subscribe,
            publish,
            errors,
            fields,
            self.share,
            content_type,
            self.max_age,
            self.debounce,
            self.name_sensor,
        )
        refuse_mixtures(route)
        return route


def _steps(path: FieldPath) -> tuple[str, ...]:
    return tuple(path.split(".")) if isinstance(path, str) else path


class Models(_Section):
    """Where models are looked for by name, before the bundled ones."""

    directory: FilePath = Path("/var/lib/edge-agent/models")


class Limits(_Section):
    """Bounds on what one message may ask for, and on what is kept."""

    payload_bytes: Bytes = MAX_PAYLOAD_BYTES
    batch_rows: Many = MAX_BATCH_ROWS
    #: Largest answer; a batch that would have a larger one is rejected as a whole.
    answer_bytes: Annotated[int, Field(ge=4096, le=64 << 20)] = MAX_ANSWER_BYTES
    #: Sensors whose values are kept, for each route that captures {feature}.
    sensors: Many = MAX_SENSORS


class HealthSettings(_Section):
    """Reports on `edge/{node}/health`. Seconds."""

    interval: Annotated[float, Field(ge=1, le=86_400)] = 30.0


class Log(_Section):
    """What goes to stderr."""

    level: Literal["debug", "info", "warning", "error"] = "info"


class Settings(_Section):
    """All of it."""

    node: Node = Field(default_factory=Node)
    mqtt: Mqtt = Field(default_factory=Mqtt)
    route: Annotated[tuple[RouteSettings, ...], Field(min_length=1, max_length=256)] = (RouteSettings(),)
    models: Models = Field(default_factory=Models)
    limits: Limits = Field(default_factory=Limits)
    health: HealthSettings = Field(default_factory=HealthSettings)
    log: Log = Field(default_factory=Log)

    @field_validator("route", mode="before")
    @classmethod
    def _no_bare_table(cls, value: Any) -> Any:
        if isinstance(value, dict):
            raise ValueError("write [[route]] with two brackets: there may be several")  # noqa: TRY004 - pydantic's way
        return value

    def routes(self) -> tuple[Route, ...]:
        """Return the routes; raises `SettingsError` when they could feed the agent its own output."""
        routes = tuple(_in_place(f"route {number}", one) for number, one in enumerate(self.route, start=1))
        refuse_loops(routes, self.node.id)
        refuse_overlaps(routes)
        return routes


def _in_place(where: str, route: RouteSettings) -> Route:
    try:
        return route.route()
    except SettingsError as error:
        raise SettingsError(f"{where}: {error}") from None


#: The tables, by name.
SECTIONS: Final[dict[str, type[BaseModel]]] = {
    "node": Node,
    "mqtt": Mqtt,
    "tls": Tls,
    "route": RouteSettings,
    "models": Models,
    "limits": Limits,
    "health": HealthSettings,
    "log": Log,
}
