"""The difference between subscriptions, with a client that only notes what it is asked to send."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.contract.messages import Refused
from edge_agent.link.granted import Granted
from edge_agent.link.paho_client import Paho
from edge_agent.link.subscriptions import Subscriptions


class Client:
    """paho's client, as far as it is used."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, str, list[Any]]] = []
        self.told: Any = None

    def subscribe(self, filters: list[tuple[str, Any]]) -> tuple[int, int]:
        self.sent.append((len(self.sent) + 1, "subscribe", filters))
        return 0, len(self.sent)

    def unsubscribe(self, filters: list[str]) -> tuple[int, int]:
        self.sent.append((len(self.sent) + 1, "unsubscribe", filters))
        return 0, len(self.sent)

    def reply(self, **refused: str) -> None:
        """Answer everything that was sent, granting what is not in `refused`."""
        sent, self.sent = self.sent, []
        for packet, kind, filters in sent:
            if kind == "unsubscribe":
                self.told.unsubscribed(packet)
            else:
                self.told.subscribed(packet, [refused.get(one) for one, _ in filters])


def asked(client: Client) -> list[tuple[str, list[str]]]:
    """What was sent, without packet ids and options."""
    return [(kind, [one if isinstance(one, str) else one[0] for one in filters]) for _, kind, filters in client.sent]


def start(wanted: dict[str, bool], protocol: str = "3.1.1") -> tuple[Client, Subscriptions]:
    client = Client()
    client.told = subscriptions = Subscriptions(Paho(client, protocol), wanted)
    return client, subscriptions


def make(*filters: str, **refused: str) -> tuple[Client, Subscriptions]:
    client, subscriptions = start(dict.fromkeys(filters, False))
    subscriptions.ask()
    client.reply(**refused)
    assert subscriptions.settled
    return client, subscriptions


def change(client: Client, subscriptions: Subscriptions, *filters: str, anew: tuple[str, ...] = ()) -> Any:
    subscriptions.want(dict.fromkeys(filters, False), anew)
    if subscriptions.waiting:
        subscriptions.ask()
    return asked(client)


def test_all_is_asked_for_at_the_start_in_order_and_nothing_given_back() -> None:
    client, subscriptions = start({"b": False, "a": False})
    assert subscriptions.waiting
    assert not subscriptions.settled
    subscriptions.ask()
    assert (subscriptions.waiting, subscriptions.settled, subscriptions.asked) == (False, False, {1: ["b", "a"]})
    assert asked(client) == [("subscribe", ["b", "a"])]
    client.reply()
    assert subscriptions.settled
    assert start({}, "5")[1].settled


def test_the_new_is_asked_for_before_the_old_is_given_back() -> None:
    client, subscriptions = make("a", "b")
    assert change(client, subscriptions, "b", "c") == [("subscribe", ["c"]), ("unsubscribe", ["a"])]
    assert not subscriptions.settled
    client.reply()
    assert subscriptions.settled


def test_nothing_is_sent_when_nothing_changed() -> None:
    client, subscriptions = make("a", "b")
    assert change(client, subscriptions, "b", "a") == []
    assert subscriptions.settled


def test_what_is_wanted_anew_is_asked_for_again() -> None:
    client, subscriptions = make("a", "b")
    assert change(client, subscriptions, "a", "b", anew=("b",)) == [("subscribe", ["b"])]


def test_what_was_refused_is_asked_for_again_and_forgotten_when_it_is_not_wanted() -> None:
    client, subscriptions = make("a", "b", b="Not authorized")
    assert subscriptions.refused == [Refused("b", "Not authorized")]
    assert change(client, subscriptions, "a", "b") == [("subscribe", ["b"])]
    client.reply(b="still not")
    assert subscriptions.refused == [Refused("b", "still not")]
    assert change(client, subscriptions, "a") == []
    assert subscriptions.refused == []
    assert subscriptions.settled


def test_a_second_change_before_the_first_was_sent_or_answered() -> None:
    client, subscriptions = make("a")
    subscriptions.want({"a": False, "b": False}, ())
    assert change(client, subscriptions, "a", "c") == [("subscribe", ["c"])]
    assert change(client, subscriptions, "a", "d")[1:] == [("subscribe", ["d"]), ("unsubscribe", ["c"])]
    assert sorted(subscriptions.asked) == [1, 2, 3]
    client.reply()
    assert subscriptions.settled


def test_answers_to_what_nobody_asked_do_no_harm() -> None:
    _, subscriptions = make("a")
    subscriptions.subscribed(77, ["no"])
    subscriptions.unsubscribed(78)
    assert (subscriptions.refused, subscriptions.settled) == ([], True)


@pytest.mark.parametrize("retained", [False, True])
def test_retained_messages_come_again_only_where_they_are_wanted(retained: bool) -> None:
    client, subscriptions = start({"a": retained}, "5")
    subscriptions.ask()
    ((_, _, [(_, options)]),) = client.sent
    assert options.QoS == 1
    assert options.retainHandling == (options.RETAIN_SEND_ON_SUBSCRIBE if retained else options.RETAIN_SEND_IF_NEW_SUB)


