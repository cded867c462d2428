"""Which filter ends the connection: found out over connections, with a broker that closes without a word."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.contract.messages import Answer, Refused
from edge_agent.errors import BrokerError, NarrowedError
from edge_agent.link.granted import ENDS, Granted, advice_on
from edge_agent.link.packets import Disconnect
from edge_agent.link.terms import Terms
from tests.unit.sessions import ADDRESS, Connection

REQUESTS = "edge/pi/request/+"
#: More than two packets.
MANY = [REQUESTS, *(f"r{number}/+/in" for number in range(19))]


class Broker:
    """Grants filters, but ends the connection over some, given all that it has granted on that connection."""

    def __init__(self, ends_over: Callable[[str, Collection[str]], bool], protocol: str = "5") -> None:
        self.ends_over = ends_over
        self.protocol = protocol
        self.terms = Terms()
        #: Of its DISCONNECT; this one has no reason.
        self.code = 0
        #: How the connections ended, and what was granted and refused on the last one.
        self.ends: list[BrokerError] = []
        self.granted: list[str] = []

    def connect(self, *filters: str) -> Connection:
        made = Connection(*filters, protocol=self.protocol, terms=self.terms)
        self.granted = []
        made.session.let_in(Granted())
        self.serve(made)
        return made

    def serve(self, made: Connection, *, seconds: float = 10.0) -> None:
        """Go on until the connection ends, or is ready; `seconds` is how long it may take."""
        served = len(made.asker.sent) if made.session.ready else 0
        while made.session.end is None and not made.session.ready and seconds > 0:
            made.session.pump()
            for number, (kind, filters) in enumerate(made.asker.sent[served:], start=101 + served):
                assert kind == "subscribe"
                for one in filters:
                    if self.ends_over(one, self.granted):
                        made.session.take([Disconnect(self.code)])
                        break
                    self.granted.append(one)
                if made.session.end is None:
                    made.session.subscribed(number, [None] * len(filters))
            served = len(made.asker.sent)
            made.wait(0.25)
            seconds -= 0.25
        if made.session.end is not None:
            self.ends.append(made.session.end)

    def settle(self, *filters: str, most: int = 100) -> Connection:
        """Connect until a connection stays."""
        for _ in range(most):
            if (made := self.connect(*filters)).session.ready:
                return made
        raise AssertionError(self.ends)


def forbids(*forbidden: str) -> Callable[[str, Collection[str]], bool]:
    return lambda one, _: one in forbidden


def refused(made: Connection) -> list[Refused]:
    return made.session.subscriptions.refused


def again(made: Connection, *filters: str) -> None:
    made.session.subscribe(dict.fromkeys(filters, False), [one.topic for one in refused(made)])


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_one_of_many_is_found_and_the_others_are_granted(protocol: str) -> None:
    broker = Broker(forbids("r11/+/in"), protocol)
    made = broker.settle(*MANY)
    assert refused(made) == [Refused("r11/+/in", ENDS)]
    assert sorted(broker.granted) == sorted({*MANY} - {"r11/+/in"})
    assert len(broker.ends) == 5, "as ever, a packet at a time, and three times alone"
    assert {type(end) for end in broker.ends} == {NarrowedError}
    narrowed = [end for end in broker.ends if isinstance(end, NarrowedError)]
    assert [end.nearer for end in narrowed] == [False] + [True] * 4, "a first end may well be a restart"
    assert [end.found for end in narrowed] == [False] * 4 + [True]
    assert "'r11/+/in': check the broker's access rules" in str(broker.ends[-1])


def test_it_is_not_asked_for_on_later_connections_which_are_as_ever() -> None:
    broker = Broker(forbids("r11/+/in"))
    broker.settle(*MANY)
    made = broker.connect(*MANY)
    assert made.session.ready
    assert refused(made) == [Refused("r11/+/in", ENDS)]
    made = Connection(*MANY, terms=broker.terms)
    made.session.let_in(Granted())
    made.session.pump()
    assert [len(filters) for _, filters in made.asker.sent] == [8, 8, 3], "all at once"


@pytest.mark.parametrize("forbidden", [MANY[3:5], [MANY[0], MANY[19]], MANY[2:12], MANY[:19], MANY])
def test_several_are_found_sooner(forbidden: list[str]) -> None:
    broker = Broker(forbids(*forbidden))
    made = broker.settle(*MANY)
    assert {one.topic for one in refused(made)} == {*forbidden}
    assert {*broker.granted} == {*MANY} - {*forbidden}
    assert len(broker.ends) <= 8 + len(forbidden)


def test_a_broker_that_takes_only_so_many_has_so_many() -> None:
    broker = Broker(lambda _, granted: len(granted) >= 10)
    made = broker.settle(*MANY)
    assert len(broker.granted) == 10
    assert len(refused(made)) == 10


def test_a_limit_that_does_not_fall_between_two_packets() -> None:
    broker = Broker(lambda _, granted: "a" in granted)
    made = broker.settle("a", "b", "c")
    assert (broker.granted, [one.topic for one in refused(made)]) == (["a"], ["b", "c"])


@pytest.mark.parametrize(
    ("one", "code", "reason"),
    [
        ("x/+", 0x87, f"{ENDS}: Not authorized"),
        ("a/b/c/d/e/f/g/h/+", 0, f"{ENDS}: 'a/b/c/d/e/f/g/h/+' has 8 slashes: some brokers take fewer (AWS IoT: 7)"),
    ],
)
def test_the_reason_of_the_broker_and_too_many_slashes_are_told(one: str, code: int, reason: str) -> None:
    broker = Broker(forbids(one))
    broker.code = code
    assert refused(broker.settle("y", one)) == [Refused(one, reason)]
    assert "access rules" in advice_on(reason)


# -- what is no reason to suspect a filter


def test_ends_with_nothing_unanswered_convict_nothing() -> None:
    broker = Broker(forbids())
    for _ in range(20):
        made = broker.connect(*MANY)
        made.session.ended(None)
        assert type(made.session.end) is BrokerError
    assert refused(broker.connect(*MANY)) == []


def test_a_broker_that_ends_every_connection_at_once_convicts_nothing() -> None:
    """One that is in disorder, or is being restarted: a filter would have to be asked for later than that."""
    broker = Broker(lambda *_: True)
    for _ in range(50):
        made = Connection(*MANY, terms=broker.terms)
        made.session.let_in(Granted())
        made.session.pump()
        made.session.ended(None)
    broker.ends_over = forbids()
    assert refused(broker.settle(*MANY)) == []


@given(st.lists(st.integers(0, 30), max_size=40), st.sets(st.sampled_from(MANY), max_size=3))
def test_a_broker_that_is_restarted_whenever_it_likes_convicts_nothing_for_long(
    moments: list[int], forbidden: set[str]
) -> None:
    """Each number is after how many answers it ends a connection; some filters it forbids all the time."""
    broker = Broker(forbids(*forbidden))
    broker.settle(*MANY)
    for moment in moments:
        left = moment

        def over(one: str, _granted: Collection[str]) -> bool:
            nonlocal left
            left -= 1
            return left < 0 or one in forbidden

        broker.ends_over = over
        made = broker.connect(*MANY)
        if made.session.ready:
            made.session.ended(None)
    broker.ends_over = forbids(*forbidden)
    for _ in range(1 + len(forbidden)):  # each of these may come before one that is convicted wrongly
        made = broker.settle(*MANY)
        again(made, *MANY)
        broker.serve(made)
    assert {one.topic for one in refused(broker.settle(*MANY))} == forbidden


@pytest.mark.parametrize("forbidden", [[], ["b1/+"], ["b1/+", "b2/+", "b3/+"]])
def test_what_was_granted_before_is_convicted_by_three_ends_whatever_else_is(forbidden: list[str]) -> None:
    """A broker that is in trouble for a moment: it lets us in, and ends the connection over any SUBSCRIBE."""
    broker = Broker(forbids(*forbidden))
    wanted = [REQUESTS, *forbidden, *MANY[1:]]
    broker.settle(*wanted)
    broker.ends_over = lambda *_: True
    found = []
    for _ in range(2 + 3 * 3):
        made = broker.connect(*wanted)
        assert isinstance(made.session.end, NarrowedError)
        found.append(made.session.end.found)
    assert found == [False, False] + [False, False, True] * 3


def test_what_was_convicted_long_ago_convicts_nothing_sooner() -> None:
    broker = Broker(forbids("b1/+", "b2/+"))
    broker.settle("b1/+", "b2/+")
    broker.ends_over = lambda *_: True
    for _ in range(3):
        broker.connect("b1/+", "b2/+", "new/+")
    assert broker.terms.narrowing.refusal("new/+") is None
    broker.connect("b1/+", "b2/+", "new/+")
    assert broker.terms.narrowing.refusal("new/+") is not None


def test_what_is_not_mqtt_convicts_nothing() -> None:
    """It is we who end the connection then."""
    broker = Broker(forbids())
    for _ in range(10):
        made = Connection("a", terms=broker.terms)
        made.session.let_in(Granted())
        for _ in range(8):
            made.session.pump()
            made.wait(0.25)
        made.session.broken("it sent what is not MQTT 5", ours=True)
        assert type(made.session.end) is BrokerError
    assert not broker.terms.narrowing.careful
    assert broker.terms.narrowing.refusal("a") is None


def test_a_connection_stands_for_its_second_with_the_shortest_timeout() -> None:
    broker = Broker(forbids("a"))
    for _ in range(3):
        broker.connect("a")
    made = Connection("a", terms=broker.terms, address=replace(ADDRESS, connect_timeout=0.1))
    made.session.let_in(Granted())
    for _ in range(20):
        made.session.pump()
        made.wait(0.05)
    made.session.pump()
    assert made.asker.sent == [("subscribe", ["a"])]
    assert made.session.end is None
    for _ in range(4):
        made.wait(0.1)
    assert "no answer to CONNECT or SUBSCRIBE" in str(made.session.end)


def test_farewells_and_our_own_impatience_convict_nothing() -> None:
    terms = Terms()
    for _ in range(10):
        made = Connection("a", terms=terms)
        made.session.let_in(Granted())
        made.session.pump()
        made.session.take([Disconnect(0x8B)])
    assert not terms.narrowing.careful
    for _ in range(10):
        made = Connection("a", "b", terms=terms)
        made.session.let_in(Granted())
        made.session.pump()
        made.session.ended(None)
        made = Connection("a", "b", terms=terms)
        made.session.let_in(Granted())
        made.session.pump()
        assert terms.narrowing.careful
        for _ in range(10):
            made.wait(1.0)
        assert "no answer to CONNECT or SUBSCRIBE" in str(made.session.end)
        assert not terms.narrowing.careful
    assert terms.narrowing.refusal("a") is None


# -- while it is looked for


def test_nothing_else_is_sent_until_all_is_answered() -> None:
    broker = Broker(forbids(MANY[0]))
    broker.connect(*MANY)
    made = Connection(*MANY, terms=broker.terms)
    made.session.let_in(Granted())
    made.session.publish(Answer("edge/pi/state", b"online", qos=1))
    for number, count in ((101, 8), (102, 8), (103, 4)):
        made.session.pump()
        made.session.pump()
        assert [len(filters) for _, filters in made.asker.sent][-1] == count
        assert made.wire.published == []
        made.session.subscribed(number, [None] * count)
    assert len(made.asker.sent) == 3
    made.session.pump()
    assert made.session.ready
    made.session.pump()
    assert len(made.wire.published) == 1


def test_a_suspect_is_asked_for_when_the_connection_has_stood_and_was_looked_at() -> None:
    broker = Broker(forbids("a"))
    for _ in range(3):
        broker.connect("a")  # as ever, and twice alone
    made = Connection("a", terms=broker.terms)
    made.session.let_in(Granted())
    for asked in (0, 0, 0, 0, 1):
        made.session.pump()
        assert len(made.asker.sent) == asked
        made.wait(0.25)
    late = Connection("a", terms=broker.terms)
    late.session.let_in(Granted())
    late.clock.advance(60)
    late.session.pump()
    assert late.asker.sent == [], "it may have ended long ago"


# -- later on
