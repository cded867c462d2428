"""Whom this node trusts with its models."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

from edge_agent.config.models import kept, signers
from edge_agent.config.precautions import by_path
from edge_agent.config.settings import Settings
from edge_agent.contract import topics
from edge_agent.doctor.findings import Finding, fail, failed, note, ok
from edge_agent.errors import FileError, SettingsError, StoreError
from edge_agent.model.trust import Kept, Signers


def check_trust(loaded: Settings) -> Iterator[Finding]:
    """Say whose models are served: those of a channel, and those on the disk."""
    update, on_disk = loaded.update, loaded.models.require_signature
    over_mqtt = bool(update.channel) and update.require_signature
    try:
        trusted, known = signers(loaded), kept(loaded)
    except (SettingsError, FileError, StoreError) as error:
        yield failed("trust", error)
        return
    if (wrong := by_path(loaded)) is not None:
        message, _, fix = wrong.partition("; ")
        yield note("trust", message, fix)
    if (over_mqtt or on_disk) and importlib.util.find_spec("cryptography") is None:
        yield fail(
            "trust", "signatures can't be verified without Python's cryptography", "apt install python3-cryptography"
        )
        return
    names = ", ".join(key.name for key in trusted.keys)
    signed = f"signed by {trusted.threshold} of the keys {names}" if len(trusted.keys) > 1 else f"signed by key {names}"
    disk = f"models on the disk: {signed if on_disk else 'no signature needed'}"
    if not update.channel:
        yield ok("trust", f"{disk}; none over MQTT")
    elif over_mqtt:
        yield ok("trust", f"{disk}; over MQTT from channel {update.channel}: {signed}{_told(known, trusted)}")
    else:
        yield note(
            "trust",
            f"whoever may publish to {topics.manifest(update.channel)} decides what this node serves",
            "set update.require_signature = true, with update.trusted_keys",
        )


def _told(known: Kept, trusted: Signers) -> str:
    """Say how old is what was accepted: whether a broker withholds something newer can only be told from that."""
    said = ""
    if known.keys is not None and known.keys.public_keys == trusted.keys:
        said += f", as a list of keys with serial {known.keys.serial} says"
    if known.accepted.serial:
        said += f"; accepted: serial {known.accepted.serial}, issued {known.accepted.issued or 'on a day that it does not tell'}"
    return said
