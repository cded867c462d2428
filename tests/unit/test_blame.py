"""Whose loss a message is (tests/blame.py), which the tests of a killed broker rely on."""

from __future__ import annotations

import pytest

from tests.blame import OURS, Fate, Record
from tests.contract.agents import Packet
from tests.wire import PUBACK, PUBLISH


def question(number: int, connection: int = 1) -> Packet:
    return Packet(
        connection, up=False, kind=PUBLISH, id=number + 1, topic="q", again=False, rest=b'{"id": %d}' % number
    )


def answer(number: int, connection: int = 1) -> Packet:
    return Packet(
        connection, up=True, kind=PUBLISH, id=number + 101, topic="a", again=False, rest=b'{"id":%d}' % number
    )


def confirmed(number: int, connection: int = 1) -> Packet:
    """By the broker: the answer."""
    return Packet(connection, up=False, kind=PUBACK, id=number + 101, topic=None, again=False)


def acknowledged(number: int, connection: int = 1) -> Packet:
    """By the agent: the question."""
    return Packet(connection, up=True, kind=PUBACK, id=number + 1, topic=None, again=False)


@pytest.mark.parametrize(
    ("packets", "fate"),
    [
        ([question(2)], Fate.NEVER_SENT),
        ([question(1), question(2, 2)], Fate.NOT_SENT_AGAIN),
        ([question(1), answer(1), question(2, 2)], Fate.NOT_SENT_AGAIN),
        ([question(1), answer(1), confirmed(1), acknowledged(1)], Fate.ANSWER_LOST),
        ([question(1), answer(1), confirmed(1), question(2, 2)], Fate.ANSWER_LOST),
        ([question(1), acknowledged(1)], Fate.TOO_EARLY),
        ([question(1), answer(1), acknowledged(1), confirmed(1)], Fate.TOO_EARLY),
        # The other one's confirmation, and one of another connection, are none.
        ([question(1), question(2), answer(2), confirmed(2), acknowledged(1)], Fate.TOO_EARLY),
        ([question(1), answer(1), confirmed(1, 2), question(1, 2), acknowledged(1, 2)], Fate.TOO_EARLY),
        ([question(1), question(2), answer(2), confirmed(2), acknowledged(2)], Fate.STUCK),
    ],
)
def test_whose_loss_it_is(packets: list[Packet], fate: Fate) -> None:
    assert Record(packets).fate(1) is fate
    assert (fate in OURS) == (fate in {Fate.TOO_EARLY, Fate.STUCK})


def test_nothing_is_too_early_where_all_is_well() -> None:
    record = Record([question(1), answer(1), confirmed(1), acknowledged(1)])
    assert (record.too_early, record.acknowledged, record.answer_confirmed) == (set(), {1}, {1})
