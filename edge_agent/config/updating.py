"""Settings of what is trusted: the keys that sign models, and what the node takes over MQTT."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from edge_agent.config.values import FilePath, Section
from edge_agent.contract.manifest import MAX_MODEL_BYTES
from edge_agent.contract.minisign import MAX_KEYS, PublicKey
from edge_agent.contract.topics import CHANNEL_WORDS, is_channel
from edge_agent.errors import FileError, SettingsError, TrustError
from edge_agent.host import files

#: Ending of files with a public key, as minisign names them.
KEY_SUFFIX: Final = ".pub"
_MAX_KEY_BYTES: Final = 4096
_MIB: Final = 1 << 20


def _key(text: str) -> str:
    if not text.endswith(KEY_SUFFIX):
        try:
            return PublicKey.parse(text).text
        except TrustError as error:
            raise ValueError(f"{error}, or the path of a {KEY_SUFFIX} file") from None
    return text


def _channel(text: str) -> str:
    if text and not is_channel(text):
        raise ValueError(CHANNEL_WORDS)
    return text


class Models(Section):
    """The directory searched for models by name, before the bundled ones."""

    directory: FilePath = Path("/var/lib/edge-agent/models")
    #: Whether a model file there needs a signature of the trusted keys in a file `<model file>.minisig` beside it.
    require_signature: bool = False


class Update(Section):
    """Models over MQTT: from which channel, and whose signatures are trusted."""

    #: Each a line of base64, or the path of a .pub file.
    trusted_keys: Annotated[
        tuple[Annotated[str, StringConstraints(min_length=1, max_length=4096), AfterValidator(_key)], ...],
        Field(max_length=MAX_KEYS),
    ] = ()
    #: How many of them must have signed.
    threshold: Annotated[int, Field(ge=1, le=MAX_KEYS)] = 1
    #: Empty: no models over MQTT.
    channel: Annotated[str, AfterValidator(_channel)] = ""
    #: Whether what comes over MQTT needs signatures.
    require_signature: bool = True
    #: Whether a person decides when a new model is installed.
    by_hand: bool = False
    #: Versions of each model that are kept.
    keep: Annotated[int, Field(ge=2, le=100)] = 3
    #: Largest model file that is fetched.
    max_bytes: Annotated[int, Field(ge=1, le=MAX_MODEL_BYTES)] = 32 * _MIB

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.channel and self.require_signature and not self.trusted_keys:
            raise ValueError(
                "a channel, but no trusted_keys, so nothing could be accepted; add the public key of edge-convert keygen"
            )
        if self.trusted_keys and self.threshold > len(self.trusted_keys):
            raise ValueError(
                f"a threshold of {self.threshold} for {len(self.trusted_keys)} trusted_keys, which nobody could reach"
            )
        return self

    def keys(self) -> tuple[PublicKey, ...]:
        """Return the trusted keys, reading their files. Raises `SettingsError`."""
        found: dict[bytes, PublicKey] = {}
        for text in self.trusted_keys:
            key = _read(Path(text)) if text.endswith(KEY_SUFFIX) else PublicKey.parse(text)
            if key.id in found:
                raise SettingsError(f"update.trusted_keys: key {key.name} is there twice; remove one of them")
            found[key.id] = key
        return tuple(found.values())


def _read(path: Path) -> PublicKey:
    try:
        return PublicKey.parse(files.read(path, limit=_MAX_KEY_BYTES).decode())
    except FileError as error:
        raise SettingsError(f"update.trusted_keys: {error}") from error
    except UnicodeDecodeError:
        raise SettingsError(f"update.trusted_keys: {path}: not text; name a file of edge-convert keygen") from None
    except TrustError as error:
        raise SettingsError(f"update.trusted_keys: {path}: {error}") from error
