"""AWS IoT, played: it closes the connection, without a reason, on a topic with more than 7 slashes and on what its policy forbids."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.cloud import AWS, EMQX, Limits
from tests.contract.agents import NODE, PROTOCOLS, STATE, RunningAgent, wait_for_line
from tests.contract.test_played import ANSWERED, ASKED, is_answered, look, ready
from tests.e2e.tracks import ROCK
from tests.played import PlayedBroker

#: Ends of a connection until an input is found whose answer is the reason, and its rejection as well.
ENDS = 12
DEEP = "a/response/1/2/3/4/5/6/7/8"
#: The other sensor, which has to be answered whatever becomes of the first.
ATTIC = "music/attic/features", json.dumps({**ROCK, "id": 2}).encode()


def allows_all_but(*topics: str) -> Limits:
    return replace(AWS, title="AWS IoT Core, with a policy", allows=lambda topic: topic not in topics)


def gets_through(broker: PlayedBroker, caplog: pytest.LogCaptureFixture, agent: RunningAgent, topic: str) -> None:
    """The input whose answer on `topic` ends the connection is found; what came behind it is answered."""
    assert json.loads(broker.wait_for("music/attic/genre")[0])["id"] == 2
    assert agent.agent.tally.poisoned == 1
    line = wait_for_line(caplog, f"{ASKED!r}: its answer", "ended the connection each time")
    assert f"on {topic!r}" in line
    ends = len(broker.thrown_out)
    broker.ask("music/cellar/features", json.dumps(ROCK).encode())
    broker.wait_for("music/cellar/genre")
    assert len(broker.thrown_out) == ends


def test_a_response_topic_with_too_many_slashes(caplog: pytest.LogCaptureFixture) -> None:
    mqtt = {"protocol": "5", "response_topics": ["+/response/#"]}
    with PlayedBroker(AWS, patience=ENDS) as broker, RunningAgent(broker.port, mqtt=mqtt) as agent:
        ready(broker)
        broker.ask(ASKED, json.dumps(ROCK).encode(), DEEP)
        broker.ask(*ATTIC)
        gets_through(broker, caplog, agent, DEEP)
        assert json.loads(broker.wait_for(f"{ANSWERED}/error")[0])["error"] == "undeliverable"
    assert f"{DEEP!r} has 9 slashes: some brokers take fewer (AWS IoT: 7)" in caplog.text


@PROTOCOLS
@pytest.mark.parametrize("forbidden", [(ANSWERED,), (ANSWERED, f"{ANSWERED}/error")], ids=["output", "errors, too"])
def test_an_output_that_the_policy_forbids(
    forbidden: tuple[str, ...], protocol: str, caplog: pytest.LogCaptureFixture
) -> None:
    limits = allows_all_but(*forbidden)
    with PlayedBroker(limits, patience=ENDS) as broker, RunningAgent(broker.port, mqtt={"protocol": protocol}) as agent:
        ready(broker)
        broker.ask(ASKED, json.dumps(ROCK).encode())
        broker.ask(*ATTIC)
        gets_through(broker, caplog, agent, ANSWERED)
        assert len(broker.said(f"{ANSWERED}/error")) == (len(forbidden) == 1)
    assert f"the broker's access rules may not allow {ANSWERED!r}, which was unconfirmed" in caplog.text


@PROTOCOLS
def test_a_subscription_that_the_policy_refuses(protocol: str, caplog: pytest.LogCaptureFixture) -> None:
    """The other routes are served, and the agent says what is missing."""
    limits = replace(AWS, refuses=lambda one: one == "x/+/in")
    route = [{}, {"subscribe": "x/{sensor}/in", "publish": "x/{sensor}/out"}]
    with (
        PlayedBroker(limits) as broker,
        RunningAgent(broker.port, mqtt={"protocol": protocol}, route=route),
    ):
        broker.wait_for_payload(STATE, b"degraded")
        is_answered(broker)
        assert "x/+/in" in wait_for_line(caplog, "x/+/in")
    assert broker.thrown_out == []


TWELVE = [{"subscribe": f"r{n}/{{sensor}}/in", "publish": f"r{n}/{{sensor}}/out"} for n in range(12)]


#: A handshake that takes long is no reason to begin the search anew.
UNHURRIED = {"connect_timeout": 60.0}


class Retries:
    """How many times the agent may have retried by itself since this was made: on most machines not once, for the first retry
    comes 30 s after it is degraded.
    """

    def __init__(self) -> None:
        self._began = time.monotonic()

    @property
    def most(self) -> int:
        return int((time.monotonic() - self._began) // 30)


def answers_on_the_same_connection(broker: PlayedBroker, room: str, retries: Retries) -> int:
    """Return how many connections had ended when the node was degraded; none has when it answers after that."""
    broker.wait_for_payload(STATE, b"degraded")
    ends = broker.ends_before(STATE, b"degraded")
    broker.ask(f"{room}/x/in", json.dumps(ROCK).encode())
    assert json.loads(broker.wait_for(f"{room}/x/out")[0])["label"] == "Rock"
    assert broker.ends_before(f"{room}/x/out") <= ends + retries.most
    return ends


def serves_all_but(broker: PlayedBroker, forbidden: str, caplog: pytest.LogCaptureFixture, retries: Retries) -> int:
    """The others are answered, on a connection that stays; what is missing is said. Return how many have ended."""
    ends = answers_on_the_same_connection(broker, "r11", retries)
    info = json.loads(broker.said(f"edge/{NODE}/info")[-1])
    reason = f"subscription to {forbidden!r} refused: the broker ends the connection over it"
    assert (info["state"], info["reason"][: len(reason)]) == ("degraded", reason)
    wait_for_line(caplog, reason, "allow it in the broker's access rules", "retrying in 30 s")
    return ends


@PROTOCOLS
def test_a_subscription_that_ends_the_connection_is_found(protocol: str, caplog: pytest.LogCaptureFixture) -> None:
    retries = Retries()
    with (
        PlayedBroker(allows_all_but("r4/+/in"), patience=ENDS) as broker,
        RunningAgent(broker.port, mqtt={"protocol": protocol, **UNHURRIED}, route=TWELVE),
    ):
        assert serves_all_but(broker, "r4/+/in", caplog, retries) == 5
    assert len(broker.thrown_out) <= 5 + retries.most


@PROTOCOLS
def test_one_that_it_allows_later_is_granted_with_a_reload(protocol: str) -> None:
    forbidden = ["r4/+/in"]
    limits = replace(AWS, title="AWS IoT Core, with a policy", allows=lambda topic: topic not in forbidden)
    retries = Retries()
    with (
        PlayedBroker(limits, patience=ENDS) as broker,
        RunningAgent(broker.port, mqtt=(mqtt := {"protocol": protocol, **UNHURRIED}), route=TWELVE) as agent,
    ):
        broker.wait_for_payload(STATE, b"degraded")
        ends = len(broker.thrown_out)
        agent.reload(broker.port, mqtt=mqtt, route=TWELVE)
        broker.wait(lambda: len(broker.thrown_out) > ends, "it is not tried again")
        broker.wait(
            lambda: broker.said(STATE)[-1] == b"degraded" and len(broker.said(STATE)) > 2, "it does not come back"
        )
        forbidden.clear()
        agent.reload(broker.port, mqtt=mqtt, route=TWELVE)
        ready(broker)
        broker.ask("r4/x/in", json.dumps(ROCK).encode())
        assert json.loads(broker.wait_for("r4/x/out")[0])["label"] == "Rock"
        assert ends + 1 <= len(broker.thrown_out) <= ends + 1 + retries.most


@PROTOCOLS
def test_a_broker_that_takes_only_so_many_filters(protocol: str) -> None:
    """The first ones are served: that of the agent's own requests, and those of nine routes."""
    limits = replace(EMQX, title="ten topic filters", max_filters=10)
    retries = Retries()
    with (
        PlayedBroker(limits, patience=3 * ENDS) as broker,
        RunningAgent(broker.port, mqtt={"protocol": protocol, **UNHURRIED}, route=TWELVE),
    ):
        answers_on_the_same_connection(broker, "r8", retries)
        assert json.loads(broker.said(f"edge/{NODE}/info")[-1])["reason"].endswith(", and 2 more")


