"""Payloads of Sparkplug B for tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge_agent.payload.sparkplug import payload_type


def encoded(*metrics: Mapping[str, Any]) -> bytes:
    """Return a payload of metrics, each given by its fields; `name` as text."""
    payload = payload_type()()
    for fields in metrics:
        name = {"name": fields["name"].encode()} if "name" in fields else {}
        payload.metrics.add(**{**fields, **name})
    return bytes(payload.SerializeToString())
