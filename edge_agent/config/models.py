"""Finds and loads the models that the settings name."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple, Protocol

from edge_agent.config.settings import Settings
from edge_agent.errors import FileError, SettingsError, StoreError
from edge_agent.model.library import Library, Limits, Loaded, Loading, limits
from edge_agent.model.store import Store
from edge_agent.model.trust import Kept, Signers, Trust, trust


def library(settings: Settings) -> Library:
    """Return the model library of these settings. Raises `SettingsError` when signatures are required, and the keys can't be used."""
    return Library((settings.models.directory,), signers(settings) if settings.models.require_signature else None)


def signers(settings: Settings) -> Signers:
    """Return whose signatures are trusted: the keys of the settings, or those that replaced them in the channel. Raises
    `SettingsError`, and `FileError` or `StoreError` when it can't be read which.
    """
    found = trusted(settings).signers
    if settings.models.require_signature and not found.keys:
        raise SettingsError(
            "models.require_signature: needs update.trusted_keys; add the public key of edge-convert keygen there"
        )
    return found


def trusted(settings: Settings) -> Trust:
    """Return whom this device trusts in its channel, and what it has taken. Raises as `signers`."""
    update = settings.update
    configured = Signers(update.keys(), update.threshold)
    return trust(configured, update.channel, kept(settings), required=update.require_signature)


def kept(settings: Settings) -> Kept:
    """Return what this device remembers of its channel. Raises `FileError` and `StoreError`."""
    channel = settings.update.channel
    return store(settings).read().channels.get(channel, Kept()) if channel else Kept()


def store(settings: Settings, patience: float = 0.0) -> Store:
    """Return the store of these settings; `patience` as in `Store`."""
    return Store(settings.models.directory, settings.update.keep, patience=patience)


class Digested(Protocol):
    """What has a digest."""

    @property
    def sha256(self) -> str:
        """The digest of its file."""


class Left(NamedTuple):
    """What updates have left in the store: names of models, and whether there are pieces of files that did not arrive as a whole."""

    names: list[str]
    pieces: bool


def left(settings: Settings) -> Left | None:
    """Return what updates have left; None where nothing was ever accepted from a channel, or the store can't be read, which is said
    when models are looked for.
    """
    kept = store(settings)
    try:
        return Left(kept.names(), bool(kept.arriving())) if kept.read().channels else None
    except (FileError, StoreError):
        return None


def followed_before(settings: Settings) -> set[str]:
    """Return the channels of which something was accepted before, but for the one that is followed now; none where the store can't be read."""
    try:
        return {*store(settings).read().channels} - {settings.update.channel}
    except (FileError, StoreError):
        return set()


def is_on_trial(settings: Settings, served: Mapping[str, Digested]) -> bool:
    """Tell whether one of the models that are served, by the names that routes use, is on trial; not where the store can't be read."""
    try:
        watched = store(settings).read().watched
    except (FileError, StoreError):
        return False
    return watched is not None and any(watched.files.get(name) == one.sha256 for name, one in served.items())


def loading(settings: Settings, known: Collection[Loaded] = (), allowed: Callable[[int], Limits] = limits) -> Loading:
    """Begin to load the models that the routes name, except those of `known` whose files have not changed. Raises
    `ModelError` when one can't be found.
    """
    return library(settings).loading(dict.fromkeys(route.model for route in settings.route), known, allowed)
