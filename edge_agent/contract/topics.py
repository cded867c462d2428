"""Names of a node's own topics, and the check for text that a topic may not contain."""

from __future__ import annotations

import re
from typing import Final

from edge_agent.contract.templates import Template

#: First level of the agents' own topics.
ROOT: Final = "edge"
#: In the place of a node: what is for all nodes of a channel. So no node may have this name.
FLEET: Final = "fleet"
#: A channel: nodes that serve the same models, but for those that a manifest leaves out.
CHANNEL: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
#: The same in words.
CHANNEL_WORDS: Final = "one word of letters, digits, '.', '_' and '-', of at most 64 characters"
#: The discovery prefix of Home Assistant's MQTT integration: no wildcards, and none of the broker's own topics.
PREFIX: Final = r"^[^/+#{}$\x00-\x1f\x7f-\x9f][^+#{}\x00-\x1f\x7f-\x9f]{0,199}$"
#: Characters that MQTT forbids in text, or over which a receiver may end the connection (MQTT 5, 1.5.4): control characters
#: and Unicode's noncharacters.
_UNFIT: Final = re.compile(
    "[\0-\x1f\x7f-\x9f\ufdd0-\ufdef"
    + "".join(f"{chr(end)}{chr(end + 1)}" for end in range(0xFFFE, 0x110000, 0x10000))
    + "]"
)


def is_channel(text: str) -> bool:
    """Tell whether a text is the name of a channel."""
    return re.fullmatch(CHANNEL, text) is not None


def state(node: str) -> str:
    """The topic of a node's state, retained."""
    return f"{ROOT}/{node}/state"


def info(node: str) -> str:
    """The topic of a node's info, retained."""
    return f"{ROOT}/{node}/info"


def health(node: str) -> str:
    """The topic of a node's health."""
    return f"{ROOT}/{node}/health"


def model(node: str, name: str) -> str:
    """The topic of the versions of a model, retained."""
    return f"{ROOT}/{node}/model/{name}"


def announced(node: str) -> str:
    """The topic of what a node has announced to Home Assistant, retained: a record for itself."""
    return f"{ROOT}/{node}/home_assistant"


def docs(node: str) -> str:
    """The topic of the description of a node's topics and payloads, retained."""
    return f"{ROOT}/{node}/docs"


def drift(node: str) -> str:
    """The topic of what differs from training, retained."""
    return f"{ROOT}/{node}/drift"


def request(node: str) -> Template:
    """The topics of management requests to a node."""
    return Template(f"{ROOT}/{node}/request/{{verb}}")


def response(node: str, verb: str) -> str:
    """The topic of the answer to a management request."""
    return f"{ROOT}/{node}/response/{verb}"


def manifest(channel: str) -> str:
    """The topic of what the nodes of a channel are to serve, retained (`edge_agent.contract.manifest`)."""
    return f"{ROOT}/{FLEET}/{channel}/manifest"


def keys(channel: str) -> str:
    """The topic of the keys that sign for a channel, retained."""
    return f"{ROOT}/{FLEET}/{channel}/keys"


def blob(channel: str, sha256: str, number: int | str) -> str:
    """The topic of one piece of a model file, counted from 0, retained; with "+" the filter of all its pieces."""
    return f"{ROOT}/{FLEET}/{channel}/blob/{sha256}/{number}"


def fleet() -> Template:
    """All topics of all channels."""
    return Template(f"{ROOT}/{FLEET}/{{channel}}/{{what...}}")


def is_unfit(text: str) -> str | None:
    """Return in words why a broker may end the connection over a text, None when it is valid."""
    return "with control characters" if _UNFIT.search(text) else None
