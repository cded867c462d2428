"""How long a broker may keep us waiting."""

from __future__ import annotations

from edge_agent.link.patience import Patience


def waiting() -> Patience:
    return Patience(3.0, 30.0, 100.0)


def test_a_handshake_may_take_three_connect_timeouts_of_waiting() -> None:
    patience = waiting()
    patience.waited(8.9)
    assert not patience.handshake_failed
    patience.waited(0.2)
    assert patience.handshake_failed


def test_what_belongs_to_the_handshake_makes_it_go_on_and_other_bytes_do_not() -> None:
    patience = waiting()
    patience.waited(8)
    patience.heard()
    patience.waited(2)
    assert patience.handshake_failed
    patience.begin_handshake()
    assert not patience.handshake_failed


def test_a_handshake_that_is_late_is_told_once() -> None:
    patience = waiting()
    patience.waited(2.9)
    assert not patience.take_late()
    patience.waited(0.1)
    assert patience.take_late()
    patience.waited(1)
    assert not patience.take_late()


def test_a_ping_goes_out_once_a_keep_alive_whatever_else_does() -> None:
    patience = waiting()
    asked = []
    for second in range(100, 200):
        patience.heard()
        asked += [second] * patience.take_ping(second)
    assert asked == [130, 160, 190]


def test_a_broker_is_gone_when_nothing_comes_for_a_keep_alive_after_a_ping() -> None:
    patience = waiting()
    patience.waited(1000)
    assert not patience.is_gone
    assert patience.take_ping(130.0)
    patience.waited(29)
    patience.take_ping(160.0)
    assert not patience.is_gone
    patience.waited(1)
    assert patience.is_gone
    patience.heard()
    assert not patience.is_gone


def test_time_that_we_spent_ourselves_does_not_count() -> None:
    patience = waiting()
    assert patience.take_ping(130.0)
    assert patience.take_ping(1000.0)
    assert not patience.is_gone
    assert not patience.handshake_failed


def test_a_message_without_its_confirmation_is_told_once() -> None:
    patience = waiting()
    patience.waited(100)
    assert not patience.take_unconfirmed(1)
    patience.waited(29.9)
    assert not patience.take_unconfirmed(1)
    patience.waited(0.2)
    assert patience.take_unconfirmed(1)
    patience.waited(100)
    assert not patience.take_unconfirmed(1)


def test_while_confirmations_come_none_is_missing() -> None:
    patience = waiting()
    for number in range(100):
        assert not patience.take_unconfirmed(number)
        patience.waited(29)
    assert not patience.take_unconfirmed(None)
    patience.waited(100)
    assert not patience.take_unconfirmed(None)


def test_a_shorter_keep_alive_says_how_long_a_confirmation_may_take() -> None:
    assert Patience(3.0, 5.0, 0.0).longest_unconfirmed == 5.0
    assert Patience(3.0, 600.0, 0.0).longest_unconfirmed == 30.0
