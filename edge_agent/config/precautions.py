"""Warnings about setups that are insecure, or can't do what they say: logged once at start, and reported by `edge-agent check`."""

from __future__ import annotations

import os

from edge_agent.config.settings import Settings
from edge_agent.host.files import exposed


def as_root(user: int | None = None) -> str | None:
    """Return a warning about running as root; None when we (or the given `user`) do not."""
    if (os.geteuid() if user is None else user) != 0:
        return None
    return (
        "running as root, which the agent never needs: whoever takes it over has the whole machine; run it as its own "
        "user, as the unit edge-agent.service does"
    )


def open_secrets(settings: Settings) -> list[str]:
    """Return a warning with its fix for each secret that others may read or change."""
    return [f"{name}: {wrong}" for name, path in settings.mqtt.secrets().items() if (wrong := exposed(path))]


def by_path(settings: Settings) -> str | None:
    """Return a warning about models that a channel can't change, because routes name their files; None where there is none."""
    paths = dict.fromkeys(route.model for route in settings.route if route.model.endswith(".onnx"))
    if not settings.update.channel or not paths:
        return None
    return (
        f"update.channel: {', '.join(paths)}: named by a path, so no update over MQTT changes what is served; "
        'name the model in the route (model = "genre"), and install the file: edge-agent model install'
    )


def neglected(settings: Settings) -> list[str]:
    """Return all warnings."""
    return [*filter(None, (as_root(), by_path(settings))), *open_secrets(settings)]
