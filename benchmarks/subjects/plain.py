"""The agent with every packet through paho's own calls, as with a paho that `edge_agent.link.fast_lane` does not know."""

from __future__ import annotations

from typing import Any

from edge_agent.cli.main import main
from edge_agent.link import link
from edge_agent.link.slow_lane import Plain
from edge_agent.link.transport import Address


def _plainly(client: Any, address: Address, *, is_5: bool, **_: object) -> Plain:
    return Plain(client, address, is_5=is_5)


if __name__ == "__main__":
    link.prepare = _plainly  # type: ignore[attr-defined]  # imported there, not made for others
    main()
