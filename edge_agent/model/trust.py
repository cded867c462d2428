"""Decides what is trusted: signatures of files, manifests, and lists of keys. The only module that imports cryptography.

Rules:

* cryptography is imported when a signature is verified, which is done in a short-lived process (`edge_agent.host.apart`): the
  serving process never has it in memory.
* A signature is verified before anything is read of what it signs; how long that is, before that.
* Each signature counts for its key, and each key once. One of an unknown key counts for nothing, so that the keys before and after a
  rotation can sign together; one of a trusted key that does not match refuses the content.
* A manifest is taken when its serial is above the highest one that was taken, or it is that very text again. The highest one stands for as
  long as enough of those who signed it are trusted: so a key that was stolen can't block a channel once it is replaced.
* A clock that is before a manifest's own date of issue is wrong, and then nothing expires.

Why it is so: docs/decisions/0042-trust.md.
"""

from __future__ import annotations

import hashlib
import json
import signal
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from edge_agent.contract import manifest as manifests
from edge_agent.contract.manifest import Envelope, KeyEnvelope, KeyList, Manifest
from edge_agent.contract.minisign import SUFFIX, PublicKey, Signature, shown, signatures
from edge_agent.errors import CutShortError, FileError, TrustError
from edge_agent.host import files
from edge_agent.host.apart import Apart, Limits

#: Largest file that tells who signed a model file.
MAX_EVIDENCE_BYTES: Final = manifests.MAX_MESSAGE_BYTES
_BESIDE: Final = "the manifest beside it"
#: Importing cryptography and a few signatures take 0.05 s on a desktop, and 20 MiB.
_LIMITS: Final = Limits(seconds=20.0, patience=160.0, memory=128 << 20, nice=10)


class Signers(NamedTuple):
    """Whose signatures are trusted, and how many of them are needed."""

    keys: tuple[PublicKey, ...]
    threshold: int = 1

    def are_enough(self, key_ids: Sequence[str]) -> bool:
        """Tell whether signatures of these keys suffice."""
        return len({key.name for key in self.keys} & set(key_ids)) >= self.threshold

    @property
    def digest(self) -> str:
        """A short text that is different for other keys."""
        return hashlib.sha256(repr((sorted(self.keys), self.threshold)).encode()).hexdigest()


class Verified(NamedTuple):
    """The keys (by name) that signed, and the trusted comment of the first."""

    key_ids: tuple[str, ...]
    comment: str


class Accepted(NamedTuple):
    """The manifest with the highest serial that was taken: who signed it, the digest of its text, and when it was issued."""

    serial: Annotated[int, Field(ge=0, le=manifests.MAX_SERIAL)] = 0
    key_ids: tuple[str, ...] = ()
    sha256: str = ""
    issued: str = ""


