"""systemd: says when the service is ready, what it does, and that it is alive; finds the service's credentials.

Ready means that settings and models are loaded and the models have passed their self-tests, not that there is a broker
(docs/decisions/0019-ready-without-a-broker.md). What is waited for, and what is served, is in the status.

Source: sd_notify(3) describes the notify protocol, datagrams of `KEY=VALUE` lines to `$NOTIFY_SOCKET`.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Final

from edge_agent.wording import plain

_log = logging.getLogger(__name__)

#: Characters of a status. systemd drops a datagram of more than 4096 bytes, the READY=1 in it included.
_STATUS_LENGTH: Final = 1000
_CONFIGURATION: Final = Path("/etc/edge-agent")
_NAME: Final = "edge-agent"
#: Where systemd keeps the credentials of the services that run (systemd.exec(5)), readable for root.
_CREDENTIALS: Final = Path("/run/credentials")


def unit_name(config: Path | None) -> str | None:
    """Return the unit that runs a configuration: /etc/edge-agent/NAME.toml is that of the instance edge-agent@NAME.

    None for another file, which no service runs.
    """
    if config is None or config == _CONFIGURATION / f"{_NAME}.toml":
        return _NAME
    config = config.absolute()  # people are in that directory when they edit it
    ours = config.parent == _CONFIGURATION and config.suffix == ".toml"
    return f"{_NAME}@{config.stem}" if ours else None


def borrow_credentials(
    config: Path | None, environment: MutableMapping[str, str] = os.environ, services: Path = _CREDENTIALS
) -> None:
    """Let a command that root gives by hand log in as the service does, while that runs; nobody else may read them."""
    name = unit_name(config)
    if name is None or "CREDENTIALS_DIRECTORY" in environment:
        return
    directory = services / f"{name}.service"
    if os.access(directory, os.R_OK | os.X_OK):
        environment["CREDENTIALS_DIRECTORY"] = str(directory)


class Notifier:
    """Talks to the service manager; does nothing when there is none."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        if self._address.startswith("@"):
            self._address = "\0" + self._address[1:]
        self.watchdog_interval = _watchdog_interval(environment)

    def ready(self, status: str) -> None:
        """Say that settings and models are in use: a start, or a reload, has ended."""
        self._send(f"READY=1\nSTATUS={_one_line(status)}")

    def status(self, status: str) -> None:
        """Say what is served, or waited for."""
        self._send(f"STATUS={_one_line(status)}")

    def alive(self) -> None:
        """Say that the loop makes progress."""
        self._send("WATCHDOG=1")

    def reloading(self) -> None:
        """Say that a reload has begun; it ends with `ready` (Type=notify-reload)."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """Say that the service is ending."""
        self._send("STOPPING=1\nSTATUS=finishing what is in flight")

    def _send(self, state: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.sendto(state.encode(), self._address)
        except OSError as error:  # the service manager may be away for a moment; that must not end the service
            _log.warning("systemd: can't be told %r: %s", state.partition("\n")[0], error)


def _one_line(status: str) -> str:
    """Return a status that is a line of the protocol, whatever a broker or a file has put into it."""
    line = plain(" ".join(status.split()))
    return line if len(line) <= _STATUS_LENGTH else f"{line[: _STATUS_LENGTH - 1]}…"


def _watchdog_interval(environment: Mapping[str, str]) -> float | None:
    """Return how often, in seconds, to say that we are alive: half of what systemd allows, as its manual advises."""
    limit = environment.get("WATCHDOG_USEC", "")
    meant_for_us = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return int(limit) / 2e6 if limit.isdecimal() and int(limit) > 0 and meant_for_us else None
