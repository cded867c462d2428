"""What can be told of the notify protocol without a socket; the rest is in tests/contract and tests/e2e."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge_agent.host.systemd import Notifier, borrow_credentials, unit_name


@pytest.mark.parametrize(
    ("environment", "interval"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        # Meant for another process, which handed its environment on.
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid() + 1)}, None),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": ""}, None),
        ({"WATCHDOG_USEC": ""}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "1.5"}, None),
    ],
)
def test_the_watchdog_is_fed_in_half_the_time_that_systemd_allows(
    environment: dict[str, str], interval: float | None
) -> None:
    assert Notifier(environment).watchdog_interval == interval


def test_without_systemd_nothing_is_sent() -> None:
    notifier = Notifier({"NOTIFY_SOCKET": ""})
    notifier.ready("serving")
    notifier.status("waiting for the broker")
    notifier.alive()
    notifier.stopping()


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ("serving genre", "serving genre"),
        # What a broker or a file says may not become lines of the protocol.
        ("refused:\n  MAINPID=1\nREADY=1", "refused: MAINPID=1 READY=1"),
        ("\x1b[31mred\0", "\\x1b[31mred\\x00"),
        # systemd drops a datagram of more than 4096 bytes, and a READY=1 with it.
        ("ä" * 5000, "ä" * 999 + "…"),
    ],
)
def test_a_status_is_one_line_of_bounded_length(status: str, said: str) -> None:
    told: list[str] = []

    class Heard(Notifier):
        def _send(self, state: str) -> None:
            told.append(state)

    notifier = Heard({})
    notifier.ready(status)
    notifier.status(status)
    assert told == [f"READY=1\nSTATUS={said}", f"STATUS={said}"]
    assert max(len(state.encode()) for state in told) < 4096


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (None, "edge-agent"),
        ("/etc/edge-agent/edge-agent.toml", "edge-agent"),
        ("/etc/edge-agent/kitchen.toml", "edge-agent@kitchen"),
        ("kitchen.toml", None),
        ("/etc/edge-agent/kitchen.new", None),
    ],
)
def test_the_unit_of_a_configuration(config: str | None, name: str | None) -> None:
    assert unit_name(None if config is None else Path(config)) == name


@pytest.mark.parametrize(
    ("config", "environment", "borrowed"),
    [
        (None, {}, "edge-agent.service"),
        ("/etc/edge-agent/kitchen.toml", {}, "edge-agent@kitchen.service"),
        # It does not run, or is none of ours.
        ("/etc/edge-agent/attic.toml", {}, None),
        ("kitchen.toml", {}, None),
        # It may name another broker.
        ("/etc/edge-agent/kitchen.new", {}, None),
        # We are a service ourselves.
        (None, {"CREDENTIALS_DIRECTORY": "/run/credentials/other.service"}, "/run/credentials/other.service"),
    ],
)
def test_a_command_by_hand_borrows_the_credentials_of_the_service(
    config: str | None, environment: dict[str, str], borrowed: str | None, tmp_path: Path
) -> None:
    for name in ("edge-agent.service", "edge-agent@kitchen.service"):
        (tmp_path / name).mkdir()
    borrow_credentials(None if config is None else Path(config), environment, tmp_path)
    assert environment.get("CREDENTIALS_DIRECTORY") == (None if borrowed is None else str(tmp_path / borrowed))
