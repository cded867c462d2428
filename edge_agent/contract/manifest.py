"""What the nodes of a channel are to serve, and the keys that may say so: two signed texts, each in an envelope.

Messages on `edge/fleet/{channel}/manifest` and `edge/fleet/{channel}/keys` are envelopes: JSON with the signed text as a string,
so that what is signed is exactly what is read, and its signatures. Both are input from outside: everything is checked and
bounded here, once. Rules:

* unknown keys are refused: `v` says what is known;
* a manifest names all models of its channel that it is about, each by the sha256 of the whole file, and of every piece where it says so;
* what is left out has a default, and none of them trusts more: a manifest without a channel is for each one on which its key is trusted;
* `wave` in the envelope is not signed. It can only narrow `for`, which is no more than withholding the message would do;
* who is meant (`is_meant`) is decided by each node, from its own name.

`edge_agent.model.trust` checks the signatures. Why it is so: docs/decisions/0042-trust.md.
"""

from __future__ import annotations

import datetime as dt
import fnmatch
import hashlib
import json
import re
from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from edge_agent.contract.card import MAX_FEATURES, ModelCard, ModelName, Name, Sha256, Text, Version
from edge_agent.contract.minisign import MAX_KEYS, MAX_TEXT, PublicKey
from edge_agent.contract.topics import CHANNEL_WORDS, is_channel
from edge_agent.errors import TrustError

FORMAT: Final = 1
#: Largest message that is read. Brokers with limits (AWS IoT) count the whole packet.
MAX_MESSAGE_BYTES: Final = 128 * 1024
#: Largest message that is written, and the size of each piece of a model file but the last: what leaves room for the rest of the packet.
BLOB_BYTES: Final = 120 * 1024
#: Largest number that JSON carries exactly in every language.
MAX_SERIAL: Final = (1 << 53) - 1
MAX_MODELS: Final = 64
#: Largest model file that is announced, and that is served.
MAX_MODEL_BYTES: Final = 256 * 1024 * 1024
#: Largest release file: two manifests, and names of files.
MAX_RELEASE_BYTES: Final = 3 * MAX_MESSAGE_BYTES
#: Ending of a release file.
RELEASE_SUFFIX: Final = ".release"
_MAX_LABELS: Final = 1024
MAX_ENTRIES: Final = 1024
#: Thirty days.
_MAX_SOAK: Final = 30 * 86_400
_NODES: Final = re.compile(r"[A-Za-z0-9._*-]{1,64}")
_SHARE: Final = re.compile(r"(100|[0-9]{1,2})(\.[0-9]{1,4})?%")
#: Longest path in an error message, in characters.
_MAX_PLACE: Final = 160


def _is_entry(text: str) -> str:
    share = share_of(text)
    if share is not None and share > 1:
        raise ValueError("more than 100%")
    if share is None and not _NODES.fullmatch(text):
        raise ValueError("write a node's id, a pattern of ids with *, or a share such as 10%")
    return text


def _is_channel(text: str) -> str:
    if not is_channel(text):
        raise ValueError(CHANNEL_WORDS)
    return text


def _is_channel_if_any(text: str) -> str:
    return text and _is_channel(text)


def _is_time(text: str) -> str:
    seconds(text)
    return text


def _is_key(text: str) -> str:
    try:
        return PublicKey.parse(text).text
    except TrustError as error:
        raise ValueError(str(error)) from None


Channel = Annotated[str, AfterValidator(_is_channel)]
Serial = Annotated[int, Field(ge=1, le=MAX_SERIAL)]
Share = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
#: How many times what it takes now.
Factor = Annotated[float, Field(gt=1.0, le=1e6, allow_inf_nan=False)]
Short = Annotated[Text, StringConstraints(max_length=255)]
#: Nodes: an id, a pattern with `*`, or a share of them.
Entries = Annotated[
    tuple[Annotated[str, StringConstraints(max_length=64), AfterValidator(_is_entry)], ...],
    Field(max_length=MAX_ENTRIES),
]
#: A time as in RFC 3339; `instant` writes seconds in UTC.
Time = Annotated[
    str,
    StringConstraints(
        pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?(Z|[+-][0-9]{2}:[0-9]{2})$"
    ),
    AfterValidator(_is_time),
]


class Part(BaseModel):
    """What all that is signed, and what carries it, have in common."""

    # Built when first used: most agents take no models over MQTT.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, defer_build=True)


