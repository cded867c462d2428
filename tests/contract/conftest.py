"""The brokers, and a client to look from outside.

`broker` is a running broker; a test that takes it runs against each kind. `mosquitto` makes Mosquittos with
configuration, passwords, access lists or a store of their own; `server` is a plain one of those, and `relay` stands
before it. `connect` makes clients that are closed afterwards; what enters `stack`, agents above all, ends with the test.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.brokers import Amqtt, BrokerProcess, Mosquitto, running
from tests.contract import witness
from tests.contract.agents import Relay
from tests.contract.client import Client
from tests.every_broker import KINDS, EveryBroker
from tests.requirements import lacking, require_mosquitto


@pytest.fixture(autouse=True)
def every_message_is_as_described() -> Iterator[None]:
    """What the agents of a test publish is what their documents say."""
    witness.current.begin()
    yield
    assert list(witness.current.wrong()) == []


class MosquittoFactory:
    """Starts Mosquittos; each has a directory of its own below the test's."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.made: list[Mosquitto] = []

    def __call__(self, *, start: bool = True, **options: Any) -> Mosquitto:
        broker = Mosquitto(self._directory / f"mosquitto-{len(self.made)}", **options)
        self.made.append(broker)
        if start:
            broker.start()
        return broker


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[MosquittoFactory]:
    require_mosquitto()
    factory = MosquittoFactory(tmp_path)
    yield factory
    for broker in factory.made:
        broker.end()


@pytest.fixture(params=["mosquitto", "amqtt"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BrokerProcess]:
    directory = tmp_path / "broker"
    made: BrokerProcess
    if request.param == "mosquitto":
        require_mosquitto()
        made = Mosquitto(directory)
    else:
        if importlib.util.find_spec("amqtt") is None:
            lacking("amqtt is not installed: pip install '.[demo]'")
        made = Amqtt(directory)
    with running(made):
        yield made


@pytest.fixture(scope="module", params=list(KINDS))
def started(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EveryBroker]:
    kind = KINDS[request.param]
    if (missing := kind.missing()) is not None:
        reason = f"{missing} is not installed: {kind.install}"
        if request.param in {"mosquitto", "amqtt"}:
            lacking(reason)
        pytest.skip(reason)
    with running(kind(tmp_path_factory.mktemp(request.param))) as made:
        yield made


@pytest.fixture
def each(started: EveryBroker) -> EveryBroker:
    """A broker of each kind that is installed, one for a whole module: topics and client ids are to be a test's own."""
    if started.ages:
        started.kill()
        started.start()
    return started


class Connect:
    """Makes connected clients of a broker, in its newest protocol unless told otherwise."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def __call__(self, broker: BrokerProcess, **options: Any) -> Client:
        options.setdefault("protocol", broker.protocols[0])
        return self._stack.enter_context(Client(broker.port, **options))


@pytest.fixture
def connect() -> Iterator[Connect]:
    with ExitStack() as stack:
        yield Connect(stack)


@pytest.fixture
def server(mosquitto: MosquittoFactory) -> Mosquitto:
    return mosquitto()


@pytest.fixture
def relay(server: Mosquitto) -> Iterator[Relay]:
    with Relay(server) as relay:
        yield relay


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack
