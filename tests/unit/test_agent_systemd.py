"""What the service manager hears, and when."""

from __future__ import annotations

import pytest

from edge_agent.errors import BrokerError
from edge_agent.testing import FakeLink, make_agent
from tests.unit.agents import HeardNotifier, ended, run

pytestmark = pytest.mark.usefixtures("everything_is_logged")


def test_systemd_hears_how_it_goes(awake: int) -> None:
    notifier = HeardNotifier()
    lost = FakeLink()
    agent, clock = ended(BrokerError("no route"), lost, notifier=notifier)
    agent.step(awake)
    clock.advance(1)
    agent.step(awake)
    lost.lose(BrokerError("gone"))
    run(agent, 1)
    ready, waiting, serving, *rest = notifier.said
    assert ready == "READY=1\nSTATUS=waiting for the broker"
    assert waiting == "STATUS=waiting for the broker: no route"
    assert serving.startswith("STATUS=serving ")
    assert rest == [
        "STATUS=waiting for the broker: gone",
        "STOPPING=1\nSTATUS=finishing messages in flight",
    ]


def test_it_is_ready_before_it_looks_for_a_broker() -> None:
    """Boot and terminals wait for it, and a broker may be away for long."""
    notifier = HeardNotifier()
    said: list[list[str]] = []

    def dial(protocol: str, wanted: object, tally: object) -> FakeLink:
        said.append(list(notifier.said))
        raise BrokerError("broker.lan: no route")

    agent, _ = ended(notifier=notifier)
    agent._settings = agent._settings._replace(dial=dial)
    run(agent, 1)
    assert said == [["READY=1\nSTATUS=waiting for the broker"]]
    assert notifier.said[1] == "STATUS=waiting for the broker: broker.lan: no route"


@pytest.mark.parametrize("ready", [True, False])
def test_a_reload_ends_at_once(*, ready: bool) -> None:
    """It is over when the new settings are in use; what the broker says to them is in the status, later."""
    notifier, link = HeardNotifier(), FakeLink()
    link.ready = ready
    agent, _ = ended(link, notifier=notifier)
    agent.stay("reload rejected: no such model")
    other = make_agent()
    agent.take_over(other._settings, other._plan)
    run(agent, 2)
    assert notifier.said[:2] == [
        "READY=1\nSTATUS=reload rejected: no such model",
        "READY=1\nSTATUS=waiting for the broker",
    ]
    assert sum(said.startswith("READY=1") for said in notifier.said) == 2


def test_the_watchdog_is_fed_from_the_loop(awake: int) -> None:
    notifier = HeardNotifier({"WATCHDOG_USEC": "20000000"})
    agent, clock = ended(FakeLink(), notifier=notifier)
    fed: list[float] = []
    for _ in range(31):
        before = notifier.said.count("WATCHDOG=1")
        agent.step(awake)
        fed += [clock()] * (notifier.said.count("WATCHDOG=1") > before)
        clock.advance(1)
    assert fed == [0, 10, 20, 30]


def test_the_watchdog_is_fed_without_a_broker_too(awake: int) -> None:
    notifier = HeardNotifier({"WATCHDOG_USEC": "20000000"})
    agent, clock = ended(notifier=notifier)
    for _ in range(100):
        agent.step(awake)
        clock.advance(1)
    assert notifier.said.count("WATCHDOG=1") >= 10