class ModelFile(Part):
    """One model file: `blobs` are the sha256s of its pieces, all of `BLOB_BYTES` but the last. Without them the pieces may have any size, as
    long as the first has but for the last, and only the whole is checked. `labels` are all words that it may answer, the names of its
    numbers for a regression. `title` and `summary` are for people.
    """

    name: ModelName
    version: Version
    sha256: Sha256
    size: Annotated[int, Field(ge=1, le=MAX_MODEL_BYTES)]
    features: Annotated[tuple[Name, ...], Field(min_length=1, max_length=MAX_FEATURES)]
    labels: Annotated[tuple[Name, ...], Field(max_length=_MAX_LABELS)]
    blobs: tuple[Sha256, ...] = ()
    title: Short = ""
    summary: Short = ""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.blobs and len(self.blobs) != self.pieces:
            raise ValueError(f"model {self.name!r}: {len(self.blobs)} pieces for {self.size} bytes")
        return self

    @property
    def pieces(self) -> int:
        """How many pieces the file has; without `blobs`, how many it would have if it were published as we do."""
        return -(-self.size // BLOB_BYTES)

    def mismatch(self, card: ModelCard) -> str | None:
        """Return in words why a file with this card is not the one that is meant, None when it is."""
        for what, said, found in (
            ("name", self.name, card.name),
            ("version", self.version, card.version),
            ("features", self.features, card.feature_names),
            ("labels", self.labels, answers_of(card)),
        ):
            if said != found:
                return f"the manifest says {what} {_listed(said)}, the model card {_listed(found)}"
        return None


class Manifest(Part):
    """What the nodes of a channel are to serve, as it is signed.

    `canary` is the share of sensors that ask the new models first; `min_agreement` the share of messages in which they must agree with
    those before them, None for no comparison; both for `soak_seconds`. `max_failed` and `max_rejected` are the shares of messages above which
    a node goes back, `max_slower` how many times the processor time of the model before a new one may take. `new_contract` permits other features or labels than before. A manifest is not taken after `expires`,
    which counts where the clock is not before `issued`. Without a `channel` it is for the one on which it is published.
    """

    v: Literal[1] = FORMAT
    channel: Annotated[str, AfterValidator(_is_channel_if_any)] = ""
    serial: Serial
    models: Annotated[tuple[ModelFile, ...], Field(min_length=1, max_length=MAX_MODELS)]
    meant: Annotated[Entries, Field(alias="for")] = ("*",)
    canary: Share = 0.0
    soak_seconds: Annotated[int, Field(ge=0, le=_MAX_SOAK)] = 0
    min_agreement: Share | None = None
    max_failed: Share = 0.0
    max_rejected: Share | None = None
    max_slower: Factor | None = None
    new_contract: bool = False
    expires: Time | None = None
    issued: Time | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [model.name for model in self.models]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"model {twice!r} is there twice")
        if (self.canary or self.min_agreement) and not self.soak_seconds:
            raise ValueError("canary and min_agreement need soak_seconds (--soak): the time that they take")
        return self

    def model(self, name: str) -> ModelFile | None:
        """Return the model of this name."""
        return next((model for model in self.models if model.name == name), None)


class KeyList(Part):
    """The keys that sign for a channel from now on, in place of those before; signed with a threshold of those before."""

    v: Literal[1] = FORMAT
    channel: Channel
    serial: Serial
    keys: Annotated[tuple[Annotated[str, AfterValidator(_is_key)], ...], Field(min_length=1, max_length=MAX_KEYS)]
    threshold: Annotated[int, Field(ge=1, le=MAX_KEYS)] = 1

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if len({key.id for key in self.public_keys}) != len(self.keys):
            raise ValueError("two keys have the same id")
        if self.threshold > len(self.keys):
            raise ValueError(
                f"a threshold of {self.threshold} for {len(self.keys)} key{'s' * (len(self.keys) != 1)}, which nobody could reach"
            )
        return self

    @property
    def public_keys(self) -> tuple[PublicKey, ...]:
        """The keys, ready to be used."""
        return tuple(map(PublicKey.parse, self.keys))


class Envelope(Part):
    """The message with a manifest: the signed text, its signatures, and which of the meant nodes begin (None: all)."""

    manifest: Annotated[str, StringConstraints(max_length=MAX_MESSAGE_BYTES)]
    signature: Annotated[str, StringConstraints(max_length=MAX_TEXT)] = ""
    wave: Entries | None = None

    def payload(self) -> bytes:
        """Return the message."""
        return _compact(self.model_dump(exclude_none=True))


class Release(Part):
    """The content of a release file: all that takes models to the nodes of a channel, and back, without a key. `back` is a manifest with a
    higher serial and the models before; `files` are the names of the model files by their sha256, beside this file.
    """

    v: Literal[1] = FORMAT
    channel: Channel
    manifest: Envelope
    back: Envelope | None = None
    files: Annotated[
        dict[Sha256, Annotated[Text, StringConstraints(min_length=1, max_length=255)]], Field(max_length=2 * MAX_MODELS)
    ]

    @model_validator(mode="after")
    def _beside(self) -> Self:
        if wrong := next((name for name in self.files.values() if "/" in name or name in {".", ".."}), None):
            raise ValueError(f"files: {wrong!r} is not the name of a file beside this one")
        return self


