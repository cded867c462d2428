"""Manifests and pieces of a publisher that knows the documented keys only, against a real broker."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest

pytest.importorskip("edge_convert.signing", reason="signs models; needs the extra `convert`")

from tests.brokers import Mosquitto
from tests.contract.agents import NODE, STATE
from tests.contract.client import Client
from tests.contract.updating import MODEL, UpdatingAgent
from tests.trusted import ANN, CHANNEL, ISSUED, genre, signed
from tests.versions import version

_NEW: Final = version("1.1.0")
_SHA256: Final = hashlib.sha256(_NEW).hexdigest()
_PIECE: Final = 5000


@pytest.fixture
def client(server: Mosquitto) -> Iterator[Client]:
    with Client(server.port) as client:
        client.subscribe(STATE, MODEL, f"edge/{NODE}/health")
        yield client


def announce(client: Client, serial: int, content: bytes = _NEW) -> None:
    """Publish a manifest as anybody would write one: no channel, no date, no hashes of pieces."""
    model = {
        "name": "genre",
        "version": "1.1.0",
        "sha256": hashlib.sha256(content).hexdigest(),
        "size": len(content),
        "features": list(genre().features),
        "labels": list(genre().labels),
    }
    text = json.dumps(
        {
            "v": 1,
            "serial": serial,
            "models": [model],
            "for": ["*"],
            "canary": 0,
            "soak_seconds": 0,
            "min_agreement": None,
        },
        indent=1,
    )
    message = {"manifest": text, "signature": signed(text, ANN)}
    client.publish(f"edge/fleet/{CHANNEL}/manifest", json.dumps(message), retain=True)


def upload(client: Client, content: bytes = _NEW, piece: int = _PIECE) -> None:
    for number in range(-(-len(content) // piece)):
        said = content[number * piece : (number + 1) * piece]
        client.publish(f"edge/fleet/{CHANNEL}/blob/{_SHA256}/{number}", said, retain=True)


def wait(client: Client, **wanted: Any) -> dict[str, Any]:
    """Wait until something is said of the model."""

    def is_it(message: Any) -> bool:
        said = json.loads(message.payload) if message.topic == MODEL and message.payload else {}
        return wanted.items() <= said.items()

    said: dict[str, Any] = json.loads(client.wait_for(is_it).payload)
    return said


@pytest.mark.parametrize("piece", [_PIECE, 128 * 1024])
def test_a_plain_manifest_is_followed(
    server: Mosquitto, client: Client, stack: ExitStack, tmp_path: Path, piece: int
) -> None:
    upload(client, piece=piece)
    announce(client, ISSUED)
    stack.enter_context(UpdatingAgent(server.port, tmp_path / "models"))
    said = wait(client, state="idle", installed_version="1.1.0")
    assert (said["sha256"], said["serial"], said["reason"]) == (_SHA256, ISSUED, None)


def test_pieces_that_make_another_file_are_fetched_again_and_counted(
    server: Mosquitto, client: Client, stack: ExitStack, tmp_path: Path
) -> None:
    upload(client, _NEW[:-1] + b"\0")
    announce(client, ISSUED)
    stack.enter_context(UpdatingAgent(server.port, tmp_path / "models", health={"interval": 1}))
    client.wait_for(lambda message: message.topic == MODEL and b"do not make the file" in message.payload)

    def is_counted(message: Any) -> bool:
        said = json.loads(message.payload) if message.topic.endswith("/health") else {}
        return bool(said.get("update", {}).get("damaged") == 1)

    client.wait_for(is_counted)
    upload(client)
    wait(client, state="idle", installed_version="1.1.0")


def test_an_agent_that_is_stopped_in_between_goes_on(server: Mosquitto, client: Client, tmp_path: Path) -> None:
    upload(client, _NEW[: 2 * _PIECE])
    announce(client, ISSUED)
    with UpdatingAgent(server.port, tmp_path / "models"):
        wait(client, state="fetching", update_percentage=100 * 2 // -(-len(_NEW) // _PIECE))
    client.forget()
    upload(client)
    with UpdatingAgent(server.port, tmp_path / "models"):
        wait(client, state="idle", installed_version="1.1.0")
