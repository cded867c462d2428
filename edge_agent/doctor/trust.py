"""Whom this node trusts with its models."""

from __future__ import annotations

import importlib.util
import shlex
from collections.abc import Iterator
from pathlib import Path

from edge_agent.config.models import kept, signers
from edge_agent.config.precautions import by_path
from edge_agent.config.settings import Settings
from edge_agent.config.updating import KEY_SUFFIX
from edge_agent.contract import topics
from edge_agent.doctor.findings import Finding, fail, failed, note, ok
from edge_agent.doctor.reach import May, barrier, explain_barrier, may
from edge_agent.errors import FileError, SettingsError, StoreError
from edge_agent.model.trust import Kept, Signers


def check_trust(loaded: Settings, *, as_service: bool = False, may: May = may) -> Iterator[Finding]:
    """Say whose models are served: those of a channel, and those on the disk."""
    update, on_disk = loaded.update, loaded.models.require_signature
    over_mqtt = bool(update.channel) and update.require_signature
    closed = list(_closed(loaded, may)) if as_service else []
    if closed:
        yield from closed
        return
    try:
        trusted, known = signers(loaded), kept(loaded)
    except (SettingsError, FileError, StoreError) as error:
        if not as_service and isinstance(error.__cause__, PermissionError):
            # Which keys replaced those of the settings stands in the service's directory, which is nobody else's business.
            yield note("trust", str(error), "to see whom the service trusts: sudo edge-agent check")
        else:
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


def _closed(loaded: Settings, may: May) -> Iterator[Finding]:
    """Yield a finding for each file of a key that the service's user can't read."""
    for path in (Path(text) for text in loaded.update.trusted_keys if text.endswith(KEY_SUFFIX)):
        if (found := barrier(path, may=may)) is not None:
            how = "r" if found.how == "may not read" else "x"
            yield fail(
                "trust",
                f"update.trusted_keys: {path}: {explain_barrier(found)}",
                f"it is no secret: sudo chmod a+{how} {shlex.quote(str(found.at))}"
                if found.how != "does not see"
                else f"put it into the configuration's directory: sudo install -m 644 {shlex.quote(str(path))} /etc/edge-agent/",
            )


def _told(known: Kept, trusted: Signers) -> str:
    """Say how old is what was accepted: whether a broker withholds something newer can only be told from that."""
    said = ""
    if known.keys is not None and known.keys.public_keys == trusted.keys:
        said += f", as a list of keys with serial {known.keys.serial} says"
    if known.accepted.serial:
        said += f"; accepted: serial {known.accepted.serial}, issued {known.accepted.issued or 'on a day that it does not tell'}"
    return said
