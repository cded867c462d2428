"""What the broker keeps for the channel from which this node takes models. Nothing is published there: all its nodes would hear that."""

from __future__ import annotations

import time
from collections.abc import Iterator

from edge_agent.client import log_in, receive
from edge_agent.config.models import trusted
from edge_agent.config.settings import Settings
from edge_agent.contract import topics
from edge_agent.contract.manifest import MAX_MESSAGE_BYTES, versions
from edge_agent.contract.messages import MAX_PAYLOAD_BYTES
from edge_agent.doctor.findings import Finding, fail, failed, note, ok
from edge_agent.doctor.writing import COMES_THROUGH
from edge_agent.errors import BrokerError, CutShortError, FileError, SettingsError, StoreError, TrustError
from edge_agent.link.granted import advice_on
from edge_agent.model.trust import Examination, Offer


def check_channel(loaded: Settings) -> Iterator[Finding]:
    """Report whether the channel can be read, and what this node makes of the manifest there. Raises `BrokerError`."""
    channel = loaded.update.channel
    if not channel:
        return
    place, keys = topics.manifest(channel), topics.keys(channel)
    link, arrived = log_in(
        loaded, [place, keys], purpose="check-channel", max_payload=max(MAX_PAYLOAD_BYTES, MAX_MESSAGE_BYTES)
    )
    try:
        refused = dict(link.refused)
        ends = time.monotonic() + COMES_THROUGH
        while place not in refused and not any(one.topic == place for one in arrived) and time.monotonic() < ends:
            arrived += receive(link, ends)
    except BrokerError:
        link.abandon()
        raise
    link.close()
    for topic, reason in refused.items():
        yield fail("channel", f"{topic}: {reason}", advice_on(reason))
    messages = [one.payload for one in arrived if one.topic == place]
    if messages:
        yield _made_of(loaded, bytes(messages[-1]))
    elif place not in refused:
        yield note(
            "channel",
            f"{place}: no manifest came: there is none, or reading it is not allowed",
            f"publish one with edge-deploy; if there is one, allow reading edge/{topics.FLEET}/{channel}/# in the broker's access rules",
        )


def _made_of(loaded: Settings, message: bytes) -> Finding:
    """Say what this node makes of a manifest."""
    try:
        offer = Examination("manifest", message, trusted(loaded), time.time()).offer()
    except TrustError as error:
        return failed("channel", error)._replace(verdict="note")
    except (SettingsError, FileError, StoreError, CutShortError) as error:
        return failed("channel", error)
    return ok("channel", _told(offer, loaded.node.id))


def _told(offer: Offer, node: str) -> str:
    said = offer.manifest
    return (
        f"{said.channel}: {versions(said.models)}, {'for this node' if offer.is_for(node) else 'not for this node, or not yet'}; "
        f"serial {said.serial}, issued {said.issued or 'on a day that it does not tell'}"
    )
