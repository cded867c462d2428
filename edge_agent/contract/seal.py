"""The seal of a model file: a digest of the whole file, written last and checked first.

A file is protobuf, and protobufs written one behind the other are one message: so the seal is just one more entry of
`metadata_props` (field 14 of ONNX's ModelProto), appended to the bytes of the file. To all who read ONNX it is a key with
a value; here it is the last `LENGTH` bytes, which are found without reading anything else.

Rules:

* a file is sealed when its last bytes are exactly the entry that belongs to the bytes before them;
* anything that is, was, or nearly is such an entry, and does not belong to what is before it, makes the file a damaged
  one, so that a damaged seal never passes for none;
* a file without any is one that somebody else made, or an older edge-convert: it may be served, and is said to be
  unsealed.

It detects damage and mix-ups, not forgery: whoever can write the file can seal it.
"""

from __future__ import annotations

import hashlib
from typing import Final

from edge_agent.errors import ModelError

KEY: Final = b"edge_agent_sha256"
_DIGITS: Final = 64
#: Field 14 (length-delimited): { 1: KEY, 2: 64 hexadecimal digits }. Source: onnx.proto; protobuf's encoding.
_ENTRY: Final = b"\x0a%c%b\x12%c" % (len(KEY), KEY, _DIGITS)
_HEAD: Final = b"\x72%c%b" % (len(_ENTRY) + _DIGITS, _ENTRY)
LENGTH: Final = len(_HEAD) + _DIGITS


def seal(content: bytes) -> bytes:
    """Return a model file with a new seal, replacing an existing one."""
    bare = content[:-LENGTH] if content[-LENGTH:].startswith(_HEAD) else content
    return bare + _HEAD + _digest(bare)


def is_sealed(content: bytes, *, where: str) -> bool:
    """Tell whether a model file has a (valid) seal. Raises `ModelError` when the file is damaged."""
    bare, last = content[:-LENGTH], content[-LENGTH:]
    if last == _HEAD + _digest(bare):
        return True
    # Surrounded by control characters, so that it can't occur by chance in any text of the file.
    if _ENTRY in content or _is_like_a_seal(last):
        raise ModelError(
            f"{where}: the file is damaged, or was changed after it was written: it does not match its own sha256; "
            "copy it again, or write it again with edge-convert"
        )
    return False


def _digest(bare: bytes) -> bytes:
    return hashlib.sha256(bare).hexdigest().encode()


def _is_like_a_seal(last: bytes) -> bool:
    """Tell whether most bytes of the fixed part are present, which does not happen by chance."""
    same = sum(one == other for one, other in zip(last, _HEAD, strict=False))
    return same > len(_HEAD) // 2
