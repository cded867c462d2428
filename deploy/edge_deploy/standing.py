"""Where the nodes of a wave are, and which of them are in trouble; judged by what they publish (`edge_deploy.nodes`).

Rules:
* A node that was away from the beginning is not waited for; it takes what is published when it comes back.
* A node that was online and is away for longer than `grace` is in trouble: it may have gone because of the release.
* While the connection to the broker is away, time stands still: nothing is known, so nothing is judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from edge_deploy.nodes import BAD, Health, Node, Nodes, Word

from edge_agent.contract.manifest import Manifest
from edge_agent.contract.messages import Message

#: Least messages of a node with the new models of which shares are judged, unless all failed.
_ENOUGH: Final = 20


class Limits(NamedTuple):
    """What a roll-out waits for and puts up with. Times in seconds."""

    pause: float = 600.0
    within: float = 900.0
    grace: float = 120.0
    max_refused: int = 0


class Standing(NamedTuple):
    """The nodes of a wave: those that have the release, those on their way with what they are doing, those that wait for a person
    (`[update] by_hand`), those that are away, and those in trouble with the reason.
    """

    there: list[str]
    moving: dict[str, str]
    waiting: list[str]
    away: list[str]
    trouble: dict[str, str]


class Judge:
    """Follows the nodes of one manifest."""

    def __init__(self, manifest: Manifest, nodes: Nodes, limits: Limits) -> None:
        self.manifest = manifest
        self._nodes = nodes
        self._limits = limits
        #: What a node may take until it has it: each trial of the manifest takes its soak.
        self._within = limits.within + 2 * manifest.soak_seconds
        self._since = 0.0
        #: Nodes that were online at any time since.
        self._met: set[str] = set()
        #: What was refused or taken back before the first wave.
        self._old: frozenset[Word] | None = None
        #: The last health report of each node from before it had the release.
        self._before: dict[str, Health] = {}

    def begin(self, now: float) -> None:
        """A wave was published."""
        self._since = now
        self._met.clear()
        if self._old is None:
            said = (word for node in self._nodes.known.values() for word in node.words.values())
            self._old = frozenset(word for word in said if word.state in BAD)

    def pass_over(self, seconds: float) -> None:
        """Count a time in which nothing could be known as none."""
        self._since += seconds
        for node in self._nodes.known.values():
            node.changed += seconds

    def take(self, message: Message, now: float) -> None:
        """Note a message."""
        node = self._nodes.take(message, now)
        if (
            node is not None
            and node.health is not None
            and (not node.has(self.manifest) or node.name not in self._before)
        ):
            self._before[node.name] = node.health

    def standing(self, wave: Sequence[str] | None, now: float) -> Standing:
        """Return where the nodes of a wave are."""
        found = Standing([], {}, [], [], {})
        for node in self._nodes.of(self.manifest, wave):
            if node.online:
                self._met.add(node.name)
            self._sort(node, found, now)
        return found

    def _sort(self, node: Node, found: Standing, now: float) -> None:
        late = now - self._since > self._within
        doing = node.doing(self.manifest)
        reason = node.trouble(self.manifest, self._old or ()) or self._failing(node)
        if reason is None and not node.online and node.name in self._met and now - node.changed > self._limits.grace:
            reason = f"offline for {now - node.changed:.0f} s, after it was online with this wave"
        if reason is not None:
            found.trouble[node.name] = reason
        elif node.has(self.manifest):
            found.there.append(node.name)
        elif not node.online:
            if node.name in self._met:
                found.moving[node.name] = "offline"
            else:
                found.away.append(node.name)
        elif node.waits(self.manifest):
            found.waiting.append(node.name)
        elif not late:
            found.moving[node.name] = doing or "silent"
        else:
            found.trouble[node.name] = f"{doing or 'nothing said of this release'} for {now - self._since:.0f} s"

    def _failing(self, node: Node) -> str | None:
        """Return why the health of a node with the release is bad; None while it is good."""
        before, health = self._before.get(node.name), node.health
        if before is None or health is None or not node.has(self.manifest):
            return None
        if health.uptime < before.uptime:
            before = Health(0.0, 0.0, 0.0, 0.0)  # it was started again, and counts from there
        received = health.received - before.received
        for what, most, number in (
            ("failed", self.manifest.max_failed, health.failed - before.failed),
            ("rejected", self.manifest.max_rejected, health.rejected - before.rejected),
        ):
            if most is not None and received >= _ENOUGH and number / received > most:
                return f"{number:.0f} of {received:.0f} messages {what} since it has the release, {most:.1%} allowed"
        return None


def words(standing: Standing) -> str:
    """Return a standing in one line."""
    doing: dict[str, int] = {}
    for state in standing.moving.values():
        doing[state] = doing.get(state, 0) + 1
    parts = [f"{len(standing.there)} committed", *(f"{number} {state}" for state, number in sorted(doing.items()))]
    for number, what in (
        (len(standing.waiting), "waiting for a person"),
        (len(standing.away), "away"),
        (len(standing.trouble), "in trouble"),
    ):
        if number:
            parts.append(f"{number} {what}")
    return ", ".join(parts)
