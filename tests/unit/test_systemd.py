"""What can be told of the notify protocol without a socket; the rest is in tests/contract and tests/e2e."""

from __future__ import annotations

import os

import pytest

from edge_agent.systemd import Notifier


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
    notifier.waiting("not connected", 1.0)
    notifier.alive()
    notifier.stopping()
