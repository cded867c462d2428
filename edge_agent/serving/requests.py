"""Management requests, `edge/{node}/request/{verb}`: the registry of verbs, `VERBS`.

To add a verb: a function here, which returns one of the dictionaries in `edge_agent.contract.messages`, a line in `VERBS`, and a
row in the tables of docs/messages.md, without which a test fails.

Rules:

* each request gets one answer; above `_A_SECOND` requests a second it is `busy`;
* a request is cheap to answer, however many sensors there are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from edge_agent.contract import topics
from edge_agent.contract.messages import Busy, Health, Info, Message, Pong, Status, UnknownVerb
from edge_agent.contract.progress import Installing

#: Requests answered per second; further ones are answered `busy`.
_A_SECOND: Final = 20
#: Most bytes of a ping's payload that are returned, and most characters of an unknown verb.
_PING_BYTES: Final = 1024
_VERB_CHARACTERS: Final = 64
#: Longest name of a model that is read, in bytes.
_NAME_BYTES: Final = 256


class Subject(NamedTuple):
    """What requests ask about: the node's id, its info, its health as of before the message that asks, and the time of
    day; `install` installs the models of a name (empty: all) that wait for that, and returns their names, or why there
    are none.
    """

    node: str
    info: Callable[[], Info]
    health: Callable[[Message], Health]
    now: Callable[[], str]
    install: Callable[[str], tuple[list[str], str | None]]


class Verb(NamedTuple):
    """A kind of request: its name, its answer in a few words, and the function that makes the answer."""

    name: str
    about: str
    answer: Callable[[Subject, Message], Any]


class Requests:
    """Answers the requests to `node`. `clock` gives seconds."""

    def __init__(self, node: str, clock: Callable[[], float]) -> None:
        self._template = topics.request(node)
        self._clock = clock
        self._second = 0.0
        self._answered = 0

    def verb(self, topic: str) -> str | None:
        """Return the verb of a request to this node, None for any other topic."""
        found = self._template.match(topic) if topic.startswith(topics.ROOT) else None
        return None if found is None else found["verb"]

    def answer(self, verb: str, message: Message, subject: Subject) -> Any:
        """Return the answer to a request, one of the dictionaries in `edge_agent.contract.messages`."""
        if self._is_too_much():
            return Busy(error="busy", verb=verb[:_VERB_CHARACTERS], retry_after=1)
        found = VERBS.get(verb)
        if found is None:
            return UnknownVerb(error="unknown_verb", verb=verb[:_VERB_CHARACTERS], known=sorted(VERBS))
        return found.answer(subject, message)

    def _is_too_much(self) -> bool:
        now = self._clock()
        if now - self._second >= 1.0:
            self._second, self._answered = now, 0
        self._answered += 1
        return self._answered > _A_SECOND


def _ping(subject: Subject, message: Message) -> Pong:
    payload = message.payload[:_PING_BYTES].decode(errors="replace") or None
    return Pong(pong=payload, node=subject.node, time=subject.now())


def _info(subject: Subject, message: Message) -> Info:  # noqa: ARG001 - as all verbs
    return subject.info()


def _status(subject: Subject, message: Message) -> Status:
    info = subject.info()
    health = subject.health(message)
    return Status(
        node=subject.node,
        agent=info["agent"],
        mqtt=info["mqtt"],
        state=info["state"],
        reason=info["reason"],
        **health,
    )


def _install(subject: Subject, message: Message) -> Installing:
    name = message.payload[:_NAME_BYTES].decode(errors="replace").strip()
    installing, reason = subject.install(name)
    return Installing(installing=installing, reason=reason)


#: The verbs by name, in the order of docs/messages.md.
VERBS: Final[dict[str, Verb]] = {
    verb.name: verb
    for verb in (
        Verb("ping", "the request's payload", _ping),
        Verb("info", "the same as on edge/{node}/info", _info),
        Verb("status", "current health", _status),
        Verb("install", "what models are installed now", _install),
    )
}