class KeyEnvelope(Part):
    """The message with a list of keys."""

    keys: Annotated[str, StringConstraints(max_length=MAX_MESSAGE_BYTES)]
    signature: Annotated[str, StringConstraints(max_length=MAX_TEXT)]

    def payload(self) -> bytes:
        """Return the message."""
        return _compact(self.model_dump())


_Read = TypeVar("_Read", bound=Part)


def read(kind: type[_Read], content: bytes | str, what: str, limit: int = MAX_MESSAGE_BYTES) -> _Read:
    """Read JSON of one of these kinds; `what` names it in the error. Raises `TrustError`."""
    if len(content) > limit:
        raise TrustError(f"{what}: {len(content)} bytes, but at most {limit} are read; publish fewer models at once")
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        raise TrustError(f"{what}: {_first(error)}; write it again with edge-convert sign of this version") from None


def read_manifest(content: bytes | str, what: str, channel: str) -> Manifest:
    """Read a manifest that came on a channel. Raises `TrustError`."""
    found = read(Manifest, content, what)
    return found if found.channel else found.model_copy(update={"channel": channel})


def checked(kind: type[_Read], given: dict[str, Any], what: str) -> _Read:
    """Return one of these kinds with the given values, by their names in JSON. Raises `TrustError`."""
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        raise TrustError(f"{what}: {_first(error)}") from None


def written(part: Part) -> str:
    """Return the JSON text of a manifest or a list of keys, to be signed, or of a release file."""
    return _compact(part.model_dump(by_alias=True, exclude_none=True)).decode()


def seconds(time: str) -> float:
    """Return a `Time` in seconds since 1970. Raises `ValueError`."""
    return dt.datetime.fromisoformat(time).timestamp()


def instant(seconds: float) -> str:
    """Return seconds since 1970 as a `Time`."""
    return dt.datetime.fromtimestamp(int(seconds), dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def share_of(text: str) -> float | None:
    """Return the share that an entry such as `10%` stands for, from 0 to 1; None for any other."""
    return float(text[:-1]) / 100 if _SHARE.fullmatch(text) else None


def place_of(node: str, channel: str) -> float:
    """Return where a node stands in a channel, from 0 to 1: evenly spread, and the same at all times."""
    return int.from_bytes(hashlib.sha256(f"{channel}/{node}".encode()).digest()[:8], "big") / 2**64


def is_meant(node: str, channel: str, entries: Iterable[str]) -> bool:
    """Tell whether a node is one of `entries`. Who is within 1% is within 10%, too."""
    for entry in entries:
        share = share_of(entry)
        if fnmatch.fnmatchcase(node, entry) if share is None else place_of(node, channel) < share:
            return True
    return False


def piece_size(size: int, number: int) -> int:
    """Return the size of piece `number` of a model file of `size`, both in bytes."""
    return min(BLOB_BYTES, size - number * BLOB_BYTES)


def pieces(content: bytes) -> list[bytes]:
    """Return the pieces of a model file, as they are published."""
    return [content[start : start + BLOB_BYTES] for start in range(0, len(content), BLOB_BYTES)]


def versions(models: Iterable[ModelFile]) -> str:
    """Return models with their versions, for people."""
    return ", ".join(f"{one.name} {one.version}" for one in models)


def model_file(card: ModelCard, content: bytes, *, title: str = "", summary: str = "") -> ModelFile:
    """Return what a manifest says of a model file."""
    return ModelFile(
        name=card.name,
        version=card.version,
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        features=card.feature_names,
        labels=answers_of(card),
        blobs=tuple(hashlib.sha256(piece).hexdigest() for piece in pieces(content)),
        title=title,
        summary=summary,
    )


def answers_of(card: ModelCard) -> tuple[str, ...]:
    """Return all words that a model may answer, the names of its numbers for a regression; nothing for an anomaly detector."""
    return card.labels or tuple(output.name for output in card.outputs)


def _compact(content: Any) -> bytes:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


def _listed(said: str | tuple[str, ...]) -> str:
    text = said if isinstance(said, str) else ", ".join(said)
    return repr(text if len(text) <= _MAX_PLACE else f"{text[: _MAX_PLACE - 1]}…")


def _first(error: ValidationError) -> str:
    """Return the first error with its place, without the value, which came from outside."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])[:_MAX_PLACE]
    place = place if place.isprintable() else ascii(place)  # keys come from outside, too
    message = str(first["msg"]).removeprefix("Value error, ")[:_MAX_PLACE]
    return f"{place}: {message}" if place else message
