"""What a store remembers of updates: `state.json`. It is read and written by `edge_agent.model.store.Store` alone.

It is input from outside like every file: checked and bounded here. A file that can't be read is an error, not an empty state: with
an empty one, old manifests would be accepted again.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge_agent.contract.card import ModelName, Sha256, Text
from edge_agent.contract.manifest import MAX_SERIAL, Channel
from edge_agent.errors import StoreError
from edge_agent.model.trust import Kept

#: Largest file in bytes.
MAX_STATE_BYTES: Final = 256 * 1024
#: Most refused files that are remembered: those with the highest serials.
MAX_REFUSED: Final = 128
_Serial = Annotated[int, Field(ge=0, le=MAX_SERIAL)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Refused(_Part):
    """Why a file is not tried again before a manifest with a higher serial. `rolled_back` says that it was served before that."""

    serial: _Serial
    reason: Text
    rolled_back: bool = False


class State(_Part):
    """All of it; change it with `model_copy(update=…)`. `channels` say what was accepted from each, `refused` (and rolled back) by sha256, `good`
    is the sha256 of each model's last version that stood its trial.
    """

    v: Literal[1] = 1
    channels: Annotated[dict[Channel, Kept], Field(max_length=64)] = {}
    refused: Annotated[dict[Sha256, Refused], Field(max_length=2 * MAX_REFUSED)] = {}
    good: Annotated[dict[ModelName, Sha256], Field(max_length=1024)] = {}


def parse(content: bytes, where: str) -> State:
    """Read a state. Raises `StoreError`."""
    try:
        return State.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ascii(".".join(str(part) for part in first["loc"])[:160])[1:-1] or "the file"
        raise StoreError(
            f"{where}: can't be read: {place}: {first['msg']}; restore it, or remove it: then old manifests are accepted again"
        ) from None


def dump(state: State) -> bytes:
    """Write a state, without the oldest of what was refused."""
    if len(state.refused) > MAX_REFUSED:
        kept = sorted(state.refused.items(), key=lambda one: one[1].serial)[-MAX_REFUSED:]
        state = state.model_copy(update={"refused": dict(kept)})
    return state.model_dump_json(exclude_defaults=False).encode() + b"\n"
