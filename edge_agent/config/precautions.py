"""Warnings about insecure setups: logged once at start, and reported by `edge-agent check`."""

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


def neglected(settings: Settings) -> list[str]:
    """Return all warnings."""
    root = as_root()
    return [*([root] if root else []), *open_secrets(settings)]
