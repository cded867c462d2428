"""An input is acknowledged after all its answers are confirmed, and in the order of receipt."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edge_agent.link.ledger import Debt, Ledger


class LedgerMachine(RuleBasedStateMachine):
    """Inputs come, answers go out and are confirmed, in any order that a connection can see."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.received: list[int] = []
        self.debts: dict[int, Debt] = {}
        self.expected: dict[int, int] = {}  # answers of an input, once known
        self.confirmed: dict[int, int] = {}
        self.acknowledged: list[int] = []

    def _acknowledge(self, packet_ids: list[int]) -> None:
        for packet_id in packet_ids:
            assert packet_id in self.expected, "acknowledged before its answers were on their way"
            assert self.confirmed[packet_id] == self.expected[packet_id], "acknowledged before it was confirmed"
        self.acknowledged += packet_ids

    @rule()
    def receive(self) -> None:
        packet_id = len(self.received) + 1
        self.received.append(packet_id)
        self.debts[packet_id] = self.ledger.receive(packet_id)

    @precondition(lambda self: len(self.expected) < len(self.received))
    @rule(data=st.data(), answers=st.integers(0, 3))
    def answer(self, data: st.DataObject, answers: int) -> None:
        packet_id = data.draw(st.sampled_from([one for one in self.received if one not in self.expected]))
        self.expected[packet_id], self.confirmed[packet_id] = answers, 0
        self._acknowledge(self.ledger.answer(self.debts[packet_id], answers))

    @precondition(lambda self: any(self.confirmed[one] < count for one, count in self.expected.items()))
    @rule(data=st.data())
    def confirm(self, data: st.DataObject) -> None:
        packet_id = data.draw(
            st.sampled_from([one for one, count in self.expected.items() if self.confirmed[one] < count])
        )
        self.confirmed[packet_id] += 1
        self._acknowledge(self.ledger.confirm(self.debts[packet_id]))

    @precondition(lambda self: any(self.confirmed[one] == count for one, count in self.expected.items()))
    @rule(data=st.data())
    def confirm_too_often(self, data: st.DataObject) -> None:
        packet_id = data.draw(
            st.sampled_from([one for one, count in self.expected.items() if self.confirmed[one] == count])
        )
        with pytest.raises(ValueError, match=f"packet {packet_id} "):
            self.ledger.confirm(self.debts[packet_id])

    @invariant()
    def acknowledged_in_order_and_as_far_as_can_be(self) -> None:
        settled = 0
        for packet_id in self.received:
            if self.confirmed.get(packet_id) != self.expected.get(packet_id, -1):
                break
            settled += 1
        assert self.acknowledged == self.received[:settled]

    @invariant()
    def counts_what_is_owed(self) -> None:
        assert len(self.ledger) == len(self.received) - len(self.acknowledged)
        assert self.ledger.unanswered == len(self.received) - len(self.expected)


TestLedger = LedgerMachine.TestCase


def test_an_input_that_waits_holds_back_those_behind_it() -> None:
    ledger = Ledger()
    first, second, third = (ledger.receive(packet_id) for packet_id in (7, 3, 5))
    assert ledger.answer(second, 1) == []
    assert ledger.confirm(second) == []
    assert ledger.answer(third, 0) == []
    assert ledger.answer(first, 2) == []
    assert ledger.confirm(first) == []
    assert ledger.confirm(first) == [7, 3, 5]
    assert len(ledger) == 0


def test_an_answer_can_not_be_confirmed_before_it_is_on_its_way() -> None:
    ledger = Ledger()
    with pytest.raises(ValueError, match="no unconfirmed answer"):
        ledger.confirm(ledger.receive(1))
