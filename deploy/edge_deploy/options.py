"""Where the broker is and how to log in, as options: the names of `[mqtt]` in the agent's configuration, and its variables."""

from __future__ import annotations

import functools
import os
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import click
from edge_deploy.broker import Login
from pydantic import BaseModel, Field, ValidationError, model_validator

from edge_agent.errors import FileError, SettingsError
from edge_agent.wording import plain

_Command = Callable[..., Any]

FILE: Final = click.Path(path_type=Path)
_VARIABLE: Final = "EDGE_DEPLOY_PASSWORD"
_MOST_BYTES: Final = 1024 * 1024
#: MQTT 5, 1.5.4 and 1.5.6: the length of a string, or of binary data, is two bytes.
_MOST_STRING_BYTES: Final = 65_535
#: Standard ports by (WebSockets, TLS).
_PORTS: Final = {(False, False): 1883, (False, True): 8883, (True, False): 80, (True, True): 443}


def login(command: _Command) -> _Command:
    """Give a command the options of the connection; it gets a `Login` as `login`."""

    @functools.wraps(command)
    def wrapped(*arguments: Any, **given: Any) -> Any:
        own = {name: given.pop(name) for name in ("config", *_OPTIONS)}
        return command(*arguments, login=_read(**own), **given)

    command_with: _Command = wrapped
    for option in reversed(_options()):
        command_with = option(command_with)
    return command_with


_OPTIONS: Final = (
    "host",
    "port",
    "transport",
    "path",
    "protocol",
    "username",
    "password_file",
    "tls",
    "ca",
    "certificate",
    "key",
)


def _options() -> list[Callable[[_Command], _Command]]:
    return [
        click.option(
            "--config",
            type=FILE,
            help="Take the connection from [mqtt] of this configuration of an agent; options come first.",
        ),
        click.option("--host", envvar="EDGE_AGENT_MQTT__HOST", help="The broker.  [default: localhost]"),
        click.option(
            "--port",
            type=click.IntRange(1, 65_535),
            envvar="EDGE_AGENT_MQTT__PORT",
            help="Its port.  [default: 1883, 8883 with TLS; WebSockets: 80, 443]",
        ),
        click.option("--transport", type=click.Choice(["tcp", "websockets"]), help="How to reach it.  [default: tcp]"),
        click.option("--path", help="Path of the WebSocket's URL.  [default: /mqtt]"),
        click.option("--protocol", type=click.Choice(["auto", "5", "3.1.1"]), help="Version of MQTT.  [default: auto]"),
        click.option("--username", envvar="EDGE_AGENT_MQTT__USERNAME", help="The name to log in with."),
        click.option(
            "--password-file",
            type=FILE,
            envvar="EDGE_AGENT_MQTT__PASSWORD_FILE",
            help=f"A file with the password; or set {_VARIABLE}.",
        ),
        click.option("--tls", is_flag=True, default=None, help="Encrypt, with the authorities that the system trusts."),
        click.option("--ca", type=FILE, help="Encrypt, and trust this authority (PEM)."),
        click.option("--certificate", type=FILE, help="Encrypt, and log in with this certificate (PEM); with --key."),
        click.option("--key", type=FILE, help="The key of --certificate (PEM)."),
    ]


class _Tls(BaseModel):
    """`[mqtt.tls]`: being there turns it on."""

    enabled: bool = True
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    alpn: tuple[str, ...] = ()


class _Mqtt(BaseModel):
    """What of `[mqtt]` concerns a connection other than the agent's. The agent itself checks all of its file."""

    host: str = "localhost"
    port: Annotated[int, Field(ge=1, le=65_535)] | None = None
    transport: Literal["tcp", "websockets", "unix"] = "tcp"
    path: str = "/mqtt"
    socket: str | None = None
    protocol: Literal["auto", "5", "3.1.1"] = "auto"
    username: str | None = None
    password_file: Path | None = None
    tls: _Tls | None = None

    @model_validator(mode="after")
    def _pairs(self) -> Self:
        if self.tls is not None and (self.tls.certificate is None) != (self.tls.key is None):
            raise ValueError("certificate and key must be set together (--certificate, --key)")
        return self

    def login(self) -> Login:
        """Return it, with the password. Raises `SettingsError`, `FileError`."""
        tls = self.tls or _Tls(enabled=False)
        password = os.environ.get(_VARIABLE) if self.password_file is None else _password(self.password_file)
        _check_string("--username", self.username)
        _check_string("the password", password)
        if password is not None and self.username is None:
            source = self.password_file or _VARIABLE
            raise SettingsError(f"{source}: a password needs a name to log in with; set --username")
        return Login(
            host=self.socket or self.host,
            port=self.port or _PORTS[self.transport == "websockets", tls.enabled],
            transport=self.transport,
            path=self.path,
            protocol=self.protocol,
            username=self.username,
            password=password,
            tls=tls.enabled,
            ca=tls.ca,
            certificate=tls.certificate,
            key=tls.key,
            alpn=tls.alpn,
        )


def _read(*, config: Path | None, tls: bool | None, **given: Any) -> Login:
    mqtt = {} if config is None else _table(config)
    secured = {name: given.pop(name) for name in ("ca", "certificate", "key")}
    secured = {name: value for name, value in secured.items() if value is not None}
    if tls or secured:
        before = mqtt.get("tls")
        mqtt["tls"] = (before if isinstance(before, dict) else {}) | secured | {"enabled": True}
    mqtt |= {name: value for name, value in given.items() if value is not None}
    try:
        return _Mqtt.model_validate(mqtt).login()
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(["mqtt", *map(str, first["loc"])])
        where = "options" if config is None else f"{config}: {place}"
        raise SettingsError(f"{where}: {plain(str(first['msg']).removeprefix('Value error, '))}") from None


def _table(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = tomllib.loads(file.read(_MOST_BYTES).decode())
    except OSError as error:
        raise FileError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise SettingsError(f"{path}: not TOML: {plain(str(error))}") from None
    table = content.get("mqtt", {})
    return dict(table) if isinstance(table, dict) else {}


def _check_string(what: str, text: str | None) -> None:
    try:
        size = len((text or "").encode())
    except UnicodeEncodeError:
        raise SettingsError(f"{what}: not UTF-8 text; write it again") from None
    if size > _MOST_STRING_BYTES:
        raise SettingsError(f"{what}: longer than the {_MOST_STRING_BYTES} bytes that MQTT can carry; shorten it")


def _password(path: Path) -> str:
    try:
        with path.open("rb") as file:
            password = file.read(_MOST_BYTES).decode().rstrip("\r\n")
    except OSError as error:
        raise FileError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise SettingsError(f"{path}: not UTF-8 text; write the password again") from None
    if not password:
        raise SettingsError(f"{path}: empty; write the password into it")
    return password
