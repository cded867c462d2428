"""A release: the file that `edge-convert sign --channel` writes beside a model, and the models' bytes. No key is needed to read it.

Everything that a node would refuse for its form, size or hash is refused here already, before anything is published. What only the
node can judge (whose keys it trusts, which serial it has accepted) is left to it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple, Self

from edge_agent.contract import minisign
from edge_agent.contract.manifest import (
    MAX_RELEASE_BYTES,
    RELEASE_SUFFIX,
    Envelope,
    Manifest,
    ModelFile,
    Release,
    read,
    seconds,
    versions,
)
from edge_agent.errors import FileError, InputError, ModelError, TrustError
from edge_agent.wording import plain


class Signed(NamedTuple):
    """A signed manifest: what it says, and the message that carries it, without a wave."""

    manifest: Manifest
    envelope: Envelope

    @property
    def serial(self) -> int:
        """Its serial."""
        return self.manifest.serial

    def is_in(self, envelope: Envelope | None) -> bool:
        """Tell whether a message carries this manifest, for whichever wave."""
        return envelope is not None and envelope.manifest == self.envelope.manifest

    def require_unexpired(self, now: float) -> None:
        """Check that nodes still take it at `now`, in seconds since 1970. Raises `InputError`."""
        if self.manifest.expires is not None and now >= seconds(self.manifest.expires):
            raise InputError(
                f"{self.title}: expired at {self.manifest.expires}; sign it again, for nodes would refuse it"
            )

    @property
    def title(self) -> str:
        """The models and versions, for people."""
        return versions(self.manifest.models)


class Bundle(NamedTuple):
    """A release: what to go to, the way back (None: it was signed without one), and the models' bytes by their sha256.

    `absent` are models that `back` names, and whose files are not beside the release.
    """

    channel: str
    forward: Signed
    back: Signed | None
    contents: dict[str, bytes]
    absent: tuple[ModelFile, ...] = ()

    @property
    def models(self) -> list[ModelFile]:
        """The models whose bytes are here, each once."""
        named = [*self.forward.manifest.models, *(self.back.manifest.models if self.back else ())]
        return list({model.sha256: model for model in named if model.sha256 in self.contents}.values())

    @classmethod
    def open(cls, model: Path, channel: str | None = None) -> Self:
        """Read the release of a model file, or a release file itself. `channel` is the one that the user means.

        Raises `FileError`, `TrustError`, `ModelError` for bytes that are not what was signed, `InputError` for another channel.
        """
        path = model if model.suffix == RELEASE_SUFFIX else model.with_name(model.name + RELEASE_SUFFIX)
        written = _read(path)
        if channel is not None and channel != written.channel:
            raise InputError(
                f"{path}: signed for the channel {written.channel!r}, not {channel!r}; the channel is part of what is "
                f"signed: sign it again with edge-convert sign --channel {plain(channel)}"
            )
        forward = _signed(written.manifest, written.channel, f"{path}: manifest")
        back = None if written.back is None else _signed(written.back, written.channel, f"{path}: back")
        if back is not None and back.serial <= forward.serial:
            raise TrustError(
                f"{path}: back: its serial {back.serial} is not above {forward.serial}, so nodes refuse it"
            )
        contents: dict[str, bytes] = {}
        absent: list[ModelFile] = []
        for one in (*forward.manifest.models, *(back.manifest.models if back else ())):
            if one.sha256 in contents:
                continue
            name = written.files.get(one.sha256)
            needed = forward.manifest.model(one.name) == one
            if name is None or not (path.parent / name).exists():
                if needed:
                    raise FileError(
                        f"{path.parent / (name or model.name)}: no such file, but {path.name} names it for model "
                        f"{one.name!r} {one.version}; put the model file beside its release"
                    )
                absent.append(one)
                continue
            contents[one.sha256] = _content(path.parent / name, one, path)
        return cls(written.channel, forward, back, contents, tuple(absent))


def _read(path: Path) -> Release:
    if not path.exists():
        raise FileError(f"{path}: no such file; make it with edge-convert sign MODEL --key KEY --channel CHANNEL")
    try:
        with path.open("rb") as file:
            content = file.read(MAX_RELEASE_BYTES + 1)
    except OSError as error:
        raise FileError(f"{path}: {error.strerror}") from error
    return read(Release, content, str(path), MAX_RELEASE_BYTES)


def _signed(envelope: Envelope, channel: str, what: str) -> Signed:
    manifest = read(Manifest, envelope.manifest, what)
    if manifest.channel != channel:
        raise TrustError(f"{what}: signed for the channel {manifest.channel!r}, but the file says {channel!r}")
    try:
        minisign.signatures(envelope.signature)
    except TrustError as error:
        raise TrustError(f"{what}: {error}") from None
    return Signed(manifest, envelope.model_copy(update={"wave": None}))


def _content(path: Path, model: ModelFile, release: Path) -> bytes:
    try:
        if path.stat().st_size != model.size:
            raise ModelError(
                f"{path}: {path.stat().st_size} bytes, but {release.name} was signed for {model.size}; sign it again"
            )
        content = path.read_bytes()
    except OSError as error:
        raise FileError(f"{path}: {error.strerror}") from error
    if hashlib.sha256(content).hexdigest() != model.sha256:
        raise ModelError(f"{path}: not the bytes that {release.name} was signed for (sha256 differs); sign it again")
    return content
