"""The life of a connection without a socket: packets and time go in; states, and the reason for its end, come out."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from edge_agent.contract.messages import Answer, Refused
from edge_agent.errors import BrokerError, FarewellError, ProtocolRefusedError
from edge_agent.link.granted import Granted
from edge_agent.link.packets import Disconnect, Puback, Publish
from edge_agent.link.session import MAY_FOLLOW, Session, State
from edge_agent.link.terms import Terms
from tests.unit.sessions import Connection, in_subscribing, outcome, ready, surplus

# -- the table


def test_the_table_has_every_state_and_nothing_follows_the_end() -> None:
    assert MAY_FOLLOW.keys() == set(State)
    assert not MAY_FOLLOW[State.ENDED]
    assert all(State.ENDED in following for state, following in MAY_FOLLOW.items() if state is not State.ENDED)
    assert not any(State.CONNECTING in following for following in MAY_FOLLOW.values())


def in_state(state: State) -> Connection:
    if state is State.CONNECTING:
        return Connection("a")
    if state is State.SUBSCRIBING:
        return in_subscribing()
    made = ready("a")
    if state is State.EMPTYING:
        made.session.take(surplus())
    elif state is State.ENDED:
        made.session.ended("Server busy")
    return made


HAPPENINGS: dict[str, Callable[[Session], object]] = {
    "let in": lambda session: session.let_in(Granted()),
    "turned away": lambda session: session.turned_away("Not authorized", "Not authorized"),
    "answered": lambda session: session.subscribed(101, [None]),
    "asked for more": lambda session: session.subscribe({"a": False, "b": False}, ()),
    "asked for the same": lambda session: session.subscribe({"a": False}, ()),
    "too many": lambda session: session.take(surplus()),
    "DISCONNECT": lambda session: session.take([Disconnect(0x89)]),
    "broken": lambda session: session.broken("no route"),
    "socket gone": lambda session: session.gone(),
    "pump": lambda session: session.pump(),
}
#: What leads from one state to another; everything else leaves it as it is.
LEADS: dict[tuple[State, str], State] = {
    (State.CONNECTING, "let in"): State.SUBSCRIBING,
    (State.SUBSCRIBING, "answered"): State.READY,
    (State.SUBSCRIBING, "too many"): State.EMPTYING,
    (State.READY, "asked for more"): State.SUBSCRIBING,
    (State.READY, "too many"): State.EMPTYING,
} | {(state, what): State.ENDED for state in State for what in ("turned away", "DISCONNECT", "broken", "socket gone")}


@pytest.mark.parametrize("what", HAPPENINGS)
@pytest.mark.parametrize("state", State)
def test_what_leads_where(state: State, what: str) -> None:
    session = in_state(state).session
    assert session.state is state
    if (state, what) == (State.CONNECTING, "too many"):
        with pytest.raises(ValueError, match="Publish before CONNACK"):
            HAPPENINGS[what](session)
        return
    HAPPENINGS[what](session)
    assert session.state is LEADS.get((state, what), state)


def test_a_step_that_the_table_does_not_have_is_a_bug_that_is_heard_of() -> None:
    with pytest.raises(RuntimeError, match=r"ENDED can't become READY: a bug"):
        in_state(State.ENDED).session._become(State.READY)


def test_the_first_reason_for_an_end_counts() -> None:
    session = ready().session
    session.broken("the cable")
    session.ended("Server busy")
    session.gone()
    assert outcome(session) == "broker localhost:1883: the connection ended: the cable"


# -- the handshake


def test_without_subscriptions_it_is_ready_with_connack() -> None:
    made = Connection()
    assert not made.session.ready
    made.session.let_in(Granted())
    assert made.session.ready


def test_subscriptions_are_asked_for_after_connack_and_what_is_refused_does_not_hold_up() -> None:
    made = Connection("a", "b")
    made.session.pump()
    assert made.asker.sent == []
    made.session.let_in(Granted())
    made.session.pump()
    assert made.asker.sent == [("subscribe", ["a", "b"])]
    assert not made.session.ready
    made.session.subscribed(101, [None, "Not authorized"])
    assert made.session.ready
    assert made.session.subscriptions.refused == [Refused("b", "Not authorized")]


def test_a_change_waits_for_what_is_unconfirmed_and_what_follows_waits_for_the_change() -> None:
    made = ready("a")
    made.session.publish(Answer("first", b"", qos=1))
    made.session.pump()
    made.session.subscribe({"b": False}, ())
    made.session.publish(Answer("second", b"", qos=1))
    made.session.pump()
    assert made.asker.sent[1:] == []
    assert [one.topic for one in made.wire.published] == ["first"]
    made.session.take([Puback(1)])
    made.session.pump()
    assert made.asker.sent[1:] == [("subscribe", ["b"]), ("unsubscribe", ["a"])]
    assert [one.topic for one in made.wire.published] == ["first", "second"]
    made.session.subscribed(102, [None])
    assert not made.session.ready
    made.session.unsubscribed(103)
    assert made.session.ready


def test_what_the_session_has_from_before_is_given_back_as_soon_as_it_is_known() -> None:
    terms = Terms()
    terms.left = {"edge/fleet/stable/manifest"}
    made = Connection("a", terms=terms)
    made.session.let_in(Granted())
    made.session.pump()
    assert made.asker.sent == [("subscribe", ["a"]), ("unsubscribe", ["edge/fleet/stable/manifest"])]
    made.session.subscribed(101, [None])
    assert not made.session.ready
    made.session.unsubscribed(102)
    assert (made.session.ready, terms.left) == (True, set())
    for _ in range(2):
        made.session.give_back("edge/fleet/stable/blob/ab/0")
        made.session.give_back("a")
    assert not made.session.ready
    made.session.pump()
    made.session.unsubscribed(103)
    assert made.asker.sent[2:] == [("unsubscribe", ["edge/fleet/stable/blob/ab/0"])]
    assert made.session.ready


def test_a_change_that_is_taken_back_before_it_was_sent_leaves_it_ready() -> None:
    made = ready("a")
    made.session.subscribe({"b": False}, ())
    assert not made.session.ready
    made.session.subscribe({"a": False}, ())
    assert made.session.ready


def test_a_change_for_which_there_is_nothing_to_ask_any_more_ends_as_well() -> None:
    made = Connection("a", "b")
    made.session.let_in(Granted())
    made.session.pump()
    made.session.subscribe({"a": False}, ())
    made.session.subscribed(101, [None, "no"])  # what is not wanted any more was refused
    assert not made.session.ready
    made.session.pump()
    assert made.session.ready
    assert len(made.asker.sent) == 1


@pytest.mark.parametrize(
    ("reason", "protocol", "kind", "words"),
    [
        ("Bad user name or password", "5", BrokerError, "check mqtt.username"),
        ("Unsupported protocol version", "5", ProtocolRefusedError, r"\(MQTT 5\)"),
    ],
)
def test_a_broker_that_refuses(reason: str, protocol: str, kind: type, words: str) -> None:
    session = Connection(protocol=protocol).session
    session.turned_away(reason, reason)
    assert type(session.end) is kind
    with pytest.raises(BrokerError, match=f"refused the connection: {reason}.*{words}"):
        raise session.end  # type: ignore[misc] # it has one


def test_a_handshake_that_takes_long_is_told_once_and_then_given_up(caplog: pytest.LogCaptureFixture) -> None:
    made = Connection("a", protocol="3.1.1")
    with caplog.at_level(logging.WARNING):
        for _ in range(8):
            made.wait(1.0)
    assert [record.getMessage() for record in caplog.records] == [
        "broker localhost:1883: no answer to CONNECT for 3 s; is it an MQTT broker? Still waiting"
    ]
    assert made.session.end is None
    made.wait(1.0)
    assert "no answer to CONNECT or SUBSCRIBE in time" in outcome(made.session)


def test_a_broker_that_knows_no_mqtt_5_may_only_keep_silent() -> None:
    made = Connection("a")
    made.wait(9.0)
    assert type(made.session.end) is ProtocolRefusedError


def test_a_session_that_is_worked_off_before_the_grant_takes_its_time() -> None:
    made = in_subscribing()
    for number in range(1, 5):
        made.wait(8.0)
        made.session.take([Publish("a", b"", 0, 0)])
        made.session.patience.heard()
        assert made.session.end is None, number
    made.session.take([])  # nothing arrived
    made.wait(9.0)
    assert "no answer to CONNECT or SUBSCRIBE" in outcome(made.session)


# -- keep-alive


def test_a_ping_each_keep_alive_once_let_in_and_an_end_when_nothing_comes_back() -> None:
    made = ready()
    made.wait(9.0)
    assert made.wire.pings == 0
    made.wait(1.0)
    made.wait(0.5)  # upkeep is once a second
    assert (made.wire.pings, made.wire.upkeeps) == (1, 2)
    made.wait(9.0)
    assert made.session.end is None
    made.wait(0.5)
    assert outcome(made.session) == "broker localhost:1883: no answer to a ping for 10 s"


def test_no_ping_before_the_broker_has_let_us_in() -> None:
    made = Connection()
    made.clock.advance(60.0)
    made.session.keep_up()
    assert (made.wire.pings, made.wire.upkeeps) == (0, 1)


def test_a_broker_that_confirms_nothing_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """The limit is the keep-alive, 10 s here; pings are answered all the time."""
    made = ready("a", granted=Granted(receive_maximum=2))
    made.session.take([Publish("a", b"", 1, number) for number in (1, 2, 3)])
    for message in made.session.hand_over(unwritten=False):
        made.session.answer(message, [Answer("b", b"", 1)])
    made.session.pump()
    with caplog.at_level(logging.WARNING):
        for _ in range(60):
            made.wait(1.0)
            made.session.patience.heard()
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(
        "broker localhost:1883: has not confirmed a message for 10 s (unconfirmed: 2, waiting to be sent: 1, "
        "inputs not acknowledged: 3)."
    )
    assert made.session.end is None


def test_confirmations_that_come_slowly_are_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    made = ready()
    for number in range(20):
        made.session.publish(Answer("b", b"", 1))
        made.session.pump()
        made.wait(8.0)
        made.session.take([Puback(number + 1)])
        made.session.patience.heard()
    assert caplog.records == []


# -- the end


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (0x89, FarewellError, "the connection ended: Server busy"),
        (0x8E, FarewellError, "another client uses our client id, 'pi'"),
        (0x82, BrokerError, "the connection ended: Protocol error"),
        (0x00, BrokerError, "without a reason from the broker; if this repeats"),
    ],
)
def test_the_broker_says_why(code: int, kind: type, words: str) -> None:
    session = ready().session
    session.take([Disconnect(code)])
    assert type(session.end) is kind
    assert words in outcome(session)


@pytest.mark.parametrize(("protocol", "kind"), [("5", ProtocolRefusedError), ("3.1.1", BrokerError)])
def test_a_broker_that_hangs_up_on_connect(protocol: str, kind: type) -> None:
    session = Connection(protocol=protocol).session
    session.ended(None)
    assert type(session.end) is kind
    assert "is it a port for TLS ([mqtt.tls]) or for WebSockets (mqtt.transport)?" in outcome(session)


@pytest.mark.parametrize(
    ("known", "accepted", "words"),
    [
        (None, True, "the connection ended: reset"),
        ("code 1002", True, "the connection ended: code 1002"),
        (None, False, "the connection ended: reset; is it a port for TLS"),
        ("code 1002", False, "the connection ended: code 1002"),
    ],
)
def test_what_the_socket_knows_is_said_rather_than_a_guess(known: str | None, accepted: bool, words: str) -> None:
    session = (ready() if accepted else Connection()).session
    session.broken("reset", known)
    assert words in outcome(session)
    assert known is None or outcome(session).endswith(known)
