"""What is known of the nodes, from what they publish: whether they are online, which models they serve, and their health.

All of it is input from outside, perhaps of somebody who means harm: ids, topics and payloads are bounded, everything else is
dropped and counted, and no text is trusted to be fit for a terminal (`edge_agent.wording.plain`). Rules:

* An id must be one that a manifest can name, letter by letter: a node that calls itself `*` or `100%` would be picked as all.
* A node says something about itself only, so all that one of them can do is to look bad, or good.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable
from typing import Any, Final, NamedTuple

from edge_agent.contract.manifest import MAX_SERIAL, Manifest, ModelFile, is_meant
from edge_agent.contract.messages import Message
from edge_agent.contract.topics import FLEET, ROOT

#: What is subscribed to.
FILTERS: Final = (f"{ROOT}/+/state", f"{ROOT}/+/model/+", f"{ROOT}/+/health")
MOST_NODES: Final = 10_000
_MOST_MODELS: Final = 64
_MOST_BYTES: Final = 64 * 1024
#: Longest text that is kept, in characters.
_LONGEST: Final = 200
_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
#: What a node publishes on its model topic when it goes back, or refuses.
BAD: Final = frozenset({"refused", "rolled_back"})
#: When it is there.
GOOD: Final = frozenset({"committed", "idle"})


class Word(NamedTuple):
    """What a node says of one of its models (`edge/{node}/model/{name}`)."""

    state: str
    installed: str
    latest: str
    serial: int | None
    sha256: str
    since: str
    reason: str
    percentage: float | None
    #: The channel that it follows; "" where it does not say, None where it takes no updates.
    channel: str | None = ""
    #: Whether it goes on by itself; one that is verified and does not waits for a person (`[update] by_hand`).
    in_progress: bool = False

    def is_at(self, model: ModelFile) -> bool:
        """Tell whether what is installed is this file."""
        return self.sha256 == model.sha256 if self.sha256 else self.installed == model.version


class Health(NamedTuple):
    """What of a node's health report concerns its models: totals since it started."""

    uptime: float
    received: float
    rejected: float
    failed: float


