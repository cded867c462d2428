"""An agent of which the updates are under attack while honest messages flow: what it serves, who was answered, and what it says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from edge_agent.model.store import Store
from tests.brokers import Mosquitto, running
from tests.channel import MANIFEST, Channel, bundled
from tests.contract.agents import STATE
from tests.contract.client import Client, Message
from tests.contract.updating import MODEL, Clocks, UpdatingAgent
from tests.traffic import Traffic

#: How many honest messages come in a second.
RATE: Final = 30.0
#: How many seconds of an update pass in one: of its pauses, and of how long it waits for a piece.
PACE: Final = 20.0
_QUIET: Final = ("log_type none", "log_type error", "log_type warning")


class Answered(NamedTuple):
    """The first answer to a question, by number, and the version that gave it."""

    number: int
    version: str


class Honest(Traffic):
    """Notes which version answered each question."""

    def __init__(self, port: int, *, in_vain: Callable[[], str | None] = lambda: None) -> None:
        # Where others want the processor too, the backlog must not grow without end.
        super().__init__(port, RATE, ahead=4 * RATE, in_vain=in_vain)
        self.answered: dict[str, list[Answered]] = {}
        self._judged = 0

    def _take(self, sensor: str, answer: dict[str, object]) -> None:
        super()._take(sensor, answer)
        answered = self.answered.setdefault(sensor, [])
        answered.append(Answered(int(str(answer["id"])), str(answer["version"])))

    def judge(self, *versions: str) -> None:
        """All that was asked since the last time is answered: by these versions, and no sensor's goes back to one before."""
        since, until = self._judged, self.sent
        self.wait(lambda: all(number in self.times for number in range(since, until)), "an honest message is lost")
        self._judged = until
        for sensor, answered in self.answered.items():
            by = [one.version for one in answered if since <= one.number < until]
            assert set(by) <= set(versions), f"{sensor} was answered by another version"
            assert by == sorted(by, key=versions.index), f"{sensor} went back to an older version"


def said(client: Client, state: str, why: str = "", **more: Any) -> dict[str, Any]:
    """Wait until the model is said to be in a state, for a reason."""

    def is_it(message: Message) -> bool:
        if message.topic != MODEL or not message.payload:
            return False
        told = json.loads(message.payload)
        there = why in (told["reason"] or "") and all(told[name] == value for name, value in more.items())
        return bool(told["state"] == state and there)

    found: dict[str, Any] = json.loads(client.wait_for(is_it).payload)
    return found


class Scene:
    """One agent, its broker and its channel; `version` of the model is served."""

    def __init__(self, broker: Mosquitto, agent: UpdatingAgent, client: Client, traffic: Honest, models: Path) -> None:
        self.broker, self.agent, self.client, self.traffic = broker, agent, client, traffic
        self.channel = Channel(client)
        self.store = Store(models)
        self.version = "1.0.0"
        #: What is served, as a file.
        self.content = bundled()
        #: The serial of the last manifest that was good.
        self.accepted = 0

    def publish(self, manifest: bytes) -> None:
        """Somebody publishes what should be a manifest."""
        self.client.publish(MANIFEST, manifest, retain=True)

    def serial(self) -> int:
        """One that was not there yet."""
        self.channel.serial += 1
        return self.channel.serial

    def said(self, state: str, why: str = "", **more: Any) -> dict[str, Any]:
        """Wait until the model is said to be in a state, for a reason."""
        return said(self.client, state, why, **more)

    def has_said(self, why: str) -> bool:
        """Whether it has given a reason, as far as is known."""
        return any(why in (json.loads(one.payload)["reason"] or "") for one in self.client.seen(MODEL))

    def has_accepted(self, serial: int) -> bool:
        """Whether a manifest was accepted, as far as is known."""
        return any(json.loads(one.payload)["serial"] == serial for one in self.client.seen(MODEL))

    def refuses(self, why: str, fix: str, state: str = "refused") -> dict[str, Any]:
        """Wait until it says that and why something is not taken, which changes nothing, and names the fix."""
        told = self.said(state, why)
        assert fix in told["reason"], told
        assert told["installed_version"] == self.version
        return told

    def takes_what_is_good(self) -> None:
        """A good manifest, of what is served, is accepted; nobody was lost, or answered by anything else."""
        self.client.forget()
        self.accepted = self.channel.announce(self.content)
        assert self.said("idle", serial=self.accepted)["reason"] is None
        self.traffic.judge(self.version)
        self.is_well()

    def takes(self, number: str, content: bytes) -> None:
        """What was published is served now."""
        self.said("idle", installed_version=number)
        self.traffic.judge(self.version, number)
        self.version, self.content = number, content
        self.takes_what_is_good()

    def is_well(self) -> None:
        """It has neither failed nor connected again."""
        tally = self.agent.agent.tally
        assert (tally.faults, tally.connections) == (0, 1)
        current = self.store.current("genre")
        assert (current.version if current else "1.0.0") == self.version

    def arriving(self) -> int:
        """How many bytes of files that are arriving are on the disk."""
        folder = self.store.directory / ".parts"
        return sum(file.stat().st_size for file in folder.iterdir()) if folder.exists() else 0


@contextmanager
def scene(folder: Path, clocks: Clocks, *, lines: Sequence[str] = _QUIET) -> Iterator[Scene]:
    """Everything runs; `lines` are of the broker's configuration."""
    with (
        running(Mosquitto(folder / "broker", lines=lines)) as broker,
        Client(broker.port) as client,
    ):
        client.subscribe(STATE, MODEL)
        with UpdatingAgent(broker.port, folder / "models", clocks=clocks) as agent:
            client.wait_for_payload(STATE, "online")
            with Honest(broker.port) as traffic:
                yield Scene(broker, agent, client, traffic, folder / "models")
                traffic.finish("bad updates", at_least=1)
