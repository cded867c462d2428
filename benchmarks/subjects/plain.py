"""The agent with every packet through paho's own calls, as with a paho that `edge_agent._stream` does not know."""

from __future__ import annotations

from typing import Any

from edge_agent import broker
from edge_agent._plain import Plain
from edge_agent.cli.main import main


def _plainly(client: Any, address: broker.Address, *, is_5: bool, max_payload: int) -> Plain:  # noqa: ARG001
    return Plain(client, address, is_5=is_5)


if __name__ == "__main__":
    broker.prepare = _plainly  # type: ignore[attr-defined]  # imported there, not made for others
    main()
