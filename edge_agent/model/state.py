"""What a store remembers of updates: `state.json`. It is read and written by `edge_agent.model.store.Store` alone.

It is input from outside like every file: checked and bounded here. A file that can't be read is an error, not an empty state: with
an empty one, old manifests would be accepted again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge_agent.contract.card import ModelName, Sha256, Text
from edge_agent.contract.manifest import MAX_MESSAGE_BYTES, MAX_SERIAL, Channel
from edge_agent.errors import StoreError
from edge_agent.model.trust import Kept

#: Largest file in bytes.
MAX_STATE_BYTES: Final = 512 * 1024
#: Most refused files that are remembered: those with the highest serials.
MAX_REFUSED: Final = 128
#: Most channels that are remembered.
MAX_CHANNELS: Final = 64
_Serial = Annotated[int, Field(ge=0, le=MAX_SERIAL)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Refused(_Part):
    """Why a file is not tried again before a manifest with a higher serial. `rolled_back` says that it was served before that."""

    serial: _Serial
    reason: Text
    rolled_back: bool = False


class Watched(_Part):
    """The release that is on trial: its files, by the names of their models, and its manifest as a JSON text, whose rules hold to the end.
    `ends` counts the runs of the agent that have not ended as they should since then, the present one among them.
    """

    serial: _Serial
    files: Annotated[dict[ModelName, Sha256], Field(min_length=1, max_length=1024)]
    ends: Annotated[int, Field(ge=0, le=1 << 20)] = 1
    manifest: Annotated[str, Field(max_length=MAX_MESSAGE_BYTES)] = ""


class State(_Part):
    """All of it; change it with `model_copy(update=…)`. `channels` say what was accepted from each, `refused` (and rolled back) by sha256, `watched`
    what is on trial.
    """

    v: Literal[1] = 1
    channels: Annotated[dict[Channel, Kept], Field(max_length=MAX_CHANNELS)] = {}
    refused: Annotated[dict[Sha256, Refused], Field(max_length=2 * MAX_REFUSED)] = {}
    #: Nothing reads or writes it any more; it is here for files that have it, which lose it when they are written again.
    good: Annotated[dict[ModelName, Sha256], Field(max_length=1024, exclude=True)] = {}
    watched: Watched | None = None

    def refuse(self, files: Collection[str], why: Refused) -> Self:
        """Return it with the reason why files, given by their sha256s, are not to be served."""
        return self.model_copy(update={"refused": {**self.refused, **dict.fromkeys(files, why)}})

    def watch(self, files: Mapping[str, str], serial: int, manifest: str = "") -> Self:
        """Return it with files, by the names of their models, on trial, in the place of those of another release. Where they were already, their
        ends count.
        """
        before = Watched(serial=serial, files=dict(files)) if self.watched is None else self.watched
        ends = before.ends if files.items() <= before.files.items() else 1
        return self.model_copy(
            update={"watched": Watched(serial=serial, files=dict(files), ends=ends, manifest=manifest)}
        )

    def unwatch(self, names: Collection[str]) -> Self:
        """Return it without these models on trial."""
        if self.watched is None:
            return self
        left = {name: sha256 for name, sha256 in self.watched.files.items() if name not in names}
        return self.model_copy(update={"watched": self.watched.model_copy(update={"files": left}) if left else None})


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
    """Write a state, without the oldest of what was refused, and the channels that were noted first: the last ones are in use."""
    if len(state.channels) > MAX_CHANNELS:
        state = state.model_copy(update={"channels": dict(list(state.channels.items())[-MAX_CHANNELS:])})
    if len(state.refused) > MAX_REFUSED:
        kept = sorted(state.refused.items(), key=lambda one: one[1].serial)[-MAX_REFUSED:]
        state = state.model_copy(update={"refused": dict(kept)})
    return state.model_dump_json(exclude_defaults=False).encode() + b"\n"
