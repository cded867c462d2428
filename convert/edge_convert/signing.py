"""minisign's secret keys and signatures, so that a key of edge-convert works with minisign, and one of minisign here.

Rules:

* a secret key is written with mode 600 and never over another file; with a password it is encrypted as minisign does it: XOR with a stream of
  scrypt, whose cost stands in the file;
* signatures have minisign's prehashed form (`edge_agent.contract.minisign`).

Source: https://jedisct1.github.io/minisign/#secret-key-format; libsodium's crypto_pwhash_scryptsalsa208sha256 (pickparams) for scrypt's parameters.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import secrets
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_agent.contract.minisign import PublicKey, Signature
from edge_agent.errors import InputError

#: libsodium's "sensitive" limits, as minisign has them: 2**20 blocks of 1 KiB, 1 GiB in all, a few seconds.
OPERATIONS: Final = 1 << 25
MEMORY: Final = 1 << 30
#: The least of either (libsodium), for keys of tests.
LEAST: Final = 1 << 15, 1 << 24
_COMMENT: Final = "untrusted comment: minisign encrypted secret key"
_ALGORITHM: Final = b"Ed"
_SCRYPT: Final = b"Sc"
_PLAIN: Final = b"\0\0"
_BLAKE2: Final = b"B2"
#: Algorithms (signature, key derivation, checksum), salt, limits, and the part that is encrypted: id, seed and public key, checksum.
_LAYOUT: Final = struct.Struct("<2s2s2s32sQQ104s")
_INNER: Final = struct.Struct("<8s32s32s32s")
_BLOCK: Final = 8
_MAX_FILE_BYTES: Final = 4096

#: Asks a person for the password of a file.
Ask = Callable[[], str]


class SecretKey(NamedTuple):
    """A secret key: the 8 bytes that name it, the seed of Ed25519, and its public key (32 bytes each)."""

    id: bytes
    seed: bytes
    public: bytes

    @classmethod
    def generate(cls) -> SecretKey:
        """Make a new key."""
        private = Ed25519PrivateKey.generate()
        return cls(secrets.token_bytes(8), private.private_bytes_raw(), private.public_key().public_bytes_raw())

    @property
    def public_key(self) -> PublicKey:
        """The key to be trusted."""
        return PublicKey(self.id, self.public)

    def sign(self, content: bytes, comment: str) -> Signature:
        """Sign content, and a trusted comment with it."""
        private = Ed25519PrivateKey.from_private_bytes(self.seed)
        signature = private.sign(hashlib.blake2b(content).digest())
        return Signature(self.id, signature, comment, private.sign(signature + comment.encode()))

    def text(self, password: str | None, cost: tuple[int, int] = (OPERATIONS, MEMORY)) -> str:
        """Return the content of a key file, encrypted unless `password` is None. `cost` is libsodium's operations and memory."""
        inner = _INNER.pack(self.id, self.seed, self.public, self._checksum())
        if password is None:
            content = _LAYOUT.pack(_ALGORITHM, _PLAIN, _BLAKE2, bytes(32), 0, 0, inner)
        else:
            salt = secrets.token_bytes(32)
            inner = _mixed(inner, _stream(password, salt, *cost))
            content = _LAYOUT.pack(_ALGORITHM, _SCRYPT, _BLAKE2, salt, *cost, inner)
        return f"{_COMMENT}\n{base64.b64encode(content).decode()}\n"

    @classmethod
    def parse(cls, text: str, where: str, ask: Ask) -> SecretKey:
        """Read the content of a key file; `ask` is called when it is encrypted. Raises `InputError`."""
        lines = text.splitlines()
        try:
            algorithm, derivation, checksum, salt, operations, memory, inner = _LAYOUT.unpack(
                base64.b64decode(lines[1] if len(lines) > 1 else "", validate=True)
            )
        except (binascii.Error, ValueError, struct.error):
            raise InputError(
                f"{where}: not a secret key; name a file that edge-convert keygen or minisign -G wrote"
            ) from None
        if (algorithm, checksum) != (_ALGORITHM, _BLAKE2) or derivation not in {_SCRYPT, _PLAIN}:
            raise InputError(f"{where}: a secret key of an unknown kind; make one with edge-convert keygen")
        if derivation == _SCRYPT:
            inner = _mixed(inner, _stream(ask(), salt, operations, memory))
        key_id, seed, public, told = _INNER.unpack(inner)
        key = cls(key_id, seed, public)
        # minisign writes no checksum into a key without a password.
        if told != key._checksum() and not (derivation == _PLAIN and told == bytes(32)):
            raise InputError(f"{where}: wrong password" if derivation == _SCRYPT else f"{where}: the key is damaged")
        if Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw() != public:
            raise InputError(f"{where}: the key is damaged; take a copy of it, or make another one")
        return key

    def _checksum(self) -> bytes:
        content = _ALGORITHM + self.id + self.seed + self.public
        return hashlib.blake2b(content, digest_size=32).digest()


