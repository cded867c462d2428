"""Which devices Home Assistant knows of this node, and what it has to be told next.

Rules:

* a topic is announced once it has been answered; the answers after that cost one comparison;
* what is announced stands in a retained record of ours before (`edge_agent.serving.recorded`), so that whoever is started next can
  take it back. Until the record of the former run has come, or does not come any more, nothing is announced; one that comes later
  still counts;
* a turn of the loop sends a few messages, and one only while much is in flight: live traffic goes first. What a new plan answers
  for the first time is announced at once, before the answer (`first`): Home Assistant ignores a label that it does not know;
* there are at most `limit` topics, and no more than the broker takes a record of. Room is made by those of former runs that were not
  answered since;
* what comes from the broker comes from anyone. Of the record only topics of our own routes are believed, and of discovery messages only
  our own are cleared; `online` is answered once in some seconds, however often it is said.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Final

from edge_agent.contract import topics
from edge_agent.contract.messages import JSON_TYPE, Answer, Message, Refused
from edge_agent.routing.routes import Route
from edge_agent.serving import home_assistant, recorded
from edge_agent.serving.home_assistant import About, Kind
from edge_agent.serving.recorded import Awaited, Line, cleared
from edge_agent.wording import LOGGED

_log = logging.getLogger(__name__)

#: Messages of one turn; while so many or more messages are in flight, only one.
_BURST: Final = 20
_BUSY: Final = 100
#: Seconds between two records of what was announced, and between two answers to `online`; topics for each of which there is one
#: second more.
_PAUSE: Final = 1.0
_PAUSE_ONLINE: Final = 5.0
_A_SECOND_MORE: Final = 1000


class Discovery:
    """The announcements of one node. `kinds` are its routes whose models are there; `clock` gives seconds. One that is
    `retired` takes back what was announced, and says nothing of the node.
    """

    def __init__(
        self, about: About, kinds: Sequence[Kind], *, limit: int, clock: Callable[[], float], retired: bool = False
    ) -> None:
        self.about = about
        self._is_retired = retired
        #: Topics of answers that are announced, or about to be; another edition whenever some have left.
        self.known, self.edition = dict[str, Kind](), 1
        #: Topics that a former run or plan announced, and that were not answered since.
        self._former: dict[str, Kind] = {}
        self._kinds = {kind.route: kind for kind in kinds}
        self._by_publish = {kind.route.publish.text: kind for kind in reversed(kinds)}  # the first of several
        self._limit = limit
        #: How many the broker takes a record of, as far as it is known.
        self._most = limit
        self._clock = clock
        # Plain dicts, oldest first: finding the first of 10,000 behind those that are gone takes 3 us, an announcement a hundred,
        # and an OrderedDict four times the memory.
        #: Retained messages that are to be cleared, and those that were, as long as the broker has not confirmed all of it.
        self._gone: dict[str, None] = {}
        self._cleared: dict[str, None] = {}
        #: What the node says of itself and its models, and models that it had, until the broker has confirmed that; topics that wait
        #: for the record, and that are to be announced.
        self._own: list[Answer] = []
        self._gone_models: dict[str, None] = {}
        self._new: dict[str, None] = {}
        self._queue: dict[str, None] = {}
        #: Topics whose former announcement had other entities.
        self._reshaped: set[str] = set()
        self._first: list[Answer] = []
        self._is_recorded = False
        self._next_record = 0.0
        self._awaited = Awaited(clock)
        #: Whether Home Assistant has said that it is online, and when that may be answered.
        self._is_asked = False
        self._next_online = 0.0
        self._is_forbidden = False
        self._is_full_told = False
        #: Whether there is nothing to say or to wait for. Each turn of the loop looks here, so it is worked out only in one that
        #: was not idle, and whatever may make work says so.
        self.is_idle = False

    @property
    def subscriptions(self) -> dict[str, bool]:
        """What it listens to, each with whether what the broker has retained is wanted on every connection."""
        return {self.about.status: False, topics.announced(self.about.node): True}

    # -- what the pipeline tells

    def meet(self, route: Route, topic: str, content_type: str) -> None:
        """Note an answer on a topic that is not in `known`. Home Assistant reads JSON only."""
        if content_type != JSON_TYPE or self._is_forbidden:
            return
        is_full = self._count >= self._most
        if is_full and not self._former:
            self._tell_full(topic)
            return
        kind = self._kinds.get(route)
        if kind is None or topics.is_unfit(topic):
            return
        self.is_idle = False
        self._is_recorded = self._is_recorded and topic in self._former
        if self._former.pop(topic, None) is not None:
            self.known[topic] = kind
            self._queue.pop(topic, None)
            self._first += self._announcement(topic)
            self._reshaped.discard(topic)
            return
        if is_full:
            oldest = next(iter(self._former))
            del self._former[oldest]
            self._take_back(self.about, oldest)
        self.known[topic] = kind
        self._new[topic] = None

    def first(self) -> Sequence[Answer]:
        """Return, once, what is to be said before the answers that were just made."""
        if not self._first:
            return ()
        first, self._first = self._first, []
        return first

    # -- what the loop tells

    def reconnected(self) -> None:
        """Note a new connection: everything is announced again."""
        self._awaited.begin()
        self._most = self._limit
        self.is_idle = False
        self._is_asked = self._is_recorded = False
        self._gone.update(self._cleared)
        self._cleared.clear()
        self._first.clear()
        self._announce_all()

    def heard(self, message: Message) -> bool:
        """Take a message that no route takes; return whether it is for this."""
        if message.topic == self.about.status:
            self._is_asked |= message.payload.strip() == b"online"
        elif message.topic != topics.announced(self.about.node):
            return False
        elif message.retained and self._awaited.take():
            self._learn(message.payload)
        self.is_idle = False
        return True

    def due(self, line: Line, received: int) -> Iterator[Answer]:
        """Yield what is to be said in this turn: each one counts as said when the next is asked for. `received` counts messages."""
        self.is_idle = self._is_forbidden
        if self._is_forbidden or not self._awaited.look(received):
            return
        if not line.in_flight:
            self._cleared.clear()
            if not self._own:
                self._gone_models.clear()
        self._answer_online()
        self._rest()
        left = _BURST if line.in_flight < _BUSY else 1
        for said in self._pending(line):
            if not left or self._is_forbidden:
                return
            left -= 1
            yield said

    def refused(self, refused: Iterable[Refused]) -> None:
        """Stop where the broker refuses an announcement: thousands would be refused, too."""
        for one in refused:
            if one.topic.startswith(f"{self.about.prefix}/device/"):
                self._forbid(one.reason)
            elif one.topic == topics.announced(self.about.node):
                self._leave_out([*self._new], one.reason)

    def undelivered(self, said: Answer) -> None:
        """Note that the last of what was due cannot be sent, because the broker ends the connection over it."""
        if not said.payload:
            self._gone.pop(said.topic, None)
            _log.warning(
                "Home Assistant: what is retained on %r stays, because the broker ends the connection over a message there; "
                "clear it by other means",
                said.topic[:LOGGED],
            )
        elif said.topic == topics.announced(self.about.node):
            self._leave_out([*self._new], "it ends the connection over it")
        else:
            self._forbid("it ends the connection over them")

    def _forbid(self, reason: str) -> None:
        """Announce nothing any more, because the broker does not take it."""
        if not self._is_forbidden:
            self._is_forbidden = True
            _log.error(
                "Home Assistant: the broker takes no discovery messages (%s): allow this node to publish on %r, then reload",
                reason,
                f"{self.about.prefix}/device/+/config",
            )

    def begin(self) -> None:
        """Begin on a connection that is there already."""
        self._announce_own()
        self._awaited.begin()

    def take_over(self, former: Discovery) -> None:
        """Go on after a reload: what is announced and still right stays, what is gone is taken back."""
        self._announce_own()
        if former.about.node == self.about.node:
            self._awaited = former._awaited
        self._is_asked, self._next_online = former._is_asked, former._next_online
        self._gone.update(former._gone)
        self._gone.update(former._cleared)
        if former.about.node != self.about.node:
            self._gone[topics.announced(former.about.node)] = None
        if former.about.topic(former.about.device) != self.about.topic(self.about.device) or self._is_retired:
            self._gone[former.about.topic(former.about.device)] = None
        self._clear_models(former.about.node, [*former._gone_models, *(name for name, _ in former.about.models)])
        stays = {
            id(kind): self.about == former.about and self._kinds.get(kind.route) == kind
            for kind in former._kinds.values()
        }
        for topic, kind in (*former.known.items(), *former._former.items()):
            is_known = topic in former.known
            if not self._adopt(former.about, topic, kind.route.publish.text, kind.shape) or not is_known:
                continue
            if stays[id(kind)]:
                self.known[topic] = self._former.pop(topic)
            if topic in former._new:
                self._new[topic] = None
            elif not stays[id(kind)] or topic in former._queue:
                self._queue[topic] = None
        self._reshaped |= former._reshaped & self._queue.keys()

    def retired(self) -> Discovery:
        """Return what takes all of this back, where Home Assistant is to be told no more."""
        last = Discovery(self.about._replace(models=()), (), limit=0, clock=self._clock, retired=True)
        last.take_over(self)
        return last

    # -- what is said

    @property
    def _count(self) -> int:
        return len(self.known) + len(self._former)

    def _answer_online(self) -> None:
        """Announce everything if Home Assistant has asked for it: not while that is under way, but once more after it."""
        if self._is_asked and not (self._own or self._queue) and self._clock() >= self._next_online:
            self._is_asked = False
            self._next_online = self._clock() + _PAUSE_ONLINE + self._count / _A_SECOND_MORE
            self._announce_all()

    def _pending(self, line: Line) -> Iterator[Answer]:
        while self._own:
            said = self._own[0]
            yield said
            self._own = [one for one in self._own if one is not said]
        while self._gone:
            topic = next(iter(self._gone))
            yield cleared(topic)
            if topic in self._gone:
                del self._gone[topic]
                self._cleared[topic] = None
        if not self._is_recorded and self._clock() >= self._next_record:
            yield from self._fitting(line)
            self._is_recorded = True
            self._next_record = self._clock() + _PAUSE + self._count / _A_SECOND_MORE
            self._queue, self._new = (self._queue | self._new if self._queue else self._new), {}
        while self._queue:
            topic = next(iter(self._queue))
            if topic in self._former:
                self.known[topic] = self._former.pop(topic)
            if topic in self.known:
                for said in self._announcement(topic):
                    yield said
                    self._reshaped.discard(topic)
            self._queue.pop(topic, None)

    def _rest(self) -> None:
        """Be idle, if there is nothing left; the memory of what was waiting is free then."""
        waiting = (self._gone, self._cleared, self._gone_models, self._new, self._queue)
        for one in (*waiting, self._former):
            if not one:
                one.clear()  # a dict that only loses members stays as large as it was
        self.is_idle = self._is_recorded and not (self._own or self._is_asked or any(waiting))

    def _announcement(self, topic: str) -> list[Answer]:
        """Return what announces a topic in `known`."""
        said = home_assistant.sensor(self.about, self.known[topic], topic)
        return [cleared(said.topic), said] if topic in self._reshaped else [said]

    def _announce_all(self) -> None:
        self._announce_own()
        self._queue.update((topic, None) for topic in self.known if topic not in self._new)

    def _announce_own(self) -> None:
        if not self._is_retired:
            told = self.about.models if self.about.tells_models else ()
            models = [home_assistant.model_state(self.about, *model) for model in told]
            self._own = [*models, home_assistant.node(self.about, self._gone_models)]

    def _record(self, without: Iterable[str] = ()) -> Answer:
        left_out = set(without)
        everything = chain(self._former.items(), self.known.items())
        return recorded.record(self.about, (one for one in everything if one[0] not in left_out))

    def _fitting(self, line: Line) -> Iterator[Answer]:
        """Yield the record, of as many new topics as the broker takes one of; nothing where it takes none of those before them."""
        record = self._record()
        if line.keeps(cleared(record.topic)) and not line.keeps(record):  # it is the size
            new = [*self._new]
            fit = bisect_left(range(1, len(new) + 1), True, key=lambda count: not line.keeps(self._record(new[count:])))  # noqa: FBT003
            self._leave_out(new[fit:], "it is too large")
            record = self._record()
            if not line.keeps(record):
                return
        yield record

    def _leave_out(self, new: Sequence[str], why: str) -> None:
        """Announce none of these new topics, nor others, since the record of them is not taken."""
        for topic in new:
            del self.known[topic], self._new[topic]
        self.edition += 1
        self._most = self._count
        if not self._is_full_told:
            self._is_full_told = True
            _log.warning(
                "Home Assistant: %d sensors are announced, and no more will be: the broker does not take the record of more on %r "
                "(%s); raise its largest packet, or allow this node to publish there",
                self._most,
                topics.announced(self.about.node),
                why,
            )

    # -- what was announced before

    def _learn(self, payload: bytes) -> None:
        """Take over what a former run announced."""
        try:
            told = recorded.read(payload, self._limit)
        except ValueError as error:
            topic = topics.announced(self.about.node)
            _log.warning("Home Assistant: what is retained on %r is no record of announcements (%s)", topic, error)
            return
        before = self.about._replace(prefix=told["prefix"])
        for route in told["routes"]:
            for topic in route["topics"]:
                self._adopt(before, topic, route["publish"], route["shape"])
        if before.prefix != self.about.prefix:
            self._gone[before.topic(before.device)] = None
        self._clear_models(self.about.node, told["models"])

    def _adopt(self, before: About, topic: str, publish: str, shape: str) -> bool:
        """Keep what was announced of a topic, if there is room, and a route that has it; else take it back."""
        has_moved = (before.node, before.prefix) != (self.about.node, self.about.prefix)
        if has_moved:
            self._take_back(before, topic)
        kind = self.known.get(topic) or self._former.get(topic)
        is_held = kind is not None
        if kind is None:
            kind = self._by_publish.get(publish)
            if kind is None or self._count >= self._limit or kind.route.publish.match(topic) is None:
                self._take_back(before, topic)
                return False
            self._former[topic] = kind
            self._is_recorded = False
        if shape != kind.shape and not has_moved:
            self._reshaped.add(topic)
            if is_held and topic not in self._new:
                self._queue[topic] = None
        return not is_held

    def _take_back(self, about: About, topic: str) -> None:
        self._gone[home_assistant.announced_topic(about, topic)] = None
        self._is_recorded = False

    def _clear_models(self, node: str, names: Iterable[str]) -> None:
        served = {name for name, _ in self.about.models} if node == self.about.node else set()
        gone = dict.fromkeys(name for name in names if name not in served)
        self._gone.update((topics.model(node, name), None) for name in gone)
        if node == self.about.node and gone:
            self._gone_models.update(gone)
            self._is_recorded = False
            self._announce_own()

    # -- the log

    def _tell_full(self, topic: str) -> None:
        if not self._is_full_told:
            self._is_full_told = True
            _log.warning(
                "Home Assistant: %d sensors are announced, and no more will be (the first: %r); raise limits.sensors",
                self._limit,
                topic[:LOGGED],
            )
