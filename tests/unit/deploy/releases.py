"""Releases as `edge-convert sign --channel` writes them, of model files that are any bytes: who deploys them can't tell."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from edge_agent.contract.manifest import BLOB_BYTES, Manifest, ModelFile, pieces, written
from edge_agent.contract.minisign import Signature

SERIAL = 1_790_000_000
SIGNATURE = Signature(b"12345678", bytes(64), "", bytes(64)).text


def model_of(content: bytes, version: str, name: str = "genre") -> ModelFile:
    """What a manifest says of a model file."""
    return ModelFile(
        name=name,
        version=version,
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        features=("tempo",),
        labels=("Hip-Hop", "Rock"),
        blobs=tuple(hashlib.sha256(piece).hexdigest() for piece in pieces(content)),
    )


def manifest_of(*models: ModelFile, serial: int = SERIAL, **more: Any) -> Manifest:
    """A manifest."""
    return Manifest(channel="stable", serial=serial, models=models, issued="2026-09-21T14:13:20Z", **more)


def envelope_of(manifest: Manifest) -> dict[str, str]:
    """The message with a manifest."""
    return {"manifest": written(manifest), "signature": SIGNATURE}


def write_release(
    folder: Path,
    version: str = "1.1.0",
    *,
    before: str | None = "1.0.0",
    serial: int = SERIAL,
    size: int = BLOB_BYTES + 1000,
    channel: str = "stable",
    **more: Any,
) -> Path:
    """Write genre-VERSION.onnx with its release, whose way back is to version `before`; return the model file."""
    contents = {one: (one.encode() * size)[:size] for one in (version, before) if one is not None}
    files = {}
    for one, content in contents.items():
        path = folder / f"genre-{one}.onnx"
        path.write_bytes(content)
        files[hashlib.sha256(content).hexdigest()] = path.name
    back = None
    if before is not None:
        back = envelope_of(manifest_of(model_of(contents[before], before), serial=serial + 1))
    release = {
        "v": 1,
        "channel": channel,
        "manifest": envelope_of(manifest_of(model_of(contents[version], version), serial=serial, **more)),
        "back": back,
        "files": files,
    }
    model = folder / f"genre-{version}.onnx"
    model.with_name(model.name + ".release").write_text(json.dumps(release))
    return model