def read_key(path: Path, ask: Ask) -> SecretKey:
    """Read a key file. Raises `InputError`."""
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_FILE_BYTES).decode("ascii", errors="replace")
    except OSError as error:
        raise InputError(f"{path}: can't be read: {error.strerror or error}") from error
    return SecretKey.parse(text, str(path), ask)


def write_key(key: SecretKey, path: Path, password: str | None, cost: tuple[int, int] = (OPERATIONS, MEMORY)) -> Path:
    """Write a key file, and its public key beside it, whose path is returned. Raises `InputError`, also when either is there."""
    public = path.with_suffix(".pub")
    if public == path:
        raise InputError(
            f"{path}: the name of the public key, which is written beside it; choose another ending, such as .key"
        )
    for file in (path, public):
        if os.path.lexists(file):
            raise InputError(f"{file}: is there already, and a key is never overwritten; choose another name")
    made: list[Path] = []
    try:
        for file, content, mode in ((path, key.text(password, cost), 0o600), (public, key.public_key.file, 0o644)):
            try:
                _write_new(file, content, mode, made)
            except OSError as error:
                raise InputError(f"{file}: can't be written: {error.strerror or error}") from error
    except BaseException:
        # Half a key is none, and would block the name.
        for file in made:
            file.unlink(missing_ok=True)
        raise
    return public


def _write_new(path: Path, content: str, mode: int, made: list[Path]) -> None:
    """Write a file that is not there yet; from when on it is, it stands in `made`. Raises `OSError`."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    made.append(path)
    with open(descriptor, "w") as file:  # noqa: PTH123 - a descriptor
        file.write(content)
        file.flush()
        os.fsync(descriptor)


def _stream(password: str, salt: bytes, operations: int, memory: int) -> bytes:
    n, p = _parameters(operations, memory)
    needed = 128 * _BLOCK * (n + p + 2)
    if needed > MEMORY + (1 << 22) or p > 1 << 10:
        raise InputError("the key asks for more memory or time than any key of minisign; make another one")
    try:
        return hashlib.scrypt(
            password.encode(), salt=salt, n=n, r=_BLOCK, p=p, maxmem=needed + (1 << 20), dklen=_INNER.size
        )
    except (MemoryError, ValueError) as error:
        raise InputError(
            f"the password's key can't be computed, which takes {needed >> 20} MiB of memory: {error}"
        ) from None


def _parameters(operations: int, memory: int) -> tuple[int, int]:
    """Return scrypt's n and p for libsodium's limits."""
    operations = max(operations, 32_768)
    bounded = operations < memory // 32
    most = operations // (_BLOCK * 4) if bounded else memory // (_BLOCK * 128)
    # The largest power of two up to `most`, and at least two.
    n = 1 << max(1, most.bit_length() - 1)
    return n, 1 if bounded else min(operations // 4 // n, 0x3FFFFFFF) // _BLOCK


def _mixed(content: bytes, stream: bytes) -> bytes:
    return bytes(one ^ other for one, other in zip(content, stream, strict=True))
