"""Versions of the bundled model: the same file with another number on its card, and a new seal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edge_agent.contract.seal import LENGTH, seal
from edge_agent.model.library import locate
from tests import wire

_SAID = b'"name":"genre","version":"%s"'
#: Field 15 of a model, which no ONNX has: any bytes.
_UNKNOWN = b"\x7a"


def version(number: str, changes: Mapping[bytes, bytes] | None = None, *, larger: int = 0) -> bytes:
    """The bundled model as version `number`, which has five characters, with more `changes` of as many bytes; `larger` by so many bytes that
    mean nothing.
    """
    content = locate("genre").read_bytes()
    assert content.count(_SAID % b"1.0.0") == 1
    for before, after in {_SAID % b"1.0.0": _SAID % number.encode(), **(changes or {})}.items():
        assert before in content
        assert len(before) == len(after)
        content = content.replace(before, after)
    if larger:
        content = content[:-LENGTH] + _UNKNOWN + wire.varint(larger) + bytes(larger)
    return seal(content)


def write_version(directory: Path, number: str) -> Path:
    """Write it as a file."""
    path = directory / f"genre-{number}.onnx"
    path.write_bytes(version(number))
    return path
