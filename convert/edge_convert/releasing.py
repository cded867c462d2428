"""What is signed: model files, releases for a channel, and lists of keys. The keys themselves: `edge_convert.signing`.

A release file holds everything that takes models to the devices of a channel, and back again, so that who rolls it out needs no key.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from edge_agent.contract import manifest as manifests
from edge_agent.contract.manifest import (
    BLOB_BYTES,
    MAX_RELEASE_BYTES,
    RELEASE_SUFFIX,
    Envelope,
    KeyEnvelope,
    KeyList,
    Manifest,
    ModelFile,
    Release,
    instant,
    written,
)
from edge_agent.contract.minisign import SUFFIX, signatures
from edge_agent.errors import InputError, TrustError
from edge_convert.atomic import write_atomically
from edge_convert.signing import SecretKey

_Part = TypeVar("_Part", bound=manifests.Part)
#: Ending of a file with a list of keys, as it is published.
KEYS_SUFFIX: Final = ".keys"


class Terms(NamedTuple):
    """What a manifest says besides its models. `options` are fields of `Manifest` by their names in JSON."""

    channel: str
    serial: int
    now: float
    expires: float | None
    options: dict[str, Any]
    title: str = ""
    summary: str = ""


def sign_file(path: Path, keys: Sequence[SecretKey], comment: str | None, now: float, *, add: bool) -> Path:
    """Sign any file as minisign does, and return the path of its signatures. With `add`, those of other keys stay. Raises `InputError`."""
    content = _content(path)
    place = path.with_name(path.name + SUFFIX)
    said = f"timestamp:{now:.0f}\tfile:{path.name}\thashed" if comment is None else comment
    _check_comment(said)
    before = _content(place).decode(errors="replace") if add and place.exists() else ""
    write_atomically(place, _signed(content, before, keys, said).encode())
    return place


def release(
    path: Path, others: Sequence[Path], back: Sequence[Path], keys: Sequence[SecretKey], terms: Terms
) -> tuple[Path, Release]:
    """Write the release file of a model, `others` with it, and `back` to return to. Raises `InputError`."""
    files: dict[str, str] = {}
    forward = _manifest([path, *others], terms, files)
    backward = None
    if back:
        again = {key: value for key, value in terms.options.items() if key == "for"} | {"new_contract": True}
        # The way back does not expire: it is what helps when the new model turns out bad later, and nobody with the key is at hand.
        returned = terms._replace(serial=terms.serial + 1, expires=None, options=again, title="", summary="")
        backward = _manifest(back, returned, files)
        if missing := {one.name for one in forward.models} - {one.name for one in backward.models}:
            raise InputError(f"--back: no model called {', '.join(sorted(missing))}; name the file that it had before")
    found = Release(
        channel=terms.channel,
        manifest=_envelope(forward, keys),
        back=None if backward is None else _envelope(backward, keys),
        files=files,
    )
    place = path.with_name(path.name + RELEASE_SUFFIX)
    write_atomically(place, written(found).encode())
    return place, found


def countersign(path: Path, keys: Sequence[SecretKey]) -> Release:
    """Add signatures to a release file. Raises `InputError`."""
    found = _read(Release, path, MAX_RELEASE_BYTES)
    signed = found.model_copy(
        update={name: _again(one, keys) for name in ("manifest", "back") if (one := getattr(found, name)) is not None}
    )
    write_atomically(path, written(signed).encode())
    return signed


def key_list(path: Path, said: KeyList, keys: Sequence[SecretKey]) -> None:
    """Write the message with a list of keys, signed with `keys`. Raises `InputError`."""
    text = written(said)
    signature = _signed(text.encode(), "", keys, f"channel:{said.channel}\tserial:{said.serial}\tkeys")
    write_atomically(path, KeyEnvelope(keys=text, signature=signature).payload())


def countersign_keys(path: Path, keys: Sequence[SecretKey]) -> KeyList:
    """Add signatures to a list of keys. Raises `InputError`."""
    message = _read(KeyEnvelope, path, MAX_RELEASE_BYTES)
    try:
        said = manifests.read(KeyList, message.keys, str(path))
    except TrustError as error:
        raise InputError(str(error)) from error
    comment = f"channel:{said.channel}\tserial:{said.serial}\tkeys"
    signature = _signed(message.keys.encode(), message.signature, keys, comment)
    write_atomically(path, KeyEnvelope(keys=message.keys, signature=signature).payload())
    return said


def manifest_of(envelope: Envelope) -> Manifest:
    """Return the manifest of an envelope, whoever signed it. Raises `InputError`."""
    try:
        return manifests.read(Manifest, envelope.manifest, "the manifest")
    except TrustError as error:
        raise InputError(str(error)) from error


def _manifest(paths: Sequence[Path], terms: Terms, files: dict[str, str]) -> Manifest:
    given = terms.options | {
        "channel": terms.channel,
        "serial": terms.serial,
        "issued": instant(terms.now),
        "models": tuple(_models(paths, terms, files)),
    }
    if terms.expires is not None:
        given["expires"] = instant(terms.now + terms.expires)
    try:
        return manifests.checked(Manifest, given, "the manifest")
    except TrustError as error:
        raise InputError(str(error)) from error


def _models(paths: Sequence[Path], terms: Terms, files: dict[str, str]) -> Iterable[ModelFile]:
    from edge_convert.modelfile import read_model

    for path in paths:
        if path.resolve().parent != paths[0].resolve().parent:
            raise InputError(
                f"{path}: is not beside {paths[0]}; copy it there, for a release names the files beside it"
            )
        content, card = read_model(path)
        first = path == paths[0]
        one = manifests.model_file(
            card, content, title=terms.title if first else "", summary=terms.summary if first else ""
        )
        files[one.sha256] = path.name
        yield one


def _envelope(said: Manifest, keys: Sequence[SecretKey]) -> Envelope:
    return _again(Envelope(manifest=written(said)), keys)


def _again(envelope: Envelope, keys: Sequence[SecretKey]) -> Envelope:
    said = manifest_of(envelope)
    comment = f"channel:{said.channel}\tserial:{said.serial}\tmanifest"
    signature = _signed(envelope.manifest.encode(), envelope.signature, keys, comment)
    signed = envelope.model_copy(update={"signature": signature})
    if (size := len(signed.payload())) > BLOB_BYTES:
        raise InputError(f"the manifest has {size} bytes, and brokers take {BLOB_BYTES}; sign fewer models at once")
    return signed


def _signed(content: bytes, before: str, keys: Sequence[SecretKey], comment: str) -> str:
    """Return the signatures there were, but for those of `keys`, and theirs."""
    try:
        others = signatures(before) if before else []
    except TrustError as error:
        raise InputError(str(error)) from error
    new = [key.sign(content, comment) for key in keys]
    ids = {one.key_id for one in new}
    return "".join(one.text for one in (*(other for other in others if other.key_id not in ids), *new))


def _check_comment(comment: str) -> None:
    if not comment.replace("\t", " ").isprintable() or len(comment) > 1024:
        raise InputError("the comment must be one line of at most 1,024 printable characters; shorten it")


def _read(kind: type[_Part], path: Path, limit: int) -> _Part:
    try:
        return manifests.read(kind, _content(path), str(path), limit)
    except TrustError as error:
        raise InputError(str(error)) from error


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: can't be read: {error.strerror or error}") from error
