"""Reads a model file that is there already, without the libraries that make one."""

from __future__ import annotations

from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped, unused-ignore]

from edge_agent.contract import card
from edge_agent.contract.seal import is_sealed
from edge_agent.errors import CardError, InputError


def read_model(path: Path) -> tuple[bytes, card.ModelCard]:
    """Return a model file's bytes and its card. Raises `InputError` if it is not an ONNX file with a card, `ModelError` if
    it is damaged.
    """
    try:
        content = path.read_bytes()
        is_sealed(content, where=str(path))
        properties = {entry.key: entry.value for entry in onnx.load_from_string(content).metadata_props}
    except OSError as error:
        raise InputError(f"{path}: can't be read: {error.strerror or error}") from error
    except DecodeError:
        raise InputError(f"{path}: is not an ONNX file") from None
    if card.METADATA_KEY not in properties:
        raise InputError(f"{path}: is not a model file of edge-agent: it has no model card")
    try:
        return content, card.parse(properties[card.METADATA_KEY], where=str(path))
    except CardError as error:
        raise InputError(str(error)) from error