@pytest.mark.parametrize(
    ("subscribe", "words"),
    [
        pytest.param(
            "b/c/d/e/f/g/h/{sensor}/in",
            "b/c/d/e/f/g/h/+/in: the broker ends the connection over it: 'b/c/d/e/f/g/h/+/in' has 8 slashes",
            id="slashes",
        ),
        pytest.param("x/{sensor}/in", "x/+/in: the broker ends the connection over it", id="policy"),
    ],
)
@PROTOCOLS
def test_check_tells_which_subscription_ends_the_connection(
    subscribe: str, words: str, protocol: str, tmp_path: Path
) -> None:
    limits = allows_all_but("x/+/in")
    lines = f'[[route]]\nsubscribe = "{subscribe}"\npublish = "x/{{sensor}}/out"\n'
    with PlayedBroker(limits, patience=ENDS) as broker:
        broker.keep(STATE, b"offline")
        found = look(broker.port, tmp_path, f'protocol = "{protocol}"\n{lines}')
    (one,) = [one for one in found if one["verdict"] == "fail"]
    assert (one["what"], one["message"][: len(words)]) == ("subscribe", words)
    assert one["mend"].startswith("allow it in the broker's access rules")
    assert "publish" in {one["what"] for one in found}, "it goes on with the rest"


@PROTOCOLS
def test_check_where_the_policy_forbids_its_trial_message(protocol: str, tmp_path: Path) -> None:
    """Devices need not publish to their inputs: the check notes it, and goes on with the rest."""
    with PlayedBroker(allows_all_but("music/edge-agent-check/features")) as broker:
        broker.keep(STATE, b"offline")
        found = look(broker.port, tmp_path, f'protocol = "{protocol}"')
    about = [one for one in found if one["what"] in {"broker", "subscribe", "publish"}]
    assert [one for one in about if one["verdict"] == "fail"] == []
    (said,) = [one["message"] for one in about if "music/edge-agent-check/features" in one["message"]]
    assert said.startswith("music/+/features: granted; the broker ends the connection over a trial message on")
    (requests,) = [one for one in about if one["message"].startswith(f"edge/{NODE}/request/+")]
    assert requests["verdict"] == "ok"
    assert "publish" in {one["what"] for one in about}
