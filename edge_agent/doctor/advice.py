"""What a person types to mend something: with the name of the service, or of the instance, that it is about."""

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
        """Return what goes with a configuration, None for the default one."""
        return cls(unit_name(config), config)

    @property
    def check(self) -> str:
        """Examine everything, with what only root may see."""
        if self.config is None or self.unit == "edge-agent":
            return "sudo edge-agent check"
        return f"sudo edge-agent check --config {shlex.quote(str(self.config))}"

    @property
    def restart(self) -> str:
        """Start the agent again."""
        return "start it again" if self.unit is None else f"sudo systemctl restart {self.unit}"

    @property
    def reload(self) -> str:
        """Let the agent take what was changed."""
        return "send it SIGHUP" if self.unit is None else f"sudo systemctl reload {self.unit}"

    @property
    def log(self) -> str:
        """What the agent has said."""
        return "see its log" if self.unit is None else f"journalctl -u {self.unit} -n 50"

    def credential(self, name: str) -> Path:
        """Return the file in which systemd looks for a credential ("mqtt-password") of this agent."""
        instance = (self.unit or "").partition("@")[2]
        return Path("/etc/credstore", ".".join(filter(None, ("edge-agent", instance, name))))
