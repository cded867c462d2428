"""What a broker takes, found out over connections: retained messages, QoS, shared subscriptions, keep-alive."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from edge_agent.contract.messages import Answer, Message, Refused
from edge_agent.errors import AdaptedError, BrokerError, ProtocolRefusedError
from edge_agent.link import terms as known
from edge_agent.link.granted import Granted, advice_on
from edge_agent.link.packets import Disconnect, Puback
from edge_agent.link.session import State
from edge_agent.link.terms import Terms
from tests.unit.sessions import Connection, outcome

STATE = Answer("edge/pi/state", b"online", qos=1, retain=True)
PLAIN = STATE._replace(retain=False)


def connected(terms: Terms, granted: Granted | None = None, *filters: str, **options: Any) -> Connection:
    """A connection that is let in, and has said that it is there."""
    made = Connection(*filters, terms=terms, **options)
    made.session.let_in(granted or Granted())
    made.session.pump()
    made.session.publish(STATE)
    made.session.pump()
    return made


# -- MQTT 5: the broker says it


def test_without_retain_nothing_is_retained_and_it_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    terms = Terms()
    for _ in range(3):
        made = connected(terms, Granted(retain_available=False))
        assert made.wire.published == [PLAIN]
        assert terms.fit(STATE) == PLAIN, "nor is the next will"
    assert caplog.text.count(known.NO_RETAIN) == 1
    # A broker that was set up anew is taken at its word.
    assert connected(terms).wire.published == [STATE]


def test_answers_lose_their_retain_as_well() -> None:
    made = Connection()
    made.session.let_in(Granted(retain_available=False))
    made.session.answer(Message("a", b"", 0), [STATE])
    made.session.pump()
    assert made.wire.published == [PLAIN]


@pytest.mark.parametrize(
    ("reason", "left"),
    [("Retain not supported", PLAIN), ("QoS not supported", STATE._replace(qos=0))],
)
def test_a_will_that_is_refused_is_left_out_at_once(reason: str, left: Answer) -> None:
    terms = Terms()
    first = Connection(terms=terms).session
    first.turned_away(reason, reason)
    assert isinstance(first.end, AdaptedError)
    assert terms.fit(STATE) == left
    second = Connection(terms=terms).session
    second.turned_away(reason, reason)
    assert not isinstance(second.end, AdaptedError), "there is nothing more to leave out"


def test_a_broker_that_refuses_a_retained_message_with_a_reason_gets_no_other() -> None:
    terms = Terms()
    made = connected(terms)
    made.session.take([Disconnect(0x9A)])
    assert "Retain not supported" in outcome(made.session)
    assert connected(terms).wire.published == [PLAIN]


def test_qos_0_only_serves_at_qos_0(caplog: pytest.LogCaptureFixture) -> None:
    made = connected(Terms(), Granted(maximum_qos=0))
    assert made.wire.published == [STATE._replace(qos=0)]
    assert not made.session.delivery.in_flight
    assert caplog.text.count(known.NO_QOS) == 1


def test_qos_1_at_most_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    terms = Terms()
    assert connected(terms, Granted(maximum_qos=1)).wire.published == [STATE]
    assert not terms.limited
    assert not caplog.records


def test_shared_subscriptions_that_there_are_not() -> None:
    made = connected(Terms(), Granted(shared_subscriptions=False), "$share/pool/a", "b")
    assert made.asker.sent == [("subscribe", ["b"])]
    made.session.subscribed(101, [None])
    assert made.session.state is State.READY
    (refused,) = made.session.subscriptions.refused
    assert refused == Refused("$share/pool/a", "Shared subscription not supported")
    assert "remove share" in advice_on(refused.reason)
    assert "access rules" in advice_on("Not authorized")


def test_a_session_that_has_only_what_the_broker_lacks_is_ready() -> None:
    made = connected(Terms(), Granted(wildcards=False), "a/+")
    assert made.asker.sent == []
    assert made.session.state is State.READY


def test_the_brokers_keep_alive_counts_where_it_is_shorter() -> None:
    made = Connection()
    made.session.let_in(Granted(server_keep_alive=5))
    made.wait(4.0)
    assert made.wire.pings == 1
    made.wait(4.0)
    assert outcome(made.session).endswith("no answer to a ping for 4 s")
    for longer in (0, 60):
        other = Connection()
        other.session.let_in(Granted(server_keep_alive=longer))
        other.wait(10.0)
        assert other.wire.pings == 1


def test_the_client_id_that_the_broker_gave_is_the_one_that_is_told() -> None:
    made = Connection()
    made.session.let_in(Granted(assigned_client_id="given"))
    made.session.ended(None)
    assert "another client uses our client id, 'given'" in outcome(made.session)


# -- MQTT 3.1.1: the broker says nothing


def hung_up(terms: Terms, *, takes: bool = False) -> Answer:
    """Connect, publish a state, and lose the connection without a reason; return how it went out."""
    made = connected(terms, protocol="3.1.1")
    if takes:
        made.session.take([Puback(1)])
    made.session.ended(None)
    return made.wire.published[0]


def test_a_broker_that_hangs_up_on_retained_messages_is_found_out_and_it_is_remembered(
    caplog: pytest.LogCaptureFixture,
) -> None:
    terms = Terms()
    assert [hung_up(terms), hung_up(terms)] == [STATE, STATE]
    assert known.FOUND_OUT in caplog.text
    assert terms.fit(STATE) == PLAIN, "the will as well"
    assert [hung_up(terms, takes=True), hung_up(terms), hung_up(terms)] == [PLAIN, PLAIN, PLAIN]
    assert known.NOT_THAT not in caplog.text


def test_a_broker_that_hangs_up_on_all_messages_is_not_taken_for_that(caplog: pytest.LogCaptureFixture) -> None:
    terms = Terms()
    assert [hung_up(terms) for _ in range(3)] == [STATE, STATE, PLAIN]
    assert known.NOT_THAT in caplog.text
    assert hung_up(terms) == STATE


def test_a_broker_that_took_a_retained_message_once_is_never_suspected() -> None:
    terms = Terms()
    hung_up(terms)
    hung_up(terms, takes=True)
    assert [hung_up(terms) for _ in range(5)] == [STATE] * 5


def test_ends_with_nothing_retained_under_way_do_not_count() -> None:
    terms = Terms()
    for _ in range(3):
        hung_up(terms)
        other = Connection(terms=terms)
        other.session.let_in(Granted())
        other.session.ended(None)
    assert terms.retains


def test_a_reset_counts_like_an_end() -> None:
    terms = Terms()
    for _ in range(2):
        connected(terms, protocol="3.1.1").session.broken("", "Connection reset by peer")
    assert not terms.retains


WILL = STATE._replace(payload=b"offline")
PLAIN_WILL = WILL._replace(qos=0, retain=False)


def closed(terms: Terms, protocol: str = "3.1.1") -> BrokerError:
    """Be closed on CONNECT, without a word."""
    terms.will(WILL)
    session = Connection(terms=terms, protocol=protocol).session
    session.ended(None)
    assert session.end is not None
    return session.end


def test_a_broker_that_closes_on_connect_is_tried_at_once_with_a_plain_will(caplog: pytest.LogCaptureFixture) -> None:
    terms = Terms()
    assert type(closed(terms, "5")) is ProtocolRefusedError, "an older protocol comes first"
    assert type(closed(terms)) is AdaptedError
    assert terms.will(WILL) == PLAIN_WILL
    connected(terms, protocol="3.1.1").session.ended(None)
    assert known.WILL in caplog.text
    assert terms.will(WILL) == PLAIN_WILL
    # The will is half of what it takes to be sure of messages.
    assert connected(terms, protocol="3.1.1").wire.published == [PLAIN]


def test_a_broker_that_closes_on_that_too_has_another_reason() -> None:
    terms = Terms()
    for _ in range(3):
        assert type(closed(terms)) is AdaptedError
        assert type(closed(terms)) is BrokerError
        assert terms.will(WILL) == WILL


def test_a_will_is_not_doubted_where_there_is_nothing_to_leave_out_or_messages_are_known_to_be_retained() -> None:
    assert type(closed(Terms(retain=True))) is BrokerError
    without = Connection(protocol="3.1.1").session
    without.ended(None)
    assert type(without.end) is BrokerError
    terms = Terms()
    hung_up(terms, takes=True)
    assert type(closed(terms)) is BrokerError


def test_a_broker_that_grants_qos_0_only_gets_no_more_on_3_1_1(caplog: pytest.LogCaptureFixture) -> None:
    terms = Terms()
    closed(terms)
    terms.will(WILL)
    made = Connection("a", protocol="3.1.1", terms=terms)
    made.session.let_in(Granted())
    made.session.pump()
    made.session.granted_qos_0()
    made.session.subscribed(101, [None])
    made.session.publish(STATE)
    assert made.wire.published == [STATE._replace(qos=0)]
    assert known.NO_QOS in caplog.text
    assert terms.will(WILL) == WILL._replace(qos=0), "that was the reason"
    assert connected(terms, protocol="3.1.1").wire.published == [STATE._replace(qos=0)]


@pytest.mark.parametrize("setting", [True, False])
def test_the_setting_is_not_found_out_about(setting: bool) -> None:
    terms = Terms(retain=setting)
    assert [hung_up(terms).retain for _ in range(4)] == [setting] * 4


def test_not_even_the_setting_retains_where_the_broker_says_that_it_can_not() -> None:
    assert connected(Terms(retain=True), Granted(retain_available=False)).wire.published == [PLAIN]


# -- what is told


@pytest.mark.parametrize(
    ("reason", "says"),
    [
        ("Client identifier not valid", "set mqtt.client_id to one that the broker accepts; this was 'pi'"),
        ("Bad user name or password", "check mqtt.username and mqtt.password_file"),
        ("Not authorized", "check mqtt.username, mqtt.password_file and the broker's access rules"),
        ("Quota exceeded", "raise the broker's limit for this client"),
        ("Server busy", "refused the connection: Server busy"),
        ("Unspecified error", "see the broker's log"),
    ],
)
def test_the_advice_on_a_refusal_fits_its_reason(reason: str, says: str) -> None:
    session = Connection().session
    session.turned_away(reason, reason)
    assert outcome(session).endswith(says)
    assert type(session.end) is BrokerError


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (0x95, "Packet too large; set limits.answer_bytes below the broker's limit"),
        (0x9E, "Shared subscription not supported; remove share from the route"),
        (0x87, "Not authorized; check"),
    ],
)
def test_the_advice_on_an_end_fits_its_reason(code: int, says: str) -> None:
    session = connected(Terms()).session
    session.take([Disconnect(code)])
    assert says in outcome(session)
    assert "another client" not in outcome(session)


def test_another_client_is_only_blamed_when_nothing_else_fits() -> None:
    subscribing = connected(Terms(), None, "a", "b").session
    subscribing.ended(None)
    assert "it was asked for a subscription to 'a', 'b': check the broker's access rules" in outcome(subscribing)

    retained = connected(Terms()).session
    retained.ended(None)
    assert "a retained message was unconfirmed" in outcome(retained)

    large = connected(Terms())
    large.session.publish(Answer("a", bytes(200_000), qos=1))
    large.session.pump()
    large.session.ended(None)
    assert "a message of 200000 bytes was unconfirmed" in outcome(large.session)

    some = connected(Terms())
    some.session.take([Puback(1)])
    some.session.publish(Answer("a/b", b"", qos=1))
    some.session.pump()
    some.session.ended(None)
    assert (
        "if this repeats, the broker's access rules may not allow 'a/b', which was unconfirmed, or another client"
        in (outcome(some.session))
    )

    quiet = connected(Terms())
    quiet.session.take([Puback(1)])
    quiet.session.ended(None)
    assert "if this repeats, another client uses our client id, 'pi'" in outcome(quiet.session)
    assert "or Mosquitto before 2.1 was reloaded, perhaps to rotate its log, and has to be restarted" in outcome(
        quiet.session
    )


@pytest.mark.parametrize(
    ("topic", "slashes"), [("a/b/c/d/e/f/g/h", 0), ("$share/pool/a/b/c/d/e/f/g/h", 0), ("a/b/c/d/e/f/g/h/i", 8)]
)
def test_a_topic_with_more_slashes_than_some_brokers_take_is_named(topic: str, slashes: int) -> None:
    words = f"{topic!r} has {slashes} slashes: some brokers take fewer (AWS IoT: 7)"
    subscribing = connected(Terms(), None, "a", topic).session
    subscribing.ended(None)
    assert (words in outcome(subscribing)) == bool(slashes)

    publishing = connected(Terms())
    publishing.session.publish(Answer(topic, b"", qos=1))
    publishing.session.pump()
    publishing.session.ended(None)
    assert (words in outcome(publishing.session)) == bool(slashes)


@pytest.fixture(autouse=True)
def warnings(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
