"""The table of `edge-deploy status`: a row for each model of each node."""

from __future__ import annotations

from typing import Final, NamedTuple

from edge_deploy.channel import Current
from edge_deploy.nodes import Node, Nodes, Word

from edge_agent.wording import count, plain

#: What `Row.cells` are.
HEADING: Final = ("node", "online", "model", "version", "state", "serial", "since", "reason")


class Row(NamedTuple):
    """What a node says of a model. `online` is None where it says nothing about that, `model` where it names none."""

    node: str
    online: bool | None
    model: str | None
    version: str
    latest: str
    state: str
    serial: int | None
    since: str
    reason: str

    def cells(self) -> tuple[str, ...]:
        """Return it for people, in the order of `HEADING`."""
        version = self.version if self.latest in {"", self.version} else f"{self.version} -> {self.latest}"
        cells = (
            self.node,
            {True: "yes", False: "no", None: "?"}[self.online],
            self.model or "-",
            version or "-",
            self.state or "-",
            "-" if self.serial is None else str(self.serial),
            self.since or "-",
            self.reason or "-",
        )
        return tuple(map(plain, cells))


def rows(nodes: Nodes, current: Current) -> list[Row]:
    """Return all rows; with a manifest, the nodes that are silent about it last."""
    found = [row for _, node in sorted(nodes.known.items()) for row in _of(node)]
    return sorted(found, key=lambda row: _is_silent(nodes.known[row.node], current))


def summary(nodes: Nodes, current: Current) -> str:
    """Return what all nodes are together in one line."""
    known = nodes.known.values()
    parts = [count(len(known), "node"), f"{sum(1 for node in known if node.online)} online"]
    if current.manifest is not None and current.envelope is not None:
        meant = nodes.of(current.manifest, current.envelope.wave)
        there = sum(1 for node in meant if node.has(current.manifest))
        parts.append(f"{there} of {len(meant)} that are meant on serial {current.serial}")
    if silent := sum(1 for node in known if _is_silent(node, current)):
        parts.append(f"{silent} silent")
    if nodes.dropped:
        parts.append(f"{count(nodes.dropped, 'message')} dropped that no agent sends")
    return ", ".join(parts)


def _is_silent(node: Node, current: Current) -> bool:
    """Tell whether a node is online and says nothing: of any model, or of the models of the channel."""
    if not node.online:
        return False
    return not node.words if current.manifest is None else not node.serves(current.manifest)


def _of(node: Node) -> list[Row]:
    if not node.words:
        return [Row(node.name, node.online, None, "", "", "", None, "", "")]
    return [_row(node, model, word) for model, word in sorted(node.words.items())]


def _row(node: Node, model: str, word: Word) -> Row:
    return Row(
        node.name, node.online, model, word.installed, word.latest, word.state, word.serial, word.since, word.reason
    )
