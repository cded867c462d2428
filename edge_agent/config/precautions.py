"""What works, but should not be so: said once at start, and by `edge-agent check`."""

from __future__ import annotations

import os

from edge_agent.config.settings import Settings
from edge_agent.host.files import exposed


def as_root(user: int | None = None) -> str | None:
    """Return what is wrong with running as root; None when we (or the `user` given) are not."""
    if (os.geteuid() if user is None else user) != 0:
        return None
    return (
        "running as root, which it never needs: whatever breaks it has the whole machine; let a user of its own run it, "
        "as the unit edge-agent.service does"
    )


def open_secrets(settings: Settings) -> list[str]:
    """Return, for each file with a secret that others may read or change, which and what mends it."""
    return [f"{name}: {wrong}" for name, path in settings.mqtt.secrets().items() if (wrong := exposed(path))]


def neglected(settings: Settings) -> list[str]:
    """Return all of it."""
    root = as_root()
    return [*([root] if root else []), *open_secrets(settings)]
