"""Holds every message that a test's clients get against the documents of the test's agents.

What an agent may have published is what stands in its document as sent: on a topic of one of those channels a message has to be valid
by one of the documents, of which a reload adds one. What the test itself published is its own business.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from typing import Any, Final, NamedTuple

from edge_agent.config.settings import Settings
from edge_agent.docs import asyncapi
from edge_agent.docs.served import Served
from tests.described import Document

#: Messages of one test that are looked at: of more, as many, evenly spread.
_MOST: Final = 500


class Came(NamedTuple):
    """A message that a client got."""

    topic: str
    payload: bytes
    content_type: str | None


class Witness:
    """What came in one test, and by what it is judged."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Begin to look, for a test."""
        #: What the agents serve, in the order in which they began to.
        self._known: dict[_Known, None] = {}
        self.came: list[Came] = []
        #: What clients published: topics and payloads; and the Response Topics that they named.
        self.published: set[tuple[str, bytes]] = set()
        self.response_topics: set[str] = set()

    def served(self, settings: Settings, models: dict[str, Served]) -> None:
        """Note what an agent serves from now on."""
        # Whatever the port, which is another one each time: so documents are made once.
        same = settings.model_copy(update={"mqtt": settings.mqtt.model_copy(update={"port": 1883})})
        names = tuple(sorted((name, one.sha256) for name, one in models.items()))
        self._known[_Known(same.model_dump_json(), names, same, models)] = None

    def wrong(self) -> Iterator[str]:
        """Yield what is wrong with the messages."""
        theirs = [one for one in dict.fromkeys(self.came) if (one.topic, one.payload) not in self.published]
        looked_at = theirs[:: 1 + len(theirs) // _MOST]
        documents = [_document(known) for known in self._known] if looked_at else []
        for one in looked_at:
            said = [document.wrong(*one) for document in documents if document.sends(one.topic)]
            if one.topic in self.response_topics:
                said += [document.wrong(*one, answer=True) for document in documents]
            if said and all(said):
                yield f"{one.topic} {one.payload[:500]!r} ({one.content_type}): {said[-1][:3]}"


class _Known:
    """Settings and models by what tells them apart."""

    def __init__(self, *what: Any) -> None:
        self._told, self._names, self.settings, self.models = what

    def __hash__(self) -> int:
        return hash((self._told, self._names))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Known) and (self._told, self._names) == (other._told, other._names)


@cache
def _document(known: _Known) -> Document:
    return Document(json.loads(asyncapi.write(known.settings, known.models)))


#: Of the test that runs now.
current: Final = Witness()
