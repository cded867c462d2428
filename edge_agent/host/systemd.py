"""Talks to systemd: readiness, status and watchdog; finds the service's credentials.

Ready means that settings and models are loaded and the models have passed their self-tests, not that a broker is connected
(docs/decisions/0019-ready-without-a-broker.md). The status says what the agent waits for or serves.

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

#: Most characters of a status. systemd drops a datagram of more than 4096 bytes, including the READY=1 in it.
_STATUS_LENGTH: Final = 1000
_CONFIGURATION: Final = Path("/etc/edge-agent")
_NAME: Final = "edge-agent"
#: Directory of the credentials of running services (systemd.exec(5)), readable by root.
_CREDENTIALS: Final = Path("/run/credentials")


def unit_name(config: Path | None) -> str | None:
    """Return the unit that runs a configuration: /etc/edge-agent/NAME.toml belongs to the instance edge-agent@NAME.

    Return None for any other file.
    """
    if config is None or config == _CONFIGURATION / f"{_NAME}.toml":
        return _NAME
    config = config.absolute()  # the name may be relative to the current directory
    ours = config.parent == _CONFIGURATION and config.suffix == ".toml"
    return f"{_NAME}@{config.stem}" if ours else None


def borrow_credentials(
    config: Path | None, environment: MutableMapping[str, str] = os.environ, services: Path = _CREDENTIALS
) -> None:
    """Let a command run by root log in with the running service's credentials; nobody else may read them."""
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
        """Tell systemd that settings and models are in use: a start or a reload is done."""
        self._send(f"READY=1\nSTATUS={_one_line(status)}")

    def status(self, status: str) -> None:
        """Set the status: what is served or waited for."""
        self._send(f"STATUS={_one_line(status)}")

    def alive(self) -> None:
        """Notify the watchdog that the loop makes progress."""
        self._send("WATCHDOG=1")

    def reloading(self) -> None:
        """Tell systemd that a reload has begun; it ends with `ready` (Type=notify-reload)."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """Tell systemd that the service is stopping."""
        self._send("STOPPING=1\nSTATUS=finishing messages in flight")

    def _send(self, state: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.sendto(state.encode(), self._address)
        except OSError as error:  # systemd may be restarting; that must not end the service
            _log.warning("systemd: can't send %r: %s", state.partition("\n")[0], error)


def _one_line(status: str) -> str:
    """Return a status as one line of the protocol, whatever text a broker or a file has put into it."""
    line = plain(" ".join(status.split()))
    return line if len(line) <= _STATUS_LENGTH else f"{line[: _STATUS_LENGTH - 1]}…"


def _watchdog_interval(environment: Mapping[str, str]) -> float | None:
    """Return the interval of watchdog notifications in seconds: half of systemd's limit, as its manual advises."""
    limit = environment.get("WATCHDOG_USEC", "")
    meant_for_us = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return int(limit) / 2e6 if limit.isdecimal() and int(limit) > 0 and meant_for_us else None
