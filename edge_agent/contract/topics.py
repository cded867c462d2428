"""Names of the topics on which a node speaks and is spoken to, and what text may stand in a topic."""

from __future__ import annotations

import re
from typing import Final

from edge_agent.contract.templates import Template

#: First level of what the agents say and hear of themselves.
ROOT: Final = "edge"
#: Characters that MQTT forbids in text, or lets a receiver end the connection for (MQTT 5, 1.5.4): control characters and
#: those that Unicode keeps for no character.
_UNFIT: Final = re.compile(
    "[\0-\x1f\x7f-\x9f\ufdd0-\ufdef"
    + "".join(f"{chr(end)}{chr(end + 1)}" for end in range(0xFFFE, 0x110000, 0x10000))
    + "]"
)


def state(node: str) -> str:
    """Where a node says `online` or `offline`, retained."""
    return f"{ROOT}/{node}/state"


def info(node: str) -> str:
    """Where a node says what it runs, retained."""
    return f"{ROOT}/{node}/info"


def health(node: str) -> str:
    """Where a node says how it does."""
    return f"{ROOT}/{node}/health"


def request(node: str) -> Template:
    """Where a node takes management requests."""
    return Template(f"{ROOT}/{node}/request/{{verb}}")


def response(node: str, verb: str) -> str:
    """Where a node answers a management request."""
    return f"{ROOT}/{node}/response/{verb}"


def is_unfit(text: str) -> str | None:
    """Return what is in a text that a broker may end the connection for, in words, None when there is nothing."""
    return "with control characters" if _UNFIT.search(text) else None
