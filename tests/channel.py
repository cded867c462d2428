"""A channel of models for tests, and what publishes them as edge-deploy does."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge_convert.signing import SecretKey

from edge_agent.contract import topics
from edge_agent.contract.manifest import Manifest, model_file, pieces
from edge_agent.model.library import locate, open_file
from tests.contract.client import Client
from tests.trusted import ANN, CHANNEL, ISSUED, envelope, manifest
from tests.versions import version

NAME = "genre"
MANIFEST = topics.manifest(CHANNEL)


def untrue(number: str) -> bytes:
    """A version whose card expects other answers of the self-test than it gives."""
    content = locate(NAME).read_bytes()
    tests = content.index(b'"self_test"')
    place = content.index(b'"labels":["', tests) + len(b'"labels":["')
    end = content.index(b"]", place)
    labels = content[place:end]
    told = labels.replace(b'"Hip-Hop","Rock"', b'"Rock","Hip-Hop"', 1)
    assert told != labels
    return version(number, {labels: told})


def following(models: Path) -> dict[str, str]:
    """The environment of an agent that follows the channel, with its store in this directory."""
    return {
        "EDGE_AGENT_MODELS__DIRECTORY": str(models),
        "EDGE_AGENT_UPDATE__CHANNEL": CHANNEL,
        "EDGE_AGENT_UPDATE__TRUSTED_KEYS": json.dumps([ANN.public_key.text]),
    }


def bundled() -> bytes:
    """The bundled model as it is."""
    return locate(NAME).read_bytes()


def release(*contents: bytes, serial: int = ISSUED, **said: Any) -> Manifest:
    """A manifest of these files, which may say something else of them than what they are: `models` by their place."""
    card = open_file(locate(NAME)).card
    files = []
    for content in contents:
        number = content.partition(b'"name":"genre","version":"')[2][:5].decode() or "9.9.9"
        files.append(model_file(card.model_copy(update={"version": number}), content))
    for place, changes in said.pop("models", {}).items():
        files[place] = files[place].model_copy(update=changes)
    return manifest(*files, serial=serial, **said)


class Channel:
    """Publishes on the channel, over a client's connection."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.serial = ISSUED

    def upload(self, *contents: bytes) -> None:
        """Publish the pieces of files."""
        for content in contents:
            said = release(content).models[0]
            for number, piece in enumerate(pieces(content)):
                self.client.publish(topics.blob(CHANNEL, said.sha256, number), piece, retain=True)

    def announce(
        self, *contents: bytes, keys: Sequence[SecretKey] = (ANN,), wave: Sequence[str] | None = None, **said: Any
    ) -> int:
        """Publish a manifest with the next serial, or the one in `said`; return the serial."""
        self.serial += 1
        serial = said.pop("serial", self.serial)
        self.client.publish(
            MANIFEST, envelope(release(*contents, serial=serial, **said), *keys, wave=wave), retain=True
        )
        return int(serial)

    def push(self, *contents: bytes, **said: Any) -> int:
        """Publish files and their manifest."""
        self.upload(*contents)
        return self.announce(*contents, **said)
