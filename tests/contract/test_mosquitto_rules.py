"""The doctor reads Mosquitto's access rules as Mosquitto does."""

from __future__ import annotations

import pytest

from edge_agent.doctor.mosquitto import Client, reads, rules_for
from tests.contract.conftest import Connect, MosquittoFactory

#: Who writes the trial messages may write everything.
_ALL = "topic write #\n"
TOPICS = ("t", "t/a", "t/a/b", "t/b", "t/a b", "u/a/b", "u")


@pytest.mark.parametrize(
    "rules",
    [
        "",
        "topic read t/a",
        "topic t/a",
        "topic readwrite t/+",
        "topic read t/#",
        "topic read +/a/b",
        "topic read #",
        "topic read t/#\ntopic deny t/a",
        "topic deny t/a\ntopic read t/#",
        "topic read t/a b",
        "topic read t/a/#",
        "pattern read t/a\ntopic read u",
        "pattern read t/%u",
        "user anna\ntopic read t/#",
        "topic read u/+/+\nuser anna\ntopic read t/#",
        "# topic read t/#",
        "topic write t/#",
    ],
)
def test_as_mosquitto_reads_them(mosquitto: MosquittoFactory, connect: Connect, rules: str) -> None:
    acl = f"topic read test/#\n{_ALL}{rules}\n"
    client = connect(mosquitto(acl=acl))
    client.subscribe("#")
    for topic in TOPICS:
        client.publish(topic, "x", qos=1)
    client.barrier()
    known = list(rules_for(acl, Client(None, "whoever")))
    expected = [topic for topic in TOPICS if reads(known, topic) == "all"]
    assert [message.topic for message in client.seen() if not message.topic.startswith("test/")] == expected
