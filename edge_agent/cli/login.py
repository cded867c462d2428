"""Logging in beside a running agent: what `check` and `status` share."""

from __future__ import annotations

import os
from collections.abc import Sequence

from edge_agent import assembly
from edge_agent.broker import Link
from edge_agent.errors import ProtocolRefusedError
from edge_agent.settings import Settings


def log_in(loaded: Settings, subscriptions: Sequence[str], *, purpose: str) -> Link:
    """Connect and subscribe as `run` would, under a client id of our own and with a session that ends with us.

    Raises `BrokerError`; subscriptions that the broker refused stand in the link's `refused`.
    """
    where = assembly.address(loaded, client_id=f"edge-agent-{purpose}-{os.getpid()}", session_expiry=0)
    protocols = assembly.protocols(loaded)
    for protocol in protocols:
        link = Link(where, protocol=protocol, subscriptions=subscriptions)
        try:
            while not link.ready:
                link.receive(1.0)
        except ProtocolRefusedError:
            link.abandon()
            if protocol == protocols[-1]:
                raise
        else:
            return link
    raise AssertionError("there is always a last protocol")