def test_at_most_eight_filters_a_packet_and_settled_with_the_last_answer() -> None:
    """AWS IoT ends the connection at the ninth."""
    names = [f"a{number}" for number in range(20)]
    client, subscriptions = start(dict.fromkeys(names, False))
    subscriptions.ask()
    assert asked(client) == [("subscribe", names[:8]), ("subscribe", names[8:16]), ("subscribe", names[16:])]
    for packet_id, left in ((2, True), (1, True), (3, False)):
        subscriptions.subscribed(packet_id, ["no" if packet_id == 2 else None] * 8)
        assert subscriptions.settled is not left
    assert subscriptions.refused == [Refused(one, "no") for one in names[8:16]]
    client.sent.clear()
    gone = change(client, subscriptions)
    assert [(kind, len(filters)) for kind, filters in gone] == [("unsubscribe", 8), ("unsubscribe", 4)]


def test_no_packet_is_larger_than_the_broker_takes() -> None:
    client, subscriptions = start(dict.fromkeys(("a" * 40, "b" * 40, "c" * 200, "d"), False))
    subscriptions.granted = Granted(maximum_packet_size=100)
    subscriptions.ask()
    assert [[one[0] for one in filters] for _, filters in asked(client)] == [["a", "b"], ["c"], ["d"]]


@pytest.mark.parametrize(
    ("granted", "reason"),
    [
        (Granted(shared_subscriptions=False), "Shared subscription not supported"),
        (Granted(wildcards=False), "Wildcard subscription not supported"),
    ],
)
def test_what_the_broker_does_not_have_is_not_asked_for_and_refused_with_the_reason(
    granted: Granted, reason: str
) -> None:
    client, subscriptions = start({"$share/pool/a/+": False, "b": False})
    subscriptions.granted = granted
    subscriptions.ask()
    assert asked(client) == [("subscribe", ["b"])]
    client.reply()
    assert subscriptions.settled
    assert subscriptions.refused == [Refused("$share/pool/a/+", reason)]
    # It is looked at again when the loop asks for refused ones, and given up for good when it is not wanted any more.
    assert change(client, subscriptions, "$share/pool/a/+", "b") == []
    assert subscriptions.refused == [Refused("$share/pool/a/+", reason)]
    assert change(client, subscriptions, "b") == []
    assert subscriptions.refused == []


@given(steps=st.lists(st.tuples(st.sets(st.sampled_from("abcd")), st.sets(st.sampled_from("abcd")), st.booleans())))
def test_whatever_comes_the_broker_has_what_is_wanted_in_the_end(
    steps: list[tuple[set[str], set[str], bool]],
) -> None:
    """Each step wants some filters, some of them refused, and is answered or overtaken by the next one."""
    client, subscriptions = make("a")
    held = {"a"}

    def serve(refused: set[str]) -> None:
        for kind, filters in asked(client):
            held.difference_update(filters)
            if kind == "subscribe":
                held.update(set(filters) - refused)
        client.reply(**dict.fromkeys(refused, "no"))

    for wanted, refused, answered in steps:
        change(client, subscriptions, *wanted)
        if answered:
            serve(refused)
    serve(set())
    change(client, subscriptions, "b", "c")
    serve(set())
    assert held == {"b", "c"}
    assert subscriptions.settled


def test_filters_from_before_are_given_back_once_unless_they_are_wanted() -> None:
    client, subscriptions = start({"a": False})
    left = {"a", "old", "older"}
    subscriptions.inherit(left)
    subscriptions.ask()
    (first, second) = asked(client)
    assert first == ("subscribe", ["a"])
    assert (second[0], sorted(second[1])) == ("unsubscribe", ["old", "older"])
    assert not subscriptions.settled
    client.reply()
    assert (subscriptions.settled, left) == (True, {"a"})
    subscriptions.inherit(left)
    assert not subscriptions.waiting


def test_one_from_before_that_is_wanted_again_is_subscribed_to() -> None:
    client, subscriptions = start({"a": False})
    left = {"old"}
    subscriptions.inherit(left)
    subscriptions.want({"a": False, "old": False}, ())
    subscriptions.ask()
    assert asked(client) == [("subscribe", ["a", "old"])]
    assert left == set()


def test_what_was_not_confirmed_is_given_back_on_the_next_connection() -> None:
    left = {"old"}
    for confirms in (False, True):
        client, subscriptions = start({})
        subscriptions.inherit(left)
        subscriptions.ask()
        assert asked(client) == [("unsubscribe", ["old"])]
        if confirms:
            client.reply()
    assert left == set()


def test_each_is_given_back_once_on_a_connection_whatever_comes() -> None:
    client, subscriptions = start({})
    for _ in range(3):
        subscriptions.inherit({"old"})
        if subscriptions.waiting:
            subscriptions.ask()
    assert asked(client) == [("unsubscribe", ["old"])]
    client.reply()
    for number in range(3000):
        subscriptions.inherit({f"{number}"})
    subscriptions.ask()
    assert sum(len(filters) for _, filters in asked(client)) == 999
