"""Tracks which inputs may be acknowledged: only those whose answers are all confirmed.

A ledger belongs to one connection and ends with it: the broker redelivers unacknowledged inputs on the next one.

Rules:

* an input is acknowledged once every one of its answers has been confirmed by the broker, never before;
* inputs are acknowledged in the order of receipt (MQTT 5, 4.6), so one that waits delays all later ones.
"""

from __future__ import annotations

from collections import deque

from edge_agent.contract.messages import Message


class Debt:
    """One input that must be acknowledged: its packet id, and the number of unconfirmed answers."""

    __slots__ = ("packet_id", "unconfirmed")

    def __init__(self, packet_id: int) -> None:
        self.packet_id = packet_id
        #: None until it is known how many answers there are.
        self.unconfirmed: int | None = None


def packet_of(message: Message) -> int | None:
    """Return the packet id under which a message has to be acknowledged, None at QoS 0."""
    debt = None if message.token is None else message.token[0]
    return None if debt is None else int(debt.packet_id)


class Ledger:
    """The debts of one connection, oldest first."""

    def __init__(self) -> None:
        self._debts: deque[Debt] = deque()

    def __len__(self) -> int:
        return len(self._debts)

    @property
    def unanswered(self) -> int:
        """The number of inputs whose answers were not sent yet."""
        return sum(debt.unconfirmed is None for debt in self._debts)

    def receive(self, packet_id: int) -> Debt:
        """Add an input, in the order of receipt."""
        debt = Debt(packet_id)
        self._debts.append(debt)
        return debt

    def answer(self, debt: Debt, answers: int) -> list[int]:
        """Note that `answers` were sent for an input; return the packet ids to acknowledge now."""
        debt.unconfirmed = answers
        return self._settled()

    def confirm(self, debt: Debt) -> list[int]:
        """Note that the broker confirmed one of the answers; return the packet ids to acknowledge now."""
        if not debt.unconfirmed:
            raise ValueError(f"packet {debt.packet_id} has no unconfirmed answer")
        debt.unconfirmed -= 1
        return self._settled()

    def _settled(self) -> list[int]:
        packet_ids = []
        while self._debts and self._debts[0].unconfirmed == 0:
            packet_ids.append(self._debts.popleft().packet_id)
        return packet_ids