class Node:
    """One node."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.online: bool | None = None
        #: When it last changed from online to offline, or the other way.
        self.changed = 0.0
        self.words: dict[str, Word] = {}
        self.health: Health | None = None

    def serves(self, manifest: Manifest) -> bool:
        """Tell whether it follows the channel of a manifest, and serves a model of it."""
        return bool(self._named(manifest))

    def has(self, manifest: Manifest) -> bool:
        """Tell whether it is where a manifest wants it: all models that it serves are those of the manifest, and it has said so."""
        named = self._named(manifest)
        return bool(named) and all(
            word.serial == manifest.serial and word.state in GOOD and word.is_at(model) for model, word in named
        )

    def trouble(self, manifest: Manifest, before: Collection[Word] = ()) -> str | None:
        """Return why it refused a manifest, or went back from it; None while it did not. Who does not believe a manifest does not know
        its serial either: what is refused and was not `before` is this one.
        """
        for model, word in self._named(manifest):
            if word.state in BAD and (word.serial == manifest.serial or word not in before):
                return f"{model.name}: {word.state.replace('_', ' ')}: {word.reason or 'no reason given'}"
        return None

    def refuses(self, manifest: Manifest) -> bool:
        """Tell whether it says that it does not accept a manifest, this one or the last."""
        return any(word.state == "refused" for _, word in self._named(manifest))

    def took(self, manifest: Manifest, models: Collection[ModelFile]) -> bool:
        """Tell whether any of these models of a manifest is installed, or on its way to be. A node that a manifest is not meant for says
        its serial too, but stays idle.
        """
        return any(
            model in models
            and (word.is_at(model) or (word.serial == manifest.serial and word.state not in {*BAD, "idle"}))
            for model, word in self._named(manifest)
        )

    def doing(self, manifest: Manifest) -> str:
        """Return the state of its models in this manifest, the least advanced first; "" while it says nothing about it."""
        states = (word.state for _, word in self._named(manifest) if word.serial == manifest.serial)
        return next((state for state in states if state not in GOOD), "")

    def waits(self, manifest: Manifest) -> bool:
        """Tell whether it waits for a person to install a manifest."""
        said = (word for _, word in self._named(manifest) if word.serial == manifest.serial)
        return any(word.state == "verified" and not word.in_progress for word in said)

    def _named(self, manifest: Manifest) -> list[tuple[ModelFile, Word]]:
        found = ((model, self.words.get(model.name)) for model in manifest.models)
        return [(model, word) for model, word in found if word and word.channel in {"", manifest.channel}]


class Nodes:
    """All nodes, by their ids."""

    def __init__(self) -> None:
        self.known: dict[str, Node] = {}
        #: Messages that were dropped: malformed, too large, of a node with an impossible id, or of too many nodes.
        self.dropped = 0

    def take(self, message: Message, now: float) -> Node | None:
        """Note what a message says; return its node, None where it says nothing."""
        root, _, rest = message.topic.partition("/")
        name, _, what = rest.partition("/")
        kind, _, model = what.partition("/")
        if (
            root != ROOT
            or name == FLEET
            or kind not in {"state", "model", "health"}
            or bool(model) != (kind == "model")
        ):
            return None
        if not _ID.fullmatch(name) or len(message.payload) > _MOST_BYTES or (model and not _ID.fullmatch(model)):
            self.dropped += 1
            return None
        node = self.known.get(name)
        if node is None:
            if len(self.known) >= MOST_NODES:
                self.dropped += 1
                return None
            node = Node(name)
        if not self._note(node, kind, model, message.payload, now):
            return None
        self.known[name] = node
        return node

    def of(self, manifest: Manifest, wave: Iterable[str] | None) -> list[Node]:
        """Return the nodes that a manifest is meant for, that are in a wave of it (None: all), and that serve one of its models."""
        named = None if wave is None else tuple(wave)
        return [
            node
            for name, node in sorted(self.known.items())
            if node.serves(manifest)
            and is_meant(name, manifest.channel, manifest.meant)
            and (named is None or is_meant(name, manifest.channel, named))
        ]

    def _note(self, node: Node, kind: str, model: str, payload: bytes, now: float) -> bool:
        if kind == "state":
            online = {b"online": True, b"degraded": True, b"offline": False}.get(payload)
            if online != node.online:
                node.online, node.changed = online, now
            return True
        if not payload:
            return node.words.pop(model, None) is not None  # taken back: it does not serve this model any more
        content = _object(payload)
        if content is None or (kind == "model" and model not in node.words and len(node.words) >= _MOST_MODELS):
            self.dropped += 1
            return False
        if kind == "model":
            node.words[model] = _word(content)
        else:
            node.health = _health(content)
        return True


def _object(payload: bytes) -> dict[str, Any] | None:
    try:
        content = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _word(content: dict[str, Any]) -> Word:
    serial = content.get("serial")
    known = isinstance(serial, int) and not isinstance(serial, bool) and 0 < serial <= MAX_SERIAL
    return Word(
        _text(content.get("state")),
        _text(content.get("installed_version")),
        _text(content.get("latest_version")),
        serial if known else None,
        _text(content.get("sha256")),
        _text(content.get("since")),
        _text(content.get("reason")),
        _number(content.get("update_percentage")),
        _text(content.get("channel")) if "serial" in content else None,
        content.get("in_progress") is True,
    )


def _health(content: dict[str, Any]) -> Health:
    kinds = content.get("rejections")
    rejections = kinds if isinstance(kinds, dict) else {}
    counts = [value for value in map(_number, list(rejections.values())[:64]) if value is not None]
    return Health(
        _number(content.get("uptime")) or 0.0,
        _number(content.get("received")) or 0.0,
        sum(counts),
        _number(rejections.get("inference_failed")) or 0.0,
    )


def _text(value: Any) -> str:
    return value[:_LONGEST] if isinstance(value, str) else ""


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and 0 <= value < 10**15 else None
