"""Commands that fix problems, with the name of the service or the instance that they are about."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import NamedTuple

from edge_agent.host.systemd import unit_name


class Advice(NamedTuple):
    """Commands about one agent. `unit` is None where no service runs its configuration."""

    unit: str | None = "edge-agent"
    config: Path | None = None

    @classmethod
    def about(cls, config: Path | None) -> Advice:
        """Return the advice for a configuration, None for the default one."""
        return cls(unit_name(config), config)

    @property
    def check(self) -> str:
        """Check everything as root."""
        if self.config is None or self.unit == "edge-agent":
            return "sudo edge-agent check"
        return f"sudo edge-agent check --config {shlex.quote(str(self.config))}"

    @property
    def restart(self) -> str:
        """Restart the agent."""
        return "restart it" if self.unit is None else f"sudo systemctl restart {self.unit}"

    @property
    def reload(self) -> str:
        """Make the agent reload settings and models."""
        return "send it SIGHUP" if self.unit is None else f"sudo systemctl reload {self.unit}"

    @property
    def log(self) -> str:
        """Show the agent's log."""
        return "see its log" if self.unit is None else f"journalctl -u {self.unit} -n 50"

    def credential(self, name: str) -> Path:
        """Return the file in which systemd looks for a credential ("mqtt-password") of this agent."""
        instance = (self.unit or "").partition("@")[2]
        return Path("/etc/credstore", ".".join(filter(None, ("edge-agent", instance, name))))
