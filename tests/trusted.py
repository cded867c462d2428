"""Keys, signatures and manifests for tests: signed as edge-convert signs, the same in every run."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Sequence
from typing import Any

from edge_convert.signing import SecretKey

from edge_agent.contract.manifest import Envelope, KeyEnvelope, KeyList, Manifest, ModelFile, model_file, written
from edge_agent.model.library import locate, open_file
from edge_agent.model.trust import Signers, Trust

CHANNEL = "stable"
#: 21 September 2026, when the tests' manifests are issued.
ISSUED = 1_790_000_000


def secret_key(number: int) -> SecretKey:
    """One of as many keys as are asked for; nobody's."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    seed = hashlib.sha256(b"nobody's %d" % number).digest()
    public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    return SecretKey(seed[:8], seed, public)


ANN, BEN, EVE = map(secret_key, range(3))


def signed(content: bytes | str, *keys: SecretKey, comment: str = "timestamp:1790000000") -> str:
    """The signatures of keys on a content, one after the other."""
    content = content.encode() if isinstance(content, str) else content
    return "".join(key.sign(content, comment).text for key in keys)


def instant(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def genre() -> ModelFile:
    """The bundled model, as a manifest names it."""
    path = locate("genre")
    return model_file(open_file(path).card, path.read_bytes())


def manifest(
    *models: ModelFile, serial: int = ISSUED, channel: str = CHANNEL, meant: Sequence[str] = ("*",), **others: Any
) -> Manifest:
    """A manifest of these models (default: the bundled one) for the nodes `meant`."""
    given = {
        "for": tuple(meant),
        "channel": channel,
        "serial": serial,
        "models": models or (genre(),),
        "issued": instant(ISSUED),
        **others,
    }
    return Manifest.model_validate(given)


def envelope(said: Manifest | str, *keys: SecretKey, wave: Sequence[str] | None = None) -> bytes:
    """The message with a manifest, signed by these keys (default: Ann's)."""
    text = said if isinstance(said, str) else written(said)
    return Envelope(
        manifest=text, signature=signed(text, *keys or (ANN,)), wave=None if wave is None else tuple(wave)
    ).payload()


def key_list(*keys: SecretKey, serial: int = ISSUED, threshold: int = 1, channel: str = CHANNEL) -> KeyList:
    return KeyList(channel=channel, serial=serial, keys=tuple(key.public_key.text for key in keys), threshold=threshold)


def key_envelope(said: KeyList, *keys: SecretKey) -> bytes:
    """The message with a list of keys, signed by these keys."""
    return KeyEnvelope(keys=written(said), signature=signed(written(said), *keys)).payload()


def trusting(*keys: SecretKey, threshold: int = 1, **others: Any) -> Trust:
    """A node's trust in these keys (default: Ann's) in the tests' channel."""
    public = tuple(key.public_key for key in keys or (ANN,))
    return Trust(public, threshold, **{"channel": CHANNEL, **others})


def signers(*keys: SecretKey, threshold: int = 1) -> Signers:
    return Signers(tuple(key.public_key for key in keys or (ANN,)), threshold)
