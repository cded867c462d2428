"""What is said of each model on `edge/{node}/model/{name}`, and what of it is still to be said."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from edge_agent import wording
from edge_agent.contract import topics
from edge_agent.contract.manifest import ModelFile
from edge_agent.contract.messages import Answer, to_json
from edge_agent.contract.progress import Compared, ModelState
from edge_agent.serving.phases import UNDER_WAY, Phase
from edge_agent.serving.released import Served

#: Percents of a file between two messages of how far it has come.
_STEP: Final = 5


class Told(NamedTuple):
    """What is said of a model, besides what is served. `waits` says that a person decides when it goes on."""

    phase: Phase = Phase.IDLE
    reason: str | None = None
    since: str = ""
    serial: int | None = None
    latest: ModelFile | None = None
    percentage: int | None = None
    waits: bool = False
    compared: Compared | None = None


class Telling:
    """What is said of the models of a node that follows a channel. `now` gives the time of day."""

    def __init__(self, node: str, channel: str, now: Callable[[], str]) -> None:
        self._node, self.channel, self._now = node, channel, now
        self._told: dict[str, Told] = {}
        self._unsaid: dict[str, None] = {}

    @property
    def is_done(self) -> bool:
        """Whether everything was said."""
        return not self._unsaid

    def repeat(self, names: Iterable[str]) -> None:
        """Say again what was said of these models."""
        self._unsaid.update(dict.fromkeys(names))

    def tell(self, name: str, phase: Phase, reason: str | None, **more: Any) -> None:
        """Say how far the update of a model has come; `more` are other members of `Told`."""
        before = self._told.get(name, Told())
        reason = None if reason is None else wording.reason(reason)
        after = before._replace(
            **{"phase": phase, "reason": reason, "percentage": None, "waits": False, "compared": None, **more}
        )
        if after != before or name not in self._told:
            since = self._now() if phase is not before.phase or not before.since else before.since
            self._told[name] = after._replace(since=since)
            self._unsaid[name] = None

    def warn(self, names: Iterable[str], reason: str) -> None:
        """Say something of models of which there is nothing else to say."""
        for name in names:
            told = self._told.get(name, Told())
            if told.phase is Phase.IDLE and told.reason is None:
                self.tell(name, Phase.IDLE, reason)

    def progress(self, name: str, percentage: int) -> None:
        """Say how much of a model has been fetched, in steps."""
        before = self._told.get(name, Told())
        if percentage - (before.percentage or 0) >= _STEP:
            self._told[name] = before._replace(percentage=percentage)
            self._unsaid[name] = None

    def unsaid(self, served: Mapping[str, Served]) -> Iterator[Answer]:
        """Yield what is to be said, of models that are served and those that were: each counts as said when the next is asked for."""
        while self._unsaid:
            name = next(iter(self._unsaid))
            told = self._told.setdefault(name, Told(since=self._now()))
            yield self._message(name, told, served.get(name))
            if self._told.get(name) is told:
                del self._unsaid[name]
                if name not in served:
                    del self._told[name]

    def _message(self, name: str, told: Told, served: Served | None) -> Answer:
        topic, latest = topics.model(self._node, name), told.latest
        if served is None:
            return Answer(topic, b"", qos=1, retain=True, content_type=None)
        said: ModelState = {
            "installed_version": served.card.version,
            "latest_version": served.card.version if latest is None else latest.version,
            "in_progress": told.phase in UNDER_WAY and not told.waits,
            "update_percentage": told.percentage,
            "title": name if latest is None else latest.title or name,
            "state": told.phase.value,
            "channel": self.channel,
            "serial": told.serial,
            "sha256": served.sha256,
            "since": told.since,
            "reason": told.reason,
        }
        if told.compared is not None:
            said["compared"] = told.compared
        if latest is not None and latest.summary:
            said["release_summary"] = latest.summary
        return Answer(topic, to_json(said), qos=1, retain=True)
