"""Documents of nodes that need no agent, and the page with one in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from edge_agent.page import page

#: Would run, load something or end an element, if it were ever taken for markup.
HOSTILE = "</script><img src=x onerror=alert(1)><b>\u202eevil</b>{{7*7}}"


def document(model: dict[str, Any], route: dict[str, Any], node: str = "pi-1") -> dict[str, Any]:
    """A document with one model and one route for it."""
    name = model["name"]
    channel = {
        "address": route["publish"],
        "description": f"Answers of the model {name}.",
        "messages": {"json": {"contentType": "application/json", "payload": {"description": f"About {name}"}}},
    }
    return {
        "asyncapi": "3.0.0",
        "info": {"title": node, "version": "1.0.0"},
        "channels": {"answers": channel},
        "operations": {"send": {"action": "send", "channel": {"$ref": "#/channels/answers"}, "summary": name}},
        "x-edge-agent": {
            "node": node,
            "version": "1.1.0",
            "protocol": "auto",
            "response_topics": ["try/#"],
            "models": [model],
            "routes": [{"model": name, "errors": f"{route['publish']}/error", "partial": "reject", **route}],
        },
    }


def pump(**more: Any) -> dict[str, Any]:
    """A model with a feature of each kind."""
    quantiles = [[level, 10 * level] for level in (0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1)]
    return {
        "name": "pump",
        "version": "1.0.0",
        "task": "anomaly",
        "description": "Tells whether a pump runs as usual",
        "threshold": 0.5,
        "features": [
            {"name": "vibration", "kind": "number", "minimum": 0, "unit": "mm/s", "quantiles": quantiles, "example": 5},
            {"name": "valve", "kind": "boolean", "example": True},
            {"name": "mode", "kind": "category", "values": ["eco", "boost"], "missing": True, "example": "eco"},
        ],
        "examples": [
            {"title": "Worn bearing", "features": {"vibration": 9.5, "valve": False, "mode": "boost"}},
        ],
        **more,
    }


def source(subscribe: str, **more: Any) -> dict[str, Any]:
    return {"subscribe": subscribe, "fields": {}, "form": "object", "formats": ["application/json"], **more}


#: A route for the pump.
ROUTE: Final = {"publish": "plant/{hall}/pump", "sources": [source("plant/{hall}/raw")]}


def write(directory: Path, content: dict[str, Any] | None) -> str:
    """Write the page with a document, or without one; return its address."""
    file = directory / "page.html"
    file.write_bytes(page(None if content is None else json.dumps(content).encode()))
    return file.as_uri()
