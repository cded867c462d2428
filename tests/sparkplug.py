"""Payloads of Sparkplug B for tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge_agent.payload.sparkplug import payload_type


def encoded(*metrics: Mapping[str, Any], seq: int | None = None) -> bytes:
    """Return a payload of metrics, each given by its fields; `name` as text. `seq` is its number among those of its node."""
    payload = payload_type()()
    if seq is not None:
        payload.seq = seq
    for fields in metrics:
        name = {"name": fields["name"].encode()} if "name" in fields else {}
        payload.metrics.add(**{**fields, **name})
    return bytes(payload.SerializeToString())
