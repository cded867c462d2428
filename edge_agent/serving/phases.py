"""The phases of an update, and which may follow which."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class Phase(StrEnum):
    """How far an update has come: `state` on `edge/{node}/model/{name}`."""

    IDLE = "idle"
    FETCHING = "fetching"
    VERIFIED = "verified"
    TESTING = "testing"
    SHADOW = "shadow"
    CANARY = "canary"
    COMMITTED = "committed"
    ROLLED_BACK = "rolled_back"
    REFUSED = "refused"


#: Those in which an update is under way.
UNDER_WAY: Final = frozenset(
    {Phase.FETCHING, Phase.VERIFIED, Phase.TESTING, Phase.SHADOW, Phase.CANARY, Phase.COMMITTED}
)

#: A newer manifest may end any of them, and begins with what it needs.
_ANEW: Final = frozenset({Phase.IDLE, Phase.FETCHING, Phase.REFUSED, Phase.ROLLED_BACK})

MAY_FOLLOW: Final[Mapping[Phase, frozenset[Phase]]] = {
    Phase.IDLE: _ANEW,
    Phase.FETCHING: _ANEW | {Phase.VERIFIED},
    Phase.VERIFIED: _ANEW | {Phase.TESTING},
    Phase.TESTING: _ANEW | {Phase.SHADOW, Phase.CANARY, Phase.COMMITTED},
    Phase.SHADOW: _ANEW | {Phase.CANARY, Phase.COMMITTED},
    Phase.CANARY: _ANEW | {Phase.COMMITTED},
    Phase.COMMITTED: _ANEW,
    Phase.ROLLED_BACK: _ANEW,
    Phase.REFUSED: _ANEW,
}


def may_follow(before: Phase, after: Phase) -> Phase:
    """Return `after`. Raises `RuntimeError` where that is a bug."""
    if after is not before and after not in MAY_FOLLOW[before]:
        raise RuntimeError(f"an update that is {before} can't become {after}: a bug in edge-agent")
    return after