class Kept(BaseModel):
    """What a device remembers of a channel. `keys` are in place of the settings' own, which are known by their digest `instead_of`: when those
    are changed, they are in force again.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    accepted: Accepted = Accepted()
    keys: KeyList | None = None
    instead_of: str = ""


class Trust(NamedTuple):
    """Whom a node trusts in a channel, and what it has taken. `keys_serial` is the serial of the list that the keys come from, 0 where
    they are the settings' own. Without `required`, nothing needs a signature.
    """

    keys: tuple[PublicKey, ...]
    threshold: int = 1
    channel: str = ""
    accepted: Accepted = Accepted()
    required: bool = True
    keys_serial: int = 0

    @property
    def signers(self) -> Signers:
        """The keys, with the threshold."""
        return Signers(self.keys, self.threshold)

    @property
    def highest(self) -> Accepted:
        """What was accepted, as far as it would be today."""
        return self.accepted if not self.required or self.signers.are_enough(self.accepted.key_ids) else Accepted()


class Offer(NamedTuple):
    """A manifest that may be followed. `wave` is which of those meant begin, None for all; `accepted` is to be remembered, and `evidence`,
    the message itself, is put beside the files: who signed them. None where that is not asked for.
    """

    manifest: Manifest
    wave: tuple[str, ...] | None
    accepted: Accepted
    evidence: bytes | None = None

    def is_for(self, node: str) -> bool:
        """Tell whether this node is to follow it."""
        channel, wave = self.manifest.channel, self.wave
        return manifests.is_meant(node, channel, self.manifest.meant) and (
            wave is None or manifests.is_meant(node, channel, wave)
        )


def trust(configured: Signers, channel: str, kept: Kept, *, required: bool = True) -> Trust:
    """Return whom to trust in a channel: the keys of the settings, or those of a list that replaced them."""
    if kept.keys is None or kept.instead_of != configured.digest:
        return Trust(*configured, channel, kept.accepted, required)
    keys = kept.keys
    return Trust(keys.public_keys, keys.threshold, channel, kept.accepted, required, keys.serial)


def remember(kept: Kept, configured: Signers, taken: Accepted | KeyList) -> Kept:
    """Return what to remember after a manifest or a list of keys was taken."""
    if isinstance(taken, Accepted):
        return kept.model_copy(update={"accepted": taken})
    return kept.model_copy(update={"keys": taken, "instead_of": configured.digest})


def verify(content: bytes, signature_text: str, keys: Sequence[PublicKey], threshold: int = 1) -> Verified:
    """Check that at least `threshold` of `keys` signed `content`. Raises `TrustError`."""
    found = signatures(signature_text)
    if not keys:
        raise TrustError("no key is trusted; add one to update.trusted_keys")
    known = {key.id: key for key in keys}
    digest = hashlib.blake2b(content).digest()
    valid: dict[str, str] = {}
    for signature in found:
        key = known.get(signature.key_id)
        if key is not None:
            _verify_one(digest, signature, key)
            valid.setdefault(key.name, signature.trusted_comment)
    if not valid:
        raise TrustError(
            f"signed by {_names(shown(one.key_id) for one in found)}, which is not trusted here; "
            f"sign it with one that is ({_names(key.name for key in keys)}), or add it to update.trusted_keys"
        )
    if len(valid) < threshold:
        raise TrustError(
            f"signed by {len(valid)} of the trusted keys ({_names(valid)}), and {threshold} are needed; sign it with more of them"
        )
    return Verified(tuple(valid), next(iter(valid.values())))


def verify_file(content: bytes, evidence: bytes, signers: Signers) -> Verified:
    """Check that a model file is signed: `evidence` is the text of its signatures, or the message with a manifest that names it by its
    sha256, which is what is kept of a model that came over MQTT. Raises `TrustError`.
    """
    if not evidence.startswith(b"{"):
        return verify(content, evidence.decode(errors="replace"), *signers)
    what = _BESIDE
    message = manifests.read(Envelope, evidence, what)
    found = verify(message.manifest.encode(), message.signature, *signers)
    models = manifests.read(Manifest, message.manifest, what).models
    if hashlib.sha256(content).hexdigest() not in {model.sha256 for model in models}:
        raise TrustError(f"{what} does not name this file; install it again")
    return found


def claimed(evidence: bytes) -> list[Signature]:
    """Return the signatures in what lies beside a model file, whatever they are worth. Raises `TrustError`."""
    if evidence.startswith(b"{"):
        return signatures(manifests.read(Envelope, evidence, _BESIDE).signature)
    return signatures(evidence.decode(errors="replace"))


def evidence_of(path: Path) -> Path:
    """Return where it stands who signed the model file at `path`."""
    return path.with_name(path.name + SUFFIX)


def verify_beside(path: Path, content: bytes, signers: Signers) -> Verified:
    """Check that the model file at `path`, which has this content, is signed by what lies beside it. Raises `TrustError`."""
    evidence = evidence_of(path)
    try:
        _expect_evidence(evidence)
        return verify_file(content, files.read(evidence, limit=MAX_EVIDENCE_BYTES), signers)
    except FileError as error:
        raise TrustError(str(error)) from error
    except TrustError as error:
        raise TrustError(f"{path}: {error}") from None


def _expect_evidence(evidence: Path) -> None:
    if not files.exists(evidence):
        raise TrustError(
            f"not signed: there is no {evidence.name} beside it; sign it with edge-convert sign, or set "
            "models.require_signature = false"
        )


def accept(envelope: bytes, trust: Trust, now: float | None) -> Offer:
    """Check the whole message with a manifest. `now` is in seconds since 1970, None where that is unknown. Raises `TrustError`."""
    message = manifests.read(Envelope, envelope, "the manifest")
    text = message.manifest
    signers = _signed_by(text, message.signature, trust, "the manifest") if trust.required else ()
    manifest = manifests.read_manifest(text, "the manifest", trust.channel)
    _expect_channel(manifest.channel, trust, "the manifest")
    taken = Accepted(manifest.serial, signers, _digest(text), manifest.issued or "")
    before = trust.highest
    if taken.serial < before.serial:
        raise TrustError(
            f"the manifest: serial {taken.serial} is below {before.serial}, which was accepted before; sign it again"
        )
    if taken.serial > before.serial:
        _expect_fresh(manifest, now)
    elif taken.sha256 != before.sha256:
        raise TrustError(
            f"the manifest: another one with serial {taken.serial} was accepted before; sign it with a higher one"
        )
    return Offer(manifest, message.wave, taken)


def accept_keys(envelope: bytes, trust: Trust) -> KeyList:
    """Check the whole message with a list of keys, which has to be signed with those trusted so far. Raises `TrustError`."""
    what = "the list of keys"
    message = manifests.read(KeyEnvelope, envelope, what)
    _signed_by(message.keys, message.signature, trust, what)
    found = manifests.read(KeyList, message.keys, what)
    _expect_channel(found.channel, trust, what)
    if found.serial <= trust.keys_serial and (found.serial, found.public_keys, found.threshold) != (
        trust.keys_serial,
        trust.keys,
        trust.threshold,
    ):
        raise TrustError(f"{what}: serial {found.serial} is not above {trust.keys_serial}, which was accepted before")
    return found


class Examination:
    """One message being examined in a separate process: a manifest, or a list of keys. Close it when done."""

    def __init__(
        self, kind: Literal["manifest", "keys"], envelope: bytes, trust: Trust, now: float | None = None
    ) -> None:
        self._kind = kind
        self._envelope = envelope
        self._trust = trust
        self._now = now
        self._apart = Apart(self._work, _LIMITS)

    @property
    def ended(self) -> bool:
        """Whether it has ended, so that `offer` and `keys` do not block."""
        return self._apart.ended

    def offer(self) -> Offer:
        """Return the manifest that the message carries. Raises `TrustError`, or `CutShortError` when the system ended the
        process. Call it once: it closes in any case.
        """
        serial, key_ids, sha256, issued = self._told()
        message = manifests.read(Envelope, self._envelope, "the manifest")
        manifest = manifests.read_manifest(message.manifest, "the manifest", self._trust.channel)
        return Offer(manifest, message.wave, Accepted(serial, tuple(key_ids), sha256, issued))

    def keys(self) -> KeyList:
        """Return the list of keys that the message carries. Raises `TrustError`, or `CutShortError` when the system ended the
        process. Call it once: it closes in any case.
        """
        self._told()
        message = manifests.read(KeyEnvelope, self._envelope, "the list of keys")
        return manifests.read(KeyList, message.keys, "the list of keys")

    def close(self) -> None:
        """Stop it."""
        self._apart.close()

    def _work(self, tell: Callable[[str], None]) -> None:
        try:
            if self._kind == "manifest":
                said: Any = accept(self._envelope, self._trust, self._now).accepted
            else:
                accept_keys(self._envelope, self._trust)
                said = ()
            tell(json.dumps({"taken": said}))
        except TrustError as error:
            tell(json.dumps({"error": str(error)}))

    def _told(self) -> Any:
        try:
            self._apart.wait()
            told = json.loads("".join(self._apart.report()[-1:]))
        except ValueError:  # nothing, or cut: the process was killed
            why = f"the {self._kind}: could not be examined: {self._apart.trouble() or 'it ended early'}"
            # A message is small, so a busy device is all that can make it late.
            if self._apart.ended_by in {signal.SIGKILL, signal.SIGALRM}:
                raise CutShortError(why) from None
            told = {"error": why}
        finally:
            self._apart.close()
        if "error" in told:
            raise TrustError(told["error"])
        return told["taken"]


def _signed_by(text: str, signature: str, trust: Trust, what: str) -> tuple[str, ...]:
    """Return which keys signed a text. Raises `TrustError`."""
    if not signature:
        raise TrustError(f"{what}: not signed; sign it with edge-convert sign")
    try:
        return verify(text.encode(), signature, trust.keys, trust.threshold).key_ids
    except TrustError as error:
        raise TrustError(f"{what}: {error}") from None


def _verify_one(digest: bytes, signature: Signature, key: PublicKey) -> None:
    try:
        from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError:
        raise TrustError(
            "signatures can't be verified without Python's cryptography; apt install python3-cryptography"
        ) from None
    what = "the signature does not match the content: one of them was changed, or belongs to another file"
    try:
        public = Ed25519PublicKey.from_public_bytes(key.key)
        public.verify(signature.signature, digest)
        what = "the trusted comment does not match its signature: one of them was changed"
        public.verify(signature.global_signature, signature.signed_comment)
    except InvalidSignature:
        raise TrustError(f"{what} (key {key.name}); copy both again, or sign again with edge-convert sign") from None
    except (UnsupportedAlgorithm, ValueError) as error:
        raise TrustError(f"key {key.name} can't be used: {error}; make another one with edge-convert keygen") from None


def _expect_channel(channel: str, trust: Trust, what: str) -> None:
    if channel != trust.channel:
        raise TrustError(
            f"{what}: for channel {channel!r}, and this node follows {trust.channel!r}; sign it for that one"
        )


def _expect_fresh(manifest: Manifest, now: float | None) -> None:
    if manifest.expires is None or now is None:
        return
    if manifest.issued is not None and now < manifests.seconds(manifest.issued):
        return
    if now >= manifests.seconds(manifest.expires):
        raise TrustError(
            f"the manifest: expired at {manifest.expires} (this device's clock says {manifests.instant(now)}); sign it again, or set the clock"
        )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"key {name}" for name in names)
