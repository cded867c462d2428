"""Whether writing can be tried unheard on a broker; that nothing is heard on a real one is in tests/contract."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from edge_agent.contract.messages import Answer, Message, Refused
from edge_agent.doctor.writing import _why_not


class Broker:
    """One connection to a broker that delivers what is sent to it, as `delivers` says: of these levels of QoS."""

    def __init__(self, *delivers: int, protocol: str = "5", withheld_at_once: int = 20, refuses: bool = False) -> None:
        self.protocol = protocol
        self.withheld_at_once = withheld_at_once
        self.refused: list[Refused] = []
        self.refused_answers: list[Refused] = []
        self._delivers = delivers
        self._refuses = refuses
        self._inbox: list[Message] = []

    def publish(self, answer: Answer) -> None:
        if self._refuses:
            self.refused_answers.append(Refused(answer.topic, "Not authorized"))
        elif answer.qos in self._delivers:
            self._inbox.append(Message(answer.topic, answer.payload))

    def receive(self, timeout: float) -> list[Message]:
        assert timeout > 0
        messages, self._inbox = self._inbox, []
        return messages

    def answer(self, message: Message, answers: Iterable[Answer]) -> None:
        assert (message.qos, list(answers)) == (0, [])


@pytest.mark.parametrize(
    ("broker", "why"),
    [
        (Broker(1), None),
        (Broker(2, 1), "delivers QoS 2 messages before PUBREL"),
        (Broker(refuses=True), "edge/x/response/edge-agent-check can't be written and read"),
        (Broker(1, protocol="3.1.1"), "MQTT 3.1.1 does not report"),
        (Broker(1, withheld_at_once=0), "does not support QoS 2"),
        (Broker(1, withheld_at_once=1), "does not support QoS 2"),
    ],
)
def test_a_broker_has_to_hold_back(broker: Any, why: str | None) -> None:
    found = _why_not(broker, "edge/x/response/edge-agent-check")
    assert (found is None) if why is None else (why in (found or ""))
